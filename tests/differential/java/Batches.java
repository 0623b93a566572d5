import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.BinaryNode;
import com.fasterxml.jackson.databind.node.JsonNodeFactory;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import org.apache.kafka.common.compress.Compression;
import org.apache.kafka.common.message.FetchResponseData;
import org.apache.kafka.common.record.TimestampType;
import org.apache.kafka.common.record.internal.CompressionType;
import org.apache.kafka.common.record.internal.MemoryRecords;
import org.apache.kafka.common.record.internal.MemoryRecordsBuilder;
import org.apache.kafka.common.record.internal.Record;
import org.apache.kafka.common.record.internal.RecordBatch;

/**
 * Record batches as cases write them, and as they are compared.
 *
 * <pre>{batch: [a, {key: k, value: b}], at: 1000, compression: gzip, producer: 7, epoch: 0, sequence: 0, damage: crc}</pre>
 *
 * A record without a time of its own is from 1,000 ms after the start of 1970, and each one is a second later.
 */
final class Batches {
    private static final long FIRST_MS = 1_000;
    private static final JsonNodeFactory JSON = JsonNodeFactory.instance;

    private Batches() {}

    static boolean isBatch(JsonNode node) {
        return node.isObject() && (node.has("batch") || node.has("batches"));
    }

    /** Of `batches` each is built already. */
    static BinaryNode build(JsonNode asked) throws IOException {
        if (!asked.has("batches")) return BinaryNode.valueOf(one(asked));
        byte[] all = new byte[0];
        for (JsonNode batch : asked.get("batches")) {
            byte[] more = batch.binaryValue();
            int end = all.length;
            all = Arrays.copyOf(all, end + more.length);
            System.arraycopy(more, 0, all, end, more.length);
        }
        return BinaryNode.valueOf(all);
    }

    private static byte[] one(JsonNode asked) {
        byte magic = (byte) asked.path("magic").asInt(RecordBatch.CURRENT_MAGIC_VALUE);
        Compression compression = Compression.of(CompressionType.forName(asked.path("compression").asText("none"))).build();
        TimestampType timestamps = TimestampType.forName(asked.path("timestamps").asText("CreateTime"));
        MemoryRecordsBuilder builder = MemoryRecords.builder(ByteBuffer.allocate(1 << 16), magic, compression, timestamps,
                asked.path("baseOffset").asLong(0), asked.path("at").asLong(FIRST_MS),
                asked.path("producer").asLong(RecordBatch.NO_PRODUCER_ID),
                (short) asked.path("epoch").asInt(RecordBatch.NO_PRODUCER_EPOCH),
                asked.path("sequence").asInt(RecordBatch.NO_SEQUENCE),
                asked.path("transactional").asBoolean(false), RecordBatch.NO_PARTITION_LEADER_EPOCH);
        long at = asked.path("at").asLong(FIRST_MS);
        for (JsonNode record : asked.get("batch")) {
            boolean isPlain = !record.isObject();
            byte[] key = bytes(isPlain ? null : record.get("key"));
            byte[] value = bytes(isPlain ? record : record.get("value"));
            int times = Math.max(1, record.path("times").asInt(1));
            byte[] whole = value == null ? null : new byte[value.length * times];
            for (int i = 0; whole != null && i < whole.length; i++) whole[i] = value[i % value.length];
            builder.append(record.path("at").asLong(at), key, whole);
            at += 1_000;
        }
        ByteBuffer built = builder.build().buffer();
        byte[] bytes = new byte[built.remaining()];
        built.get(bytes);
        return damaged(bytes, asked.path("damage").asText(""));
    }

    private static byte[] bytes(JsonNode text) {
        return text == null || text.isNull() ? null : text.asText().getBytes(StandardCharsets.UTF_8);
    }

    /** Offsets are those of the batch's header; only `crc` leaves it with a CRC that is not its own. */
    private static byte[] damaged(byte[] bytes, String how) {
        ByteBuffer batch = ByteBuffer.wrap(bytes);
        switch (how) {
            case "" -> { return bytes; }
            case "crc" -> { batch.put(17, (byte) ~batch.get(17)); return bytes; }
            case "cut" -> { return Arrays.copyOf(bytes, bytes.length - 3); }
            case "short" -> { return Arrays.copyOf(bytes, 20); }
            case "magic" -> { batch.put(16, (byte) 9); return bytes; }
            case "length" -> batch.putInt(8, batch.getInt(8) + 10);
            case "compression" -> batch.putShort(21, (short) 6);
            case "control" -> batch.putShort(21, (short) (batch.getShort(21) | 0x20));
            case "logAppendTime" -> batch.putShort(21, (short) (batch.getShort(21) | 0x08));
            case "count" -> batch.putInt(57, batch.getInt(57) + 1);
            case "noRecords" -> batch.putInt(57, 0);
            case "lastOffsetDelta" -> batch.putInt(23, batch.getInt(23) + 1);
            default -> throw new IllegalArgumentException("batches have no damage " + how);
        }
        java.util.zip.CRC32C crc = new java.util.zip.CRC32C();
        crc.update(bytes, 21, bytes.length - 21);
        batch.putInt(17, (int) crc.getValue());
        return bytes;
    }

    /** The converter leaves out what was fetched: it is put in here, batch by batch. */
    static void show(FetchResponseData fetched, JsonNode json) {
        for (int t = 0; t < fetched.responses().size(); t++) {
            FetchResponseData.FetchableTopicResponse topic = fetched.responses().get(t);
            for (int p = 0; p < topic.partitions().size(); p++) {
                MemoryRecords records = (MemoryRecords) topic.partitions().get(p).records();
                ObjectNode to = (ObjectNode) json.get("responses").get(t).get("partitions").get(p);
                if (records != null) to.set("records", show(records));
            }
        }
    }

    private static ArrayNode show(MemoryRecords records) {
        ArrayNode all = JSON.arrayNode();
        for (RecordBatch batch : records.batches()) {
            ObjectNode one = all.addObject()
                    .put("baseOffset", batch.baseOffset())
                    .put("lastOffset", batch.lastOffset())
                    .put("magic", batch.magic())
                    .put("compression", batch.compressionType().name)
                    .put("timestampType", batch.timestampType().name)
                    .put("maxTimestamp", batch.maxTimestamp())
                    .put("producerId", batch.producerId())
                    .put("producerEpoch", batch.producerEpoch())
                    .put("baseSequence", batch.baseSequence())
                    .put("partitionLeaderEpoch", batch.partitionLeaderEpoch())
                    .put("isTransactional", batch.isTransactional())
                    .put("isControlBatch", batch.isControlBatch())
                    .put("isValid", batch.isValid());
            ArrayNode shown = one.putArray("records");
            for (Record record : batch) {
                shown.addObject()
                        .put("offset", record.offset())
                        .put("timestamp", record.timestamp())
                        .put("key", text(record.key()))
                        .put("value", text(record.value()))
                        .put("headers", record.headers().length);
            }
        }
        return all;
    }

    private static String text(ByteBuffer bytes) {
        return bytes == null ? null : StandardCharsets.UTF_8.decode(bytes.duplicate()).toString();
    }
}
