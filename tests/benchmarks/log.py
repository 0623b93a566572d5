"""The cloud's log, beside Apache Kafka: what lands in a second and what that costs, reading from disk and from
S3, requests to the object store, bytes written and kept, the start, and memory.

Run it by `tests/bench log [--quick]`. All processes share this machine's cores; compare the figures of one
run with each other, not with another machine's."""

import argparse
import datetime
import json
import os
import platform
import shutil
import sys
import time

import log_kafka
import log_scale
import log_table
from log_landing import Landing
from log_stages import MISSING, S3, Stages

# Of each part, for a full run and a quick one.
RUNS = (3, 1)
LANDING_S = (2.0, 0.6)
WARM_UP_S = (6.0, 2.0)
STAGES_RUNS = (2, 1)
STAGES_BYTES = (1_000_000_000, 150_000_000)
PARTITIONS = ((1, 100, 10_000), (1, 100, 1_000))
PARTITIONS_BYTES = (400_000_000, 100_000_000)
START = ((10, 10_000), (2, 5_000))
MEMORY_BATCHES = (1_000_000, 200_000)

PARTS = ["landing", "stages", "partitions", "start", "memory"]


class Bench:
    def __init__(self, target, is_quick):
        self.target, self.quick = target, int(is_quick)
        self.folder = os.path.join(target, "bench", "log")
        shutil.rmtree(self.folder, ignore_errors=True)
        os.makedirs(self.folder)
        self.measured, self.skipped, self.began = {}, [], time.monotonic()

    def say(self, what):
        print(f"{time.monotonic() - self.began:4.0f} s: {what}", file=sys.stderr)

    def skip(self, what):
        self.skipped.append(f"SKIPPED: {what}")
        print(self.skipped[-1], file=sys.stderr)

    def kafka(self):
        why = log_kafka.missing(self.target)
        if why is None:
            kafka = log_kafka.Kafka(self.target, os.path.join(self.folder, "kafka"))
            # A cold JVM is not what is compared.
            for records in (1, 1000):
                kafka.produce(False, records=records, seconds=WARM_UP_S[self.quick])
            return kafka
        return self.skip(f"Apache Kafka: {why}")

    def landing(self, kafka):
        landing = Landing(self.target, self.folder, kafka, LANDING_S[self.quick])
        for number in range(RUNS[self.quick]):
            landing.round()
            self.say(f"landing, run {number + 1}")
        self.measured["landing"] = landing.runs

    def stages(self, kafka, s3):
        stages = Stages(self.target, self.folder, kafka, s3, STAGES_BYTES[self.quick])
        for number in range(STAGES_RUNS[self.quick]):
            stages.round()
            self.say(f"stages, run {number + 1}")
        self.measured["stages"] = stages.runs

    def partitions(self, s3):
        rows = self.measured["partitions"] = []
        for partitions in PARTITIONS[self.quick]:
            where = (self.target, self.folder, partitions, PARTITIONS_BYTES[self.quick])
            row = log_scale.by_partitions(*where)
            if s3 is not None:
                row |= log_scale.asked_of_s3(*where, s3.folder())
            rows.append(row)
            self.say(f"{partitions} partitions")

    def start(self):
        self.measured["start"] = log_scale.start_up(self.target, self.folder, *START[self.quick])
        self.say("start")

    def memory(self):
        self.measured["memory"] = log_scale.memory(self.target, self.folder, MEMORY_BATCHES[self.quick])
        self.say("memory")

    def run(self, parts):
        uses = lambda *some: bool(set(some) & set(parts))
        peers = {}
        try:
            if uses("landing", "stages"):
                peers["kafka"] = self.kafka()
            if uses("stages", "partitions"):
                peers["s3"] = S3.start() or self.skip(MISSING)
            for part in parts:
                of_part = {"landing": ["kafka"], "stages": ["kafka", "s3"], "partitions": ["s3"]}.get(part, [])
                getattr(self, part)(*(peers[name] for name in of_part))
        finally:
            for peer in filter(None, peers.values()):
                peer.close()
            shutil.rmtree(self.folder, ignore_errors=True)


def as_json(measured):
    """Keys that are no texts are spread out."""
    found = dict(measured)
    if "landing" in found:
        found["landing"] = [
            {"records": records, "payload": payload, "system": system, "runs": runs}
            for (records, payload, system), runs in found["landing"].items()
        ]
    return found


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--target", required=True)
    parser.add_argument("--quick", action="store_true", help="one short run of each part, in about two minutes")
    parser.add_argument("--only", action="append", choices=PARTS, help="this part alone; may be repeated")
    arguments = parser.parse_args()
    target = os.path.abspath(arguments.target)
    bench = Bench(target, arguments.quick)
    bench.run([part for part in PARTS if not arguments.only or part in arguments.only])
    machine = f"{os.cpu_count()} cores, {platform.machine()}, Linux {platform.release().split('-')[0]}"
    kind = "one short run" if arguments.quick else f"medians of {RUNS[0]} interleaved runs, of stages {STAGES_RUNS[0]}"
    print(f"log, {datetime.date.today()}, {machine}; values of 100 to 200 B, 12 partitions unless said; {kind}")
    print("\n".join(["", *bench.skipped, log_table.report(bench.measured)]))
    path = os.path.join(target, "bench", "log-part.json" if arguments.only else "log.json")
    with open(path, "w") as out:
        json.dump({"machine": machine, **as_json(bench.measured), "skipped": bench.skipped}, out, indent=1)
    print(f"\nwritten to {os.path.relpath(path)}")


if __name__ == "__main__":
    main()
