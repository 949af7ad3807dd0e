/* eval_generate.c - continue a prompt (token ids -> token ids) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "control/eval_text.h"

struct generation {
	const struct eval_options *options;
	struct eval_session session;
	struct eval_source source; /* holds the tokenizer, if one was needed */
	struct sample_params params;
	uint32_t *ids; /* owned; prompt, then output */
	uint32_t prompt_count, count;
	struct sample_result *results; /* [token_max] */
	struct token_use *uses; /* [count max] distinct tokens so far */
	uint32_t use_count;
	uint32_t *use_of; /* [vocab] index into uses + 1, 0 = none */
	bool stopped; /* an end-of-sequence token was drawn */
	uint64_t prefill_ns, decode_ns;
};

/* The checkpoint's own advice holds where the caller gives none. */
static void choose_params(struct generation *g)
{
	const struct generation_config *advice = &g->session.model->generation;

	g->params = g->options->sampling;
	if (!g->options->has_sampling && advice->has_sampling) {
		g->params.temperature = advice->temperature;
		g->params.top_p = advice->top_p;
		g->params.top_k = advice->top_k;
		g->params.repetition_penalty = advice->repetition_penalty;
	}
	g->params.top_count = g->options->top_count;
	g->params.uses = g->uses;
}

static void note_use(struct generation *g, uint32_t token, bool output)
{
	struct token_use *use;

	if (!g->use_of[token]) {
		g->uses[g->use_count] = (struct token_use){.token = token};
		g->use_of[token] = ++g->use_count;
	}
	use = &g->uses[g->use_of[token] - 1];
	if (output)
		use->output_count++;
	else
		use->prompt_count++;
}

/* Run tokens [first, first + count); draw after the last one if asked. */
static int run_chunk(struct generation *g, uint32_t first, uint32_t count,
	struct sample_result *out, struct error *err)
{
	struct step *step = &g->session.step;
	int rc;

	rc = eval_session_grow(&g->session, first + count, err);
	if (rc)
		return rc;
	eval_session_fill(&g->session, g->ids, first, count);
	if (out) {
		g->params.position = first + count;
		g->params.use_count = g->use_count;
		step_add_sample(step, count - 1, &g->params);
	}
	rc = forward_run(g->session.forward, step, err);
	if (rc || !out)
		return rc;
	if (step->result[0].token == UINT32_MAX)
		return error_set(err, EDOM,
			"position %u: no token can be "
			"drawn, the logits are not numbers",
			first + count);
	*out = step->result[0];
	return 0;
}

static bool is_eos(const struct generation *g, uint32_t token)
{
	const struct generation_config *c = &g->session.model->generation;

	for (uint32_t i = 0; i < c->eos_count; i++)
		if (c->eos[i] == token)
			return !g->options->ignore_eos;
	return false;
}

static void accept(struct generation *g, uint32_t index)
{
	uint32_t token = g->results[index].token;

	g->ids[g->count++] = token;
	note_use(g, token, true);
	g->stopped = is_eos(g, token);
}

static int prefill(struct generation *g, struct error *err)
{
	uint32_t chunk = g->options->chunk_rows;
	struct mono begin = mono_now();

	for (uint32_t at = 0; at < g->prompt_count; at += chunk) {
		uint32_t left = g->prompt_count - at;
		bool last = left <= chunk;
		int rc = run_chunk(g, at, last ? left : chunk,
			last ? &g->results[0] : NULL, err);

		if (rc)
			return rc;
	}
	accept(g, 0);
	g->prefill_ns = mono_diff(mono_now(), begin);
	return 0;
}

static int decode(struct generation *g, uint32_t token_max, struct error *err)
{
	struct mono begin = mono_now();

	for (uint32_t i = 1; i < token_max && !g->stopped; i++) {
		int rc = run_chunk(g, g->count - 1, 1, &g->results[i], err);

		if (rc)
			return rc;
		accept(g, i);
	}
	g->decode_ns = mono_diff(mono_now(), begin);
	return 0;
}

static void print_ids(const char *name, const uint32_t *ids, uint32_t count)
{
	printf("\"%s\":[", name);
	for (uint32_t i = 0; i < count; i++)
		printf("%s%u", i ? "," : "", ids[i]);
	putchar(']');
}

static void print_text(const struct generation *g)
{
	struct eval_decoding decoding = {
		.tokens = {g->ids, g->count},
		.context_count = g->prompt_count,
		.skip_special = true,
	};
	struct error ignored = {0};
	size_t length;
	char *text;

	/* Without memory for it the line has no text; the ids are there. */
	if (eval_text_decode(
		    &g->source.text, &decoding, &text, &length, &ignored))
		return;
	fputs(",\"text\":", stdout);
	eval_print_string(text, length);
	free(text);
}

