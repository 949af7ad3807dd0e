/* node_books.c - what adapters there are and whose the memory is (-> text) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "control/node_private.h"

#define SUM_TRIES 16

static void put(json_t *object, const char *key, json_t *value)
{
	/* No memory: the answer lacks a line. */
	(void)json_object_set_new(object, key, value);
}

static void put_count(json_t *object, const char *key, uint64_t value)
{
	put(object, key, json_integer((json_int_t)value));
}

json_t *node_adapters_result(const struct adapters_result *result)
{
	json_t *out = json_object();

	put(out, "ok", json_true());
	put(out, "name", json_string(result->name));
	if (result->op == ADAPTERS_UNLOAD) {
		put_count(out, "freed_pages", result->page_count);
		put_count(out, "freed_bytes", result->page_bytes);
		return out;
	}
	put_count(out, "instance", result->instance);
	put_count(out, "serial", result->serial);
	put_count(out, "load_ms", result->load_ns / NS_PER_MS);
	return out;
}

/* --- one adapter ------------------------------------------------------------------------ */

static enum adapter_state state_of(
	const struct node *node, const struct adapters_instance *instance)
{
	enum adapter_state state = ADAPTER_STAGING;
	struct adapter_book book;

	if (instance->phase >= ADAPTERS_LEAVING)
		return ADAPTER_DRAINING;
	if (instance->phase == ADAPTERS_LIVE)
		return ADAPTER_RESIDENT;
	for (uint32_t i = 0; i < node->segment.shape.rank_count; i++)
		if (adapter_book_read(segment_rank_books(&node->segment, i),
			    instance->number, instance->serial, &book) &&
			book.state == ADAPTER_LOADING)
			state = ADAPTER_LOADING;
	return state;
}

static json_t *times_json(const struct adapter_book *book)
{
	json_t *out = json_object();
	uint64_t now = mono_now().ns;

	for (int i = ADAPTER_STAGING; i < ADAPTER_STATE_COUNT; i++)
		if (book->since_ns[i] && book->since_ns[i] <= now)
			put(out, adapter_state_name((enum adapter_state)i),
				json_real((double)(now - book->since_ns[i]) /
					  (double)NS_PER_S));
	return out;
}

static json_t *rank_json(const struct node *node,
	const struct adapters_instance *instance, uint32_t rank)
{
	struct adapter_book book;
	json_t *out = json_object();

	put_count(out, "rank", rank);
	if (!adapter_book_read(segment_rank_books(&node->segment, rank),
		    instance->number, instance->serial, &book)) {
		put(out, "state",
			json_string(adapter_state_name(ADAPTER_ABSENT)));
		return out;
	}
	put(out, "state",
		json_string(
			adapter_state_name((enum adapter_state)book.state)));
	put_count(out, "experts", book.expert_count);
	put_count(out, "users", book.user_count);
	put_count(out, "file_bytes", book.file_bytes);
	put_count(out, "done_bytes", book.done_bytes);
	put_count(out, "used_bytes", book.used_bytes);
	put_count(out, "page_bytes", book.page_bytes);
	put(out, "seconds_since", times_json(&book));
	return out;
}

static json_t *instance_json(
	const struct node *node, const struct adapters_instance *instance)
{
	json_t *out = json_object(), *ranks = json_array();

	put_count(out, "instance", instance->number);
	put_count(out, "serial", instance->serial);
	put(out, "state",
		json_string(adapter_state_name(state_of(node, instance))));
	put(out, "directory", json_string(instance->directory));
	if (instance->live_ns)
		put_count(out, "load_ms",
			(instance->live_ns - instance->begun_ns) / NS_PER_MS);
	if (error_is_set(&instance->err))
		put(out, "error", json_string(instance->err.text));
	for (uint32_t i = 0; i < node->segment.shape.rank_count; i++)
		json_array_append_new(ranks, rank_json(node, instance, i));
	put(out, "ranks", ranks);
	return out;
}

static json_t *name_json(
	const struct node *node, const struct adapters_name *name)
{
	const uint32_t numbers[] = {name->current, name->other};
	json_t *out = json_object(), *instances = json_array();

	put(out, "name", json_string(name->name));
	put(out, "pinned", json_boolean(name->pinned));
	put_count(out, "weight", name->weight);
	put_count(out, "created", name->created_s);
	put(out, "doing", json_string(adapters_op_name(name->op)));
	for (size_t i = 0; i < 2; i++) {
		const struct adapters_instance *instance =
			adapters_instance(node->adapters, numbers[i]);

		if (instance)
			json_array_append_new(
				instances, instance_json(node, instance));
	}
	put(out, "instances", instances);
	return out;
}

