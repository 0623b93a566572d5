"""Publishers and persistent subscribers over paho-mqtt, which reconnect until everybody has
everything: QoS 1 and 2, MQTT 3.1.1 and 5, one subscriber that comes and goes.

Each client drives its own network loop in a thread of its own. The report says what each subscriber's
application got, in order, and which publishes were acknowledged.
"""

import argparse
import json
import threading
import time

import paho.mqtt.client as mqtt

from paho_client import IN_FLIGHT_MAX, Client

# The subscriber that comes and goes is away, and there, for so long.
AWAY_S = 0.4

# name, protocol, QoS
PUBLISHERS = [
    ("p1", mqtt.MQTTv311, 1),
    ("p2", mqtt.MQTTv311, 2),
    ("p3", mqtt.MQTTv5, 1),
    ("p4", mqtt.MQTTv5, 2),
]
# name, protocol, QoS, filter, comes and goes
SUBSCRIBERS = [
    ("s1", mqtt.MQTTv311, 2, "soak/#", False),
    ("s2", mqtt.MQTTv5, 2, "soak/#", True),
    ("s3", mqtt.MQTTv5, 1, "soak/+", False),
]


class Publisher(Client):
    def __init__(self, options, name, protocol, qos):
        super().__init__(options.port, name, protocol)
        self.messages, self.rate, self.qos = options.messages, options.rate, qos
        self.acknowledged = set()
        self.client.on_publish = lambda client, userdata, mid, reason, properties: (
            self.acknowledged.add(mid)
        )

    def run(self):
        start, infos = time.monotonic(), []
        while len(self.acknowledged) < self.messages:
            if not self.step():
                continue
            due = min(self.messages, int((time.monotonic() - start) * self.rate) + 1)
            while len(infos) < due and len(infos) - len(self.acknowledged) < IN_FLIGHT_MAX:
                body = f"{self.name}:{len(infos)}"
                infos.append(self.client.publish(f"soak/{self.name}", body, self.qos).mid)
        self.client.disconnect()


class Subscriber(Client):
    def __init__(self, options, name, protocol, qos, topic_filter, flaps):
        super().__init__(options.port, name, protocol)
        self.qos, self.filter, self.flaps = qos, topic_filter, flaps
        self.expected = options.messages * len(PUBLISHERS)
        self.got, self.distinct = [], set()
        self.subscribed = threading.Event()
        self.client.on_subscribe = lambda *arguments: self.subscribed.set()
        self.client.on_message = self.on_message

    def on_message(self, client, userdata, message):
        body = message.payload.decode()
        self.got.append(body)
        self.distinct.add(body)

    def on_connect(self, client, userdata, flags, reason, properties):
        super().on_connect(client, userdata, flags, reason, properties)
        if not self.subscribed.is_set():
            client.subscribe(self.filter, self.qos)

    def run(self, deadline):
        turn = time.monotonic() + AWAY_S
        while len(self.distinct) < self.expected and time.monotonic() < deadline:
            self.step()
            if self.flaps and self.subscribed.is_set() and time.monotonic() > turn:
                self.client.disconnect()
                self.connected = self.waiting = False
                time.sleep(AWAY_S)
                turn = time.monotonic() + AWAY_S
        # What would come twice has time to come.
        quiet = time.monotonic() + 1
        while time.monotonic() < quiet:
            self.step()
        self.client.disconnect()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--messages", type=int, required=True)
    parser.add_argument("--rate", type=float, required=True)
    parser.add_argument("--deadline", type=float, required=True)
    parser.add_argument("--report", required=True)
    options = parser.parse_args()
    deadline = time.monotonic() + options.deadline
    subscribers = [Subscriber(options, *subscriber) for subscriber in SUBSCRIBERS]
    publishers = [Publisher(options, *publisher) for publisher in PUBLISHERS]
    threads = [threading.Thread(target=one.run, args=(deadline,)) for one in subscribers]
    for thread in threads:
        thread.start()
    for subscriber in subscribers:
        assert subscriber.subscribed.wait(10), f"{subscriber.name} has no SUBACK"
    print("subscribed", flush=True)
    publishing = [threading.Thread(target=one.run, daemon=True) for one in publishers]
    for thread in publishing:
        thread.start()
    for thread in threads + publishing:
        thread.join(max(0.1, deadline + 5 - time.monotonic()))
    report = {
        "subscribers": [
            {"name": one.name, "qos": one.qos, "got": one.got} for one in subscribers
        ],
        "publishers": [
            {"name": one.name, "qos": one.qos, "acknowledged": len(one.acknowledged)}
            for one in publishers
        ],
    }
    with open(options.report, "w") as out:
        json.dump(report, out)


main()
