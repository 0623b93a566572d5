"""Comes in through a door of the cloud with one client library, writes a record and reads it back; prints what came of it
as JSON: {"read": its value}, or {"error": what the client says}.

kafka_doors.py CLIENT BOOTSTRAP TOPIC OPTIONS, where OPTIONS is JSON: protocol, mechanism, user, password, ca, certificate,
key."""

import asyncio
import json
import ssl
import sys
import uuid

WITHIN_S = 20

client, bootstrap, topic, options = sys.argv[1:]
options = json.loads(options)
value = uuid.uuid4().hex


def context():
    if "ca" not in options:
        return None
    made = ssl.create_default_context(cafile=options["ca"])
    if "certificate" in options:
        made.load_cert_chain(options["certificate"], options["key"])
    return made


def confluent():
    from confluent_kafka import Consumer, Producer

    names = {
        "protocol": "security.protocol",
        "mechanism": "sasl.mechanism",
        "user": "sasl.username",
        "password": "sasl.password",
        "ca": "ssl.ca.location",
        "certificate": "ssl.certificate.location",
        "key": "ssl.key.location",
    }
    said = []
    common = {
        "bootstrap.servers": bootstrap,
        "error_cb": lambda error: said.append(error.str()),
        "log_level": 0,
        **{names[name]: option for name, option in options.items()},
    }
    producer = Producer({**common, "message.timeout.ms": WITHIN_S * 500})
    failed = []
    producer.produce(topic, value, on_delivery=lambda error, _: failed.append(error))
    producer.flush(WITHIN_S)
    if len(failed) != 1 or failed[0] is not None:
        return {"error": "; ".join(said) or repr(failed)}
    consumer = Consumer(
        {**common, "group.id": value, "auto.offset.reset": "earliest", "enable.auto.commit": False}
    )
    consumer.subscribe([topic])
    while True:
        message = consumer.poll(WITHIN_S)
        if message is None:
            return {"error": "nothing came"}
        if message.error() is None and message.value().decode() == value:
            consumer.close()
            return {"read": value == message.value().decode()}


def kafka_python():
    from kafka import KafkaConsumer, KafkaProducer

    common = {
        "bootstrap_servers": bootstrap,
        "security_protocol": options["protocol"],
        "ssl_context": context(),
        "sasl_mechanism": options.get("mechanism"),
        "sasl_plain_username": options.get("user"),
        "sasl_plain_password": options.get("password"),
    }
    producer = KafkaProducer(**common, max_block_ms=WITHIN_S * 1000)
    producer.send(topic, value.encode()).get(WITHIN_S)
    consumer = KafkaConsumer(
        topic,
        **common,
        group_id=value,
        auto_offset_reset="earliest",
        consumer_timeout_ms=WITHIN_S * 1000,
    )
    for message in consumer:
        if message.value.decode() == value:
            consumer.close()
            return {"read": True}
    return {"error": "nothing came"}


async def aiokafka():
    from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

    common = {
        "bootstrap_servers": bootstrap,
        "security_protocol": options["protocol"],
        "ssl_context": context(),
        "sasl_mechanism": options.get("mechanism", "PLAIN"),
        "sasl_plain_username": options.get("user"),
        "sasl_plain_password": options.get("password"),
    }
    async with AIOKafkaProducer(**common) as producer:
        await producer.send_and_wait(topic, value.encode())
    consumer = AIOKafkaConsumer(topic, **common, group_id=value, auto_offset_reset="earliest")
    async with consumer:
        async for message in consumer:
            if message.value.decode() == value:
                return {"read": True}


def main():
    try:
        if client == "aiokafka":
            return asyncio.run(asyncio.wait_for(aiokafka(), WITHIN_S))
        return {"confluent-kafka": confluent, "kafka-python": kafka_python}[client]()
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}"}


print(json.dumps(main()))
