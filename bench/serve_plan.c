/* serve_plan.c - a run, written down before it starts, and what came of it */
/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "bench/serve_plan.h"

static size_t gap_total(const struct serve_plan *plan)
{
	size_t total = 0;

	if (plan->expect.stream)
		for (size_t i = 0; i < plan->count; i++)
			total += plan->items[i].output_tokens;
	return total;
}

size_t serve_plan_bytes(const struct serve_plan *plan)
{
	return plan->data_bytes +
	       plan->count * (sizeof(*plan->items) + sizeof(*plan->results)) +
	       gap_total(plan) * sizeof(*plan->gaps);
}

int serve_plan_seal(struct serve_plan *plan)
{
	size_t offset = 0, gap_count = gap_total(plan);
	void *gaps;

	plan->results = calloc(plan->count, sizeof(*plan->results));
	if (!plan->results)
		return -ENOMEM;
	/* Pages that no token reaches are never touched. */
	if (gap_count) {
		gaps = mmap(NULL, gap_count * sizeof(*plan->gaps),
			PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
		if (gaps == MAP_FAILED)
			return -ENOMEM;
		plan->gaps = gaps;
		plan->gap_count = gap_count;
	}
	for (size_t i = 0; i < plan->count && gap_count; i++) {
		plan->items[i].gap_offset = offset;
		plan->items[i].gap_room = plan->items[i].output_tokens;
		offset += plan->items[i].gap_room;
	}
	return 0;
}

void serve_plan_release(struct serve_plan *plan)
{
	for (size_t i = 0; plan->results && i < plan->count; i++)
		free(plan->results[i].text);
	if (plan->gaps)
		munmap(plan->gaps, plan->gap_count * sizeof(*plan->gaps));
	free(plan->items);
	free(plan->results);
	free(plan->data);
	memset(plan, 0, sizeof(*plan));
}
