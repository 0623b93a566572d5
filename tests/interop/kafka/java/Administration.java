import static org.apache.kafka.clients.admin.AlterConfigOp.OpType.SET;

import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.ExecutionException;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.AlterConfigOp;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.admin.ConsumerGroupDescription;
import org.apache.kafka.clients.admin.NewPartitions;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.admin.RecordsToDelete;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.errors.TopicExistsException;

/** Topics, settings, groups, lag, and what is deleted, by the admin client: calls that 3.9 and 4.x both have. */
@SuppressWarnings({"deprecation", "removal"})
final class Administration {
    private static final int RECORDS = 50;
    private static final int LAG = 10;

    private final Kit kit;
    private final Admin admin;
    private final String topic;
    private final String group;

    private Administration(Kit kit, Admin admin) {
        this.kit = kit;
        this.admin = admin;
        topic = kit.name + "-admin";
        group = kit.name + "-admin-group";
    }

    static void run(Kit kit) throws Exception {
        try (Admin admin = kit.admin()) {
            Administration all = new Administration(kit, admin);
            all.topics();
            all.settings();
            all.groups();
            all.deletions();
        }
    }

    private void topics() throws Exception {
        Kit.expect("the brokers", Kit.done(admin.describeCluster().nodes()).size(), 1);
        var made = new NewTopic(topic, 3, (short) 1).configs(Map.of("retention.ms", "86400000"));
        Kit.done(admin.createTopics(List.of(made)).all());
        try {
            Kit.done(admin.createTopics(List.of(made)).all());
            throw new IllegalStateException("the topic was made twice");
        } catch (ExecutionException error) {
            Kit.expect("its second making", error.getCause().getClass(), TopicExistsException.class);
        }
        Kit.expect("it is listed", Kit.done(admin.listTopics().names()).contains(topic), true);
        Kit.expect("its partitions", partitions(), 3);
        Kit.done(admin.createPartitions(Map.of(topic, NewPartitions.increaseTo(5))).all());
        Kit.until("it has grown", () -> partitions() == 5);
    }

    private int partitions() throws Exception {
        return Kit.done(admin.describeTopics(List.of(topic)).allTopicNames()).get(topic).partitions().size();
    }

    private void settings() throws Exception {
        Kit.expect("retention.ms", setting("retention.ms"), "86400000");
        var change = new AlterConfigOp(new ConfigEntry("retention.ms", "3600000"), SET);
        Kit.done(admin.incrementalAlterConfigs(Map.of(resource(), List.of(change))).all());
        Kit.until("retention.ms is altered", () -> setting("retention.ms").equals("3600000"));
    }

    private ConfigResource resource() {
        return new ConfigResource(ConfigResource.Type.TOPIC, topic);
    }

    private String setting(String key) throws Exception {
        return Kit.done(admin.describeConfigs(Set.of(resource())).all()).get(resource()).get(key).value();
    }

    private void produce(int count) {
        try (KafkaProducer<String, String> producer = kit.producer(Map.of())) {
            for (int number = 0; number < count; number++) {
                producer.send(new ProducerRecord<>(topic, number % 5, "key", String.valueOf(number)));
            }
        }
    }

    private void groups() throws Exception {
        produce(RECORDS);
        try (KafkaConsumer<String, String> member = kit.consumer(Map.of("group.id", group, "client.id", "member"))) {
            member.subscribe(List.of(topic));
            List<String> got = new ArrayList<>();
            Kit.until("the records", () -> {
                member.poll(Kit.POLL).forEach(one -> got.add(one.value()));
                return got.size() >= RECORDS;
            });
            member.commitSync();
            ConsumerGroupDescription described = described();
            Kit.expect("its state", described.state().toString(), "Stable");
            Kit.expect("its members", described.members().size(), 1);
            var one = described.members().iterator().next();
            Kit.expect("the member's client", one.clientId(), "member");
            Kit.expect("what it has", one.assignment().topicPartitions().size(), 5);
        }
        Kit.until("the group is empty", () -> described().state().toString().equals("Empty"));
        boolean listed = Kit.done(admin.listConsumerGroups().all()).stream()
                .anyMatch(one -> one.groupId().equals(group));
        Kit.expect("the group is listed", listed, true);
        produce(LAG);
        Kit.expect("the lag", lag(), (long) LAG);
    }

    private ConsumerGroupDescription described() throws Exception {
        return Kit.done(admin.describeConsumerGroups(List.of(group)).all()).get(group);
    }

    private long lag() throws Exception {
        var committed = Kit.done(admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata());
        Map<TopicPartition, OffsetSpec> asked = new HashMap<>();
        for (TopicPartition one : committed.keySet()) asked.put(one, OffsetSpec.latest());
        long lag = 0;
        for (var one : Kit.done(admin.listOffsets(asked).all()).entrySet()) {
            lag += one.getValue().offset() - committed.get(one.getKey()).offset();
        }
        return lag;
    }

    private void deletions() throws Exception {
        var at = new TopicPartition(topic, 0);
        var deleted = admin.deleteRecords(Map.of(at, RecordsToDelete.beforeOffset(5))).lowWatermarks();
        Kit.expect("where deletion leaves off", Kit.done(deleted.get(at)).lowWatermark(), 5L);
        var begins = Kit.done(admin.listOffsets(Map.of(at, OffsetSpec.earliest())).all()).get(at);
        Kit.expect("where it begins", begins.offset(), 5L);
        Kit.done(admin.deleteConsumerGroups(List.of(group)).all());
        Kit.until("the group is gone", () -> Kit.done(admin.listConsumerGroups().all()).stream()
                .noneMatch(one -> one.groupId().equals(group)));
        Kit.done(admin.deleteTopics(List.of(topic)).all());
        Kit.until("the topic is gone", () -> !Kit.done(admin.listTopics().names()).contains(topic));
    }
}
