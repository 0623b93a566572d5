"""The clients of `tests/bench kafka` that are not ours: Apache Kafka's own performance tools, confluent-kafka from
produce to poll, and what deletes topics. And what the same bytes cost on a plain socket."""

import json
import os
import re
import socket
import struct
import subprocess
import sys
import threading
import time

MIB = 1 << 20
ANSWER_DEADLINE_S = 60
TOOL_DEADLINE_S = 120
HERE = os.path.dirname(os.path.abspath(__file__))

SENT = re.compile(
    r"(\d+) records sent, ([\d.]+) records/sec.* (\d+) ms 50th, \d+ ms 95th, (\d+) ms 99th, (\d+) ms 99\.9th"
)

METADATA, METADATA_VERSION = 3, 4


def answers(address):
    """Whether a broker tells of itself, as each client asks first (Metadata, of no topic)."""
    host, port = address.rsplit(":", 1)
    body = struct.pack(">hhihi?", METADATA, METADATA_VERSION, 1, -1, 0, False)
    try:
        with socket.create_connection((host, int(port)), timeout=5) as stream:
            stream.sendall(struct.pack(">i", len(body)) + body)
            answer = stream.makefile("rb").read(16)
    except OSError:
        return False
    # Length, correlation, throttling, then the brokers that there are.
    return len(answer) == 16 and struct.unpack(">iiii", answer)[3] > 0


def wait_answered(address, process, log):
    """Returns the seconds until it answers."""
    began = time.monotonic()
    while not answers(address):
        if process.poll() is not None or time.monotonic() - began > ANSWER_DEADLINE_S:
            sys.exit(f"no broker answers at {address}: {log}")
        time.sleep(0.002)
    return time.monotonic() - began


def delete_topics(address, names):
    from confluent_kafka.admin import AdminClient

    admin = AdminClient({"bootstrap.servers": address, "log_level": 2})
    for deleted in admin.delete_topics(names).values() if names else []:
        deleted.result(60)


class Tools:
    """Apache Kafka's own."""

    def __init__(self, target, address):
        classpath = os.path.join(target, "bench", "kafka", "libs", "*")
        self.java = ["java", "-Xmx512m", "-XX:+UseG1GC", "-cp", classpath]
        self.address = address

    def run(self, name, *arguments):
        command = [*self.java, f"org.apache.kafka.tools.{name}", "--bootstrap-server", self.address, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=TOOL_DEADLINE_S)
        if done.returncode != 0:
            sys.exit(f"{name}: {done.stdout[-500:]} {done.stderr[-500:]}")
        return done.stdout

    def produce(self, topic, records, value_bytes, rate=-1, **properties):
        properties = {"acks": "all", **properties}
        out = self.run(
            *("ProducerPerformance", "--topic", topic, "--num-records", str(records)),
            *("--record-size", str(value_bytes), "--throughput", str(rate)),
            *("--command-property", *(f"{name}={value}" for name, value in properties.items())),
        )
        # The last line is of the whole run; those before it are of its parts.
        found = SENT.findall(out)
        if not found or int(found[-1][0]) != records:
            sys.exit(f"{topic}: not all {records} records were sent: {out[-500:]}")
        _, records_per_s, *waits = found[-1]
        p50, p99, p999 = (float(wait) for wait in waits)
        return {"records_per_s": float(records_per_s), "p50_ms": p50, "p99_ms": p99, "p999_ms": p999}

    def consume(self, topic, records):
        out = self.run("ConsumerPerformance", "--topic", topic, "--num-records", str(records), "--hide-header")
        fields = [field.strip() for field in out.strip().splitlines()[-1].split(",")]
        if len(fields) < 10 or int(fields[4]) < records:
            sys.exit(f"{topic}: not all {records} records were consumed: {out[-500:]}")
        return {"records_per_s": float(fields[9])}


def end_to_end(address, topic, rate, seconds, value_bytes):
    """Milliseconds from produce to poll."""
    command = [sys.executable, os.path.join(HERE, "clients", "end_to_end.py"), "--bootstrap", address]
    command += ["--topic", topic, "--rate", str(rate), "--seconds", str(seconds), "--bytes", str(value_bytes)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TOOL_DEADLINE_S)
    if done.returncode != 0:
        sys.exit(f"end to end: {done.stderr[-500:]}")
    return {name.replace("_us", "_ms"): value / 1000 for name, value in json.loads(done.stdout).items()}


def drain(stream):
    buffer = bytearray(MIB)
    while stream.recv_into(buffer):
        pass


def socket_cost(folder, total_bytes):
    """CPU seconds for each GB that a thread writes to a loopback socket: from memory, and from a file by sendfile."""
    path = os.path.join(folder, "plain")
    with open(path, "wb") as out:
        out.write(os.urandom(64 * MIB))
    memory = memoryview(bytearray(os.urandom(MIB)))
    costs = {}
    with open(path, "rb") as file:
        ways = {
            "write": lambda stream, sent: stream.send(memory),
            "sendfile": lambda stream, sent: os.sendfile(stream.fileno(), file.fileno(), sent % (64 * MIB), MIB),
        }
        for name, way in ways.items():
            costs[name] = sent_cost(way, total_bytes)
    os.remove(path)
    return costs


def sent_cost(way, total_bytes):
    with socket.create_server(("127.0.0.1", 0)) as server:
        stream = socket.create_connection(server.getsockname())
        other, _ = server.accept()
    reading = threading.Thread(target=drain, args=(other,))
    reading.start()
    sent, began = 0, time.thread_time()
    while sent < total_bytes:
        sent += way(stream, sent)
    cpu_s = time.thread_time() - began
    stream.close()
    reading.join()
    other.close()
    return cpu_s * 1e9 / sent
