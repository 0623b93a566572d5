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
     * controller has just done. A connection that is closed has nothing more to look at.
     */
    private static final long SAME_WITHIN_NS = TimeUnit.SECONDS.toNanos(30);
    private static final Set<ApiMessageType> LOOKS = Set.of(ApiMessageType.METADATA, ApiMessageType.DESCRIBE_CONFIGS,
            ApiMessageType.DESCRIBE_GROUPS, ApiMessageType.DESCRIBE_PRODUCERS, ApiMessageType.DESCRIBE_LOG_DIRS,
            ApiMessageType.DESCRIBE_CLUSTER, ApiMessageType.LIST_GROUPS, ApiMessageType.LIST_OFFSETS, ApiMessageType.DESCRIBE_ACLS,
            ApiMessageType.OFFSET_FETCH, ApiMessageType.OFFSET_FOR_LEADER_EPOCH, ApiMessageType.FIND_COORDINATOR,
            ApiMessageType.DESCRIBE_USER_SCRAM_CREDENTIALS, ApiMessageType.DESCRIBE_TOPIC_PARTITIONS,
            ApiMessageType.DESCRIBE_TRANSACTIONS, ApiMessageType.LIST_TRANSACTIONS);

    /** What may come before it is known who asks has cases of its own. */
    private static final Set<ApiMessageType> BEFORE_KNOWN = Set.of(ApiMessageType.API_VERSIONS, ApiMessageType.SASL_HANDSHAKE);

    static final String GIVEN_UP = "a version that is given up";

    /** Also in a second run at the same brokers, names are new. */
    private static final String RUN = "-" + Long.toString(System.nanoTime() / 1_000 % 1_000_000, 36) + "x";

    final Case of;
    final short version;
    final List<String> problems = new ArrayList<>();
    /** What either answered, by its error codes: NONE where it did as it was asked. */
    final Set<String> codes = new TreeSet<>(), ourCodes = new TreeSet<>();
    String skipped;

    private final Justified justified;

    Trial(Case of, short version, Justified justified) {
        this.of = of;
        this.version = version;
        this.justified = justified;
    }

    void run(Broker ours, Broker kafka, People people) {
        String suffix = RUN + (of.number() * 100 + version) + "x";
        try (Session one = new Session(ours, suffix, people); Session other = new Session(kafka, suffix, people)) {
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
                if (step.has("token")) {
                    compare(of.api(), version, one, other, session -> session.token(step), false);
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
            boolean isOver = one.has("connection") || other.has("connection") || System.nanoTime() > deadline;
            if (found.isEmpty() || !LOOKS.contains(type) || isOver) {
                if (isAsked) {
                    collect(other, codes);
                    collect(one, ourCodes);
                }
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

    private static void collect(JsonNode answer, Set<String> codes) {
        if (answer.has("connection")) codes.add("connection " + answer.get("connection").asText());
        for (JsonNode code : answer.findValues("errorCode")) codes.add(Errors.forCode((short) code.asInt()).name());
        if (codes.isEmpty()) codes.add(Errors.NONE.name());
    }

    /**
     * What is asked of each API alike: a version that is not there, a request that ends too early, and one before it is known
     * who asks.
     */
    static List<Trial> strange(ApiMessageType type, Broker ours, Broker kafka, Justified justified) throws IOException {
        Broker.Versions one = ours.serves.get(type), other = kafka.serves.get(type);
        List<Trial> trials = new ArrayList<>();
        JsonNode none = JsonNodeFactory.instance.objectNode();
        short newer = (short) (Math.max(one.last(), other.last()) + 1);
        trials.add(raw(type, "a version that is not there yet", newer, null, "", ours, kafka, justified));
        short older = (short) (Math.min(one.first(), other.first()) - 1);
        if (older >= 0) trials.add(raw(type, "a version that is not there any more", older, null, "", ours, kafka, justified));
        for (short version = one.first(); version < type.lowestSupportedVersion(); version++) {
            // Only Produce has such versions.
            ObjectNode batch = JsonNodeFactory.instance.objectNode().put("acks", -1).put("timeoutMs", 5_000);
            trials.add(raw(type, GIVEN_UP, version, Messages.oldProduce(version, batch), "", ours, kafka, justified));
        }
        short last = (short) Math.min(one.last(), other.last());
        ByteBuffer whole = Messages.request(type, last, 1, none), part = whole.duplicate();
        part.limit(whole.limit() - 1);
        trials.add(raw(type, "a request that ends too early", last, part, "", ours, kafka, justified));
        if (!BEFORE_KNOWN.contains(type)) {
            trials.add(raw(type, "before it is known who asks", last, whole, Session.NOBODY, ours, kafka, justified));
        }
        return trials;
    }

    private static Trial raw(ApiMessageType type, String title, short version, ByteBuffer bytes, String as, Broker ours, Broker kafka,
            Justified justified) throws IOException {
        Trial trial = new Trial(new Case(-1, type, title, null, null, JsonNodeFactory.instance.objectNode(), null), version, justified);
        try (Session one = new Session(ours, "~", null); Session other = new Session(kafka, "~", null)) {
            trial.compare(type, version, one, other, session -> {
                ByteBuffer request = bytes == null ? Messages.header(type, version, 1) : bytes.duplicate();
                return session.askRaw(type, version, request, as);
            }, true);
        } catch (Exception error) {
            trial.problems.add(error.toString());
        }
        return trial;
    }
}
