/* cpu.c - the CPU back end against the machine and against llama.cpp (main) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tools/bench/bench-cpu.sh calls `model`, converts, and calls `run`. What a
 * limit is: for decoding, the measured read bandwidth over the bytes of
 * weights that a token's step touches (experts counted, not guessed); for the
 * prompt, the measured FMA peak over its multiplications; for loading, the
 * rate at which the file can be read; for the host's work, 50 us.
 */
#include <errno.h>
#include <getopt.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "bench/cpu_attention.h"
#include "bench/cpu_load.h"
#include "bench/cpu_rounds.h"
#include "bench/machine.h"
#include "bench/report.h"
#include "gpu/cpu/gemm_amx.h"

#define HOST_LIMIT_US 50
#define CONTEXT 8192
#define CONTEXT_TINY 512

struct bench {
	bool tiny;
	const char *directory, *json, *svg;
	struct cpu_peer_config peer_config;
	uint32_t thread_count, round_count;
	uint32_t cores[MACHINE_THREAD_COUNT_MAX];
	struct cpu_model model;
	enum cpu_isa isa;
	double read_rate, fma_rate; /* of the machine, per second */
	double tile_rate; /* 0 = no AMX */
	struct cpu_engine engine;
	struct cpu_peer peer;
	bool has_peer;
	char peer_name[CPU_PEER_NAME_BYTES]; /* outlives the peer */
	struct report report;
};

static const char usage[] =
	"usage: cpu model DIR [--tiny]     write the random model\n"
	"       cpu run DIR [options]      measure\n"
	"--tiny              a model of some MB, one round: to try it out\n"
	"--threads N         [one per core]    --rounds N  [5]\n"
	"--json FILE         --svg FILE\n"
	"--gguf FILE         the model for the peer, and either\n"
	"  --python PROGRAM --driver tools/bench/peer.py   or\n"
	"  --llama-bench PROGRAM\n";

static const struct cpu_model full_model = {
	.hidden = 1024,
	.layers = 12,
	.vocab = 32768,
	.heads = 16,
	.kv_heads = 4,
	.head_dim = 128,
	.experts = 48,
	.topk = 8,
	.inter = 384,
	.seed = 1,
};

static const struct cpu_model tiny_model = {
	.hidden = 256,
	.layers = 2,
	.vocab = 1024,
	.heads = 4,
	.kv_heads = 2,
	.head_dim = 64,
	.experts = 8,
	.topk = 2,
	.inter = 96,
	.seed = 1,
};

/* --- the floors --- */

/* Bytes of weights that a decode step reads: everything but the experts that
 * nobody chose and the rows of the embedding. */
static double step_bytes(const struct cpu_model *m, double experts)
{
	return (double)m->layers * (double)cpu_model_layer_bytes(m) +
	       experts * (double)cpu_model_expert_bytes(m) +
	       (double)cpu_model_head_bytes(m);
}

/* Operations of `rows` rows at positions 0, 1, ..: two for each weight (of
 * two bytes), four for each element of each key; logits for the last row. */
static double prompt_flops(const struct cpu_model *m, uint32_t rows)
{
	double weights = (double)cpu_model_layer_bytes(m) +
			 (double)m->topk * (double)cpu_model_expert_bytes(m);
	double keys = 4.0 * m->heads * m->head_dim * (rows + 1) / 2;

	return rows * m->layers * (weights + keys) +
	       (double)cpu_model_head_bytes(m);
}

/* --- rows of the report --- */

