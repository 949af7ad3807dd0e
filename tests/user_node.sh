# user_node.sh - a node of two ranks as a user meets it (sourced)
# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC2154,SC2034 # $heddled is the reader's, $api too
# Before: $heddled and $ctl, the programs. Here: $work, a folder that ends with
# the shell, as the node does. The reader writes $work/heddle.yaml, whose node
# has the control socket $work/run/control. After start: $api, $admin, $node
# (its process), its log in $work/log.
work=$(mktemp -d)
. tests/verdict.sh
shown="log out err"
node=
finish() {
	[ -z "$node" ] || kill -9 "$node" 2>/dev/null
	rm -rf "$work"
}
trap finish EXIT
command -v curl >/dev/null || {
	echo "SKIP: needs curl"
	exit 77
}

# The shape of a golden model that knows 904 tokens; no weights. Into $work/model.
woven_model() {
	mkdir "$work/model"
	cp tests/golden-text/qwen/tokenizer.json "$work/model/"
	cp tests/golden-text/chat/chatml.jinja "$work/model/chat_template.jinja"
	sed -e 's/"vocab_size": *[0-9]*/"vocab_size": 904/' \
		-e 's/"bos_token_id": *[0-9]*/"bos_token_id": 900/' \
		-e 's/"eos_token_id": *[0-9]*/"eos_token_id": 902/' \
		-e 's/"max_position_embeddings": *[0-9]*/"max_position_embeddings": 100000/' \
		tests/golden/qwen3_moe/config.json >"$work/model/config.json"
}

notify=
start() { # OPTION...
	: >"$work/log"
	env -u NOTIFY_SOCKET ${notify:+NOTIFY_SOCKET="$notify"} \
		"$heddled" -c "$work/heddle.yaml" "$@" >"$work/log" 2>&1 &
	node=$!
	eventually logged "ready: " || return 1
	api=$(grep -oE 'api https?://[0-9.:]+' "$work/log" | cut -d' ' -f2)
	admin=$(grep -oE 'admin http://[0-9.:]+' "$work/log" | cut -d' ' -f2)
}
ctl() { "$ctl" --control "$work/run/control" "$@"; }
ask() { curl -sS -m 60 -H 'content-type: application/json' "$@"; }
# A streamed answer in the background; $stream is its process.
stream() { # FILE MODEL MAX_TOKENS
	: >"$1"
	curl -sSN -m 60 -o "$1" "$api/v1/completions" 2>"$1.err" -d \
		"{\"model\":\"$2\",\"prompt\":\"hello\",\"max_tokens\":$3,\"stream\":true,\"ignore_eos\":true}" &
	stream=$!
	eventually grep -q '"text":"' "$1"
}
# The process of a role; one between two lives is waited for, since it has the
# number 0, and kill takes that for all of this shell's group.
pid_now() { ctl info | sed -n "s/^$1\.pid: //p"; }
has_pid() { pid=$(pid_now "$1") && [ "${pid:-0}" != 0 ]; }
pid_of() { # ROLE
	local pid
	eventually has_pid "$1" && echo "$pid"
}
# SIGKILL, seen by control: what is ready after it is another life.
pid_is_not() { [ "$(pid_now "$1")" != "$2" ]; }
kill_role() { # ROLE
	local pid
	pid=$(pid_of "$1") && kill -9 "$pid" && eventually pid_is_not "$1" "$pid"
}
ready() { [ "$(ctl info | grep -c '\.state: ready')" = 3 ]; }
