/* cpu_rounds.c - ours, the peer and the machine's floor, in turns */
/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>

#include "bench/cpu_rounds.h"
#include "bench/median.h"

#define HOST_ROWS 256
#define HOST_RUNS 5

struct samples {
	double single[CPU_ROUND_COUNT_MAX];
	double batch[CPU_ROUND_COUNT_MAX];
	double prefill[CPU_ROUND_COUNT_MAX];
};

/* Means of before and after. */
struct floor_samples {
	double read[CPU_ROUND_COUNT_MAX];
	double file_read[CPU_ROUND_COUNT_MAX];
	double fma[CPU_ROUND_COUNT_MAX];
};

/* Where our turns put what they find. */
struct turn {
	struct samples *ours;
	struct floor_samples *machine;
	struct cpu_rounds *rounds;
};

/* Decode steps after a prompt. */
struct job {
	uint32_t sequences, steps, prompt;
	double rate; /* tokens per second */
	double experts; /* of a step, mean */
};

static int decode(struct cpu_engine *engine, struct job *job, struct error *err)
{
	uint64_t ns = 0, experts = 0;
	struct cpu_step_cost cost;
	int rc;

	cpu_engine_reset(engine);
	rc = cpu_engine_step(
		engine, job->sequences, job->prompt, false, &cost, err);
	for (uint32_t i = 0; rc == 0 && i < job->steps; i++) {
		rc = cpu_engine_step(
			engine, job->sequences, 1, false, &cost, err);
		ns += cost.ns;
		experts += cost.expert_count;
	}
	job->rate =
		(double)job->sequences * job->steps * 1e9 / (double)(ns + 1);
	job->experts = (double)experts / job->steps;
	return rc;
}

static int prefill(struct cpu_engine *engine, uint32_t rows, double *out_rate,
	struct error *err)
{
	struct cpu_step_cost cost;
	int rc;

	cpu_engine_reset(engine);
	rc = cpu_engine_step(engine, 1, rows, false, &cost, err);
	*out_rate = (double)rows * 1e9 / (double)(cost.ns + 1);
	return rc;
}

static int measure_host(
	struct cpu_engine *engine, double *out_seconds, struct error *err)
{
	double seconds[HOST_RUNS];
	int rc = 0;

	for (int i = 0; rc == 0 && i < HOST_RUNS; i++) {
		struct cpu_step_cost cost;

		cpu_engine_reset(engine);
		rc = cpu_engine_step(engine, 1, HOST_ROWS, false, &cost, err);
		seconds[i] = (double)cost.host_ns / 1e9;
	}
	if (rc == 0)
		*out_seconds = median(seconds, HOST_RUNS);
	return rc;
}

static int measure_both_hosts(
	struct cpu_engine *engine, struct cpu_rounds *out, struct error *err)
{
	int rc = measure_host(engine, &out->host_seconds, err);

	out->host_calls = engine->times.call_count;
	engine->counted.is_idle = true;
	if (rc == 0)
		rc = measure_host(engine, &out->host_alone_seconds, err);
	engine->counted.is_idle = false;
	return rc;
}

/* Half of a round's floor of reads: it stands before, and after. */
static int add_reads(const struct cpu_rounds_config *config, uint32_t round,
	struct floor_samples *out, struct error *err)
{
	struct machine_load load = config->machine;
	double rate = 0, file_rate = 0;
	int rc = machine_read_rate(&load, &rate, err);

	load.memory_file = true;
	if (rc == 0)
		rc = machine_read_rate(&load, &file_rate, err);
	out->read[round] += rate / 2;
	out->file_read[round] += file_rate / 2;
	return rc;
}

static int add_fma(const struct cpu_rounds_config *config, uint32_t round,
	struct floor_samples *out, struct error *err)
{
	double rate = 0;
	int rc = machine_fma_rate(&config->machine, &rate, err);

	out->fma[round] += rate / 2;
	return rc;
}

/* Each between two measurements of its floor. */
static int our_decodes(struct cpu_engine *engine,
	const struct cpu_rounds_config *config, uint32_t round,
	struct turn *out, struct error *err)
{
	struct job single = {
		1, config->single_steps, config->prompt_tokens, 0, 0};
	struct job batch = {CPU_SEQUENCE_COUNT_MAX, config->batch_steps,
		config->prompt_tokens, 0, 0};
	int rc = add_reads(config, round, out->machine, err);

	if (rc == 0)
		rc = decode(engine, &single, err);
	if (rc == 0)
		rc = decode(engine, &batch, err);
	out->ours->single[round] = single.rate;
	out->ours->batch[round] = batch.rate;
	out->rounds->batch_experts = batch.experts;
	return rc ? rc : add_reads(config, round, out->machine, err);
}

static int our_prefill(struct cpu_engine *engine,
	const struct cpu_rounds_config *config, uint32_t round,
	struct turn *out, struct error *err)
{
	int rc = add_fma(config, round, out->machine, err);

	if (rc == 0)
		rc = prefill(engine, config->prefill_rows,
			&out->ours->prefill[round], err);
	return rc ? rc : add_fma(config, round, out->machine, err);
}

static int our_turn(struct cpu_engine *engine,
	const struct cpu_rounds_config *config, uint32_t round,
	struct turn *out, struct error *err)
{
	int rc;

