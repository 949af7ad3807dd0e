/* adapter.c - the adapters of one rank: load, unload, replace, bind */
/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "engine/adapter.h"
#include "engine/adapter_fill.h"

struct adapter {
	struct adapter_info info;
	const struct model *model; /* borrowed; NULL = ABSENT */
	const struct adapter_files *files; /* borrowed until publish */
	struct adapter_plan plan; /* until publish */
	vmm_addr *slots; /* [plan.config.total], from map to publish; owned */
	uint64_t done_bytes; /* written by the copying thread */
	bool copied;
	bool by_handle; /* its name follows no rule */
};

struct adapter_set {
	struct model *model; /* borrowed */
	struct adapter *adapters; /* [count], owned */
	uint32_t count;
};

/* The only writer of a state, and of when it began. */
static void set_state(struct adapter *adapter, enum adapter_state state)
{
	static const bool allowed[ADAPTER_STATE_COUNT][ADAPTER_STATE_COUNT] = {
		[ADAPTER_ABSENT] = {[ADAPTER_STAGING] = true},
		[ADAPTER_STAGING] =
			{[ADAPTER_LOADING] = true, [ADAPTER_ABSENT] = true},
		[ADAPTER_LOADING] = {[ADAPTER_RESIDENT] = true,
			[ADAPTER_DRAINING] = true,
			[ADAPTER_ABSENT] = true},
		[ADAPTER_RESIDENT] = {[ADAPTER_DRAINING] = true},
		[ADAPTER_DRAINING] = {[ADAPTER_ABSENT] = true},
	};
	struct vmm *vmm = adapter->model->vmm;

	assert(allowed[adapter->info.state][state]);
	adapter->info.state = state;
	adapter->info.since[state] = vmm->ops->now(vmm);
}

static void release_plan(struct adapter *adapter)
{
	adapter_plan_release(&adapter->plan);
	free(adapter->slots);
	adapter->slots = NULL;
	adapter->files = NULL;
}

static void make_absent(struct adapter *adapter)
{
	set_state(adapter, ADAPTER_ABSENT);
	release_plan(adapter);
	*adapter = (struct adapter){0};
}

int adapter_set_create(
	struct model *model, struct adapter_set **out, struct error *err)
{
	struct adapter_set *set = calloc(1, sizeof(*set));
	struct expert_view view;

	expert_store_view(model->experts, &view);
	if (set)
		set->adapters =
			calloc(view.instance_count, sizeof(*set->adapters));
	if (!set || !set->adapters) {
		free(set);
		return error_set(err, ENOMEM,
			"no memory for a table of %u adapters",
			view.instance_count);
	}
	set->model = model;
	/* One for each row of the map; the base's row is staging room. */
	set->count = view.instance_count;
	*out = set;
	return 0;
}

void adapter_set_destroy(struct adapter_set *set)
{
	if (!set)
		return;
	for (uint32_t i = 0; i < set->count; i++) {
		struct adapter *adapter = &set->adapters[i];

		assert(adapter->info.user_count == 0);
		adapter->by_handle = false; /* reaped with the others */
		if (adapter->info.state == ADAPTER_STAGING ||
			adapter->info.state == ADAPTER_LOADING)
			adapter_abandon(set, adapter);
		if (adapter->info.state == ADAPTER_RESIDENT)
			set_state(adapter, ADAPTER_DRAINING);
	}
	adapter_reap(set, NULL);
	free(set->adapters);
	free(set);
}

/* ---- names ---- */

static struct adapter *find(const struct adapter_set *set, const char *name,
	enum adapter_state state)
{
	for (uint32_t i = 0; i < set->count; i++)
		if (set->adapters[i].info.state == state &&
			!set->adapters[i].by_handle &&
			strcmp(set->adapters[i].info.name, name) == 0)
			return &set->adapters[i];
	return NULL;
}

