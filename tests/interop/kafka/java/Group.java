import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;

/** Two members share 12 partitions; one leaves, the other has all; a third goes on from what was committed. */
final class Group {
    private static final int PARTITIONS = 12;
    private static final int ROUND = 240;

    private final Kit kit;
    private final String topic;
    private final Set<String> seen = new HashSet<>();

    private Group(Kit kit) {
        this.kit = kit;
        topic = kit.name + "-group";
    }

    static void run(Kit kit) throws Exception {
        new Group(kit).run();
    }

    private void run() throws Exception {
        kit.make(topic, PARTITIONS);
        var first = join();
        var second = join();
        Kit.until("both share the partitions", () -> {
            takeAll(List.of(first, second));
            return first.assignment().size() == PARTITIONS / 2 && second.assignment().size() == PARTITIONS / 2;
        });
        produce(1);
        takeRound(1, List.of(first, second));
        second.close();
        produce(2);
        takeRound(2, List.of(first));
        Kit.expect("what the last member has", first.assignment().size(), PARTITIONS);
        first.close();
        produce(3);
        var third = join();
        takeRound(3, List.of(third));
        third.close();
    }

    private KafkaConsumer<String, String> join() {
        KafkaConsumer<String, String> member = kit.consumer(Map.of("group.id", topic));
        member.subscribe(List.of(topic));
        return member;
    }

    private void produce(int round) throws Exception {
        try (KafkaProducer<String, String> producer = kit.producer(Map.of())) {
            for (int number = 0; number < ROUND; number++) {
                producer.send(new ProducerRecord<>(topic, number % PARTITIONS, "key", round + ":" + number));
            }
            producer.flush();
        }
    }

    private void takeRound(int round, List<KafkaConsumer<String, String>> members) throws Exception {
        Kit.until("all of round " + round, () -> {
            takeAll(members);
            return seen.size() >= round * ROUND;
        });
        Kit.expect("after round " + round, seen.size(), round * ROUND);
    }

    /** Nothing comes twice, whoever gets it: each member commits what it has got. */
    private void takeAll(List<KafkaConsumer<String, String>> members) {
        for (KafkaConsumer<String, String> member : members) {
            var got = member.poll(Kit.POLL);
            for (ConsumerRecord<String, String> one : got) {
                if (!seen.add(one.value())) throw new IllegalStateException(one.value() + " came twice");
            }
            if (!got.isEmpty()) member.commitSync();
        }
    }
}
