/* eval.c - heddle-eval: the engine with no server around it (main) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <getopt.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "control/eval.h"

#define CHUNK_ROWS_DEFAULT 64
#define TOKEN_MAX_DEFAULT 64

enum option_key {
	OPTION_MODEL = 256,
	OPTION_BASE,
	OPTION_ADAPTER,
	OPTION_OUT,
	OPTION_KEY,
	OPTION_KEYS,
	OPTION_NAME,
	OPTION_INPUT,
	OPTION_IDS,
	OPTION_TEXT,
	OPTION_PARSE_SPECIAL,
	OPTION_KEEP_SPECIAL,
	OPTION_NO_SPECIAL,
	OPTION_TOP,
	OPTION_KV_DTYPE,
	OPTION_THREADS,
	OPTION_CORES,
	OPTION_CHUNK,
	OPTION_PAGE_SIZE,
	OPTION_MAX_TOKENS,
	OPTION_IGNORE_EOS,
	OPTION_TEMPERATURE,
	OPTION_TOP_K,
	OPTION_TOP_P,
	OPTION_MIN_P,
	OPTION_REPETITION,
	OPTION_PRESENCE,
	OPTION_FREQUENCY,
	OPTION_SEED
};

static const struct option long_options[] = {
	{"model", required_argument, NULL, OPTION_MODEL},
	{"base", required_argument, NULL, OPTION_BASE},
	{"adapter", required_argument, NULL, OPTION_ADAPTER},
	{"out", required_argument, NULL, OPTION_OUT},
	{"key", required_argument, NULL, OPTION_KEY},
	{"keys", required_argument, NULL, OPTION_KEYS},
	{"name", required_argument, NULL, OPTION_NAME},
	{"input", required_argument, NULL, OPTION_INPUT},
	{"ids", required_argument, NULL, OPTION_IDS},
	{"text", required_argument, NULL, OPTION_TEXT},
	{"parse-special", no_argument, NULL, OPTION_PARSE_SPECIAL},
	{"keep-special", no_argument, NULL, OPTION_KEEP_SPECIAL},
	{"no-special", no_argument, NULL, OPTION_NO_SPECIAL},
	{"top", required_argument, NULL, OPTION_TOP},
	{"kv-dtype", required_argument, NULL, OPTION_KV_DTYPE},
	{"threads", required_argument, NULL, OPTION_THREADS},
	{"cores", required_argument, NULL, OPTION_CORES},
	{"chunk", required_argument, NULL, OPTION_CHUNK},
	{"page-size", required_argument, NULL, OPTION_PAGE_SIZE},
	{"max-tokens", required_argument, NULL, OPTION_MAX_TOKENS},
	{"ignore-eos", no_argument, NULL, OPTION_IGNORE_EOS},
	{"temperature", required_argument, NULL, OPTION_TEMPERATURE},
	{"top-k", required_argument, NULL, OPTION_TOP_K},
	{"top-p", required_argument, NULL, OPTION_TOP_P},
	{"min-p", required_argument, NULL, OPTION_MIN_P},
	{"repetition-penalty", required_argument, NULL, OPTION_REPETITION},
	{"presence-penalty", required_argument, NULL, OPTION_PRESENCE},
	{"frequency-penalty", required_argument, NULL, OPTION_FREQUENCY},
	{"seed", required_argument, NULL, OPTION_SEED},
	{"help", no_argument, NULL, 'h'},
	{NULL, 0, NULL, 0},
};

static const char usage[] =
	"usage: heddle-eval score --model DIR --input FILE.jsonl [--top N]\n"
	"       heddle-eval generate --model DIR --ids 1,2,3 | --text TEXT\n"
	"       heddle-eval inspect --model DIR\n"
	"       heddle-eval tokenize|detokenize|chat --model DIR --input FILE\n"
	"       heddle-eval merge --base DIR --adapter DIR --out DIR\n"
	"       heddle-eval diff --base DIR --model DIR --out DIR\n"
	"       heddle-eval sign --key PRIVATE.pem [--name NAME] DIR\n"
	"       heddle-eval verify --keys PATH [--name NAME] DIR\n"
	"\n"
	"score       one JSON line per line of FILE ({\"ids\": [...]} or\n"
	"            {\"text\": \"...\"}, - = standard input): log-probability "
	"of\n"
	"            each token but the first, given those before it; --top N\n"
	"            adds the N likeliest at each position\n"
	"generate    continue the prompt; one JSON line\n"
	"inspect     family, shapes, bytes of each part, what is not used\n"
	"tokenize    {\"text\": ...} to {\"ids\": ...}, line by line\n"
	"detokenize  {\"ids\": ...} to {\"text\": ...}\n"
	"chat        {\"messages\": [...]} to {\"text\": prompt, \"ids\": "
	"...}; "
	"with\n"
	"            \"tools\", \"documents\", \"add_generation_prompt\" "
	"[true],\n"
	"            \"chat_template_kwargs\" where given\n"
	"merge       the base with the adapter's experts in place of its own, "
	"as a\n"
	"            checkpoint in the new directory --out\n"
	"diff        an adapter in the new directory --out from a checkpoint "
	"in\n"
	"            which only routed experts differ from the base's, or why "
	"it\n"
	"            cannot be one\n"
	"sign        write heddle-manifest.json, the size and SHA-256 of every "
	"file\n"
	"            of the adapter in DIR, and heddle-manifest.sig, an "
	"ed25519\n"
	"            signature of it; NAME is the only one it may be loaded "
	"by\n"
	"verify      is every file as it was signed with one of the keys of "
	"PATH (a\n"
	"            file or a directory of *.pem)?\n"
	"\n"
	"all:      --kv-dtype f32|bf16 [f32]  --threads N [cores]\n"
	"          --chunk ROWS [64]          --page-size BYTES [by size]\n"
	"          --cores LIST  bind a thread to each, as in 0-3,8\n"
	"score, generate:\n"
	"          --adapter NAME=DIR  weave this ESFT adapter into the model; "
	"with\n"
	"                      several, a line of score says which: "
	"{\"adapter\":\n"
	"                      \"NAME\" or null for the base, \"ids\": "
	"...}\n"
	"text:     --parse-special  what is written like a special token is "
	"one,\n"
	"                           also in messages\n"
	"          --no-special     add no BOS and the like\n"
	"          --keep-special   detokenize: show special tokens\n"
	"generate: --max-tokens N [64]  --ignore-eos  --seed N [0]\n"
	"          --temperature T [0: greedy]  --top-k N  --top-p P  --min-p "
	"P\n"
	"          --repetition-penalty X  --presence-penalty X\n"
	"          --frequency-penalty X  --top N\n";

static const char *option_name(int key)
{
	for (const struct option *o = long_options; o->name; o++)
		if (o->val == key)
			return o->name;
	return "?";
}

static int parse_count(int key, const char *text, uint64_t max, uint64_t *out,
	struct error *err)
{
	char *end;

	errno = 0;
	*out = strtoull(text, &end, 10);
	if (text[0] < '0' || text[0] > '9' || *end || errno || *out > max)
		return error_set(err, EINVAL,
			"--%s: \"%s\" is not a whole "
			"number from 0 to %llu",
			option_name(key), text, (unsigned long long)max);
	return 0;
}

static int parse_count32(int key, const char *text, uint32_t min, uint32_t max,
	uint32_t *out, struct error *err)
{
	uint64_t value;
	int rc = parse_count(key, text, max, &value, err);

	if (rc)
		return rc;
	if (value < min)
		return error_set(err, EINVAL, "--%s: \"%s\" is less than %u",
			option_name(key), text, min);
	*out = (uint32_t)value;
	return 0;
}

static int parse_real(int key, const char *text, float min, float max,
	float *out, struct error *err)
{
	char *end;
	float value = strtof(text, &end);

	if (end == text || *end || !isfinite(value) || value < min ||
		value > max)
		return error_set(err, EINVAL,
			"--%s: \"%s\" is not a number "
			"from %g to %g",
			option_name(key), text, (double)min, (double)max);
	*out = value;
	return 0;
}

static int parse_dtype(const char *text, enum dtype *out, struct error *err)
{
	if (strcmp(text, "f32") == 0)
		*out = DTYPE_F32;
	else if (strcmp(text, "bf16") == 0)
		*out = DTYPE_BF16;
	else
		return error_set(err, EINVAL,
			"--kv-dtype: \"%s\" is neither "
			"f32 nor bf16",
			text);
	return 0;
}

static int take_sampling(
	struct eval_options *o, int key, const char *text, struct error *err)
{
	struct sample_params *p = &o->sampling;

	o->has_sampling = true;
	switch (key) {
	case OPTION_TEMPERATURE:
		return parse_real(key, text, 0, 100, &p->temperature, err);
	case OPTION_TOP_K:
		return parse_count32(
			key, text, 0, MODEL_VOCAB_MAX, &p->top_k, err);
	case OPTION_TOP_P:
		return parse_real(key, text, 0, 1, &p->top_p, err);
	case OPTION_MIN_P:
		return parse_real(key, text, 0, 1, &p->min_p, err);
	case OPTION_REPETITION:
		return parse_real(
			key, text, 1e-3f, 1e3f, &p->repetition_penalty, err);
	case OPTION_PRESENCE:
		return parse_real(
			key, text, -100, 100, &p->presence_penalty, err);
	case OPTION_FREQUENCY:
		return parse_real(
			key, text, -100, 100, &p->frequency_penalty, err);
	default:
		return error_set(err, EINVAL, "unknown option; see --help");
	}
}

/* Names of files and directories. */
static int take_path(
	struct eval_options *o, int key, const char *text, struct error *err)
{
	switch (key) {
	case OPTION_MODEL:
		o->model = text;
		return 0;
	case OPTION_BASE:
		o->base = text;
		return 0;
	case OPTION_OUT:
		o->out = text;
		return 0;
	case OPTION_KEY:
		o->key = text;
		return 0;
	case OPTION_KEYS:
		o->keys = text;
		return 0;
	case OPTION_NAME:
		o->name = text;
		return 0;
	case OPTION_INPUT:
		o->input = text;
		return 0;
	default:
		return eval_add_adapter(o, text, err);
	}
}

