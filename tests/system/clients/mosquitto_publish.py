"""Devices that publish at QoS 1 with `mosquitto_pub -l -d`, fed line by line through a pipe.

Its debug output tells each transmission and each PUBACK by packet id; ids count the lines from 1.
When a mosquitto_pub ends early, the next one gets the lines that were not acknowledged.
"""

import re
import subprocess
import threading
import time

import device_log

LINES_MAX = 60_000  # packet ids must not wrap
RECONNECT_AFTER_S = 0.05
SENDING = re.compile(r"sending PUBLISH \(d\d, q1, r\d, m(\d+),")
ACKNOWLEDGED = re.compile(r"received PUBACK \(Mid: (\d+), RC:0\)")


class Device:
    def __init__(self, options, name, log):
        self.options, self.name, self.log = options, name, log
        self.left = list(range(options.messages))
        self.start = time.monotonic()

    def run(self):
        while self.left:
            before = len(self.left)
            self.publish(self.left[:LINES_MAX])
            if len(self.left) == before:
                time.sleep(RECONNECT_AFTER_S)

    def publish(self, numbers):
        # fmt: off
        command = [
            "stdbuf", "-oL", "mosquitto_pub", "-h", "127.0.0.1", "-p", str(self.options.port),
            "-i", self.name, "-t", device_log.topic(self.name), "-q", "1", "-l", "-d",
        ]
        # fmt: on
        child = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        feeder = threading.Thread(target=self.feed, args=(child, numbers))
        feeder.start()
        acknowledged = set()
        for line in child.stdout:
            if sending := SENDING.search(line):
                self.log.sent(self.name, numbers[int(sending[1]) - 1])
            elif done := ACKNOWLEDGED.search(line):
                number = numbers[int(done[1]) - 1]
                if number not in acknowledged:
                    acknowledged.add(number)
                    self.log.acknowledged(self.name, number)
        child.wait()
        feeder.join()
        self.left = [number for number in self.left if number not in acknowledged]

    def feed(self, child, numbers):
        try:
            for number in numbers:
                due = self.start + number / self.options.rate
                while (wait := due - time.monotonic()) > 0:
                    if child.poll() is not None:
                        return
                    time.sleep(min(wait, 0.1))
                child.stdin.write(device_log.payload(self.name, number) + "\n")
                child.stdin.flush()
        except BrokenPipeError:
            pass
        finally:
            try:
                child.stdin.close()
            except BrokenPipeError:
                pass


def device_main(options, name, log):
    Device(options, name, log).run()


device_log.run(device_log.arguments(), device_main)