static void add_speeds(struct bench *b, const struct cpu_rounds *r,
	const struct cpu_rounds_config *config)
{
	const struct cpu_model *m = &b->model;
	const char *peer = b->has_peer ? b->peer_name : NULL;
	double one = step_bytes(m, (double)m->layers * m->topk);
	double batch = step_bytes(m, r->batch_experts);

	printf("weights touched: %.0f MB by a token, %.0f MB by a step of %d\n",
		one / 1e6, batch / 1e6, CPU_SEQUENCE_COUNT_MAX);
	printf("host: %llu operations in a step, %.0f ns outside for each\n",
		(unsigned long long)r->host_calls,
		r->host_seconds * 1e9 / (double)r->host_calls);
	report_add(&b->report, &(struct report_row){.name = "cpu.decode.b1",
				       .value = r->ours.single,
				       .unit = "tokens/s",
				       .limit = r->floors.single / one,
				       .peer = peer,
				       .peer_value = r->peer.single,
				       .goal_share = 0.85,
				       .goal_factor = 1.15});
	report_add(&b->report, &(struct report_row){.name = "cpu.decode.b8",
				       .value = r->ours.batch,
				       .unit = "tokens/s",
				       .limit = CPU_SEQUENCE_COUNT_MAX *
						r->floors.batch / batch,
				       .peer = r->peer.batch > 0 ? peer : NULL,
				       .peer_value = r->peer.batch,
				       .goal_factor = 1.5});
	report_add(&b->report,
		&(struct report_row){.name = "cpu.prefill.512",
			.value = r->ours.prefill,
			.unit = "tokens/s",
			.limit = r->floors.prefill * config->prefill_rows /
				 prompt_flops(m, config->prefill_rows),
			.peer = peer,
			.peer_value = r->peer.prefill,
			.goal_share = 0.6,
			.goal_factor = 1.3});
	/* Beside the vectors' peak, that of what multiplies: see gemm_amx.h. */
	if (b->tile_rate > 0)
		report_add(&b->report,
			&(struct report_row){.name = "cpu.prefill.512.tiles",
				.value = r->ours.prefill,
				.unit = "tokens/s",
				.limit =
					b->tile_rate / AMX_PARTS *
					config->prefill_rows /
					prompt_flops(m, config->prefill_rows)});
	report_add(&b->report, &(struct report_row){.name = "cpu.host_step",
				       .value = r->host_seconds * 1e6,
				       .unit = "us",
				       .limit = HOST_LIMIT_US,
				       .less_is_better = true,
				       .goal_share = 1});
	report_add(
		&b->report, &(struct report_row){.name = "cpu.host_step.alone",
				    .value = r->host_alone_seconds * 1e6,
				    .unit = "us",
				    .limit = HOST_LIMIT_US,
				    .less_is_better = true,
				    .goal_share = 1});
}

static int add_attention(struct bench *b, struct error *err)
{
	struct cpu_attention_rates rates;
	int rc = cpu_attention_measure(&b->engine.ops, &b->model,
		b->tiny ? CONTEXT_TINY : CONTEXT, &rates, err);

	if (rc)
		return rc;
	report_add(&b->report,
		&(struct report_row){.name = "cpu.attention.8k.decode",
			.value = rates.decode_bytes_per_second / 1e9,
			.unit = "GB/s",
			.limit = b->read_rate / 1e9});
	report_add(&b->report,
		&(struct report_row){.name = "cpu.attention.8k.prefill",
			.value = rates.prefill_flops_per_second / 1e9,
			.unit = "GFLOP/s",
			.limit = b->fma_rate / 1e9});
	return 0;
}

_Static_assert(2 * CPU_ROUND_COUNT_MAX + 1 <= CPU_LOAD_RUN_COUNT_MAX, "turns");

/* Of all that is measured here a disk swings most, by a factor of two. */
static int add_load(struct bench *b, struct error *err)
{
	struct cpu_load_rates rates;
	int rc = cpu_load_measure(b->directory, b->isa, b->thread_count,
		2 * b->round_count + 1, &rates, err);

	if (rc)
		return rc;
	if (rates.direct_file_count == 0)
		printf("load: no O_DIRECT here, files come from the page "
		       "cache\n");
	report_add(&b->report, &(struct report_row){.name = "cpu.load",
				       .value = rates.load / 1e9,
				       .unit = "GB/s",
				       .limit = rates.read / 1e9,
				       .goal_share = 0.8});
	report_add(&b->report, &(struct report_row){.name = "cpu.load.fresh",
				       .value = rates.fresh_load / 1e9,
				       .unit = "GB/s",
				       .limit = rates.read / 1e9});
	return 0;
}

/* --- one run --- */

