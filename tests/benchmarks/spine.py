"""One message's whole way: MQTT publish at QoS 1 to Kafka consumer, over two real processes.

Run it by `tests/bench spine [--quick]`. Clients, edge and cloud share this machine's cores; compare the
figures of one run with each other, not with another machine's."""

import argparse
import datetime
import json
import os
import platform
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import time
import urllib.request

from device import Device

PARTITIONS = 12
PAYLOAD_BYTES = 200
DEADLINE_S = 240
HERTZ = os.sysconf("SC_CLK_TCK")
HERE = os.path.dirname(os.path.abspath(__file__))


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for number in sockets:
        number.bind(("127.0.0.1", 0))
    ports = [number.getsockname()[1] for number in sockets]
    for number in sockets:
        number.close()
    return ports


class Node:
    """A daemon, and what it has used so far."""

    def __init__(self, binary, arguments, log):
        self.process = subprocess.Popen(
            [binary, *arguments], stdout=open(log, "ab"), stderr=subprocess.STDOUT
        )
        self.pid = self.process.pid

    def used(self):
        fields = open(f"/proc/{self.pid}/stat").read().rsplit(")", 1)[1].split()
        return {"cpu_s": (int(fields[11]) + int(fields[12])) / HERTZ}

    def resident_bytes(self):
        for line in open(f"/proc/{self.pid}/status"):
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
        return 0

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()


def wait_for(url):
    deadline = time.monotonic() + 20
    while True:
        try:
            with urllib.request.urlopen(url, timeout=1) as response:
                if response.status == 200:
                    return
        except OSError:
            if time.monotonic() > deadline:
                sys.exit(f"{url} does not answer")
            time.sleep(0.02)


