"""confluent-kafka (librdkafka) as a program of tests/interop/kafka."""

from confluent_kafka import Consumer, ConsumerGroupTopicPartitions, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import (
    AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, NewPartitions, NewTopic, OffsetSpec, ResourceType)

from scenarios import EARLIEST, LATEST, WITHIN_S, main, until


def received(message):
    return dict(
        key=message.key(), value=message.value(), partition=message.partition(), offset=message.offset(),
        headers=message.headers() or [], timestamp=message.timestamp()[1])


def good(message):
    if message.error():
        raise KafkaException(message.error())
    return message


class OneProducer:
    def __init__(self, bootstrap, codec):
        settings = {"bootstrap.servers": bootstrap, "enable.idempotence": True, "compression.type": codec}
        self.producer = Producer(settings)

    def send(self, topic, records):
        told = {}

        def tell(at):
            def delivered(error, message):
                told[at] = error or message
            return delivered

        for at, one in enumerate(records):
            more = {} if one["partition"] is None else {"partition": one["partition"]}
            self.producer.produce(
                topic, key=one["key"], value=one["value"], headers=one["headers"], timestamp=one["timestamp"],
                on_delivery=tell(at), **more)
        self.producer.flush(WITHIN_S)
        failed = [error for error in told.values() if isinstance(error, KafkaError)]
        if failed or len(told) < len(records):
            raise KafkaException(*failed[:1])
        return [{**one, "partition": told[at].partition(), "offset": told[at].offset()}
                for at, one in enumerate(records)]

    def close(self):
        self.producer.flush(WITHIN_S)


class Member:
    def __init__(self, bootstrap, group, topic):
        self.consumer = Consumer({
            "bootstrap.servers": bootstrap, "group.id": group, "enable.auto.commit": False,
            "auto.offset.reset": "earliest"})
        self.consumer.subscribe([topic])

    def poll(self):
        return [received(good(message)) for message in self.consumer.consume(500, timeout=0.2)]

    def commit(self):
        self.consumer.commit(asynchronous=False)

    def try_commit(self):
        try:
            self.commit()
        except KafkaException as error:
            print(error)

    def assigned(self):
        return len(self.consumer.assignment())

    def close(self):
        self.consumer.close()


class Library:
    codecs = ["none", "gzip", "snappy", "lz4", "zstd"]
    AlreadyThere = KafkaException

    def __init__(self, bootstrap):
        self.bootstrap = bootstrap
        self.client = AdminClient({"bootstrap.servers": bootstrap})

    def producer(self, codec):
        return OneProducer(self.bootstrap, codec)

    def join(self, group, topic):
        return Member(self.bootstrap, group, topic)

    def read(self, topic, partition, offset, count):
        consumer = Consumer({"bootstrap.servers": self.bootstrap, "group.id": "none", "enable.auto.commit": False})
        consumer.assign([TopicPartition(topic, partition, offset)])
        got = []

        def enough():
            got.extend(received(good(message)) for message in consumer.consume(500, timeout=0.2))
            return len(got) >= count

        until(f"{count} records", enough)
        consumer.close()
        return got

    @staticmethod
    def done(futures):
        """The one answer."""
        return next(iter(futures.values())).result(WITHIN_S)

    def brokers(self):
        return len(self.client.describe_cluster().result(WITHIN_S).nodes)

    def make_topic(self, topic, partitions, settings):
        self.done(self.client.create_topics([NewTopic(topic, partitions, 1, config=settings)]))

    def is_already_there(self, error):
        return error.args[0].code() == KafkaError.TOPIC_ALREADY_EXISTS

    def topics(self):
        return list(self.client.list_topics(timeout=WITHIN_S).topics)

    def partitions(self, topic):
        return len(self.client.list_topics(topic, timeout=WITHIN_S).topics[topic].partitions)

    def grow(self, topic, partitions):
        self.done(self.client.create_partitions([NewPartitions(topic, partitions)]))

    def setting(self, topic, key):
        return self.done(self.client.describe_configs([ConfigResource(ResourceType.TOPIC, topic)]))[key].value

    def alter(self, topic, key, value):
        change = ConfigEntry(key, value, incremental_operation=AlterConfigOpType.SET)
        resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[change])
        self.done(self.client.incremental_alter_configs([resource]))

    def groups(self):
        return [one.group_id for one in self.client.list_consumer_groups().result(WITHIN_S).valid]

    def describe_group(self, group):
        described = self.done(self.client.describe_consumer_groups([group]))
        return described.state.name.lower(), len(described.members)

    def offsets(self, topic, at_ms):
        spec = {EARLIEST: OffsetSpec.earliest(), LATEST: OffsetSpec.latest()}
        asked = {TopicPartition(topic, partition): spec.get(at_ms) or OffsetSpec.for_timestamp(at_ms)
                 for partition in range(self.partitions(topic))}
        found = self.client.list_offsets(asked)
        return {at.partition: one.result(WITHIN_S).offset for at, one in found.items()}

    def committed(self, group, topic):
        found = self.done(self.client.list_consumer_group_offsets([ConsumerGroupTopicPartitions(group)]))
        return {at.partition: at.offset for at in found.topic_partitions}

    def delete_records(self, topic, partition, before):
        self.done(self.client.delete_records([TopicPartition(topic, partition, before)]))

    def delete_group(self, group):
        self.done(self.client.delete_consumer_groups([group]))

    def delete_topic(self, topic):
        self.done(self.client.delete_topics([topic]))


if __name__ == "__main__":
    main(Library)
