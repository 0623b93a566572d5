import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.JsonNodeFactory;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.Iterator;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.TimeUnit;
import org.apache.kafka.common.message.ApiMessageType;
import org.apache.kafka.common.security.scram.internals.ScramFormatter;
import org.apache.kafka.common.security.scram.internals.ScramMechanism;

/** `people.yaml`: users with their passwords, and the rules that say what each may not do; made alike at both brokers. */
final class People {
    private static final JsonNodeFactory JSON = JsonNodeFactory.instance;
    private static final String SALT = "one-salt-at-both";
    private static final int ITERATIONS = 4_096;
    private static final String KNOWN_BY = ScramMechanism.SCRAM_SHA_512.mechanismName();
    /** Until a broker of Apache Kafka's has heard of what its controller has done. */
    private static final long THERE_WITHIN_NS = TimeUnit.SECONDS.toNanos(20);

    private final Map<String, String> passwords = new TreeMap<>();
    private final ArrayNode rules;

    People(Path file) throws IOException {
        JsonNode read = Yaml.read(file);
        for (Iterator<Map.Entry<String, JsonNode>> all = read.get("users").fields(); all.hasNext(); ) {
            Map.Entry<String, JsonNode> one = all.next();
            passwords.put(one.getKey(), one.getValue().asText());
        }
        rules = (ArrayNode) read.get("rules");
    }

    /** Returns once everybody can say who they are, and the rules hold. */
    void settle(Broker broker) throws Exception {
        try (Connection connection = new Connection(broker.address)) {
            for (ScramMechanism mechanism : ScramMechanism.values()) {
                // Apache Kafka takes one password of a user in a request.
                ObjectNode alter = JSON.objectNode();
                alter.putArray("deletions");
                ArrayNode users = alter.putArray("upsertions");
                for (Map.Entry<String, String> user : passwords.entrySet()) users.add(credential(mechanism, user));
                done(broker, connection.ask(ApiMessageType.ALTER_USER_SCRAM_CREDENTIALS, (short) 0, alter));
            }
            ObjectNode create = JSON.objectNode();
            create.set("creations", rules);
            done(broker, connection.ask(ApiMessageType.CREATE_ACLS, (short) 3, create));
        }
        long deadline = System.nanoTime() + THERE_WITHIN_NS;
        while (!isSettled(broker)) {
            if (System.nanoTime() > deadline) throw new IOException(broker.name + " does not know its users");
            Thread.sleep(Broker.LOOK_EVERY_MS);
        }
    }

    private boolean isSettled(Broker broker) throws IOException {
        ObjectNode all = JSON.objectNode().put("resourceTypeFilter", 1).put("patternTypeFilter", 1).put("operation", 1)
                .put("permissionType", 1).putNull("resourceNameFilter").putNull("principalFilter").putNull("hostFilter");
        try (Connection connection = new Connection(broker.address)) {
            JsonNode shown = connection.ask(ApiMessageType.DESCRIBE_ACLS, (short) 3, all);
            int count = 0;
            for (JsonNode resource : shown.get("resources")) count += resource.get("acls").size();
            if (count < rules.size()) return false;
        }
        for (String user : passwords.keySet()) {
            try (Connection known = as(broker, user)) {
                if (known == null) return false;
            }
        }
        return true;
    }

    private static ObjectNode credential(ScramMechanism mechanism, Map.Entry<String, String> user) throws IOException {
        byte[] salt = SALT.getBytes(StandardCharsets.UTF_8);
        byte[] salted;
        try {
            salted = new ScramFormatter(mechanism).saltedPassword(user.getValue(), salt, ITERATIONS);
        } catch (java.security.GeneralSecurityException error) {
            throw new IOException(error);
        }
        return JSON.objectNode().put("name", user.getKey()).put("mechanism", mechanism.type()).put("iterations", ITERATIONS)
                .put("salt", salt).put("saltedPassword", salted);
    }

    private static void done(Broker broker, JsonNode answer) throws IOException {
        for (JsonNode code : answer.findValues("errorCode")) {
            if (code.asInt() != 0) throw new IOException(broker.name + " answers " + answer);
        }
    }

    /** A connection of somebody whom the broker knows; null where it does not yet. */
    Connection as(Broker broker, String user) throws IOException {
        String password = passwords.get(user);
        if (password == null) throw new IllegalArgumentException("nobody is called " + user + ": " + passwords.keySet());
        Connection connection = new Connection(broker.door);
        Exchange exchange = new Exchange(KNOWN_BY, user, password);
        ObjectNode handshake = JSON.objectNode().put("mechanism", KNOWN_BY);
        done(broker, connection.ask(ApiMessageType.SASL_HANDSHAKE, (short) 1, handshake));
        while (!exchange.isOver()) {
            ObjectNode token = JSON.objectNode().put("authBytes", exchange.token());
            ObjectNode answer = connection.ask(ApiMessageType.SASL_AUTHENTICATE, (short) 2, token);
            if (answer.path("errorCode").asInt(-1) != 0) {
                connection.close();
                return null;
            }
            exchange.hear(answer.get("authBytes").binaryValue());
        }
        return connection;
    }
}
