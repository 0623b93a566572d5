"""What Kafka clients get of the cloud, beside Apache Kafka: produce, fetch, waits at fixed rates, start and memory;
all take turns.

Run it by `tests/bench kafka [--rounds N] [--short] [--only PART,PART]`. Brokers and clients share this machine's
cores; compare the figures of one run with each other, not with another machine's."""

import argparse
import datetime
import json
import os
import platform
import shutil
import sys
import time

import kafka_parts
import kafka_table
from kafka_brokers import Brokers
from kafka_clients import socket_cost
from kafka_quiet import Quiet
from mqtt_table import between_markers

PARTS = ["produce", "fetch", "latency", "start"]

# What is done in a round, the share that it may have of the time that is left in the round, and the parts that want it.
WORK = [
    (kafka_parts.start, 1, ["start"]),
    (kafka_parts.by_load_tool, 0.5, ["produce", "fetch"]),
    (kafka_parts.latency, 0.4, ["latency"]),
    (kafka_parts.tail, 0.4, ["fetch"]),
    (kafka_parts.packed, 0.5, ["fetch"]),
    (kafka_parts.by_kafkas_tools, 1, ["produce", "fetch"]),
]
SOCKET_BYTES = 2_000_000_000
DOCUMENT = "deploy/docs/bench-kafka.md"


class Bench:
    def __init__(self, target, parts, is_short):
        self.target, self.parts, self.is_short = target, parts, is_short
        self.folder = os.path.join(target, "bench", "kafka-run")
        shutil.rmtree(self.folder, ignore_errors=True)
        os.makedirs(self.folder)
        self.sizes = kafka_parts.SHORT if is_short else kafka_parts.WHOLE
        self.results, self.began, self.left_out = {}, time.monotonic(), 0

    def say(self, what):
        print(f"{time.monotonic() - self.began:4.0f} s: {what}", file=sys.stderr)

    def add(self, part, scenario, system, figures):
        self.results.setdefault((part, scenario, system), []).append(figures)

    def each(self, scenarios):
        """Those for which there is time; what is left out is said."""
        for scenario in scenarios:
            if time.monotonic() > self.part_until:
                self.say(f"no time in this round: {kafka_parts.title(scenario)}")
                self.left_out += 1
            else:
                yield scenario
                self.say(kafka_parts.title(scenario))

    def round(self, brokers, number, until):
        brokers.turn(number)
        for work, share, parts in WORK:
            if set(parts) & set(self.parts):
                self.part_until = time.monotonic() + share * (until - time.monotonic())
                work(self, brokers)
        if "fetch" in self.parts:
            self.add("socket", "plain", "socket", socket_cost(self.folder, SOCKET_BYTES))

    def run(self, rounds, minutes):
        brokers = Brokers(self.target, self.folder)
        quiet = Quiet(brokers)
        try:
            brokers.warm_up(self.sizes.warm_up_s)
            self.say("Apache Kafka is warm")
            began = time.monotonic()
            whole_s = self.began + minutes * 60 - began
            for number in range(rounds):
                self.round(brokers, number, began + whole_s * (number + 1) / rounds)
                self.say(f"round {number + 1} of {rounds}")
            for system, peak_bytes in brokers.peaks().items():
                self.add("memory", "peak", system, {"bytes": peak_bytes})
        finally:
            brokers.close()
            shutil.rmtree(self.folder, ignore_errors=True)
        return quiet.others()


def versions(target):
    """Of what is compared, as their files say."""
    libs = os.path.join(target, "bench", "kafka", "libs")
    jar = next(name for name in os.listdir(libs) if name.startswith("kafka_2.13-"))
    import confluent_kafka

    librdkafka = confluent_kafka.libversion()[0]
    kafka = jar.removeprefix("kafka_2.13-").removesuffix(".jar")
    return f"Apache Kafka {kafka} and its tools, librdkafka {librdkafka}"


def parts_of(text):
    parts = text.split(",")
    unknown = set(parts) - set(PARTS)
    if unknown:
        raise argparse.ArgumentTypeError(f"no such part: {', '.join(sorted(unknown))}. There are: {', '.join(PARTS)}")
    return parts


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--target", required=True)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--minutes", type=float, help="no scenario begins after its round's share of them: 14, short 2.5")
    parser.add_argument("--short", action="store_true", help="one short round, in at most three minutes")
    parser.add_argument("--only", type=parts_of, default=PARTS, help=f"some of {','.join(PARTS)}")
    arguments = parser.parse_args()
    target = os.path.abspath(arguments.target)
    is_whole = not arguments.short and arguments.only == PARTS
    rounds = 1 if arguments.short else arguments.rounds
    bench = Bench(target, arguments.only, arguments.short)
    others = bench.run(rounds, arguments.minutes or (2.5 if arguments.short else 14))
    run = {
        "date": str(datetime.date.today()),
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, Linux {platform.release().split('-')[0]}",
        "versions": versions(target),
        "command": " ".join(["tests/bench kafka", *sys.argv[3:]]),
        "rounds": rounds,
        "others": others,
        "left_out": bench.left_out,
        "minutes": (time.monotonic() - bench.began) / 60,
        "results": [
            {"part": part, "scenario": scenario, "system": system, "runs": runs}
            for (part, scenario, system), runs in bench.results.items()
        ],
    }
    path = os.path.join(target, "bench", "kafka.json" if is_whole else "kafka-part.json")
    with open(path, "w") as out:
        json.dump(run, out, indent=1)
    text = kafka_table.report(run, bench.results)
    print(f"{text}\nwritten to {os.path.relpath(path)}")
    if is_whole:
        between_markers(DOCUMENT, "kafka", text)
        print(f"and to {DOCUMENT}")


if __name__ == "__main__":
    main()
