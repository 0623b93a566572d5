"""Publishers over paho-mqtt at an edge that fills up, one thread each, until all of theirs is
acknowledged. Those of MQTT 5 publish a refused message again, and count the refusals. Writes a report
of what each of them saw, several times a second and at the end."""

import argparse
import base64
import json
import os
import threading
import time

import paho.mqtt.client as mqtt

QUOTA_EXCEEDED = 0x97
IN_FLIGHT_MAX = 20
# As long as the edge is full, nothing is acknowledged, and the client's own pings must do.
KEEP_ALIVE_S = 15
TRY_AGAIN_AFTER_S = 0.1

# name, protocol, QoS
PUBLISHERS = [
    ("v3-qos1", mqtt.MQTTv311, 1),
    ("v3-qos2", mqtt.MQTTv311, 2),
    ("v3-more", mqtt.MQTTv311, 1),
    ("v5-qos1", mqtt.MQTTv5, 1),
]


class Publisher:
    def __init__(self, options, name, protocol, qos):
        self.options, self.name, self.qos = options, name, qos
        self.is_v5 = protocol == mqtt.MQTTv5
        self.messages = options.messages
        self.acknowledged, self.refused, self.disconnects = 0, 0, 0
        self.out_of_order, self.codes = 0, set()
        self.numbers, self.again, self.next = {}, [], 0
        self.again_at = 0
        self.is_connected = False
        self.client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, name, protocol=protocol)
        self.client.max_inflight_messages_set(IN_FLIGHT_MAX)
        self.client.on_connect = self.on_connect
        self.client.on_disconnect = self.on_disconnect
        self.client.on_publish = self.on_publish

    def on_connect(self, client, userdata, flags, reason, properties):
        self.is_connected = not reason.is_failure

    def on_disconnect(self, client, userdata, flags, reason, properties):
        if self.is_connected and self.acknowledged < self.messages:
            self.disconnects += 1
        self.is_connected = False

    def on_publish(self, client, userdata, mid, reason, properties):
        number = self.numbers.pop(mid)
        if reason.is_failure:
            self.refused += 1
            self.codes.add(reason.value)
            self.again.append(number)
            self.again_at = time.monotonic() + TRY_AGAIN_AFTER_S
        else:
            self.acknowledged += 1
            if not self.is_v5 and number != self.acknowledged - 1:
                self.out_of_order += 1

    def publish_next(self):
        if self.again and time.monotonic() < self.again_at:
            return False
        number = self.again.pop(0) if self.again else self.next
        if number == self.messages:
            return False
        self.next = max(self.next, number + 1)
        filling = base64.b64encode(os.urandom(self.options.bytes * 3 // 4)).decode()
        info = self.client.publish(f"full/{self.name}", f"{self.name}:{number}:{filling}", self.qos)
        self.numbers[info.mid] = number
        return True

    def run(self):
        self.client.connect("127.0.0.1", self.options.port, KEEP_ALIVE_S)
        deadline = time.monotonic() + self.options.deadline
        while self.acknowledged < self.messages and time.monotonic() < deadline:
            while self.is_connected and len(self.numbers) < IN_FLIGHT_MAX and self.publish_next():
                pass
            if self.client.loop(timeout=0.01) != mqtt.MQTT_ERR_SUCCESS:
                break
        self.client.disconnect()

    def report(self):
        return {
            "name": self.name,
            "messages": self.messages,
            "acknowledged": self.acknowledged,
            "refused": self.refused,
            "codes": sorted(self.codes),
            "out_of_order": self.out_of_order,
            "disconnects": self.disconnects,
        }


def write_report(path, publishers):
    with open(path + ".new", "w") as out:
        json.dump([publisher.report() for publisher in publishers], out)
    os.replace(path + ".new", path)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--messages", type=int, required=True)
    parser.add_argument("--bytes", type=int, required=True)
    parser.add_argument("--deadline", type=float, required=True)
    parser.add_argument("--report", required=True)
    options = parser.parse_args()
    publishers = [Publisher(options, *row) for row in PUBLISHERS]
    threads = [threading.Thread(target=publisher.run) for publisher in publishers]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        write_report(options.report, publishers)
        threads[0].join(0.1)
    write_report(options.report, publishers)


main()
