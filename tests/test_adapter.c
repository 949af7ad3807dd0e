/* test_adapter.c - adapters come and go, whole or not at all */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A real model in a real pool, over a fake that stops at every broken rule of
 * vmm.h. Work is submitted before each change, so an unmap without a fence
 * ends the program.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "control/model_dir.h"
#include "engine/adapter.h"
#include "tests/adapter_case.h"
#include "tests/fake/fake_os.h"
#include "tests/fake/fake_vmm.h"
#include "tests/suite.h"

#define INSTANCES 5u
#define POISON UINT64_C(0xa5a5a5a5a5a5a5a5)

struct fixture {
	struct vmm host, vmm;
	struct model *model;
	struct adapter_set *set;
	uint32_t free_pages; /* with no adapter there */
};

static void begin_layout(struct fixture *f, const char *directory,
	uint32_t pages, enum weight_layout layout)
{
	struct vmm_host_config host = {
		.granularity_bytes = PAGE_SIZE_BYTES_MIN};
	struct model_options options = {
		.layout = layout,
		.thread_count = 1,
		.page_size_bytes = PAGE_SIZE_BYTES_MIN,
		.kv_type = DTYPE_BF16,
		.kv_token_count = 64,
		.adapter_page_count = pages,
		.instance_count_max = INSTANCES,
		.adapter_slot_count_max = 24,
	};
	struct model_files files;
	struct error err = {0};

	CU_ASSERT_EQUAL_FATAL(vmm_host_init(&f->host, &host, &err), 0);
	fake_vmm_init(&f->vmm, PAGE_SIZE_BYTES_MIN, &f->host);
	CU_ASSERT_EQUAL_FATAL(model_dir_open(directory, &files, &err), 0);
	CU_ASSERT_EQUAL_FATAL(
		model_load(&f->vmm, &files, &options, &f->model, &err), 0);
	model_files_close(&files);
	CU_ASSERT_EQUAL_FATAL(adapter_set_create(f->model, &f->set, &err), 0);
	f->free_pages = page_pool_count(f->model->pool, PAGE_FREE);
}

static void begin(struct fixture *f, const char *directory, uint32_t pages)
{
	begin_layout(f, directory, pages, WEIGHT_PANELS);
}

static void end(struct fixture *f)
{
	adapter_set_destroy(f->set);
	CU_ASSERT_EQUAL(
		page_pool_count(f->model->pool, PAGE_FREE), f->free_pages);
	page_pool_check(f->model->pool);
	model_destroy(f->model);
	CU_ASSERT(fake_vmm_check_empty(&f->vmm));
	fake_vmm_destroy(&f->vmm);
	vmm_host_destroy(&f->host);
}

/* An adapter and its open files. */
struct source {
	struct adapter_case a;
	struct adapter_files files;
};

static void make(struct source *s, const struct fixture *f, uint64_t seed,
	enum dtype type, uint32_t experts)
{
	struct adapter_case_options options = {
		.seed = seed,
		.type = type,
		.file_count = 1 + (uint32_t)(seed % 2),
		.layer_expert_max = experts,
		.odd = seed % 3 == 0,
	};

	adapter_case_make(&s->a, &f->model->config, &options);
	adapter_case_open(&s->a, &s->files);
}

static void drop(struct source *s)
{
	adapter_files_close(&s->files);
	adapter_case_release(&s->a);
}

static int load(struct fixture *f, const char *name, struct source *s,
	struct error *err)
{
	fake_vmm_work_begin(&f->vmm);
	return adapter_load(f->set, name, &s->files, 1, err);
}

/* The information of a name's instance in that state; fails if there is none. */
static struct adapter_info info_of(
	const struct fixture *f, const char *name, enum adapter_state state)
{
	struct adapter_info info = {0};

	for (uint32_t i = 0; i < adapter_count(f->set); i++) {
		adapter_info_at(f->set, i, &info);
		if (info.state == state && strcmp(info.name, name) == 0)
			return info;
	}
	CU_FAIL_FATAL("no such instance");
	return info;
}

/* ---- bytes ---- */

