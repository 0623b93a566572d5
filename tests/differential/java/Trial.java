import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.node.JsonNodeFactory;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.util.ArrayList;
import java.util.List;
import java.util.Set;
import java.util.TreeSet;
import java.util.concurrent.TimeUnit;
import org.apache.kafka.common.message.ApiMessageType;
import org.apache.kafka.common.protocol.Errors;

/** One case in one version at both brokers, and what came of it. */
final class Trial {
    /**
     * What only looks is asked again while the answers differ: a broker of Apache Kafka's may not have heard of what its
     * controller has just done.
     */
    private static final long SAME_WITHIN_NS = TimeUnit.SECONDS.toNanos(10);
    private static final Set<ApiMessageType> LOOKS = Set.of(ApiMessageType.METADATA, ApiMessageType.DESCRIBE_CONFIGS,
            ApiMessageType.DESCRIBE_GROUPS, ApiMessageType.DESCRIBE_PRODUCERS, ApiMessageType.DESCRIBE_LOG_DIRS,
            ApiMessageType.DESCRIBE_CLUSTER, ApiMessageType.LIST_GROUPS, ApiMessageType.LIST_OFFSETS, ApiMessageType.DESCRIBE_ACLS,
            ApiMessageType.OFFSET_FETCH, ApiMessageType.OFFSET_FOR_LEADER_EPOCH, ApiMessageType.FIND_COORDINATOR,
            ApiMessageType.DESCRIBE_USER_SCRAM_CREDENTIALS, ApiMessageType.DESCRIBE_TOPIC_PARTITIONS,
            ApiMessageType.DESCRIBE_TRANSACTIONS, ApiMessageType.LIST_TRANSACTIONS);

    static final String GIVEN_UP = "a version that is given up";

    /** Also in a second run at the same brokers, names are new. */
    private static final String RUN = "-" + Long.toString(System.nanoTime() / 1_000 % 1_000_000, 36) + "x";

    final Case of;
    final short version;
    final List<String> problems = new ArrayList<>();
    /** What Apache Kafka answered, by its error codes: NONE where it did as it was asked. */
    final Set<String> codes = new TreeSet<>();
    String skipped;

    private final Justified justified;

    Trial(Case of, short version, Justified justified) {
        this.of = of;
        this.version = version;
        this.justified = justified;
    }

    void run(Broker ours, Broker kafka) {
        String suffix = RUN + (of.number() * 100 + version) + "x";
        try (Session one = new Session(ours, suffix); Session other = new Session(kafka, suffix)) {
            Given given = new Given(one, kafka, version), otherGiven = new Given(other, ours, version);
            for (JsonNode step : of.given()) {
                given.step(step);
                otherGiven.step(step);
            }
            ask(of.api(), version, of.ask().get("ask"), of.ask(), one, other, true);
            for (JsonNode step : of.then()) {
                if (step.has("await")) {
                    compare(of.api(), version, one, other, session -> session.await(step), false);
                    continue;
                }
                ApiMessageType type = Given.api(step);
                ask(type, given.version(type, step), step.get(Messages.name(type)), step, one, other, false);
            }
        } catch (Given.NotServed missing) {
            skipped = missing.getMessage();
        } catch (Exception error) {
            problems.add(error + (error.getCause() == null ? "" : ": " + error.getCause()));
        }
    }

    private void ask(ApiMessageType type, short version, JsonNode body, JsonNode step, Session ours, Session kafka, boolean isAsked)
            throws Exception {
        Asking asking = session -> session.ask(type, version, body, step);
        compare(type, version, ours, kafka, asking, isAsked);
    }

    private interface Asking {
        ObjectNode ask(Session session) throws IOException;
    }

    private void compare(ApiMessageType type, short version, Session ours, Session kafka, Asking asking, boolean isAsked)
            throws Exception {
        long deadline = System.nanoTime() + SAME_WITHIN_NS;
        while (true) {
            ObjectNode one = asking.ask(ours), other = asking.ask(kafka);
            List<Comparison.Difference> found = Comparison.of(only(ours, one), only(kafka, other));
            found = justified.without(type, of.title(), found);
            if (found.isEmpty() || !LOOKS.contains(type) || System.nanoTime() > deadline) {
                if (isAsked) collect(other);
                String where = type == of.api() ? "" : Messages.name(type) + ": ";
                for (Comparison.Difference difference : found) {
                    problems.add(where + difference.path() + ": ours " + difference.ours() + ", kafka " + difference.kafka());
                }
                return;
            }
            Thread.sleep(Broker.LOOK_EVERY_MS);
        }
    }

    /** The answer in a form that can be compared; with `only`, of a list that shows all there is what is this case's. */
    private JsonNode only(Session session, ObjectNode answer) {
        JsonNode normal = new Normal(session).of(answer);
        String list = of.ask().path("only").asText();
        if (normal.get(list) instanceof com.fasterxml.jackson.databind.node.ArrayNode all) {
            for (int at = all.size() - 1; at >= 0; at--) {
                if (!all.get(at).toString().contains("~")) all.remove(at);
            }
        }
        return normal;
    }

    private void collect(JsonNode answer) {
        if (answer.has("connection")) codes.add("connection " + answer.get("connection").asText());
        for (JsonNode code : answer.findValues("errorCode")) codes.add(Errors.forCode((short) code.asInt()).name());
        if (codes.isEmpty()) codes.add(Errors.NONE.name());
    }

    /** What is asked of each API alike: a version that is not there, and a request that ends too early. */
    static List<Trial> strange(ApiMessageType type, Broker ours, Broker kafka, Justified justified) throws IOException {
        Broker.Versions one = ours.serves.get(type), other = kafka.serves.get(type);
        List<Trial> trials = new ArrayList<>();
        JsonNode none = JsonNodeFactory.instance.objectNode();
        short newer = (short) (Math.max(one.last(), other.last()) + 1);
        trials.add(raw(type, "a version that is not there yet", newer, null, ours, kafka, justified));
        short older = (short) (Math.min(one.first(), other.first()) - 1);
        if (older >= 0) trials.add(raw(type, "a version that is not there any more", older, null, ours, kafka, justified));
        for (short version = one.first(); version < type.lowestSupportedVersion(); version++) {
            // Only Produce has such versions.
            ObjectNode batch = JsonNodeFactory.instance.objectNode().put("acks", -1).put("timeoutMs", 5_000);
            trials.add(raw(type, GIVEN_UP, version, Messages.oldProduce(version, batch), ours, kafka, justified));
        }
        short last = (short) Math.min(one.last(), other.last());
        ByteBuffer whole = Messages.request(type, last, 1, none);
        whole.limit(whole.limit() - 1);
        trials.add(raw(type, "a request that ends too early", last, whole, ours, kafka, justified));
        return trials;
    }

    private static Trial raw(ApiMessageType type, String title, short version, ByteBuffer bytes, Broker ours, Broker kafka,
            Justified justified) throws IOException {
        Trial trial = new Trial(new Case(-1, type, title, null, null, JsonNodeFactory.instance.objectNode(), null), version, justified);
        try (Session one = new Session(ours, "~"); Session other = new Session(kafka, "~")) {
            trial.compare(type, version, one, other, session -> {
                ByteBuffer request = bytes == null ? Messages.header(type, version, 1) : bytes.duplicate();
                return session.askRaw(type, version, request);
            }, true);
        } catch (Exception error) {
            trial.problems.add(error.toString());
        }
        return trial;
    }
}
