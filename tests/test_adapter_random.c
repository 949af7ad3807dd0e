/* test_adapter_random.c - names, instances and pages, against a naive model */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The model is an array of owners, one per page, and a list of instances with
 * their names and users. It knows nothing of runs, maps, fences or files; it
 * only says what must be where after each of 100,000 operations
 * (HEDDLE_TEST_OPS asks for more). Calls fail at random; then nothing may
 * have changed. Work is submitted at random; the fake stops at every unmap
 * without a fence.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "control/model_dir.h"
#include "engine/adapter.h"
#include "tests/adapter_case.h"
#include "tests/fake/fake_vmm.h"
#include "tests/suite.h"

#define OPERATIONS 100000
#define NAMES 4u
#define INSTANCES 6u
#define SOURCES 6u
#define ADAPTER_PAGES 14u
#define SLOTS 14u
#define PAGES_MAX 512u

struct naive_instance {
	bool live, draining;
	uint32_t name, source, users;
};

struct naive {
	enum page_owner owner[PAGES_MAX];
	uint32_t id[PAGES_MAX];
	struct naive_instance instances[INSTANCES]; /* [row], 0 unused */
};

enum operation {
	OP_LOAD,
	OP_REPLACE,
	OP_UNLOAD,
	OP_REAP,
	OP_BIND,
	OP_HOLD,
	OP_RELEASE,
	OP_ABANDON,
	OP_COUNT
};

struct run {
	struct vmm host, vmm;
	struct model *model;
	struct adapter_set *set;
	struct adapter_case cases[SOURCES];
	struct adapter_files files[SOURCES];
	uint32_t pages[SOURCES], slots[SOURCES][8];
	uint32_t page_count;
	struct naive naive;
	uint64_t state;
	uint32_t done[OP_COUNT], refused[OP_COUNT], failed;
};

static const char *const names[NAMES] = {"math", "law", "intent", "summary"};

static void open_model(struct run *r)
{
	struct vmm_host_config host = {
		.granularity_bytes = PAGE_SIZE_BYTES_MIN};
	struct model_options options = {
		.layout = WEIGHT_PANELS,
		.thread_count = 1,
		.page_size_bytes = PAGE_SIZE_BYTES_MIN,
		.kv_type = DTYPE_BF16,
		.kv_token_count = 64,
		.adapter_page_count = ADAPTER_PAGES,
		.instance_count_max = INSTANCES,
		.adapter_slot_count_max = SLOTS,
	};
	struct model_files files;
	struct error err = {0};

	CU_ASSERT_EQUAL_FATAL(vmm_host_init(&r->host, &host, &err), 0);
	fake_vmm_init(&r->vmm, PAGE_SIZE_BYTES_MIN, &r->host);
	CU_ASSERT_EQUAL_FATAL(
		model_dir_open("tests/golden/mixtral", &files, &err), 0);
	CU_ASSERT_EQUAL_FATAL(
		model_load(&r->vmm, &files, &options, &r->model, &err), 0);
	model_files_close(&files);
	CU_ASSERT_EQUAL_FATAL(adapter_set_create(r->model, &r->set, &err), 0);
	r->page_count = page_pool_page_count(r->model->pool);
	CU_ASSERT_FATAL(r->page_count <= PAGES_MAX);
}

/* Pages and slots of each source, by nothing but its lists. */
static void measure_source(struct run *r, uint32_t source)
{
	const struct expert_shape *shape =
		expert_store_shape(r->model->experts);
	uint64_t slot = shape->slot_size_bytes, total = 0;

	CU_ASSERT_FATAL(shape->layer_count <= 8);
	for (uint32_t l = 0; l < shape->layer_count; l++) {
		uint32_t count = 0;

		for (uint32_t e = 0; e < shape->base_count; e++)
			count +=
				r->cases[source].has[l * shape->base_count + e];
		r->slots[source][l] = count;
		total += count;
	}
	r->pages[source] = (uint32_t)((total * slot + PAGE_SIZE_BYTES_MIN - 1) /
				      PAGE_SIZE_BYTES_MIN);
}

