"""mosquitto_pub and mosquitto_sub (Debian's mosquitto-clients) as a program of `tests/interop`. They have no
WebSocket. A subscriber is a process that says in its debug lines when it is subscribed."""

import queue
import signal
import subprocess
import threading
from itertools import groupby
from urllib.parse import urlsplit

from scenarios import WITHIN_S, Message, main

SESSION_EXPIRY_S = "3600"
FORMAT = "message %r %t|%R|%D|%p"


class Client:
    def __init__(self, options, name):
        self.options, self.name = options, name
        self.session = []
        self.process = None

    def common(self):
        url = urlsplit(self.options.url)
        version = "5" if self.options.version == "5" else "mqttv311"
        arguments = ["-h", url.hostname, "-p", str(url.port), "-V", version]
        return arguments + (["--cafile", self.options.ca] if url.scheme == "mqtts" else [])

    def connect(self, clean=True, will=None):
        """Nobody connects before there is something to do, except for who has a will."""
        if not clean:
            self.session = ["-c"] + (["-x", SESSION_EXPIRY_S] if self.options.version == "5" else [])
        if will:
            topic, payload = will
            will = ["--will-topic", topic, "--will-payload", payload, "--will-qos", "1"]
            if self.name.endswith("dying"):
                self.start(f"{self.name}/nothing", 0, will)
            else:
                # With MQTT 5, mosquitto_sub asks for its will even when it says goodbye: mosquitto_pub does not.
                self.run(["-t", f"{self.name}/nothing", "-n", *will])

    def resume(self, topic_filter, qos):
        self.start(topic_filter, qos, [])

    def subscribe(self, topic_filter, qos):
        self.start(topic_filter, qos, [])

    def start(self, topic_filter, qos, more):
        self.messages, self.subscribed = queue.SimpleQueue(), threading.Event()
        command = ["stdbuf", "-oL", "mosquitto_sub", "-d", "-F", FORMAT, "-i", self.name, "-q", str(qos)]
        command += ["-t", topic_filter, *self.common(), *self.session, *more]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        threading.Thread(target=self.read, args=(self.process,), daemon=True).start()
        if not self.subscribed.wait(WITHIN_S):
            raise TimeoutError("no SUBACK")

    def read(self, process):
        for line in process.stdout:
            if line.startswith("Subscribed"):
                self.subscribed.set()
            elif line.startswith("message "):
                topic, response, correlation, payload = line[10:].rstrip("\n").split("|")
                self.messages.put(Message(topic, payload, line[8] == "1", response, correlation))

    def publish(self, publishes):
        for to, group in groupby(publishes, lambda one: (one[0], *one[2:])):
            topic, qos, retain, response_topic, correlation = to
            command = ["-t", topic, "-q", str(qos)]
            command += ["-r"] if retain else []
            command += ["-D", "publish", "response-topic", response_topic] if response_topic else []
            command += ["-D", "publish", "correlation-data", correlation] if correlation else []
            lines = [one.payload for one in group]
            command += ["-l"] if len(lines) > 1 else ["-s"] if lines[0] else ["-n"]
            self.run(command, "\n".join(lines))

    def run(self, arguments, text=""):
        command = ["mosquitto_pub", *self.common(), *arguments]
        done = subprocess.run(command, input=text, text=True, timeout=WITHIN_S, capture_output=True)
        if done.returncode or done.stderr:
            raise ConnectionError(f"mosquitto_pub: {done.returncode} {done.stderr}")

    def take(self, within=WITHIN_S):
        try:
            return self.messages.get(timeout=within)
        except queue.Empty:
            if within == WITHIN_S:
                raise TimeoutError("no message") from None
            return None

    def disconnect(self):
        self.end(signal.SIGTERM)

    def die(self):
        self.end(signal.SIGKILL)

    def end(self, how):
        if self.process:
            self.process.send_signal(how)
            self.process.wait(WITHIN_S)


if __name__ == "__main__":
    main(Client)
