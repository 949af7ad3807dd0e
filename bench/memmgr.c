/* memmgr.c - heddle-bench memmgr: what adapters cost in memory and time */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Two parts. The true shape of DeepSeek-V2-Lite with 40,000 pages of 2 MiB,
 * real policy code, no bytes: waste of each published adapter, the time that
 * the policy takes to map and unmap one, and the tokens of KV that are left
 * of a budget beside 1 to 20 adapters, woven, padded and merged. And real
 * bytes on a scaled model: a whole load and unload through files, against
 * memcpy of as many bytes.
 *   woven   base + each adapter's runs (the four published ones in turn)
 *   padded  base + for each adapter as many slots in every layer as the
 *           widest layer of any of them has
 *   merged  a whole model for each adapter
 */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/clock.h"
#include "bench/median.h"
#include "bench/memmgr.h"
#include "bench/memmgr_load.h"
#include "bench/memmgr_model.h"
#include "bench/memmgr_overhead.h"
#include "bench/report.h"
#include "tests/esft_counts.h"

#define PAGES 40000u
#define ROUNDS 51
#define WASTE_LIMIT_PERCENT 1.5
#define CAPACITY_GOAL 0.985
#define LOAD_GOAL 0.8 /* of memcpy */
#define GB UINT64_C(1000000000)

struct bench {
	const char *json, *svg;
	uint64_t overhead_bytes; /* of the engine beside weights and KV */
	bool overhead_given; /* else it is measured */
	struct report report;
};

static const char usage[] =
	"usage: heddle-bench memmgr [--overhead MIB] [--json FILE] "
	"[--svg FILE]\n"
	"Waste, map and unmap, load and unload, and KV tokens beside "
	"adapters.\n"
	"--overhead MIB  what the engine needs beside weights and KV "
	"[measured]\n";

/* ---- one adapter ---- */

static int time_adapter(struct bench *b, struct memmgr_run *run, uint32_t which)
{
	const char *name = esft_counts[which].name;
	double map_us[ROUNDS], unmap_us[ROUNDS], waste = 0;

	for (int i = 0; i < ROUNDS; i++) {
		struct mono begin = mono_now(), middle;
		struct expert_books books;
		uint32_t instance;
		int rc = memmgr_add(run, which, &instance, NULL);

		if (rc)
			return rc;
		middle = mono_now();
		expert_store_books(run->store, &books);
		waste = 100 * ((double)books.adapter_page_bytes /
					      (double)books.adapter_used_bytes -
				      1);
		map_us[i] = (double)mono_diff(middle, begin) / 1e3;
		begin = mono_now();
		rc = expert_store_remove(run->store, instance);
		if (rc)
			return rc;
		unmap_us[i] = (double)mono_diff(mono_now(), begin) / 1e3;
	}
	report_add_named(&b->report,
		&(struct report_row){.value = waste,
			.unit = "%",
			.limit = WASTE_LIMIT_PERCENT,
			.less_is_better = true},
		"memmgr.waste.%s", name);
	report_add_named(&b->report,
		&(struct report_row){.value = median(map_us, ROUNDS),
			.unit = "us",
			.less_is_better = true},
		"memmgr.map.%s", name);
	report_add_named(&b->report,
		&(struct report_row){.value = median(unmap_us, ROUNDS),
			.unit = "us",
			.less_is_better = true},
		"memmgr.unmap.%s", name);
	return 0;
}

static int time_adapters(struct bench *b, struct error *err)
{
	uint32_t base_pages = (uint32_t)memmgr_base_pages();
	struct memmgr_run run;
	int rc = memmgr_open(&run, PAGES - base_pages, err);

	if (rc)
		return rc;
	for (uint32_t i = 0; rc == 0 && i < ESFT_ADAPTER_COUNT; i++)
		rc = time_adapter(b, &run, i);
	memmgr_close(&run);
	return rc ? error_set(err, -rc, "an adapter could not be mapped") : 0;
}

/* ---- capacity ---- */

struct capacity {
	uint64_t budget_bytes; /* without the engine's overhead */
	uint32_t adapters;
	uint64_t base_bytes, tuned_bytes;
	uint32_t widest;
};