	out->machine->read[round] = out->machine->file_read[round] = 0;
	out->machine->fma[round] = 0;
	rc = our_decodes(engine, config, round, out, err);
	return rc ? rc : our_prefill(engine, config, round, out, err);
}

static int peer_turn(struct cpu_peer *peer,
	const struct cpu_rounds_config *config, uint32_t round,
	struct samples *out, struct error *err)
{
	int rc;

	rc = cpu_peer_decode(peer, 1, config->single_steps,
		config->prompt_tokens, &out->single[round], err);
	if (rc == 0)
		rc = cpu_peer_decode(peer, CPU_SEQUENCE_COUNT_MAX,
			config->batch_steps, config->prompt_tokens,
			&out->batch[round], err);
	if (rc == 0)
		rc = cpu_peer_prefill(
			peer, config->prefill_rows, &out->prefill[round], err);
	return rc;
}

static void summarise(
	struct samples *samples, uint32_t count, struct cpu_figures *out)
{
	out->single = median(samples->single, count);
	out->batch = median(samples->batch, count);
	out->prefill = median(samples->prefill, count);
}

/* The floor of which the median of the rounds is the median share. */
static double floor_of(
	const double *rates, const double *floors, uint32_t count)
{
	double shares[CPU_ROUND_COUNT_MAX], sorted[CPU_ROUND_COUNT_MAX];

	for (uint32_t i = 0; i < count; i++) {
		shares[i] = rates[i] / floors[i];
		sorted[i] = rates[i];
	}
	return median(sorted, count) / median(shares, count);
}

/* The better of the two ways to read is the floor of a decode step. */
static void summarise_floors(const struct samples *ours,
	const struct floor_samples *machine, uint32_t count,
	struct cpu_floors *out)
{
	double reads[CPU_ROUND_COUNT_MAX];

	for (uint32_t i = 0; i < count; i++)
		reads[i] = fmax(machine->read[i], machine->file_read[i]);
	out->single = floor_of(ours->single, reads, count);
	out->batch = floor_of(ours->batch, reads, count);
	out->prefill = floor_of(ours->prefill, machine->fma, count);
}

int cpu_rounds_run(struct cpu_engine *engine, struct cpu_peer *peer,
	const struct cpu_rounds_config *config, struct cpu_rounds *out,
	struct error *err)
{
	struct samples ours = {0}, theirs = {0};
	struct floor_samples machine = {0};
	struct turn turn = {&ours, &machine, out};
	uint32_t count = config->round_count;
	int rc;

	assert(count >= 1 && count <= CPU_ROUND_COUNT_MAX);
	*out = (struct cpu_rounds){0};
	/* The first turn of each warms up and is written over. */
	rc = our_turn(engine, config, 0, &turn, err);
	if (rc == 0 && peer)
		rc = peer_turn(peer, config, 0, &theirs, err);
	for (uint32_t i = 0; rc == 0 && i < count; i++) {
		rc = our_turn(engine, config, i, &turn, err);
		if (rc == 0 && peer)
			rc = peer_turn(peer, config, i, &theirs, err);
	}
	if (rc == 0)
		rc = measure_both_hosts(engine, out, err);
	if (rc)
		return rc;
	summarise_floors(&ours, &machine, count, &out->floors);
	summarise(&ours, count, &out->ours);
	summarise(&theirs, count, &out->peer);
	out->read_rate = median(machine.read, count);
	out->file_read_rate = median(machine.file_read, count);
	out->fma_rate = median(machine.fma, count);
	return 0;
}

static uint32_t best_of(const float *logits, uint32_t vocab)
{
	uint32_t best = 0;

	for (uint32_t v = 1; v < vocab; v++)
		if (logits[v] > logits[best])
			best = v;
	return best;
}

static void compare(const float *ours, const float *theirs, uint32_t rows,
	uint32_t vocab, struct cpu_agreement *out)
{
	double sum = 0, square = 0, difference = 0;
	double count = (double)rows * vocab;

	*out = (struct cpu_agreement){.positions = rows};
	for (size_t i = 0; i < (size_t)rows * vocab; i++) {
		double value = (double)ours[i];
		double off = fabs(value - (double)theirs[i]);

		sum += value;
		square += value * value;
		difference += off;
		out->difference_max = fmax(
			out->difference_max, isfinite(off) ? off : INFINITY);
	}
	out->difference_mean = difference / count;
	out->deviation = sqrt(square / count - sum / count * sum / count);
	for (uint32_t r = 0; r < rows; r++)
		out->same_best += best_of(ours + (size_t)r * vocab, vocab) ==
				  best_of(theirs + (size_t)r * vocab, vocab);
}

int cpu_agreement_measure(struct cpu_engine *engine, struct cpu_peer *peer,
	uint32_t rows, const char *scratch, struct cpu_agreement *out,
	struct error *err)
{
	uint32_t vocab = engine->model_shape->vocab;
	float *theirs = calloc((size_t)rows * vocab, sizeof(*theirs));
	struct cpu_step_cost cost;
	int rc;

	if (!theirs)
		return error_set(err, ENOMEM, "no memory for logits");
	cpu_engine_reset(engine);
	rc = cpu_engine_step(engine, 1, rows, true, &cost, err);
	if (rc == 0)
		rc = cpu_peer_logits(peer, rows, scratch, theirs, err);
	if (rc == 0)
		compare(cpu_engine_logits(engine), theirs, rows, vocab, out);
	free(theirs);
	return rc;
}