static uint32_t live_count(const struct adapter_set *set, const char *name)
{
	uint32_t live = 0;

	for (uint32_t i = 0; i < set->count; i++)
		live += set->adapters[i].info.state != ADAPTER_ABSENT &&
			!set->adapters[i].by_handle &&
			strcmp(set->adapters[i].info.name, name) == 0;
	return live;
}

/* Printable, and nothing that a shell, a URL or JSON would have to quote. */
static int check_name(const char *name, struct error *err)
{
	size_t length = strlen(name);

	if (length == 0 || length >= ADAPTER_NAME_BYTES)
		return error_set(err, EINVAL,
			"adapter \"%.32s%s\": a name has 1 to %d bytes", name,
			length > 32 ? "..." : "", ADAPTER_NAME_BYTES - 1);
	for (size_t i = 0; i < length; i++) {
		char c = name[i];

		if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
			(c >= '0' && c <= '9') || strchr("._-/:@+", c))
			continue;
		return error_set(err, EINVAL,
			"adapter \"%s\": letters, digits and ._-/:@+ make a "
			"name",
			name);
	}
	return 0;
}

static int check_place(const struct adapter_set *set, const char *name,
	bool replace, struct error *err)
{
	uint32_t live = live_count(set, name);

	if (replace && !find(set, name, ADAPTER_RESIDENT))
		return error_set(
			err, ENOENT, "adapter \"%s\" is not loaded", name);
	if (replace && live > 1)
		return error_set(err, EBUSY,
			"adapter \"%s\": two instances of it are live, the "
			"older one has not drained",
			name);
	if (!replace && live > 0)
		return error_set(err, EEXIST,
			"adapter \"%s\" is there already; replace it", name);
	return 0;
}

/* ---- a load in its parts ---- */

int adapter_reserve(struct adapter_set *set, const char *name,
	const struct adapter_files *files, struct adapter **out,
	struct error *err)
{
	struct adapter *adapter = NULL;

	assert(strlen(name) < ADAPTER_NAME_BYTES);
	for (uint32_t i = 0; i < set->count && !adapter; i++)
		if (set->adapters[i].info.state == ADAPTER_ABSENT)
			adapter = &set->adapters[i];
	if (!adapter)
		return error_set(err, ENFILE,
			"adapter \"%s\": all %u places for adapters are taken",
			name, set->count);
	adapter->model = set->model;
	adapter->files = files;
	memcpy(adapter->info.name, name, strlen(name) + 1);
	adapter->info.instance = INSTANCE_NONE;
	adapter->by_handle = true;
	set_state(adapter, ADAPTER_STAGING);
	*out = adapter;
	return 0;
}

int adapter_check(struct adapter *adapter, const struct adapter_pace *pace,
	struct error *err)
{
	int rc;

	assert(adapter->info.state == ADAPTER_STAGING);
	rc = adapter_plan_create(adapter->files, &adapter->model->config, pace,
		&adapter->plan, err);
	if (rc)
		error_prefix(err, "adapter \"%s\"", adapter->info.name);
	return rc;
}

/* What the plan says, for whoever looks: the rank's thread alone writes it. */
static void note_plan(struct adapter *adapter)
{
	adapter->info.expert_count = adapter->plan.config.total;
	adapter->info.file_bytes = adapter->plan.size_bytes;
}

int adapter_stage(struct adapter_set *set, const char *name, bool replace,
	const struct adapter_files *files, struct adapter **out,
	struct error *err)
{
	struct adapter *adapter = NULL;
	int rc = check_name(name, err);

	if (rc == 0)
		rc = check_place(set, name, replace, err);
	if (rc == 0)
		rc = adapter_reserve(set, name, files, &adapter, err);
	if (rc)
		return rc;
	assert(adapter);
	adapter->by_handle = false;
	rc = adapter_check(adapter, NULL, err);
	if (rc) {
		make_absent(adapter);
		return rc;
	}
	note_plan(adapter);
	*out = adapter;
	return 0;
}

