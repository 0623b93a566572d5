"""Devices that publish at QoS 1 with paho-mqtt, and reconnect until all is acknowledged.

Each device drives its client's network loop itself, in one thread: a publish can't slip in between
a reconnect and the repetition of what was under way.
"""

import re
import time

import paho.mqtt.client as mqtt

import device_log

IN_FLIGHT_MAX = 20
RECONNECT_AFTER_S = 0.05
SENDING = re.compile(r"Sending PUBLISH \(d\d, q\d, r\d, m(\d+)\)")


class Device:
    def __init__(self, options, name, log):
        self.options, self.name, self.log = options, name, log
        self.next = 0
        self.acknowledged = 0
        self.connected = False
        self.waiting = False
        self.numbers = {}
        self.client = mqtt.Client(
            mqtt.CallbackAPIVersion.VERSION2, client_id=name, protocol=mqtt.MQTTv311
        )
        self.client.max_inflight_messages_set(IN_FLIGHT_MAX)
        self.client.on_connect = self.on_connect
        self.client.on_disconnect = self.on_disconnect
        self.client.on_publish = self.on_publish
        self.client.on_log = self.on_log

    def on_connect(self, client, userdata, flags, reason, properties):
        self.connected = not reason.is_failure

    def on_disconnect(self, client, userdata, flags, reason, properties):
        self.connected = False

    def on_log(self, client, userdata, level, text):
        sending = SENDING.match(text)
        if sending:
            # Within publish() the packet id is new: it is that of the next message.
            number = self.numbers.setdefault(int(sending[1]), self.next)
            self.log.sent(self.name, number)

    def on_publish(self, client, userdata, mid, reason, properties):
        number = self.numbers.pop(mid, None)
        if number is not None:
            self.acknowledged += 1
            self.log.acknowledged(self.name, number)

    def run(self):
        start = time.monotonic()
        while self.acknowledged < self.options.messages:
            if not self.connect():
                continue
            now = time.monotonic()
            due = min(self.options.messages, int((now - start) * self.options.rate) + 1)
            while self.connected and self.next < due and len(self.numbers) < IN_FLIGHT_MAX:
                body = device_log.payload(self.name, self.next)
                info = self.client.publish(device_log.topic(self.name), body, qos=1)
                self.numbers.setdefault(info.mid, self.next)
                self.next += 1
            if self.client.loop(timeout=0.01) != mqtt.MQTT_ERR_SUCCESS:
                self.connected = False
                self.waiting = False
        self.client.disconnect()

    def connect(self):
        """Whether the network loop can be driven."""
        if self.connected or self.waiting:
            return True
        try:
            self.client.connect("127.0.0.1", self.options.port, keepalive=30)
            self.waiting = True
            return True
        except OSError:
            time.sleep(RECONNECT_AFTER_S)
            return False


def device_main(options, name, log):
    Device(options, name, log).run()


device_log.run(device_log.arguments(), device_main)
