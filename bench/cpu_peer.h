/* cpu_peer.h - another engine on the same weights (process -> times) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Why:     our figures stand beside llama.cpp's, taken in turns with ours, on
 *          the same cores. Either the driver of llama-cpp-python runs beside
 *          us and waits for commands (tools/bench/peer.py), or an installed
 *          llama-bench is run once at each turn.
 * Ownership: the process is ended by cpu_peer_close().
 * Threads: one.
 */
#ifndef HEDDLE_BENCH_CPU_PEER_H
#define HEDDLE_BENCH_CPU_PEER_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

#include "base/error.h"

#define CPU_PEER_NAME_BYTES 64

struct cpu_peer_config {
	const char *gguf; /* the model, converted */
	const char *python; /* runs the driver; NULL = llama_bench */
	const char *driver;
	const char *llama_bench; /* a program, used when python is NULL */
	uint32_t thread_count;
	const uint32_t *cores;
	uint32_t vocab, token_count;
	uint32_t sequence_count; /* at once, at most */
};

struct cpu_peer {
	struct cpu_peer_config config;
	char name[CPU_PEER_NAME_BYTES];
	pid_t process; /* the driver's, 0 = none */
	FILE *to, *from;
};

/* -errno with a text; nothing is left running then. */
int cpu_peer_open(struct cpu_peer *peer, const struct cpu_peer_config *config,
	struct error *err);
void cpu_peer_close(struct cpu_peer *peer);

/*
 * Tokens per second of `steps` steps of one token of each sequence after a
 * prompt; 0 where llama-bench cannot say it (more than one sequence).
 */
int cpu_peer_decode(struct cpu_peer *peer, uint32_t sequences, uint32_t steps,
	uint32_t prompt, double *out_rate, struct error *err);

/* The same, by the driver only: seconds of the prompts, and of the steps. */
int cpu_peer_batch(struct cpu_peer *peer, uint32_t sequences, uint32_t steps,
	uint32_t prompt, double out_seconds[2], struct error *err);

int cpu_peer_prefill(struct cpu_peer *peer, uint32_t rows, double *out_rate,
	struct error *err);

/* Logits of the first `rows` tokens, [rows][vocab]; the driver only. */
int cpu_peer_logits(struct cpu_peer *peer, uint32_t rows, const char *scratch,
	float *out, struct error *err);

#endif
