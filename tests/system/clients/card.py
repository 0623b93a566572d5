"""A memory card with a cache that goes with the power: one file in a FUSE file system, to be mounted as a loop device. It
speaks the kernel's protocol (fuse_kernel.h) by itself, so that nothing needs to be installed.

    card.py IMAGE FOLDER honest|reorders|delays

Killing it is the power cut: what is not in IMAGE then is lost. An honest card has everything in there that was written before
a flush. One that reorders stores half of it at a flush, and the rest later; one that delays answers a flush at once, and stores
everything in its order, later."""

import ctypes
import errno
import os
import random
import struct
import sys
import time

BLOCK = 4096
# What a lying card keeps in its cache for so long is lost with the power.
LATER_S = 0.7
FILE = 2
MAX_WRITE = 128 << 10
DIRECTORY_MODE, FILE_MODE = 0o40700, 0o100600


class Card:
    def __init__(self, image, lies):
        self.image = os.open(image, os.O_RDWR)
        self.size = os.fstat(self.image).st_size
        self.lies = lies
        self.cache = {}  # The newest of each block: its bytes, and the write's number.
        self.writes = {}  # Number: block, bytes, when; in their order.
        self.number = 0

    def read(self, offset, size):
        end = min(offset + size, self.size)
        parts = []
        while offset < end:
            block, within = divmod(offset, BLOCK)
            take = min(BLOCK - within, end - offset)
            parts.append(self.block(block)[within:within + take])
            offset += take
        return b"".join(parts)

    def block(self, block):
        if block in self.cache:
            return self.cache[block][0]
        return os.pread(self.image, BLOCK, block * BLOCK)

    def write(self, offset, data):
        at = 0
        while at < len(data):
            block, within = divmod(offset + at, BLOCK)
            take = min(BLOCK - within, len(data) - at)
            old = self.block(block) if take < BLOCK else b"\0" * BLOCK
            new = old[:within] + data[at:at + take] + old[within + take:]
            self.number += 1
            self.cache[block] = (new, self.number)
            self.writes[self.number] = (block, new, time.monotonic())
            at += take

    def flush(self):
        now = time.monotonic()
        for number, (block, data, when) in list(self.writes.items()):
            newest = self.cache[block][1] == number
            is_old = now - when > LATER_S
            # What a card that reorders is slow with, it stays slow with.
            is_lucky = self.random_of(number) < 0.5
            stores = {"honest": True, "reorders": is_old or is_lucky, "delays": is_old}[self.lies]
            if not stores and (newest or self.lies == "delays"):
                continue
            if newest or self.lies == "delays":
                os.pwrite(self.image, data, block * BLOCK)
            del self.writes[number]
            if newest:
                del self.cache[block]

    def random_of(self, number):
        return random.Random(number).random()


def attributes(node, size):
    mode = FILE_MODE if node == FILE else DIRECTORY_MODE
    return struct.pack("<6Q10I", node, size, size // 512, 0, 0, 0, 0, 0, 0, mode, 1, 0, 0, 0, BLOCK, 0)


def answer(card, opcode, node, body):
    """The reply's bytes, an error's number, or None where the kernel wants no reply."""
    size = card.size if node == FILE else 0
    if opcode == 26:  # INIT
        major, minor, readahead = struct.unpack_from("<3I", body)
        flags = 1 << 5 | 1 << 22  # BIG_WRITES, MAX_PAGES
        head = struct.pack("<4I2H2I2H", major, min(minor, 31), readahead, flags, 16, 12, MAX_WRITE, 1, MAX_WRITE // 4096, 0)
        return head.ljust(64, b"\0")
    if opcode == 1:  # LOOKUP
        if body.rstrip(b"\0") != b"card":
            return errno.ENOENT
        return struct.pack("<4Q2I", FILE, 1, 3600, 3600, 0, 0) + attributes(FILE, card.size)
    if opcode in (3, 4):  # GETATTR, SETATTR
        return struct.pack("<Q2I", 3600, 0, 0) + attributes(node, size)
    if opcode in (14, 27):  # OPEN, OPENDIR
        return struct.pack("<Q2I", 0, 0, 0)
    if opcode == 15:  # READ
        _, offset, length = struct.unpack_from("<2QI", body)
        return card.read(offset, length)
    if opcode == 16:  # WRITE
        _, offset, length = struct.unpack_from("<2QI", body)
        card.write(offset, body[40:40 + length])
        return struct.pack("<2I", length, 0)
    if opcode == 17:  # STATFS
        return b"\0" * 80
    if opcode == 20:  # FSYNC
        card.flush()
        return b""
    if opcode in (18, 25, 29):  # RELEASE, FLUSH, RELEASEDIR
        return b""
    if opcode in (2, 36, 42):  # FORGET, INTERRUPT, BATCH_FORGET
        return None
    return errno.ENOSYS


def main():
    image, folder, lies = sys.argv[1:]
    card = Card(image, lies)
    device = os.open("/dev/fuse", os.O_RDWR)
    options = f"fd={device},rootmode=40000,user_id=0,group_id=0"
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(b"card", folder.encode(), b"fuse", 6, options.encode()) != 0:  # no suid, no devices
        sys.exit(f"no FUSE here: {os.strerror(ctypes.get_errno())}")
    while True:
        try:
            request = os.read(device, MAX_WRITE + (64 << 10))
        except OSError as error:
            if error.errno == errno.ENODEV:
                return  # unmounted
            if error.errno in (errno.ENOENT, errno.EINTR):
                continue
            raise
        _, opcode, unique, node = struct.unpack_from("<2I2Q", request)
        reply = answer(card, opcode, node, request[40:])
        if reply is None:
            continue
        error, data = (-reply, b"") if isinstance(reply, int) else (0, reply)
        os.write(device, struct.pack("<IiQ", 16 + len(data), error, unique) + data)


main()
