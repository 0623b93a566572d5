"""The brokers that `tests/bench mqtt` compares, each at its best settings and on loopback: how one is
found, configured and started. Every run has a fresh process and a fresh folder."""

import os
import shutil
import socket
import sys
import time

from spine import Node, free_ports

START_DEADLINE_S = 20

# Columns of the tables; ratios are to the first.
BASE_NAME = "mosquitto"
LIVE_NAME = "tidegate live"
DURABLE_NAME = "tidegate durable"
AT_ONCE_NAME = "tidegate durable, linger 0"
SINK_NAME = "null sink"

MOSQUITTO = """listener {port} 127.0.0.1
allow_anonymous true
persistence false
set_tcp_nodelay true
max_inflight_messages 0
max_queued_messages 0
log_type none
"""

RUMQTTD = """id = 0
[router]
id = 0
max_connections = 20000
max_outgoing_packet_count = 1000
max_segment_size = 104857600
max_segment_count = 10
[v4.1]
name = "v4-1"
listen = "127.0.0.1:{port}"
next_connection_delay_ms = 0
    [v4.1.connections]
    connection_timeout_ms = 60000
    max_payload_size = 1048576
    max_inflight_count = 500
    dynamic_filters = true
"""

# Nothing is journalled where no route and no persistent session wants it.
LIVE = """data: {folder}/data
mqtt: {{listeners: [{{address: '127.0.0.1:{port}'}}]}}
http: {{address: '127.0.0.1:{http}'}}
routes: []
"""

DURABLE = """data: {folder}/data
mqtt: {{listeners: [{{address: '127.0.0.1:{port}'}}]}}
http: {{address: '127.0.0.1:{http}'}}
journal: {{commit_linger: {linger}}}
routes: [{{filter: '#', stream: telemetry}}]
"""


class Broker:
    """What can be started. `binary` is None where it is missing; then `missing` says why."""

    def __init__(self, name, binary, arguments, config, missing=""):
        self.name, self.binary, self.arguments = name, binary, arguments
        self.config, self.missing = config, missing

    def start(self, folder):
        """A running one, and its port."""
        shutil.rmtree(folder, ignore_errors=True)
        os.makedirs(folder)
        port, http = free_ports(2)
        # rumqttd goes by the name's end; the others do not care.
        path = os.path.join(folder, "broker.toml")
        values = {"port": port, "http": http, "folder": folder, "config": path}
        with open(path, "w") as out:
            out.write(self.config.format(**values))
        arguments = [argument.format(**values) for argument in self.arguments]
        node = Node(self.binary, arguments, os.path.join(folder, "broker.log"))
        wait_for_port(node, port, self.name)
        return node, port


def wait_for_port(node, port, name):
    deadline = time.monotonic() + START_DEADLINE_S
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            if node.process.poll() is not None or time.monotonic() > deadline:
                sys.exit(f"{name} did not start")
            time.sleep(0.01)


def found(*candidates):
    for candidate in candidates:
        path = shutil.which(candidate)
        if path:
            return path
    return None


def brokers(target):
    edge = os.path.join(target, "release", "tidegate-edge")
    load = os.path.join(target, "release", "tidegate-mqtt-load")
    config = ["--config", "{config}", "--log", "error"]
    bench = os.path.join(target, "bench")
    at_once = DURABLE.replace("{linger}", "'0'")
    return [
        Broker(
            BASE_NAME,
            found("mosquitto", "/usr/sbin/mosquitto"),
            ["-c", "{config}"],
            MOSQUITTO,
            "apt-get install mosquitto",
        ),
        Broker(
            "rumqttd",
            found(os.path.join(bench, "rumqttd", "bin", "rumqttd")),
            ["--config", "{config}"],
            RUMQTTD,
            "cargo install rumqttd did not build it",
        ),
        Broker(
            "mochi",
            found(os.path.join(bench, "mochi")),
            ["127.0.0.1:{port}"],
            "",
            "its Go module could not be fetched or built",
        ),
        Broker(LIVE_NAME, edge, config, LIVE),
        Broker(DURABLE_NAME, edge, config, DURABLE.replace("{linger}", "10ms")),
        Broker(AT_ONCE_NAME, edge, config, at_once),
        Broker(SINK_NAME, load, ["sink", "--address", "127.0.0.1:{port}"], ""),
    ]
