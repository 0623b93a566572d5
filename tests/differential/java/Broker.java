import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.node.JsonNodeFactory;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.IOException;
import java.net.InetSocketAddress;
import java.util.EnumMap;
import java.util.Map;
import java.util.concurrent.TimeUnit;
import org.apache.kafka.common.message.ApiMessageType;

/** One of the two that are compared, and what it says that it serves. */
final class Broker {
    private static final JsonNodeFactory JSON = JsonNodeFactory.instance;
    /** A broker that has just started gives itself coordinators within this, on a slow, busy machine. */
    private static final long WARM_WITHIN_NS = TimeUnit.SECONDS.toNanos(60);
    static final long LOOK_EVERY_MS = 20;

    /** First and last version. */
    record Versions(short first, short last) {
        boolean has(int version) {
            return first <= version && version <= last;
        }
    }

    final String name;
    /** Where nobody has to say who they are. */
    final InetSocketAddress address;
    /** Where everybody has to, by SASL. */
    final InetSocketAddress door;
    final Map<ApiMessageType, Versions> serves = new EnumMap<>(ApiMessageType.class);

    Broker(String name, String address, String door) throws IOException {
        this.name = name;
        this.address = at(address);
        this.door = at(door);
        try (Connection connection = new Connection(this.address)) {
            ObjectNode none = JSON.objectNode().put("clientSoftwareName", "differential").put("clientSoftwareVersion", "1");
            for (JsonNode api : connection.ask(ApiMessageType.API_VERSIONS, (short) 3, none).get("apiKeys")) {
                short first = (short) api.get("minVersion").asInt(), last = (short) api.get("maxVersion").asInt();
                if (first <= last) find(api.get("apiKey").asInt(), new Versions(first, last));
            }
        }
    }

    private static InetSocketAddress at(String address) {
        int colon = address.lastIndexOf(':');
        return new InetSocketAddress(address.substring(0, colon), Integer.parseInt(address.substring(colon + 1)));
    }

    /** Some are advertised that are gone, for the sake of old clients: they have no messages. */
    private void find(int key, Versions versions) {
        for (ApiMessageType type : ApiMessageType.values()) {
            if (type.apiKey() == key) serves.put(type, versions);
        }
    }

    /** Returns once it has the coordinators that it makes for who asks first. */
    void warm() throws Exception {
        ObjectNode group = JSON.objectNode();
        group.putArray("groups").addObject().put("groupId", "warm");
        until(ApiMessageType.OFFSET_FETCH, (short) 8, group, "/groups/0/errorCode");
        ObjectNode find = JSON.objectNode().put("keyType", 1);
        find.putArray("coordinatorKeys").add("warm");
        if (serves.containsKey(ApiMessageType.ADD_PARTITIONS_TO_TXN)) {
            until(ApiMessageType.FIND_COORDINATOR, (short) 4, find, "/coordinators/0/errorCode");
            ObjectNode transaction = JSON.objectNode().put("transactionalId", "warm").put("transactionTimeoutMs", 1_000);
            until(ApiMessageType.INIT_PRODUCER_ID, (short) 4, transaction, "/errorCode");
        }
        until(ApiMessageType.INIT_PRODUCER_ID, (short) 4, JSON.objectNode().putNull("transactionalId"), "/errorCode");
    }

    private void until(ApiMessageType type, short version, ObjectNode request, String code) throws Exception {
        long deadline = System.nanoTime() + WARM_WITHIN_NS;
        try (Connection connection = new Connection(address)) {
            ObjectNode find = JSON.objectNode().put("keyType", 0);
            find.putArray("coordinatorKeys").add("warm");
            connection.ask(ApiMessageType.FIND_COORDINATOR, (short) 4, find);
            JsonNode answer = connection.ask(type, version, request);
            while (answer.at(code).asInt(-1) != 0) {
                if (System.nanoTime() > deadline) throw new IOException(name + " is not ready: " + answer);
                Thread.sleep(LOOK_EVERY_MS);
                answer = connection.ask(type, version, request);
            }
        }
    }
}
