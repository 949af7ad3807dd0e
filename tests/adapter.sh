#!/bin/bash
# adapter.sh - adapters in heddle-eval: woven, merged, taken apart again
# SPDX-License-Identifier: Apache-2.0
# usage: tests/adapter.sh BUILD   (ends with the line that tests/run.sh reads)
set -u
eval=$1/heddle-eval make=$1/tests/make_adapter
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
. tests/verdict.sh
# Exit code 1, one line that holds the text, and nothing was made.
refuses() { # NAME TEXT COMMAND...
	local name=$1 text=$2 status
	shift 2
	"$@" >"$work/out" 2>"$work/err" </dev/null
	status=$?
	[ "$status" = 1 ] && [ ! -s "$work/out" ] && [ ! -e "$work/new" ] &&
		[ -z "$(find "$work" -name '*.partial-*')" ] &&
		[ "$(wc -l <"$work/err")" = 1 ] && grep -qF -- "$text" "$work/err"
	verdict "$name" $?
}
quiet() { "$@" >>"$work/out" 2>>"$work/err"; }

# --- woven = merged, and back, for every family --------------------------------
types=(bf16 f32 f16)
seed=0
for path in tests/golden/*/; do
	model=${path%/} name=$(basename "$path")
	seed=$((seed + 1))
	rm -rf "$work"/{a,merged,adapter,again,twice}
	: >"$work/out"
	"$make" "$model" $seed "${types[seed % 3]}" "$work/a" 2>"$work/err"
	tail -n 3 "$model/golden.jsonl" >"$work/input.jsonl"
	quiet "$eval" merge --base "$model" --adapter "$work/a" --out "$work/merged" &&
		"$eval" score --model "$work/merged" --input "$work/input.jsonl" --top 5 \
			>"$work/one" 2>>"$work/err" &&
		"$eval" score --model "$model" --adapter x="$work/a" --top 5 \
			--input "$work/input.jsonl" >"$work/two" 2>>"$work/err" &&
		"$eval" score --model "$model" --input "$work/input.jsonl" --top 5 \
			>"$work/base" 2>>"$work/err" &&
		quiet cmp "$work/one" "$work/two" && ! cmp -s "$work/one" "$work/base"
	verdict "woven_is_merged__$name" $?
	if [ "$name" = deepseek_v3_fp8 ]; then # expanded: a checkpoint in bf16
		! grep -q quantization_config "$work/merged/config.json" &&
			! grep -qE 'F8_E4M3|_scale_inv' "$work/merged/model.safetensors" &&
			[ "$(ls "$work/merged")" = "$(ls "$model")" ]
		verdict merge__fp8_blocks_become_bf16 $?
		continue
	fi
	quiet "$eval" diff --base "$model" --model "$work/merged" --out "$work/adapter" &&
		quiet "$eval" merge --base "$model" --adapter "$work/adapter" --out "$work/again" &&
		quiet diff -r "$work/merged" "$work/again" &&
		quiet "$eval" diff --base "$model" --model "$work/again" --out "$work/twice" &&
		quiet diff -r "$work/adapter" "$work/twice" &&
		[ "$(ls "$work/adapter")" = "$(printf 'config.json\nexpert_cfg.json\nmodel.safetensors')" ]
	verdict "diff__is_the_adapter_again__$name" $?
done

# --- several adapters, one run ---------------------------------------------------
model=tests/golden/qwen3_moe
rm -rf "$work"/{a,b}
"$make" $model 101 bf16 "$work/a" && "$make" $model 102 f32 "$work/b"
ids=$(tail -n 1 $model/golden.jsonl | sed 's/.*"ids": *\(\[[^]]*\]\).*/\1/')
for who in '"one"' '"two"' null; do
	printf '{"adapter": %s, "ids": %s}\n' "$who" "$ids"
done >"$work/three.jsonl"
both() { "$eval" score --model $model --adapter one="$work/a" --adapter two="$work/b" "$@"; }
alone() { "$eval" score --model $model --input "$work/one.jsonl" "$@" 2>>"$work/err"; }
printf '{"ids": %s}\n' "$ids" >"$work/one.jsonl"
both --input "$work/three.jsonl" >"$work/out" 2>"$work/err" &&
	{ alone --adapter "$work/a" && alone --adapter y="$work/b" && alone; } >"$work/apart" &&
	cmp "$work/out" "$work/apart" && [ "$(sort -u "$work/out" | wc -l)" = 3 ]
verdict score__a_line_says_which $?
refuses score__a_line_says_nothing 'one.jsonl:1: has no "adapter", and there are 2' \
	both --input "$work/one.jsonl"
printf '{"adapter": "three", "ids": [1]}\n' >"$work/input.jsonl"
refuses score__no_such_adapter 'no --adapter has the name "three"' \
	both --input "$work/input.jsonl"
