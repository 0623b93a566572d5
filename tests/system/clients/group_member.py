"""A member of a consumer group that writes down what it is given, what it does with it, and when, until SIGTERM.

    group_member.py confluent|kafka-python ASSIGNOR BOOTSTRAP TOPIC GROUP LOG [INSTANCE]

A line of the log is a time of the machine's monotonic clock in nanoseconds, a word, and what belongs to it; each is
written before what it says is acted upon: a partition is never said to be given up after it was.
"""

import logging
import os
import signal
import sys
import time

SESSION_TIMEOUT_MS = 6_000
HEARTBEAT_MS = 1_000
# Also how long a rebalance waits for who does not come.
POLL_INTERVAL_MAX_MS = 8_000
POLL_S = 0.2
COMMIT_EVERY = 20
COMMIT_EVERY_S = 0.5

client, assignor, bootstrap, topic, group, log = sys.argv[1:7]
# What kafka-python says of groups is in the process's output, which a failed test shows.
logging.basicConfig(format="%(asctime)s %(name)s %(message)s")
logging.getLogger("kafka.coordinator").setLevel(os.environ.get("GROUP_MEMBER_LOG", "INFO"))
instance = sys.argv[7] if len(sys.argv) > 7 else None
out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
stopped = []
signal.signal(signal.SIGTERM, lambda *_: stopped.append(True))


def write(word, text=""):
    """One write: what was written is there whatever kills this process."""
    os.write(out, f"{time.monotonic_ns()} {word} {text}".rstrip().encode() + b"\n")


class Member:
    """What both libraries have in common: records are processed, then committed; before a partition is given up, too."""

    def __init__(self):
        self.done = {}
        self.count = 0
        self.since = time.monotonic()

    def processed(self, partition, offset, value):
        write("processed", f"{partition} {offset} {value.decode()}")
        self.done[partition] = offset + 1
        self.count += 1

    def commit_if_due(self):
        if self.count >= COMMIT_EVERY or time.monotonic() - self.since > COMMIT_EVERY_S:
            self.commit_done()

    def commit_done(self):
        self.since, self.count = time.monotonic(), 0
        done, self.done = self.done, {}
        if not done:
            return
        text = ",".join(f"{partition}:{offset}" for partition, offset in sorted(done.items()))
        began = time.monotonic_ns()
        try:
            self.commit(done)
        except Exception as error:
            write("refused", f"{began} {text} {error!r}")
            # Later again, unless it is given up or lost until then.
            self.done = done
        else:
            write("committed", f"{began} {text}")

    def assigned(self, partitions):
        write("assigned", listed(partitions))

    def revoked(self, partitions):
        self.commit_done()
        write("revoked", listed(partitions))
        self.forget(partitions)

    def lost(self, partitions):
        write("lost", listed(partitions))
        self.forget(partitions)

    def forget(self, partitions):
        for one in partitions:
            self.done.pop(one.partition, None)


def listed(partitions):
    return ",".join(str(one.partition) for one in partitions)


class Confluent(Member):
    def __init__(self):
        from confluent_kafka import Consumer

        super().__init__()
        options = {
            "bootstrap.servers": bootstrap,
            "group.id": group,
            "partition.assignment.strategy": assignor,
            "session.timeout.ms": SESSION_TIMEOUT_MS,
            "heartbeat.interval.ms": HEARTBEAT_MS,
            "max.poll.interval.ms": POLL_INTERVAL_MAX_MS,
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
        }
        if instance:
            options["group.instance.id"] = instance
        self.consumer = Consumer(options)
        self.consumer.subscribe(
            [topic],
            on_assign=lambda _, partitions: self.assigned(partitions),
            on_revoke=lambda _, partitions: self.revoked(partitions),
            on_lost=lambda _, partitions: self.lost(partitions),
        )

    def step(self):
        message = self.consumer.poll(POLL_S)
        if message is None:
            return
        if message.error():
            write("error", message.error())
            return
        self.processed(message.partition(), message.offset(), message.value())

    def commit(self, done):
        from confluent_kafka import TopicPartition

        offsets = [TopicPartition(topic, partition, offset) for partition, offset in done.items()]
        for told in self.consumer.commit(offsets=offsets, asynchronous=False):
            if told.error:
                raise RuntimeError(told.error)

    def close(self):
        self.consumer.close()


class KafkaPython(Member):
    def __init__(self):
        from kafka import ConsumerRebalanceListener, KafkaConsumer
        from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
        from kafka.coordinator.assignors.range import RangePartitionAssignor
        from kafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
        from kafka.coordinator.assignors.sticky.sticky_assignor import StickyPartitionAssignor

        super().__init__()
        self.is_eager = assignor != "cooperative-sticky"
        self.given = []
        member = self

        class Listener(ConsumerRebalanceListener):
            def on_partitions_assigned(self, assigned):
                member.assigned(assigned)

            def on_partitions_revoked(self, revoked):
                member.revoked(revoked)

            def on_partitions_lost(self, lost):
                member.lost(lost)

        assignors = {
            "range": RangePartitionAssignor,
            "roundrobin": RoundRobinPartitionAssignor,
            "sticky": StickyPartitionAssignor,
            "cooperative-sticky": CooperativeStickyAssignor,
        }
        self.consumer = KafkaConsumer(
            bootstrap_servers=bootstrap,
            group_id=group,
            group_instance_id=instance,
            partition_assignment_strategy=[assignors[assignor]],
            session_timeout_ms=SESSION_TIMEOUT_MS,
            heartbeat_interval_ms=HEARTBEAT_MS,
            max_poll_interval_ms=POLL_INTERVAL_MAX_MS,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
        )
        self.consumer.subscribe([topic], listener=Listener())

    def assigned(self, partitions):
        super().assigned(partitions)
        if self.is_eager:
            self.given = list(partitions)

    def step(self):
        found = self.consumer.poll(timeout_ms=int(POLL_S * 1000), max_records=COMMIT_EVERY)
        given, self.given = self.given, []
        for one in given:
            # With an eager assignor kafka-python (3.0.12) does not forget where it stood when it gives a partition up.
            # Where a rebalance fails for it, it joins again and gets the same partition, which another has had
            # meanwhile, it goes on from there rather than from what is committed. Java's client forgets.
            self.consumer.seek(one, self.consumer.committed(one) or 0)
        for partition, records in found.items():
            if partition in given:
                continue
            for record in records:
                self.processed(record.partition, record.offset, record.value)
        # Its listeners cannot wait for a commit: nothing is left to them.
        self.commit_done()

    def commit(self, done):
        from kafka import TopicPartition
        from kafka.structs import OffsetAndMetadata

        self.consumer.commit(
            {
                TopicPartition(topic, partition): OffsetAndMetadata(offset, "", -1)
                for partition, offset in done.items()
            }
        )

    def close(self):
        self.consumer.close(autocommit=False)


member = {"confluent": Confluent, "kafka-python": KafkaPython}[client]()
write("subscribed")
while not stopped:
    member.step()
    member.commit_if_due()
    write("tick")
member.commit_done()
write("closing")
member.close()
write("closed")
