"""The parts of `tests/bench kafka`: each is one round of it. CPU time is that of the broker's process alone."""

import dataclasses
import time
from collections import namedtuple

from kafka_brokers import SYNCED, TIDEGATE, UNSYNCED, OurStart, Place, TheirStart
from kafka_clients import Tools, answers, end_to_end
from log_cloud import GB, loaded, resident
from log_kafka import CONNECTIONS, CONNECTIONS_SYNCED

KIB = 1024

# What the Java producer gathers into a batch, and into a request, unless told otherwise.
BATCH_BYTES = 16 * KIB
REQUEST_BYTES = 1024 * KIB
RECORD_OVERHEAD_BYTES = 10

READERS = 4
TAIL_REQUESTS_PER_S = 1_000
REST_S = 3
BUSY_PARTITIONS = 1_000

Scenario = namedtuple("Scenario", "partitions value_bytes")
Rate = namedtuple("Rate", "partitions value_bytes messages_per_s")

# The first are those that a round without time for all of them has.
ALL = [Scenario(partitions, size) for size in (KIB, 100, 100 * KIB, 10 * KIB) for partitions in (1, 1_000)]


@dataclasses.dataclass
class Sizes:
    """Of a whole run, or of a short one."""

    warm_up_s: float
    produce_s: float
    produce_bytes: int
    scenarios: list
    # Of Kafka's own tools: the scenario and how many records with and without a sync for each batch.
    tools: dict
    tail_s: float
    rates_s: float
    rates: list
    # Those that Kafka's own tools measure, and confluent-kafka.
    rates_of_clients: list
    packed_bytes: int


WHOLE = Sizes(
    warm_up_s=3,
    produce_s=3,
    # Less than the cloud's largest segment, at which it would begin to pack.
    produce_bytes=230_000_000,
    scenarios=ALL,
    tools={
        Scenario(1, 100): (1_000_000, 500_000),
        Scenario(1, KIB): (200_000, 60_000),
        Scenario(1, 100 * KIB): (2_200, 1_100),
        Scenario(1_000, KIB): (200_000, 60_000),
    },
    tail_s=2.5,
    rates_s=2.5,
    rates=[Rate(1, KIB, 1_000), Rate(1_000, KIB, 1_000), Rate(1, 100, 10_000), Rate(1, 100 * KIB, 100)],
    rates_of_clients=[Rate(1, KIB, 1_000), Rate(1, 100 * KIB, 100)],
    packed_bytes=400_000_000,
)

SHORT = Sizes(
    warm_up_s=2,
    produce_s=0.7,
    produce_bytes=200_000_000,
    scenarios=[Scenario(1, KIB), Scenario(1, 100 * KIB), Scenario(1_000, KIB)],
    tools={Scenario(1, KIB): (150_000, 30_000)},
    tail_s=1,
    rates_s=1,
    rates=[Rate(1, KIB, 1_000)],
    rates_of_clients=[Rate(1, KIB, 1_000)],
    packed_bytes=150_000_000,
)


def size_title(value_bytes):
    return f"{value_bytes} B" if value_bytes < KIB else f"{value_bytes // KIB} KiB"


def title(scenario):
    if isinstance(scenario, str):
        return scenario
    text = f"{scenario.partitions:,} × {size_title(scenario.value_bytes)}"
    return f"{text}, {scenario.messages_per_s:,}/s" if isinstance(scenario, Rate) else text


