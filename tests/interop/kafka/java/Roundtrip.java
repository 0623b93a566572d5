import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;

/** What is produced with each compression comes back as it was sent, each key's in its order. */
final class Roundtrip {
    private static final List<String> CODECS = List.of("none", "gzip", "snappy", "lz4", "zstd");
    private static final int RECORDS = 60;
    private static final int KEYS = 5;
    private static final int LARGE_BYTES = 100_000;
    private static final long FIRST_MS = 1_700_000_000_000L;

    private record Sent(int number, String value, String codec, long timestampMs, int partition, long offset) {}

    private Roundtrip() {}

    static void run(Kit kit) throws Exception {
        String topic = kit.name + "-roundtrip";
        kit.make(topic, 3);
        Map<String, List<Sent>> sent = new HashMap<>();
        for (String codec : CODECS) produce(kit, topic, codec, sent);
        Map<String, List<Sent>> got = new HashMap<>();
        for (ConsumerRecord<String, String> one : kit.readAll(topic, CODECS.size() * RECORDS)) {
            var headers = one.headers();
            int number = Integer.parseInt(text(headers.lastHeader("n").value()));
            String codec = text(headers.lastHeader("codec").value());
            var received = new Sent(number, one.value(), codec, one.timestamp(), one.partition(), one.offset());
            got.computeIfAbsent(one.key(), any -> new ArrayList<>()).add(received);
        }
        Kit.expect("the keys", got.keySet(), sent.keySet());
        for (String key : sent.keySet()) Kit.expect(key, got.get(key), sent.get(key));
    }

    private static void produce(Kit kit, String topic, String codec, Map<String, List<Sent>> sent) throws Exception {
        List<ProducerRecord<String, String>> records = new ArrayList<>();
        List<Future<RecordMetadata>> answers = new ArrayList<>();
        try (KafkaProducer<String, String> producer = kit.producer(Map.of("compression.type", codec, "acks", "all"))) {
            for (int number = 0; number < RECORDS; number++) {
                String key = codec + "-" + number % KEYS;
                var record = new ProducerRecord<>(topic, null, FIRST_MS + number, key, value(codec, number));
                record.headers().add("codec", codec.getBytes(StandardCharsets.UTF_8));
                record.headers().add("n", String.valueOf(number).getBytes(StandardCharsets.UTF_8));
                records.add(record);
                answers.add(producer.send(record));
            }
            for (int number = 0; number < RECORDS; number++) {
                RecordMetadata at = answers.get(number).get(Kit.WITHIN_MS, TimeUnit.MILLISECONDS);
                var record = records.get(number);
                var one = new Sent(number, record.value(), codec, record.timestamp(), at.partition(), at.offset());
                sent.computeIfAbsent(record.key(), any -> new ArrayList<>()).add(one);
            }
        }
    }

    private static String value(String codec, int number) {
        if (number % 10 == 9) return null;
        int length = number == RECORDS - 2 ? LARGE_BYTES : number * 37;
        return codec + ":" + number + ":" + "x".repeat(length);
    }

    private static String text(byte[] bytes) {
        return new String(bytes, StandardCharsets.UTF_8);
    }
}