/* Leave another tenant's bytes in every free page. */
static void poison(struct fixture *f)
{
	size_t words = PAGE_SIZE_BYTES_MIN / sizeof(uint64_t);
	uint32_t *pages = suite_calloc(f->free_pages, sizeof(*pages));
	struct page_pool *pool = f->model->pool;
	uint32_t count = page_pool_count(pool, PAGE_FREE);

	CU_ASSERT_EQUAL(
		page_pool_take(pool, PAGE_LORA, 9, count, false, pages), 0);
	for (uint32_t i = 0; i < count; i++) {
		uint64_t *page = f->vmm.ops->host_pointer(
			&f->vmm, page_pool_address(pool, pages[i]));

		for (size_t w = 0; w < words; w++)
			page[w] = POISON;
	}
	page_pool_give(pool, PAGE_LORA, 9, pages, count);
	free(pages);
}

/* Bytes of the instance's pages that are still the other tenant's. */
static uint64_t poisoned(const struct fixture *f, uint32_t instance)
{
	const struct page_pool *pool = f->model->pool;
	uint64_t found = 0;

	for (uint32_t p = 0; p < page_pool_page_count(pool); p++) {
		const uint8_t *page;
		uint32_t id, row = 0;

		if (page_pool_owner(pool, p, &id) != PAGE_EXPERTS ||
			id != instance)
			continue;
		page = (const uint8_t *)(uintptr_t)page_pool_address(pool, p);
		for (size_t i = 0; i < PAGE_SIZE_BYTES_MIN; i++) {
			row = page[i] == (POISON & 0xff) ? row + 1 : 0;
			found += row >= 8; /* fewer may be a value's */
		}
	}
	return found;
}

static void test_adapter_load__every_byte(void)
{
	static const char *const names[] = {
		"mixtral", "deepseek_v2_lite", "granitemoe", "deepseek_v3_fp8"};
	static const enum dtype types[] = {DTYPE_F32, DTYPE_BF16, DTYPE_F16};

	for (uint32_t i = 0; i < 12; i++) {
		struct error err = {0};
		struct adapter_info info;
		char directory[64];
		struct fixture f;
		struct source s;

		snprintf(directory, sizeof(directory), "tests/golden/%s",
			names[i % 4]);
		begin(&f, directory, 60);
		make(&s, &f, i, types[i / 4], 3);
		poison(&f);
		CU_ASSERT_EQUAL_FATAL(load(&f, "a", &s, &err), 0);
		info = info_of(&f, "a", ADAPTER_RESIDENT);
		CU_ASSERT_EQUAL(info.expert_count, s.a.total);
		CU_ASSERT_EQUAL(info.done_bytes, info.file_bytes);
		CU_ASSERT_EQUAL(
			adapter_case_wrong(&s.a, f.model, info.instance), 0);
		CU_ASSERT_EQUAL(poisoned(&f, info.instance), 0);
		adapter_set_check(f.set);
		drop(&s);
		end(&f);
	}
}

/* The experts of this base are in f16. */
static void test_adapter_load__a_value_without_room(void)
{
	static const float big = 1e6f;
	struct error err = {0};
	struct fixture f;
	struct source s;

	begin(&f, "tests/golden/qwen3_moe_v5", 60);
	CU_ASSERT_EQUAL(
		expert_store_shape(f.model->experts)->format.type, DTYPE_F16);
	make(&s, &f, 5, DTYPE_F32, 2);
	CU_ASSERT_EQUAL(load(&f, "a", &s, &err), 0);
	CU_ASSERT_EQUAL(adapter_unload(f.set, "a", NULL), 0);
	adapter_files_close(&s.files);
	for (uint32_t i = 0; i < s.a.options.file_count; i++)
		for (size_t t = 0; t < s.a.files[i].count; t++)
			s.a.files[i].tensors[t].data = NULL;
	memcpy(s.a.bytes, &big, sizeof(big));
	s.a.files[0].tensors[0].data = s.a.bytes;
	adapter_case_open(&s.a, &s.files);
	CU_ASSERT_EQUAL(load(&f, "a", &s, &err), -ERANGE);
	CU_ASSERT_PTR_NOT_NULL(strstr(err.text, "has no room in f16"));
	adapter_set_check(f.set);
	drop(&s);
	end(&f);
}

/* ---- life ---- */

/* One byte more than a name may have. */
static const char long_name[] =
	"0123456789012345678901234567890123456789012345678901234567890123"
	"0123456789012345678901234567890123456789012345678901234567890123";

