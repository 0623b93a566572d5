"""Publishes so many messages of so many bytes to a broker with paho-mqtt at QoS 1, in order, and ends when all are
acknowledged. What they hold can't be packed: `plant_flood.py PORT MESSAGES BYTES`."""

import base64
import os
import sys

import paho.mqtt.client as mqtt

WITHIN_S = 100

port, messages, size = map(int, sys.argv[1:])
client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id="flood")
client.connect("127.0.0.1", port)
client.loop_start()
published = []
for number in range(messages):
    body = f"flood:{number}:" + base64.b85encode(os.urandom(size * 4 // 5)).decode().replace(":", ".")
    published.append(client.publish("plant/flood", body, qos=1))
for info in published:
    info.wait_for_publish(WITHIN_S)
    if not info.is_published():
        sys.exit(f"no PUBACK within {WITHIN_S} s")
client.disconnect()
client.loop_stop()
