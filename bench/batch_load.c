/* batch_load.c - requests for an engine that computes (lengths -> plan) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/batch_load.h"
#include "bench/cpu_model.h"
#include "bench/node.h"
#include "bench/serve_arrivals.h"
#include "bench/serve_compose.h"

#define TIMEOUT_NS (600 * NS_PER_S)
#define TOKEN_TEXT_BYTES 11u /* a number below 2^32 and a comma */
/* Sequences of a run; the next seed's begin behind them. */
#define RUN_SEQUENCES 100003u

char *batch_prompt(uint32_t vocab, uint32_t sequence, uint32_t count)
{
	const struct cpu_model model = {.vocab = vocab};
	char *text = malloc((size_t)TOKEN_TEXT_BYTES * count + 3);
	size_t at = 1;

	if (!text)
		return NULL;
	text[0] = '[';
	for (uint32_t i = 0; i < count; i++)
		at += (size_t)snprintf(text + at, TOKEN_TEXT_BYTES + 1, "%s%u",
			i ? "," : "", cpu_model_token(&model, sequence, i));
	text[at] = ']';
	text[at + 1] = '\0';
	return text;
}

static int add_item(const struct batch_load *load, struct serve_plan *plan,
	struct serve_bytes *data, uint32_t kind, uint64_t due_ns)
{
	const struct batch_group *group = &load->groups[kind];
	uint32_t sequence = load->seed * RUN_SEQUENCES + (uint32_t)plan->count;
	char *prompt =
		batch_prompt(load->vocab, sequence, group->prompt_tokens);
	char *body = NULL;
	int rc = -ENOMEM;
	int length = !prompt ? -1
			     : asprintf(&body,
				       "{\"model\":\"" BENCH_MODEL_NAME
				       "\",\"prompt\":%s,\"max_tokens\":%u,"
				       "\"ignore_eos\":true,\"temperature\":1,"
				       "\"top_p\":1,\"top_k\":-1,"
				       "\"seed\":%u,\"stream\":true,"
				       "\"stream_options\":"
				       "{\"include_usage\":true}}",
				       prompt, group->output_tokens, sequence);

	free(prompt);
	if (length >= 0) {
		const struct serve_call call = {.method = "POST",
			.path = "/v1/completions",
			.body = body,
			.body_bytes = (size_t)length};

		rc = serve_compose_add(plan, data, load->target, &call,
			(struct serve_item){.due_ns = due_ns,
				.input_tokens = group->prompt_tokens,
				.output_tokens = group->output_tokens,
				.kind = kind});
		free(body);
	}
	return rc;
}

static int add_group(const struct batch_load *load, struct serve_plan *plan,
	struct serve_bytes *data, uint32_t kind)
{
	const struct batch_group *group = &load->groups[kind];
	const struct serve_arrivals arrivals = {
		.kind = group->rate > 0 ? SERVE_POISSON : SERVE_AT_ONCE,
		.rate = group->rate,
		.seed = load->seed + kind};
	uint64_t *at_ns = calloc(group->count + 1u, sizeof(*at_ns));
	int rc = at_ns ? 0 : -ENOMEM;

	if (rc == 0)
		serve_arrivals_fill(&arrivals, at_ns, group->count);
	for (uint32_t i = 0; rc == 0 && i < group->count; i++)
		rc = add_item(
			load, plan, data, kind, group->from_ns + at_ns[i]);
	free(at_ns);
	return rc;
}

static int by_due(const void *a, const void *b)
{
	const struct serve_item *x = a, *y = b;

	if (x->due_ns != y->due_ns)
		return x->due_ns < y->due_ns ? -1 : 1;
	return x->offset < y->offset ? -1 : x->offset > y->offset;
}

static int make_plan(const struct batch_load *load, struct serve_plan *plan)
{
	struct serve_bytes data = {0};
	int rc = 0;

	memset(plan, 0, sizeof(*plan));
	plan->expect = (struct serve_expect){
		.stream = true, .include_usage = true, .ignore_eos = true};
	plan->items = calloc(load->groups[0].count + load->groups[1].count,
		sizeof(*plan->items));
	if (!plan->items)
		return -ENOMEM;
	for (uint32_t kind = 0; rc == 0 && kind < 2; kind++)
		rc = add_group(load, plan, &data, kind);
	plan->data = data.data;
	plan->data_bytes = data.length;
	qsort(plan->items, plan->count, sizeof(*plan->items), by_due);
	return rc ? rc : serve_plan_seal(plan);
}

int batch_load_run(const struct batch_load *load, struct serve_plan *out,
	struct error *err)
{
	const struct serve_run_setup setup = {.target = load->target,
		.plan = out,
		.thread_count = 1,
		.concurrency = load->concurrency,
		.connection_max = serve_run_connection_max(),
		.timeout_ns = TIMEOUT_NS,
		.duration_ns = load->duration_ns,
		.signal_fd = load->signal_fd};
	struct serve_run run = {0};
	int rc = make_plan(load, out);

	if (rc)
		error_set(err, -rc, "no memory for the load");
	else
		rc = serve_run(&setup, &run, err);
	if (rc == 0 && run.interrupted)
		rc = error_set(err, EINTR, "interrupted");
	if (rc)
		serve_plan_release(out);
	return rc;
}