static void test_adapter__names(void)
{
	static const char *const bad[] = {
		"", "a b", "a\"b", "a\nb", "\xc3\xa4", long_name};
	struct fixture f;
	struct source s;

	begin(&f, "tests/golden/mixtral", 60);
	make(&s, &f, 1, DTYPE_BF16, 2);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct error err = {0};

		CU_ASSERT_EQUAL(load(&f, bad[i], &s, &err), -EINVAL);
		CU_ASSERT_NOT_EQUAL(err.text[0], '\0');
	}
	CU_ASSERT_EQUAL(load(&f, "org/math-v1.2:x", &s, NULL), 0);
	CU_ASSERT_EQUAL(load(&f, "org/math-v1.2:x", &s, NULL), -EEXIST);
	CU_ASSERT_EQUAL(adapter_unload(f.set, "math", NULL), -ENOENT);
	CU_ASSERT_EQUAL(adapter_unload(f.set, "", NULL), -ENOENT);
	drop(&s);
	end(&f);
}

static void test_adapter_unload__waits_for_its_users(void)
{
	struct error err = {0};
	uint32_t instance, again;
	struct fixture f;
	struct source s;

	begin(&f, "tests/golden/mixtral", 60);
	make(&s, &f, 1, DTYPE_BF16, 2);
	CU_ASSERT_EQUAL(load(&f, "a", &s, &err), 0);
	CU_ASSERT_EQUAL(adapter_bind(f.set, "a", &instance), 0);
	adapter_hold(f.set, instance);
	CU_ASSERT_EQUAL(adapter_unload(f.set, "a", &err), -EBUSY);
	CU_ASSERT_PTR_NOT_NULL(strstr(err.text, "2 requests"));
	CU_ASSERT_EQUAL(adapter_bind(f.set, "a", &again), -ENOENT);
	CU_ASSERT_EQUAL(load(&f, "a", &s, NULL), -EEXIST);
	adapter_release(f.set, instance);
	CU_ASSERT_EQUAL(adapter_reap(f.set, NULL), 1);
	CU_ASSERT_EQUAL(adapter_case_wrong(&s.a, f.model, instance), 0);
	adapter_release(f.set, instance);
	fake_vmm_work_begin(&f.vmm);
	CU_ASSERT_EQUAL(adapter_reap(f.set, NULL), 0);
	CU_ASSERT_EQUAL(
		page_pool_count(f.model->pool, PAGE_FREE), f.free_pages);
	CU_ASSERT_EQUAL(adapter_unload(f.set, "a", NULL), -ENOENT);
	drop(&s);
	end(&f);
}

static void test_adapter_replace__two_at_most(void)
{
	uint32_t first, second;
	struct error err = {0};
	struct source s[2];
	struct fixture f;

	begin(&f, "tests/golden/mixtral", 60);
	make(&s[0], &f, 1, DTYPE_BF16, 2);
	make(&s[1], &f, 2, DTYPE_BF16, 2);
	CU_ASSERT_EQUAL(
		adapter_replace(f.set, "a", &s[1].files, 1, NULL), -ENOENT);
	CU_ASSERT_EQUAL(load(&f, "a", &s[0], &err), 0);
	CU_ASSERT_EQUAL(adapter_bind(f.set, "a", &first), 0);
	CU_ASSERT_EQUAL(adapter_replace(f.set, "a", &s[1].files, 1, &err), 0);
	CU_ASSERT_EQUAL(adapter_bind(f.set, "a", &second), 0);
	CU_ASSERT_NOT_EQUAL(first, second);
	CU_ASSERT_EQUAL(adapter_case_wrong(&s[0].a, f.model, first), 0);
	CU_ASSERT_EQUAL(adapter_case_wrong(&s[1].a, f.model, second), 0);
	CU_ASSERT_EQUAL(
		adapter_replace(f.set, "a", &s[0].files, 1, &err), -EBUSY);
	CU_ASSERT_PTR_NOT_NULL(strstr(err.text, "two instances"));
	adapter_release(f.set, first);
	CU_ASSERT_EQUAL(adapter_reap(f.set, NULL), 0);
	CU_ASSERT_EQUAL(adapter_replace(f.set, "a", &s[0].files, 1, NULL), 0);
	CU_ASSERT_EQUAL(adapter_count(f.set), 2);
	adapter_release(f.set, second);
	adapter_set_check(f.set);
	drop(&s[0]);
	drop(&s[1]);
	end(&f);
}

