"""The journal: what it writes to flash and how long a commit takes beside redb alone, SQLite (WAL, FULL)
and a plain append log, interleaved; PUBACKs of the edge for many publishers; offline sessions; a
session's replay; opening by size."""

import argparse
import concurrent.futures
import datetime
import json
import os
import platform
import shutil
import socket
import sqlite3
import statistics
import struct
import subprocess
import sys
import time

from device import Device
from spine import Node, free_ports, wait_for

PAYLOAD_BYTES = 200
RATE = 1_000
STORES = ["journal", "redb", "append", "sqlite"]
LINGERS_MS = [0, 10, 250]
OFFLINE = [0, 1, 1_000]


def sqlite_steady(device, linger_ms, payload, seconds):
    """As `tidegate-journal-bench steady`, in SQLite."""
    path = os.path.join(device.folder, "store.sqlite")
    for name in (path, path + "-wal", path + "-shm"):
        if os.path.exists(name):
            os.remove(name)
    database = sqlite3.connect(path, isolation_level=None)
    database.execute("PRAGMA journal_mode=WAL")
    database.execute("PRAGMA synchronous=FULL")
    database.execute("CREATE TABLE messages (number INTEGER PRIMARY KEY, payload BLOB)")
    per_commit, total = max(1, RATE * linger_ms // 1000), RATE * seconds
    filler = b'{"device":"press-001","temperature_c":21.50,"state":"running"}'.ljust(PAYLOAD_BYTES)
    waits, staged, written, start = [], [], 0, 0.0
    for number in range(total):
        if number == total // 2:
            written, start = device.written() or 0, time.monotonic()
            waits.clear()
        staged.append((number, filler if payload == "json" else os.urandom(PAYLOAD_BYTES)))
        if (number + 1) % per_commit == 0:
            begin = time.monotonic()
            database.execute("BEGIN")
            database.executemany("INSERT INTO messages VALUES (?, ?)", staged)
            database.execute("COMMIT")
            waits.append((time.monotonic() - begin) * 1e6)
            staged.clear()
        if (number + 1) % RATE == 0:
            database.execute("DELETE FROM messages WHERE number < ?", (number - 5 * RATE,))
    took, messages = time.monotonic() - start, total - total // 2
    database.close()
    waits.sort()
    at = lambda share: waits[min(len(waits) - 1, int(len(waits) * share))]
    return {
        "messages_per_second": messages / took,
        "device_bytes_per_payload_byte": ((device.written() or 0) - written)
        / (messages * PAYLOAD_BYTES),
        "commit_p50_us": at(0.5),
        "commit_p99_us": at(0.99),
        "commit_p999_us": at(0.999),
    }


def tool(target, device, *arguments):
    command = [os.path.join(target, "release", "tidegate-journal-bench")]
    command += ["--folder", os.path.join(device.folder, "store")]
    if device.stat:
        command += ["--device", device.stat]
    done = subprocess.run([*command, *arguments], check=True, capture_output=True, text=True)
    return json.loads(done.stdout)


def steady(target, device, store, linger_ms, payload, seconds):
    if store == "sqlite":
        return sqlite_steady(device, linger_ms, payload, seconds)
    arguments = ["--store", store, "--linger-ms", str(linger_ms), "--payload", payload]
    return tool(target, device, "steady", *arguments, "--seconds", str(seconds))


class Edge:
    """An edge alone, on a device of its own."""

    def __init__(self, target, device, linger_ms):
        self.device, self.bin = device, os.path.join(target, "release")
        data = os.path.join(device.folder, "edge")
        shutil.rmtree(data, ignore_errors=True)
        mqtt, http = free_ports(2)
        self.port, self.mqtt = mqtt, f"127.0.0.1:{mqtt}"
        config = device.folder + ".yaml"
        with open(config, "w") as out:
            out.write(
                f"data: {data}\nmqtt: {{listeners: [{{address: '{self.mqtt}'}}]}}\n"
                f"http: {{address: '127.0.0.1:{http}'}}\n"
                f"journal: {{commit_linger: {linger_ms}ms, free_disk_min: 0B}}\n"
            )
        edge = os.path.join(self.bin, "tidegate-edge")
        self.node = Node(edge, ["--config", config], device.folder + ".log")
        wait_for(f"http://127.0.0.1:{http}/healthz")

    def load(self, *arguments):
        command = [os.path.join(self.bin, "tidegate-load"), "--address", self.mqtt]
        command += ["--payload-bytes", str(PAYLOAD_BYTES), *map(str, arguments)]
        return json.loads(subprocess.run(command, check=True, capture_output=True).stdout)

    def close(self):
        self.node.stop()


def pubacks(target, device, publishers, linger_ms, messages, rate=0):
    edge = Edge(target, device, linger_ms)
    try:
        inflight = 1 if publishers > 1 else 100
        load = ["--connections", publishers, "--topics", publishers, "--inflight", inflight]
        return edge.load(*load, "--messages", max(messages, publishers), "--rate", rate)
    finally:
        edge.close()


def subscribe_and_leave(port, number):
    """A persistent MQTT 3.1.1 session that wants everything, and goes."""
    text = lambda value: struct.pack(">H", len(value)) + value
    body = text(b"MQTT") + bytes([4, 0, 0, 0]) + text(b"offline-%d" % number)
    subscribe = struct.pack(">H", 1) + text(b"#") + b"\x01"
    with socket.create_connection(("127.0.0.1", port)) as peer:
        peer.sendall(b"\x10" + bytes([len(body)]) + body)
        assert peer.recv(4)[3] == 0, "no CONNACK"
        peer.sendall(b"\x82" + bytes([len(subscribe)]) + subscribe)
        assert peer.recv(5)[0] == 0x90, "no SUBACK"
        peer.sendall(b"\xe0\x00")


def offline(target, device, sessions, messages):
    """Bytes to the device per payload byte, while so many sessions are away."""
    edge = Edge(target, device, 10)
    try:
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda number: subscribe_and_leave(edge.port, number), range(sessions)))
        time.sleep(2)  # A checkpoint has their rows.
        edge.load("--connections", 10, "--messages", messages // 2, "--rate", RATE)
        before = device.written() or 0
        edge.load("--connections", 10, "--messages", messages, "--rate", RATE)
        os.sync()
        return ((device.written() or 0) - before) / (messages * PAYLOAD_BYTES)
    finally:
        edge.close()


def print_table(titles, rows):
    print("| " + " | ".join(titles) + " |")
    print("|" + "---|" * len(titles))
    for row in rows:
        print("| " + " | ".join(str(cell) for cell in row) + " |")
    print(flush=True)


def medians(runs):
    return {key: statistics.median(run[key] for run in runs) for key in runs[0]}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--target", required=True)
    parser.add_argument("--quick", action="store_true", help="one short run of each")
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    target, quick = os.path.abspath(options.target), options.quick
    runs = 1 if quick else options.runs
    machine = f"{os.cpu_count()} cores, {platform.machine()}, Linux {platform.release()}"
    print(f"journal, {datetime.date.today()}, {machine}; {PAYLOAD_BYTES}-byte payloads;")
    print(f"medians of {runs} interleaved runs; ext4 on a loop device\n")
    device = Device(os.path.join(target, "bench", "device"), "24G")
    report = {"machine": machine}
    try:
        cases = [
            (store, linger, payload)
            for payload in ("json", "random")
            for linger in LINGERS_MS
            for store in STORES
        ]
        results = {case: [] for case in cases}
        for _ in range(runs):
            for case in cases:
                store, linger, payload = case
                seconds = (10 if quick else 60) if linger else (4 if quick else 20)
                results[case].append(steady(target, device, store, linger, payload, seconds))
        rows = []
        for (store, linger, payload), of in results.items():
            row = medians(of)
            rows.append(
                (
                    payload,
                    f"{linger} ms",
                    store,
                    f"{row['device_bytes_per_payload_byte']:.2f}",
                    f"{row['commit_p50_us']:.0f}",
                    f"{row['commit_p99_us']:.0f}",
                    f"{row['messages_per_second']:,.0f}",
                )
            )
        print(f"Steady state, {RATE} messages a second by a virtual clock:\n")
        titles = ["payload", "linger", "store", "flash ×", "commit p50 µs", "p99 µs", "messages/s"]
        print_table(titles, rows)
        report["steady"] = rows

        cases = [(publishers, linger) for linger in LINGERS_MS for publishers in (1, 10, 100, 1000)]
        results = {case: [] for case in cases}
        for _ in range(runs):
            for publishers, linger in cases:
                # Enough for some seconds; a lone device waits out each linger with 100 under way.
                messages = (2_000 if quick else 20_000) if linger < 250 else (500 if quick else 4_000)
                results[publishers, linger].append(
                    pubacks(target, device, publishers, linger, messages)
                )
        rows = []
        for (publishers, linger), of in results.items():
            row = medians(of)
            latencies = [f"{row[key] / 1000:.1f}" for key in ("ack_p50_us", "ack_p99_us", "ack_p999_us")]
            rows.append((f"{linger} ms", publishers, f"{row['messages_per_second']:,.0f}", *latencies))
        print("The edge, closed loop (one under way per publisher; 100 where there is one):\n")
        print_table(["linger", "publishers", "messages/s", "PUBACK p50 ms", "p99 ms", "p99.9 ms"], rows)
        report["pubacks"] = rows

        paced = medians([pubacks(target, device, 10, 0, 5_000, RATE) for _ in range(runs)])
        sync = medians([steady(target, device, "append", 0, "random", 4) for _ in range(runs)])
        ratio = paced["ack_p99_us"] / sync["commit_p99_us"]
        print(
            f"At {RATE} messages a second and linger 0: PUBACK p99 {paced['ack_p99_us'] / 1000:.2f} ms;"
            f" one write and fdatasync of a plain log here: p99 {sync['commit_p99_us'] / 1000:.2f} ms:"
            f" {ratio:.1f} of it.\n"
        )
        report["paced_p99_in_syncs"] = ratio

        messages = 3_000 if quick else 20_000
        cost = {sessions: [] for sessions in OFFLINE}
        for _ in range(runs):
            for sessions in OFFLINE:
                cost[sessions].append(offline(target, device, sessions, messages))
        rows = [(sessions, f"{statistics.median(of):.2f}") for sessions, of in cost.items()]
        print("Flash per payload byte while sessions that want everything are away (linger 10 ms):\n")
        print_table(["sessions", "flash ×"], rows)
        report["offline"] = rows

        messages = 1_000_000 if quick else 10_000_000
        replay = tool(target, device, "replay", "--messages", str(messages))
        print(
            f"A session with {replay['found']} messages among {messages:,}: {replay['seconds']:.2f} s,"
            f" reading {replay['read_share'] * 100:.2f}% of {replay['log_bytes'] / 2**30:.1f} GiB.\n"
        )
        report["replay"] = replay

        sizes = [1 << 28] if quick else [1 << 30, 10 << 30]
        rows = []
        for size in sizes:
            recovery = tool(target, device, "recovery", "--bytes", str(size))
            rows.append((f"{recovery['log_bytes'] / 2**30:.1f} GiB", f"{recovery['seconds']:.2f}"))
        print("Opening after an unclean stop:\n")
        print_table(["journal", "seconds"], rows)
        report["recovery"] = rows
    finally:
        device.close()
    path = os.path.join(target, "bench", "journal.json")
    with open(path, "w") as out:
        json.dump(report, out, indent=1)
    print(f"written to {os.path.relpath(path)}")


if __name__ == "__main__":
    main()
