#!/bin/bash
# serve_node.sh - heddled on the cpu device, with ranks that are killed (-> verdict)
# SPDX-License-Identifier: Apache-2.0
# usage: tests/serve_node.sh BUILD [KILLS]   (ends with the line that
# tests/run.sh reads)
set -u
build=$1 kills=${2:-12}
work=$(mktemp -d)
node=
finish() {
	[ -z "$node" ] || { kill -9 "$node" && wait "$node"; } 2>/dev/null
	rm -rf "$work"
}
trap finish EXIT
command -v python3 >/dev/null || {
	echo "SKIP: needs python3"
	exit 77
}
mkdir "$work/model"
cp tests/golden/qwen3_moe/*.json tests/golden/qwen3_moe/*.safetensors \
	tests/golden-text/qwen/tokenizer.json "$work/model/"
cp tests/golden-text/chat/chatml.jinja "$work/model/chat_template.jinja"
"$build/heddled" --model "$work/model" --name woven --device cpu,cpu \
	--cpu-threads 1 --cpu-sequences 6 --cpu-rows 64 --kv-tokens 1024 \
	--slots 64 --pages 4096 --connections 64 --drain-timeout 30s \
	--listen 127.0.0.1:0 --admin 127.0.0.1:0 --control "$work/control" \
	2>"$work/log" &
node=$!
for _ in $(seq 600); do
	grep -q 'ready: ' "$work/log" && break
	kill -0 "$node" 2>/dev/null || break
	sleep 0.1
done
api=$(sed -nE 's/.*ready: api ([^,]*),.*/\1/p' "$work/log")
admin=$(sed -nE 's/.*, admin ([^,]*),.*/\1/p' "$work/log")
if [ -z "$api" ]; then
	cat "$work/log"
	echo "suite serve_node: 0 passed, 1 failed, 0 skipped"
	exit 1
fi
python3 -B tests/serve_client.py "$api" "$admin" "$build/heddlectl" \
	"$work/control" "$kills" >"$work/out" 2>&1
status=$?
kill "$node" && wait "$node"
ended=$?
node=
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