/* Too little room: nothing has changed, and the text says what is short. */
static void test_adapter_load__no_room(void)
{
	struct error err = {0};
	struct source s[2];
	struct fixture f;
	uint32_t left;

	begin(&f, "tests/golden/mixtral", 3);
	make(&s[0], &f, 1, DTYPE_BF16, 1);
	make(&s[1], &f, 2, DTYPE_BF16, 0);
	CU_ASSERT_EQUAL(load(&f, "a", &s[0], &err), 0);
	left = page_pool_count(f.model->pool, PAGE_FREE);
	for (int i = 0; i < 20; i++) {
		char name[16];

		snprintf(name, sizeof(name), "b%d", i);
		error_clear(&err);
		if (load(&f, name, &s[1], &err))
			break;
		left = page_pool_count(f.model->pool, PAGE_FREE);
	}
	CU_ASSERT_NOT_EQUAL(err.text[0], '\0');
	CU_ASSERT_EQUAL(page_pool_count(f.model->pool, PAGE_FREE), left);
	adapter_set_check(f.set);
	drop(&s[0]);
	drop(&s[1]);
	end(&f);
}

/* A load that is given up at each of its parts. */
static void test_adapter_abandon__from_any_state(void)
{
	for (int part = 0; part < 3; part++) {
		struct reader_info info;
		struct adapter *adapter;
		struct error err = {0};
		struct fixture f;
		struct source s;

		begin(&f, "tests/golden/olmoe", 60);
		make(&s, &f, 4, DTYPE_BF16, 3);
		CU_ASSERT_EQUAL_FATAL(adapter_stage(f.set, "a", false, &s.files,
					      &adapter, &err),
			0);
		if (part > 0)
			CU_ASSERT_EQUAL(adapter_map(f.set, adapter, &err), 0);
		if (part > 1)
			CU_ASSERT_EQUAL(
				adapter_copy(adapter, 2, NULL, &info, &err), 0);
		CU_ASSERT_EQUAL(adapter_count(f.set), 1);
		adapter_set_check(f.set);
		fake_vmm_work_begin(&f.vmm);
		adapter_abandon(f.set, adapter);
		CU_ASSERT_EQUAL(adapter_count(f.set), 0);
		CU_ASSERT_EQUAL(page_pool_count(f.model->pool, PAGE_FREE),
			f.free_pages);
		adapter_set_check(f.set);
		drop(&s);
		end(&f);
	}
}

/* ---- faults ---- */

struct faults {
	struct fixture f;
	struct source old, next;
	uint64_t injected, silent, changed, survived;
};

/* What the old adapter is must not move by a byte. */
static void check_old(struct faults *t)
{
	struct adapter_info info = info_of(&t->f, "old", ADAPTER_RESIDENT);

	t->changed +=
		adapter_case_wrong(&t->old.a, t->f.model, info.instance) != 0;
	adapter_set_check(t->f.set);
}

static bool survivable(enum fake_os_call call)
{
	return call == FAKE_OS_URING_INIT || call == FAKE_OS_FCNTL ||
	       call == FAKE_OS_READ;
}

/*
 * One change with the n-th call failing; false: there was no n-th call. The
 * change is undone or completed, and then works.
 */
static bool fault(struct faults *t, bool os, uint64_t n,
	int (*change)(struct faults *t, struct error *err))
{
	uint32_t before = page_pool_count(t->f.model->pool, PAGE_FREE);
	struct error err = {0};
	bool failed;
	int rc;

	fake_vmm_work_begin(&t->f.vmm);
	if (os) {
		fake_os_reset();
		fake_os_fail(FAKE_OS_ANY, n, EIO);
	} else {
		fake_vmm_fail(&t->f.vmm, FAKE_ANY, n);
	}
	rc = change(t, &err);
	failed = os ? fake_os_has_failed() : fake_vmm_has_failed(&t->f.vmm);
	if (os && failed && rc == 0)
		CU_ASSERT(survivable(fake_os_failed_call()));
	fake_os_disarm();
	fake_vmm_disarm(&t->f.vmm);
	t->injected += failed;
	t->survived += failed && rc == 0;
	t->silent += rc != 0 && err.text[0] == '\0';
	CU_ASSERT(failed || rc == 0);
	CU_ASSERT_EQUAL(adapter_reap(t->f.set, NULL), 0);
	if (rc != 0)
		t->changed +=
			page_pool_count(t->f.model->pool, PAGE_FREE) != before;
	return failed;
}

