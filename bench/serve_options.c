/* serve_options.c - what a run is to be (command line -> struct) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <getopt.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bench/serve_options.h"

/* One table feeds the parser and the help. name, argument, help. */
#define OPTIONS(X)                                                             \
	X(URL, "url", "URL", "server, http://HOST:PORT[/PREFIX] (required)")   \
	X(MODEL, "model", "NAME[=WEIGHT]",                                     \
		"model to ask for; repeated: several (default: the first one " \
		"that the server lists)")                                      \
	X(MODEL_RANGE, "model-range", "PREFIX:COUNT",                          \
		"models PREFIX0 ... PREFIX(COUNT-1)")                          \
	X(MODEL_LAW, "model-dist", "LAW",                                      \
		"weights, round-robin, power:ALPHA (S-LoRA), zipf:S")          \
	X(ENDPOINT, "endpoint", "completions|chat", "default completions")     \
	X(API_KEY, "api-key", "KEY",                                           \
		"bearer token (default: $OPENAI_API_KEY, if set)")             \
	X(RATE, "request-rate", "R",                                           \
		"requests per second; inf (default): all at once")             \
	X(ARRIVAL, "arrival", "LAW",                                           \
		"poisson (default), constant, gamma (see --burstiness)")       \
	X(BURSTINESS, "burstiness", "B",                                       \
		"gamma's shape, 1/cv^2; 1 is Poisson, less is burstier")       \
	X(CV, "cv", "C", "the same as --burstiness 1/C^2")                     \
	X(CONCURRENCY, "max-concurrency", "N",                                 \
		"closed loop: N requests under way at all times")              \
	X(TRACE, "trace", "FILE",                                              \
		"arrivals and lengths from a trace: BurstGPT CSV or Mooncake " \
		"JSONL")                                                       \
	X(TRACE_SPEED, "trace-speed", "X", "play the trace X times as fast")   \
	X(PROMPTS, "num-prompts", "N",                                         \
		"requests (default 1000, or those of the trace)")              \
	X(WARMUP, "num-warmups", "N", "requests before the run, not counted")  \
	X(DURATION, "duration", "S", "end the run after S seconds")            \
	X(SEED, "seed", "N", "of all that is drawn (default 0)")               \
	X(FILE_PROMPTS, "prompts", "FILE",                                     \
		"JSONL: {\"prompt\"|\"messages\"|\"ids\", \"output_len\"}")    \
	X(INPUT, "random-input-len", "N[:M]",                                  \
		"tokens of random prompts (default 1024)")                     \
	X(OUTPUT, "random-output-len", "N[:M]",                                \
		"tokens asked for (default 128)")                              \
	X(VOCAB, "vocab", "N",                                                 \
		"random ids are below N (default: ids that /tokenize gives)")  \
	X(IGNORE_EOS, "ignore-eos", NULL, "every answer has its full length")  \
	X(NO_STREAM, "no-stream", NULL, "whole answers, no events")            \
	X(NO_USAGE, "no-usage", NULL, "do not ask for usage in streams")       \
	X(EXACT, "exact-chunks", NULL,                                         \
		"the server sends a chunk per token: anything else is a "      \
		"fault")                                                       \
	X(EXTRA, "extra-body", "JSON", "members for every request's body")     \
	X(GOODPUT, "goodput", "LIMITS", "\"ttft:200 tpot:50 e2el:5000\" (ms)") \
	X(RESULT, "result", "FILE", "write vLLM's result JSON")                \
	X(DETAIL, "detail", NULL, "with times and texts of every request")     \
	X(HTML, "html", "FILE", "write a report with plots")                   \
	X(LABEL, "label", "TEXT", "kept in the result")                        \
	X(TIMEOUT, "timeout", "S", "of one request (default 600)")             \
	X(RETRY, "retry", "N", "send again after 429, up to N times")          \
	X(CONNECTIONS, "connections", "N",                                     \
		"most connections at once (default: what descriptors allow)")  \
	X(FRESH, "fresh", NULL, "a new connection for every request")          \
	X(THREADS, "threads", "N", "client loops (default 1)")                 \
	X(MEMORY, "memory-max", "MIB",                                         \
		"refuse runs that need more (default 4096)")                   \
	X(QUIET, "quiet", NULL, "no progress line")                            \
	X(HELP, "help", NULL, "this text")

#define OPTION_ENUM(name, text, argument, help) OPTION_##name,
#define OPTION_ROW(name, text, argument, help) {text, argument, help},

