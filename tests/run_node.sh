# run_node.sh - a heddled for tests that talk to one (sourced)
# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC2154,SC2034 # $build is the reader's, $admin too
# Before: $build. After run_node: $work, $api, $admin, $control, $node (its
# process), its log in $work/log. It ends with the shell.
work=$(mktemp -d)
control=$work/control
node=
finish() {
	[ -z "$node" ] || { kill "$node" && wait "$node"; } 2>/dev/null
	rm -rf "$work"
}
trap finish EXIT

# run_node SUITE OPTION...: a failed start is SUITE's one verdict.
run_node() {
	local suite=$1
	shift
	"$build/heddled" --listen 127.0.0.1:0 --admin 127.0.0.1:0 \
		--control "$control" "$@" 2>"$work/log" &
	node=$!
	for _ in $(seq 600); do
		grep -q 'ready: ' "$work/log" && break
		kill -0 "$node" 2>/dev/null || break
		sleep 0.1
	done
	api=$(sed -nE 's/.*ready: api ([^,]*),.*/\1/p' "$work/log")
	admin=$(sed -nE 's/.*, admin ([^,]*),.*/\1/p' "$work/log")
	[ -n "$api" ] && return
	cat "$work/log"
	echo "suite $suite: 0 passed, 1 failed, 0 skipped"
	exit 1
}

# End it as an operator does; its status.
stop_node() {
	local ending=$node
	node=
	kill -TERM "$ending" && wait "$ending"
}

# The process of a role, and a number of the metrics page by a line's start, of
# all ranks together.
pid_of() {
	"$build/heddlectl" --control "$control" info | sed -n "s/^$1\.pid: //p"
}
metric() {
	curl -sS -m 60 "$admin/metrics" | sed -n "s/^$1[{].*} //p" |
		awk '{ sum += $1 } END { if (NR) print sum }'
}