static void print_generation(const struct generation *g)
{
	uint32_t drawn = g->count - g->prompt_count;

	putchar('{');
	print_ids("ids", g->ids, g->prompt_count);
	putchar(',');
	print_ids("out", g->ids + g->prompt_count, drawn);
	fputs(",\"logprobs\":[", stdout);
	for (uint32_t i = 0; i < drawn; i++) {
		if (i)
			putchar(',');
		eval_print_number((double)g->results[i].logprob);
	}
	putchar(']');
	if (g->options->top_count) {
		fputs(",\"top\":[", stdout);
		for (uint32_t i = 0; i < drawn; i++) {
			if (i)
				putchar(',');
			eval_print_top(&g->results[i]);
		}
		putchar(']');
	}
	if (g->source.text.tokenizer)
		print_text(g);
	printf(",\"finish\":\"%s\"}\n", g->stopped ? "stop" : "length");
	fprintf(stderr,
		"prefill %u tokens in %.1f ms; decode %u tokens, %.3f "
		"ms each\n",
		g->prompt_count, (double)g->prefill_ns / 1e6, drawn - 1,
		drawn > 1 ? (double)g->decode_ns / 1e6 / (drawn - 1) : 0.0);
}

static int allocate(
	struct generation *g, uint32_t room, uint32_t vocab, struct error *err)
{
	uint32_t *ids = reallocarray(g->ids, room, sizeof(*ids));

	if (ids)
		g->ids = ids;
	g->results = calloc(room, sizeof(*g->results));
	g->uses = calloc(room, sizeof(*g->uses));
	g->use_of = calloc(vocab, sizeof(*g->use_of));
	if (!ids || !g->results || !g->uses || !g->use_of)
		return error_set(err, ENOMEM, "no memory for %u tokens", room);
	return 0;
}

static int run(struct generation *g, uint32_t token_max, struct error *err)
{
	int rc;

	choose_params(g);
	for (uint32_t i = 0; i < g->prompt_count; i++)
		note_use(g, g->ids[i], false);
	rc = prefill(g, err);
	if (rc == 0)
		rc = decode(g, token_max, err);
	if (rc == 0)
		print_generation(g);
	return rc;
}

/* "1,2,3" is taken as "[1,2,3]". */
static int parse_ids(const struct eval_options *options, uint32_t vocab,
	struct token_list *out, struct error *err)
{
	size_t length = strlen(options->ids);
	char *text = malloc(length + 3);
	int rc;

	if (!text)
		return error_set(err, ENOMEM, "no memory for --ids");
	snprintf(text, length + 3, options->ids[0] == '[' ? "%s" : "[%s]",
		options->ids);
	rc = eval_parse_ids(text, strlen(text), "--ids", vocab, out, err);
	free(text);
	return rc;
}

static int parse_prompt(const struct eval_options *options, uint32_t vocab,
	struct generation *g, struct error *err)
{
	struct token_list prompt = {0};
	int rc;

	g->source = (struct eval_source){.options = options, .vocab = vocab};
	if (options->text)
		rc = eval_source_text(&g->source, options->text,
			strlen(options->text), "--text", &prompt, err);
	else
		rc = parse_ids(options, vocab, &prompt, err);
	if (rc)
		return rc;
	g->ids = prompt.ids;
	g->prompt_count = g->count = prompt.count;
	return 0;
}

static int generate(struct generation *g, const struct model_config *config,
	struct error *err)
{
	uint32_t token_max = g->options->token_max;
	int rc;

	rc = parse_prompt(g->options, config->vocab, g, err);
	if (rc)
		return rc;
	if (g->prompt_count >= config->position_count)
		return error_set(err, EINVAL,
			"%u tokens leave no room "
			"in the model's %u positions",
			g->prompt_count, config->position_count);
	if (token_max > config->position_count - g->prompt_count)
		token_max = config->position_count - g->prompt_count;
	rc = allocate(g, g->prompt_count + token_max, config->vocab, err);
	if (rc == 0)
		rc = eval_session_open(g->options, g->prompt_count + token_max,
			&g->session, err);
	if (rc)
		return rc;
	if (g->options->adapter_count)
		eval_session_use(&g->session, 0);
	rc = run(g, token_max, err);
	eval_session_close(&g->session);
	return rc;
}

int eval_generate(const struct eval_options *options, struct error *err)
{
	struct generation g = {.options = options};
	struct generation_config generation;
	struct model_config *config;
	int rc;

	if (!options->ids == !options->text)
		return error_set(err, EINVAL,
			"one of --ids 1,2,3 and --text TEXT is needed");
	if (options->adapter_count > 1)
		return error_set(err, EINVAL,
			"generate takes one --adapter, not %u",
			options->adapter_count);
	config = malloc(sizeof(*config));
	if (!config)
		return error_set(err, ENOMEM, "no memory for a configuration");
	rc = eval_read_config(options->model, config, &generation, err);
	if (rc == 0)
		rc = generate(&g, config, err);
	eval_source_close(&g.source);
	free(g.use_of);
	free(g.uses);
	free(g.results);
	free(g.ids);
	free(config);
	return rc;
}
