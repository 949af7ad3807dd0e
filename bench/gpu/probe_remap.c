/* probe_remap.c - a captured graph reads a range remapped since (remap) */
/* SPDX-License-Identifier: Apache-2.0 */
#include "probe_range.h"
#include "probe_section.h"

#include <errno.h>
#include <string.h>

/*
 * A small model keeps what each page of the range must hold: pages[i] is the
 * seed of its bytes. The graph's checksum is compared with the model's.
 */
enum { REMAP_PAGES = 64, REMAP_MIDDLE = 24, REMAP_SWAP = 16, CYCLES = 50 };

struct remap {
	struct probe_handles set; /* REMAP_PAGES + REMAP_SWAP handles */
	struct probe_range window; /* all of them, mapped once: the writer */
	struct probe_range tensor; /* what the graph reads */
	CUdeviceptr sum;
	CUgraph graph;
	CUgraphExec exec;
	size_t page_count; /* of the tensor, at present */
	uint32_t seed[REMAP_PAGES];
};

static uint32_t seed_of(size_t handle)
{
	return 0x9000u + (uint32_t)handle;
}

/* The model's checksum: k_sum over pages of probe_pattern(seed, word). */
static uint64_t expected_sum(const struct remap *r)
{
	const uint64_t words = PROBE_PAGE / 4;
	uint64_t sum = 0;

	for (size_t page = 0; page < r->page_count; page++)
		for (uint64_t i = 0; i < words; i++)
			sum += probe_sum_term(probe_pattern(r->seed[page], i),
				page * words + i);
	return sum;
}

static int tensor_map(struct probe *p, struct remap *r, size_t page, size_t h)
{
	if (probe_range_map(p, &r->tensor, page, r->set.handle[h]) != 0)
		return -EIO;
	r->seed[page] = seed_of(h);
	return 0;
}

static int capture(struct probe *p, struct remap *r)
{
	uint64_t words = r->page_count * PROBE_PAGE / 4;
	void *args[] = {&r->tensor.at, &words, &r->sum};
	struct probe_grid grid = {(unsigned)p->sm_count * 2, PROBE_THREADS};
	int error;

	if (probe_cu(p,
		    p->cu.capture_begin(
			    p->stream, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL),
		    "cuStreamBeginCapture") != 0)
		return -EIO;
	error = probe_cu(p, p->cu.set_async(r->sum, 0, 2, p->stream),
		"cuMemsetD32Async");
	if (error == 0)
		error = probe_launch(p, "k_sum", grid, args);
	if (probe_cu(p, p->cu.capture_end(p->stream, &r->graph),
		    "cuStreamEndCapture") != 0 ||
		error != 0)
		return -EIO;
	return probe_cu(p, p->cu.graph_instantiate(&r->exec, r->graph, 0),
		"cuGraphInstantiate");
}

static void drop_graph(struct probe *p, struct remap *r)
{
	if (r->exec != NULL)
		(void)p->cu.graph_exec_destroy(r->exec);
	if (r->graph != NULL)
		(void)p->cu.graph_destroy(r->graph);
	r->exec = NULL;
	r->graph = NULL;
}

/* Replay and compare; `us` is the time from launch to the end of the replay. */
static int replay(struct probe *p, struct remap *r, uint64_t want, bool *right,
	double *us)
{
	uint64_t begin = probe_now_ns();
	uint64_t sum = 0;

	if (probe_cu(p, p->cu.graph_launch(r->exec, p->stream),
		    "cuGraphLaunch") != 0 ||
		probe_sync(p, "replay") != 0)
		return -EIO;
	*us = (double)(probe_now_ns() - begin) / 1e3;
	if (probe_download(p, &sum, r->sum, sizeof(sum)) != 0)
		return -EIO;
	*right = sum == want;
	return 0;
}

/* Exchange `count` pages from `page` on for the handles from `h` on. */
static int exchange(
	struct probe *p, struct remap *r, size_t page, size_t count, size_t h)
{
	if (probe_range_unmap(p, &r->tensor, page, count) != 0)
		return -EIO;
	for (size_t i = 0; i < count; i++)
		if (tensor_map(p, r, page + i, h + i) != 0)
			return -EIO;
	return probe_range_access(p, &r->tensor, page, count);
}

