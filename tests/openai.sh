#!/bin/bash
# openai.sh - the official openai package against heddled (-> verdict)
# SPDX-License-Identifier: Apache-2.0
# usage: tests/openai.sh BUILD   (ends with the line that tests/run.sh reads)
# The package comes from PyPI into build/openai-venv the first time; where it
# cannot be had, the last line says so and the status is 77.
set -u
heddled=$1/heddled
venv=build/openai-venv
version=3.54.0
work=$(mktemp -d)
node=
finish() {
	[ -z "$node" ] || { kill "$node" && wait "$node"; } 2>/dev/null
	rm -rf "$work"
}
trap finish EXIT
if ! "$venv/bin/python" -c "import openai
assert openai.__version__ == '$version'" 2>/dev/null; then
	if ! { python3 -m venv "$venv" &&
		"$venv/bin/pip" install -q --disable-pip-version-check \
			--retries 1 "openai==$version"; } >"$work/pip" 2>&1; then
		tail -n 3 "$work/pip"
		echo "openai $version cannot be installed here (python3-venv, PyPI)"
		exit 77
	fi
fi
tools/bench/frontend-model.sh "$work/model" 4096 || exit 1
"$heddled" --hash-key tester <<<"sk-test" >"$work/keys" || exit 1
"$heddled" --model "$work/model" --name mock --device null \
	--null-step-us 3000 --slots 8 --api-keys "$work/keys" \
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
	echo "suite openai: 0 passed, 1 failed, 0 skipped"
	exit 1
fi
"$venv/bin/python" -B tests/openai_client.py "$api" "$admin" sk-test mock
