#!/bin/bash
# serve_node.sh - heddled on the cpu device, with ranks that are killed (-> verdict)
# SPDX-License-Identifier: Apache-2.0
# usage: tests/serve_node.sh BUILD [KILLS]   (ends with the line that
# tests/run.sh reads)
# On a tiny model, or on MODEL=DIR.
set -u
build=$1 kills=${2:-12}
command -v python3 >/dev/null || {
	echo "SKIP: needs python3"
	exit 77
}
. tests/run_node.sh
model=${MODEL:-}
if [ -z "$model" ]; then
	model=$work/model
	mkdir "$model"
	cp tests/golden/qwen3_moe/*.json tests/golden/qwen3_moe/*.safetensors \
		tests/golden-text/qwen/tokenizer.json "$model/"
	cp tests/golden-text/chat/chatml.jinja "$model/chat_template.jinja"
fi
run_node serve_node --model "$model" --name woven --device cpu,cpu \
	--cpu-threads 1 --cpu-sequences 6 --cpu-rows 64 --kv-tokens 1024 \
	--slots 64 --pages 4096 --connections 64 --drain-timeout 30s
python3 -B tests/serve_client.py "$api" "$admin" "$build/heddlectl" \
	"$control" "$kills" >"$work/out" 2>&1
status=$?
stop_node
ended=$?
line=$(tail -n 1 "$work/out")
grep -v '^suite ' "$work/out"
if [ "$ended" != 0 ] || ! grep -q 'stopped$' "$work/log"; then
	tail -n 20 "$work/log"
	echo "suite serve_node: 0 passed, 1 failed, 0 skipped"
	exit 1
fi
[ "$status" = 0 ] || tail -n 20 "$work/log"
echo "$line"
exit "$status"
