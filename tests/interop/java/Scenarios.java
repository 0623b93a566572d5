import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.util.ArrayList;
import java.util.Collections;
import java.util.HashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.Set;
import java.util.concurrent.TimeUnit;
import java.util.logging.LogManager;

/** What each client of tests/interop does; ../README.md says when it holds. */
final class Scenarios {
    static final int MESSAGES = 20;
    static final int LARGE_BYTES = 100_000;
    /** More than any scenario publishes at once. */
    static final int IN_FLIGHT_MAX = 200;
    private static final int SHOWN_MAX = 300;

    record Options(String url, String ca, String name) {}

    interface Maker {
        Client make(Options options, String id) throws Exception;
    }

    private final Options options;
    private final Maker maker;

    private Scenarios(Options options, Maker maker) {
        this.options = options;
        this.maker = maker;
    }

    static void main(String[] arguments, Maker maker) throws Exception {
        // Paho tells each packet.
        LogManager.getLogManager().reset();
        Map<String, String> given = new HashMap<>();
        for (int at = 0; at + 1 < arguments.length; at += 2) given.put(arguments[at], arguments[at + 1]);
        Options options = new Options(given.get("--url"), given.get("--ca"), given.get("--name"));
        if (given.containsKey("--dying")) {
            maker.make(options, options.name() + "-will-dying").connect(true, given.get("--dying"), "gone");
            System.out.println("connected");
            return;
        }
        for (String scenario : given.get("--scenario").split(",")) {
            try {
                new Scenarios(options, maker).run(scenario);
            } catch (Exception error) {
                String reason = error.toString().replace("\\", "\\\\").replace("\"", "'").replace("\n", " ");
                System.out.println("{\"scenario\": \"" + scenario + "\", \"error\": \"" + reason + "\"}");
                // Paho's threads would live on.
                System.exit(1);
            }
            System.out.println("{\"scenario\": \"" + scenario + "\", \"passed\": true}");
        }
        System.exit(0);
    }

    private void run(String scenario) throws Exception {
        switch (scenario) {
            case "qos" -> qos();
            case "retained" -> retained();
            case "will" -> will();
            case "shared" -> shared();
            case "request_response" -> requestResponse();
            case "session" -> session();
            default -> throw new IllegalArgumentException("there is no such scenario");
        }
    }

    private Client make(String role) throws Exception {
        return maker.make(options, options.name() + "-" + role);
    }

    private Client connect(String role) throws Exception {
        Client client = make(role);
        client.connect(true, null, null);
        return client;
    }

    private static String payload(int qos, int number) {
        return qos + ":" + number + ":" + "x".repeat(number == MESSAGES - 1 ? LARGE_BYTES : number * 37);
    }

    private static List<String> payloads(int qos) {
        List<String> all = new ArrayList<>();
        for (int number = 0; number < MESSAGES; number++) all.add(payload(qos, number));
        return all;
    }

    private static Client.Publish plain(String topic, String payload, int qos) {
        return new Client.Publish(new Client.Message(topic, payload, false, null, null), qos);
    }

    private static Client.Publish kept(String topic, String payload) {
        return new Client.Publish(new Client.Message(topic, payload, true, null, null), 1);
    }

    private static void expect(String what, Object got, Object wanted) {
        if (Objects.equals(got, wanted)) return;
        throw new IllegalStateException(what + ": " + shown(got) + ", not " + shown(wanted));
    }

    private static String shown(Object value) {
        String text = String.valueOf(value);
        return text.substring(0, Math.min(SHOWN_MAX, text.length()));
    }

    /** What comes before the message on a topic, by topic. */
    private static Map<String, List<String>> untilEnd(Client client, String topic) throws Exception {
        Map<String, List<String>> got = new HashMap<>();
        while (true) {
            Client.Message message = client.take();
            if (message.topic().equals(topic)) return got;
            got.computeIfAbsent(message.topic(), any -> new ArrayList<>()).add(message.payload());
        }
    }

    private void qos() throws Exception {
        String topic = options.name() + "/qos/";
        Client subscriber = connect("qos-subscriber");
        subscriber.subscribe(topic + "#", 2);
        Client publisher = connect("qos-publisher");
        List<Client.Publish> all = new ArrayList<>();
        for (int qos = 0; qos < 3; qos++) {
            for (String one : payloads(qos)) all.add(plain(topic + qos, one, qos));
        }
        publisher.publish(all);
        publisher.publish(List.of(plain(topic + "end", "end", 2)));
        Map<String, List<String>> got = untilEnd(subscriber, topic + "end");
        for (int qos = 0; qos < 3; qos++) expect("QoS " + qos, got.get(topic + qos), payloads(qos));
        publisher.disconnect();
        subscriber.disconnect();
    }