static int load_next(struct faults *t, struct error *err)
{
	return adapter_load(t->f.set, "next", &t->next.files, 1, err);
}

static int replace_next(struct faults *t, struct error *err)
{
	return adapter_replace(t->f.set, "next", &t->next.files, 1, err);
}

/* In rows every byte goes through the back end, whose calls can fail. */
static void begin_faults(struct faults *t, enum dtype type, bool proven)
{
	struct error err = {0};

	*t = (struct faults){0};
	begin_layout(&t->f, "tests/golden/deepseek_v2_lite", 60, WEIGHT_ROWS);
	make(&t->old, &t->f, 11, DTYPE_BF16, 2);
	make(&t->next, &t->f, 12, type, 0);
	if (proven)
		adapter_case_hash(&t->next.files);
	CU_ASSERT_EQUAL_FATAL(load(&t->f, "old", &t->old, &err), 0);
}

static void end_faults(struct faults *t)
{
	printf("%" PRIu64 " faults, %" PRIu64 " survived by a fallback ",
		t->injected, t->survived);
	CU_ASSERT_EQUAL(t->silent + t->changed, 0);
	drop(&t->old);
	drop(&t->next);
	end(&t->f);
}

static void unload_next(struct faults *t)
{
	fake_vmm_work_begin(&t->f.vmm);
	CU_ASSERT_EQUAL(adapter_unload(t->f.set, "next", NULL), 0);
}

/* Every n-th call of either kind fails in a load; the next load succeeds. */
static void fail_loads(enum dtype type, bool os, bool proven)
{
	struct error err = {0};
	struct faults t;

	begin_faults(&t, type, proven);
	for (uint64_t n = 1;; n++) {
		bool failed = fault(&t, os, n, load_next);

		check_old(&t);
		if (adapter_count(t.f.set) == 2)
			unload_next(&t);
		if (!failed)
			break;
		CU_ASSERT_EQUAL(load_next(&t, &err), 0);
		unload_next(&t);
	}
	CU_ASSERT(t.injected > 10);
	end_faults(&t);
}

static void test_adapter_load__every_call_fails_once(void)
{
	fail_loads(DTYPE_BF16, false, false);
	fail_loads(DTYPE_F32, false, false);
	fail_loads(DTYPE_BF16, true, false);
	fail_loads(DTYPE_F32, true, false);
	fail_loads(DTYPE_BF16, false, true);
	fail_loads(DTYPE_F16, true, true);
}

/* A failed replace leaves the instance that was there, byte for byte. */
static void fail_replaces(bool os)
{
	struct error err = {0};
	struct faults t;

	begin_faults(&t, DTYPE_F32, false);
	CU_ASSERT_EQUAL_FATAL(load_next(&t, &err), 0);
	for (uint64_t n = 1;; n++) {
		bool failed = fault(&t, os, n, replace_next);
		struct adapter_info info =
			info_of(&t.f, "next", ADAPTER_RESIDENT);

		check_old(&t);
		t.changed += adapter_case_wrong(
				     &t.next.a, t.f.model, info.instance) != 0;
		CU_ASSERT_EQUAL(adapter_count(t.f.set), 2);
		if (!failed)
			break;
	}
	CU_ASSERT(t.injected > 10);
	end_faults(&t);
}

static void test_adapter_replace__every_call_fails_once(void)
{
	fail_replaces(false);
	fail_replaces(true);
}

static void test_adapter_unload__the_fence_fails(void)
{
	struct error err = {0};
	struct faults t;

	begin_faults(&t, DTYPE_BF16, false);
	CU_ASSERT_EQUAL_FATAL(load_next(&t, &err), 0);
	fake_vmm_work_begin(&t.f.vmm);
	fake_vmm_fail(&t.f.vmm, FAKE_FENCE, 1);
	CU_ASSERT_EQUAL(adapter_unload(t.f.set, "next", &err), -EIO);
	CU_ASSERT_PTR_NOT_NULL(strstr(err.text, "fence"));
	fake_vmm_disarm(&t.f.vmm);
	adapter_set_check(t.f.set);
	CU_ASSERT_EQUAL(info_of(&t.f, "next", ADAPTER_DRAINING).user_count, 0);
	CU_ASSERT_EQUAL(adapter_unload(t.f.set, "next", NULL), 0);
	check_old(&t);
	end_faults(&t);
}

