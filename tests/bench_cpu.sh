#!/bin/bash
# bench_cpu.sh - the benchmark in short: what it writes is whole and plausible
# SPDX-License-Identifier: Apache-2.0
# usage: tests/bench_cpu.sh BUILD   (ends with the line that tests/run.sh reads)
set -u
bench=$1/bench/cpu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
. tests/verdict.sh
"$bench" model "$work/model" --tiny >"$work/out" 2>"$work/err"
verdict model__is_written $?
stamp=$(stat -c %Y.%i "$work/model/model.safetensors")
"$bench" model "$work/model" --tiny >"$work/out" 2>"$work/err" &&
	[ "$stamp" = "$(stat -c %Y.%i "$work/model/model.safetensors")" ]
verdict model__is_not_written_twice $?
"$bench" run "$work/model" --tiny --json "$work/cpu.json" \
	--svg "$work/cpu.svg" >"$work/out" 2>"$work/err"
verdict run__ends_well $?
python3 - "$work/cpu.json" <<'EOF' >>"$work/out" 2>>"$work/err"
import json, sys
rows = json.load(open(sys.argv[1]))
keys = ["name", "value", "unit", "limit", "peer", "peer_value"]
assert all(list(row) == keys for row in rows)
names = [row["name"] for row in rows]
assert len(set(names)) == len(names)
for name in ("decode.b1", "decode.b8", "prefill.512", "load"):
    row = rows[names.index("cpu." + name)]
    assert row["value"] > 0 and row["limit"] > 0
    assert row["peer"] is None and row["peer_value"] is None
EOF
verdict json__has_its_shape $?
python3 -c 'import sys, xml.dom.minidom as x; x.parse(sys.argv[1])' \
	"$work/cpu.svg" >>"$work/out" 2>>"$work/err"
verdict svg__is_well_formed $?
grep -q 'NO PEER' "$work/out"
verdict run__says_that_there_is_no_peer $?
! "$bench" run "$work/model" --tiny --rounds 0 >"$work/out" 2>"$work/err" &&
	grep -q 'rounds 0: no count' "$work/err"
verdict option__no_rounds $?
! "$bench" run "$work/none" --tiny >"$work/out" 2>"$work/err" &&
	grep -q 'none' "$work/err"
verdict run__no_model $?
! "$bench" run "$work/model" --tiny --gguf "$work/none" --python false \
	--driver none >"$work/out" 2>"$work/err" &&
	grep -q 'peer (false) ended' "$work/err"
verdict run__a_peer_that_dies $?

suite bench_cpu
