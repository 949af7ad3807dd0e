#!/bin/bash
# demo.sh - the demo as a user runs it, and the bundled model's figures
# SPDX-License-Identifier: Apache-2.0
# usage: tests/demo.sh BUILD   (ends with the line that tests/run.sh reads)
set -u
build=$1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
. tests/verdict.sh
LISTEN=127.0.0.1:0 deploy/demo.sh "$build" once >"$work/out" 2>"$work/err"
verdict demo__ends_well $?
grep -q 'ready: api http://127.0.0.1:.*, device cpu, ' "$work/out" &&
	grep -qE '^\[[0-9]+ \+ [0-9]+ tokens, first after .* ms, then .* tokens/s\]$' \
		"$work/out" && grep -q '^curl -N http://127.0.0.1:' "$work/out"
verdict demo__says_what_it_does $?
# The same seed gives the same text, whatever ran before.
text() { sed -n '/heddle-bench ask/,/^\[/p' "$1" | sed '1d;$d'; }
text "$work/out" >"$work/first"
LISTEN=127.0.0.1:0 deploy/demo.sh "$build" once >"$work/out" 2>"$work/err"
text "$work/out" >"$work/second"
[ -s "$work/first" ] && cmp -s "$work/first" "$work/second"
verdict demo__says_the_same_again $?
# Perplexity per token as transformers 5.23.0 computes it (tools/demo/evaluate.py
# scores base DOMAIN), within 0.1 %.
perplexity() { # DOMAIN EXPECTED
	"$build/heddle-eval" score --model deploy/demo/model \
		--input "deploy/demo/heldout/$1.jsonl" >"$work/out" 2>"$work/err"
	python3 - "$work/out" "$2" <<-'END' >>"$work/err" 2>&1
		import json, math, sys
		rows = [json.loads(line)["logprobs"] for line in open(sys.argv[1])]
		count = sum(map(len, rows))
		seen = math.exp(-sum(map(sum, rows)) / count)
		print(len(rows), "texts,", count, "tokens, perplexity", seen)
		sys.exit(len(rows) != 32 or abs(seen / float(sys.argv[2]) - 1) > 1e-3)
	END
	verdict "demo__perplexity_of_$1" $?
}
perplexity general 57.114218
perplexity german 63.181298
suite demo