uint64_t adapter_page_count(
	const struct adapter_set *set, const struct adapter *adapter)
{
	const struct adapter_config *config = &adapter->plan.config;
	const struct expert_shape *shape =
		expert_store_shape(set->model->experts);

	assert(adapter->info.state == ADAPTER_STAGING);
	return expert_shape_run_pages(
		shape, page_pool_page_size(set->model->pool), config->total);
}

/* Where each expert goes: the fill asks nobody while steps run. */
static void note_slots(struct adapter_set *set, struct adapter *adapter)
{
	const struct adapter_config *config = &adapter->plan.config;

	for (uint32_t l = 0; l < config->layer_count; l++)
		for (uint32_t i = 0; i < config->counts[l]; i++)
			adapter->slots[config->first[l] + i] =
				expert_store_instance_slot(set->model->experts,
					adapter->info.instance, l,
					config->lists[l][i]);
}

int adapter_map(
	struct adapter_set *set, struct adapter *adapter, struct error *err)
{
	const struct adapter_config *config = &adapter->plan.config;
	uint64_t pages = adapter_page_count(set, adapter);
	uint64_t slot =
		expert_store_shape(set->model->experts)->slot_size_bytes;
	int rc;

	note_plan(adapter);
	adapter->slots = calloc(config->total, sizeof(*adapter->slots));
	if (!adapter->slots)
		return error_set(err, ENOMEM,
			"adapter \"%s\": no memory for %u experts",
			adapter->info.name, config->total);
	rc = expert_store_add(set->model->experts, config->counts,
		config->lists, &adapter->info.instance, err);
	if (rc) {
		free(adapter->slots);
		adapter->slots = NULL;
		error_prefix(err, "adapter \"%s\"", adapter->info.name);
		return rc;
	}
	note_slots(set, adapter);
	adapter->info.used_bytes = config->total * slot;
	adapter->info.page_bytes =
		pages * page_pool_page_size(set->model->pool);
	set_state(adapter, ADAPTER_LOADING);
	return 0;
}

int adapter_copy(struct adapter *adapter, uint32_t lane_count,
	const struct adapter_pace *pace, struct reader_info *out,
	struct error *err)
{
	struct adapter_fill fill = {
		.files = adapter->files,
		.plan = &adapter->plan,
		.shape = expert_store_shape(adapter->model->experts),
		.vmm = adapter->model->vmm,
		.slots = adapter->slots,
		.lane_count = lane_count,
		.pace = pace,
		.done_bytes = &adapter->done_bytes,
	};
	int rc;

	assert(adapter->info.state == ADAPTER_LOADING);
	rc = adapter_fill_run(&fill, out, err);
	adapter->copied = rc == 0;
	if (rc)
		error_prefix(err, "adapter \"%s\"", adapter->info.name);
	return rc;
}

void adapter_publish(struct adapter_set *set, struct adapter *adapter)
{
	struct adapter *old = NULL;

	assert(adapter->copied);
	if (!adapter->by_handle)
		old = find(set, adapter->info.name, ADAPTER_RESIDENT);
	expert_store_publish(set->model->experts, adapter->info.instance);
	if (old)
		set_state(old, ADAPTER_DRAINING);
	set_state(adapter, ADAPTER_RESIDENT);
	release_plan(adapter);
}

int adapter_abandon_some(struct adapter_set *set, struct adapter *adapter,
	uint32_t page_count_max)
{
	int rc = 0;

	if (adapter->info.state != ADAPTER_STAGING) {
		assert(adapter->info.state == ADAPTER_LOADING);
		adapter->copied = false;
		rc = expert_store_remove_some(set->model->experts,
			adapter->info.instance, page_count_max);
	}
	if (rc == -EAGAIN)
		return rc;
	if (rc == 0) {
		make_absent(adapter);
		return 0;
	}
	set_state(adapter, ADAPTER_DRAINING);
	adapter->info.name[0] = '\0';
	adapter->by_handle = false; /* nobody's any more */
	release_plan(adapter);
	return 0;
}

