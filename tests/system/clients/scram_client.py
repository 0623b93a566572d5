"""MQTT 5 enhanced authentication by SCRAM-SHA-256: packets by hand, SCRAM by scramp. Prints what became of
each attempt: the CONNACK's code, and of those that succeed, what came of proving it again."""

import argparse
import json
import socket
import struct
import sys

from scramp import ScramClient

METHOD = "SCRAM-SHA-256"
CONNECT, CONNACK, PUBLISH, PUBACK, DISCONNECT, AUTH = 0x10, 0x20, 0x32, 0x40, 0xE0, 0xF0
CONTINUE, AGAIN = 0x18, 0x19


def binary(data):
    return struct.pack("!H", len(data)) + data


def variable(value):
    out = b""
    while True:
        value, low = divmod(value, 0x80)
        out += bytes([low | (0x80 if value else 0)])
        if not value:
            return out


def properties(data):
    fields = b"\x15" + binary(METHOD.encode())
    if data is not None:
        fields += b"\x16" + binary(data.encode())
    return variable(len(fields)) + fields


class Client:
    def __init__(self, port, name, password):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=20)
        self.file = self.socket.makefile("rb")
        self.name, self.password = name, password

    def send(self, first, body):
        self.socket.sendall(bytes([first]) + variable(len(body)) + body)

    def auth(self, code, data):
        self.send(AUTH, bytes([code]) + properties(data))

    def packet(self):
        first = self.file.read(1)
        assert first, "the connection has ended"
        length = shift = 0
        while True:
            (byte,) = self.file.read(1)
            length |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return first[0], self.file.read(length)

    def scram(self):
        return ScramClient([METHOD], self.name, self.password)

    def connect(self):
        """The CONNACK's code."""
        scram = self.scram()
        header = binary(b"MQTT") + b"\x05\x02" + struct.pack("!H", 0)
        body = header + properties(scram.get_client_first()) + binary(b"client")
        self.send(CONNECT, body)
        kind, body = self.packet()
        if kind == CONNACK:
            return body[1]
        assert (kind, body[0]) == (AUTH, CONTINUE), body
        self.answer(scram, body[1:])
        kind, body = self.packet()
        assert kind == CONNACK
        if body[1] == 0:
            # The server knows the password, too.
            scram.set_server_final(data_of(body[2:]))
        return body[1]

    def answer(self, scram, fields):
        scram.set_server_first(data_of(fields))
        self.auth(CONTINUE, scram.get_client_final())

    def again(self, password):
        """The code of the AUTH or DISCONNECT that ends it; a message goes through meanwhile."""
        self.password = password
        scram = self.scram()
        self.auth(AGAIN, scram.get_client_first())
        kind, body = self.packet()
        assert (kind, body[0]) == (AUTH, CONTINUE), body
        self.send(PUBLISH, binary(b"plant/1") + struct.pack("!H", 7) + b"\x00" + b"x")
        kind, acknowledged = self.packet()
        assert (kind, acknowledged[:2]) == (PUBACK, struct.pack("!H", 7))
        self.answer(scram, body[1:])
        kind, body = self.packet()
        if kind == DISCONNECT:
            return body[0]
        assert kind == AUTH
        if not body:
            raise AssertionError("AUTH of success has the method and the server's proof")
        scram.set_server_final(data_of(body[1:]))
        return body[0]


def data_of(fields):
    """The authentication data; the method must be there too."""
    length, fields = fields[0], fields[1:]
    if length & 0x80:
        length, fields = (length & 0x7F) | fields[0] << 7, fields[1:]
    fields, data, method = fields[:length], None, None
    sizes = {0x11: 4, 0x13: 2, 0x21: 2, 0x22: 2, 0x24: 1, 0x25: 1, 0x27: 4, 0x28: 1, 0x29: 1, 0x2A: 1}
    while fields:
        kind, fields = fields[0], fields[1:]
        if kind in sizes:
            fields = fields[sizes[kind] :]
            continue
        (size,) = struct.unpack("!H", fields[:2])
        value, fields = fields[2 : 2 + size], fields[2 + size :]
        if kind == 0x15:
            method = value.decode()
        elif kind == 0x16:
            data = value.decode()
    assert method == METHOD, method
    return data


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--late", action="store_true", help="open first, and connect once there is a line to read")
    arguments = parser.parse_args()
    port = arguments.port
    if arguments.late:
        client = Client(port, "pump", "pencil")
        print("open", flush=True)
        sys.stdin.readline()
        print(client.connect())
        return
    report = {}
    for label, name, password in [
        ("right", "pump", "pencil"),
        ("prepared", "pump", "pen\u00adcil"),
        ("wrong", "pump", "Pencil"),
        ("unknown", "nobody", "pencil"),
    ]:
        report[label] = Client(port, name, password).connect()
    for label, password in [("again", "pencil"), ("again_wrong", "Pencil")]:
        client = Client(port, "pump", "pencil")
        assert client.connect() == 0
        report[label] = client.again(password)
    print(json.dumps(report))


if __name__ == "__main__":
    main()
