#!/bin/bash
# bench_batch.sh - the batching benchmark in short: it works (-> verdict)
# SPDX-License-Identifier: Apache-2.0
# usage: tests/bench_batch.sh BUILD   (ends with the line that tests/run.sh reads)
# On the bundled model. Whether aims are reached is not judged here: machines
# that test are busy.
set -u
build=$1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
. tests/verdict.sh
batch() {
	"$build/heddle-bench" batch --heddled "$build/heddled" \
		--model deploy/demo/model --rounds 1 --threads 1 "$@" \
		>"$work/out" 2>"$work/err"
}
batch --eval "$build/heddle-eval" --concurrency 4 --input 20 --output 12 \
	--streams 2 --long 600 --seconds 4 --json "$work/serve.json"
[ $? -le 1 ]
verdict batch__measures_every_part $?
python3 - "$work/serve.json" <<'END' >>"$work/out" 2>>"$work/err"
import json, sys
rows = {row["name"]: row for row in json.load(open(sys.argv[1]))}
for row in rows.values():
    assert set(row) == {"name", "value", "unit", "limit", "peer", "peer_value"}
    # On a slow machine no answer may be in time.
    assert row["value"] > 0 or ".goodput." in row["name"], row
assert rows["serve.throughput"]["peer"] is None
assert rows["serve.tpot.single"]["peer"] == "heddle-eval generate"
assert rows["serve.itl.prompts"]["peer"] == "--step-budget 0"
for name in ("throughput.decode", "itl.quiet", "itl.prompts_over_quiet",
             "sustained", "goodput.1x", "goodput.2x"):
    assert "serve." + name in rows, name
END
verdict batch__writes_its_figures $?
grep -q 'NO PEER' "$work/out"
verdict batch__says_that_there_is_no_peer $?
# A peer that answers as tools/bench/peer.py does.
cat >"$work/peer" <<'END'
echo "ready pretended"
while read -r command _; do
	[ "$command" = batch ] && echo "0.5 0.25" || exit 1
done
END
batch --parts throughput --concurrency 2 --output 5 --gguf none \
	--python /bin/sh --driver "$work/peer" --json "$work/serve.json"
grep -q '"peer": "pretended", "peer_value": 32}' "$work/serve.json"
verdict batch__takes_turns_with_a_peer $?
batch --parts throughput --concurrency 2 --gguf none --python false \
	--driver none
[ $? = 2 ] && grep -q 'peer (false) ended' "$work/err"
verdict batch__a_peer_that_dies $?
batch --concurrency none
[ $? = 2 ] && grep -q 'none: unknown' "$work/err"
verdict batch__bad_option $?
batch --model "$work/none"
[ $? = 2 ] && grep -q 'none/config.json: no vocab_size' "$work/err"
verdict batch__no_model $?
suite bench_batch
