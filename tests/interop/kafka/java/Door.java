import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.Callable;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.GroupAuthorizationException;
import org.apache.kafka.common.errors.TopicAuthorizationException;

/** A listener, who comes there, and what may be done: with all rights a record goes in and out; without, each call is refused. */
final class Door {
    private static final int RECORDS = 10;

    private final Map<String, String> keys = new HashMap<>();

    /** {@code key=value,key=value}, as ../README.md has it. */
    Door(String text) {
        for (String one : text.split(",")) {
            int at = one.indexOf('=');
            keys.put(one.substring(0, at), one.substring(at + 1));
        }
    }

    private Map<String, String> settings() {
        Map<String, String> settings = new HashMap<>();
        settings.put("bootstrap.servers", keys.get("address"));
        settings.put("security.protocol", keys.get("protocol"));
        if (keys.containsKey("ca")) {
            settings.put("ssl.truststore.type", "PEM");
            settings.put("ssl.truststore.location", keys.get("ca"));
        }
        if (keys.containsKey("certificate")) {
            settings.put("ssl.keystore.type", "PEM");
            settings.put("ssl.keystore.certificate.chain", read(keys.get("certificate")));
            settings.put("ssl.keystore.key", read(keys.get("key")));
        }
        String mechanism = keys.get("mechanism");
        if (mechanism != null) {
            String login = mechanism.equals("PLAIN") ? "plain.PlainLoginModule" : "scram.ScramLoginModule";
            settings.put("sasl.mechanism", mechanism);
            settings.put("sasl.jaas.config", "org.apache.kafka.common.security." + login + " required username=\"" + keys.get("user")
                    + "\" password=\"" + keys.get("password") + "\";");
        }
        return settings;
    }

    private static String read(String file) {
        try {
            return Files.readString(Path.of(file));
        } catch (IOException error) {
            throw new UncheckedIOException(error);
        }
    }

    static void run(Kit kit) throws Exception {
        for (Door door : kit.doors) {
            String protocol = door.keys.get("protocol"), rights = door.keys.get("rights");
            Kit there = new Kit(door.settings(), kit.name + "-doors-" + protocol, List.of());
            try {
                if (rights.equals("all")) comesIn(there);
                else isRefused(there);
            } catch (Exception error) {
                throw new IllegalStateException(protocol + " with rights to " + rights + ": " + error, error);
            }
        }
    }

    private static void comesIn(Kit kit) throws Exception {
        kit.make(kit.name, 1);
        try (KafkaProducer<String, String> producer = kit.producer(Map.of())) {
            for (int number = 0; number < RECORDS; number++) {
                producer.send(new ProducerRecord<>(kit.name, String.valueOf(number))).get(Kit.WITHIN_MS, TimeUnit.MILLISECONDS);
            }
        }
        List<String> got = new ArrayList<>();
        try (KafkaConsumer<String, String> member = kit.consumer(Map.of("group.id", kit.name))) {
            member.subscribe(List.of(kit.name));
            Kit.until("the records", () -> {
                member.poll(Kit.POLL).forEach(one -> got.add(one.value()));
                return got.size() >= RECORDS;
            });
            member.commitSync();
        }
        try (Admin admin = kit.admin()) {
            var committed = Kit.done(admin.listConsumerGroupOffsets(kit.name).partitionsToOffsetAndMetadata());
            Kit.expect("what is committed", committed.get(new TopicPartition(kit.name, 0)).offset(), (long) RECORDS);
        }
    }

    /** The topic and the group are there. */
    private static void isRefused(Kit kit) throws Exception {
        var at = new TopicPartition(kit.name, 0);
        // An idempotent one is refused as well, by whichever of two answers comes first.
        try (KafkaProducer<String, String> producer = kit.producer(Map.of("enable.idempotence", "false"))) {
            refused("producing", TopicAuthorizationException.class, () -> producer.send(new ProducerRecord<>(kit.name, "x")).get());
        }
        try (KafkaConsumer<String, String> member = kit.consumer(Map.of("group.id", kit.name))) {
            refused("committing", GroupAuthorizationException.class, () -> {
                member.commitSync(Map.of(at, new OffsetAndMetadata(1)));
                return null;
            });
        }
        try (KafkaConsumer<String, String> reader = kit.consumer(Map.of())) {
            reader.assign(List.of(at));
            reader.seekToBeginning(List.of(at));
            refused("reading", TopicAuthorizationException.class, () -> {
                Kit.until("a refusal", () -> !reader.poll(Kit.POLL).isEmpty());
                return null;
            });
        }
        try (Admin admin = kit.admin()) {
            var another = List.of(new NewTopic(kit.name + "-another", 1, (short) 1));
            refused("making a topic", TopicAuthorizationException.class, () -> Kit.done(admin.createTopics(another).all()));
        }
    }

    private static void refused(String what, Class<? extends Exception> wanted, Callable<?> call) {
        try {
            call.call();
        } catch (Exception error) {
            Throwable cause = error instanceof ExecutionException ? error.getCause() : error;
            Kit.expect(what + " is refused with", cause.getClass(), wanted);
            return;
        }
        throw new IllegalStateException(what + " is not refused");
    }
}
