"""A persistent subscriber that is away while much is published, and then comes back: prints how many
messages it got, and the first and the last of them."""

import argparse
import json
import os
import threading
import time

import paho.mqtt.client as mqtt


def client(port, name, clean):
    connected = threading.Event()
    one = mqtt.Client(
        mqtt.CallbackAPIVersion.VERSION2, name, protocol=mqtt.MQTTv311, clean_session=clean
    )
    one.on_connect = lambda *arguments: connected.set()
    one.connect("127.0.0.1", port)
    one.loop_start()
    assert connected.wait(10), "no CONNACK"
    return one


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--messages", type=int, required=True)
    parser.add_argument("--bytes", type=int, required=True)
    parser.add_argument("--away", type=float, required=True)
    options = parser.parse_args()
    subscribed, got = threading.Event(), []
    away = client(options.port, "away", False)
    away.on_subscribe = lambda *arguments: subscribed.set()
    away.subscribe("backlog/#", 1)
    assert subscribed.wait(10), "no SUBACK"
    away.disconnect()
    away.loop_stop()
    publisher = client(options.port, "publisher", True)
    for number in range(options.messages):
        body = number.to_bytes(4, "big") + os.urandom(options.bytes - 4)
        last = publisher.publish(f"backlog/{number % 3}", body, 1)
        last = publisher.publish(f"other/{number % 3}", b"not for it", 1)
        # A hundred or so under way.
        if number % 50 == 49:
            last.wait_for_publish(30)
    last.wait_for_publish(30)
    # The bound is looked after once a second, with nobody to tell.
    time.sleep(options.away)
    back = mqtt.Client(
        mqtt.CallbackAPIVersion.VERSION2, "away", protocol=mqtt.MQTTv311, clean_session=False
    )
    back.on_message = lambda client, userdata, message: got.append(
        int.from_bytes(message.payload[:4], "big")
    )
    back.connect("127.0.0.1", options.port)
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and (not got or got[-1] != options.messages - 1):
        back.loop(0.1)
    back.disconnect()
    print(json.dumps({"got": len(got), "first": got[0], "last": got[-1], "sorted": got == sorted(set(got))}))


main()