static int take_option(
	struct eval_options *o, int key, const char *text, struct error *err)
{
	switch (key) {
	case OPTION_MODEL:
	case OPTION_BASE:
	case OPTION_OUT:
	case OPTION_KEY:
	case OPTION_KEYS:
	case OPTION_NAME:
	case OPTION_INPUT:
	case OPTION_ADAPTER:
		return take_path(o, key, text, err);
	case OPTION_IDS:
		o->ids = text;
		return 0;
	case OPTION_TEXT:
		o->text = text;
		return 0;
	case OPTION_PARSE_SPECIAL:
		o->parse_special = true;
		return 0;
	case OPTION_KEEP_SPECIAL:
		o->keep_special = true;
		return 0;
	case OPTION_NO_SPECIAL:
		o->no_special = true;
		return 0;
	case OPTION_IGNORE_EOS:
		o->ignore_eos = true;
		return 0;
	case OPTION_TOP:
		return parse_count32(
			key, text, 0, LOGPROB_TOP_MAX, &o->top_count, err);
	case OPTION_KV_DTYPE:
		return parse_dtype(text, &o->kv_type, err);
	case OPTION_THREADS:
		return parse_count32(key, text, 1, 1024, &o->thread_count, err);
	case OPTION_CORES:
		return eval_parse_cores(text, &o->cores, err);
	case OPTION_CHUNK:
		return parse_count32(
			key, text, 1, STEP_ROW_COUNT_MAX, &o->chunk_rows, err);
	case OPTION_PAGE_SIZE:
		return parse_count(
			key, text, UINT64_C(1) << 30, &o->page_size_bytes, err);
	case OPTION_MAX_TOKENS:
		return parse_count32(key, text, 1, MODEL_POSITION_COUNT_MAX,
			&o->token_max, err);
	case OPTION_SEED:
		return parse_count(
			key, text, UINT64_MAX, &o->sampling.seed, err);
	default:
		return take_sampling(o, key, text, err);
	}
}

