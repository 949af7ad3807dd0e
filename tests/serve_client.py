# serve_client.py - streams that must survive the death of their rank
# SPDX-License-Identifier: Apache-2.0
# usage: serve_client.py API ADMIN HEDDLECTL CONTROL KILLS
# Every request is first asked alone. Then all of them at once, while ranks are
# killed: texts, log probabilities and ends must be the same, token by token.
import ctypes
import http.client
import json
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.parse
import urllib.request

API, ADMIN, HEDDLECTL, CONTROL = sys.argv[1:5]
KILLS = int(sys.argv[5])
SEED = int(os.environ.get("HEDDLE_TEST_SEED", "7"))
SYS_PIDFD_GETFD = 438
KEPT = []  # pidfds of the dead
passed = failed = 0


def verdict(name, good, more=""):
    global passed, failed
    passed, failed = passed + bool(good), failed + (not good)
    print(f"  Test: {name} ...{more}{'passed' if good else 'FAILED'}", flush=True)


def make_requests():
    draw = random.Random(SEED)
    common = [draw.randrange(10, 200) for _ in range(120)]
    requests = []
    for i in range(10):
        prompt = common[: draw.randrange(1, 120)]
        prompt += [draw.randrange(10, 200) for _ in range(draw.randrange(1, 40))]
        requests.append({
            "model": "woven", "prompt": prompt, "stream": True,
            "max_tokens": draw.randrange(200, 340), "logprobs": 2,
            "seed": i, "temperature": (0, 0.8, 1.2)[i % 3],
            "presence_penalty": (0, 0.4)[i % 2], "ignore_eos": True})
    return requests


class Stream(threading.Thread):
    """One request: what it said, piece by piece, and when it was silent."""

    def __init__(self, request):
        super().__init__()
        self.request, self.text, self.logprobs = request, "", []
        self.finish = self.error = None
        self.tokens, self.stall = 0, 0.0

    def run(self):
        try:
            self.read()
        except (OSError, http.client.HTTPException, ValueError) as error:
            self.error = repr(error)

    def read(self):
        where = urllib.parse.urlsplit(API)
        link = http.client.HTTPConnection(where.hostname, where.port, timeout=120)
        link.request("POST", "/v1/completions", json.dumps(self.request),
                     {"content-type": "application/json"})
        answer = link.getresponse()
        if answer.status != 200:
            self.error = f"{answer.status} {answer.read()[:200]}"
            return
        last = time.monotonic()
        for line in answer:
            if not line.startswith(b"data: ") or line.startswith(b"data: [DONE]"):
                continue
            now = time.monotonic()
            self.stall, last = max(self.stall, now - last), now
            self.take(json.loads(line[6:]))
        link.close()

    def take(self, event):
        if "error" in event:
            self.error = json.dumps(event["error"])
            return
        for choice in event["choices"]:
            self.text += choice["text"]
            more = choice.get("logprobs")
            if more:
                self.tokens += len(more["tokens"])
                self.logprobs.append((more["tokens"], more["token_logprobs"],
                                      more["top_logprobs"]))
            self.finish = choice["finish_reason"] or self.finish

    def result(self):
        """Everything that must not depend on the company or on luck."""
        tokens = [x for part in self.logprobs for x in part[0]]
        values = [x for part in self.logprobs for x in part[1]]
        tops = [x for part in self.logprobs for x in part[2]]
        return self.error, self.finish, self.text, tokens, values, tops


def info():
    text = subprocess.run([HEDDLECTL, "--control", CONTROL, "info"],
                          capture_output=True, text=True, check=False).stdout
    return dict(line.split(": ", 1) for line in text.splitlines() if ": " in line)


def until(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.005)
    return True


def serves(rank):
    return lambda: info().get(f"rank{rank}.state") == "ready"


def kept_pidfd(pid):
    """The node's own pidfd of a rank, kept open past its end.

    So does a rank that was forked and is stopped before exec: the node must
    not take what it says for news of the next life.
    """
    node = int(info()["pid"])
    for number in os.listdir(f"/proc/{node}/fdinfo"):
        try:
            with open(f"/proc/{node}/fdinfo/{number}", encoding="ascii") as file:
                said = file.read()
        except FileNotFoundError:
            continue  # the connection that listed them
        if not re.search(rf"^Pid:\s+{pid}$", said, re.M):
            continue
        whole = os.pidfd_open(node)
        copy = ctypes.CDLL(None, use_errno=True).syscall(
            SYS_PIDFD_GETFD, whole, int(number), 0)
        os.close(whole)
        return copy
    return -1


def kill_rank(rank):
    pid = int(info()[f"rank{rank}.pid"])
    kept = kept_pidfd(pid)
    os.kill(pid, signal.SIGKILL)
    until(lambda: info().get(f"rank{rank}.pid") != str(pid))
    if kept >= 0:
        KEPT.append(kept)


