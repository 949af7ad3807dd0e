/* cpu_peer.c - another engine on the same weights (process -> times) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench/cpu_peer.h"
#include "bench/process.h"

#define LINE_BYTES 1024

static void list_cores(
	const struct cpu_peer_config *config, char *out, size_t size)
{
	size_t at = 0;

	for (uint32_t i = 0; i < config->thread_count && at < size; i++)
		at += (size_t)snprintf(out + at, size - at, "%s%u",
			i ? "," : "", config->cores[i]);
}

static int gone(struct cpu_peer *peer, struct error *err)
{
	return error_set(err, EPIPE, "the peer (%s) ended without an answer",
		peer->config.python);
}

/* --- the driver --- */

static int read_line(struct cpu_peer *peer, char *line, struct error *err)
{
	if (!fgets(line, LINE_BYTES, peer->from))
		return gone(peer, err);
	line[strcspn(line, "\n")] = '\0';
	return 0;
}

static int start_driver(struct cpu_peer *peer, struct error *err)
{
	const struct cpu_peer_config *config = &peer->config;
	char cores[LINE_BYTES], vocab[16], tokens[16], sequences[16];
	char line[LINE_BYTES];
	const char *argv[] = {config->python, config->driver, config->gguf,
		cores, vocab, tokens, sequences, NULL};
	int rc;

	list_cores(config, cores, sizeof(cores));
	snprintf(vocab, sizeof(vocab), "%u", config->vocab);
	snprintf(tokens, sizeof(tokens), "%u", config->token_count);
	snprintf(sequences, sizeof(sequences), "%u", config->sequence_count);
	rc = process_spawn(argv, &peer->process, &peer->to, &peer->from, err);
	if (rc == 0)
		rc = read_line(peer, line, err);
	if (rc)
		return rc;
	if (strncmp(line, "ready ", 6) != 0)
		return error_set(err, EPROTO, "the peer says \"%s\"", line);
	snprintf(peer->name, sizeof(peer->name), "%.60s", line + 6);
	return 0;
}

/* Send a command and read the line of its answer. */
static int converse(
	struct cpu_peer *peer, const char *text, char *line, struct error *err)
{
	if (fprintf(peer->to, "%s\n", text) < 0 || fflush(peer->to))
		return gone(peer, err);
	return read_line(peer, line, err);
}

/* The answer is a time. */
static int ask(struct cpu_peer *peer, const char *text, double *out_seconds,
	struct error *err)
{
	char line[LINE_BYTES];
	int rc = converse(peer, text, line, err);

	if (rc == 0)
		*out_seconds = strtod(line, NULL);
	return rc;
}

/* --- llama-bench --- */

/* Of the one test that was asked for. */
static int take_rate(json_t *root, double *out_rate, struct error *err)
{
	json_t *test = json_array_get(root, 0);
	double rate = json_number_value(json_object_get(test, "avg_ts"));

	if (rate <= 0)
		return error_set(err, EPROTO,
			"llama-bench: no avg_ts in its JSON output");
	*out_rate = rate;
	return 0;
}

/* One test: `prompt` tokens at once, or `count` tokens one by one. */
static int run_llama_bench(struct cpu_peer *peer, uint32_t prompt,
	uint32_t count, double *out_rate, struct error *err)
{
	const struct cpu_peer_config *config = &peer->config;
	char cores[LINE_BYTES], threads[16], prompts[16], counts[16];
	const char *argv[] = {"taskset", "-c", cores, config->llama_bench, "-m",
		config->gguf, "-p", prompts, "-n", counts, "-t", threads, "-r",
		"1", "-o", "json", NULL};
	json_error_t at;
	json_t *root;
	FILE *from = NULL;
	pid_t pid = 0;
	int rc;

	list_cores(config, cores, sizeof(cores));
	snprintf(threads, sizeof(threads), "%u", config->thread_count);
	snprintf(prompts, sizeof(prompts), "%u", prompt);
	snprintf(counts, sizeof(counts), "%u", count);
	rc = process_spawn(argv, &pid, NULL, &from, err);
	if (rc)
		return rc;
	root = json_loadf(from, JSON_DISABLE_EOF_CHECK, &at);
	fclose(from);
	waitpid(pid, NULL, 0);
	if (!root)
		return error_set(err, EPROTO, "%s: no JSON in its output: %s",
			config->llama_bench, at.text);
	rc = take_rate(root, out_rate, err);
	json_decref(root);
	return rc;
}

