import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.JsonNodeFactory;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Method;
import java.lang.reflect.ParameterizedType;
import java.lang.reflect.Type;
import java.nio.ByteBuffer;
import java.util.Iterator;
import java.util.Map;
import org.apache.kafka.common.errors.UnsupportedVersionException;
import org.apache.kafka.common.message.ApiMessageType;
import org.apache.kafka.common.message.FetchResponseData;
import org.apache.kafka.common.message.RequestHeaderData;
import org.apache.kafka.common.message.ResponseHeaderData;
import org.apache.kafka.common.protocol.ApiKeys;
import org.apache.kafka.common.protocol.ApiMessage;
import org.apache.kafka.common.protocol.ByteBufferAccessor;
import org.apache.kafka.common.protocol.Message;
import org.apache.kafka.common.protocol.ObjectSerializationCache;
import org.apache.kafka.common.protocol.types.BoundField;
import org.apache.kafka.common.protocol.types.Field;
import org.apache.kafka.common.protocol.types.Schema;
import org.apache.kafka.common.protocol.types.TaggedFields;

/**
 * Requests from JSON, and responses as JSON, by the classes that Apache Kafka generates from its protocol. A request
 * names only what it is about: all else has the protocol's default, and what a version does not have is left out.
 */
final class Messages {
    static final String CLIENT_ID = "differential";

    private Messages() {}

    static ApiMessageType api(String name) {
        for (ApiMessageType type : ApiMessageType.values()) {
            if (name(type).equals(name)) return type;
        }
        throw new IllegalArgumentException("there is no API " + name);
    }

    static String name(ApiMessageType type) {
        return ApiKeys.forId(type.apiKey()).name;
    }

    /** The whole request without its length: header and body. */
    static ByteBuffer request(ApiMessageType type, short version, int correlationId, JsonNode asked) {
        Class<?> body = type.newRequest().getClass();
        JsonNode whole = fill(body, version, asked);
        ApiMessage message;
        try {
            message = (ApiMessage) call(converter(body), "read", whole, version);
        } catch (RuntimeException error) {
            throw new IllegalArgumentException(name(type) + " version " + version + ": " + whole, error);
        }
        return bytes(type, version, correlationId, message);
    }

    /**
     * The same in a version that was given up: Produce had no transactional id before version 3, and else was the same.
     */
    static ByteBuffer oldProduce(short version, JsonNode asked) {
        ByteBuffer next = request(ApiMessageType.PRODUCE, (short) 3, 1, asked);
        int header = 8 + 2 + CLIENT_ID.length();
        ByteBuffer old = ByteBuffer.allocate(next.limit() - 2);
        old.put(next.slice(0, header)).put(next.slice(header + 2, next.limit() - header - 2));
        return old.putShort(2, version).flip();
    }

    /** The same with nothing behind the header. */
    static ByteBuffer header(ApiMessageType type, short version, int correlationId) {
        return bytes(type, version, correlationId, null);
    }

    private static ByteBuffer bytes(ApiMessageType type, short version, int correlationId, ApiMessage body) {
        RequestHeaderData header = new RequestHeaderData()
                .setRequestApiKey(type.apiKey())
                .setRequestApiVersion(version)
                .setCorrelationId(correlationId)
                .setClientId(CLIENT_ID);
        short headerVersion = type.requestHeaderVersion(version);
        ObjectSerializationCache cache = new ObjectSerializationCache();
        int size = header.size(cache, headerVersion) + (body == null ? 0 : body.size(cache, version));
        ByteBufferAccessor out = new ByteBufferAccessor(ByteBuffer.allocate(size));
        header.write(out, cache, headerVersion);
        if (body != null) body.write(out, cache, version);
        out.flip();
        return out.buffer();
    }

