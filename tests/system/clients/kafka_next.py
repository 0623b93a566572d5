"""Joins a consumer group and prints the first record that it is given of PARTITION, as JSON."""

import json
import sys
import time

from confluent_kafka import Consumer

WITHIN_S = 60

bootstrap, topic, group, partition = sys.argv[1:]
consumer = Consumer(
    {
        "bootstrap.servers": bootstrap,
        "group.id": group,
        "enable.auto.commit": False,
        "auto.offset.reset": "error",
    }
)
consumer.subscribe([topic])
deadline = time.monotonic() + WITHIN_S
while time.monotonic() < deadline:
    message = consumer.poll(0.5)
    if message is None or message.error() or message.partition() != int(partition):
        continue
    print(json.dumps({"offset": message.offset(), "value": message.value().decode()}))
    consumer.close()
    sys.exit(0)
sys.exit(f"nothing of partition {partition} within {WITHIN_S} s")
