import com.fasterxml.jackson.databind.JsonNode;
import java.io.IOException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.regex.Pattern;
import java.util.stream.Collectors;
import org.apache.kafka.common.message.ApiMessageType;

/** `differences.yaml`: where ours may answer otherwise, and why. */
final class Justified {
    private static final int ENTRIES_MAX = 20;
    private static final String ANY = "*";

    /** `*` stands for anything, in APIs, cases, paths, and in what either answers. */
    record Entry(List<String> apis, String where, List<Pattern> cases, List<Pattern> paths, Pattern ours,
            Pattern kafka, String reason, AtomicBoolean occurred) {
        boolean covers(ApiMessageType api, String title, Comparison.Difference difference) {
            return (apis.contains(ANY) || apis.contains(Messages.name(api)))
                    && cases.stream().anyMatch(one -> one.matcher(title).matches())
                    && paths.stream().anyMatch(path -> path.matcher(difference.path()).matches())
                    && ours.matcher(difference.ours()).matches() && kafka.matcher(difference.kafka()).matches();
        }
    }

    final List<Entry> entries = new ArrayList<>();

    Justified(Path file) throws IOException {
        for (JsonNode one : Yaml.read(file)) {
            for (String key : List.of("api", "path", "reason")) {
                if (!one.has(key)) throw new IOException(file + ": each has `api`, `path` and `reason`: " + one);
            }
            List<String> apis = words(one.get("api")), paths = words(one.get("path"));
            List<String> cases = one.has("case") ? words(one.get("case")) : List.of(ANY);
            apis.stream().filter(api -> !api.equals(ANY)).forEach(Messages::api);
            String where = paths.stream().map(path -> "`" + path + "`").collect(Collectors.joining(", "));
            if (one.has("case")) where += ", in the case “" + String.join("”, “", cases) + "”";
            entries.add(new Entry(apis, where, cases.stream().map(Justified::glob).toList(),
                    paths.stream().map(Justified::glob).toList(), glob(one.path("ours").asText(ANY)), glob(one.path("kafka").asText(ANY)),
                    one.get("reason").asText(), new AtomicBoolean()));
        }
        if (entries.size() > ENTRIES_MAX) throw new IOException(file + " has more than " + ENTRIES_MAX + " differences");
    }

    /** One name, or several. */
    private static List<String> words(JsonNode node) {
        List<String> all = new ArrayList<>();
        if (node.isArray()) node.forEach(one -> all.add(one.asText()));
        else all.add(node.asText());
        return all;
    }

    private static Pattern glob(String text) {
        return Pattern.compile(Arrays.stream(text.split("\\*", -1)).map(Pattern::quote).collect(Collectors.joining(".*")),
                Pattern.DOTALL);
    }

    /** Those that nothing justifies. */
    List<Comparison.Difference> without(ApiMessageType api, String title, List<Comparison.Difference> found) {
        return found.stream().filter(difference -> !justifies(api, title, difference)).toList();
    }

    private boolean justifies(ApiMessageType api, String title, Comparison.Difference difference) {
        for (Entry entry : entries) {
            if (!entry.covers(api, title, difference)) continue;
            entry.occurred.set(true);
            return true;
        }
        return false;
    }
}
