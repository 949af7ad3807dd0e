# gpu.mk - the card probe: one program, its tests, its bundle (included by
# Makefile)
# SPDX-License-Identifier: Apache-2.0
#
# Driver and cuBLASLt are opened at run time: what is needed to build are the
# headers beside nvcc and nvcc itself.
CUDA := $(if $(NVCC),$(patsubst %/bin/nvcc,%,$(NVCC)))
CUDA_H := $(wildcard $(CUDA)/include/cuda.h)
CUBLASLT_H := $(wildcard $(CUDA)/include/cublasLt.h)
NVCC_FLAGS = -std=c++17 -O3 -Werror all-warnings -Xcompiler -Wall,-Wextra \
	-gencode=arch=compute_90a,code=sm_90a \
	-gencode=arch=compute_80,code=sm_80

# One of the two probe_lt files.
probe_lt_c = bench/gpu/$(if $(CUBLASLT_H),probe_lt.c,probe_lt_none.c)
probe_body_c = $(filter-out bench/gpu/probe_lt% bench/gpu/cuda_path.c \
	bench/gpu/probe_fatbin.c,$(wildcard bench/gpu/*.c)) $(probe_lt_c)
probe_c = $(probe_body_c) bench/gpu/cuda_path.c bench/gpu/probe_fatbin.c
fake_cuda_c = $(addprefix tests/fake/,fake_cuda.c fake_cuda_memory.c \
	fake_cuda_kernels.c)
probe_fake_c = $(probe_body_c) $(addprefix tests/fake/,fake_cuda_path.c \
	fake_cuda_fatbin.c)

probe_fatbin = $(B)/bench/gpu/probe.fatbin

# CUDA's headers do not meet our warnings: system headers.
$(call obj,$(probe_c) $(probe_fake_c) $(fake_cuda_c)): \
	private ALL += $(if $(CUDA_H),-isystem $(CUDA)/include)
# The fake computes what kernels would; sanitizers would only slow that down.
$(call obj,$(fake_cuda_c)): private OPT += -fPIC
$(call obj,$(fake_cuda_c)) $(B)/tests/libfakecuda.so: private SAN =
$(B)/bench/gpu/probe_fatbin.c.o: private ALL += \
	-DPROBE_FATBIN='"$(probe_fatbin)"'
$(B)/bench/gpu/probe_fatbin.c.o: $(probe_fatbin)

$(probe_fatbin): bench/gpu/probe.cu bench/gpu/probe_kernels.h \
		bench/gpu/probe_wgmma.cuh
	@mkdir -p $(@D)
	@echo "  NVCC $@"
	$(Q)$(NVCC) -fatbin $(NVCC_FLAGS) -o $@ $<

$(B)/bench/gpu-probe: $(call obj,$(probe_c))
	@echo "  LD $@"
	$(Q)$(CC) $(LINK) -o $@ $^ -ldl -lm

# The probe with a driver library that has no card behind it, for the tests.
$(B)/tests/gpu-probe-fake: $(call obj,$(probe_fake_c))
	@mkdir -p $(@D)
	@echo "  LD $@"
	$(Q)$(CC) $(LINK) -o $@ $^ -ldl -lm

$(B)/tests/libfakecuda.so: $(call obj,$(fake_cuda_c))
	@mkdir -p $(@D)
	@echo "  LD $@"
	$(Q)$(CC) $(LINK) -shared -o $@ $^

# Without CUDA's headers test_probe_fake finds no program and says so (77).
ifneq ($(CUDA_H),)
$(B)/tests/test_probe_fake: | $(B)/tests/gpu-probe-fake \
	$(B)/tests/libfakecuda.so
endif

# All CUDA code compiles and links; headers that kernels see pass nvcc.
cuda: $(B)/bench/gpu-probe
	$(Q)echo '#include "gpu/ops.h"' | $(NVCC) $(NVCC_FLAGS) -I. -x cu -c - \
		-o $(B)/bench/gpu/ops_header.o

# --- the way to a card ----------------------------------------------------------
ifeq ($(NVCC),)
gpu-probe gpu-bundle:
	@echo "SKIP $@: no nvcc on this machine, so there is nothing to build" >&2
	@exit 77
else
gpu-probe: $(B)/bench/gpu-probe
	@$(B)/bench/gpu-probe --json $(B)/bench/gpu-probe.json; status=$$?; \
	[ $$status != 77 ] || echo "SKIP gpu-probe: built, but no card here:" \
		"nothing was measured" >&2; \
	exit $$status

# Program, sources and the script that runs or builds them; 16 MiB at most.
bundle_files = $(sort $(wildcard bench/gpu/*.c bench/gpu/*.h bench/gpu/*.cu \
	bench/gpu/*.cuh) bench/gpu/run LICENSE)
gpu-bundle: $(B)/gpu-bundle.tar.xz
$(B)/gpu-bundle.tar.xz: $(B)/bench/gpu-probe $(bundle_files)
	@echo "  TAR $@"
	@mkdir -p $(B)/bundle/build/bench
	$(Q)strip -o $(B)/bundle/build/bench/gpu-probe $<
	$(Q)tar -cJf $@ --sort=name --owner=0 --group=0 --numeric-owner \
		$(bundle_files) -C $(B)/bundle build/bench/gpu-probe
	@size=$$(stat -c %s $@); echo "$@: $$size bytes"; \
	if [ $$size -gt 16777216 ]; then \
		echo "gpu-bundle: more than 16 MiB" >&2; rm -f $@; exit 1; fi
endif
