import com.fasterxml.jackson.databind.JsonNode;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Iterator;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.stream.Stream;
import org.apache.kafka.common.message.ApiMessageType;

/** One of `cases/*.yaml`: what is to be so before, a request that is asked in each version, and what is so afterwards. */
record Case(int number, ApiMessageType api, String title, Broker.Versions versions, JsonNode given, JsonNode ask, JsonNode then) {
    private static final Set<String> KEYS = Set.of("case", "versions", "given", "ask", "then", "from", "as", "silent", "only");

    static List<Case> read(Path folder) throws IOException {
        List<Path> files;
        try (Stream<Path> all = Files.list(folder)) {
            files = all.filter(file -> file.toString().endsWith(".yaml")).sorted().toList();
        }
        List<Case> cases = new ArrayList<>();
        for (Path file : files) {
            for (Iterator<Map.Entry<String, JsonNode>> apis = Yaml.read(file).fields(); apis.hasNext(); ) {
                Map.Entry<String, JsonNode> api = apis.next();
                for (JsonNode one : api.getValue()) cases.add(of(cases.size(), file, api.getKey(), one));
            }
        }
        return cases;
    }

    private static Case of(int number, Path file, String api, JsonNode node) {
        String title = node.path("case").asText();
        for (Iterator<String> keys = node.fieldNames(); keys.hasNext(); ) {
            String key = keys.next();
            if (!KEYS.contains(key)) throw new IllegalArgumentException(file + ": " + api + ": " + title + ": " + key + "?");
        }
        if (title.isEmpty() || !node.has("ask")) {
            throw new IllegalArgumentException(file + ": " + api + ": each has `case` and `ask`: " + node);
        }
        return new Case(number, Messages.api(api), title, versions(node.path("versions").asText("0-")),
                node.path("given"), node, node.path("then"));
    }

    /** `3`, `3-` or `3-5`. */
    static Broker.Versions versions(String range) {
        String[] ends = range.split("-", -1);
        short first = Short.parseShort(ends[0]);
        if (ends.length == 1) return new Broker.Versions(first, first);
        return new Broker.Versions(first, ends[1].isEmpty() ? Short.MAX_VALUE : Short.parseShort(ends[1]));
    }
}