static void open_run(struct run *r)
{
	*r = (struct run){.state = suite_seed(5)};
	open_model(r);
	for (uint32_t i = 0; i < SOURCES; i++) {
		struct adapter_case_options options = {
			.seed = suite_random(&r->state),
			.type = i % 3 ? DTYPE_F32 : DTYPE_BF16,
			.file_count = 1,
			.layer_expert_max = 3,
		};

		adapter_case_make(&r->cases[i], &r->model->config, &options);
		adapter_case_open(&r->cases[i], &r->files[i]);
		measure_source(r, i);
	}
	for (uint32_t p = 0; p < r->page_count; p++)
		r->naive.owner[p] =
			page_pool_owner(r->model->pool, p, &r->naive.id[p]);
}

static void close_run(struct run *r)
{
	for (uint32_t i = 1; i < INSTANCES; i++)
		while (r->naive.instances[i].users > 0) {
			adapter_release(r->set, i);
			r->naive.instances[i].users--;
		}
	adapter_set_destroy(r->set);
	for (uint32_t i = 0; i < SOURCES; i++) {
		adapter_files_close(&r->files[i]);
		adapter_case_release(&r->cases[i]);
	}
	CU_ASSERT_EQUAL(page_pool_count(r->model->pool, PAGE_EXPERTS), 0);
	model_destroy(r->model);
	CU_ASSERT(fake_vmm_check_empty(&r->vmm));
	fake_vmm_destroy(&r->vmm);
	vmm_host_destroy(&r->host);
}

/* ---- the naive model ---- */

static uint32_t find(const struct naive *n, uint32_t name, bool draining)
{
	for (uint32_t i = 1; i < INSTANCES; i++)
		if (n->instances[i].live && n->instances[i].name == name &&
			n->instances[i].draining == draining)
			return i;
	return 0;
}

static bool has_room(const struct run *r, uint32_t source)
{
	const struct naive *n = &r->naive;
	uint32_t free_pages = 0, rows = 0;

	for (uint32_t p = 0; p < r->page_count; p++)
		free_pages += n->owner[p] == PAGE_FREE;
	for (uint32_t l = 0; l < 8; l++) {
		uint32_t used = r->slots[source][l];

		for (uint32_t i = 1; i < INSTANCES; i++)
			if (n->instances[i].live)
				used += r->slots[n->instances[i].source][l];
		if (used > SLOTS)
			return false;
	}
	for (uint32_t i = 1; i < INSTANCES; i++)
		rows += !n->instances[i].live;
	return rows > 0 && free_pages >= r->pages[source];
}

static void naive_load(struct run *r, uint32_t name, uint32_t source)
{
	struct naive *n = &r->naive;
	uint32_t row = 1, left = r->pages[source];

	while (n->instances[row].live)
		row++;
	n->instances[row] =
		(struct naive_instance){true, false, name, source, 0};
	for (uint32_t p = 0; left > 0; p++)
		if (n->owner[p] == PAGE_FREE) {
			n->owner[p] = PAGE_EXPERTS;
			n->id[p] = row;
			left--;
		}
}

static uint32_t naive_reap(struct run *r)
{
	struct naive *n = &r->naive;
	uint32_t left = 0;

	for (uint32_t i = 1; i < INSTANCES; i++) {
		struct naive_instance *it = &n->instances[i];

		if (!it->live || !it->draining)
			continue;
		left += it->users > 0;
		if (it->users > 0)
			continue;
		*it = (struct naive_instance){0};
		for (uint32_t p = 0; p < r->page_count; p++)
			if (n->owner[p] == PAGE_EXPERTS && n->id[p] == i) {
				n->owner[p] = PAGE_FREE;
				n->id[p] = 0;
			}
	}
	return left;
}

