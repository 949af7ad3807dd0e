#!/bin/bash
# lint.sh - formatting, layers and analysers over the tree (sources -> verdict)
# SPDX-License-Identifier: Apache-2.0
# Prints one line per check, "ok NAME" or "FAIL NAME" with the findings above
# it; exit status 1 when one failed.
set -u
cd "$(dirname "$0")/.."
mapfile -t sources < <(git ls-files -co --exclude-standard '*.c')
mapfile -t headers < <(git ls-files -co --exclude-standard '*.h' '*.cuh')
mapfile -t kernels < <(git ls-files -co --exclude-standard '*.cu')
nvcc=$(command -v nvcc || ls /usr/local/cuda/bin/nvcc 2>/dev/null)
cuda=${nvcc:+${nvcc%/bin/nvcc}/include}
failed=0
check() {
	local name=$1
	shift
	if "$@"; then echo "ok   lint: $name"; else
		echo "FAIL lint: $name"
		failed=1
	fi
}
format() {
	clang-format --dry-run -Werror "${sources[@]}" "${headers[@]}" "${kernels[@]}"
}
# Files that need CUDA's headers are left out where there are none.
needs_cuda='<(cuda|cublasLt)\.h>|"(bench/gpu/)?(cuda_driver|probe|probe_section|probe_range|probe_dev)\.h"|fake_cuda\.h"'
# So are those that need DPDK's; its flags are for these alone.
dpdk=$(pkg-config --cflags libdpdk 2>/dev/null | sed 's/-I/-isystem /g')
analysable() {
	for file in "${sources[@]}"; do
		[ -z "$dpdk" ] && [[ $file == *_dpdk.c ]] && continue
		if [ -n "$cuda" ] || ! grep -qE "$needs_cuda" "$file"; then
			echo "$file"
		fi
	done
}
# The kernels of the CPU back ends are read as the widest has them.
isa_flags='-DFAST_ISA=avx512 -mavx512f -mavx512bw -mavx512vl -mavx512dq
	-mavx2 -mfma -mf16c -mamx-tile -mamx-bf16'
# The path analyser takes nine tenths of the time: it reads the product; tests
# and benchmarks run under the sanitizers. It gives a function up after so many
# states; its own default, 225000, takes five times as long.
nodes=${LINT_NODES:-30000}
tidy() {
	local jobs log
	log=$(mktemp)
	jobs=$(nproc)
	analysable | xargs -P "$jobs" -n 1 sh -c '
		cuda=$0 isa=$1 dpdk=$2 nodes=$3
		shift 2
		case $2 in */fast_*.c|*/gemm_amx*.c) ;; *) isa= ;; esac
		case $2 in *_dpdk.c) ;; *) dpdk= ;; esac
		case $2 in tests/*|bench/*) checks=--checks=-clang-analyzer-* ;; *) checks= ;; esac
		clang-tidy --quiet $checks "$2" -- -std=gnu11 -D_GNU_SOURCE -I. $isa $dpdk \
			-isystem /usr/include/lwip \
			-Xclang -analyzer-config -Xclang "max-nodes=$nodes" \
			${cuda:+-isystem "$cuda"} 2>/dev/null || exit 1' \
		"$cuda" "$isa_flags" "$dpdk" "$nodes" >"$log" 2>&1
	local status=$?
	[ "$status" = 0 ] || cat "$log"
	rm -f "$log"
	return "$status"
}
cpp() {
	analysable | cppcheck --quiet --std=c11 --enable=warning,performance,portability \
		--inline-suppr --suppress=missingInclude --suppress=missingIncludeSystem \
		--suppress=preprocessorErrorDirective --error-exitcode=1 -j "$(nproc)" -I. \
		-D__linux__ -D_GNU_SOURCE -DFAST_ISA=avx512 --file-list=-
}
spdx() {
	local missing
	missing=$(grep -L 'SPDX-License-Identifier: Apache-2.0' "${sources[@]}" \
		"${headers[@]}" "${kernels[@]}" Makefile tools/*.sh tests/*.sh)
	[ -z "$missing" ] || { echo "no SPDX line: $missing"; return 1; }
}
check layers tools/check-layers.sh
check spdx spdx
check clang-format format
check cppcheck cpp
check clang-tidy tidy
exit "$failed"
