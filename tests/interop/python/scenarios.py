"""What every client of this folder does, written once for the clients that Python can drive.

A client is an object with `connect`, `resume`, `subscribe`, `publish`, `take`, `disconnect` and `die`; see
`paho_client.py` and `mosquitto_client.py`. The contract of the programs stands in `../README.md`.
"""

import argparse
import json
import sys
import time
from typing import NamedTuple

MESSAGES = 20
LARGE_BYTES = 100_000
# Nothing here takes longer than this on a slow, busy machine.
WITHIN_S = 20


class Message(NamedTuple):
    topic: str
    payload: str
    retain: bool = False
    response_topic: str = ""
    correlation: str = ""


class Publish(NamedTuple):
    topic: str
    payload: str
    qos: int
    retain: bool = False
    response_topic: str = ""
    correlation: str = ""


def payload(qos, number):
    """One that differs in content and in length; the last is larger than a frame or a read."""
    length = LARGE_BYTES if number == MESSAGES - 1 else number * 37
    return f"{qos}:{number}:" + "x" * length


def expect(what, got, wanted):
    if got != wanted:
        raise AssertionError(f"{what}: {str(got)[:300]}, not {str(wanted)[:300]}")


def until_end(client, topic):
    """What comes before the message on `topic`, by topic."""
    got = {}
    while True:
        message = client.take()
        if message.topic == topic:
            return got
        got.setdefault(message.topic, []).append(message.payload)


def qos(new, prefix, version):
    subscriber, publisher = new("subscriber"), new("publisher")
    subscriber.connect()
    subscriber.subscribe(f"{prefix}/qos/#", 2)
    publisher.connect()
    publisher.publish(
        [Publish(f"{prefix}/qos/{qos}", payload(qos, n), qos) for qos in (0, 1, 2) for n in range(MESSAGES)]
    )
    publisher.publish([Publish(f"{prefix}/qos/end", "end", 2)])
    got = until_end(subscriber, f"{prefix}/qos/end")
    for qos in (0, 1, 2):
        wanted = [payload(qos, n) for n in range(MESSAGES)]
        expect(f"QoS {qos}", got.get(f"{prefix}/qos/{qos}"), wanted)
    publisher.disconnect()
    subscriber.disconnect()


def retained(new, prefix, version):
    kept, cleared = f"{prefix}/retained/kept", f"{prefix}/retained/cleared"
    publisher, early, late = new("publisher"), new("early"), new("late")
    publisher.connect()
    publisher.publish([Publish(kept, "kept", 1, True), Publish(cleared, "cleared", 1, True)])
    early.connect()
    early.subscribe(f"{prefix}/retained/#", 1)
    got = {early.take(), early.take()}
    expect("on SUBSCRIBE", got, {Message(kept, "kept", True), Message(cleared, "cleared", True)})
    publisher.publish([Publish(cleared, "", 1, True)])
    late.connect()
    late.subscribe(f"{prefix}/retained/#", 1)
    publisher.publish([Publish(cleared, "live", 1)])
    got = {late.take(), late.take()}
    expect("after it was cleared", got, {Message(kept, "kept", True), Message(cleared, "live")})
    publisher.publish([Publish(kept, "", 1, True)])
    for client in (publisher, early, late):
        client.disconnect()


def will(new, prefix, version):
    topic = f"{prefix}/will"
    watcher, polite, dying = new("watcher"), new("polite"), new("dying")
    watcher.connect()
    watcher.subscribe(topic, 1)
    polite.connect(will=(topic, "polite"))
    polite.disconnect()
    dying.connect(will=(topic, "gone"))
    dying.die()
    expect("the will", watcher.take().payload, "gone")
    watcher.disconnect()


