"""Reads a topic from its beginning to its end of now with confluent-kafka; writes JSON lines."""

import json
import sys
import time

from confluent_kafka import Consumer, KafkaError, TopicPartition

DEADLINE_S = 120


def text(value):
    return None if value is None else value.decode("utf-8", "replace")


def main(bootstrap, topic, out):
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "system-test-reader",
            "enable.auto.commit": False,
            "check.crcs": True,
            "auto.offset.reset": "error",
        }
    )
    metadata = consumer.list_topics(topic, timeout=30).topics[topic]
    starts, ends = {}, {}
    for partition in metadata.partitions:
        low, high = consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=30)
        if high > low:
            starts[partition], ends[partition] = low, high
    consumer.assign([TopicPartition(topic, *start) for start in starts.items()])
    deadline = time.monotonic() + DEADLINE_S
    left = dict(ends)
    with open(out, "w") as lines:
        while left:
            if time.monotonic() > deadline:
                sys.exit(f"not read to the end within {DEADLINE_S} s: {left}")
            for message in consumer.consume(1000, timeout=1.0):
                if message.error():
                    if message.error().code() == KafkaError._PARTITION_EOF:
                        continue
                    sys.exit(f"consume: {message.error()}")
                record = {
                    "partition": message.partition(),
                    "offset": message.offset(),
                    "timestamp": message.timestamp()[1],
                    "key": text(message.key()),
                    "value": text(message.value()),
                    "headers": [[name, text(value)] for name, value in message.headers() or []],
                }
                lines.write(json.dumps(record) + "\n")
                if message.offset() + 1 >= ends[message.partition()]:
                    left.pop(message.partition(), None)
    consumer.close()


main(*sys.argv[1:])