/* The copy fails, and then the fence of the way back. */
static void test_adapter_load__two_faults(void)
{
	struct adapter *adapter;
	struct reader_info info;
	struct error err = {0};
	struct faults t;

	begin_faults(&t, DTYPE_BF16, false);
	CU_ASSERT_EQUAL(adapter_stage(t.f.set, "next", false, &t.next.files,
				&adapter, &err),
		0);
	CU_ASSERT_EQUAL(adapter_map(t.f.set, adapter, &err), 0);
	fake_os_fail(FAKE_OS_ALLOCATE, 1, ENOMEM);
	CU_ASSERT_EQUAL(adapter_copy(adapter, 1, NULL, &info, &err), -ENOMEM);
	fake_os_disarm();
	fake_vmm_work_begin(&t.f.vmm);
	fake_vmm_fail(&t.f.vmm, FAKE_FENCE, 1);
	adapter_abandon(t.f.set, adapter);
	fake_vmm_disarm(&t.f.vmm);
	adapter_set_check(t.f.set);
	CU_ASSERT_EQUAL(info_of(&t.f, "", ADAPTER_DRAINING).user_count, 0);
	CU_ASSERT_EQUAL(load_next(&t, &err), 0);
	CU_ASSERT_EQUAL(adapter_reap(t.f.set, NULL), 0);
	check_old(&t);
	unload_next(&t);
	end_faults(&t);
}

/* ---- hostile bytes ---- */

/* Any bit of the weights flipped: it loads, and nothing but values differs. */
static void test_adapter_load__flipped_weights(void)
{
	uint64_t state = suite_seed(8);
	struct fixture f;

	begin(&f, "tests/golden/mixtral", 60);
	for (int i = 0; i < 100; i++) {
		struct error err = {0};
		struct adapter_files files;
		struct source s;

		make(&s, &f, suite_random(&state), DTYPE_BF16, 2);
		for (int k = 0; k < 50; k++)
			((uint8_t *)s.a.bytes)[suite_below(&state, 512)] ^=
				(uint8_t)(1u << suite_below(&state, 8));
		adapter_case_open(&s.a, &files);
		CU_ASSERT_EQUAL(adapter_load(f.set, "a", &files, 1, &err), 0);
		adapter_set_check(f.set);
		CU_ASSERT_EQUAL(adapter_unload(f.set, "a", NULL), 0);
		adapter_files_close(&files);
		drop(&s);
	}
	end(&f);
}

/* ---- files that have a hash ---- */

static uint64_t bits_of(const struct model_file *file)
{
	return file->size_bytes * 8;
}

/* Any bit of any file: refused, by the file's name, and nothing is left. */
static void check_flips(struct faults *t, uint64_t *state)
{
	struct adapter_files *files = &t->next.files;

	for (int i = 0; i < 200; i++) {
		uint32_t which =
			suite_below(state, files->model.weight_count + 1);
		const struct model_file *file =
			which ? &files->model.weights[which - 1]
			      : &files->experts;
		/* The header as often as the values. */
		uint64_t bits = i % 2 && file->size_bytes > 512
					? UINT64_C(8) * 512
					: bits_of(file);
		uint64_t bit = suite_random(state) % bits;
		struct error err = {0};

		adapter_case_flip(file, bit);
		CU_ASSERT_EQUAL(load_next(t, &err), -EBADMSG);
		CU_ASSERT_PTR_NOT_NULL(strstr(err.text, file->name));
		CU_ASSERT_EQUAL(adapter_count(t->f.set), 1);
		check_old(t);
		adapter_case_flip(file, bit);
	}
}

static void check_proven(enum dtype type, uint64_t *state)
{
	struct error err = {0};
	struct faults t;

	begin_faults(&t, type, true);
	check_flips(&t, state);
	CU_ASSERT_EQUAL(load_next(&t, &err), 0);
	CU_ASSERT_EQUAL(
		adapter_case_wrong(&t.next.a, t.f.model,
			info_of(&t.f, "next", ADAPTER_RESIDENT).instance),
		0);
	unload_next(&t);
	check_old(&t);
	end_faults(&t);
}

