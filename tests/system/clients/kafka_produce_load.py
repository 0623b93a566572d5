"""An idempotent confluent-kafka producer at a steady rate into each partition of a topic, until SIGTERM;
then it delivers what is left. Writes a JSON line for each delivery report as it comes.

    kafka_produce_load.py BOOTSTRAP TOPIC PARTITIONS PER_SECOND OUT
"""

import json
import signal
import sys
import threading
import time

from confluent_kafka import Producer

# The cloud is away for seconds: whatever is sent must outlive that.
DELIVERY_MS = 120_000

bootstrap, topic, partitions, per_second, out = sys.argv[1:]
partitions, per_second = int(partitions), float(per_second)
ended = threading.Event()


def main():
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    lines = open(out, "w", buffering=1)

    def reported(error, message):
        report = {
            "value": message.value().decode(),
            "partition": message.partition(),
            "offset": message.offset(),
            "error": None if error is None else str(error),
        }
        lines.write(json.dumps(report) + "\n")

    producer = Producer(
        {
            "bootstrap.servers": bootstrap,
            "enable.idempotence": True,
            "acks": "all",
            "max.in.flight.requests.per.connection": 5,
            "linger.ms": 2,
            "batch.num.messages": 20,
            "compression.type": "zstd",
            "delivery.timeout.ms": DELIVERY_MS,
            "reconnect.backoff.ms": 20,
            "reconnect.backoff.max.ms": 200,
            "queue.buffering.max.messages": 1_000_000,
        }
    )
    began, sent = time.monotonic(), 0
    while not ended.is_set():
        due = int((time.monotonic() - began) * per_second)
        for number in range(sent, due):
            partition = number % partitions
            producer.produce(topic, value=str(number), partition=partition, on_delivery=reported)
        sent = max(sent, due)
        producer.poll(0.002)
    left = producer.flush(DELIVERY_MS / 1000)
    print(f"{sent} sent, {left} without a report", flush=True)
    sys.exit(1 if left else 0)


main()
