"""Clients of an edge whose clock steps: before, a session with messages that wait for it, a will that is
delayed, a retained message, each to last an hour, and the same to last a second; after, what of them is
there. Between them the clock is set by an offset in a file."""

import argparse
import json
import socket
import threading
import time

import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

HOUR_S = 3600
# How long the edge is looked at after a step: it looks at what has expired once a second.
LOOK_S = 2.5


def properties(packet, **values):
    made = Properties(packet)
    for name, value in values.items():
        setattr(made, name, value)
    return made


class Client:
    def __init__(self, port, name, session_s=0, clean=False, will=None):
        self.connected, self.subscribed = threading.Event(), threading.Event()
        self.got, self.present = [], None
        one = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, name, protocol=mqtt.MQTTv5)
        if will:
            topic, delay_s = will
            delay = properties(PacketTypes.WILLMESSAGE, WillDelayInterval=delay_s)
            one.will_set(topic, topic, 1, properties=delay)
        one.on_connect = self.on_connect
        one.on_subscribe = lambda *rest: self.subscribed.set()
        one.on_message = lambda client, userdata, message: self.got.append(message)
        session = properties(PacketTypes.CONNECT, SessionExpiryInterval=session_s)
        one.connect("127.0.0.1", port, clean_start=clean, properties=session)
        one.loop_start()
        self.one = one
        assert self.connected.wait(10), "no CONNACK"

    def on_connect(self, client, userdata, flags, reason, properties):
        self.present = flags.session_present
        self.connected.set()

    def subscribe(self, topic_filter):
        self.one.subscribe(topic_filter, 1)
        assert self.subscribed.wait(10), "no SUBACK"

    def publish(self, topic, expiry_s, retain=False):
        expiry = properties(PacketTypes.PUBLISH, MessageExpiryInterval=expiry_s)
        self.one.publish(topic, topic, 1, retain, expiry).wait_for_publish(10)

    def leave(self):
        self.one.disconnect()
        self.one.loop_stop()

    def drop(self):
        """Without a DISCONNECT."""
        self.one.loop_stop()
        self.one.socket().shutdown(socket.SHUT_RDWR)
        self.one.socket().close()


def wait_until(what, holds, within_s=20):
    deadline = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < deadline, f"not within {within_s} s: {what}"
        time.sleep(0.02)


def set_clock(options, offset_s):
    with open(options.clock, "w") as out:
        out.write(f"{offset_s:+d}\n")
    # A span of time, in which the edge does what it does of its own accord.
    time.sleep(LOOK_S)


def before(options):
    for name, session_s in (("away", HOUR_S), ("brief", 1)):
        client = Client(options.port, name, session_s)
        client.subscribe("clock/#")
        client.leave()
    watcher = Client(options.port, "watcher", clean=True)
    watcher.subscribe("clock/brief-will")
    late, brief = (
        Client(options.port, topic.replace("/", "-"), HOUR_S, will=(topic, delay_s))
        for topic, delay_s in (("clock/will", HOUR_S), ("clock/brief-will", 1))
    )
    late.drop()
    publisher = Client(options.port, "publisher", clean=True)
    for expiry_s, kind in ((HOUR_S, "long"), (1, "brief")):
        publisher.publish(f"clock/1970/{kind}", expiry_s)
        publisher.publish(f"retained/1970/{kind}", expiry_s, True)
    # Its will comes behind these, however long they took, and before what comes next.
    brief.drop()
    set_clock(options, 0)
    wait_until("the brief will comes", lambda: watcher.got)
    watcher.leave()
    publisher.publish("clock/today", HOUR_S)
    set_clock(options, -86400)
    publisher.publish("clock/yesterday", HOUR_S)
    publisher.leave()


def after(options):
    present = {
        name: Client(options.port, name, HOUR_S) for name in ("away", "brief", "clock-will")
    }
    away = present["away"]
    fresh = Client(options.port, "fresh", clean=True)
    fresh.subscribe("retained/#")
    # The last that it gets says that it has all.
    fresh.publish("clock/end", HOUR_S)
    fresh.publish("retained/end", HOUR_S)
    ends = ((away, "clock/end"), (fresh, "retained/end"))
    wait_until(
        "all has come",
        lambda: all(client.got and client.got[-1].topic == end for client, end in ends),
    )
    left = [message.properties.MessageExpiryInterval for message in away.got
            if hasattr(message.properties, "MessageExpiryInterval")]
    print(
        json.dumps(
            {
                "present": {name: client.present for name, client in present.items()},
                "away": [message.topic for message in away.got],
                "expiry_min": min(left),
                "retained": [message.topic for message in fresh.got],
            }
        )
    )
    for client in (*present.values(), fresh):
        client.leave()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("phase", choices=["before", "after"])
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--clock", required=True)
    options = parser.parse_args()
    {"before": before, "after": after}[options.phase](options)


main()
