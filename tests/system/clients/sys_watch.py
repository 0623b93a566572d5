"""What a subscriber of $SYS/# and one of # get of the server's own messages: prints the topics with their
last values, and which of them the second saw. One MQTT 5 client tries to speak for the server."""

import argparse
import json
import threading
import time

import paho.mqtt.client as mqtt


def subscriber(port, name, topic_filter, clean):
    one = mqtt.Client(
        mqtt.CallbackAPIVersion.VERSION2, name, protocol=mqtt.MQTTv311, clean_session=clean
    )
    subscribed, got = threading.Event(), {}
    one.on_connect = lambda client, *rest: client.subscribe(topic_filter, 1)
    one.on_subscribe = lambda *rest: subscribed.set()

    def on_message(client, userdata, message):
        before = got.get(message.topic, [])
        got[message.topic] = before + [(message.payload.decode(), message.retain)]

    one.on_message = on_message
    one.connect("127.0.0.1", port)
    one.loop_start()
    assert subscribed.wait(10), "no SUBACK"
    return one, got


def publish(port, topic, body):
    """The reason code of the PUBACK."""
    done, codes = threading.Event(), []
    one = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, "publisher", protocol=mqtt.MQTTv5)

    def on_publish(client, userdata, mid, reason, properties):
        codes.append(reason.value)
        done.set()

    one.on_publish = on_publish
    one.on_connect = lambda client, *rest: client.publish(topic, body, 1, retain=True)
    one.connect("127.0.0.1", port)
    one.loop_start()
    assert done.wait(10), "no PUBACK"
    one.disconnect()
    one.loop_stop()
    return codes[0]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    options = parser.parse_args()
    everything, seen_by_all = subscriber(options.port, "everything", "#", True)
    watcher, seen = subscriber(options.port, "watcher", "$SYS/#", False)
    uptime = "$SYS/broker/uptime"
    codes = {
        "plain": publish(options.port, "plant/1", "x"),
        "spoof": publish(options.port, "$SYS/broker/version", "mine"),
    }

    def newest(name):
        values = seen.get("$SYS/broker/" + name)
        return int(values[-1][0]) if values else None

    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        # The publisher is counted, and has gone. Uptime in seconds changes live, beside what was retained.
        counted = (newest("publish/messages/received") or 0) >= 2 and newest("clients/connected") == 2
        if counted and len(seen.get(uptime, [])) > 1 and seen_by_all:
            break
        time.sleep(0.02)
    for one in (everything, watcher):
        one.disconnect()
        one.loop_stop()
    last = {topic: values[-1][0] for topic, values in seen.items()}
    print(
        json.dumps(
            {
                "codes": codes,
                "last": last,
                "uptime": seen.get(uptime),
                "seen_by_all": sorted(seen_by_all),
            }
        )
    )


main()
