#!/bin/bash
# abuse.sh - requests that mean harm, one by one, against heddled (-> verdict)
# SPDX-License-Identifier: Apache-2.0
# usage: tests/abuse.sh BUILD   (ends with the line that tests/run.sh reads)
set -u
build=$1
. tests/null_node.sh
"$build/heddled" --hash-key tester <<<"sk-good" >"$work/keys" || exit 1
start_node abuse --request-body-bytes 256KiB --api-keys "$work/keys"
python3 -B tests/abuse_client.py "$api" "$admin" sk-good
