import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;

/** A consumer goes to a time, to the beginning, to the end and to an offset. */
final class Seek {
    private static final int RECORDS = 100;
    private static final long FIRST_MS = 1_700_000_000_000L;
    private static final long STEP_MS = 1_000;

    private Seek() {}

    static void run(Kit kit) throws Exception {
        String topic = kit.name + "-seek";
        kit.make(topic, 1);
        try (KafkaProducer<String, String> producer = kit.producer(Map.of())) {
            for (int number = 0; number < RECORDS; number++) {
                long timestamp = FIRST_MS + number * STEP_MS;
                producer.send(new ProducerRecord<>(topic, 0, timestamp, "key", String.valueOf(number)));
            }
        }
        var at = new TopicPartition(topic, 0);
        try (KafkaConsumer<String, String> consumer = kit.consumer(Map.of())) {
            consumer.assign(List.of(at));
            var found = consumer.offsetsForTimes(Map.of(at, FIRST_MS + 50 * STEP_MS + 1)).get(at);
            Kit.expect("the offset behind the time", found.offset(), 51L);
            Kit.expect("its time", found.timestamp(), FIRST_MS + 51 * STEP_MS);
            consumer.seek(at, found.offset());
            Kit.expect("from the time on", next(consumer), "51");
            consumer.seekToBeginning(List.of(at));
            Kit.expect("from the beginning on", next(consumer), "0");
            consumer.seekToEnd(List.of(at));
            Kit.expect("the end", consumer.position(at), (long) RECORDS);
            consumer.seek(at, RECORDS - 2);
            Kit.expect("from an offset on", next(consumer), "98");
            var late = consumer.offsetsForTimes(Map.of(at, FIRST_MS + RECORDS * STEP_MS)).get(at);
            Kit.expect("an offset behind all times", late, null);
            Kit.expect("where it begins", consumer.beginningOffsets(List.of(at)).get(at), 0L);
            Kit.expect("where it ends", consumer.endOffsets(List.of(at)).get(at), (long) RECORDS);
        }
    }

    private static String next(KafkaConsumer<String, String> consumer) throws Exception {
        List<String> got = new ArrayList<>();
        Kit.until("a record", () -> {
            consumer.poll(Kit.POLL).forEach(one -> got.add(one.value()));
            return !got.isEmpty();
        });
        return got.get(0);
    }
}
