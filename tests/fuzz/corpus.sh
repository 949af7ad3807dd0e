#!/bin/sh
# corpus.sh - every fuzz target over its corpus, as a plain test
# SPDX-License-Identifier: Apache-2.0
# usage: tests/fuzz/corpus.sh BUILD NAME...   (programs BUILD/tests/replay_NAME)
build=$1
shift
passed=0 failed=0
for name; do
	if "$build/tests/replay_$name" "tests/fuzz/corpus/$name"; then
		passed=$((passed + 1))
	else
		echo "FAILED: tests/fuzz/corpus/$name"
		failed=$((failed + 1))
	fi
done
echo "suite fuzz_corpus: $passed passed, $failed failed, 0 skipped"
[ "$failed" = 0 ]
