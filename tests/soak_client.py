#!/usr/bin/env python3
# soak_client.py - clients that leave in every way (heddled -> verdict)
# SPDX-License-Identifier: Apache-2.0
# usage: tests/soak_client.py API SECONDS SEED
# Where a client stays to the end its answer must be whole. The last line
# counts what was done.
import collections
import json
import random
import re
import socket
import struct
import sys
import threading
import time
import urllib.parse

API = urllib.parse.urlsplit(sys.argv[1])
END = time.monotonic() + float(sys.argv[2])
SEED = int(sys.argv[3])
THREADS = 6
done = collections.Counter()
faults = []


def connect(receive_bytes=0):
    sock = socket.socket()
    if receive_bytes:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    sock.settimeout(60)
    sock.connect((API.hostname, API.port))
    return sock


def request(tokens, stream=True, **more):
    body = {"model": "mock", "prompt": "a b c", "max_tokens": tokens,
            "stream": stream, "ignore_eos": True}
    body.update(more)
    body = json.dumps(body).encode()
    return (b"POST /v1/completions HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n"
            % len(body)) + body


def reset(sock):
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def is_refusal(data):
    """The server is full. Its connection stays, and nothing more comes."""
    return data.startswith(b"HTTP/1.1 429 ")


def read_some(sock, count):
    for _ in range(count):
        part = sock.recv(4096)
        if not part or is_refusal(part):
            break


def read_all(sock):
    parts = []
    while part := sock.recv(65536):
        parts.append(part)
    return b"".join(parts)


def wants(data, *words):
    """All of them; or the server said that it is full, which is an answer."""
    if b"HTTP/1.1 429 " in data:
        return
    for word in words:
        if word not in data:
            raise AssertionError("no %r in %.300r" % (word, data))


def stream_then_reset(rng):
    sock = connect()
    sock.sendall(request(300))
    read_some(sock, rng.randrange(4))
    reset(sock)


def stream_then_close(rng):
    with connect() as sock:
        sock.sendall(request(300))
        read_some(sock, rng.randrange(4))


def ask_then_close(rng):
    with connect() as sock:
        sock.sendall(request(rng.randrange(1, 2000), stream=False, n=rng.randrange(1, 4)))
        time.sleep(rng.random() / 20)


def half_close(rng):
    stream = rng.random() < 0.5
    with connect() as sock:
        sock.sendall(request(rng.randrange(1, 60), stream))
        sock.shutdown(socket.SHUT_WR)
        wants(read_all(sock), b"HTTP/1.1 200 ",
              b"data: [DONE]" if stream else b'"usage"')


def part_of_a_request(rng):
    whole = request(5)
    with connect() as sock:
        sock.sendall(whole[:rng.randrange(len(whole))])
        if rng.random() < 0.5:
            sock.shutdown(socket.SHUT_WR)
            read_all(sock)


def garbage(rng):
    with connect() as sock:
        sock.sendall(rng.randbytes(rng.randrange(1, 3000)))
        sock.shutdown(socket.SHUT_WR)
        try:
            read_all(sock)
        except ConnectionError:
            pass


def pipeline(rng):
    stay = rng.random() < 0.5
    sock = connect()
    sock.sendall(request(rng.randrange(1, 30), stream=False) * 6)
    if not stay:
        time.sleep(rng.random() / 30)
        reset(sock)
        return
    sock.shutdown(socket.SHUT_WR)
    data = read_all(sock)
    sock.close()
    # A text may speak of HTTP/1.1, but it holds no line's end.
    # A 100 asks whether we are still there.
    heads = re.findall(rb"HTTP/1\.1 [2-5][^\r\n]*\r\n", data)
    if len(heads) != 6:
        raise AssertionError("%d of 6 answers: %r, ... %r" % (len(heads), heads, data[-300:]))


def slow_reader(rng):
    data = b""
    with connect(2048) as sock:
        sock.sendall(request(1500, logprobs=5))
        end = time.monotonic() + rng.random()
        while time.monotonic() < end and not is_refusal(data):
            try:
                part = sock.recv(512)
            except ConnectionResetError:
                return  # it was too slow for --stall-timeout
            except TimeoutError:
                raise AssertionError("silence after %d bytes: %r ... %r"
                                     % (len(data), data[:100], data[-300:])) from None
            if not part:
                break
            data += part
            time.sleep(0.02)


def bad_request(rng):
    fields = rng.choice([{"n": 0}, {"temperature": -1}, {"stop": ""},
                         {"prompt": [99999]}, {"prompt": "word " * 9000},
                         {"model": "none"}])
    with connect() as sock:
        sock.sendall(request(5, **fields))
        sock.shutdown(socket.SHUT_WR)
        wants(read_all(sock), b'"error"')


def stop_and_choices(rng):
    with connect() as sock:
        sock.sendall(request(40, n=3, logprobs=3, stop=["e", "zz"]))
        sock.shutdown(socket.SHUT_WR)
        wants(read_all(sock), b"data: [DONE]")


WAYS = [stream_then_reset, stream_then_close, ask_then_close, half_close,
        part_of_a_request, garbage, pipeline, slow_reader, bad_request,
        stop_and_choices]


def work(number):
    rng = random.Random(SEED * 1000 + number)
    while time.monotonic() < END and not faults:
        way = rng.choice(WAYS)
        try:
            way(rng)
            done[way.__name__] += 1
        except ConnectionRefusedError as problem:
            faults.append("%s: %s" % (way.__name__, problem))
        except (AssertionError, OSError) as problem:
            faults.append("%s: %r" % (way.__name__, problem))


threads = [threading.Thread(target=work, args=(i,)) for i in range(THREADS)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
for fault in faults:
    print("fault:", fault)
missing = [way.__name__ for way in WAYS if not done[way.__name__]]
if missing:
    print("fault: never done:", ", ".join(missing))
print("  %d clients: %s" % (sum(done.values()), ", ".join(
    "%d %s" % (count, name) for name, count in sorted(done.items()))))
sys.exit(bool(faults or missing))
