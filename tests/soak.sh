#!/bin/bash
# soak.sh - good load and every bad end for a while; nothing may be left
# SPDX-License-Identifier: Apache-2.0
# usage: tests/soak.sh BUILD [SECONDS [cpu]]   (ends with the line that
# run.sh reads)
# On the null device; with "cpu" the bundled model computes on two ranks, and
# the good load is 80 % of what they can do beside the others.
set -u
build=$1 seconds=${2:-30} device=${3:-null}
. tests/null_node.sh
. tests/verdict.sh
shown="log client bench"
# AddressSanitizer keeps what was freed, by default 256 MB of it.
export ASAN_OPTIONS="${ASAN_OPTIONS:+$ASAN_OPTIONS:}quarantine_size_mb=1"
growth_max_kib=8192
if [ "$device" = cpu ]; then
	suite=soak_serve
	run_node $suite --model deploy/demo/model --name mock \
		--device cpu,cpu --context 4096 --kv-tokens 16384 \
		--cpu-sequences 16 --slots 64 --pages 4096 --connections 256 \
		--stall-timeout 2s
else
	suite=soak
	start_node $suite --null-step-us 1000 --slots 256 --pages 4096 \
		--connections 256 --stall-timeout 2s
fi
front=$(pid_of dataplane) ranks="$(pid_of rank0) $(pid_of rank1)"
files() { find "/proc/$1/fd" -mindepth 1 | wc -l; }
# Without what all map: files, and pages that outlive a rank.
resident_kib() {
	for process in $front $ranks; do
		cat "/proc/$process/status"
	done | awk '/^RssAnon/ { sum += $2 } END { print sum }'
}
seed=${SEED:-$RANDOM}
echo "  $seconds s, seed $seed"
python3 -B tests/soak_client.py "$api" "$seconds" "$seed" >"$work/client" 2>&1 &
client=$!

# Rounds of good load beside it; every stream is checked to be whole. A node
# that is full says so and is asked again.
serve() {
	"$build/heddle-bench" serve --url "$api" --quiet --ignore-eos \
		--retry 100 --random-input-len 4:200 \
		--random-output-len 5:200 "$@" >"$work/bench" 2>&1 ||
		bad_rounds=$((bad_rounds + 1))
	rounds=$((rounds + 1))
}
# 80 % of the requests per second that are answered beside the clients.
find_rate() {
	serve --num-prompts 100 --max-concurrency 32 --result "$work/rate.json"
	rate=$(python3 -c 'import json, sys
print(round(0.8 * json.load(open(sys.argv[1]))["request_throughput"], 3))' \
		"$work/rate.json")
	echo "  $rate requests/s"
}
rounds=0 bad_rounds=0 warm_kib=0 begun=$SECONDS rate=60 many=120
closed="--max-concurrency 24"
files_then=$(files "$front") control_then=$(files "$node")
[ "$device" = cpu ] && find_rate && many=60 closed="--request-rate $rate"
while kill -0 "$client" 2>/dev/null; do
	serve --num-prompts $many --request-rate "$rate"
	# shellcheck disable=SC2086 # two words
	serve --num-prompts $many --endpoint chat $closed
	serve --num-prompts 60 --no-stream --arrival gamma --cv 2 \
		--request-rate "$rate"
	# Pools and arenas are as large as they get after a third of the time.
	[ "$warm_kib" = 0 ] && [ $((3 * (SECONDS - begun))) -ge "$seconds" ] &&
		warm_kib=$(resident_kib)
done
wait "$client"
verdict "soak every answer was whole" $?
tail -n 1 "$work/client"
[ "$bad_rounds" = 0 ] && [ "$rounds" -gt 0 ]
verdict "soak $rounds rounds of good load" $?

# What is on its way ends; then exact counts. Whoever asks is a connection.
nothing_left() {
	[ "$(metric heddle_request_slots_used)" = 0 ] &&
		[ "$(metric heddle_payload_pages_used)" = 0 ] &&
		[ "$(metric heddle_connections_open)" = 1 ] &&
		[ "$(metric vllm:num_requests_running)" = 0 ] &&
		[ "$(metric vllm:num_requests_waiting)" = 0 ] &&
		[ "$(files "$front")" = "$files_then" ]
}
for _ in $(seq 300); do
	nothing_left && break
	sleep 0.1
done
for name in heddle_request_slots_used heddle_payload_pages_used \
	vllm:num_requests_running vllm:num_requests_waiting \
	heddle_bad_messages_total; do
	[ "$(metric "$name")" = 0 ]
	verdict "soak $name is 0" $?
done
[ "$(metric heddle_connections_open)" = 1 ]
verdict "soak no connection is left" $?
[ "$(files "$front")" = "$files_then" ] && [ "$(files "$node")" = "$control_then" ]
verdict "soak no descriptor is left ($files_then, $control_then)" $?
[ -n "$front" ] && [ "$(pid_of dataplane)" = "$front" ] &&
	[ "$(pid_of rank0) $(pid_of rank1)" = "$ranks" ]
verdict "soak nobody died" $?
end_kib=$(resident_kib)
[ "$warm_kib" -gt 0 ] && [ "$end_kib" -le $((warm_kib + growth_max_kib)) ]
verdict "soak memory has not grown ($warm_kib, then $end_kib KiB)" $?
stop_node
verdict "soak it ends as told" $?
suite $suite
