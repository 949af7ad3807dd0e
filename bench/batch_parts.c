/* batch_parts.c - throughput, overload (heddled -> figures) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/batch_private.h"
#include "bench/median.h"
#include "bench/serve_summary.h"

#define THROUGHPUT_FACTOR 1.5
#define GOODPUT_SHARE 0.9
#define NUMBER_BYTES 24
/* An answer is in time within so many times what one of a full batch takes. */
#define LATE_FACTOR 3
/* Answers one after another in a phase; and the longest phase. */
#define GENERATIONS 4
#define PHASE_MAX_S 120

int batch_start_usual(
	struct batch_session *session, uint32_t slots, struct bench_node *node)
{
	char sequences[NUMBER_BYTES], tokens[NUMBER_BYTES], slot[NUMBER_BYTES];
	const char *const options[] = {"--cpu-sequences", sequences,
		"--kv-tokens", tokens, "--slots", slot, NULL};
	uint32_t each = session->input_tokens +
			BATCH_SINGLE_FACTOR * session->output_tokens + 32;

	snprintf(sequences, sizeof(sequences), "%u", session->concurrency);
	snprintf(tokens, sizeof(tokens), "%u", session->concurrency * each);
	snprintf(slot, sizeof(slot), "%u", slots);
	return batch_start(session, options, node);
}

struct batch_load batch_load_usual(
	struct batch_session *session, const struct bench_node *node)
{
	return (struct batch_load){.target = &node->api,
		.vocab = session->vocab,
		.groups = {{.count = session->concurrency,
			.prompt_tokens = session->input_tokens,
			.output_tokens = session->output_tokens}},
		.seed = session->seed++,
		.signal_fd = session->signal_fd};
}

int batch_require_whole(
	struct batch_session *session, const struct serve_plan *plan)
{
	for (size_t i = 0; i < plan->count; i++)
		if (plan->results[i].outcome != SERVE_COMPLETED)
			return error_set(&session->err, EPROTO,
				"request %zu: status %u, %s", i,
				plan->results[i].status,
				serve_fault_name(
					(enum serve_fault)plan->results[i]
						.fault));
	return 0;
}

/* --- throughput ------------------------------------------------------------ */

struct rates {
	double whole[BATCH_ROUND_COUNT_MAX]; /* first request to last byte */
	/* While all of them decode; where the first have ended before the last
	 * begin, from when half have begun until half have ended. */
	double decode[BATCH_ROUND_COUNT_MAX];
};

/* Chunks of an answer that came within [from_ns, to_ns], but the first. */
static uint64_t chunks_within(const struct serve_plan *plan, size_t at,
	uint64_t from_ns, uint64_t to_ns)
{
	const struct serve_result *result = &plan->results[at];
	const uint32_t *gaps = plan->gaps + plan->items[at].gap_offset;
	uint64_t now_ns = result->first_ns, count = 0;

	for (uint32_t i = 0; i < result->gap_count; i++) {
		now_ns += (uint64_t)gaps[i] * SERVE_TICK_NS;
		count += now_ns > from_ns && now_ns <= to_ns;
	}
	return count;
}

/* The window of the decode rate in ns; 0 = there is none. */
static uint64_t find_window(const struct serve_plan *plan, uint64_t *out_from)
{
	double *first = calloc(plan->count + 1, sizeof(*first));
	double *last = calloc(plan->count + 1, sizeof(*last));
	uint32_t count = (uint32_t)plan->count;
	double from = 0, to = 0;

	for (uint32_t i = 0; first && last && i < count; i++) {
		first[i] = (double)plan->results[i].first_ns;
		last[i] = (double)plan->results[i].last_ns;
	}
	if (first && last && count > 0) {
		/* Sorted by it. */
		double half_first = median(first, count);
		double half_last = median(last, count);
		bool overlap = first[count - 1] < last[0];

		from = overlap ? first[count - 1] : half_first;
		to = overlap ? last[0] : half_last;
	}
	free(first);
	free(last);
	*out_from = (uint64_t)from;
	return to > from ? (uint64_t)(to - from) : 0;
}

static void rates_of(
	const struct serve_plan *plan, uint32_t round, struct rates *out)
{
	uint64_t end_ns = 0, from_ns, tokens = 0, decoded = 0;
	uint64_t window_ns = find_window(plan, &from_ns);

	for (size_t i = 0; i < plan->count; i++) {
		const struct serve_result *r = &plan->results[i];

		tokens += serve_output_tokens(r);
		end_ns = r->end_ns > end_ns ? r->end_ns : end_ns;
		decoded += chunks_within(plan, i, from_ns, from_ns + window_ns);
	}
	out->whole[round] = (double)tokens * 1e9 / (double)(end_ns + 1);
	out->decode[round] =
		window_ns ? (double)decoded * 1e9 / (double)window_ns : 0;
}