enum option_id { OPTIONS(OPTION_ENUM) OPTION_COUNT };

struct option_row {
	const char *name, *argument, *help;
};

static const struct option_row rows[OPTION_COUNT] = {OPTIONS(OPTION_ROW)};

static int refuse(struct error *err, enum option_id id, const char *text)
{
	return error_set(err, EINVAL, "--%s: \"%s\" is not %s", rows[id].name,
		text, rows[id].argument);
}

static bool real(const char *text, double low, double high, double *out)
{
	char *end;

	*out = strtod(text, &end);
	return end != text && *end == '\0' && isfinite(*out) && *out >= low &&
	       *out <= high;
}

static bool whole(const char *text, uint64_t low, uint64_t high, uint64_t *out)
{
	char *end;

	if (*text < '0' || *text > '9')
		return false;
	errno = 0;
	*out = strtoull(text, &end, 10);
	return errno == 0 && *end == '\0' && *out >= low && *out <= high;
}

static bool whole32(
	const char *text, uint32_t low, uint32_t high, uint32_t *out)
{
	uint64_t value;

	if (!whole(text, low, high, &value))
		return false;
	*out = (uint32_t)value;
	return true;
}

/* "N" or "N:M", 1 <= N <= M. */
static bool range(const char *text, struct serve_range *out)
{
	char low[16];
	size_t length = strcspn(text, ":");
	const uint32_t most = 1u << 24;

	if (length >= sizeof(low))
		return false;
	memcpy(low, text, length);
	low[length] = '\0';
	if (!whole32(low, 1, most, &out->low))
		return false;
	out->high = out->low;
	return text[length] == '\0' ||
	       whole32(text + length + 1, out->low, most, &out->high);
}

int serve_options_add_model(
	struct serve_options *options, const char *name, double weight)
{
	struct serve_model *models;

	if (options->model_count == SERVE_MODEL_COUNT_MAX || *name == '\0')
		return -EINVAL;
	models = reallocarray(
		options->models, options->model_count + 1, sizeof(*models));
	if (!models)
		return -ENOMEM;
	options->models = models;
	models[options->model_count].name = strdup(name);
	models[options->model_count].weight = weight;
	if (!models[options->model_count].name)
		return -ENOMEM;
	options->model_count++;
	return 0;
}

static bool add_model(struct serve_options *options, const char *text)
{
	const char *sign = strrchr(text, '=');
	double weight = 1;
	char name[256];
	size_t length = sign ? (size_t)(sign - text) : strlen(text);

	if (length >= sizeof(name) ||
		(sign && (!real(sign + 1, 0, 1e9, &weight) || weight <= 0)))
		return false;
	memcpy(name, text, length);
	name[length] = '\0';
	return serve_options_add_model(options, name, weight) == 0;
}

static bool add_range(struct serve_options *options, const char *text)
{
	const char *colon = strrchr(text, ':');
	uint32_t count;
	char name[256];

	if (!colon || !whole32(colon + 1, 1, SERVE_MODEL_COUNT_MAX, &count))
		return false;
	for (uint32_t i = 0; i < count; i++) {
		int length = snprintf(name, sizeof(name), "%.*s%u",
			(int)(colon - text), text, i);

		if (length >= (int)sizeof(name) ||
			serve_options_add_model(options, name, 1))
			return false;
	}
	return true;
}

static bool set_law(struct serve_options *options, const char *text)
{
	if (strcmp(text, "weights") == 0)
		options->law = SERVE_MODELS_WEIGHTED;
	else if (strcmp(text, "round-robin") == 0)
		options->law = SERVE_MODELS_ROUND_ROBIN;
	else if (strncmp(text, "power:", 6) == 0)
		options->law = SERVE_MODELS_POWER;
	else if (strncmp(text, "zipf:", 5) == 0)
		options->law = SERVE_MODELS_ZIPF;
	else
		return false;
	if (strchr(text, ':'))
		return real(strchr(text, ':') + 1, 1e-3, 100,
			&options->law_parameter);
	return true;
}

static bool set_rate(struct serve_options *options, const char *text)
{
	if (strcmp(text, "inf") == 0) {
		options->arrivals.rate = 0;
		return true;
	}
	return real(text, 1e-6, 1e7, &options->arrivals.rate);
}

