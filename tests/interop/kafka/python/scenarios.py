"""What each Python client of tests/interop/kafka does; the contract stands in ../README.md.

A client is a module with a class Library: its methods are called here from several threads."""

import argparse
import json
import sys
import threading
import time
import traceback

# Nothing here takes longer than this on a slow, busy machine.
WITHIN_S = 40
LOOK_EVERY_S = 0.01
FIRST_MS = 1_700_000_000_000
# Instead of a time: where a partition begins and ends.
LATEST, EARLIEST = -1, -2


def say(**line):
    print(json.dumps(line), flush=True)


def until(what, holds):
    deadline = time.monotonic() + WITHIN_S
    while not (found := holds()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {WITHIN_S} s: {what}")
        time.sleep(LOOK_EVERY_S)
    return found


def expect(what, got, wanted):
    if got != wanted:
        raise AssertionError(f"{what}: {str(got)[:300]}, not {str(wanted)[:300]}")


def record(value, key="key", partition=None, headers=(), timestamp=FIRST_MS):
    """Without a partition it goes where its key says."""
    value = None if value is None else str(value).encode()
    headers = [(name, text.encode()) for name, text in headers]
    return dict(key=key.encode(), value=value, partition=partition, headers=headers, timestamp=timestamp)


def keyed(records):
    lists = {}
    for one in sorted(records, key=lambda one: (one["partition"], one["offset"])):
        lists.setdefault(one["key"], []).append(one)
    return lists


class Scenarios:
    def __init__(self, library, name):
        self.library, self.name = library, name

    def produce(self, topic, records, codec="none"):
        producer = self.library.producer(codec)
        sent = producer.send(topic, records)
        producer.close()
        return sent

    def roundtrip(self):
        topic, count = self.name + "-roundtrip", 60
        self.library.make_topic(topic, 3, {})
        sent = []
        for codec in self.library.codecs:
            records = []
            for number in range(count):
                length = 100_000 if number == count - 2 else number * 37
                value = None if number % 10 == 9 else f"{codec}:{number}:" + "x" * length
                headers = [("codec", codec), ("n", str(number))]
                key = f"{codec}-{number % 5}"
                records.append(record(value, key, headers=headers, timestamp=FIRST_MS + number))
            sent += self.produce(topic, records, codec)
        got = self.read_all(topic)
        expect("records", len(got), len(sent))
        expect("each key in its order", keyed(got), keyed(sent))

    def read_all(self, topic):
        got = []
        for partition, end in self.library.offsets(topic, LATEST).items():
            if end > 0:
                got += self.library.read(topic, partition, 0, end)
        return got

    def take(self, seen, *members):
        """Each member commits what it gets; nothing comes twice."""
        for member in members:
            got = member.poll()
            for one in got:
                if one["value"] in seen:
                    raise AssertionError(f"{one['value']} came twice")
                seen.add(one["value"])
            if got:
                member.commit()

    def take_until(self, seen, count, *members):
        def all_there():
            self.take(seen, *members)
            return len(seen) >= count

        until(f"{count} records", all_there)
        expect("records", len(seen), count)

    def group(self):
        topic, round_ = self.name + "-group", 240
        self.library.make_topic(topic, 12, {})
        seen = set()
        first, second = [self.library.join(topic, topic) for _ in range(2)]

        def both_share():
            self.take(seen, first, second)
            return first.assigned() == second.assigned() == 6

        until("both share the partitions", both_share)
        spread = [[record(f"{at}:{number}", partition=number % 12) for number in range(round_)] for at in range(3)]
        self.produce(topic, spread[0])
        self.take_until(seen, round_, first, second)
        second.close()
        self.produce(topic, spread[1])
        self.take_until(seen, 2 * round_, first)
        expect("what the last member has", first.assigned(), 12)
        first.close()
        self.produce(topic, spread[2])
        third = self.library.join(topic, topic)
        self.take_until(seen, 3 * round_, third)
        third.close()

    def seek(self):
        topic = self.name + "-seek"
        self.library.make_topic(topic, 1, {})
        self.produce(topic, [record(at, partition=0, timestamp=FIRST_MS + at * 1000) for at in range(100)])
        for at, offset in [(FIRST_MS + 50_001, 51), (EARLIEST, 0), (LATEST, 100)]:
            expect(f"the offset at {at}", self.library.offsets(topic, at)[0], offset)
        for offset in [51, 0, 98]:
            expect("from an offset on", self.library.read(topic, 0, offset, 1)[0]["value"], str(offset).encode())

    def admin(self):
        topic, group = self.name + "-admin", self.name + "-admin-group"
        library = self.library
        self.topics_and_settings(topic)
        self.group_and_lag(topic, group)
        library.delete_records(topic, 0, 5)
        expect("where it begins after a deletion", library.offsets(topic, EARLIEST)[0], 5)
        if library.delete_group:
            library.delete_group(group)
            until("the group is gone", lambda: group not in library.groups())
        library.delete_topic(topic)
        until("the topic is gone", lambda: topic not in library.topics())

    def topics_and_settings(self, topic):
        library = self.library
        expect("the brokers", library.brokers(), 1)
        library.make_topic(topic, 3, {"retention.ms": "86400000"})
        try:
            library.make_topic(topic, 3, {})
        except library.AlreadyThere as error:
            expect("it is there already", library.is_already_there(error), True)
        else:
            raise AssertionError("the topic was made twice")
        until("it is listed", lambda: topic in library.topics())
        expect("its partitions", library.partitions(topic), 3)
        library.grow(topic, 5)
        until("it has grown", lambda: library.partitions(topic) == 5)
        expect("retention.ms", library.setting(topic, "retention.ms"), "86400000")
        library.alter(topic, "retention.ms", "3600000")
        until("retention.ms is altered", lambda: library.setting(topic, "retention.ms") == "3600000")

    def group_and_lag(self, topic, group):
        library = self.library
        self.produce(topic, [record(at, partition=at % 5) for at in range(50)])
        member = library.join(group, topic)
        self.take_until(set(), 50, member)
        expect("the group", library.describe_group(group), ("stable", 1))
        member.close()
        until("the group is empty", lambda: library.describe_group(group) == ("empty", 0))
        expect("it is listed", group in library.groups(), True)
        self.produce(topic, [record(at, partition=at % 5) for at in range(10)])
        ends, committed = library.offsets(topic, LATEST), library.committed(group, topic)
        expect("the lag", sum(ends.values()) - sum(committed.values()), 10)

    def killed(self):
        topic, between = self.name + "-killed", 300
        self.library.make_topic(topic, 3, {})
        load = Load(self.library, topic)
        for kill in range(3):
            load.more(between)
            if kill < 2:
                say(waiting="kill")
                if not sys.stdin.readline():
                    raise EOFError("nobody kills")
        sent = load.stop()
        found, wanted = {}, {}
        for key, records in keyed(self.read_all(topic)).items():
            found[key] = [int(one["value"]) for one in records]
        for number in range(sent):
            wanted.setdefault(f"k{number % 7}".encode(), []).append(number)
        expect("each once and in its key's order", found, wanted)


class Load:
    """A producer and a group's member, each in a thread of its own."""

    def __init__(self, library, topic):
        self.library, self.topic = library, topic
        self.acknowledged, self.producing, self.sent, self.failed = 0, True, None, None
        self.threads = [threading.Thread(target=self.guarded, args=[work]) for work in [self.produce, self.follow]]
        for thread in self.threads:
            thread.daemon = True
            thread.start()

    def guarded(self, work):
        try:
            work()
        except Exception as error:
            traceback.print_exc()
            self.failed = error

    def more(self, count):
        goal = self.acknowledged + count
        until(f"{goal} acknowledged", lambda: self.failed or self.acknowledged >= goal)
        if self.failed:
            raise self.failed

    def stop(self):
        self.producing = False
        for thread in self.threads:
            thread.join(WITHIN_S)
        if self.failed or any(thread.is_alive() for thread in self.threads):
            raise self.failed or TimeoutError("the producer or the member does not end")
        return self.sent

    def produce(self):
        producer = self.library.producer("none")
        number = 0
        while self.producing:
            producer.send(self.topic, [record(number + at, f"k{(number + at) % 7}") for at in range(5)])
            number += 5
            self.acknowledged = number
            time.sleep(LOOK_EVERY_S)
        producer.close()
        self.sent = number

    def follow(self):
        member = self.library.join(self.topic, self.topic)
        seen = set()
        while not self.failed and (self.sent is None or len(seen) < self.sent):
            got = member.poll()
            seen.update(one["value"] for one in got)
            if got:
                # What can't be committed because the group no longer knows the member comes again.
                member.try_commit()
        member.close()


def main(library_of):
    parser = argparse.ArgumentParser()
    for option in ["--bootstrap", "--name", "--scenario"]:
        parser.add_argument(option, required=True)
    options = parser.parse_args()
    scenarios = Scenarios(library_of(options.bootstrap), options.name)
    for scenario in options.scenario.split(","):
        try:
            getattr(scenarios, scenario)()
        except Exception as error:
            traceback.print_exc()
            say(scenario=scenario, error=repr(error))
            sys.exit(1)
        say(scenario=scenario, passed=True)
