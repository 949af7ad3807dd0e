#!/bin/bash
# eval.sh - heddle-eval as a user meets it (commands -> output, exit codes)
# SPDX-License-Identifier: Apache-2.0
# usage: tests/eval.sh BUILD   (ends with the line that tests/run.sh reads)
set -u
eval=$1/heddle-eval
model=tests/golden/qwen3_moe
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
passed=0 failed=0
verdict() { # NAME STATUS
	if [ "$2" = 0 ]; then
		passed=$((passed + 1))
		echo "  Test: $1 ...passed"
	else
		failed=$((failed + 1))
		echo "  Test: $1 ...FAILED"
		cat "$work/out" "$work/err" 2>/dev/null
	fi
}
# Exit code 1, nothing on standard output, one line that holds the text.
refuses() { # NAME TEXT COMMAND...
	local name=$1 text=$2 status
	shift 2
	"$@" >"$work/out" 2>"$work/err" </dev/null
	status=$?
	[ "$status" = 1 ] && [ ! -s "$work/out" ] &&
		[ "$(wc -l <"$work/err")" = 1 ] && grep -qF -- "$text" "$work/err"
	verdict "$name" $?
}
score() { "$eval" score --model "$model" --input "$1" "${@:2}"; }
line() { printf '%s\n' "$1" >"$work/input.jsonl"; }

# --- bad input ---------------------------------------------------------------
line '{"ids": [1, 2'
refuses score__broken_json "input.jsonl:1: column" score "$work/input.jsonl"
line '{"ids": [1, 2.5]}'
refuses score__not_an_integer "input.jsonl:1: entry 1" score "$work/input.jsonl"
line '{"ids": [1, -2]}'
refuses score__negative_id "entry 1 of the ids is -2" score "$work/input.jsonl"
line '{"ids": [1, 99999999]}'
refuses score__id_beyond_vocabulary "the vocabulary has" score "$work/input.jsonl"
line '{"ids": []}'
refuses score__no_ids "at least one token id" score "$work/input.jsonl"
line '{"text": "hello"}'
refuses score__no_ids_at_all 'no "ids"' score "$work/input.jsonl"
printf '{"ids":[1]}\n{"ids":[1]}\nnonsense\n' >"$work/input.jsonl"
refuses score__names_the_line "input.jsonl:3:" score "$work/input.jsonl"
: >"$work/input.jsonl"
refuses score__empty_file "holds no line" score "$work/input.jsonl"
refuses score__no_such_file "/nowhere: No such file" score /nowhere
refuses score__no_input "--input FILE.jsonl is missing" "$eval" score --model "$model"
line "{\"ids\": [$(seq -s, 5000 | sed 's/[0-9][0-9]*/1/g')]}"
refuses score__too_long "positions" score "$work/input.jsonl"
line '{"ids": [1, 2]}'
refuses score__no_model "config.json" "$eval" score --model /etc --input "$work/input.jsonl"
refuses score__no_directory "/nowhere" "$eval" score --model /nowhere --input "$work/input.jsonl"
refuses option__unknown "--what" "$eval" score --model "$model" --what 3
refuses option__not_a_number '--top: "x"' score "$work/input.jsonl" --top x
refuses option__too_large "--top" score "$work/input.jsonl" --top 21
refuses option__dtype "neither f32 nor bf16" score "$work/input.jsonl" --kv-dtype f8
refuses option__page_size "--page-size" score "$work/input.jsonl" --page-size 5000
refuses option__stray_word "stray" score "$work/input.jsonl" stray
refuses option__no_model "--model DIR is missing" "$eval" inspect
refuses generate__bad_ids "--ids" "$eval" generate --model "$model" --ids 1,x
refuses generate__no_ids "--ids 1,2,3 is missing" "$eval" generate --model "$model"
cp -r "$model" "$work/cut"
truncate -s -1 "$work/cut/model-00003-of-00003.safetensors"
refuses model__truncated_shard "model-00003-of-00003.safetensors" \
	"$eval" score --model "$work/cut" --input "$work/input.jsonl"
rm "$work/cut/model-00003-of-00003.safetensors"
refuses model__missing_shard "model-00003-of-00003.safetensors" \
	"$eval" inspect --model "$work/cut"

# --- good input --------------------------------------------------------------
"$eval" --help >"$work/out" 2>"$work/err" && grep -q '^usage: heddle-eval score' "$work/out"
verdict help__goes_to_standard_output $?
"$eval" nonsense >"$work/out" 2>"$work/err"
[ $? = 2 ] && grep -q 'no such command' "$work/err"
verdict command__unknown $?
numbers() { sed "s/.*\"$1\":\[\([^]]*\)\].*/\1/" | tr ',' '\n' | grep .; }
score "$model/golden.jsonl" --top 5 2>"$work/err" | tee "$work/out" | numbers logprobs >"$work/got" &&
	numbers logprobs <"$model/golden.jsonl" >"$work/want" &&
	[ "$(wc -l <"$work/got")" = "$(wc -l <"$work/want")" ] &&
	paste "$work/got" "$work/want" | awk '
		{ off = $1 - $2; if (off < 0) off = -off; if (off > 1e-3) bad = 1 }
		END { exit bad || NR < 100 }'
verdict score__agrees_with_transformers $?
tail -n 1 "$model/golden.jsonl" | score - >"$work/stdin" 2>"$work/err" &&
	score "$model/golden.jsonl" --chunk 3 --threads 1 2>>"$work/err" | tail -n 1 >"$work/file" &&
	cmp "$work/stdin" "$work/file" >"$work/out"
verdict score__stdin_and_chunks_change_nothing $?
generate() { "$eval" generate --model "$model" --ids 1,2,3,4 "$@" 2>"$work/err"; }
generate --max-tokens 20 >"$work/a" && generate --max-tokens 20 --chunk 1 --threads 3 >"$work/b" &&
	cmp "$work/a" "$work/b" >"$work/out"
verdict generate__greedy_is_the_same_in_any_chunking $?
generate --temperature 1 --seed 5 >"$work/a" && generate --temperature 1 --seed 5 >"$work/b" &&
	generate --temperature 1 --seed 6 >"$work/c" &&
	cmp "$work/a" "$work/b" >"$work/out" && ! cmp -s "$work/a" "$work/c"
verdict generate__seed_decides $?
generate --max-tokens 40 --ignore-eos --repetition-penalty 1000 >"$work/out" &&
	numbers out <"$work/out" >"$work/drawn" &&
	[ "$(sort -u "$work/drawn" | wc -l)" = 40 ] && ! grep -qxE '[1-4]' "$work/drawn"
verdict generate__repetition_penalty_forbids_repeats $?
"$eval" inspect --model "$model" >"$work/out" 2>"$work/err" &&
	grep -q 'family *qwen3_moe' "$work/out" && grep -q '^routed experts' "$work/out"
verdict inspect__shows_the_parts $?

echo "suite eval: $passed passed, $failed failed, 0 skipped"
[ "$failed" = 0 ]
