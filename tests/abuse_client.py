#!/usr/bin/env python3
# abuse_client.py - bad requests and what they must end in (heddled -> verdict)
# SPDX-License-Identifier: Apache-2.0
# usage: tests/abuse_client.py API ADMIN KEY
# The classes are those of published faults of such servers: frames that two
# readers see differently, sizes, code and addresses from a client, one request
# that takes all, numbers out of range, doors that should be shut. After each
# one a good request must succeed. Answers above 50 ms are counted and told;
# only half of them would fail this test, as machines that test are busy.
import json
import socket
import sys
import time
import urllib.parse
import urllib.request

API, ADMIN = (urllib.parse.urlsplit(a) for a in sys.argv[1:3])
KEY = sys.argv[3]
SLOW_S = 0.05
cases = []


def add(kind, name, status, raw):
    cases.append((kind, name, status, raw if isinstance(raw, bytes)
                  else raw.encode()))


def head(line, *fields, key=KEY):
    lines = [line, "Host: h"]
    if key is not None:
        lines.append("Authorization: Bearer " + key)
    return "\r\n".join(lines + list(fields)) + "\r\n\r\n"


def post(path, body, *fields, key=KEY):
    if not isinstance(body, bytes):
        body = (body if isinstance(body, str) else json.dumps(body)).encode()
    return head("POST %s HTTP/1.1" % path, "Content-Length: %d" % len(body),
                *fields, key=key).encode() + body


def chat(kind, name, status=400, **fields):
    body = {"model": "mock", "messages": [{"role": "user", "content": "a"}]}
    body.update(fields)
    add(kind, "chat " + name, status, post("/v1/chat/completions", body))


def text(kind, name, status=400, **fields):
    body = {"model": "mock", "prompt": "a"}
    body.update(fields)
    add(kind, "text " + name, status, post("/v1/completions", body))


def raw_chat(kind, name, body, status=400):
    add(kind, "chat " + name, status, post("/v1/chat/completions", body))


