# demo_adapters.py - probabilities of a text through the API (-> verdict)
# SPDX-License-Identifier: Apache-2.0
"""Usage: demo_adapters.py API MODEL GOLDEN TEXTS

GOLDEN: lines {"ids", "logprobs"} by transformers (tools/demo/evaluate.py
scores). A bias makes the token that follows come, request by request; what
is told of it is the probability without the bias. The perplexity of TEXTS
lines must be transformers' within 0.1 %.
"""

import json
import math
import sys
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from threading import local

THREADS = 8
LIMIT = 1e-3
own = local()


def logprob(host: str, model: str, ids: list[int], wanted: int) -> float:
    """Of `wanted` behind `ids`."""
    if not hasattr(own, "connection"):
        own.connection = HTTPConnection(host, timeout=60)
    own.connection.request("POST", "/v1/completions", json.dumps({
        "model": model, "prompt": ids, "max_tokens": 1, "logprobs": 1,
        "temperature": 0, "ignore_eos": True,
        "logit_bias": {str(wanted): 100}}),
        {"content-type": "application/json"})
    answer = json.loads(own.connection.getresponse().read())
    assert answer["usage"]["prompt_tokens"] == len(ids), answer
    return answer["choices"][0]["logprobs"]["token_logprobs"][0]


def main() -> None:
    host = sys.argv[1].removeprefix("http://")
    model, golden, count = sys.argv[2], sys.argv[3], int(sys.argv[4])
    with open(golden) as file:
        rows = [json.loads(line) for line in file][:count]
    places = [(r["ids"][:i], r["ids"][i], r["logprobs"][i - 1])
              for r in rows for i in range(1, len(r["ids"]))]
    with ThreadPoolExecutor(THREADS) as pool:
        seen = list(pool.map(
            lambda p: logprob(host, model, p[0], p[1]), places))
    ours, theirs = (math.exp(-sum(x) / len(places)) for x in
                    (seen, [p[2] for p in places]))
    worst = max(abs(a - p[2]) for a, p in zip(seen, places))
    print(f"{model}: {len(places)} tokens, perplexity {ours:.6f}, "
          f"transformers {theirs:.6f}; worst token {worst:.2e}")
    sys.exit(abs(ours / theirs - 1) > LIMIT or worst > LIMIT)


main()