    /** A response without its length. What is behind its end is shown, too: there must be nothing. */
    static ObjectNode response(ApiMessageType type, short version, ByteBuffer bytes) {
        ByteBufferAccessor in = new ByteBufferAccessor(bytes);
        new ResponseHeaderData().read(in, type.responseHeaderVersion(version));
        ApiMessage message = type.newResponse();
        if (version < message.lowestSupportedVersion()) {
            return JsonNodeFactory.instance.objectNode().put("connection", "answered in " + bytes.remaining() + " bytes");
        }
        message.read(in, version);
        ObjectNode json = (ObjectNode) call(converter(message.getClass()), "write", message, version, true);
        if (message instanceof FetchResponseData fetched) Batches.show(fetched, json);
        if (bytes.hasRemaining()) json.put("bytesBehindTheEnd", bytes.remaining());
        return json;
    }

    private static JsonNode fill(Class<?> message, short version, JsonNode asked) {
        ObjectNode whole = (ObjectNode) call(converter(message), "write", create(message), version, true);
        for (Iterator<Map.Entry<String, JsonNode>> fields = asked.fields(); fields.hasNext(); ) {
            Map.Entry<String, JsonNode> field = fields.next();
            Method getter = getter(message, field.getKey());
            if (!whole.has(field.getKey()) && !isTagged(message, version, field.getKey())) continue;
            try {
                whole.set(field.getKey(), value(element(getter.getGenericReturnType()), version, field.getValue()));
            } catch (UnsupportedVersionException absent) {
                // A structure that the version does not have.
            }
        }
        return whole;
    }

    /** Whether a version has it among the tagged fields, which are not written while they have their default. */
    private static boolean isTagged(Class<?> message, short version, String field) {
        try {
            Schema schema = ((Schema[]) message.getField("SCHEMAS").get(null))[version];
            for (BoundField one : schema.fields()) {
                if (!(one.def.type instanceof TaggedFields tagged)) continue;
                for (Field tag : tagged.fields().values()) {
                    if (tag.name.replace("_", "").equalsIgnoreCase(field)) return true;
                }
            }
            return false;
        } catch (ReflectiveOperationException error) {
            throw new IllegalStateException(error);
        }
    }

    private static JsonNode value(Class<?> element, short version, JsonNode asked) {
        if (!Message.class.isAssignableFrom(element)) return asked;
        if (asked.isObject()) return fill(element, version, asked);
        if (!asked.isArray()) return asked;
        ArrayNode all = JsonNodeFactory.instance.arrayNode();
        for (JsonNode one : asked) all.add(fill(element, version, one));
        return all;
    }

    private static Method getter(Class<?> message, String field) {
        try {
            return message.getMethod(field);
        } catch (NoSuchMethodException missing) {
            throw new IllegalArgumentException(message.getSimpleName() + " has no field " + field);
        }
    }

    /** What a field is, or its items are where it is a list. */
    private static Class<?> element(Type type) {
        for (Type at = type; at != null; at = at instanceof Class<?> one ? one.getGenericSuperclass() : null) {
            if (at instanceof ParameterizedType list && list.getActualTypeArguments()[0] instanceof Class<?> item) {
                return item;
            }
        }
        return type instanceof Class<?> one ? one : Object.class;
    }

    private static Object create(Class<?> message) {
        try {
            return message.getConstructor().newInstance();
        } catch (ReflectiveOperationException error) {
            throw new IllegalStateException(error);
        }
    }

    /** The generated converter: of a structure within a message it is within the message's. */
    private static Class<?> converter(Class<?> message) {
        String[] names = message.getName().split("\\$");
        String name = names[0] + "JsonConverter" + (names.length == 1 ? "" : "$" + names[1] + "JsonConverter");
        try {
            return Class.forName(name);
        } catch (ClassNotFoundException error) {
            throw new IllegalStateException(error);
        }
    }

    private static Object call(Class<?> converter, String name, Object... arguments) {
        for (Method method : converter.getMethods()) {
            if (!method.getName().equals(name) || method.getParameterCount() != arguments.length) continue;
            try {
                return method.invoke(null, arguments);
            } catch (InvocationTargetException error) {
                if (error.getCause() instanceof RuntimeException cause) throw cause;
                throw new IllegalStateException(error.getCause());
            } catch (IllegalAccessException error) {
                throw new IllegalStateException(error);
            }
        }
        throw new IllegalStateException(converter + " has no " + name);
    }
}
