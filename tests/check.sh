#!/bin/bash
# check.sh - every test and linter, one closing line (tree -> verdict)
# SPDX-License-Identifier: Apache-2.0
# Called by `make check`, after tools/setup.sh. Builds: gcc (release), clang
# with AddressSanitizer and UBSan, gcc with ThreadSanitizer for what has
# threads, nvcc where there is one.
set -u
cd "$(dirname "$0")/.."
mkdir -p build
tally=build/tally
: >"$tally"
make=${MAKE:-make}
jobs=-j$(nproc)
step() { printf '\n== %s (%s s)\n' "$1" "$SECONDS"; }
# One thing that passes or fails as a whole.
single() {
	local name=$1
	shift
	if "$@"; then
		echo "ok   $name"
		echo "1 0 0" >>"$tally"
	else
		echo "FAIL $name"
		echo "0 1 0" >>"$tally"
	fi
}
suite() {
	"$make" --no-print-directory "$@" TALLY="$tally" ||
		echo "(a build or test above failed)"
}

step "lint"
tools/lint.sh 2>&1 | tee build/lint.log
echo "$(grep -c '^ok   lint' build/lint.log) $(grep -c '^FAIL lint' build/lint.log) 0" >>"$tally"

step "gcc: build"
single "gcc builds everything" "$make" --no-print-directory $jobs all tests
step "gcc: tests"
suite test

step "clang with AddressSanitizer and UBSan: build"
sanitized="B=build-asan CC=clang SAN=address,undefined"
# shellcheck disable=SC2086 # a list of assignments
single "clang builds everything" "$make" --no-print-directory $jobs $sanitized all tests
step "clang with AddressSanitizer and UBSan: tests"
# shellcheck disable=SC2086
HEDDLE_TEST_OPS=20000 suite $sanitized test

step "gcc with ThreadSanitizer"
threaded="B=build-tsan SAN=thread OPT=-O1"
# shellcheck disable=SC2086
single "gcc builds the threaded tests" "$make" --no-print-directory $jobs $threaded tests-threads
# shellcheck disable=SC2086
suite $threaded test-threads

step "CUDA"
if command -v nvcc >/dev/null || [ -x /usr/local/cuda/bin/nvcc ]; then
	single "nvcc compiles and links" "$make" --no-print-directory cuda
else
	echo "SKIP nvcc compiles and links: no nvcc on this machine"
	echo "0 0 1" >>"$tally"
fi

step "done"
awk '{ p += $1; f += $2; s += $3 }
	END { printf "%d passed, %d failed, %d skipped\n", p, f, s; exit f > 0 }' "$tally"
