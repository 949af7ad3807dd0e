#!/bin/sh
# demo.sh - a server on the bundled model and its adapters, one answer
# SPDX-License-Identifier: Apache-2.0
# usage: deploy/demo.sh BUILD [once]
# The model knows Debian's manual pages and a few books (its README says which)
# and sounds like them; it knows nothing. Serves until Ctrl-C; with "once" it
# ends after the answer. LISTEN=ADDR:PORT moves it elsewhere.
set -eu
build=$1
once=${2:-}
model=deploy/demo/model
work=$(mktemp -d)
node=
finish() {
	trap - EXIT INT TERM
	if [ -n "$node" ]; then
		kill "$node" 2>/dev/null || true
		wait "$node" 2>/dev/null || true
	fi
	rm -rf "$work"
}
trap finish EXIT
trap 'finish; exit 0' INT TERM
say() { printf '\n$ %s\n' "$*"; }

: >"$work/log"
set -- --model "$model" --name demo --listen "${LISTEN:-127.0.0.1:8000}"
for name in scripture german python; do
	set -- "$@" --adapter "$name=deploy/demo/adapters/$name"
done
say "$build/heddled $*"
"$build/heddled" "$@" --admin 127.0.0.1:0 \
	--control "$work/control" 2>"$work/log" &
node=$!
until grep -q 'ready: ' "$work/log"; do
	if ! kill -0 "$node" 2>/dev/null; then
		cat "$work/log" >&2
		exit 1
	fi
	sleep 0.05
done
cat "$work/log"
api=$(sed -nE 's/.*ready: api ([^,]*),.*/\1/p' "$work/log")
set -- ask --url "$api" --temperature 0.5 --seed 1 --max-tokens 100 "man 1 ls"
say "$build/heddle-bench ask --url $api --temperature 0.5 --seed 1" \
	'--max-tokens 100 "man 1 ls"'
"$build/heddle-bench" "$@" 2>&1

printf '\nTry it yourself:\n\n'
printf "curl -N %s/v1/chat/completions -d '%s'\n" "$api" \
	'{"model":"demo","messages":[{"role":"user","content":"man 2 open"}],"stream":true}'
printf "curl -N %s/v1/completions -d '%s'\n" "$api" \
	'{"model":"german","prompt":"BESCHREIBUNG","max_tokens":100,"stream":true}'
[ "$once" = once ] && exit 0
printf '\nServing; Ctrl-C ends it.\n'
wait "$node"