static int what_is(const char *text, struct error *err)
{
	return error_set(err, EINVAL, "\"%s\": what is that? see --help", text);
}

static int parse_options(
	int argc, char **argv, struct eval_options *out, struct error *err)
{
	int key, rc;

	*out = (struct eval_options){
		.kv_type = DTYPE_F32,
		.chunk_rows = CHUNK_ROWS_DEFAULT,
		.token_max = TOKEN_MAX_DEFAULT,
		.sampling = {.top_p = 1, .repetition_penalty = 1},
	};
	opterr = 0;
	while ((key = getopt_long(argc, argv, "h", long_options, NULL)) != -1) {
		if (key == 'h') {
			fputs(usage, stdout);
			exit(0);
		}
		if (key == '?')
			return error_set(err, EINVAL,
				"\"%s\": unknown option "
				"or missing value; see --help",
				argv[optind - 1]);
		rc = take_option(out, key, optarg, err);
		if (rc)
			return rc;
	}
	if (optind < argc)
		out->directory = argv[optind++];
	if (optind < argc)
		return what_is(argv[optind], err);
	if (out->cores.count && out->thread_count &&
		out->thread_count != out->cores.count)
		return error_set(err, EINVAL,
			"--threads %u, but --cores names %u", out->thread_count,
			out->cores.count);
	if (out->page_size_bytes % PAGE_SIZE_BYTES_MIN)
		return error_set(err, EINVAL,
			"--page-size: %llu is no "
			"multiple of %u",
			(unsigned long long)out->page_size_bytes,
			PAGE_SIZE_BYTES_MIN);
	return 0;
}

