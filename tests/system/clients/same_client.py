"""Does the same to a broker with paho-mqtt, whichever it is, and prints what it saw, as JSON: who comes in, what comes of
messages to topics that one may and may not publish and subscribe to, what is retained, and what waits for a session.

The plan is a JSON object on standard input: port, of plain TCP; doors (others, by name: transport, port, and with TLS ca,
certificate and key), if any; identities (name, user, password, and once
if it comes by the first alone);
topics; writer and observer (names of identities that may do all that anybody may); ends (by identity, a topic
that it may read: a last message there says that no other comes)."""

import json
import ssl
import sys
import threading

import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

WAIT_S = 15
plan = json.load(sys.stdin)
identities = {identity["name"]: identity for identity in plan["identities"]}
FIRST = {"transport": "tcp", "port": plan["port"]}


class Client:
    """Connected, or told why not."""

    def __init__(self, name, client_id, version, door=FIRST, persistent=False):
        self.received, self.changed = [], threading.Condition()
        self.connack = self.session_present = None
        self.answered = set()
        options = {}
        if version == mqtt.MQTTv311:
            options["clean_session"] = not persistent
        self.client = mqtt.Client(
            mqtt.CallbackAPIVersion.VERSION2, client_id, protocol=version, transport=door["transport"], **options
        )
        identity = identities[name]
        if identity.get("user") is not None:
            self.client.username_pw_set(identity["user"], identity["password"])
        if door["transport"] == "websockets":
            self.client.ws_set_options(path="/mqtt")
        if door.get("ca"):
            self.client.tls_set(door["ca"], door.get("certificate"), door.get("key"))
        self.client.on_connect = self.on_connect
        self.client.on_message = self.on_message
        self.client.on_subscribe = lambda client, userdata, mid, reasons, properties: self.answer(mid)
        self.client.on_publish = lambda client, userdata, mid, reason, properties: self.answer(mid)
        self.client.reconnect_delay_set(WAIT_S * 4, WAIT_S * 4)
        # With TLS 1.3 a certificate is refused after the client's end of the handshake.
        self.client.on_disconnect = self.on_disconnect
        try:
            self.connect(door["port"], version, persistent)
        except (ssl.SSLError, ConnectionError):
            self.connack = False
            return
        self.client.loop_start()
        self.wait(lambda: self.connack is not None)

    def connect(self, port, version, persistent):
        if version == mqtt.MQTTv5:
            properties = Properties(PacketTypes.CONNECT)
            properties.SessionExpiryInterval = 3600 if persistent else 0
            self.client.connect("127.0.0.1", port, clean_start=not persistent, properties=properties)
        else:
            self.client.connect("127.0.0.1", port)

    def on_disconnect(self, client, userdata, flags, reason, properties):
        with self.changed:
            if self.connack is None:
                self.connack = False
            self.changed.notify_all()

    def on_connect(self, client, userdata, flags, reason, properties):
        with self.changed:
            self.connack, self.session_present = not reason.is_failure, flags.session_present
            self.changed.notify_all()

    def on_message(self, client, userdata, message):
        with self.changed:
            self.received.append([message.topic, message.payload.decode(), message.retain])
            self.changed.notify_all()

    def answer(self, mid):
        with self.changed:
            self.answered.add(mid)
            self.changed.notify_all()

    def wait(self, what):
        with self.changed:
            if not self.changed.wait_for(what, WAIT_S):
                raise TimeoutError(f"not within {WAIT_S} s: {self.received}")

    def subscribe(self, topics):
        for topic in topics:
            _, mid = self.client.subscribe(topic, 1)
            self.wait(lambda mid=mid: mid in self.answered)

    def publish(self, topic, payload, retain=False):
        mid = self.client.publish(topic, payload, qos=1, retain=retain).mid
        self.wait(lambda: mid in self.answered)

    def until(self, payload):
        self.wait(lambda: any(received[1] == payload for received in self.received))
        return [received for received in self.received if received[1] != payload]

    def end(self):
        self.client.disconnect()
        # Of one that was refused, paho's thread looks around once a second: it ends by itself.
        if self.connack:
            self.client.loop_stop()


def comes_in(version, door=FIRST):
    came = {}
    for name, identity in identities.items():
        # Who fails often is slowed, and so is who comes from the same address.
        if identity.get("once") and door is not FIRST:
            continue
        client = Client(name, f"comes-{name}", version, door)
        came[name] = client.connack
        client.end()
    return came


def writes(version, came):
    """What the observer sees of what each identity publishes."""
    seen = {}
    for name in came:
        observer = Client(plan["observer"], "observer", version)
        observer.subscribe(plan["topics"])
        writer = Client(name, f"writes-{name}", version)
        for topic in plan["topics"]:
            writer.publish(topic, f"of {name}")
        writer.end()
        end = plan["ends"][plan["observer"]]
        last = Client(plan["writer"], "last", version)
        last.publish(end, "end")
        last.end()
        seen[name] = observer.until("end")
        observer.end()
    return seen


def reads(version, came, door=FIRST):
    """What each identity sees of what the writer publishes."""
    seen = {}
    for name in came:
        if name not in plan["ends"]:
            continue
        reader = Client(name, f"reads-{name}", version, door)
        reader.subscribe(plan["topics"])
        writer = Client(plan["writer"], "writer", version, door)
        for topic in plan["topics"]:
            writer.publish(topic, "x")
        writer.publish(plan["ends"][name], "end")
        seen[name] = reader.until("end")
        writer.end()
        reader.end()
    return seen


def retained(version):
    topic = plan["ends"][plan["observer"]]
    writer = Client(plan["writer"], "writer", version)
    writer.publish(topic, "kept", retain=True)
    observer = Client(plan["observer"], "observer", version)
    observer.subscribe([topic])
    observer.wait(lambda: observer.received)
    writer.publish(topic, "", retain=True)
    observer.wait(lambda: len(observer.received) == 2)
    later = Client(plan["observer"], "later", version)
    later.subscribe([topic])
    writer.publish(topic, "end")
    seen = [observer.received[:2], later.until("end")]
    for client in (writer, observer, later):
        client.end()
    return seen


def session(version):
    topic = plan["ends"][plan["observer"]]
    keeper = Client(plan["observer"], "keeper", version, persistent=True)
    keeper.subscribe([topic])
    first = keeper.session_present
    keeper.end()
    writer = Client(plan["writer"], "writer", version)
    for number in range(5):
        writer.publish(topic, f"number {number}")
    writer.publish(topic, "end")
    writer.end()
    keeper = Client(plan["observer"], "keeper", version, persistent=True)
    seen = [first, keeper.session_present, keeper.until("end")]
    keeper.end()
    # Gone for whoever comes next.
    Client(plan["observer"], "keeper", version).end()
    return seen


saw = {}
for version, label in ((mqtt.MQTTv311, "3.1.1"), (mqtt.MQTTv5, "5")):
    came = comes_in(version)
    inside = [name for name, is_in in came.items() if is_in]
    saw[label] = {
        "comes in": came,
        "writes": writes(version, inside),
        "reads": reads(version, inside),
        "retained": retained(version),
        "session": session(version),
    }
    for name, door in plan.get("doors", {}).items():
        came = comes_in(version, door)
        inside = [name for name, is_in in came.items() if is_in]
        saw[label][f"over {name}"] = {"comes in": came, "reads": reads(version, inside, door)}
print(json.dumps(saw))