def metrics():
    with urllib.request.urlopen(ADMIN + "/metrics", timeout=10) as answer:
        return answer.read().decode()


def total(name):
    found = re.findall(rf"^{name}(?:\{{[^}}]*\}})? ([0-9.e+]+)$", metrics(), re.M)
    return sum(float(x) for x in found)


def steps(rank):
    """Of all lives of a rank; None where it has nothing to do."""
    def of(name):
        found = re.findall(rf'^{name}\{{[^}}]*(?:rank|engine)="{rank}"[^}}]*\}} (\S+)$',
                           page, re.M)
        return sum(map(float, found))
    page = metrics()
    if of("vllm:num_requests_running") + of("vllm:num_requests_waiting") == 0:
        return None
    return of("heddle_step_seconds_count")


def percentile(values, percent):
    return sorted(values)[min(len(values) - 1, len(values) * percent // 100)]


def run_all(requests, killer=None):
    streams = [Stream(request) for request in requests]
    for stream in streams:
        stream.start()
    if killer:
        killer(streams)
    for stream in streams:
        stream.join()
    return streams


def main():
    print(f"seed {SEED}")
    requests = make_requests()
    truth = [run_all([request])[0].result() for request in requests]
    verdict("alone__every_request_is_answered",
            all(t[0] is None and t[1] == "length" and len(t[3]) > 150 for t in truth))
    together = [s.result() for s in run_all(requests)]
    verdict("together__the_same_tokens", together == truth)

    draw = random.Random(SEED)
    done = [-1, -1]
    kills, wrong, rounds, stalls, lives = 0, 0, 0, [], []

    def killer(streams):
        nonlocal kills
        while kills < KILLS and any(s.is_alive() for s in streams):
            seen = sum(s.tokens for s in streams)
            more = draw.randrange(1, 400)
            until(lambda: sum(s.tokens for s in streams) >= seen + more or
                  not any(s.is_alive() for s in streams))
            if not any(s.is_alive() for s in streams):
                return
            rank = draw.randrange(2)
            # Lives that end before they get anywhere are given up: see below.
            until(lambda rank=rank: steps(rank) is None or steps(rank) != done[rank])
            done[rank] = steps(rank)
            killed = time.monotonic()
            kill_rank(rank)
            kills += 1
            until(serves(rank))
            lives.append(time.monotonic() - killed)

    while kills < KILLS and rounds < KILLS:
        streams = run_all(requests, killer)
        rounds += 1
        for stream, expected in zip(streams, truth):
            stalls.append(stream.stall)
            if stream.result() != expected:
                wrong += 1
                print(f"    got {stream.result()[:2]}, {stream.tokens} tokens")
    verdict("killed__no_token_lost_repeated_or_altered", wrong == 0 and kills == KILLS == len(KEPT),
            f"{kills} kills in {rounds} rounds, {wrong} streams wrong, "
            f"longest silence of a stream {max(stalls):.2f} s, "
            f"p99 {percentile(stalls, 99):.2f} s, median {percentile(stalls, 50):.2f} s; "
            f"a rank was back after {percentile(lives, 50):.2f} s, p99 "
            f"{percentile(lives, 99):.2f} s; ")

    # A rank whose lives end before they get anywhere is given up.
    streams = [Stream(request) for request in requests]
    for stream in streams:
        stream.start()
    until(lambda: all(s.tokens > 5 for s in streams))
    for rank in range(2):
        os.kill(int(info()[f"rank{rank}.pid"]), signal.SIGSTOP)
    for _ in range(4):
        for rank in range(2):
            kill_rank(rank)
            until(lambda: info().get(f"rank{rank}.pid", "0") != "0")
            pid = int(info()[f"rank{rank}.pid"])
            if pid:
                os.kill(pid, signal.SIGSTOP)
    for rank in range(2):
        until(lambda: info().get(f"rank{rank}.pid", "0") != "0")
        os.kill(int(info()[f"rank{rank}.pid"]), signal.SIGCONT)
    for stream in streams:
        stream.join()
    answered = sum(s.error is not None or s.finish is not None for s in streams)
    verdict("given_up__every_stream_ends", answered == len(streams))
    until(serves(0))
    until(serves(1))
    again = [s.result() for s in run_all(requests)]
    verdict("after_it__all_is_served_as_before", again == truth)
    names = ("vllm:num_requests_running", "vllm:num_requests_waiting",
             "heddle_request_slots_used", "heddle_payload_pages_used")
    until(lambda: all(total(name) == 0 for name in names), 10)
    left = {name: total(name) for name in names if total(name)}
    verdict("end__nothing_runs_waits_or_is_held", not left, f"{left or ''}")
    print(f"suite serve_node: {passed} passed, {failed} failed, 0 skipped")
    return 1 if failed else 0


sys.exit(main())
