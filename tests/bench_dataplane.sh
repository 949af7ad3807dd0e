#!/bin/bash
# bench_dataplane.sh - heddle-bench dataplane in short (-> verdict)
# SPDX-License-Identifier: Apache-2.0
# usage: tests/bench_dataplane.sh BUILD   (ends with the line that tests/run.sh
# reads)
# Whether limits of time are kept is not judged here: machines that test are
# busy. Bytes and balances are.
set -u
build=$1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
. tests/verdict.sh
# AddressSanitizer keeps what was freed, by default 256 MB of it.
export ASAN_OPTIONS="${ASAN_OPTIONS:+$ASAN_OPTIONS:}quarantine_size_mb=1"
tools/bench/frontend-model.sh "$work/model"
bench() {
	"$build/heddle-bench" dataplane --model "$work/model" --quiet \
		--seconds 0.2 --rounds 1 --json "$work/json" "$@" >"$work/out" 2>"$work/err"
	status=$?
	grep -q "this build has no DPDK" "$work/err" && {
		echo "SKIP: this build has no DPDK"
		exit 77
	}
	[ "$status" -le 1 ]
}
# figures EXPRESSION: of the values, by their names
figures() {
	python3 - "$work/json" "$1" <<'END' >>"$work/out" 2>>"$work/err"
import json, sys
v = {row["name"].removeprefix("dataplane."): row["value"] for row in json.load(open(sys.argv[1]))}
assert eval(sys.argv[2]), v
END
}
bench --parts cost --streams 16,1024 && cat "$work/out" &&
	figures 'v["ring.net.s16"] > 0 and v["ring.all.s1024"] > 0 and v["ring.burst_p99.s1024"] > 0 and v["tls.net.s16"] > 0'
verdict cost__is_measured $?
# Shared memory without huge pages; a DPDK without that driver says so.
if bench --parts cost --streams 16 --memif && cat "$work/out"; then
	figures 'v["memif.net.s16"] > 0 and v["memif.frames.s16"] >= 0.5'
else
	cat "$work/err"
	grep -q "no net_memif" "$work/err"
fi
verdict memif__is_a_wire $?
# Both back ends over a veth pair, in a network of its own.
{ tools/bench/dataplane.sh "$build" "$work/json" --parts cost --streams 16 \
	--seconds 0.2 --rounds 1 --quiet >"$work/out" 2>"$work/err" || [ $? = 1 ]; } &&
	cat "$work/out" &&
	figures 'v["veth.net.s16"] > 0 and v["kernel.net.s16"] > 0 and v["kernel.receive.s16"] > 0 and v["kernel.text.s16"] > 0'
verdict veth__the_kernel_is_measured_beside $?
bench --parts exact --exact 300 && figures 'v["exact"] == 300'
verdict exact__each_stream_is_as_it_is_alone $?
bench --parts idle --idle 3000 && cat "$work/out" && figures 'v["idle_held"] == 3064'
verdict idle__connections_are_held $?
bench --parts attack --many 500 && cat "$work/out" &&
	figures 'v["ttft.quiet"] > 0 and v["ttft.slowloris"] > 0'
verdict attack__others_are_answered $?
# Its books are exact, and memory is bounded: both have to hold.
bench --parts soak --soak 128 --soak-seconds 4 && [ "$status" = 0 ] &&
	cat "$work/out" &&
	figures 'v["soak.answers_whole"] > 0 and v["soak.answers_other"] == 0 and v["soak.in.wire_lost"] > 0 and v["soak.in.lost_checksum"] > 0 and v["soak.out.segments_again"] > 0 and v["soak.left.buffers_port"] == 0'
verdict soak__the_books_balance $?
suite bench_dataplane