def batch_options(value_bytes):
    """Random values that are not packed: so neither broker has to unpack what it checks."""
    records = max(1, BATCH_BYTES // (value_bytes + RECORD_OVERHEAD_BYTES))
    in_request = max(1, REQUEST_BYTES // (records * (value_bytes + RECORD_OVERHEAD_BYTES)))
    kind = {"payload": "random", "value_bytes": value_bytes, "unpacked": True}
    return {**kind, "records": records, "request_partitions_max": in_request}


def per_batch(options):
    return options["records"] * options["value_bytes"]


def connections(place, partitions):
    return min(partitions, CONNECTIONS_SYNCED if place.is_synced else CONNECTIONS)


def produce(place, topic, scenario, **options):
    """By the load tool."""
    options = {**batch_options(scenario.value_bytes), **options}
    options.setdefault("connections", connections(place, scenario.partitions))
    if place.is_synced:
        options["flush"] = True
    return place.load("produce", topic=topic, partitions=scenario.partitions, **options)


def read(place, topic, **options):
    return place.load("read", topic=topic, **options)


def figures(done):
    """CPU of all that was produced or read; rates are of bytes of batches."""
    found = {
        "mb_per_s": done["bytes"] / done["seconds"] / 1e6,
        "cpu_s_per_gb": done["cpu_s"] * GB / done["bytes"],
        "records_per_s": done["records"] / done["seconds"],
    }
    if "p50_us" in done:
        found |= {name.replace("_us", "_ms"): done[name] / 1000 for name in ("p50_us", "p99_us", "p999_us")}
    return found


def by_load_tool(bench, brokers):
    for scenario in bench.each(bench.sizes.scenarios):
        for system in brokers.order:
            if system == SYNCED and "produce" not in bench.parts:
                continue
            with brokers.place(system) as place:
                topic = place.topic()
                batches = bench.sizes.produce_bytes // per_batch(batch_options(scenario.value_bytes))
                made = produce(place, topic, scenario, seconds=bench.sizes.produce_s, batches=batches)
                bench.add("produce", title(scenario), system, figures(made))
                # What lies in the log is read the same whether it was synced.
                if "fetch" in bench.parts and system != SYNCED:
                    readers = min(2, scenario.partitions)
                    done = read(place, topic, connections=readers)
                    if done["records"] != made["records"]:
                        raise SystemExit(f"{system}: {made['records']} records produced, {done['records']} read")
                    bench.add("catch-up", title(scenario), system, figures(done))


def metered(place, value_bytes, records, work):
    """What `work` returns, and the broker's CPU time meanwhile; in bytes of values."""
    before = place.cpu_s()
    found = work()
    cpu_s = place.cpu_s() - before
    rate = found["records_per_s"]
    return {**found, "mb_per_s": rate * value_bytes / 1e6, "cpu_s_per_gb": cpu_s * GB / (records * value_bytes)}


def by_kafkas_tools(bench, brokers):
    for scenario in bench.each(bench.sizes.tools):
        unsynced_records, synced_records = bench.sizes.tools[scenario]
        for system in brokers.order:
            if system == SYNCED and "produce" not in bench.parts:
                continue
            records = synced_records if system == SYNCED else unsynced_records
            with brokers.place(system) as place:
                tools, topic = Tools(bench.target, place.address), place.made(scenario.partitions)
                size = scenario.value_bytes
                made = metered(place, size, records, lambda: tools.produce(topic, records, size))
                bench.add("produce, Kafka's tool", title(scenario), system, made)
                if "fetch" in bench.parts and system != SYNCED:
                    done = metered(place, size, records, lambda: tools.consume(topic, records))
                    bench.add("catch-up, Kafka's tool", title(scenario), system, done)


def packed(bench, brokers):
    """Catch-up where a cloud's records lie after a minute: in segments, here in a folder."""
    for scenario in bench.each([Scenario(12, KIB)]):
        packed_of(bench, brokers, scenario)


def packed_of(bench, brokers, scenario):
    options = batch_options(scenario.value_bytes)
    options["batches"] = bench.sizes.packed_bytes // per_batch(options)
    key = title(scenario)
    cloud = brokers.cloud(topics=1, max_age="1s")
    try:
        cloud.start()
        place = Place(TIDEGATE, cloud.kafka, cloud.node, iter(cloud.names), brokers.target)
        before = place.cpu_s()
        made = produce(place, place.topic(), scenario, **options)
        cloud.wait_packed()
        cpu_s = place.cpu_s() - before
        bench.add("produced and packed", key, TIDEGATE, {"cpu_s_per_gb": cpu_s * GB / made["bytes"]})
        for name in ("catch-up, packed, first", "catch-up, packed, again"):
            bench.add(name, key, TIDEGATE, figures(read(place, cloud.names[0], connections=2)))
    finally:
        cloud.remove()
    for system in (SYNCED, UNSYNCED):
        with brokers.place(system) as place:
            topic = place.topic()
            made = produce(place, topic, scenario, **options)
            bench.add("produced and packed", key, system, figures(made))
            if system == UNSYNCED:
                for name in ("catch-up, packed, first", "catch-up, packed, again"):
                    bench.add(name, key, system, figures(read(place, topic, connections=2)))


def tail(bench, brokers):
    """What readers at the end take, beside the same load without them."""
    for scenario in bench.each([Scenario(1, KIB), Scenario(1_000, KIB)]):
        for system in brokers.order:
            if system == SYNCED:
                continue
            with brokers.place(system) as place:
                alone, _ = followed(bench, place, scenario, 0)
                shared, read_bytes = followed(bench, place, scenario, READERS)
                cpu_s_per_gb = (shared - alone) * GB / read_bytes
                bench.add("tail", title(scenario), system, {"cpu_s_per_gb": cpu_s_per_gb})


def followed(bench, place, scenario, readers):
    """CPU seconds of the broker under a fixed load, and what the readers have read of it."""
    seconds, topic = bench.sizes.tail_s, place.made(scenario.partitions)
    before = place.cpu_s()
    options = {"topic": topic, "connections": 1, "follow_seconds": seconds + 1}
    follow = [place.start_load("read", **options) for _ in range(readers)]
    options = {"rate": TAIL_REQUESTS_PER_S, "connections": 1, "request_partitions_max": 1}
    produce(place, topic, scenario, seconds=seconds, **options)
    return place.cpu_s() - before, sum(loaded(one)["bytes"] for one in follow)


def latency(bench, brokers):
    for rate in bench.each(bench.sizes.rates):
        for system in brokers.order:
            with brokers.place(system) as place:
                waits(bench, place, rate)


def waits(bench, place, rate):
    seconds, size = bench.sizes.rates_s, rate.value_bytes
    # A request each millisecond at most: what comes meanwhile is in one batch.
    records = max(1, rate.messages_per_s // 1_000)
    options = {"records": records, "rate": rate.messages_per_s / records, "request_partitions_max": 1}
    options["connections"] = 1 if rate.partitions == 1 else CONNECTIONS
    done = produce(place, place.topic(), rate, seconds=seconds, **options)
    add = lambda tool, found: bench.add("latency", f"{title(rate)}: {tool}", place.system, found)
    add("our tool", figures(done))
    if rate not in bench.sizes.rates_of_clients:
        return
    tools, topic = Tools(bench.target, place.address), place.made(rate.partitions)
    count = int(rate.messages_per_s * (seconds + 1))
    add("Kafka's tool", tools.produce(topic, count, size, rate.messages_per_s, **{"linger.ms": 0}))
    topic = place.made(rate.partitions)
    add("end to end", end_to_end(place.address, topic, rate.messages_per_s, seconds, size))


def start(bench, brokers):
    """Empty; with a thousand partitions that hold something, after an orderly end; and after kill -9."""
    starts = {TIDEGATE: OurStart, "Kafka": TheirStart}
    for system in bench.each(starts):
        began = starts[system](brokers)
        try:
            times = {"empty_s": began.start()}
            times["rest_bytes"] = rested(began)
            place = Place(system, began.address, began.node, brokers.names, brokers.target)
            options = {"request_partitions_max": 100, "connections": 1, "batches": BUSY_PARTITIONS}
            produce(place, place.topic(), Scenario(BUSY_PARTITIONS, KIB), **options)
            began.node.stop()
            times["partitions_s"] = began.start()
            times["partitions_rest_bytes"] = rested(began)
            began.node.process.kill()
            began.node.process.wait()
            times["killed_s"] = began.start()
            bench.add("start", "start", system, times)
        finally:
            began.remove()


def rested(began):
    """Bytes resident once there was nothing to do for a while."""
    time.sleep(REST_S)
    assert answers(began.address)
    return resident(began.node.pid)