void adapter_abandon(struct adapter_set *set, struct adapter *adapter)
{
	int rc = adapter_abandon_some(set, adapter, UINT32_MAX);

	assert(rc == 0);
}

static int load(struct adapter_set *set, struct adapter *adapter,
	uint32_t lane_count, struct error *err)
{
	struct reader_info info;
	int rc;

	assert(adapter);
	rc = adapter_map(set, adapter, err);

	if (rc == 0)
		rc = adapter_copy(adapter, lane_count, NULL, &info, err);
	if (rc)
		adapter_abandon(set, adapter);
	else
		adapter_publish(set, adapter);
	return rc;
}

int adapter_load(struct adapter_set *set, const char *name,
	const struct adapter_files *files, uint32_t lane_count,
	struct error *err)
{
	struct adapter *adapter = NULL;
	int rc = adapter_stage(set, name, false, files, &adapter, err);

	return rc ? rc : load(set, adapter, lane_count, err);
}

int adapter_replace(struct adapter_set *set, const char *name,
	const struct adapter_files *files, uint32_t lane_count,
	struct error *err)
{
	struct adapter *adapter = NULL;
	int rc = adapter_stage(set, name, true, files, &adapter, err);

	return rc ? rc : load(set, adapter, lane_count, err);
}

/* ---- leaving ---- */

static bool drained(const struct adapter *adapter)
{
	return adapter->info.state == ADAPTER_DRAINING &&
	       adapter->info.user_count == 0;
}

int adapter_drop(struct adapter_set *set, struct adapter *adapter,
	uint32_t page_count_max, struct error *err)
{
	int rc;

	assert(drained(adapter) && adapter->by_handle);
	rc = expert_store_remove_some(
		set->model->experts, adapter->info.instance, page_count_max);
	if (rc == -EAGAIN)
		return rc;
	if (rc)
		return error_set(err, EIO,
			"adapter \"%s\": the fence failed, its pages cannot be "
			"freed",
			adapter->info.name);
	make_absent(adapter);
	return 0;
}

void adapter_retire(struct adapter *adapter)
{
	assert(adapter->by_handle);
	set_state(adapter, ADAPTER_DRAINING);
}

uint32_t adapter_reap(struct adapter_set *set, struct error *err)
{
	uint32_t left = 0;

	for (uint32_t i = 0; i < set->count; i++) {
		struct adapter *adapter = &set->adapters[i];

		if (adapter->by_handle)
			continue;
		if (drained(adapter) && expert_store_remove(set->model->experts,
						adapter->info.instance) == 0)
			make_absent(adapter);
		else if (drained(adapter))
			error_set(err, EIO,
				"adapter \"%s\": the fence failed, its pages "
				"cannot be freed",
				adapter->info.name);
		left += adapter->info.state == ADAPTER_DRAINING;
	}
	return left;
}

int adapter_unload(struct adapter_set *set, const char *name, struct error *err)
{
	struct adapter *adapter = find(set, name, ADAPTER_RESIDENT);
	uint32_t users = 0;

	if (name[0] == '\0' || (!adapter && !find(set, name, ADAPTER_DRAINING)))
		return error_set(
			err, ENOENT, "adapter \"%s\" is not loaded", name);
	if (adapter)
		set_state(adapter, ADAPTER_DRAINING);
	for (uint32_t i = 0; i < set->count; i++)
		if (set->adapters[i].info.state == ADAPTER_DRAINING &&
			strcmp(set->adapters[i].info.name, name) == 0)
			users += set->adapters[i].info.user_count;
	adapter_reap(set, NULL);
	if (!find(set, name, ADAPTER_DRAINING))
		return 0;
	if (users > 0)
		return error_set(err, EBUSY,
			"adapter \"%s\": %u requests still use it", name,
			users);
	return error_set(err, EIO,
		"adapter \"%s\": the fence failed, its pages cannot be freed",
		name);
}