static void test_adapter_load__only_what_was_hashed(void)
{
	uint64_t state = suite_seed(9);

	check_proven(DTYPE_BF16, &state);
	check_proven(DTYPE_F16, &state);
	check_proven(DTYPE_F32, &state);
}

/* It was good when it was checked, and is written to before it is copied. */
static void test_adapter_copy__a_file_that_changes(void)
{
	struct adapter *adapter;
	struct reader_info info;
	struct faults t;
	struct error err = {0};
	const struct model_file *file;

	begin_faults(&t, DTYPE_F16, true);
	file = &t.next.files.model.weights[0];
	CU_ASSERT_EQUAL_FATAL(adapter_stage(t.f.set, "next", false,
				      &t.next.files, &adapter, &err),
		0);
	CU_ASSERT_EQUAL(adapter_map(t.f.set, adapter, &err), 0);
	/* The header is not looked at again, and yet it counts. */
	for (uint64_t bit = 0; bit < bits_of(file); bit += bits_of(file) - 1) {
		adapter_case_flip(file, bit);
		err = (struct error){0};
		CU_ASSERT_EQUAL(
			adapter_copy(adapter, 1, NULL, &info, &err), -EBADMSG);
		CU_ASSERT_PTR_NOT_NULL(strstr(err.text, file->name));
		adapter_case_flip(file, bit);
	}
	CU_ASSERT_EQUAL(adapter_copy(adapter, 1, NULL, &info, &err), 0);
	adapter_publish(t.f.set, adapter);
	CU_ASSERT_EQUAL(
		adapter_case_wrong(&t.next.a, t.f.model,
			info_of(&t.f, "next", ADAPTER_RESIDENT).instance),
		0);
	unload_next(&t);
	check_old(&t);
	end_faults(&t);
}

struct paced {
	uint64_t bytes, end; /* seen; after so many it ends */
};

static int note_pace(void *arg, uint32_t lane, size_t size_bytes)
{
	struct paced *paced = arg;

	CU_ASSERT_EQUAL(lane, 0);
	paced->bytes += size_bytes;
	return paced->bytes > paced->end ? -ECANCELED : 0;
}

/* What is hashed goes by the pace, byte for byte, and may be told to end. */
static void test_adapter_check__at_the_pace_of_others(void)
{
	struct paced paced = {.end = UINT64_MAX};
	const struct adapter_pace pace = {note_pace, &paced};
	struct error err = {0};
	struct adapter *adapter;
	uint64_t total = 0;
	struct faults t;

	begin_faults(&t, DTYPE_BF16, true);
	for (uint32_t i = 0; i < t.next.files.model.weight_count; i++)
		total += t.next.files.model.weights[i].size_bytes;
	CU_ASSERT_EQUAL_FATAL(
		adapter_reserve(t.f.set, "next", &t.next.files, &adapter, &err),
		0);
	CU_ASSERT_EQUAL(adapter_check(adapter, &pace, &err), 0);
	CU_ASSERT_EQUAL(paced.bytes, total);
	adapter_abandon(t.f.set, adapter);
	paced = (struct paced){.end = total - 1};
	CU_ASSERT_EQUAL_FATAL(
		adapter_reserve(t.f.set, "next", &t.next.files, &adapter, &err),
		0);
	CU_ASSERT_EQUAL(adapter_check(adapter, &pace, &err), -ECANCELED);
	adapter_abandon(t.f.set, adapter);
	CU_ASSERT_EQUAL(adapter_count(t.f.set), 1);
	check_old(&t);
	end_faults(&t);
}