static struct capacity describe(
	const struct bench *b, uint64_t budget, uint32_t adapters)
{
	struct capacity c = {
		.budget_bytes = budget - b->overhead_bytes,
		.adapters = adapters,
		.base_bytes = memmgr_base_bytes(),
	};

	for (uint32_t i = 0; i < adapters; i++) {
		c.tuned_bytes += memmgr_total(i) * MEMMGR_SLOT_BYTES;
		if (memmgr_widest(i) > c.widest)
			c.widest = memmgr_widest(i);
	}
	return c;
}

/* Tokens in what `bytes` leave of the budget. */
static uint64_t tokens_beside(const struct capacity *c, uint64_t bytes)
{
	if (bytes >= c->budget_bytes)
		return 0;
	return memmgr_tokens((c->budget_bytes - bytes) / MEMMGR_PAGE_BYTES);
}

/* The real pool, with the real runs in it: free pages, 0 when they do not fit. */
static int measure_woven(
	const struct capacity *c, uint64_t *out_pages, struct error *err)
{
	uint64_t pages = c->budget_bytes / MEMMGR_PAGE_BYTES;
	uint64_t base = memmgr_base_pages();
	struct memmgr_run run;
	uint32_t instance;
	int rc;

	*out_pages = 0;
	if (pages <= base)
		return 0;
	rc = memmgr_open(&run, (uint32_t)(pages - base), err);
	for (uint32_t i = 0; rc == 0 && i < c->adapters; i++)
		rc = memmgr_add(&run, i, &instance, NULL);
	if (rc == 0)
		*out_pages = page_pool_count(run.pool, PAGE_FREE);
	memmgr_close(&run);
	return rc == -ENOMEM ? 0 : rc;
}

/*
 * Where the bytes are that hold no token: the last page of each adapter, of
 * the base (its layers fill theirs) and of the budget is not full, and no block
 * of KV is. The first part does not shrink with what is left: at most a page
 * for each adapter and two more, whatever the budget; the second is a share.
 */
static void print_loss(
	uint64_t left, uint64_t pages, uint64_t tokens, uint32_t adapters)
{
	uint64_t page_bytes = pages * MEMMGR_PAGE_BYTES;

	printf("      %.1f MB are left; last pages take %.1f MB (at most "
	       "%.1f), blocks of KV %.1f MB\n",
		(double)left / 1e6, (double)(left - page_bytes) / 1e6,
		(double)((adapters + 2) * MEMMGR_PAGE_BYTES) / 1e6,
		(double)(page_bytes - tokens * MEMMGR_TOKEN_BYTES) / 1e6);
}

static int measure_capacity(struct bench *b, uint64_t budget_gb,
	uint32_t adapters, struct error *err)
{
	struct capacity c = describe(b, budget_gb * GB, adapters);
	uint64_t padded = c.base_bytes + (uint64_t)adapters * MEMMGR_LAYERS *
						 c.widest * MEMMGR_SLOT_BYTES;
	uint64_t pages, woven, left = 0, limit;
	int rc = measure_woven(&c, &pages, err);

	if (rc)
		return rc;
	woven = memmgr_tokens(pages);
	if (c.base_bytes + c.tuned_bytes < c.budget_bytes)
		left = c.budget_bytes - c.base_bytes - c.tuned_bytes;
	limit = left / MEMMGR_TOKEN_BYTES;
	printf("%3" PRIu64 " GB %3u adapters  woven %8" PRIu64
	       "  (%.4f of what bytes allow)  padded %8" PRIu64
	       "  merged %8" PRIu64 "\n",
		budget_gb, adapters, woven,
		limit ? (double)woven / (double)limit : 0,
		tokens_beside(&c, padded),
		tokens_beside(&c, c.base_bytes * adapters));
	if ((double)woven < CAPACITY_GOAL * (double)limit)
		print_loss(left, pages, woven, adapters);
	report_add_named(&b->report,
		&(struct report_row){.value = (double)woven,
			.unit = "tokens",
			.limit = (double)limit,
			.goal_share = CAPACITY_GOAL,
			.peer = "padded",
			.peer_value = (double)tokens_beside(&c, padded)},
		"memmgr.kv.%" PRIu64 "gb.%u", budget_gb, adapters);
	return 0;
}

static int measure_capacities(struct bench *b, struct error *err)
{
	static const uint64_t budgets[] = {48, 64, 80};
	int rc = 0;

	for (size_t i = 0; i < 3; i++)
		for (uint32_t n = 1; rc == 0 && n <= 20; n++)
			rc = measure_capacity(b, budgets[i], n, err);
	return rc;
}

