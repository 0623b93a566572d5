"""aiokafka as a program of tests/interop/kafka. It lives in a thread of its own, where its loop runs."""

import asyncio
import threading

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic, RecordsToDelete
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import CommitFailedError, TopicAlreadyExistsError, for_code

from scenarios import EARLIEST, LATEST, WITHIN_S, main, until

loop = asyncio.new_event_loop()
threading.Thread(target=loop.run_forever, daemon=True).start()


def run(work):
    return asyncio.run_coroutine_threadsafe(work, loop).result(WITHIN_S)


async def started(maker):
    """Made within the loop, and started."""
    made = maker()
    await made.start()
    return made


def received(one):
    return dict(
        key=one.key, value=one.value, partition=one.partition, offset=one.offset, headers=list(one.headers),
        timestamp=one.timestamp)


def polled(consumer):
    got = run(consumer.getmany(timeout_ms=200))
    return [received(one) for records in got.values() for one in records]


class OneProducer:
    def __init__(self, bootstrap, codec):
        codec = None if codec == "none" else codec
        self.producer = run(started(lambda: AIOKafkaProducer(
            bootstrap_servers=bootstrap, enable_idempotence=True, compression_type=codec)))

    def send(self, topic, records):
        return run(self.send_all(topic, records))

    async def send_all(self, topic, records):
        told = [await self.producer.send(
            topic, key=one["key"], value=one["value"], headers=one["headers"], partition=one["partition"],
            timestamp_ms=one["timestamp"]) for one in records]
        places = await asyncio.gather(*told)
        return [{**one, "partition": at.partition, "offset": at.offset} for one, at in zip(records, places)]

    def close(self):
        run(self.producer.stop())


class Member:
    def __init__(self, bootstrap, group, topic):
        self.consumer = run(started(lambda: AIOKafkaConsumer(
            topic, bootstrap_servers=bootstrap, group_id=group, enable_auto_commit=False,
            auto_offset_reset="earliest")))

    def poll(self):
        return polled(self.consumer)

    def commit(self):
        run(self.consumer.commit())

    def try_commit(self):
        try:
            self.commit()
        except CommitFailedError as error:
            print(error)

    def assigned(self):
        return len(self.consumer.assignment())

    def close(self):
        run(self.consumer.stop())


def no_errors(response):
    """What the admin client gives back may say what failed."""
    for row in getattr(response, "topic_errors", None) or getattr(response, "topic_error_codes", None) or []:
        if row[1]:
            raise for_code(row[1])(row)
    return response


class Library:
    codecs = ["none", "gzip", "snappy", "lz4", "zstd"]
    AlreadyThere = TopicAlreadyExistsError

    def __init__(self, bootstrap):
        self.bootstrap = bootstrap
        self.client = run(started(lambda: AIOKafkaAdminClient(bootstrap_servers=bootstrap)))
        self.reader = run(started(lambda: AIOKafkaConsumer(bootstrap_servers=bootstrap)))

    def producer(self, codec):
        return OneProducer(self.bootstrap, codec)

    def join(self, group, topic):
        return Member(self.bootstrap, group, topic)

    def read(self, topic, partition, offset, count):
        at = TopicPartition(topic, partition)
        consumer = run(started(lambda: AIOKafkaConsumer(bootstrap_servers=self.bootstrap)))
        loop.call_soon_threadsafe(consumer.assign, [at])
        until("it is assigned", lambda: at in consumer.assignment())
        loop.call_soon_threadsafe(consumer.seek, at, offset)
        got = []

        def enough():
            got.extend(one for one in polled(consumer) if one["offset"] >= offset)
            return len(got) >= count

        until(f"{count} records", enough)
        run(consumer.stop())
        return got

    def brokers(self):
        return len(run(self.client.describe_cluster())["brokers"])

    def make_topic(self, topic, partitions, settings):
        no_errors(run(self.client.create_topics([NewTopic(topic, partitions, 1, topic_configs=settings)])))

    def is_already_there(self, error):
        return True

    def topics(self):
        return run(self.client.list_topics())

    def partitions(self, topic):
        return len(run(self.client.describe_topics([topic]))[0]["partitions"])

    def grow(self, topic, partitions):
        no_errors(run(self.client.create_partitions({topic: NewPartitions(partitions)})))

    def setting(self, topic, key):
        described = run(self.client.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic)]))
        entries = described[0].resources[0][4]
        return next(entry[1] for entry in entries if entry[0] == key)

    def alter(self, topic, key, value):
        run(self.client.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, {key: value})]))

    def groups(self):
        return [group for group, _ in run(self.client.list_consumer_groups())]

    def describe_group(self, group):
        described = run(self.client.describe_consumer_groups([group]))[0].groups[0]
        return described[2].lower(), len(described[5])

    def offsets(self, topic, at_ms):
        partitions = [TopicPartition(topic, partition) for partition in range(self.partitions(topic))]
        if at_ms == EARLIEST:
            found = run(self.reader.beginning_offsets(partitions))
        elif at_ms == LATEST:
            found = run(self.reader.end_offsets(partitions))
        else:
            times = run(self.reader.offsets_for_times({at: at_ms for at in partitions}))
            found = {at: one.offset for at, one in times.items() if one}
        return {at.partition: offset for at, offset in found.items()}

    def committed(self, group, topic):
        found = run(self.client.list_consumer_group_offsets(group))
        return {at.partition: one.offset for at, one in found.items()}

    def delete_records(self, topic, partition, before):
        run(self.client.delete_records({TopicPartition(topic, partition): RecordsToDelete(before)}))

    # It can't delete a group: aiokafka 0.14 has no call for that.
    delete_group = None

    def delete_topic(self, topic):
        run(self.client.delete_topics([topic]))


if __name__ == "__main__":
    main(Library)
