"""What grows: requests and bytes with partitions, the start with partitions and with the log behind the
snapshot, memory and snapshots with batches."""

import os
import shutil
import sys
import time

from device import Device
from log_cloud import GB, Cloud, kept, requests
from log_landing import check

# Kinds of requests to an object store.
WRITING, READING = ("put", "part", "multipart"), ("get", "head")

RESTORE_WINDOW_S = 4
SWEPT_DEADLINE_S = 60

# Behind the snapshot, where the start is measured: just not enough for the next one, which comes with 32 MiB.
TAIL_BATCHES = 60_000

# So many edges land in turn where memory is measured.
MEMORY_EDGES = 48

# Enough that no tail is packed for its count of batches (65,536).
MEMORY_PARTITIONS = 24


def by_partitions(target, folder, partitions, bytes_):
    """Lands, packs and reads; what was asked of the object store, what was written and what is kept."""
    device = Device(os.path.join(folder, "device"), size="12G")
    cloud = Cloud(target, os.path.join(device.folder, "cloud"), partitions=partitions, edges=1)
    try:
        cloud.configure(max_age="3s", restore_window=f"{RESTORE_WINDOW_S}s")
        cloud.start()
        os.sync()
        written, before = device.written(), cloud.metrics()
        landed = cloud.land(records=100, payload="random", batches=bytes_ // 15_600)
        landed_bytes = landed["bytes"]
        pack_s, pack_cpu_s = cloud.wait_packed()
        packed = cloud.metrics()
        kept_packed = kept(cloud.data)
        put = requests(before, packed)
        kept_swept = wait_swept(cloud)
        os.sync()
        written = None if written is None else device.written() - written
        after = cloud.metrics()
        cloud.forget()
        cold = cloud.metrics()
        read = cloud.read()
        check(f"{partitions} partitions", landed, read)
        got = requests(cold, cloud.metrics())
    finally:
        cloud.remove()
        device.close()
        shutil.rmtree(device.folder, ignore_errors=True)
    grown = lambda name: after[name] - before.get(name, 0)
    log_bytes = grown("tidegate_log_written_bytes") / landed_bytes
    return {
        "partitions": partitions,
        "bytes": landed_bytes,
        "segments": grown("tidegate_packed_segments"),
        "pack_s": pack_s,
        "pack_cpu_s": pack_cpu_s,
        "puts_per_gb": asked(put, WRITING) * GB / landed_bytes,
        "gets_per_gb": asked(got, READING) * GB / landed_bytes,
        "got_bytes_per_byte": got.get("read", 0) / landed_bytes,
        "log_bytes_per_byte": log_bytes,
        "object_bytes_per_byte": put.get("written", 0) / landed_bytes,
        "device_bytes_per_byte": None if written is None else written / landed_bytes,
        "kept_packed_per_byte": kept_packed / landed_bytes,
        "kept_swept_per_byte": kept_swept / landed_bytes,
    }


def asked_of_s3(target, folder, partitions, bytes_, store):
    """Requests alone: there an object that is long is written in parts, each of which is paid for."""
    cloud = Cloud(target, os.path.join(folder, "cloud"), partitions=partitions, edges=1, store=store)
    try:
        cloud.configure(max_age="3s")
        cloud.start()
        before = cloud.metrics()
        landed = cloud.land(records=100, payload="random", batches=bytes_ // 15_600)
        cloud.wait_packed()
        put = requests(before, cloud.metrics())
        cloud.forget()
        cold = cloud.metrics()
        check(f"{partitions} partitions in S3", landed, cloud.read())
        got = requests(cold, cloud.metrics())
    finally:
        cloud.remove()
    return {
        "s3_puts_per_gb": asked(put, WRITING) * GB / landed["bytes"],
        "s3_gets_per_gb": asked(got, READING) * GB / landed["bytes"],
    }


def asked(requests_, operations):
    return sum(requests_.get(operation, 0) for operation in operations)


def wait_swept(cloud):
    """Bytes that are kept once what was packed has gone from the log: its newest file is what stays."""
    log, deadline = os.path.join(cloud.data, "log"), time.monotonic() + SWEPT_DEADLINE_S
    while len(os.listdir(log)) > 1:
        if time.monotonic() > deadline:
            sys.exit("the log's files are not removed in time")
        time.sleep(0.25)
    return kept(cloud.data)


def start_up(target, folder, topics, partitions):
    """With a batch in each partition: from the snapshot alone, and with some more batches behind it."""
    cloud = Cloud(target, os.path.join(folder, "cloud"), topics=topics, partitions=partitions, edges=topics)
    total = topics * partitions
    try:
        cloud.start()
        landed = cloud.land(records=1, batches=total)
        resident = cloud.resident()
        cloud.stop()
        from_snapshot, cpu_s = cloud.start(), cloud.node.used()["cpu_s"]
        found = {
            "partitions": total,
            "snapshot_bytes": cloud.snapshot_bytes(),
            "landed_resident_mib": resident / (1 << 20),
            "snapshot_start_s": from_snapshot,
            "snapshot_start_cpu_s": cpu_s,
            "resident_mib": cloud.resident() / (1 << 20),
        }
        newest = sorted(os.listdir(os.path.join(cloud.data, "snapshots")))
        before = cloud.metrics()
        more = cloud.land(records=1, batches=min(total, TAIL_BATCHES))
        tail = cloud.metrics()["tidegate_log_written_bytes"] - before["tidegate_log_written_bytes"]
        cloud.kill()
        is_tail_whole = newest == sorted(os.listdir(os.path.join(cloud.data, "snapshots")))
        found["tail_start_s"], found["tail_start_cpu_s"] = cloud.start(), cloud.node.used()["cpu_s"]
        found["tail_batches"] = more["batches"]
        # Else a snapshot was made meanwhile, and only a part was replayed.
        found["tail_bytes"] = tail if is_tail_whole else None
        landed["records"] += more["records"]
        check("start-up", landed, cloud.read())
    finally:
        cloud.remove()
    return found


def memory(target, folder, batches):
    """What batches of one record take, of edges in turn (so that no two facts can be one): while they are in the
    log, and once they are packed."""
    cloud = Cloud(target, os.path.join(folder, "cloud"), partitions=MEMORY_PARTITIONS, edges=MEMORY_EDGES)
    million, options = batches / 1e6, {"records": 1, "under_way": cloud.partitions}
    try:
        cloud.start()
        # What is taken once, whatever lands, is taken before.
        warm = cloud.land(batches=batches // 10, **options)
        before = cloud.resident()
        landed = cloud.land(batches=batches, **options)
        in_log = cloud.resident() - before
        cloud.stop()
        snapshot = cloud.snapshot_bytes()
        cloud.configure(max_age="1s")
        cloud.start()
        cloud.wait_packed()
        cloud.stop()
        packed_snapshot = cloud.snapshot_bytes()
        cloud.start()
        rested = cloud.resident()
        landed["records"] += warm["records"]
        check("memory", landed, cloud.read())
    finally:
        cloud.remove()
    return {
        "batches": batches,
        "in_log_mib_per_million": in_log / (1 << 20) / million,
        "snapshot_mib_per_million": snapshot / (1 << 20) / (million * 1.1),
        "packed_snapshot_mib_per_million": packed_snapshot / (1 << 20) / (million * 1.1),
        "packed_start_resident_mib": rested / (1 << 20),
    }
