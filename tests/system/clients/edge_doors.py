"""Doors of the edge, tried by paho-mqtt: each case says how to come and what to do, and what became of it is printed, a
JSON object for each: the CONNACK's code, and of those who are in, the codes of the SUBACK and the PUBACK."""

import json
import ssl
import sys
import threading

import paho.mqtt.client as mqtt

WAIT_S = 20


def attempt(case):
    told = {}
    done = threading.Event()
    version = mqtt.MQTTv5 if case["version"] == 5 else mqtt.MQTTv311
    client = mqtt.Client(
        mqtt.CallbackAPIVersion.VERSION2, case["client_id"], protocol=version, transport=case["transport"]
    )
    if case.get("user") is not None:
        client.username_pw_set(case["user"], case["password"])
    if case["transport"] == "websockets":
        client.ws_set_options(path="/mqtt")
    if case.get("ca"):
        client.tls_set(case["ca"], case.get("certificate"), case.get("key"), tls_version=ssl.PROTOCOL_TLS_CLIENT)

    def on_connect(client, userdata, flags, reason, properties):
        told["connack"] = reason.value
        if reason.is_failure:
            done.set()
        else:
            client.subscribe([(filter, 0) for filter in case["filters"]])

    def on_subscribe(client, userdata, mid, reasons, properties):
        told["suback"] = [reason.value for reason in reasons]
        client.publish(case["topic"], "x", qos=1)

    def on_publish(client, userdata, mid, reason, properties):
        told["puback"] = reason.value
        done.set()

    client.on_connect, client.on_subscribe, client.on_publish = on_connect, on_subscribe, on_publish
    client.reconnect_delay_set(WAIT_S * 2, WAIT_S * 2)
    try:
        client.connect(case["host"], case.get("port", 1883))
    except (ssl.SSLError, ConnectionError) as error:
        return {"refused": type(error).__name__}
    client.on_disconnect = lambda *_: done.set()
    client.loop_start()
    if not done.wait(WAIT_S):
        told["late"] = True
    client.disconnect()
    client.loop_stop()
    return told


print(json.dumps([attempt(case) for case in json.load(sys.stdin)]))