/* ---- real bytes ---- */

static int measure_load(struct bench *b, enum weight_layout layout,
	const char *name, struct error *err)
{
	struct memmgr_load load;
	int rc = memmgr_load_measure(layout, &load, err);

	if (rc)
		return rc;
	printf("real bytes: an adapter of %.0f MB, %u experts, from the page "
	       "cache into %s by one thread; %u loads\n",
		(double)load.adapter_bytes / 1e6, load.expert_count, name,
		load.round_count);
	report_add_named(&b->report,
		&(struct report_row){.value = load.load_rate / 1e9,
			.unit = "GB/s",
			.limit = load.copy_rate / 1e9,
			.goal_share = LOAD_GOAL},
		"memmgr.load.%s", name);
	report_add_named(&b->report,
		&(struct report_row){.value = load.unload_ns / 1e3,
			.unit = "us",
			.less_is_better = true},
		"memmgr.unload.%s", name);
	return 0;
}

static int measure_overhead(struct bench *b, struct error *err)
{
	uint32_t movable = PAGES - (uint32_t)memmgr_base_pages();
	struct memmgr_overhead o;
	int rc = memmgr_overhead_measure(movable, &o, err);

	if (rc)
		return rc;
	printf("overhead of an engine with %u pages: %.1f MB of books, %.1f MB "
	       "of activations for steps of %u rows of %u sequences\n",
		PAGES, (double)o.book_bytes / 1e6,
		(double)o.activation_bytes / 1e6, o.row_count,
		o.sequence_count);
	report_add_named(&b->report,
		&(struct report_row){.value = (double)o.book_bytes / 1e6,
			.unit = "MB",
			.less_is_better = true},
		"memmgr.overhead.books");
	report_add_named(&b->report,
		&(struct report_row){.value = (double)o.activation_bytes / 1e6,
			.unit = "MB",
			.less_is_better = true},
		"memmgr.overhead.activations");
	if (!b->overhead_given)
		b->overhead_bytes = o.book_bytes + o.activation_bytes;
	return 0;
}

static int run_all(struct bench *b, struct error *err)
{
	int rc = measure_overhead(b, err);

	if (rc == 0)
		rc = time_adapters(b, err);

	printf("KV tokens of DeepSeek-V2-Lite in bf16, %.0f MB of overhead:\n",
		(double)b->overhead_bytes / 1e6);
	if (rc == 0)
		rc = measure_capacities(b, err);
	if (rc == 0)
		rc = measure_load(b, WEIGHT_ROWS, "rows", err);
	if (rc == 0)
		rc = measure_load(b, WEIGHT_PANELS, "panels", err);
	if (rc)
		return rc;
	report_print_table(&b->report, stdout);
	return report_write(&b->report, b->json, b->svg, err);
}

static int parse(int argc, char **argv, struct bench *b)
{
	static const struct option options[] = {
		{"overhead", required_argument, NULL, 'o'},
		{"json", required_argument, NULL, 'j'},
		{"svg", required_argument, NULL, 's'},
		{"help", no_argument, NULL, 'h'},
		{NULL, 0, NULL, 0},
	};
	char *end = NULL;
	int key;

	while ((key = getopt_long(argc, argv, "h", options, NULL)) != -1) {
		if (key == 'h') {
			fputs(usage, stdout);
			return 1;
		}
		if (key == 'j')
			b->json = optarg;
		else if (key == 's')
			b->svg = optarg;
		else if (key == 'o') {
			b->overhead_bytes = strtoull(optarg, &end, 10) << 20;
			b->overhead_given = true;
		} else
			return -EINVAL;
	}
	return optind < argc || (end && *end) || b->overhead_bytes > 40 * GB
		       ? -EINVAL
		       : 0;
}

int memmgr_main(int argc, char **argv)
{
	static struct bench bench; /* a large struct, used once */
	struct error err = {0};
	int rc = parse(argc, argv, &bench);

	if (rc > 0)
		return 0;
	if (rc < 0) {
		fputs(usage, stderr);
		return 2;
	}
	if (run_all(&bench, &err) == 0)
		return 0;
	fprintf(stderr, "heddle-bench memmgr: %s\n", err.text);
	return 1;
}
