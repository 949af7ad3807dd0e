#!/bin/bash
# openai.sh - the official openai package against heddled (-> verdict)
# SPDX-License-Identifier: Apache-2.0
# usage: tests/openai.sh BUILD   (ends with the line that tests/run.sh reads)
# Where the package cannot be had, the last line says so and the status is 77.
set -u
build=$1
. tests/null_node.sh
. tests/openai_venv.sh
if ! get_openai >"$work/pip" 2>&1; then
	tail -n 3 "$work/pip"
	echo "openai $openai_version cannot be installed here (python3-venv, PyPI)"
	exit 77
fi
"$build/heddled" --hash-key tester <<<"sk-test" >"$work/keys" || exit 1
start_node openai --null-step-us 3000 --slots 8 --api-keys "$work/keys"
"$openai_python" -B tests/openai_client.py "$api" "$admin" sk-test mock
