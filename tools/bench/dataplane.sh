#!/bin/bash
# dataplane.sh - what a token event costs over each back end (heddled -> JSON)
# SPDX-License-Identifier: Apache-2.0
# usage: tools/bench/dataplane.sh BUILD JSON [STREAMS...]
# One veth pair between two network namespaces: heddled is at one end, at the
# other the client in a process of its own. For each number of streams both
# back ends take turns, three times; the median counts. The engine pretends, in
# steps: each step is a burst of one event per stream. CPU is the scheduler's,
# of all threads of the dataplane, over the run; it holds what the kernel does
# in their name, for af_packet too, up to the client's socket, and what polling
# takes while nothing comes: more events a second (EVENTS) share that out.
# Rows as bench/report.h has them.
set -eu
build=$1 json=$2
shift 2
if [ -z "${HEDDLE_BENCH_INSIDE:-}" ]; then
	HEDDLE_BENCH_INSIDE=1 exec unshare -Urn "$0" "$build" "$json" "${@:-64}"
fi
work=$(mktemp -d)
node='' far=''
finish() {
	for process in $node $far; do
		{ kill -9 "$process" && wait "$process"; } 2>/dev/null || :
	done
	rm -rf "$work"
}
trap finish EXIT
rounds=${ROUNDS:-3} tokens=${TOKENS:-400} rate=${EVENTS:-25000}
tools/bench/frontend-model.sh "$work/model"
unshare -n sleep 1000000 &
far=$!
there() { nsenter -t "$far" -n "$@"; }
until [ "$(readlink "/proc/$far/ns/net")" != "$(readlink /proc/self/ns/net)" ]; do :; done
ip link set lo up
ip link add nic0 type veth peer name wire0
echo 1 >/proc/sys/net/ipv6/conf/nic0/disable_ipv6
ip link set wire0 netns "$far"
there ip addr add 10.9.0.1/24 dev wire0
there ip link set wire0 up
there ethtool -K wire0 tx off >/dev/null 2>&1
ip link set nic0 up

# start kernel|dpdk STEP_US
start() {
	local options=(--nic kernel --listen 10.9.0.2:8000)
	ip addr flush dev nic0
	if [ "$1" = dpdk ]; then
		# shellcheck disable=SC2054 # the comma is the device's
		options=(--nic dpdk --listen '*:8000'
			--nic-device net_af_packet0,iface=nic0
			--nic-address 10.9.0.2/24)
	else
		ip addr add 10.9.0.2/24 dev nic0
	fi
	"$build/heddled" --model "$work/model" --name bench --device null \
		--null-step-us "$2" --null-rows 4096 --admin 127.0.0.1:8001 \
		--control "$work/control" "${options[@]}" 2>"$work/log" &
	node=$!
	for _ in $(seq 300); do
		grep -q 'ready: ' "$work/log" && break
		sleep 0.1
	done
	front=$("$build/heddlectl" --control "$work/control" info |
		sed -n 's/^dataplane\.pid: //p')
}
# Nanoseconds that the dataplane has run: all threads, and the first.
clocks() {
	awk '{ all += $1 } FILENAME ~ first { net = $1 } END { printf "%d %d\n", all, net }' \
		first="/task/$front/" "/proc/$front/task/"*/schedstat
}
# Of a row of numbers the one in the middle.
median() { printf '%s\n' "$@" | sort -n | sed -n "$((($# + 1) / 2))p"; }

rows=
row() { # NAME VALUE PEER_VALUE LIMIT
	rows="$rows${rows:+,
}  {\"name\": \"$1\", \"value\": $2, \"unit\": \"ns/event\", \"limit\": $4, \"peer\": \"kernel\", \"peer_value\": $3}"
	printf '%-44s %8d ns/event, kernel %8d: %s of it\n' "$1" "$2" "$3" \
		"$(awk "BEGIN { printf \"%.2f\", $2 / $3 }")"
}
for streams; do
	step_us=$((streams * 1000000 / rate))
	declare -A all=([kernel]='' [dpdk]='') net=([kernel]='' [dpdk]='')
	for _ in $(seq "$rounds"); do
		for side in kernel dpdk; do
			start "$side" "$step_us"
			read -r all0 net0 < <(clocks)
			there "$build/heddle-bench" serve --url http://10.9.0.2:8000 \
				--model bench --num-prompts "$streams" --quiet \
				--random-input-len 8 --random-output-len "$tokens" \
				--vocab 900 --ignore-eos \
				--result "$work/result" >"$work/out" || {
				cat "$work/out" "$work/log"
				exit 1
			}
			read -r all1 net1 < <(clocks)
			events=$((streams * tokens))
			all[$side]+=" $(((all1 - all0) / events))"
			net[$side]+=" $(((net1 - net0) / events))"
			kill -TERM "$node"
			wait "$node"
			node=
		done
	done
	# shellcheck disable=SC2086 # lists of numbers
	row "dataplane.veth.s$streams.all_threads" "$(median ${all[dpdk]})" \
		"$(median ${all[kernel]})" null
	# shellcheck disable=SC2086
	row "dataplane.veth.s$streams.network_thread" "$(median ${net[dpdk]})" \
		"$(median ${net[kernel]})" null
done
mkdir -p "$(dirname "$json")"
printf '[\n%s\n]\n' "$rows" >"$json"
awk '/^cpu /{ printf "steal since boot: %.1f s\n", $9 / 100 }' /proc/stat
