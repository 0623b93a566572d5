"""The brokers that `tests/bench kafka` compares. Apache Kafka runs from the beginning to the end, so that it is warm,
and each of its runs has a topic of its own; the cloud is fresh in each run."""

import contextlib
import glob
import itertools
import os
import sys
import time

import log_kafka
from kafka_clients import delete_topics, wait_answered
from log_cloud import Cloud, loaded, start_load

TIDEGATE, SYNCED, UNSYNCED = "Tidegate", "Kafka, flush.messages=1", "Kafka, default"
SYSTEMS = [TIDEGATE, SYNCED, UNSYNCED]
DROP_DEADLINE_S = 30


class Place:
    """Where a run takes place: a broker, and topics that go with the run."""

    def __init__(self, system, address, node, names, target):
        self.system, self.address, self.node, self.names = system, address, node, names
        self.target = target
        self.is_synced = system == SYNCED
        self.topics = []

    def topic(self):
        """The name of a new one."""
        self.topics.append(next(self.names))
        return self.topics[-1]

    def made(self, partitions):
        """The same, of a topic that is there and has leaders that serve."""
        name = self.topic()
        synced = {"flush": True} if self.is_synced else {}
        self.load("produce", topic=name, partitions=partitions, connections=1, batches=0, **synced)
        return name

    def start_load(self, command, **options):
        return start_load(self.target, command, kafka=self.address, pid=self.node.pid, **options)

    def load(self, command, **options):
        return loaded(self.start_load(command, **options))

    def cpu_s(self):
        return self.node.used()["cpu_s"]


class Brokers:
    def __init__(self, target, folder):
        why = log_kafka.missing(target)
        if why is not None:
            sys.exit(f"Apache Kafka: {why}")
        self.target, self.folder = target, folder
        self.kafka = log_kafka.Kafka(target, os.path.join(folder, "kafka"))
        self.names = (f"bench-{number}" for number in itertools.count())
        self.order, self.cloud_peak_bytes = SYSTEMS, 0

    def warm_up(self, seconds):
        """A cold JVM is not what is compared."""
        for flush, records in itertools.product((True, False), (1, 15)):
            options = {"records": records, "value_bytes": 1024, "unpacked": True}
            topic, _ = self.kafka.produce(flush, seconds=seconds, **options)
            self.kafka.read(topic)
            self.drop([topic])

    def turn(self, number):
        """Who goes first changes with each round."""
        self.order = SYSTEMS if number % 2 == 0 else SYSTEMS[::-1]

    @contextlib.contextmanager
    def place(self, system, **settings):
        if system == TIDEGATE:
            # Nothing is packed meanwhile, unless asked for: that is measured by itself.
            cloud = self.cloud(**{"segment_size": "256MiB", **settings})
            try:
                cloud.start()
                yield Place(system, cloud.kafka, cloud.node, self.names, self.target)
                self.cloud_peak_bytes = max(self.cloud_peak_bytes, cloud.node.resident_bytes())
            finally:
                cloud.remove()
        else:
            place = Place(system, self.kafka.address, self.kafka.node, self.names, self.target)
            yield place
            self.drop(place.topics)

    def cloud(self, topics=0, **settings):
        return Cloud(self.target, os.path.join(self.folder, "cloud"), topics=topics, edges=0, **settings)

    def drop(self, topics):
        """Returns once their files are gone, so that it costs the next run nothing."""
        deadline = time.monotonic() + DROP_DEADLINE_S
        delete_topics(self.kafka.address, topics)
        for topic in topics:
            while glob.glob(os.path.join(self.kafka.folder, "data", f"{topic}-*")):
                if time.monotonic() > deadline:
                    sys.exit(f"Apache Kafka does not delete the files of {topic}")
                time.sleep(0.1)

    def running_cpu_s(self):
        return self.kafka.node.used()["cpu_s"] if self.kafka.node.process.poll() is None else 0.0

    def peaks(self):
        """Bytes resident at most, of all runs."""
        return {TIDEGATE: self.cloud_peak_bytes, "Kafka": self.kafka.node.resident_bytes()}

    def close(self):
        self.kafka.close()


class OurStart:
    """A cloud that is started anew and again."""

    def __init__(self, brokers):
        self.cloud = brokers.cloud()
        self.address = self.cloud.kafka

    def start(self):
        began = time.monotonic()
        self.cloud.launch()
        wait_answered(self.address, self.cloud.node.process, self.cloud.log)
        return time.monotonic() - began

    @property
    def node(self):
        return self.cloud.node

    def remove(self):
        self.cloud.remove()


class TheirStart:
    """An Apache Kafka beside the one that is warm."""

    def __init__(self, brokers):
        self.kafka = log_kafka.Kafka(brokers.target, os.path.join(brokers.folder, "kafka-start"), is_started=False)
        self.address = self.kafka.address

    def start(self):
        return self.kafka.start()

    @property
    def node(self):
        return self.kafka.node

    def remove(self):
        self.kafka.close()
