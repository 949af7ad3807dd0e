# null_node.sh - a node that pretends, for tests that talk to one (sourced)
# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Before: $build. After start_node: what run_node.sh says, and $model.
. tests/run_node.sh
model=$work/model

# start_node SUITE OPTION...
start_node() {
	local suite=$1
	shift
	tools/bench/frontend-model.sh "$model" 4096 || exit 1
	run_node "$suite" --model "$model" --name mock --device null "$@"
}
