# verdict.sh - verdicts of a test in shell, and their last line (sourced)
# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC2154 # $work is the reader's
# Before: $work, a folder; its files "out" and "err" are shown where a case
# failed, or those that $shown names.
passed=0 failed=0 shown="out err"
verdict() { # NAME STATUS
	if [ "$2" = 0 ]; then
		passed=$((passed + 1))
		echo "  Test: $1 ...passed"
		return
	fi
	failed=$((failed + 1))
	echo "  Test: $1 ...FAILED"
	for file in $shown; do
		tail -n 100 "$work/$file" 2>/dev/null
	done
}

# Until COMMAND succeeds; a minute is for a slow machine, not for the product.
eventually() {
	local end=$((SECONDS + 60))
	until "$@"; do
		[ "$SECONDS" -lt "$end" ] || return 1
		sleep 0.02
	done
}
logged() { grep -qF -- "$1" "$work/${2:-log}"; } # TEXT [LOG]

# The line that tests/run.sh reads, and the exit status.
suite() { # NAME
	echo "suite $1: $passed passed, $failed failed, 0 skipped"
	[ "$failed" = 0 ]
}
