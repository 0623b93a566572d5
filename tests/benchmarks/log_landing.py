"""How fast batches land, each synced before it is answered: in the log alone, in the whole cloud over QUIC,
and in Apache Kafka, interleaved. What has landed is read back, every time."""

import os
import shutil
import sys

from log_cloud import GB, Cloud, load

# Records in a batch, and what they hold; values are 100 to 200 bytes long.
KINDS = [(1, "json"), (10, "json"), (1000, "json"), (1000, "random")]

LOG, CLOUD, KAFKA, KAFKA_UNSYNCED = (
    "log alone",
    "cloud, over QUIC",
    "Kafka, flush.messages=1",
    "Kafka, no fsync",
)
SYSTEMS = [LOG, CLOUD, KAFKA, KAFKA_UNSYNCED]

# The goal: messages a second and core, of batches of 1,000.
GOAL = 5_000_000


def figures(landed):
    cpu_s, seconds, batches = landed["cpu_s"], landed["seconds"], landed["batches"]
    return {
        "batches_per_s": batches / seconds,
        "records_per_s": landed["records"] / seconds,
        "records_per_core_s": landed["records"] / max(cpu_s, 0.01),
        "cpu_s_per_gb": cpu_s * GB / landed["bytes"],
        "cpu_s_per_million_batches": cpu_s * 1e6 / batches,
        "cores": cpu_s / seconds,
        "p50_ms": landed["p50_us"] / 1000,
        "p99_ms": landed["p99_us"] / 1000,
        "batch_bytes": landed["batch_bytes"],
        "bytes_per_s": landed["bytes"] / seconds,
    }


def check(system, landed, read):
    """What was counted as landed can be read, at offsets without a hole."""
    if read["records"] != landed["records"]:
        sys.exit(f"{system}: {landed['records']} records have landed, and {read['records']} can be read")


class Landing:
    def __init__(self, target, folder, kafka, seconds):
        self.target, self.folder, self.kafka, self.seconds = target, folder, kafka, seconds
        self.runs = {}

    def round(self):
        for records, payload in KINDS:
            for system in SYSTEMS:
                if self.kafka is None and system in (KAFKA, KAFKA_UNSYNCED):
                    continue
                options = {"records": records, "payload": payload, "seconds": self.seconds}
                landed = self.land(system, options)
                self.runs.setdefault((records, payload, system), []).append(landed)

    def land(self, system, options):
        if system == LOG:
            return self.land_here(options)
        if system == CLOUD:
            return self.land_in_cloud(options)
        topic, landed = self.kafka.produce(system == KAFKA, **options)
        check(system, landed, self.kafka.read(topic))
        return figures(landed)

    def land_here(self, options):
        data = os.path.join(self.folder, "here")
        shutil.rmtree(data, ignore_errors=True)
        # It reads back what has landed, and ends with an error where that is less.
        landed = load(self.target, "land-here", data=data, **options)
        shutil.rmtree(data)
        more = {
            "batches_per_sync": landed["batches"] / landed["syncs"],
            "log_bytes_per_byte": landed["log_bytes"] / landed["bytes"],
        }
        return {**figures(landed), **more}

    def land_in_cloud(self, options):
        cloud = Cloud(self.target, os.path.join(self.folder, "cloud"))
        try:
            cloud.start()
            landed = cloud.land(**options)
            check(CLOUD, landed, cloud.read())
        finally:
            cloud.remove()
        return figures(landed)
