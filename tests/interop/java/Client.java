import java.io.FileInputStream;
import java.net.URI;
import java.security.KeyStore;
import java.security.cert.CertificateFactory;
import java.util.List;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import javax.net.ssl.SSLContext;
import javax.net.ssl.SSLSocketFactory;
import javax.net.ssl.TrustManagerFactory;

/** What the scenarios ask of either of Paho's Java clients. */
abstract class Client {
    /** Nothing here takes longer than this on a slow, busy machine. */
    static final long WITHIN_MS = 20_000;
    static final long SESSION_EXPIRY_S = 3600;

    record Message(String topic, String payload, boolean retain, String responseTopic, String correlation) {}

    record Publish(Message message, int qos) {}

    final LinkedBlockingQueue<Message> messages = new LinkedBlockingQueue<>();

    /** Whether the broker has a session for it. */
    abstract boolean connect(boolean clean, String willTopic, String will) throws Exception;

    abstract void subscribe(String filter, int qos) throws Exception;

    /** Publishes all, and then waits for the acknowledgements. */
    abstract void publish(List<Publish> publishes) throws Exception;

    abstract void disconnect() throws Exception;

    Message take() throws Exception {
        Message message = messages.poll(WITHIN_MS, TimeUnit.MILLISECONDS);
        if (message == null) throw new TimeoutException("no message");
        return message;
    }

    /** Paho's names for the transports. */
    static String paho(String url) {
        return url.replaceFirst("^mqtt:", "tcp:").replaceFirst("^mqtts:", "ssl:");
    }

    static boolean isSecure(String url) {
        return List.of("mqtts", "wss").contains(URI.create(url).getScheme());
    }

    static SSLSocketFactory trusting(String ca) throws Exception {
        KeyStore store = KeyStore.getInstance(KeyStore.getDefaultType());
        store.load(null);
        try (FileInputStream pem = new FileInputStream(ca)) {
            store.setCertificateEntry("ca", CertificateFactory.getInstance("X.509").generateCertificate(pem));
        }
        TrustManagerFactory trust = TrustManagerFactory.getInstance(TrustManagerFactory.getDefaultAlgorithm());
        trust.init(store);
        SSLContext context = SSLContext.getInstance("TLS");
        context.init(null, trust.getTrustManagers(), null);
        return context.getSocketFactory();
    }
}
