import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.node.JsonNodeFactory;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.DataInputStream;
import java.io.DataOutputStream;
import java.io.EOFException;
import java.io.IOException;
import java.net.InetSocketAddress;
import java.net.Socket;
import java.net.SocketException;
import java.net.SocketTimeoutException;
import java.nio.ByteBuffer;
import org.apache.kafka.common.message.ApiMessageType;

/** A connection to a broker, and what comes of requests on it: an answer, or the connection's end, or silence. */
final class Connection implements AutoCloseable {
    /** Nothing that is asked here takes longer on a slow, busy machine. */
    private static final int WITHIN_MS = 15_000;

    private final Socket socket = new Socket();
    private final DataInputStream in;
    private final DataOutputStream out;
    private int correlationId;
    /** What the answer that comes next is to. */
    private ApiMessageType asked;
    private short askedVersion;

    Connection(InetSocketAddress address) throws IOException {
        socket.setTcpNoDelay(true);
        socket.setSoTimeout(WITHIN_MS);
        socket.connect(address, WITHIN_MS);
        in = new DataInputStream(socket.getInputStream());
        out = new DataOutputStream(socket.getOutputStream());
    }

    ObjectNode ask(ApiMessageType type, short version, JsonNode request) throws IOException {
        send(type, version, Messages.request(type, version, ++correlationId, request));
        return take();
    }

    void send(ApiMessageType type, short version, JsonNode request) throws IOException {
        send(type, version, Messages.request(type, version, ++correlationId, request));
    }

    /** A request of these bytes; its header is version's. */
    ObjectNode askRaw(ApiMessageType type, short version, ByteBuffer request) throws IOException {
        ++correlationId;
        request.putInt(4, correlationId);
        send(type, version, request);
        return take();
    }

    /** A token with nothing but its length around it, and the one that answers it. */
    ObjectNode askToken(byte[] token) throws IOException {
        write(ByteBuffer.wrap(token));
        ByteBuffer answer = read();
        return answer == null ? closed() : JsonNodeFactory.instance.objectNode().put("authBytes", answer.array());
    }

    private void send(ApiMessageType type, short version, ByteBuffer request) throws IOException {
        asked = type;
        askedVersion = version;
        write(request);
    }

    private void write(ByteBuffer request) throws IOException {
        byte[] frame = new byte[4 + request.remaining()];
        ByteBuffer.wrap(frame).putInt(request.remaining()).put(request);
        try {
            out.write(frame);
        } catch (SocketException closed) {
            // The answer tells.
        }
    }

    ObjectNode take() throws IOException {
        ByteBuffer response = read();
        if (response == null) return closed();
        int id = response.getInt(0);
        if (id != correlationId) throw new IOException("the answer is to request " + id + ", not " + correlationId);
        // Who asks in a version of ApiVersions that is not known is answered in version 0 (KIP-511).
        boolean isNewer = asked == ApiMessageType.API_VERSIONS && response.getShort(4) == 35;
        return Messages.response(asked, isNewer ? 0 : askedVersion, response);
    }

    /** Asks something else behind a request that is not answered: then it is that which is answered. */
    ObjectNode silence() throws IOException {
        int silent = correlationId;
        send(ApiMessageType.API_VERSIONS, (short) 0, JsonNodeFactory.instance.objectNode());
        ByteBuffer response = read();
        if (response == null) return closed();
        boolean isSilent = response.getInt(0) != silent;
        return JsonNodeFactory.instance.objectNode().put("connection", isSilent ? "silent" : "answered");
    }

    private ByteBuffer read() throws IOException {
        try {
            byte[] response = new byte[in.readInt()];
            in.readFully(response);
            return ByteBuffer.wrap(response);
        } catch (EOFException | SocketException closed) {
            return null;
        } catch (SocketTimeoutException silent) {
            throw new IOException(socket.getRemoteSocketAddress() + " does not answer " + asked + " version " + askedVersion, silent);
        }
    }

    private static ObjectNode closed() {
        return JsonNodeFactory.instance.objectNode().put("connection", "closed");
    }

    @Override
    public void close() throws IOException {
        socket.close();
    }
}
