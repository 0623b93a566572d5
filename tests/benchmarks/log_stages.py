"""What each stage costs the cloud's process: landing, packing, and reading what has landed from the log, from
segments in a folder, and from segments in S3 (moto on loopback, a slow server: what it takes is not ours);
Apache Kafka's log beside it."""

import os
import subprocess
import sys

from log_cloud import GB, Cloud, kept, requests
from log_landing import check
from spine import free_ports

HERE = os.path.dirname(os.path.abspath(__file__))
BUCKET = "tidegate"
MISSING = "S3: moto is missing (pip install -r tests/system/clients/requirements.txt)"


class S3:
    """moto on loopback, with one bucket; `start` gives None where it is missing."""

    @classmethod
    def start(cls):
        found = subprocess.run([sys.executable, "-c", "import moto.server, boto3"], capture_output=True)
        return cls() if found.returncode == 0 else None

    def __init__(self):
        self.folders, port = 0, free_ports(1)[0]
        script = os.path.join(HERE, "..", "system", "clients", "s3_server.py")
        command = [sys.executable, script, str(port), BUCKET]
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        if self.process.stdout.readline().strip() != "ready":
            sys.exit("moto does not start")
        # The cloud finds it by these.
        os.environ.update(
            AWS_ENDPOINT_URL=f"http://127.0.0.1:{port}",
            AWS_ALLOW_HTTP="true",
            AWS_REGION="us-east-1",
            AWS_ACCESS_KEY_ID="bench",
            AWS_SECRET_ACCESS_KEY="bench",
        )

    def folder(self):
        """A folder of its own in the bucket."""
        self.folders += 1
        return f"s3://{BUCKET}/{self.folders}"

    def close(self):
        self.process.kill()
        self.process.wait()


def figures(bytes_, seconds, cpu_s, asked=None, cached=0):
    asked = asked or {}
    stored = asked.get("written", 0) + asked.get("read", 0)
    count = sum(count for name, count in asked.items() if name not in ("written", "read"))
    return {
        "bytes": bytes_,
        "mb_per_s": bytes_ / seconds / 1e6,
        "cpu_s_per_gb": cpu_s * GB / bytes_,
        "requests_per_gb": count * GB / bytes_,
        "store_bytes_per_byte": stored / bytes_,
        "cached_bytes_per_byte": cached / bytes_,
    }


class Stages:
    def __init__(self, target, folder, kafka, s3, bytes_):
        self.target, self.folder, self.kafka, self.s3, self.bytes = target, folder, kafka, s3, bytes_
        self.runs = {}

    def note(self, stage, *of):
        self.runs.setdefault(stage, []).append(figures(*of))

    def round(self):
        self.in_folder()
        if self.s3 is not None:
            self.in_s3()
            self.in_s3_alone()
        if self.kafka is not None:
            self.in_kafka()

    def landed(self, cloud, stage):
        before = cloud.metrics()
        landed = cloud.land(records=1000, payload="random", batches=self.bytes // 155_000)
        if stage:
            asked = requests(before, cloud.metrics())
            self.note(stage, landed["bytes"], landed["seconds"], landed["cpu_s"], asked)
        return landed

    def read(self, stage, cloud, landed):
        cache = os.path.join(cloud.data, "cache")
        before, kept_before = cloud.metrics(), kept(cache)
        read = cloud.read()
        check(stage, landed, read)
        asked, cached = requests(before, cloud.metrics()), kept(cache) - kept_before
        self.note(stage, read["bytes"], read["seconds"], read["cpu_s"], asked, cached)

    def pack(self, stage, cloud, landed):
        """Starts it anew with a rule by which all is due."""
        cloud.stop()
        cloud.configure(max_age="1s")
        cloud.start()
        before = cloud.metrics()
        seconds, cpu_s = cloud.wait_packed()
        self.note(stage, landed["bytes"], seconds, cpu_s, requests(before, cloud.metrics()))

    def in_folder(self):
        cloud = Cloud(self.target, os.path.join(self.folder, "cloud"))
        try:
            # So that nothing is packed before its time.
            cloud.configure(segment_size="256MiB")
            cloud.start()
            landed = self.landed(cloud, "land, over QUIC")
            cloud.forget()
            self.read("fetch from the log, cold", cloud, landed)
            self.read("fetch from the log, warm", cloud, landed)
            self.pack("pack into a folder", cloud, landed)
            cloud.forget()
            self.read("fetch from a folder, cold", cloud, landed)
            self.read("fetch from a folder, warm", cloud, landed)
        finally:
            cloud.remove()

    def in_s3(self):
        cloud = Cloud(self.target, os.path.join(self.folder, "cloud"), store=self.s3.folder())
        try:
            cloud.configure(segment_size="256MiB")
            cloud.start()
            landed = self.landed(cloud, None)
            self.pack("pack into S3 (moto)", cloud, landed)
            cloud.forget()
            self.read("fetch from S3 (moto), cold", cloud, landed)
            self.read("fetch from S3 (moto), warm", cloud, landed)
        finally:
            cloud.remove()

    def in_s3_alone(self):
        """With the log there, too."""
        cloud = Cloud(self.target, os.path.join(self.folder, "cloud"), store=self.s3.folder(), wal="object")
        try:
            cloud.configure(segment_size="256MiB")
            cloud.start()
            landed = self.landed(cloud, "land, wal: object in S3 (moto)")
            cloud.forget()
            self.read("fetch from the log in S3 (moto), cold", cloud, landed)
            cloud.forget()
            self.pack("pack from the log in S3 (moto)", cloud, landed)
        finally:
            cloud.remove()

    def in_kafka(self):
        options = {"records": 1000, "payload": "random", "batches": self.bytes // 155_000}
        topic, landed = self.kafka.produce(True, **options)
        self.note("Kafka: produce, flush.messages=1", landed["bytes"], landed["seconds"], landed["cpu_s"])
        for stage in ("Kafka: fetch, cold", "Kafka: fetch, warm"):
            if stage.endswith("cold"):
                self.kafka.forget()
            read = self.kafka.read(topic)
            check(stage, landed, read)
            self.note(stage, read["bytes"], read["seconds"], read["cpu_s"])