static uint32_t compare(const struct run *r)
{
	uint32_t wrong = 0, live = 0;

	for (uint32_t p = 0; p < r->page_count; p++) {
		uint32_t id = 0;
		enum page_owner owner = page_pool_owner(r->model->pool, p, &id);

		wrong += owner != r->naive.owner[p] ||
			 (owner == PAGE_EXPERTS && id != r->naive.id[p]);
	}
	for (uint32_t i = 1; i < INSTANCES; i++)
		live += r->naive.instances[i].live;
	return wrong + (live != adapter_count(r->set));
}

/* ---- one operation on both ---- */

static int expected_load(
	const struct run *r, uint32_t name, uint32_t source, bool replace)
{
	bool resident = find(&r->naive, name, false) > 0;
	bool draining = find(&r->naive, name, true) > 0;

	if (replace && !resident)
		return -ENOENT;
	if (replace && draining)
		return -EBUSY;
	if (!replace && (resident || draining))
		return -EEXIST;
	return has_room(r, source) ? 0 : 1; /* -ENOMEM or -ENFILE */
}

static uint32_t do_load(struct run *r, bool replace)
{
	uint32_t name = suite_below(&r->state, NAMES);
	uint32_t source = suite_below(&r->state, SOURCES);
	int want = expected_load(r, name, source, replace), got;
	bool faulty = suite_below(&r->state, 8) == 0;

	if (faulty)
		fake_vmm_fail(&r->vmm, FAKE_ANY, 1 + suite_below(&r->state, 6));
	got = replace ? adapter_replace(
				r->set, names[name], &r->files[source], 1, NULL)
		      : adapter_load(r->set, names[name], &r->files[source], 1,
				NULL);
	faulty = fake_vmm_has_failed(&r->vmm);
	fake_vmm_disarm(&r->vmm);
	if (faulty) {
		/* What a failed fence kept goes at the next chance. */
		r->failed++;
		naive_reap(r);
		return got == 0 || adapter_reap(r->set, NULL) != naive_reap(r);
	}
	if (got == 0) {
		uint32_t old = find(&r->naive, name, false);

		if (old)
			r->naive.instances[old].draining = true;
		if (want == 0)
			naive_load(r, name, source);
	}
	r->done[replace ? OP_REPLACE : OP_LOAD] += got == 0;
	r->refused[replace ? OP_REPLACE : OP_LOAD] += got != 0;
	return want > 0 ? got != -ENOMEM && got != -ENFILE : want != got;
}

static uint32_t do_unload(struct run *r)
{
	uint32_t name = suite_below(&r->state, NAMES), users = 0;
	uint32_t resident = find(&r->naive, name, false);
	uint32_t draining = find(&r->naive, name, true);
	int want = resident || draining ? 0 : -ENOENT, got;

	got = adapter_unload(r->set, names[name], NULL);
	if (resident)
		r->naive.instances[resident].draining = true;
	for (uint32_t i = 1; i < INSTANCES; i++)
		if (r->naive.instances[i].live &&
			r->naive.instances[i].name == name)
			users += r->naive.instances[i].users;
	if (want == 0) {
		naive_reap(r);
		want = users > 0 ? -EBUSY : 0;
	}
	r->done[OP_UNLOAD] += got == 0;
	r->refused[OP_UNLOAD] += got != 0;
	return want != got;
}

static uint32_t do_request(struct run *r, enum operation op)
{
	uint32_t name = suite_below(&r->state, NAMES), instance = 0;
	uint32_t row = 1 + suite_below(&r->state, INSTANCES - 1);
	struct naive_instance *it = &r->naive.instances[row];

	if (op == OP_BIND) {
		uint32_t want = find(&r->naive, name, false);
		int rc = adapter_bind(r->set, names[name], &instance);

		r->done[op] += rc == 0;
		if (rc == 0)
			r->naive.instances[instance].users++;
		return rc == 0 ? instance != want : want != 0;
	}
	if (it->users == 0)
		return 0;
	r->done[op]++;
	if (op == OP_HOLD && it->users < 9) {
		adapter_hold(r->set, row);
		it->users++;
	} else {
		adapter_release(r->set, row);
		it->users--;
	}
	return 0;
}

