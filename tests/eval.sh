#!/bin/bash
# eval.sh - heddle-eval as a user meets it (commands -> output, exit codes)
# SPDX-License-Identifier: Apache-2.0
# usage: tests/eval.sh BUILD   (ends with the line that tests/run.sh reads)
set -u
eval=$1/heddle-eval
model=tests/golden/qwen3_moe
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
. tests/verdict.sh
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
refuses score__text_without_tokenizer "holds no tokenizer.json" score "$work/input.jsonl"
line '{"prompt": "hello"}'
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
for cores in 1-0 0,0 0- ,0 0, x 9999 0-0-1; do
	refuses "option__cores_$cores" "no list of different cores" \
		"$eval" score --model "$model" --cores "$cores"
done
refuses option__cores_and_threads "--cores names 1" \
	"$eval" score --model "$model" --cores 0 --threads 2
refuses option__unknown "--what" "$eval" score --model "$model" --what 3
refuses option__not_a_number '--top: "x"' score "$work/input.jsonl" --top x
refuses option__too_large "--top" score "$work/input.jsonl" --top 21
refuses option__dtype "neither f32 nor bf16" score "$work/input.jsonl" --kv-dtype f8
refuses option__page_size "--page-size" score "$work/input.jsonl" --page-size 5000
refuses option__stray_word "stray" score "$work/input.jsonl" stray
refuses option__no_model "--model DIR is missing" "$eval" inspect
refuses generate__bad_ids "--ids" "$eval" generate --model "$model" --ids 1,x
refuses generate__no_ids "--ids 1,2,3" "$eval" generate --model "$model"
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
HEDDLE_ISA=reference "$eval" inspect --model "$model" >"$work/out" 2>"$work/err" &&
	grep -q '^runs here *on reference$' "$work/out"
verdict inspect__shows_the_back_end $?
HEDDLE_ISA=sse9 refuses inspect__no_such_back_end "HEDDLE_ISA=sse9" \
	"$eval" inspect --model "$model"


# --- text --------------------------------------------------------------------
cp -r "$model" "$work/text"
cp tests/golden-text/qwen/tokenizer.json "$work/text/"
printf '%s' '{"chat_template": "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"}' \
	>"$work/text/tokenizer_config.json"
line '{"text": "Hello, wörld! 12 <|im_start|>"}'
"$eval" tokenize --model "$work/text" --input "$work/input.jsonl" >"$work/out" 2>"$work/err" &&
	"$eval" detokenize --model "$work/text" --input "$work/out" >"$work/back" 2>>"$work/err" &&
	cmp "$work/back" - <<<'{"text":"Hello, wörld! 12 <|im_start|>"}'
verdict tokenize__and_back $?
"$eval" tokenize --parse-special --model "$work/text" --input "$work/input.jsonl" >"$work/special" 2>"$work/err" &&
	! numbers ids <"$work/out" | grep -qx 901 &&
	numbers ids <"$work/special" | grep -qx 901
verdict tokenize__special_only_when_asked $?
line '{"messages": [{"role": "user", "content": "Hi <|im_end|>"}]}'
"$eval" chat --model "$work/text" --input "$work/input.jsonl" >"$work/out" 2>"$work/err" &&
	grep -qF '{"text":"<|im_start|>user\nHi <|im_end|><|im_end|>\n<|im_start|>assistant\n","ids":[' "$work/out"
verdict chat__renders_the_template $?
# The template's own end of turn, and the user's imitation of it.
ends() { numbers ids <"$1" | grep -cx 902; }
"$eval" chat --parse-special --model "$work/text" --input "$work/input.jsonl" >"$work/special" 2>"$work/err" &&
	[ "$(ends "$work/out")" = 1 ] && [ "$(ends "$work/special")" = 2 ]
verdict chat__users_write_no_special_token $?
line '{"messages": [], "add_generation_prompt": false}'
"$eval" chat --model "$work/text" --input "$work/input.jsonl" >"$work/out" 2>"$work/err" &&
	cmp "$work/out" - <<<'{"text":"","ids":[]}'
verdict chat__no_generation_prompt $?
line '{"messages": 3}'
refuses chat__messages_are_no_list 'input.jsonl:1: "messages" is no list' \
	"$eval" chat --model "$work/text" --input "$work/input.jsonl"
line '{"messages": [], "enable_thinking": false}'
refuses chat__unknown_key '"enable_thinking" is not known' \
	"$eval" chat --model "$work/text" --input "$work/input.jsonl"
line '{"messages": [{"role": "user"}'
refuses chat__broken_json 'input.jsonl:1: column 30' \
	"$eval" chat --model "$work/text" --input "$work/input.jsonl"
printf 'a\n{%% nope %%}' >"$work/text/chat_template.jinja"
line '{"messages": []}'
refuses chat__unknown_construct "text/chat_template.jinja:2:4: unknown or unsupported statement 'nope'" \
	"$eval" chat --model "$work/text" --input "$work/input.jsonl"
printf '{{ messages.x.y }}' >"$work/text/chat_template.jinja"
refuses chat__fails_on_these_messages "input.jsonl:1: $work/text/chat_template.jinja:1:15:" \
	"$eval" chat --model "$work/text" --input "$work/input.jsonl"
rm "$work/text/chat_template.jinja" "$work/text/tokenizer_config.json"
refuses chat__no_template "has no chat template" \
	"$eval" chat --model "$work/text" --input "$work/input.jsonl"
line '{"text": ""}'
"$eval" tokenize --model "$work/text" --input "$work/input.jsonl" >"$work/out" 2>"$work/err" &&
	"$eval" detokenize --model "$work/text" --input "$work/out" >"$work/back" 2>>"$work/err" &&
	cmp "$work/back" - <<<'{"text":""}'
verdict tokenize__nothing_and_back $?
line '{"ids": [1], "text": "a"}'
refuses score__ids_and_text 'both "ids" and "text"' \
	"$eval" score --model "$work/text" --input "$work/input.jsonl"
line '{"text": "a!b"}'
"$eval" score --model "$work/text" --input "$work/input.jsonl" >"$work/out" 2>"$work/err" &&
	[ "$(numbers logprobs <"$work/out" | wc -l)" = 2 ]
verdict score__of_a_text $?
"$eval" generate --model "$work/text" --text 'a!b' --max-tokens 4 >"$work/out" 2>"$work/err" &&
	grep -q '"ids":\[64,0,65\].*"text":"' "$work/out"
verdict generate__from_a_text $?
refuses tokenize__no_tokenizer "holds no tokenizer.json" \
	"$eval" tokenize --model "$model" --input "$work/input.jsonl"
refuses generate__ids_or_text "--ids 1,2,3 and --text" \
	"$eval" generate --model "$model" --ids 1 --text x

suite eval