enum {
	WITHOUT_MODEL = 1, /* --model DIR is not needed */
	WITH_ADAPTERS = 2, /* --adapter is known */
	WITH_DIRECTORY = 4 /* a word that is no option is expected */
};

static const struct command {
	const char *name;
	int (*run)(const struct eval_options *options, struct error *err);
	unsigned flags;
} commands[] = {
	{"score", eval_score, WITH_ADAPTERS},
	{"generate", eval_generate, WITH_ADAPTERS},
	{"inspect", eval_inspect, 0},
	{"tokenize", eval_tokenize, 0},
	{"detokenize", eval_detokenize, 0},
	{"chat", eval_chat, 0},
	{"merge", eval_merge, WITHOUT_MODEL | WITH_ADAPTERS},
	{"diff", eval_diff, 0},
	{"sign", eval_sign, WITHOUT_MODEL | WITH_DIRECTORY},
	{"verify", eval_verify, WITHOUT_MODEL | WITH_DIRECTORY},
};

static int run_command(
	const struct command *command, int argc, char **argv, struct error *err)
{
	static struct eval_options options; /* a large struct, used once */
	int rc = parse_options(argc, argv, &options, err);

	if (rc)
		return rc;
	if (options.directory && !(command->flags & WITH_DIRECTORY))
		return what_is(options.directory, err);
	if (!options.directory && (command->flags & WITH_DIRECTORY))
		return error_set(err, EINVAL, "the adapter's DIR is missing");
	if (!options.model && !(command->flags & WITHOUT_MODEL))
		return error_set(err, EINVAL, "--model DIR is missing");
	if (options.adapter_count && !(command->flags & WITH_ADAPTERS))
		return error_set(
			err, EINVAL, "%s takes no --adapter", command->name);
	return command->run(&options, err);
}

int main(int argc, char **argv)
{
	struct error err = {0};

	if (argc < 2 || strcmp(argv[1], "--help") == 0 ||
		strcmp(argv[1], "-h") == 0) {
		fputs(usage, argc < 2 ? stderr : stdout);
		return argc < 2 ? 2 : 0;
	}
	for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
		if (strcmp(argv[1], commands[i].name) != 0)
			continue;
		run_command(&commands[i], argc - 1, argv + 1, &err);
		if (!error_is_set(&err) && fflush(stdout) == 0)
			return 0;
		if (!error_is_set(&err))
			error_set(&err, errno, "standard output: %s",
				strerror(errno));
		fprintf(stderr, "heddle-eval: %s\n", err.text);
		return 1;
	}
	fprintf(stderr, "heddle-eval: \"%s\": no such command; see --help\n",
		argv[1]);
	return 2;
}
