import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;

/** Kafka's Java clients as a program of tests/interop/kafka; the contract stands in ../README.md. */
final class Scenarios {
    private interface Scenario {
        void run(Kit kit) throws Exception;
    }

    private static final Map<String, Scenario> SCENARIOS = Map.of(
            "roundtrip", Roundtrip::run,
            "group", Group::run,
            "admin", Administration::run,
            "seek", Seek::run,
            "doors", Door::run,
            "killed", Killed::run);

    private Scenarios() {}

    public static void main(String[] arguments) {
        Map<String, String> given = new HashMap<>();
        List<Door> doors = new ArrayList<>();
        for (int at = 0; at + 1 < arguments.length; at += 2) {
            if (arguments[at].equals("--door")) doors.add(new Door(arguments[at + 1]));
            else given.put(arguments[at], arguments[at + 1]);
        }
        var at = Map.of("bootstrap.servers", given.getOrDefault("--bootstrap", ""));
        Kit kit = new Kit(at, given.get("--name"), doors);
        for (String scenario : given.get("--scenario").split(",")) {
            try {
                SCENARIOS.get(scenario).run(kit);
            } catch (Exception error) {
                String reason = error.toString().replace("\\", "\\\\").replace("\"", "'").replace("\n", " ");
                say("{\"scenario\": \"" + scenario + "\", \"error\": \"" + reason + "\"}");
                error.printStackTrace();
                System.exit(1);
            }
            say("{\"scenario\": \"" + scenario + "\", \"passed\": true}");
        }
        System.exit(0);
    }

    static void say(String line) {
        System.out.println(line);
        System.out.flush();
    }
}
