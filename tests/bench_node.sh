#!/bin/bash
# bench_node.sh - heddle-bench against heddled, in short (-> verdict)
# SPDX-License-Identifier: Apache-2.0
# usage: tests/bench_node.sh BUILD   (ends with the line that tests/run.sh reads)
# Whether limits are kept is not judged here: machines that test are busy.
set -u
build=$1
. tests/null_node.sh
. tests/verdict.sh
tools/bench/frontend-model.sh "$model"
"$build/heddle-bench" frontend --heddled "$build/heddled" \
	--model "$model" --streams 32 --tokens 100 --many 64 --idle 32 \
	--seconds 0.5 --json "$work/frontend.json" --quiet \
	>"$work/out" 2>"$work/err"
[ $? -le 1 ]
verdict frontend__measures_every_part $?
python3 - "$work/frontend.json" <<'END' >>"$work/out" 2>>"$work/err"
import json, sys
rows = {row["name"]: row for row in json.load(open(sys.argv[1]))}
for row in rows.values():
    assert set(row) == {"name", "value", "unit", "limit", "peer", "peer_value"}
    assert row["value"] > 0 or row["name"].endswith("_stolen"), row
assert rows["frontend.events_per_cpu_s"]["peer"] == "bare io_uring loop"
assert rows["frontend.many_exact"]["value"] == 64
for name in ("steady_events_per_s", "paced_delay_p99", "prompts_delay_p99", "idle_connection"):
    assert "frontend." + name in rows, name
END
verdict frontend__writes_its_figures $?
start_node bench_node
serve() {
	"$build/heddle-bench" serve --url "$api" --quiet --num-prompts 50 \
		--random-input-len 4:40 --random-output-len 5:50 --ignore-eos \
		"$@" >"$work/out" 2>"$work/err"
}
# The model and its token ids are asked for.
serve --request-rate 200 --result "$work/result.json"
verdict serve__completions $?
grep -q '"completed": 50' "$work/result.json"
verdict serve__writes_the_result $?
serve --endpoint chat --max-concurrency 8
verdict serve__chat $?
serve --no-stream --arrival gamma --cv 2 --request-rate 300
verdict serve__whole_answers $?
printf '%s\n' '{"prompt": "one two", "output_len": 7}' '{"ids": [1, 2, 3]}' \
	>"$work/prompts"
serve --prompts "$work/prompts" --goodput "ttft:60000 e2el:60000"
verdict serve__prompts_of_a_file $?
cat >"$work/trace" <<'END'
{"timestamp": 0, "input_length": 600, "output_length": 5, "hash_ids": [1, 2]}
{"timestamp": 30, "input_length": 20, "output_length": 9, "hash_ids": [1]}
END
serve --trace "$work/trace"
verdict serve__trace $?
serve --model unknown --vocab 100
[ $? = 1 ] && grep -q http_404 "$work/out"
verdict serve__counts_refusals $?
ask() {
	"$build/heddle-bench" ask --url "$api" "$@" >"$work/out" 2>"$work/err"
}
ask --seed 3 --max-tokens 9 "Hello" && [ -s "$work/out" ] &&
	grep -qE '^\[[0-9]+ \+ 9 tokens, first after ' "$work/err"
verdict ask__chat $?
cp "$work/out" "$work/first"
ask --seed 3 --max-tokens 9 "Hello" && cmp -s "$work/out" "$work/first"
verdict ask__same_seed_same_answer $?
ask --complete --seed 3 --max-tokens 3 "Hello" &&
	grep -q ' + 3 tokens' "$work/err"
verdict ask__completion $?
ask --model unknown "Hello"
[ $? = 1 ] && grep -q 'status 404.*unknown.*does not exist' "$work/err"
verdict ask__says_what_the_server_said $?
ask --max-tokens many "Hello"
[ $? = 2 ] && grep -q 'many: not a number' "$work/err"
verdict ask__bad_option $?
suite bench_node