static bool set_arrival(struct serve_options *options, const char *text)
{
	if (strcmp(text, "poisson") == 0)
		options->arrivals.kind = SERVE_POISSON;
	else if (strcmp(text, "constant") == 0)
		options->arrivals.kind = SERVE_CONSTANT;
	else if (strcmp(text, "gamma") == 0)
		options->arrivals.kind = SERVE_GAMMA;
	else
		return false;
	return true;
}

static bool set_cv(struct serve_options *options, const char *text)
{
	double cv;

	if (!real(text, 1e-3, 1e3, &cv))
		return false;
	options->arrivals.burstiness = 1 / (cv * cv);
	options->arrivals.kind = SERVE_GAMMA;
	return true;
}

bool serve_goodput_is_set(const struct serve_goodput *goodput)
{
	return goodput->ttft_ms > 0 || goodput->tpot_ms > 0 ||
	       goodput->e2el_ms > 0;
}

int serve_goodput_parse(
	const char *text, struct serve_goodput *out, struct error *err)
{
	static const char *const names[] = {"ttft:", "tpot:", "e2el:"};
	double *const places[] = {&out->ttft_ms, &out->tpot_ms, &out->e2el_ms};
	const char *at = text + strspn(text, " ,");

	memset(out, 0, sizeof(*out));
	while (*at) {
		bool known = false;

		for (int i = 0; i < 3 && !known; i++) {
			char *end;

			if (strncmp(at, names[i], 5) != 0)
				continue;
			*places[i] = strtod(at + 5, &end);
			known = end != at + 5 && isfinite(*places[i]) &&
				*places[i] > 0 && strchr(" ,", *end);
			at = end + strspn(end, " ,");
		}
		if (!known)
			return error_set(err, EINVAL,
				"--goodput: \"%s\": want ttft:MS, tpot:MS or "
				"e2el:MS",
				text);
	}
	return 0;
}

/* --- one option ------------------------------------------------------------ */

/* Options that say which requests there are. */
static bool set_load(
	struct serve_options *options, enum option_id id, const char *text)
{
	switch (id) {
	case OPTION_MODEL:
		return add_model(options, text);
	case OPTION_MODEL_RANGE:
		return add_range(options, text);
	case OPTION_MODEL_LAW:
		return set_law(options, text);
	case OPTION_ENDPOINT:
		options->chat = strcmp(text, "chat") == 0;
		return options->chat || strcmp(text, "completions") == 0;
	case OPTION_RATE:
		return set_rate(options, text);
	case OPTION_ARRIVAL:
		return set_arrival(options, text);
	case OPTION_BURSTINESS:
		options->arrivals.kind = SERVE_GAMMA;
		return real(text, 1e-6, 1e6, &options->arrivals.burstiness);
	case OPTION_CV:
		return set_cv(options, text);
	case OPTION_TRACE_SPEED:
		return real(text, 1e-6, 1e6, &options->trace_speed);
	case OPTION_INPUT:
		return range(text, &options->input);
	case OPTION_OUTPUT:
		return range(text, &options->output);
	case OPTION_SEED:
		return whole(text, 0, UINT64_MAX, &options->seed);
	default:
		return false;
	}
}

/* Plain numbers. */
static bool set_number(
	struct serve_options *options, enum option_id id, const char *text)
{
	const uint32_t most = 10000000;
	uint64_t mib;

	switch (id) {
	case OPTION_CONCURRENCY:
		return whole32(text, 1, most, &options->max_concurrency);
	case OPTION_PROMPTS:
		return whole32(text, 1, most, &options->prompt_count);
	case OPTION_WARMUP:
		return whole32(text, 0, most, &options->warmup_count);
	case OPTION_DURATION:
		return real(text, 1e-3, 1e7, &options->duration_s);
	case OPTION_VOCAB:
		return whole32(text, 2, 1u << 22, &options->vocab);
	case OPTION_TIMEOUT:
		return real(text, 1e-3, 1e6, &options->timeout_s);
	case OPTION_RETRY:
		return whole32(text, 0, 255, &options->retry_max);
	case OPTION_CONNECTIONS:
		return whole32(text, 1, most, &options->connection_max);
	case OPTION_THREADS:
		return whole32(text, 1, SERVE_THREAD_COUNT_MAX,
			&options->thread_count);
	case OPTION_MEMORY:
		if (!whole(text, 1, 1u << 24, &mib))
			return false;
		options->memory_max_bytes = mib << 20;
		return true;
	default:
		return set_load(options, id, text);
	}
}

