import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.Properties;
import java.util.concurrent.Callable;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.common.KafkaFuture;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;

/** What the scenarios share: clients with the address and a few settings, and waiting with a deadline. */
final class Kit {
    /** Nothing here takes longer than this on a slow, busy machine. */
    static final long WITHIN_MS = 40_000;
    static final Duration POLL = Duration.ofMillis(200);
    private static final int SHOWN_MAX = 300;

    final String name;
    final List<Door> doors;
    /** Where the cloud is, and who comes. */
    private final Map<String, String> at;

    Kit(Map<String, String> at, String name, List<Door> doors) {
        this.at = at;
        this.name = name;
        this.doors = doors;
    }

    private Properties with(Map<String, ?> more) {
        Properties properties = new Properties();
        properties.putAll(at);
        properties.putAll(more);
        return properties;
    }

    Admin admin() {
        return Admin.create(with(Map.of()));
    }

    /** Idempotent, with acks=all, as it is by default. */
    KafkaProducer<String, String> producer(Map<String, ?> more) {
        return new KafkaProducer<>(with(more), new StringSerializer(), new StringSerializer());
    }

    KafkaConsumer<String, String> consumer(Map<String, ?> more) {
        Properties properties = with(more);
        properties.put("auto.offset.reset", "earliest");
        properties.put("enable.auto.commit", "false");
        return new KafkaConsumer<>(properties, new StringDeserializer(), new StringDeserializer());
    }

    void make(String topic, int partitions) throws Exception {
        try (Admin admin = admin()) {
            done(admin.createTopics(List.of(new NewTopic(topic, partitions, (short) 1))).all());
        }
    }

    static <T> T done(KafkaFuture<T> future) throws Exception {
        return future.get(WITHIN_MS, TimeUnit.MILLISECONDS);
    }

    /** All of a topic from its beginning, so many records. */
    List<ConsumerRecord<String, String>> readAll(String topic, int count) throws Exception {
        List<ConsumerRecord<String, String>> all = new ArrayList<>();
        try (KafkaConsumer<String, String> consumer = consumer(Map.of())) {
            var partitions = consumer.partitionsFor(topic).stream()
                    .map(one -> new org.apache.kafka.common.TopicPartition(topic, one.partition()))
                    .toList();
            consumer.assign(partitions);
            consumer.seekToBeginning(partitions);
            until(count + " records of " + topic, () -> {
                consumer.poll(POLL).forEach(all::add);
                return all.size() >= count;
            });
            // And none more.
            consumer.poll(POLL).forEach(all::add);
        }
        expect("records of " + topic, all.size(), count);
        return all;
    }

    static void until(String what, Callable<Boolean> holds) throws Exception {
        long deadline = System.nanoTime() + TimeUnit.MILLISECONDS.toNanos(WITHIN_MS);
        while (!holds.call()) {
            if (System.nanoTime() > deadline) throw new TimeoutException("not within " + WITHIN_MS + " ms: " + what);
        }
    }

    static void expect(String what, Object got, Object wanted) {
        if (Objects.equals(got, wanted)) return;
        throw new IllegalStateException(what + ": " + shown(got) + ", not " + shown(wanted));
    }

    private static String shown(Object value) {
        String text = String.valueOf(value);
        return text.substring(0, Math.min(SHOWN_MAX, text.length()));
    }
}
