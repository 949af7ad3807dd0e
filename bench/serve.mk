# serve.mk - the load generator and the front end's benchmark (included by Makefile)
# SPDX-License-Identifier: Apache-2.0
serve_c = $(wildcard bench/serve*.c) base/clock.c base/error.c
# Adapters in memory, over the fake back end of the tests and over the host's.
memmgr_bench_c = $(wildcard bench/memmgr*.c bench/adapters*.c) \
	bench/median.c control/model_dir.c \
	tests/fake/fake_vmm.c tests/st_builder.c $(library_c)
# Our TCP beside the kernel's, and beside liblwip's where its headers are. That
# one finds sys_now() in the program; it is opened when it is measured.
lwip_there := $(wildcard /usr/include/lwip/lwip/tcp.h)
tcp_bench_c = $(addprefix bench/tcp_,speed.c frame.c ours.c kernel.c flood.c) \
	$(if $(lwip_there),bench/tcp_lwip.c tests/lwip_host.c,bench/tcp_lwip_none.c)
ifneq ($(lwip_there),)
$(B)/heddle-bench: LINK += -Wl,--export-dynamic-symbol=sys_now -ldl
endif
# The whole dataplane at one end of a wire; the one in memory is DPDK's.
dataplane_ring_c = $(if $(DPDK),$(addprefix bench/dataplane_ring_,dpdk.c \
	memif_dpdk.c),bench/dataplane_ring_absent.c)
dataplane_bench_c = $(dataplane_ring_c) $(dataplane_c) \
	$(filter-out bench/dataplane_ring_%,$(wildcard bench/dataplane*.c))
$(addprefix $(B)/bench/dataplane_ring_,dpdk.c.o memif_dpdk.c.o): ALL += $(DPDK_FLAGS)
heddle_bench_c = $(sort bench/heddle_bench.c bench/arguments.c bench/ask.c \
	bench/report.c bench/node.c bench/process.c bench/cpu_peer.c \
	bench/cpu_model.c \
	$(wildcard bench/machine*.c bench/batch*.c) \
	$(tcp_bench_c) $(wildcard bench/tls*.c dataplane/tls_*.c) \
	$(wildcard bench/frontend*.c) $(serve_c) \
	$(memmgr_bench_c) $(dataplane_bench_c) $(tcp_c))

$(B)/heddle-bench: $(call obj,$(heddle_bench_c))
	@echo "  LD $@"
	$(Q)$(CC) $(LINK_WHOLE) -o $@ $^ $(LIBS) $(if $(DPDK),$(DPDK_LIBS) -lrte_net_ring)

# The front end beside a bare loop, 10,000 streams, long prompts, idle
# connections: a table here and build/bench/frontend.json; some two minutes on a
# machine that does nothing else. FRONTEND="--parts ceiling" and the like.
bench-frontend: $(B)/heddle-bench $(B)/heddled
	@tools/bench/frontend-model.sh $(B)/bench/frontend-model
	@$(B)/heddle-bench frontend --heddled $(B)/heddled \
		--model $(B)/bench/frontend-model \
		--json $(B)/bench/frontend.json $(FRONTEND)

# The batching engine on a random model of some GB beside llama.cpp, on long
# prompts, under overload: a table here and build/bench/serve.json. MODEL=DIR
# takes that model; NO_PEER=1 does without llama.cpp; SERVE="--parts single" and
# the like.
bench-serve: $(B)/heddle-bench $(B)/heddled $(B)/heddle-eval $(B)/bench/cpu
	@NO_PEER=$(NO_PEER) MODEL=$(MODEL) tools/bench/bench-serve.sh $(B) $(SERVE)

# What adapters cost steps and loads: a table here and build/bench/adapters.json;
# a minute or two on a machine that does nothing else. ADAPTERS="--parts load"
# and the like.
bench-adapters: $(B)/heddle-bench
	@mkdir -p $(B)/bench
	@$(B)/heddle-bench adapters --dir $(B)/bench/adapters-model \
		--json $(B)/bench/adapters.json $(ADAPTERS)

# What a token event costs the dataplane, from the ring of tokens to the wire and
# back: over a wire in memory, and over a veth pair beside the kernel's sockets;
# 100,000 idle connections, attacks, a minute of load; and what a TLS record adds.
# Tables here and build/bench/dataplane.json, tls.json; four minutes.
# DATAPLANE="--parts cost" and the like.
bench-dataplane: $(B)/heddle-bench
	@tools/bench/dataplane.sh $(B) $(B)/bench/dataplane.json \
		--svg $(B)/bench/dataplane.svg $(DATAPLANE)
	@$(B)/heddle-bench tls --json $(B)/bench/tls.json

.PHONY: bench-frontend bench-serve bench-adapters bench-dataplane
