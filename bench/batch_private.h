/* batch_private.h - one run of heddle-bench batch, for batch*.c only */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HEDDLE_BENCH_BATCH_PRIVATE_H
#define HEDDLE_BENCH_BATCH_PRIVATE_H

#include "bench/batch_load.h"
#include "bench/cpu_peer.h"
#include "bench/machine.h"
#include "bench/node.h"
#include "bench/report.h"

#define BATCH_ROUND_COUNT_MAX 31u
/* Single streams are longer than those of a batch: there is one only. */
#define BATCH_SINGLE_FACTOR 4u

struct batch_session {
	const char *heddled, *model, *eval, *json;
	uint32_t threads, rounds;
	uint32_t concurrency, input_tokens, output_tokens;
	uint32_t streams, long_tokens; /* of the part with prompts */
	double seconds; /* of a phase */
	uint32_t parts; /* bits */
	uint32_t vocab, position_count; /* of the model */
	uint32_t cores[MACHINE_THREAD_COUNT_MAX];
	struct cpu_peer_config peer_config;
	uint32_t seed; /* of the next load */
	int signal_fd;
	bool missed;
	struct report report;
	char peer_name[CPU_PEER_NAME_BYTES]; /* the report's */
	struct error err;
};

/* Each adds its rows to the report; -errno with a text in session->err. */
int batch_throughput(struct batch_session *session);
int batch_single(struct batch_session *session);
int batch_prompts(struct batch_session *session);
int batch_overload(struct batch_session *session);

void batch_figure(struct batch_session *session, const struct report_row *row);

/* A heddled on this model with more options, the last NULL. */
int batch_start(struct batch_session *session, const char *const *options,
	struct bench_node *node);

/* A node for `concurrency` requests of the usual lengths. */
int batch_start_usual(
	struct batch_session *session, uint32_t slots, struct bench_node *node);

/* As many requests of these lengths, all at once. */
struct batch_load batch_load_usual(
	struct batch_session *session, const struct bench_node *node);

/* Everything must have come whole, or the figures mean nothing. -EPROTO. */
int batch_require_whole(
	struct batch_session *session, const struct serve_plan *plan);

#endif
