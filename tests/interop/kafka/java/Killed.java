import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.AtomicReference;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;

/** A producer and a group's member work on while the cloud is killed and started again, twice. */
final class Killed {
    private static final int KILLS = 2;
    private static final int KEYS = 7;
    private static final int BETWEEN_KILLS = 300;
    private static final long SEND_EVERY_MS = 2;

    private final Kit kit;
    private final String topic;
    private final AtomicInteger acknowledged = new AtomicInteger();
    private final AtomicReference<Exception> failed = new AtomicReference<>();
    private final Set<Integer> seen = ConcurrentHashMap.newKeySet();
    private volatile boolean producing = true;
    private volatile int sent = Integer.MAX_VALUE;

    private Killed(Kit kit) {
        this.kit = kit;
        topic = kit.name + "-killed";
    }

    static void run(Kit kit) throws Exception {
        new Killed(kit).run();
    }

    private void run() throws Exception {
        kit.make(topic, 3);
        Thread producer = start(this::produce);
        Thread member = start(this::consume);
        var input = new BufferedReader(new InputStreamReader(System.in));
        for (int kill = 0; kill < KILLS; kill++) {
            more();
            Scenarios.say("{\"waiting\": \"kill\"}");
            if (input.readLine() == null) throw new IllegalStateException("nobody kills");
        }
        more();
        producing = false;
        producer.join();
        member.join();
        if (failed.get() != null) throw failed.get();
        Kit.expect("what was acknowledged", acknowledged.get(), sent);
        Map<String, List<Integer>> wanted = new HashMap<>();
        for (int number = 0; number < sent; number++) add(wanted, number);
        Map<String, List<Integer>> got = new HashMap<>();
        for (ConsumerRecord<String, String> one : kit.readAll(topic, sent)) {
            got.computeIfAbsent(one.key(), any -> new ArrayList<>()).add(Integer.valueOf(one.value()));
        }
        Kit.expect("each once and in its key's order", got, wanted);
        Kit.expect("what the group's member saw", new TreeSet<>(seen).size(), sent);
    }

    private static void add(Map<String, List<Integer>> numbers, int number) {
        numbers.computeIfAbsent("k" + number % KEYS, any -> new ArrayList<>()).add(number);
    }

    private interface Work {
        void run() throws Exception;
    }

    private Thread start(Work work) {
        Thread thread = new Thread(() -> {
            try {
                work.run();
            } catch (Exception error) {
                failed.compareAndSet(null, error);
                producing = false;
            }
        });
        thread.start();
        return thread;
    }

    private void more() throws Exception {
        int goal = acknowledged.get() + BETWEEN_KILLS;
        Kit.until(goal + " acknowledged", () -> {
            if (failed.get() != null) throw failed.get();
            Thread.sleep(5);
            return acknowledged.get() >= goal;
        });
    }

    private void produce() throws Exception {
        int number = 0;
        try (KafkaProducer<String, String> producer = kit.producer(Map.of())) {
            for (; producing; number++) {
                var record = new ProducerRecord<>(topic, "k" + number % KEYS, String.valueOf(number));
                producer.send(record, (at, error) -> {
                    if (error == null) acknowledged.incrementAndGet();
                    else failed.compareAndSet(null, error);
                });
                Thread.sleep(SEND_EVERY_MS);
            }
        }
        sent = number;
    }

    private void consume() throws Exception {
        try (KafkaConsumer<String, String> member = kit.consumer(Map.of("group.id", topic))) {
            member.subscribe(List.of(topic));
            while (failed.get() == null && seen.size() < sent) {
                var got = member.poll(Kit.POLL);
                got.forEach(one -> seen.add(Integer.valueOf(one.value())));
                if (!got.isEmpty()) commit(member);
            }
        }
    }

    /** What could not be committed because the group has just lost its member comes again. */
    private static void commit(KafkaConsumer<String, String> member) {
        try {
            member.commitSync();
        } catch (org.apache.kafka.clients.consumer.CommitFailedException error) {
            member.enforceRebalance();
        }
    }
}
