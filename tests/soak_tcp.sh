#!/bin/sh
# soak_tcp.sh - many seeds of the wire, on all cores (program, count -> status)
# SPDX-License-Identifier: Apache-2.0
#
# Each core takes an equal run of seeds in pieces, and says after each how far
# it is. A seed that fails is named; HEDDLE_WIRE_SEED=N runs that one alone.
set -u
program=$1 count=$2 piece=20000
cores=$(nproc)
share=$(((count + cores - 1) / cores))
first=${HEDDLE_WIRE_FIRST:-1}
log=$(mktemp -d) || exit 1
trap 'rm -rf "$log"' EXIT

# part FIRST COUNT NAME
part() {
	at=$1 end=$(($1 + $2))
	while [ "$at" -lt "$end" ]; do
		n=$((end - at))
		[ "$n" -gt "$piece" ] && n=$piece
		if ! HEDDLE_WIRE_FIRST=$at HEDDLE_WIRE_SEEDS=$n \
			"$program" >"$log/$3" 2>&1; then
			cat "$log/$3"
			return 1
		fi
		at=$((at + n))
		echo "core $3: seeds $1 to $((at - 1)) hold"
	done
}

status=0 pids=
i=0
while [ "$i" -lt "$cores" ]; do
	part $((first + i * share)) "$share" "$i" &
	pids="$pids $!"
	i=$((i + 1))
done
for pid in $pids; do
	wait "$pid" || status=1
done
exit $status
