/* probe_scatter.c - one large handle against scattered pages (scatter) */
/* SPDX-License-Identifier: Apache-2.0 */
#include "probe_range.h"
#include "probe_section.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { SIX = 6, SIX_SETS = 40, BLOCK64 = 65536 };

struct scatter {
	struct probe_handles big; /* one handle */
	struct probe_handles pages;
	struct probe_range big_range;
	struct probe_range page_range; /* handles in shuffled order */
	CUdeviceptr offsets; /* device copy of `offset` */
	uint64_t *offset; /* [offset_max] */
	size_t offset_max;
	CUdeviceptr sink;
	uint64_t bytes;
	/* the launch at hand */
	CUdeviceptr base;
	uint32_t run_count;
	uint32_t run_steps;
	size_t turn; /* which six, in turn */
	bool six;
};

/* Fisher-Yates over 64-bit items, from a fixed seed: runs compare. */
static void shuffle(uint64_t *item, size_t count)
{
	for (size_t i = count; i > 1; i--) {
		size_t j = probe_pattern(4711, i) % i;
		uint64_t swap = item[i - 1];

		item[i - 1] = item[j];
		item[j] = swap;
	}
}

static int op_runs(struct probe *p, void *context)
{
	struct scatter *s = context;
	struct probe_runs_args a = {.base = s->base,
		.offset = s->offsets,
		.sink = s->sink,
		.run_count = s->run_count,
		.run_steps = s->run_steps};
	void *args[] = {&a};

	if (s->six) {
		/* Other experts each time, so that no cache holds them. */
		a.offset += s->turn % SIX_SETS * SIX * sizeof(uint64_t);
		s->turn++;
	}
	return probe_launch(p, "k_runs",
		(struct probe_grid){(unsigned)p->sm_count * 4, PROBE_THREADS},
		args);
}

/* Measure runs of `run_bytes` at offset[0..count) of both ranges. */
static int measure_both(struct probe *p, struct scatter *s, size_t count,
	uint64_t run_bytes, const char *const names[2])
{
	size_t per_launch = s->six ? SIX : count;
	struct probe_rate rate = {
		.limit = p->peak_gb_s, .runs = s->six ? 100 : 15, .note = ""};

	if (probe_upload(
		    p, s->offsets, s->offset, count * sizeof(*s->offset)) != 0)
		return -EIO;
	s->run_steps = (uint32_t)(run_bytes / PROBE_STEP_BYTES);
	s->run_count = (uint32_t)per_launch;
	rate.amount = (double)(per_launch * run_bytes) / 1e9;
	for (int i = 0; i < 2; i++) {
		s->base = i == 0 ? s->big_range.at : s->page_range.at;
		s->turn = 0;
		rate.name = names[i];
		if (names[i] != NULL &&
			probe_rate(p, &rate, op_runs, s, NULL) != 0)
			return -EIO;
	}
	return 0;
}

static int measure_experts(struct probe *p, struct scatter *s)
{
	static const char *const in_order[2] = {
		"scatter.big.in_order", "scatter.pages.in_order"};
	static const char *const random[2] = {
		"scatter.big.random", "scatter.pages.random"};
	static const char *const six[2] = {
		"scatter.big.six", "scatter.pages.six"};
	size_t count = (size_t)(s->bytes / PROBE_EXPERT);
	int error;

	if (count < SIX)
		return 0;
	for (size_t i = 0; i < count; i++)
		s->offset[i] = i * PROBE_EXPERT;
	error = measure_both(p, s, count, PROBE_EXPERT, in_order);
	shuffle(s->offset, count);
	if (error == 0)
		error = measure_both(p, s, count, PROBE_EXPERT, random);
	if (error != 0)
		return error;
	/* SIX_SETS sets, each in an order of its own. */
	for (size_t i = count; i < (size_t)SIX_SETS * SIX; i++)
		s->offset[i] = s->offset[i - count];
	s->six = true;
	error = measure_both(p, s, (size_t)SIX_SETS * SIX, PROBE_EXPERT, six);
	s->six = false;
	return error;
}

