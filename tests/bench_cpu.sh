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

# A llama-bench that says what it was asked: rates are 1000 + tokens one by one
# and 2000 + tokens at once.
cat >"$work/llama-bench" <<'EOF'
#!/bin/bash
echo "$*" >>"${0%/*}/asked"
while [ $# -gt 1 ]; do
	case $1 in
	-m) model=$2 ;;
	-p) prompt=$2 ;;
	-n) count=$2 ;;
	-t) threads=$2 ;;
	-r) runs=$2 ;;
	-o) form=$2 ;;
	*) exit 2 ;;
	esac
	shift 2
done
[ -r "$model" ] && [ "$runs" = 1 ] && [ "$form" = json ] || exit 2
[ "$threads" = "$(nproc)" ] || exit 2 # as many as it may use
rate=$((prompt > 0 ? 2000 + prompt : 1000 + count)).5
cat <<END
[
  {
    "build_commit": "0123abcd", "build_number": 6000, "backends": "CPU",
    "model_filename": "$model", "n_threads": $threads,
    "n_prompt": $prompt, "n_gen": $count, "n_depth": 0,
    "avg_ns": 1000000, "stddev_ns": 0, "avg_ts": $rate, "stddev_ts": 0.0,
    "samples_ns": [ 1000000 ], "samples_ts": [ $rate ]
  }
]
END
EOF
chmod +x "$work/llama-bench"
: >"$work/model.gguf"
with_peer() { # REPORT
	"$bench" run "$work/model" --tiny --json "$1" --gguf \
		"$work/model.gguf" --llama-bench "$work/llama-bench" \
		>"$work/out" 2>"$work/err"
}
with_peer "$work/peer.json"
verdict llama_bench__is_run $?
python3 - "$work/peer.json" <<'EOF' >>"$work/out" 2>>"$work/err"
import json, sys
rows = {row["name"]: row for row in json.load(open(sys.argv[1]))}
def peer(name):
    return rows["cpu." + name]["peer"], rows["cpu." + name]["peer_value"]
assert peer("decode.b1") == ("llama-bench", 1004.5)
assert peer("prefill.512") == ("llama-bench", 2512.5)
# It has no test of several sequences.
assert peer("decode.b8") == (None, None)
EOF
verdict llama_bench__its_rates_are_reported $?
# A round to warm up and one that counts, two questions in each.
[ "$(wc -l <"$work/asked")" = 4 ]
verdict llama_bench__one_process_for_each_figure $?
printf '#!/bin/sh\necho no model\n' >"$work/llama-bench"
! with_peer "$work/none.json" && grep -q 'llama-bench: no JSON' "$work/err"
verdict llama_bench__no_json $?
printf '#!/bin/sh\necho "[{}]"\n' >"$work/llama-bench"
! with_peer "$work/none.json" && grep -q 'llama-bench: no avg_ts' "$work/err"
verdict llama_bench__no_rate $?

suite bench_cpu
