"""What `tests/bench log` measures with: a cloud on a folder of its own that can be ended and started anew,
its counters, the load tool, and the page cache."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
import urllib.request

from spine import Node, free_ports, wait_for

MIB = 1 << 20
GB = 1_000_000_000
LOAD_DEADLINE_S = 300
PACK_DEADLINE_S = 240
LINE = re.compile(r"^(tidegate_\w+?)(?:_total)?(?:\{(.*)\})? (\S+)$")


def load(target, command, **options):
    """What `tidegate-log-load` measures; it ends with an error where anything is lost or refused."""
    return loaded(start_load(target, command, **options))


def start_load(target, command, **options):
    arguments = [os.path.join(target, "release", "tidegate-log-load"), command]
    for name, value in options.items():
        for one in value if isinstance(value, list) else [value]:
            arguments += [f"--{name.replace('_', '-')}"] + ([] if one is True else [str(one)])
    return subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def loaded(process):
    """What it has measured, once it has ended."""
    try:
        out, failed = process.communicate(timeout=LOAD_DEADLINE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        sys.exit(f"{' '.join(process.args)}: takes longer than {LOAD_DEADLINE_S} s")
    if process.returncode != 0:
        sys.exit(f"{' '.join(process.args)}: {failed.strip()}")
    return json.loads(out)


def files(folder):
    for path, _, names in os.walk(folder):
        for name in names:
            yield os.path.join(path, name)


def forget(folder):
    """Takes a folder's files out of the page cache. (What the disk or its host remembers stays.)"""
    os.sync()
    for path in files(folder):
        with open(path, "rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def kept(*folders):
    """Bytes of files, as blocks. What goes away meanwhile is not there."""
    total = 0
    for path in (path for folder in folders for path in files(folder)):
        try:
            total += os.stat(path).st_blocks * 512
        except FileNotFoundError:
            pass
    return total


def resident(pid):
    """Bytes of a process that are resident now."""
    with open(f"/proc/{pid}/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


class Cloud:
    """A cloud with topics `log-0` …, and its edges' certificates."""

    def __init__(self, target, folder, topics=1, partitions=12, edges=4, store=None, wal="local", **settings):
        self.binary = os.path.join(target, "release", "tidegate-cloud")
        self.target, self.folder, self.edges = target, folder, edges
        self.data = os.path.join(folder, "data")
        self.names, self.partitions = [f"log-{number}" for number in range(topics)], partitions
        self.store, self.wal = store, wal
        os.makedirs(folder, exist_ok=True)
        kafka, bridge, http = free_ports(3)
        self.kafka, self.bridge, self.http = (f"127.0.0.1:{port}" for port in (kafka, bridge, http))
        self.node = None
        self.configure(**settings)
        for number in range(edges):
            out = os.path.join(folder, "tls", f"load-{number}")
            command = [self.binary, "certificate", f"load-{number}", "--config", self.config, "--out", out]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)

    def configure(self, max_age="1h", segment_size="64MiB", restore_window="1h"):
        """For the next start."""
        self.config = os.path.join(self.folder, "cloud.yaml")
        topics = ", ".join(f"{{name: {name}, partitions: {self.partitions}}}" for name in self.names)
        store = f"object_store: '{self.store}'\n" if self.store else ""
        with open(self.config, "w") as out:
            out.write(
                f"data: {self.data}\nkafka: {{address: '{self.kafka}'}}\n"
                f"bridge: {{address: '{self.bridge}'}}\nhttp: {{address: '{self.http}'}}\n"
                f"pack: {{max_age: {max_age}, segment_size: {segment_size}}}\n"
                f"restore_window: {restore_window}\ntopics: [{topics}]\nwal: {self.wal}\n{store}"
            )

    def launch(self):
        self.log = os.path.join(self.folder, "cloud.log")
        self.node = Node(self.binary, ["--config", self.config, "--log", "warn"], self.log)

    def start(self):
        """Returns the seconds until it answers."""
        began = time.monotonic()
        self.launch()
        wait_for(f"http://{self.http}/readyz")
        return time.monotonic() - began

    def stop(self):
        self.node.stop()

    def kill(self):
        self.node.process.kill()
        self.node.process.wait()

    def remove(self):
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def forget(self):
        """Nothing is in memory: neither its own, nor the page cache's; and what it keeps of objects is gone."""
        self.stop()
        shutil.rmtree(os.path.join(self.data, "cache"), ignore_errors=True)
        forget(self.data)
        self.start()

    def land(self, **options):
        certificates = os.path.join(self.folder, "tls")
        options = {"edges": self.edges, "lanes": self.partitions, "topics": len(self.names), **options}
        return load(
            self.target, "land", bridge=self.bridge, certificates=certificates, pid=self.node.pid, **options
        )

    def read(self, connections=2):
        options = {"topic": self.names, "connections": connections}
        return load(self.target, "read", kafka=self.kafka, pid=self.node.pid, **options)

    def metrics(self):
        """Counters by name; those with labels as `name{labels}`, and by name as their sum."""
        found = {}
        with urllib.request.urlopen(f"http://{self.http}/metrics", timeout=30) as response:
            for line in response.read().decode().splitlines():
                match = LINE.match(line)
                if match:
                    name, labels, value = match.groups()
                    found[name] = found.get(name, 0) + float(value)
                    if labels:
                        found[f"{name}{{{labels}}}"] = float(value)
        return found

    def tail_batches(self):
        """Batches that are not packed."""
        total = 0
        for name in self.names:
            with urllib.request.urlopen(f"http://{self.http}/api/v1/topics/{name}", timeout=60) as response:
                total += sum(of["tail_batches"] for of in json.load(response)["partitions"])
        return total

    def wait_packed(self):
        """Returns seconds and CPU seconds until all is packed."""
        began, cpu_s = time.monotonic(), self.node.used()["cpu_s"]
        asked = began
        while self.tail_batches() > 0:
            now = time.monotonic()
            if now - began > PACK_DEADLINE_S:
                sys.exit("what has landed is not packed in time")
            # Of many partitions the answer is long: it is not asked for so often that it counts.
            time.sleep(max(0.25, 20 * (now - asked)))
            asked = time.monotonic()
        return time.monotonic() - began, self.node.used()["cpu_s"] - cpu_s

    def resident(self):
        return resident(self.node.pid)

    def snapshot_bytes(self):
        """Of the newest snapshot."""
        snapshots = [path for path in files(os.path.join(self.data, "snapshots")) if path.endswith(".snapshot")]
        return os.path.getsize(max(snapshots)) if snapshots else 0


def requests(before, after):
    """What was asked of the object store in between: by operation, and bytes by direction."""
    asked = {}
    for name, value in after.items():
        grown = value - before.get(name, 0)
        match = re.search(r'tidegate_object_store_(requests|bytes)\{.*?(?:operation|direction)="(\w+)"', name)
        if match and grown:
            asked[match[2]] = asked.get(match[2], 0) + grown
    return asked