# --- frames that two readers see differently ---------------------------------
POST = "POST /v1/completions HTTP/1.1"
for name, status, raw in (
        ("no version", 400, "GET /live\r\n\r\n"),
        ("version 2", 505, "GET /live HTTP/2.0\r\nHost: h\r\n\r\n"),
        ("HTTP/2 preface", 505, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
        ("TLS hello", 400, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(64)),
        ("binary", 400, bytes(range(128, 256))),
        ("no host", 400, "GET /live HTTP/1.1\r\n\r\n"),
        ("two hosts", 400, head("GET /live HTTP/1.1", "Host: other")),
        ("blank before colon", 400, head("GET /live HTTP/1.1", "A : b")),
        ("folded header", 400, head("GET /live HTTP/1.1", "A: b\r\n c")),
        ("bare LF", 400, "GET /live HTTP/1.1\nHost: h\n\n"),
        ("NUL in a header", 400, head("GET /live HTTP/1.1", "A: b\0c")),
        ("CR in a header", 400, head("GET /live HTTP/1.1", "A: b\rc")),
        ("empty name", 400, head("GET /live HTTP/1.1", ": b")),
        ("length and chunks", 400, head(POST, "Content-Length: 3",
                                        "Transfer-Encoding: chunked")),
        ("two lengths", 400, head(POST, "Content-Length: 3",
                                  "Content-Length: 4")),
        ("length list", 400, head(POST, "Content-Length: 3, 4")),
        ("length below 0", 400, head(POST, "Content-Length: -1")),
        ("length with sign", 400, head(POST, "Content-Length: +3")),
        ("length in hex", 400, head(POST, "Content-Length: 0x3")),
        ("length of 21 digits", 413, head(POST, "Content-Length: " + "9" * 21)),
        ("unknown coding", 501, head(POST, "Transfer-Encoding: gzip")),
        ("chunked twice", 501, head(POST, "Transfer-Encoding: chunked, chunked")),
        ("coding hidden by blanks", 400, head(POST, "Transfer-Encoding:\x0bchunked")),
        ("chunk size no number", 400,
         head(POST, "Transfer-Encoding: chunked") + "xyz\r\n"),
        ("chunk size of 17 digits", 400,
         head(POST, "Transfer-Encoding: chunked") + "1" * 17 + "\r\n"),
        ("chunk size below 0", 400,
         head(POST, "Transfer-Encoding: chunked") + "-1\r\n"),
        ("chunk without its end", 400,
         head(POST, "Transfer-Encoding: chunked") + "2\r\n{}XX"),
        ("unknown expectation", 417, head(POST, "Content-Length: 2",
                                          "Expect: miracles")),
        ("tunnel", 405, "CONNECT h:1 HTTP/1.1\r\nHost: h\r\n\r\n"),
        ("fragment", 400, "GET /live#x HTTP/1.1\r\nHost: h\r\n\r\n")):
    add("frames", name, status, raw)

# --- sizes ---------------------------------------------------------------------
add("sizes", "target", 414, head("GET /%s HTTP/1.1" % ("a" * 3000)))
add("sizes", "header", 431, head("GET /live HTTP/1.1", "A: " + "b" * 20000))
add("sizes", "headers", 431, head("GET /live HTTP/1.1", *["A: b"] * 200))
add("sizes", "method", 501, "A" * 10000 + " / HTTP/1.1\r\nHost: h\r\n\r\n")
add("sizes", "body by its length", 413, head(POST, "Content-Length: 300000"))
add("sizes", "body by a chunk", 413,
    head(POST, "Transfer-Encoding: chunked") + "fffffff\r\n")
add("sizes", "chunk extensions", 431,
    head(POST, "Transfer-Encoding: chunked") + "1;" + "x" * 20000 + "\r\n")
add("sizes", "trailers", 431, head(POST, "Transfer-Encoding: chunked") +
    "0\r\n" + "A: b\r\n" * 5000)
text("sizes", "prompt", prompt="word " * 20000)
text("sizes", "prompt of ids", prompt=[5] * 5000)
text("sizes", "prompt list", prompt=["a"] * 20000)
chat("sizes", "messages", messages=[{"role": "user", "content": "a " * 20}] * 1000)
raw_chat("sizes", "depth", "[" * 100000)
raw_chat("sizes", "depth of objects", '{"a":' * 20000)
chat("sizes", "role", messages=[{"role": "r" * 5000, "content": "a"}])
text("sizes", "model's name", model="m" * 5000)
text("sizes", "stop strings", stop=["%d" % i for i in range(1000)])
text("sizes", "a stop string", stop="x" * 100000)
text("sizes", "stop ids", stop_token_ids=[1] * 5000)
text("sizes", "biases", logit_bias={str(i): 1 for i in range(1024)})
text("sizes", "salt", cache_salt="s" * 100000)

# --- JSON ------------------------------------------------------------------------
for name, body in (
        ("nothing", ""), ("half", '{"model": "mock"'), ("two", "{}{}"),
        ("no object", "[1]"), ("NaN", '{"temperature": NaN}'),
        ("Infinity", '{"temperature": Infinity}'),
        ("comment", '{/* */}'), ("trailing comma", '{"model": "mock",}'),
        ("key twice", '{"model": "mock", "model": "mock"}'),
        ("NUL", '{"model": "mo\\u0000ck"}'), ("half a surrogate", '{"a": "\\ud800"}'),
        ("no UTF-8", b'{"model": "\xff\xfe"}'), ("overlong", b'{"a": "\xc0\xaf"}'),
        ("control character", b'{"a": "\x01"}'),
        ("number of 400 digits", '{"seed": %s}' % ("9" * 400)),
        ("pickle", b"\x80\x04\x95\x1f\x00\x00\x00\x00\x00\x00\x00\x8c\x05posix.")):
    raw_chat("JSON", name, body)

# --- code and addresses from a client ----------------------------------------------
chat("code", "template", chat_template="{{ ''.__class__.__mro__ }}")
chat("code", "template arguments", chat_template_kwargs="x")
for name, url in (("file", "file:///etc/passwd"),
                  ("metadata service", "http://169.254.169.254/latest"),
                  ("data", "data:image/jp2;base64,AAAA")):
    chat("code", "image by " + name, messages=[
        {"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]}])
chat("code", "audio", messages=[
    {"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]}])
chat("code", "unknown part", messages=[
    {"role": "user", "content": [{"type": "prompt_embeds", "data": "AAAA"}]}])
text("code", "embeddings for a prompt", prompt={"prompt_embeds": "AAAA"})
chat("code", "tools", tools=[{"type": "function", "function": {"name": "f"}}])
chat("code", "forced tool", tool_choice="required")
for field, value in (("guided_regex", "(a+)+$"), ("guided_grammar", "root ::= root"),
                     ("guided_json", {"$ref": "#"}), ("guided_choice", ["a"])):
    chat("code", field, **{field: value})
chat("code", "schema", response_format={
    "type": "json_schema", "json_schema": {"name": "x", "schema": {"$ref": "#"}}})
chat("code", "object format", response_format={"type": "json_object"})
add("code", "module as a path", 404, post("/v1/__import__('os')", "{}"))

# --- one request that takes all, numbers out of range --------------------------------
for value in (0, -1, 129, 16384, 1 << 32, 1.5, "2", True):
    text("takes all", "n %r" % value, n=value)
text("takes all", "n times prompts", n=100, prompt=["a"] * 100)
for field, value in (
        ("best_of", 100), ("max_tokens", 0), ("max_tokens", -1),
        ("max_tokens", 1 << 32), ("max_tokens", 1 << 63), ("min_tokens", 5000),
        ("logprobs", 1000), ("logprobs", -1), ("prompt_logprobs", 5),
        ("temperature", -1), ("temperature", 1e300), ("temperature", "1"),
        ("top_p", 0), ("top_p", 2), ("top_k", -2), ("top_k", 1 << 40), ("min_p", 2),
        ("presence_penalty", 1e10), ("frequency_penalty", -3),
        ("repetition_penalty", 0), ("repetition_penalty", -1),
        ("seed", 1.5), ("seed", 1 << 64), ("priority", 1 << 40),
        ("stop", ""), ("stop", ["a", 5]), ("cache_salt", ""), ("cache_salt", {}),
        ("logit_bias", {"1024": 1}), ("logit_bias", {"-1": 1}),
        ("logit_bias", {"1": 1e9}), ("logit_bias", {"1 or 1": 1}),
        ("stop_token_ids", [-1]), ("stop_token_ids", [1 << 32]),
        ("prompt", [-1]), ("prompt", [1024]), ("prompt", [1 << 32]),
        ("prompt", [[1], []]), ("prompt", []), ("prompt", [None]),
        ("stream", "yes"), ("stream_options", {"include_usage": True}),
        ("suffix", "x"), ("echo", "x"), ("ignore_eos", 1)):
    text("numbers", "%s %.20s" % (field, value), **{field: value})
text("numbers", "logprobs with echo", logprobs=1, echo=True)
text("numbers", "least above most", min_tokens=9, max_tokens=2)
chat("numbers", "top_logprobs", logprobs=True, top_logprobs=1000)

# --- doors that should be shut -----------------------------------------------------
for key in (None, "", "sk-goo", "sk-good2", "SK-GOOD", "sk-good\0x"):
    add("doors", "key %r" % key, 400 if key and "\0" in key else 401,
        post("/v1/completions", {"model": "mock", "prompt": "a"}, key=key))
add("doors", "basic", 401, head("GET /v1/models HTTP/1.1",
                                "Authorization: Basic c2stZ29vZA==", key=None))
for path in ("/metrics", "/pause", "/sleep", "/update_weights", "/invocations",
             "/v1/load_lora_adapter", "/scale_elastic_ep", "/collective_rpc",
             "/server_info", "/reset_prefix_cache", "/docs", "/openapi.json",
             "/v1/files", "/../../etc/passwd", "/v1/models/../../secret",
             "/%2e%2e/%2e%2e/etc/passwd", "//etc/passwd", "/v1/models/%00"):
    add("doors", "GET " + path, 400 if "%00" in path else 404,
        head("GET %s HTTP/1.1" % path))
for path in ("/pause", "/update_weights", "/v1/load_lora_adapter", "/shutdown"):
    add("doors", "POST " + path, 404, post(path, "{}"))
add("doors", "DELETE a model", 405, head("DELETE /v1/models/mock HTTP/1.1"))
add("doors", "PUT", 405, head("PUT /v1/completions HTTP/1.1"))


def connect():
    sock = socket.create_connection((API.hostname, API.port), timeout=20)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def answer(sock):
    """Status and body of one answer; status 0: the connection just ended."""
    data = b""
    while b"\r\n\r\n" not in data:
        part = sock.recv(65536)
        if not part:
            return 0, data
        data += part
    top, _, body = data.partition(b"\r\n\r\n")
    length = 0
    for line in top.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            length = int(value)
    while len(body) < length:
        part = sock.recv(65536)
        if not part:
            break
        body += part
    return int(top.split()[1]), body


def ask(raw):
    """Status, body, and the time from the last byte out to the answer."""
    with connect() as sock:
        try:
            sock.sendall(raw)
        except OSError:
            pass  # refused before all of it was taken
        begun = time.monotonic()
        status, body = answer(sock)
        return status, body, time.monotonic() - begun


def good():
    status, body, _ = ask(post("/v1/completions",
                               {"model": "mock", "prompt": "a", "max_tokens": 2,
                                "ignore_eos": True}))
    return status == 200 and json.loads(body)["usage"]["completion_tokens"] == 2


def error_is_whole(body):
    try:
        error = json.loads(body)["error"]
    except (ValueError, KeyError, TypeError):
        return False
    return set(error) == {"message", "type", "param", "code"}


def number(name):
    page = urllib.request.urlopen(urllib.request.Request(
        ADMIN.geturl() + "/metrics",
        headers={"Authorization": "Bearer " + KEY}), timeout=20).read()
    for line in page.decode().splitlines():
        if line.startswith(name + "{"):
            return float(line.rsplit(" ", 1)[1])
    raise KeyError(name)


def main():
    passed = failed = 0
    times = []
    for kind, name, status, raw in cases:
        try:
            got, body, took = ask(raw)
            fault = ("%d, not %d: %.200r" % (got, status, body)
                     if got != status else
                     "no error object: %.200r" % body
                     if not error_is_whole(body) else
                     None if good() else "the next good request failed")
            times.append((took, kind + ": " + name))
        except OSError as problem:
            fault = str(problem)
        passed, failed = passed + (not fault), failed + bool(fault)
        print("  Test: abuse %s: %s ...%s"
              % (kind, name, "FAILED: " + fault if fault else "passed"))
    times.sort()
    slow = [t for t in times if t[0] > SLOW_S]
    print("%d bad requests in %d classes; median %.1f ms, slowest %.1f ms (%s), "
          "%d above %d ms" % (len(cases), len({c[0] for c in cases}),
                              times[len(times) // 2][0] * 1e3, times[-1][0] * 1e3,
                              times[-1][1], len(slow), SLOW_S * 1e3))
    whole = (("at least 60 bad requests", len(cases) >= 60),
             ("most are answered within 50 ms", len(slow) * 2 < len(times)))
    # Whoever asks is a connection too.
    for name, end, own in (("connections", "heddle_connections_open", 1),
                           ("slots", "heddle_request_slots_used", 0),
                           ("pages", "heddle_payload_pages_used", 0)):
        limit = time.monotonic() + 20
        while number(end) != own and time.monotonic() < limit:
            time.sleep(0.05)
        whole += (("no %s are left" % name, number(end) == own),)
    for name, holds in whole:
        passed, failed = passed + holds, failed + (not holds)
        print("  Test: abuse %s ...%s" % (name, "passed" if holds else "FAILED"))
    print("suite abuse: %d passed, %d failed, 0 skipped" % (passed, failed))
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