/* --- text --------------------------------------------------------------------------------- */

/* Bytes on the rank that has most of it, and users on all. */
static void sum_books(const struct node *node,
	const struct adapters_instance *instance, struct adapter_book *out)
{
	*out = (struct adapter_book){0};
	for (uint32_t i = 0; i < node->segment.shape.rank_count; i++) {
		struct adapter_book book;

		if (!adapter_book_read(segment_rank_books(&node->segment, i),
			    instance->number, instance->serial, &book))
			continue;
		out->user_count += book.user_count;
		if (book.page_bytes >= out->page_bytes) {
			out->page_bytes = book.page_bytes;
			out->used_bytes = book.used_bytes;
			out->expert_count = book.expert_count;
		}
	}
}

static void print_instance(const struct node *node,
	const struct adapters_name *name, uint32_t number, FILE *out)
{
	const struct adapters_instance *instance =
		adapters_instance(node->adapters, number);
	struct adapter_book book;

	if (!instance)
		return;
	sum_books(node, instance, &book);
	fprintf(out, "%-24s %-9s %8u %6s %6u %7u %12llu %6u  %s\n", name->name,
		adapter_state_name(state_of(node, instance)), number,
		name->pinned ? "yes" : "no", name->weight, book.expert_count,
		(unsigned long long)book.page_bytes, book.user_count,
		instance->directory);
}

static void print_list(const struct node *node, FILE *out)
{
	fprintf(out, "%-24s %-9s %8s %6s %6s %7s %12s %6s  %s\n", "NAME",
		"STATE", "INSTANCE", "PINNED", "WEIGHT", "EXPERTS", "BYTES",
		"USERS", "DIRECTORY");
	for (uint32_t i = 1; i < ADAPTER_ENTRY_COUNT_MAX; i++) {
		const struct adapters_name *name =
			adapters_name(node->adapters, i);

		if (!name)
			continue;
		print_instance(node, name, name->current, out);
		print_instance(node, name, name->other, out);
	}
}

void node_adapters_list(
	const struct node *node, bool json, struct command_answer *answer)
{
	size_t length = 0;
	FILE *out;

	if (json) {
		json_t *all = json_array();

		for (uint32_t i = 1; i < ADAPTER_ENTRY_COUNT_MAX; i++)
			if (adapters_name(node->adapters, i))
				json_array_append_new(all,
					name_json(node,
						adapters_name(
							node->adapters, i)));
		answer->json = json_pack("{s:o}", "adapters", all);
		return;
	}
	out = open_memstream(&answer->text, &length);
	if (!out)
		return;
	print_list(node, out);
	(void)fclose(out);
}

void node_adapters_show(const struct node *node, const char *name,
	struct command_answer *answer)
{
	uint32_t index = adapters_find(node->adapters, name);

	if (index == 0)
		error_set(&answer->err, ENOENT, "there is no adapter \"%s\"",
			name);
	else
		answer->json =
			name_json(node, adapters_name(node->adapters, index));
}

/* --- mem ------------------------------------------------------------------------------------- */

struct pool {
	uint64_t page_size, pages, base, adapters, held, idle, free;
	uint64_t base_used, adapter_used;
};

static uint64_t word(const uint64_t *from)
{
	return __atomic_load_n(from, __ATOMIC_RELAXED);
}

/* The words are written one by one: read until they agree. */
static struct pool read_pool(const struct rank_books *books)
{
	struct pool pool = {0};

	for (int i = 0; i < SUM_TRIES; i++) {
		pool = (struct pool){.page_size = word(&books->page_size_bytes),
			.pages = word(&books->page_count),
			.base = word(&books->base_pages),
			.adapters = word(&books->adapter_pages),
			.held = word(&books->kv_held_pages),
			.idle = word(&books->kv_idle_pages),
			.free = word(&books->free_pages),
			.base_used = word(&books->base_used_bytes),
			.adapter_used = word(&books->adapter_used_bytes)};
		if (pool.base + pool.adapters + pool.held + pool.idle +
				pool.free ==
			pool.pages)
			break;
	}
	return pool;
}

static uint64_t waste(uint64_t pages, uint64_t page_size, uint64_t used)
{
	return pages * page_size > used ? pages * page_size - used : 0;
}

struct line {
	const char *what;
	uint64_t pages, used;
	bool counts_waste;
};

static void print_line(
	const struct line *line, uint64_t page_size, bool inside, FILE *out)
{
	unsigned long long bytes = line->pages * page_size;

	fprintf(out, "  %s%-*s %10llu %16llu", inside ? "  " : "",
		inside ? 30 : 32, line->what, (unsigned long long)line->pages,
		bytes);
	if (line->counts_waste)
		fprintf(out, " %14llu",
			(unsigned long long)waste(
				line->pages, page_size, line->used));
	putc('\n', out);
}

