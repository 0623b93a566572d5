import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Properties;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;

/** As consume.py, by the Java client. */
public final class Consume {
    public static void main(String[] arguments) {
        String topic = arguments[1];
        int partitions = Integer.parseInt(arguments[2]);
        int wanted = Integer.parseInt(arguments[3]);
        Properties properties = new Properties();
        properties.put("bootstrap.servers", arguments[0]);
        properties.put("enable.auto.commit", "false");
        properties.put("fetch.max.wait.ms", "100");
        properties.put("max.poll.records", "10000");
        ByteArrayDeserializer bytes = new ByteArrayDeserializer();
        try (var consumer = new KafkaConsumer<>(properties, bytes, new ByteArrayDeserializer())) {
            List<TopicPartition> all = new ArrayList<>();
            for (int number = 0; number < partitions; number++) {
                all.add(new TopicPartition(topic, number));
            }
            consumer.assign(all);
            consumer.seekToBeginning(all);
            System.out.println("ready");
            System.out.flush();
            long[] latenciesUs = new long[wanted];
            int count = 0;
            long firstSent = Long.MAX_VALUE;
            long last = 0;
            long deadline = System.nanoTime() + (long) (Double.parseDouble(arguments[4]) * 1e9);
            while (count < wanted && System.nanoTime() < deadline) {
                var records = consumer.poll(Duration.ofMillis(20));
                long now = System.currentTimeMillis() * 1_000_000L;
                for (ConsumerRecord<byte[], byte[]> record : records) {
                    long sent = Long.parseLong(new String(record.value(), 0, 20));
                    firstSent = Math.min(firstSent, sent);
                    if (count < wanted) {
                        latenciesUs[count++] = Math.max(0, now - sent) / 1000;
                    }
                }
                if (!records.isEmpty()) {
                    last = now;
                }
            }
            long[] sorted = Arrays.copyOf(latenciesUs, count);
            Arrays.sort(sorted);
            System.out.printf(
                    "{\"records\":%d,\"seconds\":%.3f,\"p50_us\":%d,\"p99_us\":%d}%n",
                    count,
                    (last - firstSent) / 1e9,
                    count == 0 ? 0 : sorted[(int) (count * 0.5)],
                    count == 0 ? 0 : sorted[Math.min((int) (count * 0.99), count - 1)]);
        }
    }
}
