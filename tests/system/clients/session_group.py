"""Three members of a shared subscription and one publisher: one member comes and goes, one leaves for
good in the middle. Prints what each of them got, once all has come."""

import argparse
import json
import threading
import time

import paho.mqtt.client as mqtt

from paho_client import IN_FLIGHT_MAX, Client

FILTER = "$share/workers/jobs/#"
AWAY_S = 0.3


class Member(Client):
    def __init__(self, port, name, protocol):
        super().__init__(port, name, protocol)
        self.got = []
        self.subscribed = threading.Event()
        self.client.on_subscribe = lambda *arguments: self.subscribed.set()
        self.client.on_message = lambda client, userdata, message: self.got.append(
            int(message.payload)
        )

    def on_connect(self, client, userdata, flags, reason, properties):
        super().on_connect(client, userdata, flags, reason, properties)
        if not self.subscribed.is_set():
            client.subscribe(FILTER, 1)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--messages", type=int, required=True)
    parser.add_argument("--deadline", type=float, required=True)
    options = parser.parse_args()
    deadline = time.monotonic() + options.deadline
    members = [
        Member(options.port, "steady", mqtt.MQTTv311),
        Member(options.port, "flapping", mqtt.MQTTv5),
        Member(options.port, "leaving", mqtt.MQTTv5),
    ]
    steady, flapping, leaving = members

    def got():
        return set().union(*(member.got for member in members))

    def drive(member):
        turn = time.monotonic() + AWAY_S
        while len(got()) < options.messages and time.monotonic() < deadline:
            member.step()
            if member is leaving and len(got()) > options.messages / 3:
                return
            if member is flapping and member.subscribed.is_set() and time.monotonic() > turn:
                member.client.disconnect()
                member.connected = member.waiting = False
                time.sleep(AWAY_S)
                turn = time.monotonic() + AWAY_S

    threads = [threading.Thread(target=drive, args=(member,)) for member in members]
    for thread in threads:
        thread.start()
    for member in members:
        assert member.subscribed.wait(10), f"{member.name} has no SUBACK"
    print("subscribed", flush=True)
    publisher = Client(options.port, "publisher", mqtt.MQTTv311)
    acknowledged, sent = set(), 0
    publisher.client.on_publish = lambda client, userdata, mid, *rest: acknowledged.add(mid)
    while len(acknowledged) < options.messages and time.monotonic() < deadline:
        if publisher.step():
            while sent < options.messages and sent - len(acknowledged) < IN_FLIGHT_MAX:
                publisher.client.publish(f"jobs/{sent % 5}", str(sent), 1)
                sent += 1
    for thread in threads:
        thread.join()
    report = {member.name: len(member.got) for member in members}
    print(json.dumps({"distinct": len(got()), "members": report}))


main()
