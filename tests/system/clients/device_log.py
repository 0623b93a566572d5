"""What the publishing scripts share: their arguments, their payloads, and their log.

A line of the log is S (sent, once for each transmission) or A (acknowledged), device, number.
"""

import argparse
import threading


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--messages", type=int, required=True)
    parser.add_argument("--rate", type=float, required=True)
    parser.add_argument("--log", required=True)
    parser.add_argument("devices", nargs="+")
    return parser.parse_args()


def topic(device):
    return f"plant/{device}"


def payload(device, number):
    return f"{device}:{number}:" + "." * 100


class DeviceLog:
    def __init__(self):
        self.lines = []

    def sent(self, device, number):
        self.lines.append(f"S {device} {number}\n")

    def acknowledged(self, device, number):
        self.lines.append(f"A {device} {number}\n")


def run(options, device_main):
    """One thread per device; writes the log when all are done."""
    log = DeviceLog()
    threads = [
        threading.Thread(target=device_main, args=(options, device, log))
        for device in options.devices
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with open(options.log, "w") as out:
        out.writelines(log.lines)
