# cpu.mk - the benchmark of the CPU back end (included by Makefile)
# SPDX-License-Identifier: Apache-2.0
#
# For x86-64, whose widest instructions the measured floor needs.
X86 := $(filter x86_64,$(shell uname -m))
bench_cpu_c = $(wildcard bench/cpu*.c bench/machine*.c) bench/median.c \
	bench/process.c bench/report.c bench/counted_ops.c control/model_dir.c \
	$(library_c)

$(B)/bench/cpu: $(call obj,$(bench_cpu_c))
	@echo "  LD $@"
	$(Q)$(CC) $(LINK) -o $@ $^ $(LIBS)

# Decode, prefill and load beside the machine's floor and llama.cpp: table and
# bars here, build/bench/cpu.json and cpu.svg. The first time llama.cpp is built
# (10 to 20 minutes); NO_PEER=1 does without, PEER=PATH runs that llama-bench.
bench-cpu: $(B)/bench/cpu
	@PEER=$(PEER) NO_PEER=$(NO_PEER) tools/bench/bench-cpu.sh $(B) $(BENCH)

# The same program with a model of some MB, so that it stays whole.
ifneq ($(X86),)
TESTS += $(B)/tests/test_bench_cpu
tests test: $(B)/tests/test_bench_cpu
endif
$(B)/tests/test_bench_cpu: $(B)/bench/cpu
	@mkdir -p $(@D)
	@printf '#!/bin/sh\nexec tests/bench_cpu.sh $(B)\n' >$@
	@chmod +x $@

.PHONY: bench-cpu
