"""Many connections that each send the first half of a CONNECT, and no more. Says `open` when all are, and how
long it took until the broker has closed the last of them."""

import argparse
import re
import resource
import select
import socket
import time
import urllib.request

HALF = b"\x10\x13\x00\x04MQTT\x04\x02"
# So many come at once; more than wait to be accepted would be turned away by the kernel for a second.
AT_ONCE = 100
# From when all are open to when the broker has closed the last one.
GIVEN_UP_WITHIN_S = 30


class Many:
    def __init__(self, port):
        self.port, self.sockets, self.poll = port, {}, select.epoll()

    def open(self):
        one = socket.socket()
        one.connect(("127.0.0.1", self.port))
        one.send(HALF)
        self.sockets[one.fileno()] = one
        self.poll.register(one.fileno(), select.EPOLLIN | select.EPOLLHUP)

    def take_closed(self, wait_s):
        """Those that the broker has closed are let go; returns how many they were."""
        closed = self.poll.poll(wait_s)
        for descriptor, _ in closed:
            self.poll.unregister(descriptor)
            self.sockets.pop(descriptor).close()
        return len(closed)


def wait_accepted(options, many, count, until):
    """Until the broker says that it has so many connections. Those that it has given up meanwhile come anew."""
    while time.monotonic() < until:
        for _ in range(many.take_closed(0)):
            many.open()
        with urllib.request.urlopen(f"http://127.0.0.1:{options.http}/metrics") as answer:
            text = answer.read().decode()
        if float(re.search(r"^tidegate_mqtt_connections (\S+)", text, re.M)[1]) >= count:
            return
    raise TimeoutError(f"{count} connections are not accepted")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--http", type=int, required=True)
    parser.add_argument("--connections", type=int, required=True)
    parser.add_argument("--deadline", type=float, required=True)
    options = parser.parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    many = Many(options.port)
    start = time.monotonic()
    for number in range(options.connections):
        if number % AT_ONCE == 0:
            wait_accepted(options, many, number, start + options.deadline)
        many.open()
    wait_accepted(options, many, options.connections, start + options.deadline)
    opened = time.monotonic()
    print(f"open after {opened - start:.1f} s", flush=True)
    while many.sockets and time.monotonic() - opened < GIVEN_UP_WITHIN_S:
        many.take_closed(1)
    print(f"closed but for {len(many.sockets)} after {time.monotonic() - start:.1f} s", flush=True)


main()
