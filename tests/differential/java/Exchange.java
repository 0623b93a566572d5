import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.util.Map;
import javax.security.auth.callback.Callback;
import javax.security.auth.callback.NameCallback;
import javax.security.auth.callback.PasswordCallback;
import javax.security.auth.callback.UnsupportedCallbackException;
import javax.security.sasl.Sasl;
import javax.security.sasl.SaslClient;
import javax.security.sasl.SaslException;
import org.apache.kafka.common.security.scram.internals.ScramSaslClientProvider;

/** A client's side of SASL, by the classes of Java and Apache Kafka: its tokens, and what those of a broker say. */
final class Exchange {
    static {
        ScramSaslClientProvider.initialize();
    }

    private final SaslClient client;
    private byte[] heard = new byte[0];
    private String nonce;

    Exchange(String mechanism, String user, String password) throws SaslException {
        client = Sasl.createSaslClient(new String[] {mechanism}, null, "kafka", "127.0.0.1", Map.of(), callbacks -> {
            for (Callback one : callbacks) {
                if (one instanceof NameCallback name) name.setName(user);
                else if (one instanceof PasswordCallback secret) secret.setPassword(password.toCharArray());
                else throw new UnsupportedCallbackException(one);
            }
        });
    }

    boolean isOver() {
        return client.isComplete();
    }

    /** What the client says next. */
    byte[] token() throws IOException {
        byte[] token = client.evaluateChallenge(heard);
        String text = new String(token, StandardCharsets.UTF_8);
        if (nonce == null && text.contains(",r=")) nonce = text.substring(text.indexOf(",r=") + 3);
        return token;
    }

    /** Takes a broker's token, and says what of it does not depend on chance. */
    String hear(byte[] token) {
        heard = token;
        String text = new String(token, StandardCharsets.UTF_8);
        if (text.startsWith("r=")) return first(text);
        if (!text.startsWith("v=")) return text;
        try {
            client.evaluateChallenge(token);
            return "v=<its proof>";
        } catch (SaslException wrong) {
            return "v=<no proof>";
        }
    }

    /** RFC 5802's server-first-message: the client's nonce and its own, salt, and iterations. */
    private String first(String text) {
        int comma = text.indexOf(',');
        String both = text.substring(2, comma);
        boolean isLonger = both.startsWith(nonce) && both.length() > nonce.length();
        return (isLonger ? "r=<the client's, and its own>" : "r=<another>") + text.substring(comma);
    }
}
