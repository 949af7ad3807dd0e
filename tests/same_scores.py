# same_scores.py - scores of a text by two programs (JSON lines -> verdict)
# SPDX-License-Identifier: Apache-2.0
"""Usage: same_scores.py OURS THEIRS LIMIT

Lines {"ids", "logprobs"}, ours as heddle-eval score writes them, theirs by
transformers (tools/demo/evaluate.py scores). The same ids, line by line, and
no log-probability more than LIMIT apart.
"""

import json
import sys


def main() -> None:
    ours, theirs = ([json.loads(line) for line in open(name)]
                    for name in sys.argv[1:3])
    same = [r["ids"] for r in ours] == [r["ids"] for r in theirs]
    apart = [abs(a - b) for x, y in zip(ours, theirs)
             for a, b in zip(x["logprobs"], y["logprobs"], strict=True)]
    print(f"{len(apart)} tokens, same ids: {same}; worst {max(apart):.2e}")
    sys.exit(not same or not max(apart) <= float(sys.argv[3]))


main()
