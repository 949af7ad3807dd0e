#!/bin/sh
# demo.sh - what there is, on real input (heddle-eval -> inspect, score, generate)
# SPDX-License-Identifier: Apache-2.0
# usage: deploy/demo.sh build/heddle-eval
# The model is one of the tiny checkpoints of the tests: it speaks in token ids
# and says nothing sensible, but every operation of a real one takes part.
set -eu
eval=$1
model=tests/golden/deepseek_v2_lite
say() { printf '\n$ %s\n' "$*"; }

say "$eval inspect --model $model"
"$eval" inspect --model "$model"

say "$eval generate --model $model --ids 5,22,45,19 --max-tokens 12"
"$eval" generate --model "$model" --ids 5,22,45,19 --max-tokens 12

say "$eval score --model $model --input prompt.jsonl   # against transformers"
input=$(mktemp)
trap 'rm -f "$input"' EXIT
sed -n 2p "$model/golden.jsonl" >"$input"
"$eval" score --model "$model" --input "$input" | awk -v golden="$input" '
	function logprobs(text, out,    body) {
		body = text
		sub(/.*"logprobs":\[/, "", body)
		sub(/\].*/, "", body)
		return split(body, out, ",")
	}
	BEGIN { getline line < golden; n = logprobs(line, want) }
	{
		m = logprobs($0, got)
		printf "%-8s %14s %14s\n", "token", "heddle", "transformers"
		for (i = 1; i <= n; i++) {
			off = got[i] - want[i]
			if (off < 0) off = -off
			if (off > worst) worst = off
			printf "%-8d %14.6f %14.6f\n", i + 1, got[i], want[i]
		}
		printf "largest difference %.1e (allowed 1e-3)\n", worst
		exit m != n || worst > 1e-3
	}'
