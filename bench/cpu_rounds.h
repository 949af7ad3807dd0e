/* cpu_rounds.h - ours, the peer and the machine's floor, in turns */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Why:     what else runs on the machine changes from minute to minute; rounds
 *          in which each engine does each job once spread that over all of
 *          them. The figure is the median of the rounds.
 * Floors:  the machine itself changes its speed from second to second, so each
 *          of our jobs stands between two measurements of its floor, and the
 *          share of the floor is the median of the rounds' own shares.
 * Agreement: the logits of a prompt from both engines, before anything is
 *          timed: two engines that do not compute the same model cannot be
 *          compared.
 * Threads: one.
 */
#ifndef HEDDLE_BENCH_CPU_ROUNDS_H
#define HEDDLE_BENCH_CPU_ROUNDS_H

#include <stdint.h>

#include "base/error.h"
#include "bench/cpu_engine.h"
#include "bench/cpu_peer.h"
#include "bench/machine.h"

#define CPU_ROUND_COUNT_MAX 32

struct cpu_rounds_config {
	uint32_t round_count; /* 1 .. CPU_ROUND_COUNT_MAX */
	uint32_t prompt_tokens; /* before decoding begins */
	uint32_t single_steps, batch_steps; /* decode steps of a round */
	uint32_t prefill_rows;
	struct machine_load machine; /* how the floor is measured */
};

struct cpu_figures {
	double single, batch, prefill; /* tokens per second, medians */
};

/* What the machine did beside each of our jobs; job / floor is the share. */
struct cpu_floors {
	double single, batch; /* bytes read per second */
	double prefill; /* FLOP per second */
};

struct cpu_rounds {
	struct cpu_figures ours, peer; /* peer: zeros when there is none */
	struct cpu_floors floors;
	double batch_experts; /* different ones in a step of the batch, mean
				 over steps, summed over layers */
	/* Of a step of 256 rows outside operations, medians: in a real step,
	 * where each operation leaves the caches to itself, and when
	 * operations do nothing. */
	double host_seconds, host_alone_seconds;
	uint64_t host_calls; /* operations of that step */
	double read_rate, file_read_rate, fma_rate; /* the machine's, per
				second: private memory, a memory file */
};

/* peer may be NULL. -errno with a text. */
int cpu_rounds_run(struct cpu_engine *engine, struct cpu_peer *peer,
	const struct cpu_rounds_config *config, struct cpu_rounds *out,
	struct error *err);

struct cpu_agreement {
	double deviation; /* of our logits: their spread */
	double difference_max, difference_mean; /* absolute */
	uint32_t same_best, positions; /* greedy tokens that agree */
};

/* Compare logits of the first `rows` (<= 64) tokens; scratch is a file. */
int cpu_agreement_measure(struct cpu_engine *engine, struct cpu_peer *peer,
	uint32_t rows, const char *scratch, struct cpu_agreement *out,
	struct error *err);

#endif
