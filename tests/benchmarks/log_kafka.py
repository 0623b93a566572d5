"""Apache Kafka beside the cloud's log: one node (KRaft), fresh, on loopback, plain TCP, with the collector that
suits it. Whether it syncs is a topic's setting."""

import base64
import os
import shutil
import subprocess
import uuid

from kafka_clients import wait_answered
from log_cloud import forget, load
from spine import Node, free_ports

# Tried from 1 to 12 for 12 partitions: with a sync for each batch it is best with a request for each partition,
# else with some that hold a batch for three of them.
CONNECTIONS_SYNCED, CONNECTIONS = 12, 4

PROPERTIES = """process.roles=broker,controller
node.id=1
controller.quorum.bootstrap.servers=127.0.0.1:{controller}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
controller.listener.names=CONTROLLER
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
num.io.threads=16
log.segment.delete.delay.ms=1000
log.dirs={folder}/data
"""


def missing(target):
    """Why there is none, or None."""
    if shutil.which("java") is None:
        return "Java is missing (apt-get install openjdk-17-jre-headless)"
    if not os.path.isdir(os.path.join(target, "bench", "kafka", "libs")):
        return "its jars could not be fetched: that needs Maven (apt-get install maven)"
    return None


class Kafka:
    def __init__(self, target, folder, is_started=True):
        self.target, self.folder = target, folder
        shutil.rmtree(folder, ignore_errors=True)
        os.makedirs(folder)
        port, controller = free_ports(2)
        self.address, self.topics = f"127.0.0.1:{port}", 0
        path = self.properties = os.path.join(folder, "server.properties")
        with open(path, "w") as out:
            out.write(PROPERTIES.format(port=port, controller=controller, folder=folder))
        classpath = os.path.join(target, "bench", "kafka", "libs", "*")
        command = ["java", "-cp", classpath, "kafka.tools.StorageTool", "format", "--standalone"]
        # Kafka's form of an id; one that begins with a dash would be an option.
        identity = base64.urlsafe_b64encode(uuid.uuid4().bytes)[:22].decode().replace("-", "A")
        subprocess.run([*command, "-t", identity, "-c", path], check=True, capture_output=True)
        self.classpath = classpath
        if is_started:
            self.start()

    def start(self):
        """Returns the seconds until it answers."""
        collector = ["-XX:+UseG1GC", "-XX:MaxGCPauseMillis=20"]
        arguments = ["-Xmx1g", "-Xms1g", *collector, "-cp", self.classpath, "kafka.Kafka", self.properties]
        log = os.path.join(self.folder, "kafka.log")
        self.node = Node("java", arguments, log)
        return wait_answered(self.address, self.node.process, log)

    def produce(self, flush, **options):
        """Into a topic of its own, whose name comes with what was measured."""
        self.topics += 1
        topic = f"log-{self.topics}"
        options["connections"] = CONNECTIONS_SYNCED if flush else CONNECTIONS
        if flush:
            options["flush"] = True
        made = load(self.target, "produce", kafka=self.address, topic=topic, pid=self.node.pid, **options)
        return topic, made

    def read(self, topic, connections=2):
        options = {"topic": topic, "connections": connections}
        return load(self.target, "read", kafka=self.address, pid=self.node.pid, **options)

    def forget(self):
        forget(os.path.join(self.folder, "data"))

    def close(self):
        self.node.stop()
        shutil.rmtree(self.folder, ignore_errors=True)