def shared(new, prefix, version):
    topic = f"{prefix}/shared"
    members, publisher = [new("member-1"), new("member-2")], new("publisher")
    for member in members:
        member.connect()
        member.subscribe(f"$share/group/{topic}", 1)
    publisher.connect()
    publisher.publish([Publish(topic, payload(1, n), 1) for n in range(MESSAGES)])
    got = take_shared(members, MESSAGES)
    # One more each: were any of the others sent twice, it would have come before.
    publisher.publish([Publish(topic, "end", 1), Publish(topic, "end", 1)])
    ends = take_shared(members, 2)
    expect("ends", sum(ends, []), ["end", "end"])
    expect("all, once", sorted(sum(got, [])), sorted(payload(1, n) for n in range(MESSAGES)))
    if not all(got):
        raise AssertionError(f"one member got everything: {[len(one) for one in got]}")
    for client in (*members, publisher):
        client.disconnect()


def take_shared(members, count):
    """What each member got, once all of them together have so many."""
    got = [[] for _ in members]
    deadline = time.monotonic() + WITHIN_S
    while sum(map(len, got)) < count:
        if time.monotonic() > deadline:
            raise TimeoutError(f"{[len(one) for one in got]} of {count} shared messages")
        for member, mine in zip(members, got):
            message = member.take(0.02)
            if message:
                mine.append(message.payload)
    return got


def request_response(new, prefix, version):
    request, response = f"{prefix}/request", f"{prefix}/response/requester"
    requester, responder = new("requester"), new("responder")
    responder.connect()
    responder.subscribe(request, 1)
    requester.connect()
    requester.subscribe(response, 1)
    requester.publish([Publish(request, "how warm?", 1, False, response, "no-17")])
    asked = responder.take()
    expect("the request", asked, Message(request, "how warm?", False, response, "no-17"))
    responder.publish([Publish(asked.response_topic, "21.5", 1, False, "", asked.correlation)])
    answered = requester.take()
    expect("the response", (answered.payload, answered.correlation), ("21.5", "no-17"))
    requester.disconnect()
    responder.disconnect()


def session(new, prefix, version):
    away, publisher = new("away"), new("publisher")
    away.connect(clean=False)
    away.subscribe(f"{prefix}/session/#", 2)
    away.disconnect()
    publisher.connect()
    wanted = {qos: [payload(qos, n) for n in range(MESSAGES)] for qos in (1, 2)}
    publisher.publish(
        [Publish(f"{prefix}/session/{qos}", wanted[qos][n], qos) for n in range(MESSAGES) for qos in (1, 2)]
    )
    publisher.disconnect()
    print(json.dumps({"waiting": "restart"}), flush=True)
    sys.stdin.readline()
    away.resume(f"{prefix}/session/#", 2)
    publisher = new("publisher-2")
    publisher.connect()
    publisher.publish([Publish(f"{prefix}/session/end", "end", 2)])
    got = until_end(away, f"{prefix}/session/end")
    once = list(dict.fromkeys(got.get(f"{prefix}/session/1", [])))
    expect("QoS 1, at least once", once, wanted[1])
    expect("QoS 2, once", got.get(f"{prefix}/session/2"), wanted[2])
    publisher.disconnect()
    away.disconnect()


SCENARIOS = {
    scenario.__name__: scenario for scenario in (qos, retained, will, shared, request_response, session)
}


def main(client_class):
    parser = argparse.ArgumentParser()
    parser.add_argument("--url", required=True)
    parser.add_argument("--ca")
    parser.add_argument("--scenario", required=True)
    parser.add_argument("--version", choices=["311", "5"], required=True)
    parser.add_argument("--name", required=True)
    options = parser.parse_args()
    for scenario in options.scenario.split(","):
        def new(role):
            return client_class(options, f"{options.name}-{scenario}-{role}")

        try:
            SCENARIOS[scenario](new, options.name, options.version)
        except Exception as error:
            print(json.dumps({"scenario": scenario, "error": f"{type(error).__name__}: {error}"}), flush=True)
            sys.exit(1)
        print(json.dumps({"scenario": scenario, "passed": True}), flush=True)
