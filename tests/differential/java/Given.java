import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.JsonNodeFactory;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.IOException;
import java.util.Iterator;
import java.util.Map;
import java.util.concurrent.TimeUnit;
import org.apache.kafka.common.message.ApiMessageType;
import org.apache.kafka.common.protocol.Errors;

/** What a case needs before it asks: requests, or what is needed so often that it has a name of its own. */
final class Given {
    private static final JsonNodeFactory JSON = JsonNodeFactory.instance;
    private static final long THERE_WITHIN_NS = TimeUnit.SECONDS.toNanos(20);

    private final Session session;
    private final Broker other;
    private final short asked;

    /** Requests are sent in the newest version that both brokers have, or in the one in which the case asks. */
    Given(Session session, Broker other, short asked) {
        this.session = session;
        this.other = other;
        this.asked = asked;
    }

    void step(JsonNode step) throws Exception {
        if (step.has("topic")) topic(step.get("topic"));
        else if (step.has("records")) records(step.get("records"));
        else if (step.has("producer")) producer(step.get("producer").asText());
        else if (step.has("commit")) commit(step.get("commit"));
        else if (step.has("member")) member(step.get("member"));
        else if (step.has("identity")) identity(step.get("identity"));
        else if (step.has("sasl")) sasl(step.get("sasl"));
        else if (step.has("await")) check(session.await(step), step);
        else {
            ApiMessageType type = api(step);
            ask(type, step);
        }
    }

    /** Something that is only so after a while is asked again, `until` its error is there, or what a path has. */
    private void ask(ApiMessageType type, JsonNode step) throws Exception {
        long deadline = System.nanoTime() + THERE_WITHIN_NS;
        while (true) {
            ObjectNode answer = session.ask(type, version(type, step), step.get(Messages.name(type)), step);
            if (isSo(answer, step) || System.nanoTime() > deadline) {
                check(answer, step);
                return;
            }
            Thread.sleep(Broker.LOOK_EVERY_MS);
        }
    }

    private static boolean isSo(JsonNode answer, JsonNode step) {
        JsonNode until = step.path("until");
        if (until.isTextual()) return !answer.at(until.asText()).isMissingNode();
        String code = Errors.forCode((short) answer.path("errorCode").asInt()).name();
        return !until.asBoolean() || code.equals(step.get("error").asText());
    }

    /** The API of a step: its one key that begins with a capital. */
    static ApiMessageType api(JsonNode step) {
        for (Iterator<String> keys = step.fieldNames(); keys.hasNext(); ) {
            String key = keys.next();
            if (Character.isUpperCase(key.charAt(0))) return Messages.api(key);
        }
        throw new IllegalArgumentException("what is to be done? " + step);
    }

    short version(ApiMessageType type, JsonNode step) {
        if (step.path("version").asText().equals("same")) return asked;
        if (step.has("version")) return (short) step.get("version").asInt();
        Broker.Versions one = session.broker.serves.get(type), two = other.serves.get(type);
        if (one == null || two == null) throw new NotServed(type);
        return (short) Math.min(one.last(), two.last());
    }

    /** Something that a case needs and a broker doesn't have. */
    static final class NotServed extends RuntimeException {
        NotServed(ApiMessageType type) {
            super(Messages.name(type) + " is not served by both");
        }
    }

    private ObjectNode ask(ApiMessageType type, ObjectNode body) throws Exception {
        ObjectNode answer = session.ask(type, version(type, body), body, JSON.objectNode());
        check(answer, JSON.objectNode());
        return answer;
    }

    private void check(JsonNode answer, JsonNode step) throws IOException {
        String expected = step.path("error").asText("NONE");
        if (answer.has("connection") && !step.path("silent").asBoolean() || !allAre(answer, expected)) {
            String wanted = expected.equals("NONE") ? "" : ", not with " + expected;
            throw new IOException(session.broker.name + " answers " + answer + wanted + " to " + step);
        }
    }

    private static boolean allAre(JsonNode answer, String expected) {
        for (JsonNode code : answer.findValues("errorCode")) {
            String name = Errors.forCode((short) code.asInt()).name();
            if (!name.equals(expected) && !name.equals("NONE")) return false;
        }
        return true;
    }

    /** Makes a topic, waits until it is there with all its partitions, and keeps its id. */
    private void topic(JsonNode asked) throws Exception {
        String name = asked.isObject() ? asked.get("name").asText() : asked.asText();
        ObjectNode create = JSON.objectNode();
        int partitions = asked.path("partitions").asInt(1);
        ObjectNode topic = create.putArray("topics").addObject()
                .put("name", name).put("numPartitions", partitions).put("replicationFactor", 1);
        ArrayNode configs = topic.putArray("configs");
        for (Iterator<Map.Entry<String, JsonNode>> all = asked.path("configs").fields(); all.hasNext(); ) {
            Map.Entry<String, JsonNode> one = all.next();
            configs.addObject().put("name", one.getKey()).put("value", one.getValue().asText());
        }
        ObjectNode made = ask(ApiMessageType.CREATE_TOPICS, create);
        session.keep("id:" + name.replace("~", session.suffix), "topicId", made.at("/topics/0/topicId"));
        waitFor(name, partitions);
    }

