import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.JsonNodeFactory;
import com.fasterxml.jackson.databind.node.ObjectNode;
import com.fasterxml.jackson.databind.node.TextNode;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.Iterator;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.regex.Pattern;
import org.apache.kafka.common.Uuid;

/**
 * An answer without what two brokers can't have in common: ids that they give, where they are, what time it is, and the
 * words that go with an error. What stands in its place still says that there was something, and of what kind.
 */
final class Normal {
    private static final JsonNodeFactory JSON = JsonNodeFactory.instance;
    private static final Pattern RANDOM =
            Pattern.compile("[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}");
    private static final Set<String> WORDS = Set.of("errorMessage", "batchIndexErrorMessage", "documentation");
    private static final Set<String> PLACES = Set.of("logDir", "clusterId");
    private static final Set<String> IDS = Set.of("sessionId", "producerId", "generationId");
    /** Lists without an order. */
    private static final Set<String> SETS = Set.of("acls", "matchingAcls", "mechanisms", "credentialInfos");
    private static final Set<String> SIZES = Set.of("totalBytes", "usableBytes");
    /** A time within this of now is one that a broker has put in. */
    private static final long NOW_MS = 3_600_000;

    private final Session session;

    Normal(Session session) {
        this.session = session;
    }

    JsonNode of(JsonNode answer) {
        return node("", answer);
    }

    private JsonNode node(String field, JsonNode node) {
        if (node.isObject()) {
            ObjectNode all = JSON.objectNode();
            for (Iterator<Map.Entry<String, JsonNode>> fields = node.fields(); fields.hasNext(); ) {
                Map.Entry<String, JsonNode> one = fields.next();
                all.set(one.getKey(), node(one.getKey(), one.getValue()));
            }
            return all;
        }
        if (node.isArray()) {
            ArrayNode all = JSON.arrayNode();
            for (JsonNode item : node) all.add(node(field, item));
            if (!SETS.contains(field)) return all;
            List<JsonNode> sorted = new ArrayList<>();
            all.forEach(sorted::add);
            sorted.sort(Comparator.comparing(JsonNode::toString));
            return JSON.arrayNode().addAll(sorted);
        }
        if (node.isIntegralNumber()) return number(field, node);
        return node.isTextual() ? TextNode.valueOf(text(field, node.asText())) : node;
    }

    private JsonNode number(String field, JsonNode node) {
        for (Map.Entry<String, Session.Kept> kept : session.kept.entrySet()) {
            JsonNode value = kept.getValue().value();
            if (kept.getValue().field().equals(field) && value.isNumber() && value.asLong() == node.asLong()) {
                return TextNode.valueOf("$" + kept.getKey());
            }
        }
        long value = node.asLong();
        if (field.equals("port") && value == session.broker.address.getPort()) return TextNode.valueOf("<its port>");
        if (field.equals("port") && value == session.broker.door.getPort()) return TextNode.valueOf("<its door's port>");
        if (IDS.contains(field) && value > 0) return TextNode.valueOf("<an id>");
        if (SIZES.contains(field) && value > 0) return TextNode.valueOf("<bytes>");
        boolean isNow = Math.abs(value - System.currentTimeMillis()) < NOW_MS;
        return isNow ? TextNode.valueOf("<now>") : node;
    }

    private String text(String field, String text) {
        if (text.isEmpty()) return text;
        if (WORDS.contains(field)) return "<words>";
        if (PLACES.contains(field)) return "<" + field + ">";
        String known = text;
        for (Map.Entry<String, Session.Kept> kept : session.kept.entrySet()) {
            JsonNode value = kept.getValue().value();
            if (value.isTextual() && value.asText().equals(text)) known = "$" + kept.getKey();
        }
        if (field.equals("topicId") && known.equals(text)) {
            return text.equals(Uuid.ZERO_UUID.toString()) ? "<none>" : "<an id>";
        }
        return RANDOM.matcher(known.replace(session.suffix, "~")).replaceAll("<random>");
    }
}
