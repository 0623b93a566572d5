import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import org.eclipse.paho.client.mqttv3.IMqttDeliveryToken;
import org.eclipse.paho.client.mqttv3.IMqttToken;
import org.eclipse.paho.client.mqttv3.MqttAsyncClient;
import org.eclipse.paho.client.mqttv3.MqttCallback;
import org.eclipse.paho.client.mqttv3.MqttConnectOptions;
import org.eclipse.paho.client.mqttv3.MqttMessage;
import org.eclipse.paho.client.mqttv3.persist.MemoryPersistence;

/** Paho's client for MQTT 3.1.1 as a program of tests/interop; the contract stands in ../README.md. */
final class Mqttv3 extends Client {
    private final Scenarios.Options options;
    private final MqttAsyncClient client;

    private Mqttv3(Scenarios.Options options, String id) throws Exception {
        this.options = options;
        client = new MqttAsyncClient(paho(options.url()), id, new MemoryPersistence());
        client.setCallback(new MqttCallback() {
            @Override
            public void connectionLost(Throwable cause) {}

            @Override
            public void messageArrived(String topic, MqttMessage message) {
                String payload = new String(message.getPayload(), StandardCharsets.UTF_8);
                messages.add(new Message(topic, payload, message.isRetained(), null, null));
            }

            @Override
            public void deliveryComplete(IMqttDeliveryToken token) {}
        });
    }

    public static void main(String[] arguments) throws Exception {
        Scenarios.main(arguments, Mqttv3::new);
    }

    @Override
    boolean connect(boolean clean, String willTopic, String will) throws Exception {
        MqttConnectOptions how = new MqttConnectOptions();
        how.setMqttVersion(MqttConnectOptions.MQTT_VERSION_3_1_1);
        how.setCleanSession(clean);
        how.setMaxInflight(Scenarios.IN_FLIGHT_MAX);
        if (isSecure(options.url())) how.setSocketFactory(trusting(options.ca()));
        if (will != null) how.setWill(willTopic, will.getBytes(StandardCharsets.UTF_8), 1, false);
        IMqttToken token = client.connect(how);
        token.waitForCompletion(WITHIN_MS);
        return token.getSessionPresent();
    }

    @Override
    void subscribe(String filter, int qos) throws Exception {
        IMqttToken token = client.subscribe(filter, qos);
        token.waitForCompletion(WITHIN_MS);
        if (token.getGrantedQos()[0] >= 0x80) throw new IllegalStateException("SUBACK refuses " + filter);
    }

    @Override
    void publish(List<Publish> publishes) throws Exception {
        List<IMqttToken> tokens = new ArrayList<>();
        for (Publish one : publishes) {
            byte[] payload = one.message().payload().getBytes(StandardCharsets.UTF_8);
            tokens.add(client.publish(one.message().topic(), payload, one.qos(), one.message().retain()));
        }
        for (IMqttToken token : tokens) token.waitForCompletion(WITHIN_MS);
    }

    @Override
    void disconnect() throws Exception {
        client.disconnect().waitForCompletion(WITHIN_MS);
    }
}