/* Options that are a text or a yes. */
static bool set_plain(
	struct serve_options *options, enum option_id id, const char *text)
{
	const char **texts[OPTION_COUNT] = {[OPTION_URL] = &options->url,
		[OPTION_API_KEY] = &options->api_key,
		[OPTION_TRACE] = &options->trace,
		[OPTION_FILE_PROMPTS] = &options->prompts,
		[OPTION_EXTRA] = &options->extra_body,
		[OPTION_RESULT] = &options->result,
		[OPTION_HTML] = &options->html,
		[OPTION_LABEL] = &options->label};
	bool *flags[OPTION_COUNT] = {[OPTION_IGNORE_EOS] = &options->ignore_eos,
		[OPTION_NO_STREAM] = &options->no_stream,
		[OPTION_NO_USAGE] = &options->no_usage,
		[OPTION_EXACT] = &options->exact_chunks,
		[OPTION_DETAIL] = &options->detail,
		[OPTION_FRESH] = &options->fresh,
		[OPTION_QUIET] = &options->quiet};

	if (texts[id])
		*texts[id] = text;
	else if (flags[id])
		*flags[id] = true;
	return texts[id] || flags[id];
}

static int set_option(struct serve_options *options, enum option_id id,
	const char *text, struct error *err)
{
	if (id == OPTION_HELP)
		return 1;
	if (id == OPTION_GOODPUT)
		return serve_goodput_parse(text, &options->goodput, err);
	if (set_plain(options, id, text) || set_number(options, id, text))
		return 0;
	return refuse(err, id, text);
}

/* --- all of them ----------------------------------------------------------- */

/* What contradicts itself. */
static int check(struct serve_options *options, struct error *err)
{
	if (!options->url)
		return error_set(err, EINVAL, "--url is missing");
	if (options->trace && options->prompts)
		return error_set(err, EINVAL,
			"--trace and --prompts: a trace has lengths of its "
			"own");
	if (options->max_concurrency && options->arrivals.rate > 0)
		return error_set(err, EINVAL,
			"--max-concurrency and --request-rate: a closed loop "
			"has no rate");
	if (options->max_concurrency && options->trace)
		return error_set(err, EINVAL,
			"--max-concurrency and --trace: a closed loop has no "
			"arrivals");
	if (options->arrivals.rate <= 0)
		options->arrivals.kind = SERVE_AT_ONCE;
	options->arrivals.seed = options->seed;
	return 0;
}

static void defaults(struct serve_options *out)
{
	memset(out, 0, sizeof(*out));
	out->api_key = getenv("OPENAI_API_KEY");
	out->arrivals.kind = SERVE_POISSON;
	out->arrivals.burstiness = 1;
	out->trace_speed = 1;
	out->timeout_s = 600;
	out->thread_count = 1;
	out->memory_max_bytes = UINT64_C(4) << 30;
}

int serve_options_parse(
	int argc, char **argv, struct serve_options *out, struct error *err)
{
	struct option table[OPTION_COUNT + 1] = {{0}};
	int rc = 0, id;

	defaults(out);
	for (int i = 0; i < OPTION_COUNT; i++)
		table[i] = (struct option){.name = rows[i].name,
			.has_arg = rows[i].argument ? required_argument
						    : no_argument,
			.val = 256 + i};
	optind = 0;
	opterr = 0;
	while (rc == 0 &&
		(id = getopt_long(argc, argv, "+", table, NULL)) != -1) {
		if (id < 256)
			rc = error_set(err, EINVAL,
				"%s: unknown, or its value is missing",
				argv[optind - 1]);
		else
			rc = set_option(
				out, (enum option_id)(id - 256), optarg, err);
	}
	if (rc == 0 && optind < argc)
		rc = error_set(err, EINVAL, "\"%s\": no option", argv[optind]);
	if (rc == 0)
		rc = check(out, err);
	if (rc)
		serve_options_release(out);
	return rc;
}

void serve_options_release(struct serve_options *options)
{
	for (uint32_t i = 0; i < options->model_count; i++)
		free(options->models[i].name);
	free(options->models);
	options->models = NULL;
	options->model_count = 0;
}

void serve_options_help(FILE *out)
{
	fprintf(out, "usage: heddle-bench serve --url URL [OPTION...]\n\n");
	for (int i = 0; i < OPTION_COUNT; i++) {
		char name[64];

		snprintf(name, sizeof(name), "--%s %s", rows[i].name,
			rows[i].argument ? rows[i].argument : "");
		fprintf(out, "  %-30s %s\n", name, rows[i].help);
	}
}
