#!/bin/bash
# demo_adapters.sh - the bundled adapters: merged, and served (-> verdict)
# SPDX-License-Identifier: Apache-2.0
# usage: tests/demo_adapters.sh BUILD [TEXTS]   (ends with the line that
# tests/run.sh reads); TEXTS of the four of each adapter
set -u
build=$1 texts=${2:-1}
. tests/run_node.sh
. tests/verdict.sh
model=deploy/demo/model names="scripture german python"
# --- woven = merged = transformers --------------------------------------------------
# The golden scores are those that transformers gives both the base with the
# adapter's experts in it and the merged checkpoint, read as any other.
for name in $names; do
	adapter=deploy/demo/adapters/$name
	head -n 4 "deploy/demo/heldout/$name.jsonl" >"$work/input"
	rm -rf "$work/merged"
	"$build/heddle-eval" merge --base $model --adapter "$adapter" \
		--out "$work/merged" >"$work/out" 2>"$work/err" &&
		"$build/heddle-eval" score --model "$work/merged" --top 5 \
			--input "$work/input" >"$work/one" 2>>"$work/err" &&
		"$build/heddle-eval" score --model $model --top 5 \
			--adapter "$name=$adapter" --input "$work/input" \
			>"$work/two" 2>>"$work/err" &&
		[ "$(wc -l <"$work/one")" = 4 ] && cmp "$work/one" "$work/two" \
		>>"$work/out" 2>&1
	verdict "woven_is_merged__$name" $?
	"$build/heddle-eval" score --model "$work/merged" \
		--input "tests/golden-demo/$name.jsonl" >"$work/one" 2>"$work/err" &&
		python3 -B tests/same_scores.py "$work/one" \
			"tests/golden-demo/$name.jsonl" 1e-4 >"$work/out" 2>>"$work/err"
	verdict "merged_is_transformers__$name" $?
done
# --- through the API, all in one node; one of them under sanitizers ------------------
options=()
for name in $names; do
	options+=(--adapter "$name=deploy/demo/adapters/$name")
done
run_node demo_adapters --model $model --name demo --device cpu \
	--context 4096 --kv-tokens 16384 "${options[@]}"
[ -z "${HEDDLE_TEST_OPS:-}" ] || names=german
for name in $names; do
	python3 -B tests/demo_adapters.py "$api" "$name" \
		"tests/golden-demo/$name.jsonl" "$texts" \
		>"$work/out" 2>"$work/err"
	verdict "perplexity__through_the_api__$name" $?
	cat "$work/out"
done
suite demo_adapters