static int our_throughput(struct batch_session *session,
	const struct bench_node *node, uint32_t round, struct rates *out)
{
	const struct batch_load load = batch_load_usual(session, node);
	struct serve_plan plan;
	int rc = batch_load_run(&load, &plan, &session->err);

	if (rc)
		return rc;
	rc = batch_require_whole(session, &plan);
	if (rc == 0)
		rates_of(&plan, round, out);
	serve_plan_release(&plan);
	return rc;
}

static int peer_throughput(struct batch_session *session, struct cpu_peer *peer,
	uint32_t round, struct rates *out)
{
	uint32_t sequences = session->concurrency;
	uint32_t steps = session->output_tokens - 1;
	double seconds[2]; /* of the prompts, of the steps */
	int rc = cpu_peer_batch(peer, sequences, steps, session->input_tokens,
		seconds, &session->err);

	if (rc)
		return rc;
	out->whole[round] = (double)sequences * session->output_tokens /
			    (seconds[0] + seconds[1]);
	out->decode[round] = (double)sequences * steps / seconds[1];
	return 0;
}

static int open_peer(struct batch_session *session, struct cpu_peer *peer)
{
	struct cpu_peer_config *config = &session->peer_config;
	int rc;

	memset(peer, 0, sizeof(*peer));
	if (!config->gguf)
		return 0;
	config->thread_count = session->threads;
	config->cores = session->cores;
	config->vocab = session->vocab;
	config->token_count = session->input_tokens + session->output_tokens;
	config->sequence_count = session->concurrency;
	rc = cpu_peer_open(peer, config, &session->err);
	if (rc == 0)
		memcpy(session->peer_name, peer->name, sizeof(peer->name));
	return rc;
}

static void add_rate(struct batch_session *session, const char *name,
	double *ours, double *peer)
{
	bool has_peer = session->peer_config.gguf != NULL;

	batch_figure(session,
		&(struct report_row){.name = name,
			.value = median(ours, session->rounds),
			.unit = "tokens/s",
			.peer = has_peer ? session->peer_name : NULL,
			.peer_value =
				has_peer ? median(peer, session->rounds) : 0,
			.goal_factor = THROUGHPUT_FACTOR});
}

int batch_throughput(struct batch_session *session)
{
	struct rates ours, theirs;
	struct bench_node node;
	struct cpu_peer peer;
	int rc = batch_start_usual(session, 4 * session->concurrency, &node);

	if (rc)
		return rc;
	rc = open_peer(session, &peer);
	for (uint32_t round = 0; rc == 0 && round < session->rounds; round++) {
		rc = our_throughput(session, &node, round, &ours);
		if (rc == 0 && peer.process)
			rc = peer_throughput(session, &peer, round, &theirs);
		if (rc == 0)
			printf("throughput: %.1f tokens/s, %.1f decoding; peer "
			       "%.1f, %.1f\n",
				ours.whole[round], ours.decode[round],
				peer.process ? theirs.whole[round] : 0,
				peer.process ? theirs.decode[round] : 0);
	}
	cpu_peer_close(&peer);
	bench_node_stop(&node);
	if (rc)
		return rc;
	add_rate(session, "serve.throughput", ours.whole, theirs.whole);
	add_rate(
		session, "serve.throughput.decode", ours.decode, theirs.decode);
	return 0;
}

/* --- overload -------------------------------------------------------------- */

struct goodput {
	double sustained[BATCH_ROUND_COUNT_MAX];
	double once[BATCH_ROUND_COUNT_MAX], twice[BATCH_ROUND_COUNT_MAX];
};

static double end_to_end_s(const struct serve_result *r)
{
	return (double)(r->end_ns - r->due_ns) / 1e9;
}

/* Whole answers per second in time, while the load is steady. */
static double rate_within(const struct batch_session *session,
	const struct serve_plan *plan, double limit_s)
{
	double from_s = session->seconds / 4;
	size_t count = 0;

	for (size_t i = 0; i < plan->count; i++) {
		const struct serve_result *r = &plan->results[i];
		double end_s = (double)r->end_ns / 1e9;

		count += r->outcome == SERVE_COMPLETED && end_s >= from_s &&
			 end_s <= session->seconds &&
			 end_to_end_s(r) <= limit_s;
	}
	return (double)count / (session->seconds - from_s);
}

