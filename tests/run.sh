#!/bin/bash
# run.sh - run test programs, add up their verdicts (programs -> one line)
# SPDX-License-Identifier: Apache-2.0
# usage: tests/run.sh [-t TALLY] PROGRAM...
# As many at a time as there are cores (TEST_JOBS=N); verdicts in their order.
# Each program prints "suite NAME: P passed, F failed, S skipped"; one that
# ends otherwise (crash, sanitizer, time limit) counts as one failure. With
# -t the numbers are also added to the file TALLY as "P F S".
# Suites drive threads, sockets and whole nodes by the clock, beside whatever
# else runs; where one says that a test failed it is run once more, alone, and
# that verdict counts. Both are shown: one that needed it is a race to be looked
# at, in it or in what it tests. A crash, and what a sanitizer found, stands.
set -u
# What failed, and then the end: a suite may go on for long after it.
explain() { # LOG
	grep -a ' \.\.\.FAILED$' "$1"
	grep -av ' \.\.\.passed$' "$1" | tail -n 60
}
slow() { [ "$1" -lt 10 ] || echo " ($1 s)"; }
tally=
[ "${1:-}" = -t ] && tally=$2 && shift 2
passed=0 failed=0 skipped=0
rm -f "${@/%/.status}"
run_all() { # JOBS PROGRAM...
	local jobs=$1
	shift
	printf '%s\n' "$@" | xargs -P "$jobs" -I '{}' sh -c '
		begun=$(date +%s)
		timeout 900 "$1" >"$1.log" 2>&1
		echo $? $(($(date +%s) - begun)) >"$1.status"' run '{}'
}
run_all "${TEST_JOBS:-$(nproc)}" "$@"
again=()
for program; do
	read -r status seconds <"$program.status" || status=unknown
	[ "$status" = 0 ] || [ "$status" = 77 ] && continue
	[ "$status" -lt 124 ] 2>/dev/null || continue
	grep -aq 'Sanitizer: \|: runtime error: ' "$program.log" && continue
	echo "AGAIN $program: failed beside others (status $status):"
	explain "$program.log"
	again+=("$program")
done
[ "${#again[@]}" = 0 ] || run_all 1 "${again[@]}"
for program; do
	log=$program.log
	status=unknown seconds=0
	[ -e "$program.status" ] && read -r status seconds <"$program.status"
	line=$(grep -aE '^suite [^:]*: [0-9]+ passed, [0-9]+ failed, [0-9]+ skipped$' "$log" | tail -n 1)
	if [ "$status" = 77 ]; then
		skipped=$((skipped + 1))
		echo "SKIP $program: $(tail -n 1 "$log")"
		continue
	fi
	if [ -z "$line" ]; then
		failed=$((failed + 1))
		echo "FAIL $program: ended with status $status"
		tail -n 40 "$log"
		continue
	fi
	read -r p f s < <(sed -E 's/^suite [^:]*: ([0-9]+) passed, ([0-9]+) failed, ([0-9]+) skipped$/\1 \2 \3/' <<<"$line")
	# A sanitizer may end a program after its verdict.
	[ "$status" != 0 ] && [ "$f" = 0 ] && f=1
	passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
	grep -a '^ *Test: .*SKIP: \|^ *SKIP: ' "$log" | sed 's/.*SKIP: /  SKIP /'
	if [ "$f" != 0 ]; then
		echo "FAIL $line (status $status)"
		explain "$log"
	else
		echo "ok   ${line#suite }$(slow "$seconds")"
	fi
done
[ -n "$tally" ] && echo "$passed $failed $skipped" >>"$tally"
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ]
