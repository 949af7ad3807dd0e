#!/bin/bash
# bench_adapters.sh - the benchmark of adapters in short: it works (-> verdict)
# SPDX-License-Identifier: Apache-2.0
# usage: tests/bench_adapters.sh BUILD  (ends with the line that tests/run.sh reads)
# A model of some MB and a handful of pairs: whether aims are reached is not
# judged here.
set -u
build=$1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
. tests/verdict.sh
adapters() {
	"$build/heddle-bench" adapters --dir "$work/model" --small --threads 2 \
		"$@" >"$work/out" 2>"$work/err"
}
adapters --pairs 20 --json "$work/adapters.json"
verdict adapters__measures_every_part $?
python3 - "$work/adapters.json" <<'END' >>"$work/out" 2>>"$work/err"
import json, os, sys
rows = {row["name"]: row for row in json.load(open(sys.argv[1]))}
limits = {"idle": 1.005, "reroute": 0.5, "governor": 1.2}
measured = ["mixed.4", "mixed.8", "mixed.20", "load", "load.fresh", "load.one",
            "load.one.fresh", "governor.rate"]
plain = ["idle.median", "step", "reroute.median", "reroute.routers",
         "governor.median", "load.stage", "load.map", "load.copy",
         "load.publish", "unload"]
if len(os.sched_getaffinity(0)) > 1:
    limits["governor.spare"] = 1.2
    measured += ["governor.spare.rate"]
    plain += ["governor.spare.median"]
plain += [f"mixed.{n}.{what}" for n in (4, 8, 20) for what in ("median", "bytes")]
assert set(rows) == {"adapters." + n for n in [*limits, *measured, *plain]}, \
    sorted(rows)
for name, limit in limits.items():
    assert rows["adapters." + name]["limit"] == limit, name
for name in measured:
    assert rows["adapters." + name]["limit"] > 0, name
for name, row in rows.items():
    if "reroute" not in name:
        assert row["value"] > 0, row
for n in (4, 8, 20):
    row, read = rows[f"adapters.mixed.{n}"], rows[f"adapters.mixed.{n}.bytes"]
    assert 1 < read["value"] < 4
    assert abs(row["limit"] / (1.05 * read["value"]) - 1) < 1e-4
END
verdict adapters__writes_its_figures $?
adapters --pairs 3 --parts reroute,load --json "$work/adapters.json" &&
	grep -q adapters.reroute "$work/adapters.json" &&
	! grep -q adapters.idle "$work/adapters.json"
verdict adapters__some_parts $?
adapters --parts load,none
[ $? = 2 ] && grep -q '^usage: heddle-bench adapters' "$work/err"
verdict adapters__bad_part $?
adapters --pairs 0
[ $? = 2 ] && grep -q '^usage' "$work/err"
verdict adapters__bad_count $?
"$build/heddle-bench" adapters --dir "$work/none/model" --small >"$work/out" 2>"$work/err"
[ $? = 1 ] && grep -q 'none/model: ' "$work/err"
verdict adapters__no_directory $?
suite bench_adapters
