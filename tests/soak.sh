#!/bin/bash
# soak.sh - good load and every bad end for a while; nothing may be left
# SPDX-License-Identifier: Apache-2.0
# usage: tests/soak.sh BUILD [SECONDS]   (ends with the line that run.sh reads)
set -u
build=$1 seconds=${2:-30}
. tests/null_node.sh
# AddressSanitizer keeps what was freed, by default 256 MB of it.
export ASAN_OPTIONS="${ASAN_OPTIONS:+$ASAN_OPTIONS:}quarantine_size_mb=1"
growth_max_kib=8192
passed=0 failed=0
verdict() { # NAME STATUS
	if [ "$2" = 0 ]; then
		passed=$((passed + 1))
		echo "  Test: soak $1 ...passed"
	else
		failed=$((failed + 1))
		echo "  Test: soak $1 ...FAILED"
		tail -n 5 "$work/log" "$work/client" "$work/bench" 2>/dev/null
	fi
}
start_node soak --null-step-us 1000 --slots 256 --pages 4096 \
	--connections 256 --stall-timeout 2s
front=$(pid_of dataplane) rank=$(pid_of rank0)
files() { find "/proc/$1/fd" -mindepth 1 | wc -l; }
resident_kib() { awk '/^VmRSS/ { print $2 }' "/proc/$front/status"; }
seed=${SEED:-$RANDOM}
echo "  $seconds s, seed $seed"
python3 -B tests/soak_client.py "$api" "$seconds" "$seed" >"$work/client" 2>&1 &
client=$!

# Rounds of good load beside it; every stream is checked to be whole.
serve() {
	"$build/heddle-bench" serve --url "$api" --quiet --ignore-eos \
		--random-input-len 4:200 --random-output-len 5:200 "$@" \
		>"$work/bench" 2>&1 || bad_rounds=$((bad_rounds + 1))
	rounds=$((rounds + 1))
}
rounds=0 bad_rounds=0 warm_kib=0 begun=$SECONDS
files_then=$(files "$front") control_then=$(files "$node")
while kill -0 "$client" 2>/dev/null; do
	serve --num-prompts 120 --request-rate 60
	serve --num-prompts 120 --endpoint chat --max-concurrency 24
	serve --num-prompts 60 --no-stream --arrival gamma --cv 2 --request-rate 60
	# Pools and arenas are as large as they get after a third of the time.
	[ "$warm_kib" = 0 ] && [ $((3 * (SECONDS - begun))) -ge "$seconds" ] &&
		warm_kib=$(resident_kib)
done
wait "$client"
verdict "every answer was whole" $?
tail -n 1 "$work/client"
[ "$bad_rounds" = 0 ] && [ "$rounds" -gt 0 ]
verdict "$rounds rounds of good load" $?

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
	verdict "$name is 0" $?
done
[ "$(metric heddle_connections_open)" = 1 ]
verdict "no connection is left" $?
[ "$(files "$front")" = "$files_then" ] && [ "$(files "$node")" = "$control_then" ]
verdict "no descriptor is left ($files_then, $control_then)" $?
[ -n "$front" ] && [ "$(pid_of dataplane)" = "$front" ] &&
	[ "$(pid_of rank0)" = "$rank" ]
verdict "nobody died" $?
end_kib=$(resident_kib)
[ "$warm_kib" -gt 0 ] && [ "$end_kib" -le $((warm_kib + growth_max_kib)) ]
verdict "memory has not grown ($warm_kib, then $end_kib KiB)" $?
kill -TERM "$node"
wait "$node"
verdict "it ends as told" $?
node=
echo "suite soak: $passed passed, $failed failed, 0 skipped"
[ "$failed" = 0 ]
