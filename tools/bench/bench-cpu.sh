#!/bin/bash
# bench-cpu.sh - the CPU back end measured beside llama.cpp (make bench-cpu)
# SPDX-License-Identifier: Apache-2.0
# usage: bench-cpu.sh BUILD_DIR [options of build/bench/cpu run]
# PEER=PATH takes that llama-bench instead of llama-cpp-python; NO_PEER=1 takes
# none. Without a peer the figures stand alone, and it is said.
set -euo pipefail
build=${1:?build directory}
shift
venv=$build/peer
model=$build/bench/model
gguf=$build/bench/model.gguf
peer=()

# The weights for the peer, again whenever ours are newer.
convert() {
	if [ ! -e "$gguf" ] || [ "$model/config.json" -nt "$gguf" ]; then
		"$venv/bin/python" tools/bench/to_gguf.py "$model" "$gguf"
	fi
}

"$build/bench/cpu" model "$model"
if [ -n "${NO_PEER:-}" ]; then
	:
elif [ -n "${PEER:-}" ]; then
	if [ ! -x "$venv/bin/python" ]; then
		python3 -m venv "$venv"
		"$venv/bin/pip" install --quiet gguf==0.19.0
	fi
	convert
	peer=(--gguf "$gguf" --llama-bench "$PEER")
elif tools/bench/setup-peer.sh "$venv"; then
	convert
	peer=(--gguf "$gguf" --python "$venv/bin/python"
		--driver tools/bench/peer.py)
else
	echo "bench-cpu: the peer could not be installed" >&2
fi
exec "$build/bench/cpu" run "$model" "${peer[@]}" \
	--json "$build/bench/cpu.json" --svg "$build/bench/cpu.svg" "$@"
