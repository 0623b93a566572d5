"""From produce to poll at a fixed rate, by one confluent-kafka producer (acks=all, no linger) and one consumer in
this process. Waiting is counted from when a message was due, so that what stands still is not hidden.

Prints one object of JSON; ends with 1 where a message is refused or missing."""

import argparse
import json
import struct
import sys
import threading
import time

from confluent_kafka import OFFSET_BEGINNING, Consumer, Producer, TopicPartition

DUE = struct.Struct("<q")
DEADLINE_S = 20


def percentile(waits, per_mille):
    return waits[(len(waits) - 1) * per_mille // 1000]


class Consuming(threading.Thread):
    """Takes that many messages of a topic's first partition; `waits_us` is there afterwards."""

    def __init__(self, bootstrap, topic, count):
        super().__init__()
        settings = {"bootstrap.servers": bootstrap, "group.id": "end-to-end", "enable.auto.commit": False}
        self.consumer = Consumer(settings)
        self.consumer.assign([TopicPartition(topic, 0, OFFSET_BEGINNING)])
        self.count, self.waits_us, self.failed = count, [], None
        self.until = time.monotonic() + DEADLINE_S

    def run(self):
        while len(self.waits_us) < self.count and self.failed is None:
            for message in self.consumer.consume(500, 0.001):
                now = time.monotonic_ns()
                if message.error():
                    self.failed = str(message.error())
                    break
                self.waits_us.append((now - DUE.unpack_from(message.value())[0]) // 1000)
            if time.monotonic() > self.until:
                self.failed = f"{len(self.waits_us)} of {self.count} messages came"
        self.consumer.close()


def produce(bootstrap, topic, count, rate, payload):
    """Returns how many were refused."""
    refused = []
    settings = {"bootstrap.servers": bootstrap, "acks": "all", "linger.ms": 0}
    producer = Producer(settings)
    told = lambda error, _: error and refused.append(error)
    began = time.monotonic_ns()
    for number in range(count):
        due = began + int(number * 1e9 / rate)
        while (left := due - time.monotonic_ns()) > 0:
            producer.poll(left / 1e9)
        producer.produce(topic, DUE.pack(due) + payload, partition=0, on_delivery=told)
    producer.flush(DEADLINE_S)
    return refused


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--bootstrap", required=True)
    parser.add_argument("--topic", required=True)
    parser.add_argument("--rate", type=float, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--bytes", type=int, required=True)
    arguments = parser.parse_args()
    count = int(arguments.rate * arguments.seconds)
    consuming = Consuming(arguments.bootstrap, arguments.topic, count)
    consuming.start()
    payload = bytes(max(0, arguments.bytes - DUE.size))
    refused = produce(arguments.bootstrap, arguments.topic, count, arguments.rate, payload)
    consuming.join()
    if refused or consuming.failed:
        sys.exit(f"{arguments.topic}: {refused[0] if refused else consuming.failed}")
    waits = sorted(consuming.waits_us)
    found = {"p50_us": 500, "p99_us": 990, "p999_us": 999}
    print(json.dumps({name: percentile(waits, per_mille) for name, per_mille in found.items()}))


if __name__ == "__main__":
    main()
