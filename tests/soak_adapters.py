#!/usr/bin/env python3
# soak_adapters.py - adapters come and go under traffic (heddled -> verdict)
# SPDX-License-Identifier: Apache-2.0
# usage: tests/soak_adapters.py API CONTROL ROOT SECONDS SEED [warm]
# Every answer must be, to the bit, what the base or an adapter says that the
# name led to at some moment between the request and its first byte. The truth
# is asked for before, of one adapter at a time. ROOT holds the adapters s0, s1,
# ..., and "broken", which no load may accept. The last line counts. "warm": too
# short for each thing to have been done.
import collections
import http.client
import json
import random
import socket
import sys
import threading
import time
import urllib.parse

API = urllib.parse.urlsplit(sys.argv[1])
CONTROL, ROOT = sys.argv[2], sys.argv[3]
SECONDS, SEED = float(sys.argv[4]), int(sys.argv[5])
SOURCES = 4
NAMES = ["one", "two", "name three"]
CLIENTS = 5
ABSENT, BETWEEN = "absent", "between"
done = collections.Counter()
faults = []
lock = threading.Lock()
end_time = 0.0


def fault(text):
    with lock:
        faults.append(text)


def count(what, number=1):
    with lock:
        done[what] += number


# --- the node ------------------------------------------------------------------


def quote(word):
    """As a line to the control socket holds it."""
    return '"%s"' % word.replace("\\", "\\\\").replace('"', '\\"')