    /** A broker of Apache Kafka's shows a partition before it leads it: only once it answers for it, it does. */
    private void waitFor(String topic, int partitions) throws Exception {
        ObjectNode look = JSON.objectNode().put("replicaId", -1);
        ArrayNode ends = look.putArray("topics").addObject().put("name", topic).putArray("partitions");
        for (int partition = 0; partition < partitions; partition++) {
            ends.addObject().put("partitionIndex", partition).put("timestamp", -1);
        }
        long deadline = System.nanoTime() + THERE_WITHIN_NS;
        while (true) {
            JsonNode answer = session.ask(ApiMessageType.LIST_OFFSETS, (short) 6, look, JSON.objectNode());
            if (allAre(answer, "NONE")) return;
            if (System.nanoTime() > deadline) throw new IOException(session.broker.name + " does not make " + topic + ": " + answer);
            Thread.sleep(Broker.LOOK_EVERY_MS);
        }
    }

    private void records(JsonNode asked) throws Exception {
        ObjectNode produce = JSON.objectNode().put("acks", -1).put("timeoutMs", 20_000);
        produce.putNull("transactionalId");
        ObjectNode topic = produce.putArray("topicData").addObject().put("name", asked.get("topic").asText());
        ObjectNode partition = topic.putArray("partitionData").addObject().put("index", asked.path("partition").asInt(0));
        partition.set("records", asked);
        ObjectNode answer = session.ask(ApiMessageType.PRODUCE, (short) 9, produce, JSON.objectNode());
        check(answer, asked);
    }

    private void producer(String name) throws Exception {
        ObjectNode body = JSON.objectNode().put("transactionTimeoutMs", 60_000).putNull("transactionalId");
        ObjectNode answer = ask(ApiMessageType.INIT_PRODUCER_ID, body);
        session.keep(name, "producerId", answer.get("producerId"));
    }

    private void commit(JsonNode asked) throws Exception {
        ObjectNode commit = JSON.objectNode().put("groupId", asked.get("group").asText())
                .put("generationIdOrMemberEpoch", -1).put("memberId", "");
        ObjectNode topic = commit.putArray("topics").addObject().put("name", asked.get("topic").asText());
        topic.putArray("partitions").addObject()
                .put("partitionIndex", asked.path("partition").asInt(0))
                .put("committedOffset", asked.path("offset").asLong(0))
                .put("committedMetadata", asked.path("metadata").asText(""));
        ObjectNode answer = session.ask(ApiMessageType.OFFSET_COMMIT, (short) 8, commit, JSON.objectNode());
        check(answer, asked);
    }

    /** A group with one member, whose id and generation are kept as NAME and NAME.generation. */
    private void member(JsonNode asked) throws Exception {
        String group = asked.get("group").asText(), name = asked.path("as").asText("member");
        ObjectNode join = JSON.objectNode().put("groupId", group).put("memberId", "")
                .put("protocolType", asked.path("kind").asText("consumer"))
                .put("sessionTimeoutMs", asked.path("session").asInt(30_000)).put("rebalanceTimeoutMs", 60_000);
        if (asked.has("instance")) join.set("groupInstanceId", asked.get("instance"));
        join.putArray("protocols").addObject().put("name", "range")
                .set("metadata", asked.path("metadata").isMissingNode() ? JSON.textNode("$text:any") : asked.get("metadata"));
        JsonNode from = JSON.objectNode().put("from", asked.path("from").asText("first"));
        // Version 3 asks nobody to come again with an id; a static member's version is 5.
        short version = (short) (asked.has("instance") ? 5 : 3);
        ObjectNode joined = session.ask(ApiMessageType.JOIN_GROUP, version, join, from);
        check(joined, asked);
        session.keep(name, "memberId", joined.get("memberId"));
        session.keep(name + ".generation", "kept", joined.get("generationId"));
        ObjectNode sync = JSON.objectNode().put("groupId", group).put("memberId", "$" + name)
                .put("generationId", joined.get("generationId").asInt());
        if (asked.has("instance")) sync.set("groupInstanceId", asked.get("instance"));
        sync.putArray("assignments").addObject().put("memberId", "$" + name).put("assignment", "$text:all");
        check(session.ask(ApiMessageType.SYNC_GROUP, (short) 3, sync, from), asked);
    }

    /** Who `$sasl` says that the client is. */
    private void identity(JsonNode asked) throws IOException {
        session.begin(asked.get("mechanism").asText(), asked.get("user").asText().replace("~", session.suffix),
                asked.get("password").asText());
    }

    /** The same, and the mechanism is chosen; whether the password is the user's is not known yet. */
    private void sasl(JsonNode asked) throws Exception {
        ObjectNode handshake = JSON.objectNode();
        handshake.set("mechanism", asked.get("mechanism"));
        JsonNode as = JSON.objectNode().put("as", Session.NOBODY);
        check(session.ask(ApiMessageType.SASL_HANDSHAKE, (short) 1, handshake, as), asked);
        identity(asked);
    }
}
