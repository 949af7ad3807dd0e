#!/bin/bash
# openai.sh - the official openai package against heddled (-> verdict)
# SPDX-License-Identifier: Apache-2.0
# usage: tests/openai.sh BUILD   (ends with the line that tests/run.sh reads)
# The package comes from PyPI into build/openai-venv the first time; where it
# cannot be had, the last line says so and the status is 77.
set -u
build=$1
venv=build/openai-venv
version=3.54.0
. tests/null_node.sh
if ! "$venv/bin/python" -c "import openai
assert openai.__version__ == '$version'" 2>/dev/null; then
	if ! { python3 -m venv "$venv" &&
		"$venv/bin/pip" install -q --disable-pip-version-check \
			--retries 1 "openai==$version"; } >"$work/pip" 2>&1; then
		tail -n 3 "$work/pip"
		echo "openai $version cannot be installed here (python3-venv, PyPI)"
		exit 77
	fi
fi
"$build/heddled" --hash-key tester <<<"sk-test" >"$work/keys" || exit 1
start_node openai --null-step-us 3000 --slots 8 --api-keys "$work/keys"
"$venv/bin/python" -B tests/openai_client.py "$api" "$admin" sk-test mock
