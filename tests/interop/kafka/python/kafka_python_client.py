"""kafka-python as a program of tests/interop/kafka."""

import threading
from queue import Empty, Queue

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType, NewPartitions, NewTopic
from kafka.errors import CommitFailedError, TopicAlreadyExistsError

from scenarios import EARLIEST, LATEST, WITHIN_S, main, until

POLL_MS = 5000


def received(one):
    return dict(
        key=one.key, value=one.value, partition=one.partition, offset=one.offset, headers=list(one.headers),
        timestamp=one.timestamp)


def polled(consumer, timeout_ms=200):
    return [received(one) for records in consumer.poll(timeout_ms=timeout_ms).values() for one in records]


class OneProducer:
    def __init__(self, bootstrap, codec):
        codec = None if codec == "none" else codec
        self.producer = KafkaProducer(
            bootstrap_servers=bootstrap, enable_idempotence=True, acks="all", compression_type=codec)

    def send(self, topic, records):
        told = []
        for one in records:
            told.append(self.producer.send(
                topic, key=one["key"], value=one["value"], headers=one["headers"], partition=one["partition"],
                timestamp_ms=one["timestamp"]))
        self.producer.flush(WITHIN_S)
        places = [future.get(WITHIN_S) for future in told]
        return [{**one, "partition": at.partition, "offset": at.offset} for one, at in zip(records, places)]

    def close(self):
        self.producer.close(WITHIN_S)


class Member:
    """It polls in a thread of its own, and longer than joining takes: where a poll of kafka-python 3.0 ends while the
    member joins, it may join again and again, in Apache Kafka, too."""

    def __init__(self, bootstrap, group, topic):
        self.consumer = KafkaConsumer(
            topic, bootstrap_servers=bootstrap, group_id=group, enable_auto_commit=False,
            auto_offset_reset="earliest")
        self.got, self.commits, self.committed, self.closing = Queue(), Queue(), Queue(), False
        self.thread = threading.Thread(target=self.work, daemon=True)
        self.thread.start()

    def work(self):
        while not self.closing:
            got = polled(self.consumer, POLL_MS)
            if got:
                self.got.put(got)
                self.committed.put(self.commit_now() if self.commits.get() else None)
        self.consumer.close()

    def commit_now(self):
        try:
            self.consumer.commit()
        except CommitFailedError as error:
            return error

    def poll(self):
        try:
            return self.got.get(timeout=0.2)
        except Empty:
            return []

    def commit(self):
        self.commits.put(True)
        failed = self.committed.get(timeout=WITHIN_S)
        if failed:
            raise failed

    def try_commit(self):
        try:
            self.commit()
        except CommitFailedError as error:
            print(error)

    def assigned(self):
        return len(self.consumer.assignment())

    def close(self):
        self.closing = True
        self.commits.put(False)
        self.thread.join(WITHIN_S)


class Library:
    codecs = ["none", "gzip", "snappy", "lz4", "zstd"]
    AlreadyThere = TopicAlreadyExistsError

    def __init__(self, bootstrap):
        self.bootstrap = bootstrap
        self.client = KafkaAdminClient(bootstrap_servers=bootstrap)
        self.reader = KafkaConsumer(bootstrap_servers=bootstrap, enable_auto_commit=False)

    def producer(self, codec):
        return OneProducer(self.bootstrap, codec)

    def join(self, group, topic):
        return Member(self.bootstrap, group, topic)

    def read(self, topic, partition, offset, count):
        consumer = KafkaConsumer(bootstrap_servers=self.bootstrap, enable_auto_commit=False)
        consumer.assign([TopicPartition(topic, partition)])
        consumer.seek(TopicPartition(topic, partition), offset)
        got = []

        def enough():
            got.extend(polled(consumer))
            return len(got) >= count

        until(f"{count} records", enough)
        consumer.close()
        return got

    def brokers(self):
        return len(self.client.describe_cluster()["brokers"])

    def make_topic(self, topic, partitions, settings):
        self.client.create_topics([NewTopic(topic, partitions, 1, topic_configs=settings)])

    def is_already_there(self, error):
        return True

    def topics(self):
        return self.client.list_topics()

    def partitions(self, topic):
        return len(self.client.describe_topics([topic])[0]["partitions"])

    def grow(self, topic, partitions):
        self.client.create_partitions({topic: NewPartitions(partitions)})

    def setting(self, topic, key):
        described = self.client.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic)])
        return described["topic"][topic][key]["value"]

    def alter(self, topic, key, value):
        self.client.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, {key: value})])

    def groups(self):
        return [one["group_id"] for one in self.client.list_groups()]

    def describe_group(self, group):
        described = self.client.describe_groups([group])[group]
        return described["group_state"].lower(), len(described["members"])

    def offsets(self, topic, at_ms):
        partitions = [TopicPartition(topic, partition) for partition in range(self.partitions(topic))]
        if at_ms == EARLIEST:
            found = self.reader.beginning_offsets(partitions)
        elif at_ms == LATEST:
            found = self.reader.end_offsets(partitions)
        else:
            times = self.reader.offsets_for_times({at: at_ms for at in partitions})
            found = {at: one.offset for at, one in times.items() if one}
        return {at.partition: offset for at, offset in found.items()}

    def committed(self, group, topic):
        found = self.client.list_group_offsets(group)[group]
        return {at.partition: one.offset for at, one in found.items()}

    def delete_records(self, topic, partition, before):
        self.client.delete_records({TopicPartition(topic, partition): before})

    def delete_group(self, group):
        self.client.delete_groups([group])

    def delete_topic(self, topic):
        self.client.delete_topics([topic])


if __name__ == "__main__":
    main(Library)
