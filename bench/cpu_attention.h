/* cpu_attention.h - attention over a long context by itself (-> rates) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Why:   over a long context attention costs what weights cost elsewhere. One
 *        decode row is bound by the bytes of keys and values, a stretch of
 *        prompt by multiplications; each is shown beside its own floor. The
 *        operation is called as the forward pass calls it, on one layer; the
 *        caches of several sequences are taken in turn, so that none waits in
 *        the processor's cache.
 */
#ifndef HEDDLE_BENCH_CPU_ATTENTION_H
#define HEDDLE_BENCH_CPU_ATTENTION_H

#include <stdint.h>

#include "base/error.h"
#include "bench/cpu_model.h"
#include "gpu/ops.h"

struct cpu_attention_rates {
	double decode_bytes_per_second;
	double prefill_flops_per_second;
};

/* ops was made for at least 256 rows of this model. -ENOMEM, -EIO. */
int cpu_attention_measure(struct ops *ops, const struct cpu_model *model,
	uint32_t context, struct cpu_attention_rates *out, struct error *err);

#endif
