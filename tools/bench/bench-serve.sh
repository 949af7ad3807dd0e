#!/bin/bash
# bench-serve.sh - the batching engine measured beside others (make bench-serve)
# SPDX-License-Identifier: Apache-2.0
# usage: bench-serve.sh BUILD_DIR [options of heddle-bench batch]
# On the random model of bench-cpu, or on MODEL=DIR. NO_PEER=1 takes no
# llama.cpp; a model that is not converted for it has none either.
set -euo pipefail
build=${1:?build directory}
shift
venv=$build/peer
model=${MODEL:-}
gguf=$build/bench/model.gguf
peer=()
if [ -z "$model" ]; then
	random=$build/bench/model
	model=$build/bench/serve-model
	"$build/bench/cpu" model "$random"
	tools/bench/serve-model.sh "$random" "$model"
else
	gguf=$build/bench/$(basename "$(dirname "$model")")-$(basename "$model").gguf
fi
if [ -n "${NO_PEER:-}" ]; then
	:
elif ! tools/bench/setup-peer.sh "$venv"; then
	echo "bench-serve: the peer could not be installed" >&2
elif { [ -e "$gguf" ] && [ ! "$model/config.json" -nt "$gguf" ]; } ||
	"$venv/bin/python" tools/bench/to_gguf.py "$model" "$gguf"; then
	peer=(--gguf "$gguf" --python "$venv/bin/python"
		--driver tools/bench/peer.py)
fi
exec "$build/heddle-bench" batch --heddled "$build/heddled" \
	--eval "$build/heddle-eval" --model "$model" "${peer[@]}" \
	--json "$build/bench/serve.json" "$@"
