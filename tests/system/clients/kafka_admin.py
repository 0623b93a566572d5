"""Does one thing with confluent-kafka's AdminClient, and prints what came of it as JSON; an error of Kafka's as
{"error": its name}."""

import json
import sys

from confluent_kafka import ConsumerGroupTopicPartitions, KafkaException, Producer, TopicCollection
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    NewTopic,
    ResourceType,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialDeletion,
    UserScramCredentialUpsertion,
)

WITHIN_S = 30

bootstrap, verb, *arguments = sys.argv[1:]
admin = AdminClient({"bootstrap.servers": bootstrap})


def pairs(words):
    return dict(word.split("=", 1) for word in words)


def one(futures):
    (future,) = futures.values()
    return future.result(WITHIN_S)


def topics():
    found = admin.list_topics(timeout=WITHIN_S).topics
    return {name: len(topic.partitions) for name, topic in found.items()}


def topic(name):
    found = one(admin.describe_topics(TopicCollection([name]), request_timeout=WITHIN_S))
    return {"id": str(found.topic_id), "partitions": len(found.partitions)}


def create(name, partitions, *settings):
    new = NewTopic(name, int(partitions), config=pairs(settings))
    return one(admin.create_topics([new], request_timeout=WITHIN_S))


def delete(name):
    return one(admin.delete_topics([name], request_timeout=WITHIN_S))


def grow(name, partitions):
    new = NewPartitions(name, int(partitions))
    return one(admin.create_partitions([new], request_timeout=WITHIN_S))


def config(kind, name):
    resource = ConfigResource(ResourceType[kind], name)
    entries = one(admin.describe_configs([resource], request_timeout=WITHIN_S))
    return {entry.name: [entry.value, entry.is_default] for entry in entries.values()}


def alter(name, *settings):
    operations = {
        "+": AlterConfigOpType.APPEND,
        "-": AlterConfigOpType.SUBTRACT,
        "!": AlterConfigOpType.DELETE,
        "=": AlterConfigOpType.SET,
    }
    changes = [
        ConfigEntry(setting, value, incremental_operation=operations[operation])
        for setting, operation, value in (word.split(",", 2) for word in settings)
    ]
    resource = ConfigResource(ResourceType.TOPIC, name, incremental_configs=changes)
    return one(admin.incremental_alter_configs([resource], request_timeout=WITHIN_S))


def produce(name, count):
    producer = Producer({"bootstrap.servers": bootstrap, "enable.idempotence": True})
    for number in range(int(count)):
        producer.produce(name, value=str(number))
    return {"left": producer.flush(WITHIN_S)}


def groups():
    listed = admin.list_consumer_groups(request_timeout=WITHIN_S).result(WITHIN_S)
    if listed.errors:
        raise listed.errors[0]
    return {group.group_id: group.state.name for group in listed.valid}


def group(name):
    found = one(admin.describe_consumer_groups([name], request_timeout=WITHIN_S))
    members = [
        {
            "host": member.host,
            "client": member.client_id,
            "partitions": len(member.assignment.topic_partitions),
        }
        for member in found.members
    ]
    return {"state": found.state.name, "assignor": found.partition_assignor, "members": members}


def committed(name):
    wanted = [ConsumerGroupTopicPartitions(name)]
    found = one(admin.list_consumer_group_offsets(wanted, request_timeout=WITHIN_S))
    return {"sum": sum(max(partition.offset, 0) for partition in found.topic_partitions)}


def delete_group(name):
    return one(admin.delete_consumer_groups([name], request_timeout=WITHIN_S))


def cluster():
    found = admin.describe_cluster(request_timeout=WITHIN_S).result(WITHIN_S)
    nodes = [f"{node.host}:{node.port}" for node in found.nodes]
    return {"id": found.cluster_id, "controller": found.controller.id, "nodes": nodes}


def set_password(user, mechanism, iterations, password):
    info = ScramCredentialInfo(ScramMechanism[mechanism], int(iterations))
    change = UserScramCredentialUpsertion(user, info, password.encode())
    return one(admin.alter_user_scram_credentials([change], request_timeout=WITHIN_S))


def drop_password(user, mechanism):
    change = UserScramCredentialDeletion(user, ScramMechanism[mechanism])
    return one(admin.alter_user_scram_credentials([change], request_timeout=WITHIN_S))


def passwords(*users):
    # Of named users each has a future of its own, of all there is one.
    found = admin.describe_user_scram_credentials(list(users) or None, request_timeout=WITHIN_S)
    described = {user: one({user: found[user]}) for user in users} if users else found.result(WITHIN_S)
    return {
        user: {info.mechanism.name: info.iterations for info in one_user.scram_credential_infos}
        for user, one_user in described.items()
    }


try:
    print(json.dumps(globals()[verb](*arguments)))
except KafkaException as error:
    print(json.dumps({"error": error.args[0].name()}))