/* ---- requests ---- */

int adapter_bind(struct adapter_set *set, const char *name, uint32_t *out)
{
	struct adapter *adapter = find(set, name, ADAPTER_RESIDENT);

	if (!adapter)
		return -ENOENT;
	adapter->info.user_count++;
	*out = adapter->info.instance;
	return 0;
}

void adapter_use(struct adapter *adapter)
{
	assert(adapter->by_handle && adapter->info.state == ADAPTER_RESIDENT);
	adapter->info.user_count++;
}

/* Some request carries the instance, so it is there. */
static struct adapter *carrier(const struct adapter_set *set, uint32_t instance)
{
	uint32_t i = 0;

	for (;; i++) {
		const struct adapter_info *info;

		assert(i < set->count);
		info = &set->adapters[i].info;
		if ((info->state == ADAPTER_RESIDENT ||
			    info->state == ADAPTER_DRAINING) &&
			info->instance == instance)
			return &set->adapters[i];
	}
}

void adapter_hold(struct adapter_set *set, uint32_t instance)
{
	struct adapter *adapter = carrier(set, instance);

	assert(adapter->info.user_count > 0);
	adapter->info.user_count++;
}

void adapter_release(struct adapter_set *set, uint32_t instance)
{
	struct adapter *adapter = carrier(set, instance);

	assert(adapter->info.user_count > 0);
	adapter->info.user_count--;
}

/* ---- to look at ---- */

void adapter_look(const struct adapter *adapter, struct adapter_info *out)
{
	*out = adapter->info;
	out->done_bytes =
		__atomic_load_n(&adapter->done_bytes, __ATOMIC_RELAXED);
}

uint32_t adapter_count(const struct adapter_set *set)
{
	uint32_t count = 0;

	for (uint32_t i = 0; i < set->count; i++)
		count += set->adapters[i].info.state != ADAPTER_ABSENT;
	return count;
}

void adapter_info_at(
	const struct adapter_set *set, uint32_t index, struct adapter_info *out)
{
	uint32_t i = 0;

	for (;; i++) {
		assert(i < set->count);
		if (set->adapters[i].info.state != ADAPTER_ABSENT &&
			index-- == 0)
			break;
	}
	adapter_look(&set->adapters[i], out);
}

static void check_adapter(
	const struct adapter_set *set, const struct adapter *adapter)
{
	const struct adapter_info *info = &adapter->info;
	struct expert_view view;
	bool mapped = info->state >= ADAPTER_LOADING;

	expert_store_view(set->model->experts, &view);
	assert((adapter->model != NULL) == (info->state != ADAPTER_ABSENT));
	assert(info->user_count == 0 || info->state >= ADAPTER_RESIDENT);
	assert(mapped == (info->page_bytes > 0));
	if (info->state != ADAPTER_ABSENT)
		assert(mapped == (info->instance != INSTANCE_NONE));
	if (info->state == ADAPTER_RESIDENT)
		assert(view.published[info->instance]);
	if (info->state == ADAPTER_LOADING)
		assert(!view.published[info->instance]);
	if (info->name[0])
		assert(live_count(set, info->name) <= 2);
}

void adapter_set_check(const struct adapter_set *set)
{
	struct expert_books books;
	uint64_t used = 0, pages = 0;
	uint32_t mapped = 0;

	expert_store_check(set->model->experts);
	expert_store_books(set->model->experts, &books);
	for (uint32_t i = 0; i < set->count; i++) {
		const struct adapter_info *info = &set->adapters[i].info;

		check_adapter(set, &set->adapters[i]);
		mapped += info->state >= ADAPTER_LOADING;
		used += info->used_bytes;
		pages += info->page_bytes;
	}
	assert(mapped == books.instance_count);
	assert(used == books.adapter_used_bytes);
	assert(pages == books.adapter_page_bytes);
}
