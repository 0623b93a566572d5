"""Consumes a topic from its beginning in a consumer group until COUNT records have come; any error
ends it with a non-zero exit."""

import sys
import time

from confluent_kafka import Consumer

bootstrap, topic, group, count, within_s = sys.argv[1:]
errors = []
consumer = Consumer(
    {
        "bootstrap.servers": bootstrap,
        "group.id": group,
        "auto.offset.reset": "earliest",
        "error_cb": errors.append,
    }
)
consumer.subscribe([topic])
deadline = time.monotonic() + float(within_s)
seen = 0
while seen < int(count):
    if time.monotonic() > deadline:
        sys.exit(f"{seen} records of {count} in {within_s} s")
    message = consumer.poll(0.5)
    if errors or (message is not None and message.error()):
        sys.exit(f"after {seen} records: {errors or message.error()}")
    if message is None:
        continue
    if seen == 0:
        print("following", flush=True)
    seen += 1
consumer.close()
print(f"{seen} records", flush=True)
