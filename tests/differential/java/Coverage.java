import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import java.util.TreeSet;
import java.util.stream.Collectors;
import org.apache.kafka.common.message.ApiMessageType;

/** The page of the documentation that says what was compared, and cells in which nothing was. */
final class Coverage {
    private final Broker ours;
    private final Justified justified;
    private final Wanted wanted;
    private final Map<ApiMessageType, Map<Integer, Integer>> cases = new TreeMap<>();
    private final Map<ApiMessageType, Set<String>> codes = new TreeMap<>();

    /** Codes with which both answered, by version. */
    private final Map<ApiMessageType, Map<Integer, Set<String>>> shown = new TreeMap<>();

    Coverage(Broker ours, List<Trial> trials, Justified justified, Wanted wanted) {
        this.ours = ours;
        this.justified = justified;
        this.wanted = wanted;
        for (Trial trial : trials) {
            if (trial.skipped != null) continue;
            ApiMessageType api = trial.of.api();
            codes.computeIfAbsent(api, any -> new TreeSet<>()).addAll(trial.codes);
            Set<String> both = new TreeSet<>(trial.codes);
            both.retainAll(trial.ourCodes);
            both.removeIf(code -> code.startsWith("connection"));
            shown.computeIfAbsent(api, any -> new TreeMap<>()).computeIfAbsent((int) trial.version, any -> new TreeSet<>()).addAll(both);
            if (trial.of.number() < 0 && !trial.of.title().equals(Trial.GIVEN_UP)) continue;
            cases.computeIfAbsent(api, any -> new TreeMap<>()).merge((int) trial.version, 1, Integer::sum);
        }
    }

    private int count(ApiMessageType api, int version) {
        return cases.getOrDefault(api, Map.of()).getOrDefault(version, 0);
    }

    /** Versions that are advertised, in which nothing was compared. */
    List<String> empty() {
        List<String> empty = new ArrayList<>();
        ours.serves.forEach((api, versions) -> {
            for (int version = versions.first(); version <= versions.last(); version++) {
                if (count(api, version) == 0) empty.add(Messages.name(api) + " version " + version);
            }
        });
        return empty;
    }

    /** The codes with which both have answered in a version. */
    Set<String> shown(ApiMessageType api, int version) {
        return shown.getOrDefault(api, Map.of()).getOrDefault(version, Set.of());
    }

    int cells() {
        return cases.values().stream().mapToInt(Map::size).sum();
    }

    String page() {
        StringBuilder page = new StringBuilder("""
                # Kafka APIs, compared with Apache Kafka

                Each request of a case goes to this cloud and to Apache Kafka 4.3.1 (one node), in every version that is advertised here, and
                the answers are compared field by field: `tests/run --full kafka_differential`. The cases are in
                [tests/differential/cases](../../tests/differential/cases). This page is generated from what was compared, and the test fails
                where it is not what was.

                Not compared: ids and generations that a broker gives, ports, the times at which something came, the words of an error
                message (but that there are some), and the order of lists.

                ## Versions

                So many cases were compared in each version. A dot is a version that is not served here.

                """);
        int last = ours.serves.values().stream().mapToInt(Broker.Versions::last).max().orElse(0);
        page.append("| API |");
        for (int version = 0; version <= last; version++) page.append(' ').append(version).append(" |");
        page.append("\n|---|").append("---|".repeat(last + 1)).append('\n');
        ours.serves.forEach((api, versions) -> {
            page.append("| ").append(Messages.name(api)).append(" |");
            for (int version = 0; version <= last; version++) {
                page.append(' ').append(versions.has(version) ? String.valueOf(count(api, version)) : "·").append(" |");
            }
            page.append('\n');
        });
        page.append("\n## Answers\n\nWhat Apache Kafka answered to what was asked, and so did this cloud, but for the differences below. Each API was also asked\n"
                + "in a version that there is not, with a request that ends too early, and before it was known who asks, where that has to be known.\n"
                + "Which codes each API has to have shown, in which versions, is in\n[tests/differential/errors.yaml](../../tests/differential/errors.yaml): the test fails where one was not seen.\n\n| API | answers |\n|---|---|\n");
        for (ApiMessageType api : ours.serves.keySet()) {
            String all = codes.getOrDefault(api, Set.of()).stream()
                    .map(code -> code.contains(" ") ? code : "`" + code + "`").collect(Collectors.joining(", "));
            page.append("| ").append(Messages.name(api)).append(" | ").append(all).append(" |\n");
        }
        page.append(wanted.page());
        page.append("\n## Differences\n\nThese are meant, and there are no others in what was compared. `*` stands for anything.\n\n| API | field | why |\n|---|---|---|\n");
        for (Justified.Entry entry : justified.entries) {
            String apis = String.join(", ", entry.apis());
            page.append("| ").append(apis.equals("*") ? "all" : apis).append(" | ").append(entry.where()).append(" | ").append(entry.reason()).append(" |\n");
        }
        return page.toString();
    }
}
