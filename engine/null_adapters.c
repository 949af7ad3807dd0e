/* null_adapters.c - adapters of the engine that pretends (mail -> numbers) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "base/check.h"
#include "engine/null_private.h"

/* The pool that it pretends to have: 1 GiB, all of it for adapters. */
#define POOL_PAGES UINT64_C(16384)

static uint64_t page_count(const struct null_adapter *adapter)
{
	return div_up(adapter->file_bytes, PAGE_SIZE_BYTES_MIN);
}

static int load(void *arg, uint32_t instance,
	const struct engine_command *command, bool stop, struct error *err)
{
	struct null_engine *engine = arg;
	struct null_adapter *adapter = &engine->instances[instance];
	const struct model_files *model = &command->files.model;
	uint32_t most = engine->options.adapter_count
				? engine->options.adapter_count
				: INSTANCE_COUNT_MAX - 1;

	assert(!adapter->there);
	if (stop)
		return error_set(err, ECANCELED,
			"adapter \"%s\": it was dropped before it was there",
			command->name);
	if (engine->instance_count >= most)
		return error_set(err, ENFILE,
			"adapter \"%s\": all %u places for adapters are taken",
			command->name, most);
	for (uint32_t i = 0; i < model->weight_count; i++)
		adapter->file_bytes += model->weights[i].size_bytes;
	if (page_count(adapter) > POOL_PAGES - engine->adapter_pages) {
		error_set(err, ENOMEM,
			"adapter \"%s\": it needs %llu pages, %llu are free",
			command->name, (unsigned long long)page_count(adapter),
			(unsigned long long)(POOL_PAGES -
					     engine->adapter_pages));
		*adapter = (struct null_adapter){0};
		return -ENOMEM;
	}
	adapter->there = true;
	engine->instance_count++;
	engine->adapter_pages += page_count(adapter);
	return 0;
}

static bool ready(void *arg)
{
	(void)arg;
	return true;
}

/* The users are counted by the rank; there is nothing else to keep. */
static void touch(void *arg, uint32_t instance)
{
	const struct null_engine *engine = arg;

	assert(engine->instances[instance].there);
}

static int drop(void *arg, uint32_t instance, struct error *err)
{
	struct null_engine *engine = arg;
	struct null_adapter *adapter = &engine->instances[instance];

	(void)err;
	assert(adapter->there);
	engine->instance_count--;
	engine->adapter_pages -= page_count(adapter);
	*adapter = (struct null_adapter){0};
	return 0;
}

/* Rows are given out in the order of arrival: nobody has a share. */
static void weight(void *arg, uint32_t entry, uint32_t share)
{
	(void)arg;
	(void)entry;
	(void)share;
}

static void cancel(void *arg, uint32_t slot_index)
{
	struct null_engine *engine = arg;

	rank_finish(&engine->rank, slot_index, FINISH_CANCELLED);
}

static void look(void *arg, uint32_t instance, struct adapter_book *out)
{
	const struct null_engine *engine = arg;
	const struct null_adapter *adapter = &engine->instances[instance];

	out->state = adapter->there ? ADAPTER_RESIDENT : ADAPTER_STAGING;
	out->file_bytes = out->done_bytes = adapter->file_bytes;
	out->used_bytes = adapter->file_bytes;
	out->page_bytes = page_count(adapter) * PAGE_SIZE_BYTES_MIN;
}

static void pages(void *arg, struct rank_books *out)
{
	const struct null_engine *engine = arg;

	out->page_size_bytes = PAGE_SIZE_BYTES_MIN;
	out->page_count = POOL_PAGES;
	out->adapter_pages = engine->adapter_pages;
	out->free_pages = POOL_PAGES - engine->adapter_pages;
	for (uint32_t i = 1; i < INSTANCE_COUNT_MAX; i++)
		out->adapter_used_bytes += engine->instances[i].file_bytes;
}

int null_adapters_open(
	struct null_engine *engine, struct engine_mail *mail, struct error *err)
{
	const struct adapter_back back = {engine, load, ready, touch, touch,
		drop, weight, cancel, look, pages};
	int rc = -ENOMEM;

	engine->instances =
		calloc(INSTANCE_COUNT_MAX, sizeof(*engine->instances));
	if (engine->instances)
		rc = rank_adapters_create(&engine->rank, mail, &back,
			engine->options.first_loads, &engine->adapters);
	return rc ? error_set(err, -rc,
			    "null engine: no memory for the books of adapters")
		  : 0;
}

void null_adapters_close(struct null_engine *engine)
{
	rank_adapters_destroy(engine->adapters);
	free(engine->instances);
	engine->adapters = NULL;
	engine->instances = NULL;
}