/* In a closed loop an item is due when it is sent. */
static double median_answer_s(const struct serve_plan *plan)
{
	double *values = calloc(plan->count + 1, sizeof(*values));
	double middle = 0;
	uint32_t count = 0;

	for (size_t i = 0; values && i < plan->count; i++)
		if (plan->results[i].outcome == SERVE_COMPLETED)
			values[count++] = end_to_end_s(&plan->results[i]);
	if (count)
		middle = median(values, count);
	free(values);
	return middle;
}

/* As many as can be answered: `concurrency` under way at all times. */
static int try_rate(struct batch_session *session,
	const struct bench_node *node, double *out_rate, double *out_answer_s)
{
	struct batch_load load = batch_load_usual(session, node);
	struct serve_plan plan;
	int rc;

	load.concurrency = session->concurrency;
	load.duration_ns = (uint64_t)(session->seconds * 1e9);
	load.groups[0].count = 1000 + (uint32_t)(session->seconds * 500);
	rc = batch_load_run(&load, &plan, &session->err);
	if (rc)
		return rc;
	*out_answer_s = median_answer_s(&plan);
	*out_rate = rate_within(session, &plan, LATE_FACTOR * *out_answer_s);
	serve_plan_release(&plan);
	return 0;
}

/*
 * Requests that began together end together: a phase that holds few such
 * generations counts one more or less by chance. Then it gets longer.
 */
static int find_rate(struct batch_session *session,
	const struct bench_node *node, double *out_rate, double *out_limit_s)
{
	for (;;) {
		double answer_s;
		int rc = try_rate(session, node, out_rate, &answer_s);

		if (rc)
			return rc;
		*out_limit_s = LATE_FACTOR * answer_s;
		if (*out_rate > 0 && session->seconds >= GENERATIONS * answer_s)
			return 0;
		if (session->seconds >= PHASE_MAX_S)
			return error_set(&session->err, ERANGE,
				"no %d answers one after another in %.0f s: "
				"ask for shorter ones with --output",
				GENERATIONS, session->seconds);
		session->seconds =
			fmin(fmax(2 * session->seconds, GENERATIONS * answer_s),
				PHASE_MAX_S);
		printf("overload: an answer takes %.1f s; phases of %.1f s\n",
			answer_s, session->seconds);
	}
}

static int offer(struct batch_session *session, const struct bench_node *node,
	double rate, double limit_s, double *out)
{
	struct batch_load load = batch_load_usual(session, node);
	struct serve_plan plan;
	int rc;

	load.duration_ns = (uint64_t)(session->seconds * 1e9);
	load.groups[0].rate = rate;
	load.groups[0].count = 1 + (uint32_t)(rate * session->seconds);
	rc = batch_load_run(&load, &plan, &session->err);
	if (rc)
		return rc;
	*out = rate_within(session, &plan, limit_s);
	serve_plan_release(&plan);
	return 0;
}

static int overload_round(struct batch_session *session,
	const struct bench_node *node, uint32_t i, struct goodput *out)
{
	double limit_s = 0;
	int rc = find_rate(session, node, &out->sustained[i], &limit_s);

	if (rc == 0)
		rc = offer(session, node, out->sustained[i], limit_s,
			&out->once[i]);
	if (rc == 0)
		rc = offer(session, node, 2 * out->sustained[i], limit_s,
			&out->twice[i]);
	if (rc == 0)
		printf("overload: %.2f requests/s sustained; in time (%.2f s) "
		       "%.2f of %.2f, %.2f of %.2f\n",
			out->sustained[i], limit_s, out->once[i],
			out->sustained[i], out->twice[i],
			2 * out->sustained[i]);
	return rc;
}

/* As many slots as can be answered in time; others are refused at once. */
int batch_overload(struct batch_session *session)
{
	struct goodput goodput;
	struct bench_node node;
	double peak, once;
	int rc = batch_start_usual(session, 2 * session->concurrency, &node);

	if (rc)
		return rc;
	for (uint32_t i = 0; rc == 0 && i < session->rounds; i++)
		rc = overload_round(session, &node, i, &goodput);
	bench_node_stop(&node);
	if (rc)
		return rc;
	peak = median(goodput.sustained, session->rounds);
	once = median(goodput.once, session->rounds);
	batch_figure(session, &(struct report_row){.name = "serve.sustained",
				      .value = peak,
				      .unit = "requests/s"});
	batch_figure(session, &(struct report_row){.name = "serve.goodput.1x",
				      .value = once,
				      .unit = "requests/s",
				      .limit = peak});
	batch_figure(session,
		&(struct report_row){.name = "serve.goodput.2x",
			.value = median(goodput.twice, session->rounds),
			.unit = "requests/s",
			.limit = peak > once ? peak : once,
			.goal_share = GOODPUT_SHARE});
	return 0;
}
