"""Does one thing about ACLs with confluent-kafka's AdminClient, and prints what came of it as JSON (create, describe,
delete); or produces or consumes until it is told to stop, and says each time how that went when it goes otherwise than
before (produce, consume)."""

import json
import sys
import time

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer
from confluent_kafka.admin import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
)

WITHIN_S = 30

bootstrap, verb, *arguments = sys.argv[1:]


def words(kind, resource, name, pattern, principal, host, operation, permission):
    def given(text):
        return None if text == "-" else text

    return kind(
        ResourceType[resource],
        given(name),
        ResourcePatternType[pattern],
        given(principal),
        given(host),
        AclOperation[operation],
        AclPermissionType[permission],
    )


def shown(bindings):
    return sorted(
        [
            binding.restype.name,
            binding.name,
            binding.resource_pattern_type.name,
            binding.principal,
            binding.host,
            binding.operation.name,
            binding.permission_type.name,
        ]
        for binding in bindings
    )


# It lives until the answer is there.
admin = AdminClient({"bootstrap.servers": bootstrap})


def one(futures):
    (future,) = futures.values()
    return future.result(WITHIN_S)


def create(*said):
    return one(admin.create_acls([words(AclBinding, *said)], request_timeout=WITHIN_S))


def describe(*said):
    wanted = words(AclBindingFilter, *said)
    return shown(admin.describe_acls(wanted, request_timeout=WITHIN_S).result(WITHIN_S))


def delete(*said):
    wanted = words(AclBindingFilter, *said)
    return shown(one(admin.delete_acls([wanted], request_timeout=WITHIN_S)))


class Told:
    """Says what is so, once."""

    def __init__(self):
        self.last = None

    def say(self, error):
        if error is not None and error.code() != KafkaError.TOPIC_AUTHORIZATION_FAILED:
            return
        said = "allowed" if error is None else "refused"
        if said != self.last:
            print(said, flush=True)
        self.last = said


def produce(topic):
    told = Told()
    producer = Producer({"bootstrap.servers": bootstrap, "message.timeout.ms": 5000})
    while True:
        try:
            producer.produce(topic, value="one", on_delivery=lambda error, _: told.say(error))
            producer.flush(WITHIN_S)
        except KafkaException as error:
            # It knows already.
            told.say(error.args[0])
            producer.poll(0.1)
        time.sleep(0.05)


def consume(topic):
    told = Told()
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "readers",
            "auto.offset.reset": "earliest",
            "topic.metadata.refresh.interval.ms": 1000,
        }
    )
    consumer.subscribe([topic])
    while True:
        message = consumer.poll(0.5)
        if message is not None:
            told.say(message.error())


try:
    print(json.dumps(globals()[verb](*arguments)))
except KafkaException as error:
    print(json.dumps({"error": error.args[0].name()}))