    private void retained() throws Exception {
        String folder = options.name() + "/retained/";
        Client publisher = connect("retained-publisher");
        publisher.publish(List.of(kept(folder + "kept", "kept"), kept(folder + "cleared", "cleared")));
        Client early = connect("retained-early");
        early.subscribe(folder + "#", 1);
        Client.Message kept = new Client.Message(folder + "kept", "kept", true, null, null);
        Client.Message cleared = new Client.Message(folder + "cleared", "cleared", true, null, null);
        expect("on SUBSCRIBE", Set.of(early.take(), early.take()), Set.of(kept, cleared));
        publisher.publish(List.of(kept(folder + "cleared", "")));
        Client late = connect("retained-late");
        late.subscribe(folder + "#", 1);
        publisher.publish(List.of(plain(folder + "cleared", "live", 1)));
        Client.Message live = new Client.Message(folder + "cleared", "live", false, null, null);
        expect("after it was cleared", Set.of(late.take(), late.take()), Set.of(kept, live));
        publisher.publish(List.of(kept(folder + "kept", "")));
        for (Client client : List.of(publisher, early, late)) client.disconnect();
    }

    private void will() throws Exception {
        String topic = options.name() + "/will";
        Client watcher = connect("will-watcher");
        watcher.subscribe(topic, 1);
        Client polite = make("will-polite");
        polite.connect(true, topic, "polite");
        polite.disconnect();
        Process dying = dying(topic);
        dying.destroyForcibly().waitFor();
        expect("the will", watcher.take().payload(), "gone");
        watcher.disconnect();
    }

    /**
     * A process of its own that is connected, with a will: over TLS, the client for MQTT 5 keeps its socket open even
     * when it is told to disconnect by force.
     */
    private Process dying(String topic) throws Exception {
        List<String> command = new ArrayList<>(List.of("java", "-XX:TieredStopAtLevel=1", "-cp"));
        command.add(System.getProperty("java.class.path"));
        command.add(System.getProperty("sun.java.command").split(" ")[0]);
        command.addAll(List.of("--dying", topic, "--url", options.url(), "--name", options.name()));
        if (options.ca() != null) command.addAll(List.of("--ca", options.ca()));
        Process process = new ProcessBuilder(command).redirectError(ProcessBuilder.Redirect.INHERIT).start();
        String line = new BufferedReader(new InputStreamReader(process.getInputStream())).readLine();
        if (!"connected".equals(line)) throw new IllegalStateException("the client that is to die: " + line);
        return process;
    }

    private void shared() throws Exception {
        String topic = options.name() + "/shared";
        List<Client> members = List.of(connect("shared-1"), connect("shared-2"));
        for (Client member : members) member.subscribe("$share/group/" + topic, 1);
        Client publisher = connect("shared-publisher");
        List<String> wanted = new ArrayList<>(payloads(1));
        wanted.addAll(List.of("end", "end"));
        for (String one : wanted) publisher.publish(List.of(plain(topic, one, 1)));
        List<String> got = new ArrayList<>();
        int[] counts = new int[2];
        long deadline = System.nanoTime() + Client.WITHIN_MS * 1_000_000;
        while (got.size() < wanted.size() && System.nanoTime() < deadline) {
            for (int at = 0; at < 2; at++) {
                var message = members.get(at).messages.poll(20, TimeUnit.MILLISECONDS);
                if (message == null) continue;
                got.add(message.payload());
                counts[at]++;
            }
        }
        Collections.sort(got);
        Collections.sort(wanted);
        expect("all, once", got, wanted);
        if (counts[0] == 0 || counts[1] == 0) throw new IllegalStateException("one member got everything");
        for (Client member : members) member.disconnect();
        publisher.disconnect();
    }

    private void requestResponse() throws Exception {
        String request = options.name() + "/request", response = options.name() + "/response/requester";
        Client responder = connect("responder");
        responder.subscribe(request, 1);
        Client requester = connect("requester");
        requester.subscribe(response, 1);
        Client.Message question = new Client.Message(request, "how warm?", false, response, "no-17");
        requester.publish(List.of(new Client.Publish(question, 1)));
        Client.Message asked = responder.take();
        expect("the request", asked, question);
        Client.Message answer = new Client.Message(asked.responseTopic(), "21.5", false, null, asked.correlation());
        responder.publish(List.of(new Client.Publish(answer, 1)));
        expect("the response", requester.take(), answer);
        requester.disconnect();
        responder.disconnect();
    }

    private void session() throws Exception {
        String topic = options.name() + "/session/";
        Client away = make("session-away");
        away.connect(false, null, null);
        away.subscribe(topic + "#", 2);
        away.disconnect();
        Client before = connect("session-before");
        List<Client.Publish> all = new ArrayList<>();
        for (int number = 0; number < MESSAGES; number++) {
            for (int qos = 1; qos <= 2; qos++) all.add(plain(topic + qos, payload(qos, number), qos));
        }
        before.publish(all);
        before.disconnect();
        System.out.println("{\"waiting\": \"restart\"}");
        new BufferedReader(new InputStreamReader(System.in)).readLine();
        if (!away.connect(false, null, null)) throw new IllegalStateException("the session is gone");
        Client after = connect("session-after");
        after.publish(List.of(plain(topic + "end", "end", 2)));
        Map<String, List<String>> got = untilEnd(away, topic + "end");
        List<String> once = new ArrayList<>(new LinkedHashSet<>(got.getOrDefault(topic + "1", List.of())));
        expect("QoS 1, at least once", once, payloads(1));
        expect("QoS 2, once", got.get(topic + "2"), payloads(2));
        after.disconnect();
        away.disconnect();
    }
}
