/* eval_score.c - log-probabilities of given tokens (JSON lines -> JSON lines) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A token's log-probability comes from the sampling operation itself, asked
 * to draw under a mask that allows only that token: the same path that
 * serving takes.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "control/eval_text.h"

struct sequence {
	struct token_list tokens; /* owned */
	uint32_t adapter; /* of the options, or EVAL_ADAPTER_BASE */
};

struct sequences {
	struct sequence *list; /* owned */
	size_t count, room;
	uint32_t longest;
};

struct scoring {
	const struct eval_options *options;
	struct eval_session session;
	uint32_t *masks; /* [chunk_rows][mask_words], all zero between rows */
	uint32_t mask_words;
	struct sample_result *results; /* [longest] */
};

static void release_sequences(struct sequences *all)
{
	for (size_t i = 0; i < all->count; i++)
		free(all->list[i].tokens.ids);
	free(all->list);
}

static int add_sequence(struct sequences *all, const struct sequence *sequence)
{
	if (all->count == all->room) {
		size_t room = all->room ? 2 * all->room : 64;
		struct sequence *list =
			reallocarray(all->list, room, sizeof(*list));

		if (!list)
			return -ENOMEM;
		all->list = list;
		all->room = room;
	}
	all->list[all->count++] = *sequence;
	if (sequence->tokens.count > all->longest)
		all->longest = sequence->tokens.count;
	return 0;
}

struct reading {
	struct eval_source source;
	const struct model_config *config;
	struct sequences *all;
};

static int take_line(void *arg, const char *line, size_t length,
	const char *where, struct error *err)
{
	struct reading *reading = arg;
	struct sequence sequence = {0};
	int rc;

	rc = eval_source_line(
		&reading->source, line, length, where, &sequence.tokens, err);
	if (rc)
		return rc;
	rc = eval_adapter_of_line(reading->source.options, line, length, where,
		&sequence.adapter, err);
	if (rc == 0 && sequence.tokens.count > reading->config->position_count)
		rc = error_set(err, EINVAL,
			"%s: %u tokens, but the model has %u positions", where,
			sequence.tokens.count, reading->config->position_count);
	if (rc == 0 && add_sequence(reading->all, &sequence))
		rc = error_set(
			err, ENOMEM, "%s: no memory for the line", where);
	if (rc)
		free(sequence.tokens.ids);
	return rc;
}

/* All lines are read and checked before the model is loaded. */
static int read_input(const struct eval_options *options,
	const struct model_config *config, struct sequences *out,
	struct error *err)
{
	struct reading reading = {
		.source = {.options = options, .vocab = config->vocab},
		.config = config,
		.all = out,
	};
	int rc = eval_each_line(options->input, take_line, &reading, err);

	eval_source_close(&reading.source);
	return rc;
}

/* One chunk of rows; results land in scoring->results[first ...]. */
static int score_chunk(struct scoring *s, const struct token_list *sequence,
	uint32_t first, uint32_t count, struct error *err)
{
	struct step *step = &s->session.step;
	int rc;

	eval_session_fill(&s->session, sequence->ids, first, count);
	for (uint32_t row = 0; row < count; row++) {
		uint32_t *mask = s->masks + (size_t)row * s->mask_words;
		struct sample_params params = {
			.top_p = 1,
			.repetition_penalty = 1,
			.position = first + row + 1,
			.top_count = s->options->top_count,
		};

		if (first + row + 1 < sequence->count) {
			uint32_t next = sequence->ids[first + row + 1];

			mask[next / 32] |= UINT32_C(1) << (next % 32);
			params.mask = mask;
		}
		step_add_sample(step, row, &params);
	}
	rc = forward_run(s->session.forward, step, err);
	memset(s->masks, 0, (size_t)count * s->mask_words * sizeof(*s->masks));
	if (rc)
		return rc;
	for (uint32_t row = 0; row < count; row++) {
		if (step->result[row].token == UINT32_MAX)
			return error_set(err, EDOM,
				"position %u: the logits "
				"are not numbers",
				first + row);
		s->results[first + row] = step->result[row];
	}
	return 0;
}

static void print_scores(
	const struct scoring *s, const struct token_list *sequence)
{
	fputs("{\"ids\":[", stdout);
	for (uint32_t i = 0; i < sequence->count; i++)
		printf("%s%u", i ? "," : "", sequence->ids[i]);
	fputs("],\"logprobs\":[", stdout);
	for (uint32_t i = 0; i + 1 < sequence->count; i++) {
		if (i)
			putchar(',');
		eval_print_number((double)s->results[i].logprob);
	}
	putchar(']');
	if (s->options->top_count) {
		fputs(",\"top\":[", stdout);
		for (uint32_t i = 0; i < sequence->count; i++) {
			if (i)
				putchar(',');
			eval_print_top(&s->results[i]);
		}
		putchar(']');
	}
	fputs("}\n", stdout);
	fflush(stdout);
}

static int score_sequence(
	struct scoring *s, const struct token_list *sequence, struct error *err)
{
	uint32_t chunk = s->options->chunk_rows;
	int rc;

	rc = eval_session_grow(&s->session, sequence->count, err);
	for (uint32_t at = 0; rc == 0 && at < sequence->count; at += chunk) {
		uint32_t left = sequence->count - at;

		rc = score_chunk(
			s, sequence, at, left < chunk ? left : chunk, err);
	}
	if (rc == 0)
		print_scores(s, sequence);
	eval_session_reset(&s->session);
	return rc;
}

static int score_all(
	struct scoring *s, const struct sequences *all, struct error *err)
{
	int rc;

	s->mask_words = (uint32_t)div_up(s->session.model->config.vocab, 32);
	s->masks = calloc((size_t)s->options->chunk_rows * s->mask_words,
		sizeof(*s->masks));
	s->results = calloc(all->longest + 1, sizeof(*s->results));
	rc = s->masks && s->results
		     ? 0
		     : error_set(err, ENOMEM, "no memory for %u results",
			       all->longest);
	for (size_t i = 0; rc == 0 && i < all->count; i++) {
		eval_session_use(&s->session, all->list[i].adapter);
		rc = score_sequence(s, &all->list[i].tokens, err);
		if (rc)
			error_prefix(err, "%s: line %zu of the input",
				s->options->input, i + 1);
	}
	free(s->results);
	free(s->masks);
	return rc;
}

int eval_score(const struct eval_options *options, struct error *err)
{
	struct scoring scoring = {.options = options};
	struct sequences all = {0};
	struct generation_config generation;
	struct model_config *config;
	int rc;

	if (!options->input)
		return error_set(err, EINVAL, "--input FILE.jsonl is missing");
	config = malloc(sizeof(*config));
	if (!config)
		return error_set(err, ENOMEM, "no memory for a configuration");
	rc = eval_read_config(options->model, config, &generation, err);
	if (rc == 0)
		rc = read_input(options, config, &all, err);
	free(config);
	if (rc == 0)
		rc = eval_session_open(
			options, all.longest, &scoring.session, err);
	if (rc == 0) {
		rc = score_all(&scoring, &all, err);
		eval_session_close(&scoring.session);
	}
	release_sequences(&all);
	return rc;
}