/* A load that stops half-way leaves nothing, at once or in parts. */
static uint32_t do_abandon(struct run *r)
{
	uint32_t name = suite_below(&r->state, NAMES);
	uint32_t source = suite_below(&r->state, SOURCES);
	int want = expected_load(r, name, source, false);
	struct adapter *adapter;
	uint32_t wrong;

	if (adapter_stage(r->set, names[name], false, &r->files[source],
		    &adapter, NULL))
		return want >= 0;
	wrong = want < 0 ||
		adapter_page_count(r->set, adapter) != r->pages[source];
	wrong += (adapter_map(r->set, adapter, NULL) == 0) != (want == 0);
	do
		fake_vmm_work_begin(&r->vmm);
	while (adapter_abandon_some(r->set, adapter,
		       1 + suite_below(&r->state, 9)) == -EAGAIN);
	r->done[OP_ABANDON]++;
	return wrong;
}

static uint32_t operate(struct run *r)
{
	/* Requests are many, loads are few, as in life. */
	uint32_t dice = suite_below(&r->state, 100);

	if (suite_below(&r->state, 4) == 0)
		fake_vmm_work_begin(&r->vmm);
	if (dice < 5)
		return do_load(r, false);
	if (dice < 8)
		return do_load(r, true);
	if (dice < 12)
		return do_unload(r);
	if (dice < 14)
		return do_abandon(r);
	if (dice < 20)
		return adapter_reap(r->set, NULL) != naive_reap(r);
	if (dice < 50)
		return do_request(r, OP_BIND);
	return do_request(r, dice < 55 ? OP_HOLD : OP_RELEASE);
}

/* The bytes of every resident instance, and all invariants. */
static uint32_t check_deeply(const struct run *r)
{
	uint32_t wrong = 0;

	adapter_set_check(r->set);
	page_pool_check(r->model->pool);
	for (uint32_t i = 1; i < INSTANCES; i++)
		if (r->naive.instances[i].live)
			wrong +=
				adapter_case_wrong(
					&r->cases[r->naive.instances[i].source],
					r->model, i) != 0;
	return wrong;
}

static void test_adapter__random_operations(void)
{
	const char *asked = getenv("HEDDLE_TEST_OPS");
	uint64_t count = asked ? strtoull(asked, NULL, 10) : OPERATIONS;
	uint32_t wrong = 0;
	struct run r;

	open_run(&r);
	for (uint64_t i = 0; i < count && wrong == 0; i++) {
		wrong += operate(&r);
		wrong += compare(&r);
		if (i % 2000 == 0)
			wrong += check_deeply(&r);
		if (wrong)
			printf("operation %llu; ", (unsigned long long)i);
	}
	printf("%u loads (%u refused), %u replaced (%u refused), %u unloaded, "
	       "%u abandoned, %u bound, %u faults ",
		r.done[OP_LOAD], r.refused[OP_LOAD], r.done[OP_REPLACE],
		r.refused[OP_REPLACE], r.done[OP_UNLOAD], r.done[OP_ABANDON],
		r.done[OP_BIND], r.failed);
	CU_ASSERT_EQUAL(wrong, 0);
	for (int op = 0; op < OP_COUNT; op++)
		CU_ASSERT(op == OP_REAP || r.done[op] > 50);
	CU_ASSERT(r.refused[OP_LOAD] > 50 && r.refused[OP_REPLACE] > 50);
	CU_ASSERT(r.failed > 50);
	close_run(&r);
}

int main(void)
{
	static const struct suite_case cases[] = {
		SUITE_CASE(adapter__random_operations),
	};

	return SUITE_MAIN("adapter_random", cases);
}
