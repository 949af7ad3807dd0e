/* cpu.h - the CPU back ends: which there are, and how to make one */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Why:        the reference says what is right; AVX2 and AVX-512 do the same
 *             at the speed of memory, and AMX is AVX-512 with products of
 *             bf16 weights in tile registers. The choice is made once, at
 *             start: by HEDDLE_ISA (reference, avx2, avx512, amx) or else the
 *             best that the processor has.
 * Invariants: a back end's weights are in its layout. AVX2 and AVX-512 give
 *             the same bits as each other; the reference and AMX add in other
 *             orders (gpu/ops.h, gpu/cpu/gemm_amx.h), so they agree within
 *             rounding.
 * Threads:    as gpu/ops.h.
 */
#ifndef HEDDLE_GPU_CPU_CPU_H
#define HEDDLE_GPU_CPU_CPU_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/weight_format.h"
#include "gpu/ops.h"

enum cpu_isa { CPU_REFERENCE, CPU_AVX2, CPU_AVX512, CPU_AMX, CPU_ISA_COUNT };

/* "reference", "avx2", "avx512", "amx". */
const char *cpu_isa_name(enum cpu_isa isa);

/* Can this processor, under this kernel, run it? */
bool cpu_isa_works(enum cpu_isa isa);

/*
 * The back end that HEDDLE_ISA names, or the best that works when it is not
 * set. -EINVAL: it names none, or one that does not work here; err says
 * which ones do.
 */
int cpu_isa_choose(enum cpu_isa *out, struct error *err);

/* How the back end wants its matrices: WEIGHT_ROWS or WEIGHT_PANELS. */
enum weight_layout cpu_isa_layout(enum cpu_isa isa);

/*
 * A back end on `thread_count` threads, the caller being one of them. isa
 * must work here. cores: the CPU of each thread, to which it is bound (the
 * caller to cores[0], until destroy), or NULL. -ENOMEM; -EAGAIN (no thread);
 * -EINVAL (a core that this process may not use).
 */
int ops_create_cpu(enum cpu_isa isa, const struct ops_limits *limits,
	uint32_t thread_count, const uint32_t *cores, struct ops *out);

#endif