def command(*words):
    """The answer's JSON; words in lower case alone stand as they are."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(120)
        sock.connect(CONTROL)
        sock.sendall((" ".join(words) + " -o json\n").encode())
        data = b""
        while not data.endswith(b"\n\n"):
            part = sock.recv(65536)
            if not part:
                raise OSError("the node closed the control connection")
            data += part
    return json.loads(data)


def must(*words):
    answer = command(*words)
    if "error" in answer:
        raise AssertionError("%s: %s" % (words, answer["error"]))
    return answer


def directory(source):
    return quote("%s/s%d" % (ROOT, source))


class Answer:
    """What became of a request: status, text, why it ended, when it began."""

    def __init__(self):
        self.status, self.text, self.probs, self.finish = 0, "", [], None
        self.first, self.cached, self.code, self.whole = 0.0, 0, None, False


def take_choice(answer, body):
    error = body.get("error")
    if error:
        answer.code = error.get("code") or error.get("type")
    for choice in body.get("choices", []):
        answer.text += choice.get("text") or ""
        answer.probs += ((choice.get("logprobs") or {})
                         .get("token_logprobs") or [])
        answer.finish = choice.get("finish_reason") or answer.finish
    usage = body.get("usage") or {}
    answer.cached = ((usage.get("prompt_tokens_details") or {})
                     .get("cached_tokens") or answer.cached)


def ask(connection, model, prompt, tokens, stream):
    body = {"model": model, "prompt": prompt, "max_tokens": tokens,
            "temperature": 0, "ignore_eos": True, "logprobs": 1,
            "stream": stream}
    if stream:
        body["stream_options"] = {"include_usage": True}
    connection.request("POST", "/v1/completions", json.dumps(body),
                       {"Content-Type": "application/json"})
    reply = connection.getresponse()
    answer = Answer()
    answer.status, answer.first = reply.status, time.monotonic()
    if not stream or reply.status != 200:
        take_choice(answer, json.loads(reply.read()))
        answer.first, answer.whole = time.monotonic(), True
        return answer
    # The head may come before anything else has.
    answer.first = 0.0
    for line in reply:
        if not line.startswith(b"data: "):
            continue
        answer.first = answer.first or time.monotonic()
        if line.strip() == b"data: [DONE]":
            answer.whole = True
            continue
        take_choice(answer, json.loads(line[6:]))
    return answer


def connect():
    return http.client.HTTPConnection(API.hostname, API.port, timeout=100)


# --- the truth -------------------------------------------------------------------

TOKENS = 12
WORDS = ("time house water light road people night stone letter market "
         "garden winter music paper bridge river mother glass").split()


def make_prompts(rng):
    """Some begin alike, by more than a block: so prefixes are found."""
    heads = [" ".join(rng.choice(WORDS) for _ in range(130)) for _ in range(3)]
    return ["%s %s" % (heads[i % 3], " ".join(
        rng.choice(WORDS) for _ in range(1 + i))) for i in range(9)]


def truth_of(connection, model, prompts):
    out = []
    for prompt in prompts:
        answer = ask(connection, model, prompt, TOKENS, False)
        if answer.status != 200 or answer.finish != "length":
            raise AssertionError("truth of %s: %d %s" % (
                model, answer.status, answer.code))
        out.append((answer.text, tuple(answer.probs)))
    return out


def learn(prompts):
    """prompt -> {source: what it says}; only prompts that tell all apart."""
    connection = connect()
    said = {"base": truth_of(connection, "base", prompts)}
    for source in range(SOURCES):
        must("adapter load truth", directory(source))
        said[source] = truth_of(connection, "truth", prompts)
        must("adapter unload truth")
    truth = {}
    for i, prompt in enumerate(prompts):
        words = {source: answers[i] for source, answers in said.items()}
        if len(set(words.values())) == len(words):
            truth[prompt] = words
    if len(truth) < 3:
        raise AssertionError("only %d prompts tell adapters apart" % len(truth))
    return truth


# --- what a name leads to ---------------------------------------------------------


class Name:
    """What it may have led to, and when: [what, from, to or None]."""

    def __init__(self, name, what):
        self.name, self.current = name, what
        self.past = [[what, 0.0, None]]
        self.hurries = []  # [from, to or None] of what cancels requests

    def begin(self, what):
        with lock:
            self.past.append([what, time.monotonic(), None])

    def end(self, *left):
        """Only these are possible from now on."""
        now = time.monotonic()
        with lock:
            for entry in self.past:
                if entry[2] is None and entry[0] not in left:
                    entry[2] = now
            # Long gone: no request is that old.
            self.past = [e for e in self.past if e[2] is None or e[2] > now - 200]
        self.current = left[0]

    def hurry(self):
        with lock:
            self.hurries.append([time.monotonic(), None])

    def hurried(self):
        with lock:
            self.hurries[-1][1] = time.monotonic()

    @staticmethod
    def overlap(spans, begin, end):
        return [s for s in spans if s[-2] <= end and (s[-1] is None or s[-1] >= begin)]

    def possible(self, begin, end):
        with lock:
            return {s[0] for s in self.overlap(self.past, begin, end)}

    def may_be_cut(self, begin, end):
        with lock:
            return bool(self.overlap(self.hurries, begin, end))


def judge(name, prompt, answer, begin):
    end = time.monotonic()
    may = name.possible(begin, answer.first or end)
    if answer.status == 404:
        count("of no name")
        return "404, and it led to %s" % may if ABSENT not in may else None
    if answer.status == 503:
        count("between two")
        return ("503, and it led to %s" % may
                if not may & {BETWEEN, ABSENT} else None)
    said = (answer.text, tuple(answer.probs))
    if answer.status == 200 and answer.finish == "length":
        count("answered")
        if not answer.whole:
            return "a stream that does not end"
        if said not in [TRUTH[prompt].get(what) for what in may]:
            of = [w for w, t in TRUTH[prompt].items() if t == said]
            return "the words of %s, and it led to %s: %r" % (of, may, answer.text)
        return None
    if name.may_be_cut(begin, end):
        count("cancelled")
        return None
    return "%d, finish %s, code %s" % (answer.status, answer.finish, answer.code)


def client(number):
    rng = random.Random(SEED * 1000 + number)
    connection = connect()
    while time.monotonic() < end_time and not faults:
        name = rng.choice(list(TABLE.values()))
        prompt = rng.choice(list(TRUTH))
        begin = time.monotonic()
        count("asked")
        try:
            answer = ask(connection, name.name, prompt, TOKENS,
                         rng.random() < 0.6)
        except (OSError, http.client.HTTPException, ValueError) as problem:
            fault("%s: no answer: %r" % (name.name, problem))
            connection = connect()
            continue
        if not answer.whole:
            # A stream that was cut ends its connection.
            connection = connect()
        problem = judge(name, prompt, answer, begin)
        if problem:
            fault("%s: %s" % (name.name, problem))


# --- who loads and unloads ----------------------------------------------------------

# What may be said instead of doing it; anything else is a fault.
REFUSALS = ("is busy", "is being unloaded", "pages")


def refused(name, what, answer):
    error = answer.get("error")
    if error:
        count(what + " refused")
        if not any(text in error for text in REFUSALS):
            fault("%s %s: %s" % (what, name.name, error))
    else:
        count(what)
    return bool(error)


def load(name, rng):
    source = rng.randrange(SOURCES)
    name.begin(source)
    bad = refused(name, "load", command(
        "adapter load", quote(name.name), directory(source)))
    name.end(ABSENT if bad else source)


def replace(name, rng, drain):
    source, old = rng.randrange(SOURCES), name.current
    name.begin(source)
    if drain:
        # Should the load behind the unload fail, nothing is left.
        name.begin(BETWEEN)
        name.begin(ABSENT)
    answer = command("adapter replace", quote(name.name), directory(source),
                     "--drain" if drain else "")
    bad = refused(name, "drain" if drain else "replace", answer)
    if bad and "unloaded first" in answer["error"]:
        name.end(ABSENT)
    else:
        name.end(old if bad else source)


def unload(name, now):
    old = name.current
    name.begin(ABSENT)
    if now:
        name.hurry()
    answer = command("adapter unload", quote(name.name), "--now" if now else "")
    bad = refused(name, "unload now" if now else "unload", answer)
    if now:
        name.hurried()
    if not bad and answer.get("freed_pages", 0) <= 0:
        fault("unload %s: no page came back" % name.name)
    name.end(old if bad else ABSENT)


def refuse_broken(name):
    """Nothing is changed by it."""
    verb = "load" if name.current == ABSENT else "replace"
    answer = command("adapter " + verb, quote(name.name), quote(ROOT + "/broken"))
    count("broken")
    error = answer.get("error", "nothing")
    if "broken" not in error and not any(
            text in error for text in REFUSALS + (".safetensors",)):
        fault("broken %s: %s" % (name.name, error))


def manage(number):
    rng = random.Random(SEED * 1000 + 500 + number)
    name = TABLE[NAMES[number]]
    while time.monotonic() < end_time and not faults:
        way = rng.random()
        try:
            if way < 0.08:
                refuse_broken(name)
            elif name.current == ABSENT:
                load(name, rng)
            elif way < 0.15:
                must("adapter weight", quote(name.name), str(rng.randint(1, 1000)))
                count("weight")
            elif way < 0.55:
                replace(name, rng, False)
            elif way < 0.70:
                replace(name, rng, True)
            else:
                unload(name, way > 0.85)
            time.sleep(rng.random() / 10)
        except (OSError, ValueError, AssertionError) as problem:
            fault("%s: %r" % (name.name, problem))


def probe():
    """A fresh instance finds no prefix of an older one; itself it does."""
    rng = random.Random(SEED * 1000 + 900)
    connection, loaded = connect(), False
    prompt = max(TRUTH, key=len)
    while time.monotonic() < end_time and not faults:
        source = rng.randrange(SOURCES)
        try:
            answer = command("adapter replace" if loaded else "adapter load",
                             "probe", directory(source))
            if "error" in answer:
                if not any(text in answer["error"] for text in REFUSALS):
                    fault("probe: %s" % answer["error"])
                time.sleep(0.05)
                continue
            loaded = True
            for turn in range(3):
                answer = ask(connection, "probe", prompt, TOKENS, False)
                if (answer.text, tuple(answer.probs)) != TRUTH[prompt][source]:
                    fault("probe: not the words of %d: %d %r" % (
                        source, answer.status, answer.text))
                count("own prefixes" if turn else "prefixes of others",
                      answer.cached > 0)
                count("probes", turn == 0)
            if rng.random() < 0.3:
                must("adapter unload probe")
                loaded = False
        except (OSError, http.client.HTTPException, ValueError,
                AssertionError) as problem:
            fault("probe: %r" % problem)


# --- the whole -------------------------------------------------------------------------


def books():
    """Pages of adapters, and of all else that nobody holds, of each rank."""
    out = []
    for rank in must("mem")["ranks"]:
        parts = {k: rank[k]["pages"]
                 for k in ("base", "adapters", "kv_held", "kv_idle", "free")}
        if sum(parts.values()) != rank["pages"]:
            fault("rank %s: %s are not %d pages" % (
                rank.get("rank"), parts, rank["pages"]))
        out.append((parts["base"], parts["adapters"], parts["kv_held"],
                    parts["kv_idle"] + parts["free"]))
    return out


def settle(before):
    """All names go; then the books are what they were."""
    for name in list(TABLE) + ["probe"]:
        if name != "base":
            command("adapter unload", quote(name), "--now")
    for _ in range(100):
        after = books()
        if after == before or faults:
            break
        time.sleep(0.1)
    if after != before:
        fault("books: %s before, %s after" % (before, after))


TRUTH = learn(make_prompts(random.Random(SEED)))
before = books()
TABLE = {"base": Name("base", "base"), "steady": Name("steady", 0)}
for each in NAMES:
    TABLE[each] = Name(each, ABSENT)
must("adapter load steady", directory(0))
end_time = time.monotonic() + SECONDS
threads = ([threading.Thread(target=client, args=(i,)) for i in range(CLIENTS)] +
           [threading.Thread(target=manage, args=(i,)) for i in range(len(NAMES))] +
           [threading.Thread(target=probe)])
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
settle(before)
for text in faults[:20]:
    print("fault:", text)
missing = [what for what in ("answered", "load", "unload", "unload now", "replace",
                             "drain", "weight", "broken", "own prefixes")
           if not done[what] and sys.argv[6:] != ["warm"]]
if missing:
    print("fault: never done:", ", ".join(missing))
if done["prefixes of others"]:
    print("fault: %d prefixes of others were found" % done["prefixes of others"])
answers = sum(done[k] for k in ("answered", "of no name", "between two", "cancelled"))
lost = done["asked"] - answers
print("  %d asked, %d lost; %s; %d prefixes of others" % (done["asked"], lost, ", ".join(
    "%d %s" % (number, what) for what, number in sorted(done.items())
    if number and what not in ("asked", "prefixes of others")),
    done["prefixes of others"]))
sys.exit(bool(faults or missing or lost or done["prefixes of others"]))
