"""MQTT brokers beside each other: CPU per message and throughput in a closed loop, latency at a fixed
rate, connects, and memory; all take turns.

Run it by `tests/bench mqtt [--quick | --only idle]`. Load tool and broker share this machine's cores; compare the figures
of one run with each other, not with another machine's."""

import argparse
import datetime
import json
import os
import platform
import shutil
import subprocess
import sys
import time

import mqtt_table
from mqtt_brokers import AT_ONCE_NAME, SINK_NAME, brokers
from mqtt_table import title

LOAD_DEADLINE_S = 90

# Publishers, subscribers, and messages under way at QoS 0 and at QoS 1 and 2.
TOPOLOGIES = [(1, 1, 500, 100), (100, 1, 1000, 1000), (1, 100, 200, 200), (50, 50, 5000, 2500)]
SIZES = [16, 256, 4096]
UNDER_WAY_BYTES_MAX = 32 << 20

# Fewer than the files that a process may have open on a small machine.
IDLE_CONNECTIONS = 15_000


def scenario(topology, payload_bytes, qos):
    publishers, subscribers, under_way_0, under_way = topology
    under_way = under_way_0 if qos == 0 else under_way
    # Each message is under way to everybody who shares a topic.
    copies = 1 if publishers == subscribers else subscribers
    under_way = min(under_way, UNDER_WAY_BYTES_MAX // (copies * payload_bytes))
    return {
        "publishers": publishers,
        "subscribers": subscribers,
        "payload_bytes": payload_bytes,
        "qos": qos,
        "under_way": under_way,
    }


GOALS = [scenario(TOPOLOGIES[0], 100, qos) for qos in (0, 1)]
ALL = [scenario(of, size, qos) for of in TOPOLOGIES for size in SIZES for qos in (0, 1, 2)]
QUICK = [scenario(TOPOLOGIES[number], 256, qos) for number, qos in ((1, 0), (2, 0), (3, 1))]


class Bench:
    def __init__(self, target, there, only):
        self.target, self.there, self.results = target, there, {}
        self.only = only
        self.bench = os.path.join(target, "bench")

    def load(self, command, node, port, options):
        arguments = [os.path.join(self.target, "release", "tidegate-mqtt-load"), command]
        arguments += ["--address", f"127.0.0.1:{port}", "--pid", str(node.pid)]
        for name, value in options.items():
            arguments += [f"--{name.replace('_', '-')}", str(value)]
        try:
            done = subprocess.run(
                arguments, capture_output=True, text=True, timeout=LOAD_DEADLINE_S
            )
        except subprocess.TimeoutExpired:
            return {"failed": f"took longer than {LOAD_DEADLINE_S} s"}
        if done.returncode != 0:
            return {"failed": done.stderr.strip().removeprefix("tidegate-mqtt-load: ")}
        return json.loads(done.stdout)

    def run(self, key, broker, command, options):
        """One run on a fresh broker, which keeps nothing that anybody wants afterwards."""
        folder = os.path.join(self.bench, "mqtt")
        node, port = broker.start(folder)
        try:
            result = self.load(command, node, port, options)
        finally:
            node.process.kill()
            node.process.wait()
            shutil.rmtree(folder, ignore_errors=True)
        if "failed" in result:
            print(f"FAILED: {broker.name}, {key}: {result['failed']}", file=sys.stderr)
        self.results.setdefault((key, broker.name), []).append(result)

    def turns(self, key, command, options, without=()):
        if self.only and not any(text in key for text in self.only):
            return
        for broker in self.there:
            if broker.name not in without:
                self.run(key, broker, command, options)

    def throughput(self, scenarios, seconds, without=()):
        warm_up = seconds / 4
        for of in scenarios:
            options = {**of, "seconds": seconds, "warm_up_seconds": warm_up}
            self.turns(title(of), "throughput", options, without)

    def quick(self):
        peers = (AT_ONCE_NAME,)
        self.throughput(GOALS, 0.8)
        self.throughput(QUICK, 0.4, peers)
        self.turns("latency 1", "latency", {"qos": 1, "seconds": 1}, (*peers, SINK_NAME))
        self.turns("connects", "connects", {"connections": 2000}, (*peers, SINK_NAME))
        self.turns("idle", "idle", {"connections": 2000}, (*peers, SINK_NAME))

    def idle(self):
        self.turns("idle", "idle", {"connections": IDLE_CONNECTIONS}, (AT_ONCE_NAME, SINK_NAME))

    def round(self, number):
        self.throughput(GOALS, 2.5)
        self.throughput(ALL, 0.5, (AT_ONCE_NAME,))
        for qos in (0, 1):
            options = {"qos": qos, "seconds": 2, "warm_up_seconds": 0.3}
            self.turns(f"latency {qos}", "latency", options, (SINK_NAME,))
        self.turns("connects", "connects", {"connections": 10_000}, (AT_ONCE_NAME, SINK_NAME))
        if number == 0:
            self.idle()


def report_idle(there, results):
    return mqtt_table.idle(results, [broker.name for broker in there]) + "\n"


def report(target, there, results):
    names = [broker.name for broker in there]
    rows = [name for name in names if name != AT_ONCE_NAME]
    binaries = {broker.name: os.path.getsize(broker.binary) for broker in there}
    edge = os.path.getsize(os.path.join(target, "release", "tidegate-edge"))
    goal_keys = [title(of) for of in GOALS]
    keys = [title(of) for of in ALL if any(key == title(of) for key, _ in results)]
    parts = [
        mqtt_table.goals(results, goal_keys, edge),
        "The goals' two scenarios, 500 and 100 messages under way:",
        mqtt_table.throughput(results, goal_keys, names),
        "The others (a message to a hundred subscribers counts as a hundred):",
        mqtt_table.throughput(results, keys, rows),
        mqtt_table.ceiling(results, goal_keys, keys, names),
        "At 10,000 messages of 100 B a second, 1→1; and at rest:",
        mqtt_table.rest(results, [name for name in rows if name != SINK_NAME], binaries),
    ]
    failed = mqtt_table.failures(results)
    if failed:
        parts += ["What failed (lost, came twice, out of order, stood still, or was refused):", failed]
    return "\n\n".join(parts) + "\n"


def measure(target, there, arguments):
    bench, start = Bench(target, there, arguments.only), time.monotonic()
    rounds = 1 if arguments.quick else arguments.rounds
    for number in range(rounds):
        bench.quick() if arguments.quick else bench.round(number)
        print(f"round {number + 1}: {time.monotonic() - start:.0f} s", file=sys.stderr)
    return {
        "date": str(datetime.date.today()),
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, Linux {platform.release().split('-')[0]}",
        "rounds": rounds,
        "results": [
            {"scenario": key, "broker": name, "runs": runs}
            for (key, name), runs in bench.results.items()
        ],
    }


def chosen(all_brokers, names):
    if not names:
        return all_brokers
    unknown = set(names) - {broker.name for broker in all_brokers}
    if unknown:
        known = "; ".join(broker.name for broker in all_brokers)
        sys.exit(f"no such broker: {'; '.join(sorted(unknown))}. There are: {known}")
    return [broker for broker in all_brokers if broker.name in names]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--target", required=True)
    parser.add_argument("--quick", action="store_true", help="one short round of a few scenarios")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--readme", action="store_true", help="write the tables into README.md")
    parser.add_argument("--again", action="store_true", help="the tables of the last run, without running")
    parser.add_argument("--only", action="append", help="scenarios with this in their name, as `QoS 1`; may be repeated; `idle` alone tells bytes for each connection")
    parser.add_argument("--broker", action="append", help="this one alone, as `tidegate live`; may be repeated")
    arguments = parser.parse_args()
    if arguments.readme and (arguments.only or arguments.broker):
        parser.error("README's tables have every scenario and every broker: --readme goes without --only and --broker")
    target = os.path.abspath(arguments.target)
    there = []
    for broker in chosen(brokers(target), arguments.broker):
        if broker.binary is None:
            print(f"SKIPPED: {broker.name} is missing: {broker.missing}", file=sys.stderr)
        else:
            there.append(broker)
    is_part = arguments.only or arguments.broker
    path = os.path.join(target, "bench", "mqtt-part.json" if is_part else "mqtt.json")
    if not arguments.again:
        measured = measure(target, there, arguments)
        with open(path, "w") as out:
            json.dump(measured, out, indent=1)
    with open(path) as measured:
        run = json.load(measured)
    results = {(row["scenario"], row["broker"]): row["runs"] for row in run["results"]}
    only_idle = arguments.only == ["idle"]
    text = report_idle(there, results) if only_idle else report(target, there, results)
    print(f"mqtt, {run['date']}, {run['machine']}, {run['rounds']} rounds\n\n{text}")
    print(f"written to {os.path.relpath(path)}")
    if arguments.readme:
        mqtt_table.into_readme("README.md", text, run)


if __name__ == "__main__":
    main()
