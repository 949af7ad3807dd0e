/* probe_alias.c - one handle mapped at two addresses (section alias) */
/* SPDX-License-Identifier: Apache-2.0 */
#include "probe_range.h"
#include "probe_section.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>

enum { ALIAS_SEED = 0xa11a };

struct alias {
	struct probe_handles set;
	struct probe_range window; /* in order */
	struct probe_range tensor; /* last handle first */
	CUdeviceptr sink;
	CUdeviceptr seen;
	CUdeviceptr read_at;
	uint64_t steps;
};

static int op_alias_read(struct probe *p, void *context)
{
	struct alias *a = context;
	void *args[] = {&a->read_at, &a->steps, &a->sink};

	return probe_launch(p, "k_read",
		(struct probe_grid){(unsigned)p->sm_count * 4, PROBE_THREADS},
		args);
}

/*
 * Write every page through one range, then read every page through the other:
 * handle i is slot i of the window and slot count - 1 - i of the tensor.
 */
static int cross(struct probe *p, const struct alias *a, bool to_tensor,
	uint32_t seed, uint64_t *bad)
{
	size_t count = a->set.count;

	for (size_t i = 0; i < count; i++) {
		size_t slot = to_tensor ? i : count - 1 - i;
		const struct probe_range *write =
			to_tensor ? &a->window : &a->tensor;

		if (probe_fill(p, probe_range_at(write, slot), PROBE_PAGE,
			    seed + (uint32_t)i) != 0)
			return -EIO;
	}
	for (size_t i = 0; i < count; i++) {
		size_t slot = to_tensor ? count - 1 - i : i;
		const struct probe_range *read =
			to_tensor ? &a->tensor : &a->window;
		uint64_t more = 0;

		if (probe_check(p, probe_range_at(read, slot), PROBE_PAGE,
			    seed + (uint32_t)i, &more) != 0)
			return -EIO;
		*bad += more;
	}
	return 0;
}

static int judge_cross(struct probe *p, const struct alias *a)
{
	uint64_t bad = 0;
	char note[PROBE_TEXT_MAX];

	if (cross(p, a, true, 1000, &bad) != 0)
		return -EIO;
	snprintf(note, sizeof(note), "%zu handles, %llu wrong words",
		a->set.count, (unsigned long long)bad);
	probe_bool(p, "alias.window_to_tensor", bad == 0, note);
	bad = 0;
	if (cross(p, a, false, 500000, &bad) != 0)
		return -EIO;
	snprintf(note, sizeof(note), "%zu handles, %llu wrong words",
		a->set.count, (unsigned long long)bad);
	probe_bool(p, "alias.tensor_to_window", bad == 0, note);
	return 0;
}

/* Inside one kernel: read through b, write through a, read through b. */
static int judge_in_kernel(
	struct probe *p, struct alias *a, const char *kernel, const char *name)
{
	CUdeviceptr one = probe_range_at(&a->window, 0);
	CUdeviceptr two = probe_range_at(&a->tensor, a->set.count - 1);
	uint64_t words = PROBE_PAGE / 4;
	uint32_t seed = ALIAS_SEED;
	uint64_t seen[2] = {0, 0};
	void *args[] = {&one, &two, &words, &seed, &a->seen};
	struct probe_grid grid = {(unsigned)p->sm_count, PROBE_THREADS};
	char note[PROBE_TEXT_MAX];

	if (probe_fill(p, one, PROBE_PAGE, seed) != 0 ||
		probe_cu(p, p->cu.set_async(a->seen, 0, 4, p->stream),
			"cuMemsetD32Async") != 0 ||
		probe_launch(p, kernel, grid, args) != 0 ||
		probe_sync(p, kernel) != 0 ||
		probe_download(p, seen, a->seen, sizeof(seen)) != 0)
		return -EIO;
	if (seen[0] != words)
		probe_wrong(p, "%s: %llu of %llu words were old at first",
			kernel, (unsigned long long)seen[0],
			(unsigned long long)words);
	snprintf(note, sizeof(note), "%llu of %llu words seen",
		(unsigned long long)seen[1], (unsigned long long)words);
	probe_value(p, name, (double)seen[1] / (double)words, note);
	return 0;
}

static int measure_alias(struct probe *p, struct alias *a)
{
	uint64_t bytes = a->set.count * PROBE_PAGE;
	struct probe_rate rate = {"alias.read.window", (double)bytes / 1e9,
		p->peak_gb_s, 20, "2 MiB handles in the order of creation"};
	int error = judge_cross(p, a);

	a->steps = bytes / PROBE_STEP_BYTES;
	a->read_at = a->window.at;
	if (error == 0)
		error = probe_rate(p, &rate, op_alias_read, a, NULL);
	a->read_at = a->tensor.at;
	rate.name = "alias.read.tensor";
	rate.note = "the same handles, last one first";
	if (error == 0)
		error = probe_rate(p, &rate, op_alias_read, a, NULL);
	if (error == 0)
		error = judge_in_kernel(
			p, a, "k_alias_fenced", "alias.in_kernel.fenced");
	if (error == 0)
		error = judge_in_kernel(
			p, a, "k_alias_plain", "alias.in_kernel.plain");
	return error;
}

int probe_section_alias(struct probe *p)
{
	struct alias a = {.set = {.handle_bytes = PROBE_PAGE}};
	size_t count = (size_t)(probe_size(p, 2 * PROBE_GIB, 4) / PROBE_PAGE);
	int error = probe_handles_make(
		p, &a.set, count, probe_product_flags(p), NULL);

	if (error == 0)
		error = probe_range_init(p, &a.window, PROBE_PAGE, count);
	if (error == 0)
		error = probe_range_init(p, &a.tensor, PROBE_PAGE, count);
	if (error == 0)
		error = probe_range_map_all(p, &a.window, &a.set);
	for (size_t i = 0; i < count && error == 0; i++)
		error = probe_range_map(
			p, &a.tensor, i, a.set.handle[count - 1 - i]);
	if (error == 0)
		error = probe_range_access(p, &a.tensor, 0, count);
	if (error == 0)
		error = probe_cu(p,
			p->cu.memory_alloc(&a.sink, (size_t)p->sm_count * 16),
			"cuMemAlloc");
	if (error == 0)
		error = probe_cu(
			p, p->cu.memory_alloc(&a.seen, 16), "cuMemAlloc");
	if (error == 0)
		error = measure_alias(p, &a);
	if (a.seen != 0)
		(void)p->cu.memory_free(a.seen);
	if (a.sink != 0)
		(void)p->cu.memory_free(a.sink);
	probe_range_release(p, &a.tensor);
	probe_range_release(p, &a.window);
	probe_handles_release(p, &a.set);
	return error;
}
