import com.fasterxml.jackson.databind.JsonNode;
import java.util.ArrayList;
import java.util.Iterator;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;

/** Where two answers differ, field by field. Items of a list are matched by what they are about, not by their order. */
final class Comparison {
    /** A field, and what either has there: `nothing` where it has none. */
    record Difference(String path, String ours, String kafka) {}

    private static final List<String> ABOUT = List.of("name", "topic", "resourceName", "groupId", "partitionIndex", "partition",
            "index", "apiKey", "nodeId", "brokerId", "key", "logDir", "groupInstanceId", "memberId", "producerId", "topicId", "user");
    private static final String NOTHING = "nothing";

    private final List<Difference> found = new ArrayList<>();

    private Comparison() {}

    static List<Difference> of(JsonNode ours, JsonNode kafka) {
        Comparison comparison = new Comparison();
        comparison.compare("", ours, kafka);
        return comparison.found;
    }

    private void compare(String path, JsonNode ours, JsonNode kafka) {
        if (ours == null || kafka == null) {
            found.add(new Difference(path, ours == null ? NOTHING : ours.toString(), kafka == null ? NOTHING : kafka.toString()));
        } else if (ours.isObject() && kafka.isObject()) {
            Set<String> names = new LinkedHashSet<>();
            for (JsonNode one : List.of(kafka, ours)) {
                for (Iterator<String> all = one.fieldNames(); all.hasNext(); ) names.add(all.next());
            }
            String before = path.isEmpty() ? "" : path + ".";
            for (String name : names) compare(before + name, ours.get(name), kafka.get(name));
        } else if (ours.isArray() && kafka.isArray()) {
            compareItems(path, ours, kafka);
        } else if (!ours.equals(kafka)) {
            // Numbers may be of different widths.
            if (ours.isNumber() && kafka.isNumber() && ours.asLong() == kafka.asLong() && !ours.isDouble()) return;
            found.add(new Difference(path, ours.toString(), kafka.toString()));
        }
    }

    private void compareItems(String path, JsonNode ours, JsonNode kafka) {
        for (String about : ABOUT) {
            Map<String, JsonNode> one = by(about, ours), other = by(about, kafka);
            if (one == null || other == null) continue;
            Set<String> keys = new LinkedHashSet<>(other.keySet());
            keys.addAll(one.keySet());
            for (String key : keys) compare(path + "[" + key + "]", one.get(key), other.get(key));
            return;
        }
        for (int at = 0; at < Math.max(ours.size(), kafka.size()); at++) {
            compare(path + "[" + at + "]", ours.get(at), kafka.get(at));
        }
    }

    /** Items by a field that each of them has with another value; null where that is not so. */
    private static Map<String, JsonNode> by(String field, JsonNode items) {
        Map<String, JsonNode> found = new TreeMap<>();
        for (JsonNode item : items) {
            JsonNode key = item.get(field);
            if (key == null || key.isNull() || key.isContainerNode() || found.put(key.asText(), item) != null) return null;
        }
        return found;
    }
}
