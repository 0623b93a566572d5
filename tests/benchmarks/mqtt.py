"""MQTT brokers beside each other: throughput and CPU per message in a closed loop, taking turns.

Run it by `tests/bench mqtt [--quick]`. Load tool and broker share this machine's cores; compare the figures
of one run with each other, not with another machine's."""

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys

from mqtt_brokers import brokers

GOALS = [
    {"publishers": 1, "subscribers": 1, "payload_bytes": 100, "qos": 0, "under_way": 500},
    {"publishers": 1, "subscribers": 1, "payload_bytes": 100, "qos": 1, "under_way": 100},
]
LOAD_DEADLINE_S = 60


def title(scenario):
    return (
        f"{scenario['publishers']}→{scenario['subscribers']}, {scenario['payload_bytes']} B,"
        f" QoS {scenario['qos']}, {scenario['under_way']} under way"
    )


def load(target, command, node, port, options):
    arguments = [os.path.join(target, "release", "tidegate-mqtt-load"), command]
    arguments += ["--address", f"127.0.0.1:{port}", "--pid", str(node.pid)]
    for name, value in options.items():
        arguments += [f"--{name.replace('_', '-')}", str(value)]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=LOAD_DEADLINE_S)
    if done.returncode != 0:
        return {"failed": done.stderr.strip().splitlines()[-1]}
    return json.loads(done.stdout)


def run(target, broker, command, options):
    """One run on a fresh broker."""
    folder = os.path.join(target, "bench", "mqtt")
    node, port = broker.start(folder)
    try:
        return load(target, command, node, port, options)
    finally:
        node.stop()
        shutil.rmtree(folder, ignore_errors=True)


def median(runs):
    """Of each figure, over the runs that held."""
    held = [run for run in runs if "failed" not in run]
    if not held:
        return {"failed": runs[0]["failed"]}
    return {key: statistics.median(run[key] for run in held) for key in held[0]}


def print_goals(results, names):
    for scenario in GOALS:
        print(f"\n{title(scenario)}:")
        base = median(results[title(scenario), "mosquitto"]) if "mosquitto" in names else {}
        for name in names:
            row = median(results[title(scenario), name])
            if "failed" in row:
                print(f"  {name:28} FAILED: {row['failed']}")
                continue
            cpu, rate = row["broker_cpu_s_per_million"], row["messages_per_second"]
            line = f"  {name:28} {cpu:8.3f} CPU s/M {rate:12,.0f} msg/s"
            if "broker_cpu_s_per_million" in base:
                line += f"   CPU {cpu / base['broker_cpu_s_per_million']:5.2f}×"
                line += f"   throughput {rate / base['messages_per_second']:6.2f}× of mosquitto's"
            print(line)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--target", required=True)
    parser.add_argument("--quick", action="store_true", help="one short round of a few scenarios")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    target = os.path.abspath(arguments.target)
    there = []
    for broker in brokers(target):
        if broker.binary is None:
            print(f"SKIPPED: {broker.name} is missing: {broker.missing}", file=sys.stderr)
        else:
            there.append(broker)
    names = [broker.name for broker in there]
    seconds = 1.5 if arguments.quick else 3
    results = {}
    for number in range(1 if arguments.quick else arguments.rounds):
        for scenario in GOALS:
            for broker in there:
                result = run(target, broker, "throughput", {**scenario, "seconds": seconds})
                results.setdefault((title(scenario), broker.name), []).append(result)
        print(f"round {number + 1} is done", file=sys.stderr)
    machine = f"{os.cpu_count()} cores, {platform.machine()}, Linux {platform.release()}"
    print(machine)
    print_goals(results, names)
    path = os.path.join(target, "bench", "mqtt.json")
    rows = [{"scenario": key[0], "broker": key[1], "runs": of} for key, of in results.items()]
    with open(path, "w") as out:
        json.dump({"machine": machine, "results": rows}, out, indent=1)
    print(f"\nwritten to {os.path.relpath(path)}")


if __name__ == "__main__":
    main()