static int open_peer(struct bench *b, struct error *err)
{
	struct cpu_agreement a;
	char scratch[512];
	int rc;

	if (!b->peer_config.gguf) {
		printf("NO PEER: nothing to compare with "
		       "(tools/bench/setup-peer.sh, or PEER=llama-bench)\n");
		return 0;
	}
	b->peer_config.thread_count = b->thread_count;
	b->peer_config.cores = b->cores;
	b->peer_config.vocab = b->model.vocab;
	b->peer_config.token_count = b->engine.config.token_count;
	b->peer_config.sequence_count = CPU_SEQUENCE_COUNT_MAX;
	rc = cpu_peer_open(&b->peer, &b->peer_config, err);
	if (rc)
		return rc;
	b->has_peer = true;
	memcpy(b->peer_name, b->peer.name, sizeof(b->peer_name));
	printf("peer: %s\n", b->peer.name);
	if (!b->peer_config.python)
		return 0;
	snprintf(scratch, sizeof(scratch), "%s/logits.bin", b->directory);
	rc = cpu_agreement_measure(&b->engine, &b->peer, 64, scratch, &a, err);
	if (rc)
		return rc;
	printf("agreement over %u positions: same best token %u times; logits "
	       "spread %.3f, differ by %.4f on average, %.3f at most\n",
		a.positions, a.same_best, a.deviation, a.difference_mean,
		a.difference_max);
	/* Rounding to bf16 moves logits a little; another model moves them by
	 * as much as they spread. */
	if (!(a.difference_mean < 0.1 * a.deviation))
		return error_set(err, EPROTO,
			"the peer does not compute the same model");
	return 0;
}

/* The better of the two ways to read is the floor. */
static int take_machine(struct bench *b, const struct cpu_rounds *r,
	const struct machine_load *load, struct error *err)
{
	int rc;

	b->read_rate = r->read_rate > r->file_read_rate ? r->read_rate
							: r->file_read_rate;
	b->fma_rate = r->fma_rate;
	printf("machine: %u threads, %s: reads %.2f GB/s (%.2f from a memory "
	       "file), %.1f GFLOP/s\n",
		b->thread_count, machine_isa(), r->read_rate / 1e9,
		r->file_read_rate / 1e9, r->fma_rate / 1e9);
	if (b->isa != CPU_AMX)
		return 0;
	rc = machine_tile_rate(load, &b->tile_rate, err);
	if (rc == 0)
		printf("AMX: %.1f GFLOP/s in bf16, a third of them for rows of "
		       "f32 in %d exact parts\n",
			b->tile_rate / 1e9, AMX_PARTS);
	return rc;
}

static int measure_all(struct bench *b, struct error *err)
{
	struct cpu_rounds_config config = {
		.round_count = b->round_count,
		.prompt_tokens = 16,
		.single_steps = b->tiny ? 4 : 32,
		.batch_steps = b->tiny ? 2 : 16,
		.prefill_rows = 512,
		.machine = {.thread_count = b->thread_count,
			.cores = b->cores,
			.run_count = 3,
			.buffer_bytes = b->tiny ? 16u << 20 : 256u << 20},
	};
	struct cpu_rounds rounds;
	int rc;

	rc = open_peer(b, err);
	if (rc == 0)
		rc = cpu_rounds_run(&b->engine, b->has_peer ? &b->peer : NULL,
			&config, &rounds, err);
	if (rc == 0)
		rc = take_machine(b, &rounds, &config.machine, err);
	if (rc)
		return rc;
	add_speeds(b, &rounds, &config);
	return add_attention(b, err);
}

static int run(struct bench *b, struct error *err)
{
	struct cpu_engine_config config = {
		.directory = b->directory,
		.isa = b->isa,
		.thread_count = b->thread_count,
		.cores = b->cores,
		.row_count = 512,
		.token_count = 1024,
	};
	int rc;

	rc = cpu_engine_open(&b->engine, &b->model, &config, err);
	if (rc)
		return rc;
	printf("ours: %s\n", cpu_isa_name(b->isa));
	rc = measure_all(b, err);
	if (b->has_peer)
		cpu_peer_close(&b->peer);
	cpu_engine_close(&b->engine);
	if (rc == 0)
		rc = add_load(b, err);
	if (rc)
		return rc;
	printf("\n");
	report_print_table(&b->report, stdout);
	printf("\n");
	report_print_bars(&b->report, stdout);
	return report_write(&b->report, b->json, b->svg, err);
}