class World:
    """A cloud and an edge on fresh folders."""

    def __init__(self, target, streams):
        self.bin = os.path.join(target, "release")
        self.folder = os.path.join(target, "bench", "data")
        shutil.rmtree(self.folder, ignore_errors=True)
        os.makedirs(self.folder)
        mqtt, kafka, bridge, http, edge_http = free_ports(5)
        self.mqtt, self.kafka = f"127.0.0.1:{mqtt}", f"127.0.0.1:{kafka}"
        path = lambda name: os.path.join(self.folder, name)
        self.devices = {name: Device(path(name)) for name in ("edge", "cloud")}
        with open(path("cloud.yaml"), "w") as out:
            out.write(
                f"data: {path('cloud')}/data\nkafka: {{address: '{self.kafka}'}}\n"
                f"bridge: {{address: '127.0.0.1:{bridge}'}}\nhttp: {{address: '127.0.0.1:{http}'}}\n"
            )
        routes = "".join(
            f"  - {{filter: 'load-{number:04}/#', stream: line-{number:04}}}\n"
            for number in range(streams)
        )
        settings = "".join(f"  line-{number:04}: {{topic: telemetry}}\n" for number in range(streams))
        many = f"routes:\n{routes}streams:\n{settings}" if streams > 1 else ""
        with open(path("edge.yaml"), "w") as out:
            out.write(
                f"data: {path('edge')}/data\nmqtt: {{listeners: [{{address: '{self.mqtt}'}}]}}\n"
                f"http: {{address: '127.0.0.1:{edge_http}'}}\n"
                f"uplink: {{cloud: '127.0.0.1:{bridge}', certificate: tls/edge.crt,"
                f" key: tls/edge.key, ca: tls/ca.crt}}\n{many}"
            )
        cloud = os.path.join(self.bin, "tidegate-cloud")
        subprocess.run(
            [cloud, "certificate", "bench", "--config", path("cloud.yaml"), "--out", path("tls")],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        self.cloud = Node(cloud, ["--config", path("cloud.yaml")], path("cloud.log"))
        wait_for(f"http://127.0.0.1:{http}/healthz")
        edge = os.path.join(self.bin, "tidegate-edge")
        self.edge = Node(edge, ["--config", path("edge.yaml")], path("edge.log"))
        wait_for(f"http://127.0.0.1:{edge_http}/healthz")

    def close(self):
        self.edge.stop()
        self.cloud.stop()
        for device in self.devices.values():
            device.close()
        shutil.rmtree(self.folder, ignore_errors=True)


def consumer_command(kind, target, world, messages):
    arguments = [world.kafka, "telemetry", str(PARTITIONS), str(messages), str(DEADLINE_S)]
    if kind == "librdkafka":
        return [sys.executable, os.path.join(HERE, "clients", "consume.py"), *arguments]
    java = os.path.join(target, "bench", "java")
    classpath = f"{java}{os.pathsep}{java}/libs/*"
    return ["java", "-Xmx512m", "-cp", classpath, "Consume", *arguments]


def run(target, scenario, kind, messages):
    world = World(target, scenario["streams"])
    try:
        command = consumer_command(kind, target, world, messages)
        consumer = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        if consumer.stdout.readline().strip() != "ready":
            sys.exit(f"the {kind} consumer did not start")
        before = {"edge": world.edge.used(), "cloud": world.cloud.used()}
        written_before = {name: device.written() for name, device in world.devices.items()}
        load = [os.path.join(world.bin, "tidegate-load"), "--address", world.mqtt]
        load += ["--messages", str(messages), "--payload-bytes", str(PAYLOAD_BYTES)]
        load += scenario["load"]
        published = json.loads(subprocess.run(load, check=True, capture_output=True).stdout)
        consumed = json.loads(consumer.stdout.readline())
        consumer.wait(30)
        if consumed["records"] < messages:
            sys.exit(f"{kind} read {consumed['records']} of {messages} records")
        result = {
            "scenario": scenario["name"],
            "consumer": kind,
            "messages": messages,
            "messages_per_second": messages / consumed["seconds"],
            "latency_p50_ms": consumed["p50_us"] / 1000,
            "latency_p99_ms": consumed["p99_us"] / 1000,
            "puback_p50_ms": published["ack_p50_us"] / 1000,
            "puback_p99_ms": published["ack_p99_us"] / 1000,
        }
        for name, node in (("edge", world.edge), ("cloud", world.cloud)):
            after = node.used()
            cpu_s = after["cpu_s"] - before[name]["cpu_s"]
            os.sync()
            written = (world.devices[name].written() or 0) - (written_before[name] or 0)
            result[f"{name}_cpu_s_per_million"] = cpu_s * 1e6 / messages
            result[f"{name}_resident_mib"] = node.resident_bytes() / 2**20
            result[f"{name}_disk_bytes_per_payload_byte"] = written / (messages * PAYLOAD_BYTES)
        return result
    finally:
        world.close()


SCENARIOS = [
    {
        "name": "one device at full speed",
        "streams": 1,
        "load": ["--inflight", "1000"],
        "messages": 1_000_000,
        "quick": 50_000,
    },
    {
        "name": "1,000 streams, one message a second each",
        "streams": 1000,
        "load": ["--topics", "1000", "--connections", "50", "--rate", "1000"],
        "messages": 30_000,
        "quick": 5_000,
    },
]


def table(rows):
    columns = [
        ("scenario", "scenario", "{}"),
        ("consumer", "read by", "{}"),
        ("messages_per_second", "messages/s", "{:,.0f}"),
        ("latency_p50_ms", "p50 ms", "{:.1f}"),
        ("latency_p99_ms", "p99 ms", "{:.1f}"),
        ("puback_p99_ms", "PUBACK p99 ms", "{:.1f}"),
        ("edge_cpu_s_per_million", "edge CPU s/M", "{:.2f}"),
        ("cloud_cpu_s_per_million", "cloud CPU s/M", "{:.2f}"),
        ("edge_resident_mib", "edge MiB", "{:.0f}"),
        ("cloud_resident_mib", "cloud MiB", "{:.0f}"),
        ("edge_disk_bytes_per_payload_byte", "edge disk ×", "{:.2f}"),
        ("cloud_disk_bytes_per_payload_byte", "cloud disk ×", "{:.2f}"),
    ]
    lines = ["| " + " | ".join(title for _, title, _ in columns) + " |"]
    lines.append("|" + "---|" * len(columns))
    for row in rows:
        lines.append("| " + " | ".join(form.format(row[key]) for key, _, form in columns) + " |")
    return "\n".join(lines)


def median(runs):
    merged = dict(runs[0])
    for key, value in merged.items():
        if isinstance(value, float):
            merged[key] = statistics.median(run[key] for run in runs)
    return merged


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--target", required=True)
    parser.add_argument("--quick", action="store_true", help="one short run of each")
    parser.add_argument("--runs", type=int, default=3)
    arguments = parser.parse_args()
    target = os.path.abspath(arguments.target)
    consumers = ["librdkafka"]
    if os.path.exists(os.path.join(target, "bench", "java", "Consume.class")):
        consumers.append("Java")
    runs = {}
    for number in range(1 if arguments.quick else arguments.runs):
        for scenario in SCENARIOS:
            for kind in consumers:
                messages = scenario["quick" if arguments.quick else "messages"]
                result = run(target, scenario, kind, messages)
                runs.setdefault((scenario["name"], kind), []).append(result)
                print(f"run {number + 1}: {scenario['name']}, {kind}: done", file=sys.stderr)
    rows = [median(of) for of in runs.values()]
    machine = f"{os.cpu_count()} cores, {platform.machine()}, Linux {platform.release()}"
    print(f"spine, {datetime.date.today()}, {machine}; {PAYLOAD_BYTES}-byte payloads, QoS 1,")
    print(f"commit_linger 10 ms; median of {len(next(iter(runs.values())))} interleaved runs; all on one machine\n")
    print(table(rows))
    path = os.path.join(target, "bench", "spine.json")
    with open(path, "w") as out:
        json.dump({"machine": machine, "runs": list(runs.values())}, out, indent=1)
    print(f"\nwritten to {os.path.relpath(path)}")


if __name__ == "__main__":
    main()
