import com.fasterxml.jackson.databind.JsonNode;
import java.io.IOException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Iterator;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.stream.Collectors;
import org.apache.kafka.common.message.ApiMessageType;
import org.apache.kafka.common.protocol.Errors;

/** `errors.yaml`: the codes that each API has in Apache Kafka. Each has to have been seen, or cannot be, for a reason. */
final class Wanted {
    /** Of one API: codes with the versions in which they have to be seen, and codes with the reason why they are not. */
    private record Api(Map<String, List<Broker.Versions>> seen, Map<String, String> unseen) {}

    private final Map<ApiMessageType, Api> apis = new TreeMap<>();

    Wanted(Path file) throws IOException {
        JsonNode read = Yaml.read(file), reasons = read.get("reasons");
        for (Iterator<Map.Entry<String, JsonNode>> all = read.get("apis").fields(); all.hasNext(); ) {
            Map.Entry<String, JsonNode> one = all.next();
            Api api = new Api(new TreeMap<>(), new TreeMap<>());
            if (!one.getValue().hasNonNull("source")) throw new IOException(file + ": " + one.getKey() + " has no `source`");
            one.getValue().get("seen").fields().forEachRemaining(code ->
                    api.seen.put(named(code.getKey()), ranges(code.getValue().asText())));
            one.getValue().path("unseen").fields().forEachRemaining(code -> {
                JsonNode reason = reasons.path(code.getKey());
                if (reason.isMissingNode()) throw new IllegalArgumentException(file + ": there is no reason " + code.getKey());
                code.getValue().forEach(name -> api.unseen.put(named(name.asText()), reason.asText()));
            });
            apis.put(Messages.api(one.getKey()), api);
        }
    }

    private static String named(String code) {
        return Errors.valueOf(code).name();
    }

    /** `3-5`, or several of these with commas between them. */
    private static List<Broker.Versions> ranges(String text) {
        List<Broker.Versions> all = new ArrayList<>();
        for (String range : text.split(", *")) all.add(Case.versions(range));
        return all;
    }

    /** What should have been seen and was not, and what was and stands nowhere. */
    List<String> missing(Broker ours, Coverage coverage) {
        Map<String, List<Integer>> found = new LinkedHashMap<>();
        ours.serves.forEach((type, served) -> {
            Api api = apis.get(type);
            if (api == null) {
                found.put(Messages.name(type) + " has no codes in errors.yaml", List.of());
                return;
            }
            for (int version = served.first(); version <= served.last(); version++) {
                for (String problem : problems(type, api, version, coverage)) {
                    found.computeIfAbsent(problem, any -> new ArrayList<>()).add(version);
                }
            }
        });
        return found.entrySet().stream().map(one -> one.getKey() + " (versions " + one.getValue() + ")").toList();
    }

    private static List<String> problems(ApiMessageType type, Api api, int version, Coverage coverage) {
        List<String> problems = new ArrayList<>();
        String name = Messages.name(type);
        api.seen.forEach((code, versions) -> {
            boolean isWanted = versions.stream().anyMatch(range -> range.has(version));
            if (isWanted && !coverage.shown(type, version).contains(code)) {
                problems.add("no case shows " + code + " of " + name + ", which errors.yaml wants");
            }
        });
        for (String code : coverage.shown(type, version)) {
            boolean isListed = api.seen.getOrDefault(code, List.of()).stream().anyMatch(range -> range.has(version));
            if (!isListed) problems.add(name + " answers " + code + ", which errors.yaml does not have among what is seen");
        }
        return problems;
    }

    /** The codes that were not seen, by the reason. */
    String page() {
        StringBuilder page = new StringBuilder("\n## Not seen\n\nCodes that these APIs have in Apache Kafka, too, by its own"
                + " documentation and code, and that nothing here can bring about.\n\n| API | codes | why |\n|---|---|---|\n");
        apis.forEach((type, api) -> {
            Map<String, List<String>> codes = new LinkedHashMap<>();
            api.unseen.forEach((code, reason) -> codes.computeIfAbsent(reason, any -> new ArrayList<>()).add(code));
            codes.forEach((reason, names) -> page.append("| ").append(Messages.name(type)).append(" | ")
                    .append(names.stream().map(code -> "`" + code + "`").collect(Collectors.joining(", ")))
                    .append(" | ").append(reason).append(" |\n"));
        });
        return page.toString();
    }
}