/* As many 64 KiB blocks, once side by side, once each on a page of its own. */
static int measure_blocks(struct probe *p, struct scatter *s)
{
	static const char *const packed[2] = {NULL, "scatter.block64k.packed"};
	static const char *const spread[2] = {NULL, "scatter.block64k.spread"};
	size_t count = s->pages.count;
	uint64_t per_page = PROBE_PAGE / BLOCK64;

	for (size_t i = 0; i < count; i++)
		s->offset[i] = i * BLOCK64;
	shuffle(s->offset, count);
	if (measure_both(p, s, count, BLOCK64, packed) != 0)
		return -EIO;
	for (size_t i = 0; i < count; i++)
		s->offset[i] = i * PROBE_PAGE +
			       probe_pattern(815, i) % per_page * BLOCK64;
	shuffle(s->offset, count);
	return measure_both(p, s, count, BLOCK64, spread);
}

/* Handles in shuffled order, so that neighbours in address are not in memory. */
static int map_shuffled(struct probe *p, struct scatter *s)
{
	size_t count = s->pages.count;

	for (size_t i = 0; i < count; i++)
		s->offset[i] = i;
	shuffle(s->offset, count);
	for (size_t i = 0; i < count; i++)
		if (probe_range_map(p, &s->page_range, i,
			    s->pages.handle[s->offset[i]]) != 0)
			return -EIO;
	return probe_range_access(p, &s->page_range, 0, count);
}

static int scatter_init(struct probe *p, struct scatter *s)
{
	size_t count = (size_t)(s->bytes / PROBE_PAGE);
	unsigned flags = probe_product_flags(p);
	int error;

	s->big.handle_bytes = s->bytes;
	s->pages.handle_bytes = PROBE_PAGE;
	s->offset_max =
		count > (size_t)SIX_SETS * SIX ? count : (size_t)SIX_SETS * SIX;
	s->offset = calloc(s->offset_max, sizeof(*s->offset));
	if (s->offset == NULL)
		return probe_stop(p, -ENOMEM, "no memory for offsets");
	error = probe_handles_make(p, &s->big, 1, flags, NULL);
	if (error == 0)
		error = probe_handles_make(p, &s->pages, count, flags, NULL);
	if (error == 0)
		error = probe_range_init(p, &s->big_range, s->bytes, 1);
	if (error == 0)
		error = probe_range_init(p, &s->page_range, PROBE_PAGE, count);
	if (error == 0)
		error = probe_range_map_all(p, &s->big_range, &s->big);
	if (error == 0)
		error = map_shuffled(p, s);
	if (error == 0)
		error = probe_cu(p,
			p->cu.memory_alloc(&s->offsets,
				s->offset_max * sizeof(*s->offset)),
			"cuMemAlloc");
	if (error == 0)
		error = probe_cu(p,
			p->cu.memory_alloc(&s->sink, (size_t)p->sm_count * 16),
			"cuMemAlloc");
	if (error == 0)
		error = probe_fill(p, s->big_range.at, s->bytes, 1);
	if (error == 0)
		error = probe_fill(p, s->page_range.at, s->bytes, 2);
	return error;
}

int probe_section_scatter(struct probe *p)
{
	struct scatter s = {.bytes = probe_size(p, 8 * PROBE_GIB, 4)};
	int error = scatter_init(p, &s);

	if (error == 0)
		error = measure_experts(p, &s);
	if (error == 0)
		error = measure_blocks(p, &s);
	if (s.sink != 0)
		(void)p->cu.memory_free(s.sink);
	if (s.offsets != 0)
		(void)p->cu.memory_free(s.offsets);
	probe_range_release(p, &s.page_range);
	probe_range_release(p, &s.big_range);
	probe_handles_release(p, &s.pages);
	probe_handles_release(p, &s.big);
	free(s.offset);
	return error;
}
