"""Produces into a topic with one client library in each way that it has, and writes JSON lines of what it has sent: with
partition and offset where it was told them (acks=0 is told none).

    kafka_produce.py confluent|kafka-python|aiokafka BOOTSTRAP TOPIC OUT
"""

import asyncio
import json
import sys
import time

COUNT = 300
KEYS = 7
CODECS = ["none", "gzip", "snappy", "lz4", "zstd"]
DEADLINE_S = 60
# Within Kafka's bounds, and not now: what is consumed must be what was said.
START_MS = 1_700_000_000_000


def records(name):
    """Key, value, headers and timestamp; each 10th value is null."""
    for number in range(COUNT):
        key = f"{name}/{number % KEYS}"
        value = None if number % 10 == 9 else f"{number} " + "a value that packs well " * 8
        headers = [["n", f"{name}:{number}"], ["twice", "1"], ["twice", "2"], ["empty", ""]]
        yield key, value, headers, START_MS + number


def line(record, partition, offset):
    key, value, headers, timestamp = record
    return {
        "partition": partition,
        "offset": offset,
        "timestamp": timestamp,
        "key": key,
        "value": value,
        "headers": headers,
    }


def encoded(record):
    key, value, headers, timestamp = record
    value = None if value is None else value.encode()
    return key.encode(), value, [(name, text.encode()) for name, text in headers], timestamp


def confluent(bootstrap, topic):
    from confluent_kafka import Producer

    ways = [(f"all-{codec}", codec, {"enable.idempotence": True, "acks": "all"}) for codec in CODECS]
    ways += [("acks-1", "lz4", {"acks": 1}), ("acks-0", "none", {"acks": 0})]
    for name, codec, options in ways:
        lines = []

        def reported(error, message, record):
            if error is not None:
                sys.exit(f"confluent {name}: {error}")
            offset = message.offset() if options["acks"] != 0 else -1
            lines.append(line(record, message.partition(), offset))

        producer = Producer(
            {"bootstrap.servers": bootstrap, "compression.type": codec, "linger.ms": 5, **options}
        )
        for record in records(f"confluent-{name}"):
            key, value, headers, timestamp = encoded(record)
            producer.produce(
                topic,
                key=key,
                value=value,
                headers=headers,
                timestamp=timestamp,
                on_delivery=lambda error, message, record=record: reported(error, message, record),
            )
            producer.poll(0)
        if producer.flush(DEADLINE_S):
            sys.exit(f"confluent {name}: not delivered within {DEADLINE_S} s")
        yield from lines


def kafka_python(bootstrap, topic):
    from kafka import KafkaProducer

    ways = [(f"all-{codec}", codec, {"enable_idempotence": True, "acks": "all"}) for codec in CODECS]
    ways += [("acks-1", "none", {"enable_idempotence": False, "acks": 1})]
    for name, codec, options in ways:
        producer = KafkaProducer(
            bootstrap_servers=bootstrap,
            compression_type=None if codec == "none" else codec,
            linger_ms=5,
            **options,
        )
        sent = []
        for record in records(f"kafka-python-{name}"):
            key, value, headers, timestamp = encoded(record)
            future = producer.send(
                topic, key=key, value=value, headers=headers, timestamp_ms=timestamp
            )
            sent.append((record, future))
        for record, future in sent:
            told = future.get(timeout=DEADLINE_S)
            yield line(record, told.partition, told.offset)
        producer.close()


async def aiokafka_way(bootstrap, topic, name, codec, options):
    from aiokafka import AIOKafkaProducer

    producer = AIOKafkaProducer(
        bootstrap_servers=bootstrap,
        compression_type=None if codec == "none" else codec,
        linger_ms=5,
        **options,
    )
    await producer.start()
    sent = []
    for record in records(f"aiokafka-{name}"):
        key, value, headers, timestamp = encoded(record)
        future = await producer.send(
            topic, key=key, value=value, headers=headers, timestamp_ms=timestamp
        )
        sent.append((record, future))
    lines = []
    for record, future in sent:
        told = await asyncio.wait_for(future, DEADLINE_S)
        lines.append(line(record, told.partition, told.offset))
    await producer.stop()
    return lines


def aiokafka(bootstrap, topic):
    ways = [(f"all-{codec}", codec, {"enable_idempotence": True}) for codec in CODECS]
    ways += [("acks-1", "none", {"acks": 1})]
    for name, codec, options in ways:
        yield from asyncio.run(aiokafka_way(bootstrap, topic, name, codec, options))


def main(client, bootstrap, topic, out):
    ways = {"confluent": confluent, "kafka-python": kafka_python, "aiokafka": aiokafka}
    began = time.monotonic()
    with open(out, "w") as lines:
        count = 0
        for sent in ways[client](bootstrap, topic):
            lines.write(json.dumps(sent) + "\n")
            count += 1
    print(f"{client}: {count} records in {time.monotonic() - began:.1f} s")


main(*sys.argv[1:])
