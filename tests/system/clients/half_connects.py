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


def wait_accepted(options, count, until):
    """Until the broker says that it has so many connections; some that have come may have gone already."""
    while time.monotonic() < until:
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
    sockets, poll = {}, select.epoll()
    start = time.monotonic()
    for number in range(options.connections):
        if number % AT_ONCE == 0:
            wait_accepted(options, number, start + options.deadline)
        one = socket.socket()
        one.connect(("127.0.0.1", options.port))
        one.send(HALF)
        sockets[one.fileno()] = one
        poll.register(one.fileno(), select.EPOLLIN | select.EPOLLHUP)
    wait_accepted(options, options.connections, start + options.deadline)
    print(f"open after {time.monotonic() - start:.1f} s", flush=True)
    while sockets and time.monotonic() - start < options.deadline:
        for descriptor, _ in poll.poll(1):
            one = sockets.pop(descriptor)
            poll.unregister(descriptor)
            one.close()
    print(f"closed but for {len(sockets)} after {time.monotonic() - start:.1f} s", flush=True)


main()
