"""Reads a topic by librdkafka until a number of records came; prints latencies as one line of JSON.

Payloads begin with their time of sending: 20 digits, nanoseconds since the Unix epoch."""

import json
import sys
import time

from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition

bootstrap, topic, partitions, wanted = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
consumer = Consumer(
    {
        "bootstrap.servers": bootstrap,
        "group.id": "benchmark",
        "enable.auto.commit": False,
        "fetch.wait.max.ms": 100,
        "queued.min.messages": 100000,
    }
)
consumer.assign([TopicPartition(topic, number, OFFSET_BEGINNING) for number in range(partitions)])
print("ready", flush=True)
latencies_us = []
first_sent = None
last = 0
deadline = time.monotonic() + float(sys.argv[5])
while len(latencies_us) < wanted and time.monotonic() < deadline:
    messages = consumer.consume(num_messages=10000, timeout=0.02)
    now = time.time_ns()
    for message in messages:
        if message.error():
            sys.exit(f"error: {message.error()}")
        sent = int(message.value()[:20])
        if first_sent is None or sent < first_sent:
            first_sent = sent
        latencies_us.append((now - sent) // 1000)
    if messages:
        last = now
latencies_us.sort()
at = lambda fraction: latencies_us[min(int(len(latencies_us) * fraction), len(latencies_us) - 1)]
print(
    json.dumps(
        {
            "records": len(latencies_us),
            "seconds": (last - (first_sent or last)) / 1e9,
            "p50_us": at(0.5) if latencies_us else None,
            "p99_us": at(0.99) if latencies_us else None,
        }
    ),
    flush=True,
)