printf '{"adapter": 3, "ids": [1]}\n' >"$work/input.jsonl"
refuses score__adapter_is_no_name 'neither a name nor null' both --input "$work/input.jsonl"
generate() { "$eval" generate --model "$1" --ids 1,2,3 --max-tokens 12 "${@:2}" 2>"$work/err"; }
rm -rf "$work/merged"
quiet "$eval" merge --base $model --adapter "$work/a" --out "$work/merged" &&
	generate "$work/merged" >"$work/one" && generate $model --adapter "$work/a" >"$work/out" &&
	generate $model >"$work/base" && cmp "$work/one" "$work/out" && ! cmp -s "$work/one" "$work/base"
verdict generate__woven_is_merged $?

# --- what is refused -------------------------------------------------------------
refuses option__two_of_a_name '"x" is there twice' "$eval" score --model $model \
	--adapter x="$work/a" --adapter x="$work/b" --input "$work/one.jsonl"
refuses option__no_directory 'is not NAME=DIR' "$eval" score --model $model --adapter x=
refuses option__inspect 'inspect takes no --adapter' "$eval" inspect --model $model --adapter a=b
refuses generate__two "generate takes one" "$eval" generate --model $model --ids 1 \
	--adapter x="$work/a" --adapter y="$work/b"
refuses score__no_adapter_there "/nowhere: No such file" "$eval" score --model $model \
	--adapter x=/nowhere --input "$work/one.jsonl"
refuses generate__another_base "$work/a: " "$eval" generate --ids 1 \
	--model tests/golden/mixtral_top1 --adapter x="$work/a"
merge() { "$eval" merge --base $model --adapter "$work/c" --out "$work/new"; }
rm -rf "$work/c" && cp -r "$work/a" "$work/c"
sed -i 's/"shared_experts": false/"shared_experts": true/' "$work/c/expert_cfg.json"
refuses merge__shared_experts "$work/c: expert_cfg.json: shared_experts is true" merge
rm -rf "$work/c" && cp -r "$work/a" "$work/c"
rm "$work/c/model-00001.safetensors"
refuses merge__missing_tensors "is missing (" merge
rm -rf "$work/c" && cp -r "$work/a" "$work/c"
truncate -s -1 "$work/c/model-00002.safetensors"
refuses merge__truncated "model-00002.safetensors" merge
rm -rf "$work/c" && cp -r "$work/a" "$work/c"
cp "$work/c/model-00001.safetensors" "$work/c/twin.safetensors"
refuses merge__twice "is there twice, the first time in model-00001" merge
refuses merge__options "--base DIR, one --adapter DIR and --out DIR" \
	"$eval" merge --base $model --out "$work/new"
"$eval" merge --base $model --adapter "$work/a" --out "$work/merged" >"$work/out" 2>"$work/err"
[ $? = 1 ] && grep -q 'is there already' "$work/err"
verdict merge__overwrites_nothing $?
refuses merge__no_parent "/nowhere/x.partial-" "$eval" merge --base $model \
	--adapter "$work/a" --out /nowhere/x
# Files end after some KiB, as on a full disk: nothing half-made is left.
short() { (ulimit -f "$1" && trap '' XFSZ && exec "$eval" "${@:2}"); }
refuses merge__no_room "File too large" short 100 merge --base $model \
	--adapter "$work/a" --out "$work/new"
refuses diff__no_room "File too large" short 4 diff --base $model \
	--model "$work/merged" --out "$work/new"
refuses diff__the_same "are the same" "$eval" diff --base $model --model $model --out "$work/new"
refuses diff__another_model "configurations differ in family" "$eval" diff --base $model \
	--model tests/golden/olmoe --out "$work/new"
# One value of the final norm, the last tensor but one of the file.
tune() { # NAME: flip a bit in the first byte of that tensor of mixtral
	rm -rf "$work/tuned" && cp -r tests/golden/mixtral "$work/tuned"
	local file=$work/tuned/model.safetensors length begin
	length=$(od -An -t u8 -N 8 "$file")
	begin=$(head -c $((length + 8)) "$file" | grep -ao "\"$1\":{[^}]*}" |
		sed 's/.*"data_offsets":\[\([0-9]*\),.*/\1/')
	[ -n "$begin" ] || return 1
	printf '\001' | dd of="$file" bs=1 seek=$((8 + length + begin)) conv=notrunc 2>/dev/null
}
tune model.norm.weight
refuses diff__a_norm_differs '1 tensors that are no routed experts differ: "model.norm.weight"' \
	"$eval" diff --base tests/golden/mixtral --model "$work/tuned" --out "$work/new"
tune model.layers.1.block_sparse_moe.gate.weight
refuses diff__a_router_differs '"model.layers.1.block_sparse_moe.gate.weight"' \
	"$eval" diff --base tests/golden/mixtral --model "$work/tuned" --out "$work/new"
tune model.layers.1.block_sparse_moe.experts.2.w3.weight
quiet "$eval" diff --base tests/golden/mixtral --model "$work/tuned" --out "$work/found" &&
	grep -q '"1": \[2\]' "$work/found/expert_cfg.json" &&
	grep -aq 'block_sparse_moe.experts.2.w3.weight' "$work/found/model.safetensors"
verdict diff__one_value_of_one_expert $?
refuses diff__options "--base DIR, --model DIR and --out DIR" "$eval" diff --model $model

suite adapter_sh
