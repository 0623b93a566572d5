import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import org.eclipse.paho.mqttv5.client.IMqttToken;
import org.eclipse.paho.mqttv5.client.MqttAsyncClient;
import org.eclipse.paho.mqttv5.client.MqttCallback;
import org.eclipse.paho.mqttv5.client.MqttConnectionOptions;
import org.eclipse.paho.mqttv5.client.MqttDisconnectResponse;
import org.eclipse.paho.mqttv5.client.persist.MemoryPersistence;
import org.eclipse.paho.mqttv5.common.MqttException;
import org.eclipse.paho.mqttv5.common.MqttMessage;
import org.eclipse.paho.mqttv5.common.packet.MqttProperties;

/** Paho's client for MQTT 5 as a program of tests/interop; the contract stands in ../README.md. */
final class Mqttv5 extends Client {
    private final Scenarios.Options options;
    private final MqttAsyncClient client;

    private Mqttv5(Scenarios.Options options, String id) throws Exception {
        this.options = options;
        client = new MqttAsyncClient(paho(options.url()), id, new MemoryPersistence());
        client.setCallback(new MqttCallback() {
            @Override
            public void messageArrived(String topic, MqttMessage message) {
                MqttProperties properties = message.getProperties();
                byte[] correlation = properties.getCorrelationData();
                messages.add(new Message(
                        topic,
                        text(message.getPayload()),
                        message.isRetained(),
                        properties.getResponseTopic(),
                        correlation == null ? null : text(correlation)));
            }

            @Override
            public void disconnected(MqttDisconnectResponse response) {}

            @Override
            public void mqttErrorOccurred(MqttException exception) {}

            @Override
            public void deliveryComplete(IMqttToken token) {}

            @Override
            public void connectComplete(boolean reconnect, String uri) {}

            @Override
            public void authPacketArrived(int reason, MqttProperties properties) {}
        });
    }

    public static void main(String[] arguments) throws Exception {
        Scenarios.main(arguments, Mqttv5::new);
    }

    private static String text(byte[] bytes) {
        return new String(bytes, StandardCharsets.UTF_8);
    }

    @Override
    boolean connect(boolean clean, String willTopic, String will) throws Exception {
        MqttConnectionOptions how = new MqttConnectionOptions();
        how.setCleanStart(clean);
        how.setAutomaticReconnect(false);
        how.setReceiveMaximum(Scenarios.IN_FLIGHT_MAX);
        if (!clean) how.setSessionExpiryInterval(SESSION_EXPIRY_S);
        if (isSecure(options.url())) how.setSocketFactory(trusting(options.ca()));
        if (will != null) {
            MqttMessage message = new MqttMessage(will.getBytes(StandardCharsets.UTF_8));
            message.setQos(1);
            how.setWill(willTopic, message);
        }
        IMqttToken token = client.connect(how);
        token.waitForCompletion(WITHIN_MS);
        return token.getSessionPresent();
    }

    @Override
    void subscribe(String filter, int qos) throws Exception {
        IMqttToken token = client.subscribe(filter, qos);
        token.waitForCompletion(WITHIN_MS);
        if (token.getReasonCodes()[0] >= 0x80) throw new IllegalStateException("SUBACK refuses " + filter);
    }

    @Override
    void publish(List<Publish> publishes) throws Exception {
        List<IMqttToken> tokens = new ArrayList<>();
        for (Publish one : publishes) {
            Message message = one.message();
            MqttMessage sent = new MqttMessage(message.payload().getBytes(StandardCharsets.UTF_8));
            sent.setQos(one.qos());
            sent.setRetained(message.retain());
            MqttProperties properties = new MqttProperties();
            if (message.responseTopic() != null) properties.setResponseTopic(message.responseTopic());
            if (message.correlation() != null) {
                properties.setCorrelationData(message.correlation().getBytes(StandardCharsets.UTF_8));
            }
            sent.setProperties(properties);
            tokens.add(client.publish(message.topic(), sent));
        }
        for (IMqttToken token : tokens) token.waitForCompletion(WITHIN_MS);
    }

    @Override
    void disconnect() throws Exception {
        client.disconnect().waitForCompletion(WITHIN_MS);
    }
}