/* Before and after an exchange; both must match the model. */
static int judge(struct probe *p, struct remap *r, const char *name,
	size_t page, size_t count, size_t h)
{
	double us = 0;
	bool before = false;
	bool after = false;
	uint64_t old_sum;
	uint64_t new_sum;

	old_sum = expected_sum(r);
	if (replay(p, r, old_sum, &before, &us) != 0 ||
		exchange(p, r, page, count, h) != 0)
		return -EIO;
	new_sum = expected_sum(r);
	if (replay(p, r, new_sum, &after, &us) != 0)
		return -EIO;
	if (!before || old_sum == new_sum)
		probe_wrong(p, "%s: wrong bytes before any exchange", name);
	/* Stale bytes would be a finding about the card, not a broken test. */
	probe_bool(p, name, before && after,
		after ? "same executable graph, no new capture"
		      : "the replay did not see the new bytes");
	return 0;
}

static int measure_one(struct probe *p, struct remap *r)
{
	int error;

	r->page_count = 1;
	if (tensor_map(p, r, 0, 0) != 0 ||
		probe_range_access(p, &r->tensor, 0, 1) != 0 ||
		capture(p, r) != 0)
		return -EIO;
	error = judge(p, r, "remap.graph.whole", 0, 1, 1);
	drop_graph(p, r);
	if (error == 0)
		error = probe_range_unmap(p, &r->tensor, 0, 1);
	return error;
}

/* One page goes back and forth between two handles; every replay is checked. */
static int measure_cycles(struct probe *p, struct remap *r)
{
	double swap_us[CYCLES];
	double first_us[CYCLES];
	double steady_us[CYCLES];
	uint64_t want[2] = {0, 0};
	size_t count = p->quick ? 4 : CYCLES;
	bool all = true;

	for (size_t i = 0; i < count; i++) {
		bool right = false;
		uint64_t begin = probe_now_ns();

		if (exchange(p, r, REMAP_MIDDLE, 1, REMAP_PAGES + i % 2) != 0)
			return -EIO;
		swap_us[i] = (double)(probe_now_ns() - begin) / 1e3;
		if (i < 2)
			want[i] = expected_sum(r);
		if (replay(p, r, want[i % 2], &right, &first_us[i]) != 0)
			return -EIO;
		all = all && right;
		if (replay(p, r, want[i % 2], &right, &steady_us[i]) != 0)
			return -EIO;
		all = all && right;
	}
	probe_bool(p, "remap.graph.cycle", all, "");
	probe_times(p, "remap.exchange", swap_us, count, "one 2 MiB page");
	probe_times(p, "remap.replay.first", first_us, count,
		"launch to end, 128 MiB read");
	probe_times(p, "remap.replay.steady", steady_us, count,
		"launch to end, 128 MiB read");
	return 0;
}

static int measure_many(struct probe *p, struct remap *r)
{
	int error;

	r->page_count = REMAP_PAGES;
	for (size_t i = 0; i < REMAP_PAGES; i++)
		if (tensor_map(p, r, i, i) != 0)
			return -EIO;
	if (probe_range_access(p, &r->tensor, 0, REMAP_PAGES) != 0 ||
		capture(p, r) != 0)
		return -EIO;
	error = judge(p, r, "remap.graph.middle", REMAP_MIDDLE, REMAP_SWAP,
		REMAP_PAGES);
	if (error == 0)
		error = measure_cycles(p, r);
	return error;
}

static int fill_handles(struct probe *p, struct remap *r)
{
	for (size_t i = 0; i < r->set.count; i++)
		if (probe_fill(p, probe_range_at(&r->window, i), PROBE_PAGE,
			    seed_of(i)) != 0)
			return -EIO;
	return probe_sync(p, "k_fill");
}

int probe_section_remap(struct probe *p)
{
	struct remap r = {.set = {.handle_bytes = PROBE_PAGE}};
	int error = probe_handles_make(p, &r.set, REMAP_PAGES + REMAP_SWAP,
		probe_product_flags(p), NULL);

	if (error == 0)
		error = probe_range_init(
			p, &r.window, PROBE_PAGE, REMAP_PAGES + REMAP_SWAP);
	if (error == 0)
		error = probe_range_init(p, &r.tensor, PROBE_PAGE, REMAP_PAGES);
	if (error == 0)
		error = probe_range_map_all(p, &r.window, &r.set);
	if (error == 0)
		error = probe_cu(p,
			p->cu.memory_alloc(&r.sum, sizeof(uint64_t)),
			"cuMemAlloc");
	if (error == 0)
		error = fill_handles(p, &r);
	if (error == 0)
		error = measure_one(p, &r);
	if (error == 0)
		error = measure_many(p, &r);
	drop_graph(p, &r);
	if (r.sum != 0)
		(void)p->cu.memory_free(r.sum);
	probe_range_release(p, &r.tensor);
	probe_range_release(p, &r.window);
	probe_handles_release(p, &r.set);
	return error;
}