static const struct adapters_instance *booked(const struct node *node,
	uint32_t rank, uint32_t number, struct adapter_book *book)
{
	const struct adapters_instance *instance =
		adapters_instance(node->adapters, number);

	return instance && adapter_book_read(
				   segment_rank_books(&node->segment, rank),
				   number, instance->serial, book)
		       ? instance
		       : NULL;
}

static void print_rank(const struct node *node, uint32_t rank, FILE *out)
{
	struct pool p = read_pool(segment_rank_books(&node->segment, rank));
	const struct line lines[] = {{"base", p.base, p.base_used, true},
		{"adapters", p.adapters, p.adapter_used, true},
		{"kv of requests", p.held, 0, false},
		{"kv kept for prefixes", p.idle, 0, false},
		{"free", p.free, 0, false}, {"all", p.pages, 0, false}};

	fprintf(out, "rank %u: pages of %llu bytes\n", rank,
		(unsigned long long)p.page_size);
	fprintf(out, "  %-32s %10s %16s %14s\n", "", "PAGES", "BYTES", "WASTE");
	for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
		print_line(&lines[i], p.page_size, false, out);
		for (uint32_t n = 1; i == 1 && n < INSTANCE_COUNT_MAX; n++) {
			const struct adapters_instance *instance;
			struct adapter_book book;
			struct line line = {.counts_waste = true};
			char what[ADAPTER_NAME_BYTES + 24];

			instance = booked(node, rank, n, &book);
			if (!instance)
				continue;
			snprintf(what, sizeof(what), "%s (%u, %s)",
				adapters_name(node->adapters, instance->name)
					->name,
				n,
				adapter_state_name(
					(enum adapter_state)book.state));
			line.what = what;
			line.pages =
				p.page_size ? book.page_bytes / p.page_size : 0;
			line.used = book.used_bytes;
			print_line(&line, p.page_size, true, out);
		}
	}
}

static json_t *part_json(uint64_t pages, uint64_t page_size)
{
	json_t *out = json_object();

	put_count(out, "pages", pages);
	put_count(out, "bytes", pages * page_size);
	return out;
}

static json_t *used_json(uint64_t pages, uint64_t page_size, uint64_t used)
{
	json_t *out = part_json(pages, page_size);

	put_count(out, "used_bytes", used);
	put_count(out, "waste_bytes", waste(pages, page_size, used));
	return out;
}

static json_t *pool_json(const struct node *node, uint32_t rank)
{
	struct pool p = read_pool(segment_rank_books(&node->segment, rank));
	json_t *out = json_object(), *each = json_array();

	for (uint32_t n = 1; n < INSTANCE_COUNT_MAX; n++) {
		struct adapter_book book;
		const struct adapters_instance *instance =
			booked(node, rank, n, &book);
		json_t *one;

		if (!instance)
			continue;
		one = used_json(p.page_size ? book.page_bytes / p.page_size : 0,
			p.page_size, book.used_bytes);
		put(one, "name",
			json_string(
				adapters_name(node->adapters, instance->name)
					->name));
		put_count(one, "instance", n);
		put(one, "state",
			json_string(adapter_state_name(
				(enum adapter_state)book.state)));
		json_array_append_new(each, one);
	}
	put_count(out, "rank", rank);
	put_count(out, "page_bytes", p.page_size);
	put_count(out, "pages", p.pages);
	put(out, "base", used_json(p.base, p.page_size, p.base_used));
	put(out, "adapters",
		used_json(p.adapters, p.page_size, p.adapter_used));
	put(out, "each_adapter", each);
	put(out, "kv_held", part_json(p.held, p.page_size));
	put(out, "kv_idle", part_json(p.idle, p.page_size));
	put(out, "free", part_json(p.free, p.page_size));
	return out;
}

void node_adapters_mem(
	const struct node *node, bool json, struct command_answer *answer)
{
	uint32_t ranks = node->segment.shape.rank_count;
	size_t length = 0;
	FILE *out;

	if (json) {
		json_t *all = json_array();

		for (uint32_t i = 0; i < ranks; i++)
			json_array_append_new(all, pool_json(node, i));
		answer->json = json_pack("{s:o}", "ranks", all);
		return;
	}
	out = open_memstream(&answer->text, &length);
	if (!out)
		return;
	for (uint32_t i = 0; i < ranks; i++)
		print_rank(node, i, out);
	(void)fclose(out);
}
