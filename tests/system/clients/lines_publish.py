"""Publishes each line of standard input with paho-mqtt at QoS 1, in order, and ends when all are
acknowledged."""

import sys

import paho.mqtt.client as mqtt

WITHIN_S = 60

port, topic = int(sys.argv[1]), sys.argv[2]
client = mqtt.Client(
    mqtt.CallbackAPIVersion.VERSION2, client_id=f"lines-{topic.replace('/', '-')}"
)
client.connect("127.0.0.1", port)
client.loop_start()
published = [client.publish(topic, line.rstrip("\n"), qos=1) for line in sys.stdin]
for info in published:
    info.wait_for_publish(WITHIN_S)
    if not info.is_published():
        sys.exit(f"no PUBACK within {WITHIN_S} s")
client.disconnect()
client.loop_stop()