/* --- both --- */

int cpu_peer_open(struct cpu_peer *peer, const struct cpu_peer_config *config,
	struct error *err)
{
	int rc;

	*peer = (struct cpu_peer){.config = *config};
	if (!config->python) {
		snprintf(peer->name, sizeof(peer->name), "llama-bench");
		return 0;
	}
	rc = start_driver(peer, err);
	if (rc)
		cpu_peer_close(peer);
	return rc;
}

void cpu_peer_close(struct cpu_peer *peer)
{
	/* The driver ends at the end of its input. */
	if (peer->to)
		fclose(peer->to);
	if (peer->from)
		fclose(peer->from);
	if (peer->process)
		waitpid(peer->process, NULL, 0);
	*peer = (struct cpu_peer){0};
}

int cpu_peer_decode(struct cpu_peer *peer, uint32_t sequences, uint32_t steps,
	uint32_t prompt, double *out_rate, struct error *err)
{
	char command[64];
	double seconds = 0;
	int rc;

	*out_rate = 0;
	if (!peer->config.python)
		return sequences == 1
			       ? run_llama_bench(peer, 0, steps, out_rate, err)
			       : 0;
	snprintf(command, sizeof(command), "decode %u %u %u", sequences, steps,
		prompt);
	rc = ask(peer, command, &seconds, err);
	if (rc == 0 && seconds > 0)
		*out_rate = (double)sequences * steps / seconds;
	return rc;
}

int cpu_peer_batch(struct cpu_peer *peer, uint32_t sequences, uint32_t steps,
	uint32_t prompt, double out_seconds[2], struct error *err)
{
	char text[64], line[LINE_BYTES];
	char *end = line;
	int rc;

	snprintf(
		text, sizeof(text), "batch %u %u %u", sequences, steps, prompt);
	rc = converse(peer, text, line, err);
	for (int i = 0; rc == 0 && i < 2; i++)
		out_seconds[i] = strtod(end, &end);
	if (rc == 0 && !(out_seconds[0] > 0 && out_seconds[1] > 0))
		rc = error_set(err, EPROTO, "the peer says \"%s\"", line);
	return rc;
}

int cpu_peer_prefill(struct cpu_peer *peer, uint32_t rows, double *out_rate,
	struct error *err)
{
	char command[64];
	double seconds = 0;
	int rc;

	if (!peer->config.python)
		return run_llama_bench(peer, rows, 0, out_rate, err);
	snprintf(command, sizeof(command), "prefill %u", rows);
	rc = ask(peer, command, &seconds, err);
	*out_rate = rc == 0 && seconds > 0 ? rows / seconds : 0;
	return rc;
}

int cpu_peer_logits(struct cpu_peer *peer, uint32_t rows, const char *scratch,
	float *out, struct error *err)
{
	size_t count = (size_t)rows * peer->config.vocab;
	char command[LINE_BYTES];
	double nothing;
	FILE *file;
	size_t got;
	int rc;

	if (!peer->config.python)
		return error_set(err, ENOTSUP, "llama-bench shows no logits");
	snprintf(command, sizeof(command), "logits %u %.900s", rows, scratch);
	rc = ask(peer, command, &nothing, err);
	if (rc)
		return rc;
	file = fopen(scratch, "re");
	if (!file)
		return error_set(
			err, errno, "%s: %s", scratch, strerror(errno));
	got = fread(out, sizeof(*out), count, file);
	fclose(file);
	(void)unlink(scratch);
	if (got != count)
		return error_set(err, EIO, "%s: too short", scratch);
	return 0;
}
