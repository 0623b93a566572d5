"""paho-mqtt (PyPI) as a program of `tests/interop`."""

import multiprocessing
import queue
import signal
import ssl
import threading
from urllib.parse import urlsplit

import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from scenarios import WITHIN_S, Message, main

SESSION_EXPIRY_S = 3600


class Client:
    def __init__(self, options, name):
        self.options, self.name = options, name
        self.messages = queue.SimpleQueue()

    def connect(self, clean=True, will=None):
        """Connects; whether the broker has a session for it."""
        url, version_5 = urlsplit(self.options.url), self.options.version == "5"
        client = self.client = mqtt.Client(
            mqtt.CallbackAPIVersion.VERSION2,
            self.name,
            clean_session=None if version_5 else clean,
            protocol=mqtt.MQTTv5 if version_5 else mqtt.MQTTv311,
            transport="websockets" if url.scheme in ("ws", "wss") else "tcp",
            reconnect_on_failure=False,
        )
        if url.scheme in ("ws", "wss"):
            client.ws_set_options(path=url.path)
        if url.scheme in ("mqtts", "wss"):
            client.tls_set(self.options.ca, cert_reqs=ssl.CERT_REQUIRED)
        if will:
            client.will_set(*will, qos=1)
        connected, answer = threading.Event(), []
        client.on_connect = lambda _, __, flags, reason, ___: (
            answer.extend((reason, flags.session_present)),
            connected.set(),
        )
        client.on_message = self.on_message
        properties = Properties(PacketTypes.CONNECT) if version_5 else None
        if version_5 and not clean:
            properties.SessionExpiryInterval = SESSION_EXPIRY_S
        more = {"clean_start": clean, "properties": properties} if version_5 else {}
        client.connect(url.hostname, url.port, **more)
        client.loop_start()
        if not connected.wait(WITHIN_S):
            raise TimeoutError("no CONNACK")
        if answer[0].is_failure:
            raise ConnectionError(f"CONNACK {answer[0]}")
        return answer[1]

    def resume(self, topic_filter, qos):
        if not self.connect(clean=False):
            raise AssertionError("the session is gone")

    def on_message(self, client, userdata, message):
        properties = message.properties
        correlation = getattr(properties, "CorrelationData", b"")
        self.messages.put(
            Message(
                message.topic,
                message.payload.decode(),
                bool(message.retain),
                getattr(properties, "ResponseTopic", ""),
                correlation.decode(),
            )
        )

    def subscribe(self, topic_filter, qos):
        subscribed, answer = threading.Event(), []
        self.client.on_subscribe = lambda _, __, ___, codes, ____: (answer.extend(codes), subscribed.set())
        self.client.subscribe(topic_filter, qos)
        if not subscribed.wait(WITHIN_S):
            raise TimeoutError("no SUBACK")
        if answer[0].is_failure:
            raise ConnectionError(f"SUBACK {answer[0]}")

    def publish(self, publishes):
        infos = []
        for one in publishes:
            properties = None
            if one.correlation:
                properties = Properties(PacketTypes.PUBLISH)
                properties.CorrelationData = one.correlation.encode()
                if one.response_topic:
                    properties.ResponseTopic = one.response_topic
            infos.append(self.client.publish(one.topic, one.payload, one.qos, one.retain, properties))
        for info in infos:
            info.wait_for_publish(WITHIN_S)
            if not info.is_published():
                raise TimeoutError("a publish is not acknowledged")

    def take(self, within=WITHIN_S):
        """The next message; None if it does not come where the caller did not want to wait for it."""
        try:
            return self.messages.get(timeout=within)
        except queue.Empty:
            if within == WITHIN_S:
                raise TimeoutError("no message") from None
            return None

    def disconnect(self):
        self.client.disconnect()
        self.client.loop_stop()


def live_until_killed(options, name, will, ready):
    client = Client(options, name)
    client.connect(will=will)
    ready.set()
    signal.pause()


class Mortal(Client):
    """One with a will is a process of its own, so that it can be killed."""

    def connect(self, clean=True, will=None):
        if not (will and self.name.endswith("dying")):
            return super().connect(clean, will)
        spawn = multiprocessing.get_context("spawn")
        ready = spawn.Event()
        self.child = spawn.Process(target=live_until_killed, args=(self.options, self.name, will, ready))
        self.child.start()
        if not ready.wait(WITHIN_S):
            raise TimeoutError("the client that is to die does not connect")
        return False

    def die(self):
        self.child.kill()
        self.child.join()


if __name__ == "__main__":
    main(Mortal)