/* --- options --- */

static int take_option(
	struct bench *b, const char *name, const char *value, struct error *err)
{
	const struct {
		const char *name;
		const char **text;
	} texts[] = {
		{"json", &b->json},
		{"svg", &b->svg},
		{"gguf", &b->peer_config.gguf},
		{"python", &b->peer_config.python},
		{"driver", &b->peer_config.driver},
		{"llama-bench", &b->peer_config.llama_bench},
	};
	unsigned long number;
	char *end;

	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
		if (strcmp(name, texts[i].name) == 0) {
			*texts[i].text = value;
			return 0;
		}
	number = strtoul(value, &end, 10);
	if (end == value || *end || number == 0 ||
		number > MACHINE_THREAD_COUNT_MAX)
		return error_set(err, EINVAL, "--%s %s: no count", name, value);
	if (strcmp(name, "threads") == 0)
		b->thread_count = (uint32_t)number;
	else
		b->round_count = (uint32_t)number;
	if (b->round_count > CPU_ROUND_COUNT_MAX)
		return error_set(err, EINVAL, "--rounds: at most %d",
			CPU_ROUND_COUNT_MAX);
	return 0;
}

static int take_options(
	struct bench *b, int argc, char **argv, struct error *err)
{
	static const struct option options[] = {
		{"tiny", no_argument, NULL, 't'},
		{"threads", required_argument, NULL, 0},
		{"rounds", required_argument, NULL, 0},
		{"json", required_argument, NULL, 0},
		{"svg", required_argument, NULL, 0},
		{"gguf", required_argument, NULL, 0},
		{"python", required_argument, NULL, 0},
		{"driver", required_argument, NULL, 0},
		{"llama-bench", required_argument, NULL, 0},
		{NULL, 0, NULL, 0},
	};
	int key, index, rc = 0;

	while (rc == 0 &&
		(key = getopt_long(argc, argv, "", options, &index)) != -1) {
		if (key == '?')
			return error_set(err, EINVAL, "%s", usage);
		if (key == 't')
			b->tiny = true;
		else
			rc = take_option(b, options[index].name, optarg, err);
	}
	if (rc == 0 && optind != argc)
		rc = error_set(err, EINVAL, "\"%s\"?\n%s", argv[optind], usage);
	if (rc == 0 && !b->peer_config.python != !b->peer_config.driver)
		rc = error_set(err, EINVAL,
			"--python and --driver belong together\n%s", usage);
	return rc;
}

static int main_run(struct bench *b, struct error *err)
{
	cpu_set_t set;
	int rc;

	if (b->thread_count == 0)
		b->thread_count = sched_getaffinity(0, sizeof(set), &set)
					  ? 1
					  : (uint32_t)CPU_COUNT(&set);
	if (b->round_count == 0)
		b->round_count = b->tiny ? 1 : 5;
	rc = cpu_isa_choose(&b->isa, err);
	if (rc == 0)
		rc = machine_cores(b->thread_count, b->cores, err);
	return rc ? rc : run(b, err);
}

int main(int argc, char **argv)
{
	struct bench b = {0};
	struct error err = {0};
	int rc;

	/* A peer that dies is an error of its pipe, not the end of us. */
	signal(SIGPIPE, SIG_IGN);
	setvbuf(stdout, NULL, _IOLBF, 0);
	if (argc < 3) {
		fputs(usage, stderr);
		return 2;
	}
	b.directory = argv[2];
	rc = take_options(&b, argc - 2, argv + 2, &err);
	b.model = b.tiny ? tiny_model : full_model;
	if (rc == 0 && strcmp(argv[1], "model") == 0)
		rc = cpu_model_write(&b.model, b.directory, &err);
	else if (rc == 0 && strcmp(argv[1], "run") == 0)
		rc = main_run(&b, &err);
	else if (rc == 0)
		rc = error_set(&err, EINVAL, "%s: no such command", argv[1]);
	if (rc)
		fprintf(stderr, "bench-cpu: %s\n", err.text);
	return rc ? 1 : 0;
}
