"""usage: guilty_client.py KIND TARGET RATE    asks TARGET at most RATE times a second; a line for each answer: when it was
asked (CLOCK_MONOTONIC, s) and how long it took (s). KIND: http, redis, memcached, dns, fsync, read, lock, cpu.
The clients of tools/campaign/guilty: whoever waits here, suffers."""

import fcntl
import mmap
import os
import random
import socket
import struct
import sys
import time
import urllib.error
import urllib.request

PATIENCE_S = 5


class Stream:
    """A connection that is kept, as pools do, and opened again after a failure."""

    def __init__(self, target):
        host, port = target.rsplit(":", 1)
        self.address, self.connection = (host, int(port)), None

    def ask(self, request, end):
        if self.connection is None:
            self.connection = socket.create_connection(self.address, PATIENCE_S)
        try:
            self.connection.sendall(request)
            answer = b""
            while not answer.endswith(end):
                part = self.connection.recv(65536)
                if not part:
                    raise ConnectionError("closed")
                answer += part
        except OSError:
            self.connection.close()
            self.connection = None
            raise


def http(target):
    def ask():
        with urllib.request.urlopen(f"http://{target}/", timeout=PATIENCE_S) as answer:
            answer.read()
    return ask


def redis(target):
    stream = Stream(target)
    return lambda: stream.ask(b"*3\r\n$3\r\nSET\r\n$3\r\nkey\r\n$5\r\nvalue\r\n", b"\r\n")


def memcached(target):
    stream = Stream(target)
    return lambda: stream.ask(b"set key 0 0 5\r\nvalue\r\n", b"STORED\r\n")


def dns(target):
    def ask():
        question = random.randrange(1 << 16)
        packet = struct.pack(">6H", question, 0x100, 1, 0, 0, 0) + b"\x05store\x04test\x00" + struct.pack(">2H", 1, 1)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
            asking.settimeout(PATIENCE_S)
            asking.connect((target, 53))
            asking.send(packet)
            asking.recv(512)
    return ask


def fsync(target):
    file = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def ask():
        os.write(file, b"x" * 4096)
        os.fsync(file)
        if os.lseek(file, 0, os.SEEK_CUR) > 16 << 20:
            os.ftruncate(file, 0)
    return ask


def read(target):
    file = os.open(target, os.O_RDONLY | os.O_DIRECT)
    blocks = os.fstat(file).st_size >> 16
    buffer = mmap.mmap(-1, 1 << 16)  # aligned, as O_DIRECT wants it

    def ask():
        os.preadv(file, [buffer], random.randrange(blocks) << 16)
    return ask


def lock(target):
    file = os.open(target, os.O_RDWR | os.O_CREAT)

    def ask():
        fcntl.flock(file, fcntl.LOCK_EX)
        fcntl.flock(file, fcntl.LOCK_UN)
    return ask


def cpu(_):
    return lambda: sum(range(30_000))


def main():
    kind, target, rate = sys.argv[1], sys.argv[2], float(sys.argv[3])
    ask = {f.__name__: f for f in (http, redis, memcached, dns, fsync, read, lock, cpu)}[kind](target)
    while True:
        began = time.monotonic()
        try:
            ask()
        except (OSError, urllib.error.URLError):
            # Whoever was refused at once has no answer either, and does not ask at once again.
            time.sleep(max(0, 0.2 - (time.monotonic() - began)))
        print(f"{began:.6f} {time.monotonic() - began:.6f}", flush=True)
        time.sleep(max(0, began + 1 / rate - time.monotonic()))


main()
