import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.BinaryNode;
import com.fasterxml.jackson.databind.node.JsonNodeFactory;
import com.fasterxml.jackson.databind.node.ObjectNode;
import com.fasterxml.jackson.databind.node.TextNode;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.util.Iterator;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import org.apache.kafka.clients.consumer.ConsumerPartitionAssignor;
import org.apache.kafka.clients.consumer.internals.ConsumerProtocol;
import org.apache.kafka.common.message.ApiMessageType;

/**
 * A case at one broker: its connections, and what it keeps of answers for later requests. In texts of requests `~` is
 * what no other case has; a text `$name` is what was kept under that name, `$id:NAME` a topic's id, `$text:TEXT` bytes,
 * `$wants:TOPIC` the subscription of a consumer, and `$sasl` what the client says next of who it is.
 */
final class Session implements AutoCloseable {
    private static final JsonNodeFactory JSON = JsonNodeFactory.instance;
    private static final String DEFAULT_CONNECTION = "first";
    /** Who has not said who it is, where everybody has to. */
    static final String NOBODY = "nobody";

    /** What was kept, and the field that it was in. */
    record Kept(String field, JsonNode value) {}

    final Broker broker;
    final String suffix;
    final Map<String, Kept> kept = new TreeMap<>();
    private final People people;
    private final Map<String, Connection> connections = new TreeMap<>();
    private Exchange exchange;

    Session(Broker broker, String suffix, People people) {
        this.broker = broker;
        this.suffix = suffix;
        this.people = people;
    }

    /**
     * The answer to a request that a step describes: `from` another connection, `as` somebody, later than others, or without an
     * answer.
     */
    ObjectNode ask(ApiMessageType type, short version, JsonNode body, JsonNode step) throws IOException {
        JsonNode request = substituted(body);
        Connection connection = connection(step);
        if (step.path("later").asBoolean() || step.path("silent").asBoolean()) {
            connection.send(type, version, request);
            return step.path("silent").asBoolean() ? connection.silence() : JSON.objectNode();
        }
        ObjectNode answer = connection.ask(type, version, request);
        if (type == ApiMessageType.SASL_AUTHENTICATE) hear(answer);
        keep(answer, step.path("keep"));
        return answer;
    }

    /** The answer to what was asked with `later`. */
    ObjectNode await(JsonNode step) throws IOException {
        ObjectNode answer = connection(step.get("await").asText(), "").take();
        keep(answer, step.path("keep"));
        return answer;
    }

    /** The answer to a token without a request around it, as after version 0 of SaslHandshake. */
    ObjectNode token(JsonNode step) throws IOException {
        ObjectNode answer = connection(step).askToken(substituted(step.get("token")).binaryValue());
        hear(answer);
        return answer;
    }

    ObjectNode askRaw(ApiMessageType type, short version, ByteBuffer request, String as) throws IOException {
        return connection(DEFAULT_CONNECTION, as).askRaw(type, version, request);
    }

    /** What `$sasl` says from here on. */
    void begin(String mechanism, String user, String password) throws IOException {
        exchange = new Exchange(mechanism, user, password);
    }

    private void hear(ObjectNode answer) throws IOException {
        JsonNode token = answer.path("authBytes");
        if (exchange == null || !token.isBinary() || token.binaryValue().length == 0) return;
        answer.put("authBytes", exchange.hear(token.binaryValue()));
    }

    void keep(String name, String field, JsonNode value) {
        kept.put(name, new Kept(field, value));
    }

    private void keep(ObjectNode answer, JsonNode names) throws IOException {
        for (Iterator<Map.Entry<String, JsonNode>> all = names.fields(); all.hasNext(); ) {
            Map.Entry<String, JsonNode> one = all.next();
            String path = "/" + one.getValue().asText();
            JsonNode value = answer.at(path);
            if (value.isMissingNode()) throw new IOException(broker.name + " answers without " + path + ": " + answer);
            keep(one.getKey(), path.substring(path.lastIndexOf('/') + 1), value);
        }
    }

    private Connection connection(JsonNode step) throws IOException {
        return connection(step.path("from").asText(DEFAULT_CONNECTION), step.path("as").asText());
    }

    private Connection connection(String name, String as) throws IOException {
        String known = as.isEmpty() ? name : name + ", as " + as;
        Connection connection = connections.get(known);
        if (connection != null) return connection;
        if (as.isEmpty()) connection = new Connection(broker.address);
        else if (as.equals(NOBODY)) connection = new Connection(broker.door);
        else connection = people.as(broker, as);
        if (connection == null) throw new IOException(broker.name + " does not know " + as);
        connections.put(known, connection);
        return connection;
    }

    JsonNode substituted(JsonNode node) throws IOException {
        if (Batches.isBatch(node)) return Batches.build(substitutedFields(node));
        if (node.isObject()) return substitutedFields(node);
        if (node.isArray()) {
            ArrayNode all = JSON.arrayNode();
            for (JsonNode item : node) all.add(substituted(item));
            return all;
        }
        return node.isTextual() ? text(node.asText().replace("~", suffix)) : node;
    }

    private ObjectNode substitutedFields(JsonNode node) throws IOException {
        ObjectNode all = JSON.objectNode();
        for (Iterator<Map.Entry<String, JsonNode>> fields = node.fields(); fields.hasNext(); ) {
            Map.Entry<String, JsonNode> field = fields.next();
            all.set(field.getKey(), substituted(field.getValue()));
        }
        return all;
    }

    private JsonNode text(String text) throws IOException {
        if (!text.startsWith("$")) return TextNode.valueOf(text);
        String[] words = text.substring(1).split(":", 2);
        switch (words[0]) {
            case "sasl" -> { return BinaryNode.valueOf(exchange.token()); }
            case "text" -> { return BinaryNode.valueOf(words[1].getBytes(StandardCharsets.UTF_8)); }
            case "times" -> {
                String[] parts = words[1].split(":", 2);
                return TextNode.valueOf(parts[1].repeat(Integer.parseInt(parts[0])));
            }
            case "wants" -> {
                ByteBuffer bytes = ConsumerProtocol.serializeSubscription(
                        new ConsumerPartitionAssignor.Subscription(List.of(words[1].split(","))));
                return BinaryNode.valueOf(bytes.array());
            }
            default -> {
                Kept found = kept.get(text.substring(1));
                if (found == null) throw new IllegalArgumentException("nothing was kept as " + text + ": " + kept.keySet());
                return found.value();
            }
        }
    }

    @Override
    public void close() throws IOException {
        for (Connection connection : connections.values()) connection.close();
    }
}
