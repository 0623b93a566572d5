import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import org.apache.kafka.common.message.ApiMessageType;

/**
 * Asks this cloud and Apache Kafka the same, and compares the answers field by field:
 * {@code Differential OURS DOOR KAFKA DOOR FOLDER PAGE [--write] [--only TEXT]}. A DOOR is the address at which SASL is spoken.
 * FOLDER has `cases`, `people.yaml`, `errors.yaml` and `differences.yaml`; PAGE is the documentation's, which is written or must
 * be what it would be. Ends with 1 where something differs, or where an error that `errors.yaml` has was not seen.
 */
public final class Differential {
    /** Most of what takes long waits for a group's members. */
    private static final int AT_ONCE = 24;

    private Differential() {}

    public static void main(String[] arguments) throws Exception {
        List<String> words = List.of(arguments);
        Broker ours = new Broker("ours", words.get(0), words.get(1)), kafka = new Broker("kafka", words.get(2), words.get(3));
        Path folder = Path.of(words.get(4)), page = Path.of(words.get(5));
        String only = words.contains("--only") ? words.get(words.indexOf("--only") + 1) : "";
        Justified justified = new Justified(folder.resolve("differences.yaml"));
        List<Case> cases = Case.read(folder.resolve("cases"));
        Wanted wanted = new Wanted(folder.resolve("errors.yaml"));
        People people = new People(folder.resolve("people.yaml"));
        for (Broker one : List.of(ours, kafka)) {
            one.warm();
            people.settle(one);
        }

        List<Trial> trials = trials(cases, ours, kafka, people, justified, only);
        List<String> problems = new ArrayList<>(report(trials));
        if (only.isEmpty()) {
            Coverage coverage = new Coverage(ours, trials, justified, wanted);
            problems.addAll(wanted.missing(ours, coverage));
            coverage.empty().forEach(cell -> problems.add("nothing was compared: " + cell + " (it wants a case in " + folder + "/cases)"));
            for (Justified.Entry entry : justified.entries) {
                if (!entry.occurred().get()) problems.add("does not occur any more: " + entry.where() + ": " + entry.reason());
            }
            if (words.contains("--write")) Files.writeString(page, coverage.page());
            else if (!Files.exists(page) || !Files.readString(page).equals(coverage.page())) {
                problems.add(page + " is not what was compared: TIDEGATE_TEST_WRITE=1 tests/run --full kafka_differential writes it");
            }
            System.out.println(cases.size() + " cases, " + trials.size() + " comparisons in " + coverage.cells() + " cells, "
                    + justified.entries.size() + " differences justified");
        }
        problems.forEach(problem -> System.out.println("FAILED: " + problem));
        System.exit(problems.isEmpty() ? 0 : 1);
    }

    private static List<Trial> trials(List<Case> cases, Broker ours, Broker kafka, People people, Justified justified,
            String only) throws Exception {
        ExecutorService pool = Executors.newFixedThreadPool(AT_ONCE);
        List<Future<List<Trial>>> running = new ArrayList<>();
        for (Case one : cases) {
            Broker.Versions served = ours.serves.get(one.api()), there = kafka.serves.get(one.api());
            if (!(Messages.name(one.api()) + ": " + one.title()).contains(only)) continue;
            if (served == null || there == null) {
                String who = served == null ? "ours" : "kafka";
                System.out.println("not asked, " + who + " does not serve it: " + Messages.name(one.api()) + ": " + one.title());
                continue;
            }
            int first = Math.max(served.first(), one.api().lowestSupportedVersion());
            for (int version = first; version <= served.last(); version++) {
                if (!one.versions().has(version) || !there.has(version)) continue;
                Trial trial = new Trial(one, (short) version, justified);
                running.add(pool.submit(() -> {
                    trial.run(ours, kafka, people);
                    return List.of(trial);
                }));
            }
        }
        for (ApiMessageType type : only.isEmpty() ? ours.serves.keySet() : List.<ApiMessageType>of()) {
            if (!kafka.serves.containsKey(type)) throw new IllegalStateException("Apache Kafka has no " + Messages.name(type));
            running.add(pool.submit(() -> Trial.strange(type, ours, kafka, justified)));
        }
        List<Trial> trials = new ArrayList<>();
        for (Future<List<Trial>> one : running) trials.addAll(one.get());
        pool.shutdown();
        return trials;
    }

    /** What is wrong, once for all versions in which it is. */
    private static List<String> report(List<Trial> trials) {
        Map<String, List<Short>> versions = new LinkedHashMap<>();
        Map<String, String> skipped = new TreeMap<>();
        for (Trial trial : trials) {
            String name = Messages.name(trial.of.api()) + ": " + trial.of.title();
            if (trial.skipped != null) skipped.put(name, trial.skipped);
            for (String problem : trial.problems) {
                versions.computeIfAbsent(name + ": " + problem, any -> new ArrayList<>()).add(trial.version);
            }
        }
        skipped.forEach((name, why) -> System.out.println("not asked, " + why + ": " + name));
        return versions.entrySet().stream().map(one -> one.getKey() + " (versions " + one.getValue() + ")").toList();
    }
}