/* By handle: every page is its own until the last one is unmapped. */
static void test_adapter_drop__a_part_at_a_time(void)
{
	struct error err = {0};
	struct reader_info info;
	struct adapter *adapter;
	uint32_t before, parts = 0;
	struct faults t;
	int rc;

	begin_faults(&t, DTYPE_BF16, false);
	before = page_pool_count(t.f.model->pool, PAGE_FREE);
	CU_ASSERT_EQUAL_FATAL(
		adapter_reserve(t.f.set, "next", &t.next.files, &adapter, &err),
		0);
	CU_ASSERT_EQUAL_FATAL(adapter_check(adapter, NULL, &err), 0);
	CU_ASSERT_EQUAL_FATAL(adapter_map(t.f.set, adapter, &err), 0);
	CU_ASSERT_EQUAL(adapter_copy(adapter, 1, NULL, &info, &err), 0);
	adapter_publish(t.f.set, adapter);
	adapter_retire(adapter);
	do {
		CU_ASSERT(page_pool_count(t.f.model->pool, PAGE_FREE) < before);
		rc = adapter_drop(t.f.set, adapter, 1, &err);
		adapter_set_check(t.f.set);
		check_old(&t);
		parts++;
	} while (rc == -EAGAIN);
	CU_ASSERT_EQUAL(rc, 0);
	CU_ASSERT(parts > 1);
	CU_ASSERT_EQUAL(page_pool_count(t.f.model->pool, PAGE_FREE), before);
	CU_ASSERT_EQUAL(adapter_count(t.f.set), 1);
	end_faults(&t);
}

/* A load that failed, by parts of one page; fence `bad` fails, 0 = none. */
static uint32_t abandon_parts(uint32_t bad)
{
	struct error err = {0};
	struct adapter *adapter;
	uint32_t before, parts = 0;
	struct faults t;
	int rc;

	begin_faults(&t, DTYPE_BF16, false);
	before = page_pool_count(t.f.model->pool, PAGE_FREE);
	CU_ASSERT_EQUAL_FATAL(
		adapter_reserve(t.f.set, "next", &t.next.files, &adapter, &err),
		0);
	CU_ASSERT_EQUAL_FATAL(adapter_check(adapter, NULL, &err), 0);
	CU_ASSERT_EQUAL_FATAL(adapter_map(t.f.set, adapter, &err), 0);
	if (bad)
		fake_vmm_fail(&t.f.vmm, FAKE_FENCE, bad);
	do {
		CU_ASSERT(page_pool_count(t.f.model->pool, PAGE_FREE) < before);
		rc = adapter_abandon_some(t.f.set, adapter, 1);
		adapter_set_check(t.f.set);
		check_old(&t);
		parts++;
	} while (rc == -EAGAIN);
	fake_vmm_disarm(&t.f.vmm);
	CU_ASSERT_EQUAL(rc, 0);
	CU_ASSERT_EQUAL(adapter_count(t.f.set), bad ? 2 : 1);
	if (bad)
		CU_ASSERT_EQUAL(
			info_of(&t.f, "", ADAPTER_DRAINING).user_count, 0);
	CU_ASSERT_EQUAL(adapter_reap(t.f.set, NULL), 0);
	CU_ASSERT_EQUAL(page_pool_count(t.f.model->pool, PAGE_FREE), before);
	CU_ASSERT_EQUAL(load_next(&t, &err), 0);
	unload_next(&t);
	end_faults(&t);
	return parts;
}

/* Every page is its own until the last one is unmapped, or a fence fails. */
static void test_adapter_abandon__a_part_at_a_time(void)
{
	uint32_t parts = abandon_parts(0);

	CU_ASSERT(parts > 1);
	for (uint32_t bad = 1; bad <= parts; bad++)
		CU_ASSERT_EQUAL(abandon_parts(bad), bad);
}

int main(void)
{
	static const struct suite_case cases[] = {
		SUITE_CASE(adapter_load__every_byte),
		SUITE_CASE(adapter_load__a_value_without_room),
		SUITE_CASE(adapter__names),
		SUITE_CASE(adapter_unload__waits_for_its_users),
		SUITE_CASE(adapter_replace__two_at_most),
		SUITE_CASE(adapter_load__no_room),
		SUITE_CASE(adapter_abandon__from_any_state),
		SUITE_CASE(adapter_load__every_call_fails_once),
		SUITE_CASE(adapter_replace__every_call_fails_once),
		SUITE_CASE(adapter_unload__the_fence_fails),
		SUITE_CASE(adapter_load__two_faults),
		SUITE_CASE(adapter_load__flipped_weights),
		SUITE_CASE(adapter_load__only_what_was_hashed),
		SUITE_CASE(adapter_copy__a_file_that_changes),
		SUITE_CASE(adapter_check__at_the_pace_of_others),
		SUITE_CASE(adapter_drop__a_part_at_a_time),
		SUITE_CASE(adapter_abandon__a_part_at_a_time),
	};

	return SUITE_MAIN("adapter", cases);
}
