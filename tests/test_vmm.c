/* test_vmm.c - the contract of vmm.h over every back end, and the host's own */
/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/limits.h"
#include "memmgr/vmm.h"
#include "tests/fake/aborts.h"
#include "tests/fake/fake_os.h"
#include "tests/fake/fake_vmm.h"
#include "tests/suite.h"

#define PAGE ((size_t)PAGE_SIZE_BYTES_MIN)

/* One back end under test; `host` is the one below a checking fake. */
struct fixture {
	const struct backend *backend;
	struct vmm vmm;
	struct vmm host;
};

struct backend {
	const char *name;
	bool has_host;
	bool has_fake;
};

static const struct backend backends[] = {
	{"host", true, false},
	{"fake without memory", false, true},
	{"fake over host", true, true},
};

#define BACKEND_COUNT (sizeof(backends) / sizeof(backends[0]))

static void open_fixture(struct fixture *f, const struct backend *backend)
{
	const struct vmm_host_config config = {.granularity_bytes = PAGE};
	struct error err = {0};

	*f = (struct fixture){.backend = backend};
	if (backend->has_host &&
		vmm_host_init(backend->has_fake ? &f->host : &f->vmm, &config,
			&err) != 0)
		CU_FAIL_FATAL("host");
	if (backend->has_fake)
		fake_vmm_init(
			&f->vmm, PAGE, backend->has_host ? &f->host : NULL);
}

static void close_fixture(struct fixture *f)
{
	if (f->backend->has_fake) {
		CU_ASSERT(fake_vmm_check_empty(&f->vmm));
		fake_vmm_destroy(&f->vmm);
		vmm_host_destroy(&f->host);
	} else {
		vmm_host_destroy(&f->vmm);
	}
}

static vmm_addr reserve(struct vmm *vmm, size_t pages)
{
	vmm_addr addr = 0;

	assert(vmm->ops);
	CU_ASSERT_EQUAL_FATAL(vmm->ops->reserve(vmm, pages * PAGE, &addr), 0);
	assert(addr != 0);
	CU_ASSERT_EQUAL(addr % PAGE, 0);
	return addr;
}

static struct vmm_handle create(struct vmm *vmm, size_t pages)
{
	struct vmm_handle handle = {0};

	assert(vmm->ops);
	CU_ASSERT_EQUAL_FATAL(vmm->ops->create(vmm, pages * PAGE, &handle), 0);
	CU_ASSERT(handle.id != 0);
	return handle;
}

static int map(
	struct vmm *vmm, vmm_addr addr, size_t pages, struct vmm_handle handle)
{
	return vmm->ops->map(vmm, addr, pages * PAGE, handle);
}

static void put_word(struct vmm *vmm, vmm_addr at, uint64_t word)
{
	CU_ASSERT_EQUAL(vmm->ops->copy_in(vmm, at, &word, sizeof(word)), 0);
}

/* What is at the address; `expected` where the back end has no bytes. */
static uint64_t get_word(struct fixture *f, vmm_addr at, uint64_t expected)
{
	struct vmm *vmm = &f->vmm;
	uint64_t word = 0;

	CU_ASSERT_EQUAL(vmm->ops->copy_out(vmm, &word, at, sizeof(word)), 0);
	return f->backend->has_host ? word : expected;
}

/* May this process read the address? As the system's own list has it. */
static bool readable(vmm_addr at)
{
	FILE *maps = fopen("/proc/self/maps", "re");
	char line[512];
	bool yes = false;

	while (maps && fgets(line, sizeof(line), maps)) {
		char *rest;
		unsigned long long from = strtoull(line, &rest, 16);
		unsigned long long to = strtoull(rest + 1, &rest, 16);

		if (at >= from && at < to)
			yes = strncmp(rest, " rw", 3) == 0;
	}
	if (maps)
		fclose(maps);
	return yes;
}

/* --- the contract, for every back end ------------------------------------ */

static void check_two_mappings(struct fixture *f)
{
	struct vmm *vmm = &f->vmm;
	vmm_addr window = reserve(vmm, 4);
	vmm_addr tensor = reserve(vmm, 8);
	struct vmm_handle a = create(vmm, 1);
	struct vmm_handle b = create(vmm, 3);

	CU_ASSERT_EQUAL(map(vmm, window, 1, a), 0);
	CU_ASSERT_EQUAL(map(vmm, window + PAGE, 3, b), 0);
	CU_ASSERT_EQUAL(vmm->ops->set_access(vmm, window, 4 * PAGE), 0);
	/* The second time in the other order, with a gap before. */
	CU_ASSERT_EQUAL(map(vmm, tensor + 2 * PAGE, 3, b), 0);
	CU_ASSERT_EQUAL(map(vmm, tensor + 5 * PAGE, 1, a), 0);
	CU_ASSERT_EQUAL(
		vmm->ops->set_access(vmm, tensor + 2 * PAGE, 4 * PAGE), 0);

	put_word(vmm, window + 8, 11);
	put_word(vmm, window + 4 * PAGE - 8, 12);
	CU_ASSERT_EQUAL(get_word(f, tensor + 5 * PAGE + 8, 11), 11);
	CU_ASSERT_EQUAL(get_word(f, tensor + 5 * PAGE - 8, 12), 12);
	CU_ASSERT_EQUAL(vmm->ops->clear(vmm, tensor + 5 * PAGE, PAGE), 0);
	CU_ASSERT_EQUAL(get_word(f, window + 8, 0), 0);
	CU_ASSERT_EQUAL(get_word(f, window + 4 * PAGE - 8, 12), 12);

	CU_ASSERT_EQUAL(vmm->ops->fence(vmm), 0);
	vmm->ops->unmap(vmm, tensor + 2 * PAGE, 4 * PAGE);
	CU_ASSERT_EQUAL(get_word(f, window + 4 * PAGE - 8, 12), 12);
	vmm->ops->unmap(vmm, window, 4 * PAGE);
	vmm->ops->release(vmm, a);
	vmm->ops->release(vmm, b);
	vmm->ops->unreserve(vmm, window, 4 * PAGE);
	vmm->ops->unreserve(vmm, tensor, 8 * PAGE);
}

/* A released handle lives on in its mappings. */
static void check_release_while_mapped(struct fixture *f)
{
	struct vmm *vmm = &f->vmm;
	vmm_addr addr = reserve(vmm, 3);
	struct vmm_handle a = create(vmm, 1);
	struct vmm_handle b;

	CU_ASSERT_EQUAL(map(vmm, addr, 1, a), 0);
	CU_ASSERT_EQUAL(map(vmm, addr + PAGE, 1, a), 0);
	CU_ASSERT_EQUAL(vmm->ops->set_access(vmm, addr, 2 * PAGE), 0);
	put_word(vmm, addr, 7);
	vmm->ops->release(vmm, a);
	b = create(vmm, 1);
	CU_ASSERT_EQUAL(map(vmm, addr + 2 * PAGE, 1, b), 0);
	CU_ASSERT_EQUAL(vmm->ops->set_access(vmm, addr + 2 * PAGE, PAGE), 0);
	put_word(vmm, addr + 2 * PAGE, 8);
	CU_ASSERT_EQUAL(get_word(f, addr, 7), 7);
	vmm->ops->unmap(vmm, addr, PAGE);
	CU_ASSERT_EQUAL(get_word(f, addr + PAGE, 7), 7);
	vmm->ops->unmap(vmm, addr + PAGE, 2 * PAGE);
	vmm->ops->release(vmm, b);
	vmm->ops->unreserve(vmm, addr, 3 * PAGE);
}

/* Addresses stay, what is behind them changes; access is given anew. */
static void check_remap(struct fixture *f)
{
	struct vmm *vmm = &f->vmm;
	vmm_addr addr = reserve(vmm, 3);
	struct vmm_handle handles[3];

	for (int i = 0; i < 3; i++) {
		handles[i] = create(vmm, 1);
		CU_ASSERT_EQUAL(
			map(vmm, addr + (size_t)i * PAGE, 1, handles[i]), 0);
	}
	CU_ASSERT_EQUAL(vmm->ops->set_access(vmm, addr, 3 * PAGE), 0);
	for (uint64_t i = 0; i < 3; i++)
		put_word(vmm, addr + i * PAGE, 20 + i);
	vmm->ops->unmap(vmm, addr + PAGE, PAGE);
	vmm->ops->unmap(vmm, addr, PAGE);
	CU_ASSERT_EQUAL(map(vmm, addr + PAGE, 1, handles[0]), 0);
	CU_ASSERT_EQUAL(map(vmm, addr, 1, handles[1]), 0);
	/* Over the whole range: a part of it has access already. */
	CU_ASSERT_EQUAL(vmm->ops->set_access(vmm, addr, 3 * PAGE), 0);
	CU_ASSERT_EQUAL(get_word(f, addr, 21), 21);
	CU_ASSERT_EQUAL(get_word(f, addr + PAGE, 20), 20);
	CU_ASSERT_EQUAL(get_word(f, addr + 2 * PAGE, 22), 22);
	vmm->ops->unmap(vmm, addr, 3 * PAGE);
	for (int i = 0; i < 3; i++)
		vmm->ops->release(vmm, handles[i]);
	vmm->ops->unreserve(vmm, addr, 3 * PAGE);
}

static void check_pointer(struct fixture *f)
{
	struct vmm *vmm = &f->vmm;
	vmm_addr addr = reserve(vmm, 1);
	struct vmm_handle a = create(vmm, 1);
	uint64_t *pointer;

	CU_ASSERT_EQUAL(map(vmm, addr, 1, a), 0);
	CU_ASSERT_EQUAL(vmm->ops->set_access(vmm, addr, PAGE), 0);
	pointer = vmm->ops->host_pointer(vmm, addr);
	CU_ASSERT_EQUAL(pointer != NULL, f->backend->has_host);
	put_word(vmm, addr, 99);
	if (pointer)
		CU_ASSERT_EQUAL(*pointer, 99);
	vmm->ops->unmap(vmm, addr, PAGE);
	vmm->ops->release(vmm, a);
	vmm->ops->unreserve(vmm, addr, PAGE);
}

static void run_all(void (*check)(struct fixture *f))
{
	for (size_t i = 0; i < BACKEND_COUNT; i++) {
		struct fixture f;

		open_fixture(&f, &backends[i]);
		check(&f);
		close_fixture(&f);
	}
}

static void test_vmm__handle_is_seen_at_both_addresses(void)
{
	run_all(check_two_mappings);
}

static void test_vmm__released_handle_lives_while_mapped(void)
{
	run_all(check_release_while_mapped);
}

static void test_vmm__addresses_stay_and_pages_move(void)
{
	run_all(check_remap);
}

static void test_vmm__pointer_only_where_there_is_memory(void)
{
	run_all(check_pointer);
}

/* --- rules: each one broken stops the process ------------------------------ */

/* Mapped: two handles of 1 and 2 pages at addr, addr + PAGE, access given. */
struct scene {
	struct vmm *vmm;
	vmm_addr addr; /* 6 pages reserved */
	struct vmm_handle one, two;
};

static void break_reserve_size(struct scene *s)
{
	vmm_addr addr;

	s->vmm->ops->reserve(s->vmm, PAGE + 1, &addr);
}

static void break_create_size(struct scene *s)
{
	struct vmm_handle handle;

	s->vmm->ops->create(s->vmm, PAGE / 2, &handle);
}

static void break_map_occupied(struct scene *s)
{
	map(s->vmm, s->addr + 2 * PAGE, 1, s->one);
}

static void break_map_into_occupied(struct scene *s)
{
	struct vmm_handle handle;

	if (s->vmm->ops->create(s->vmm, 4 * PAGE, &handle) == 0) {
		s->vmm->ops->unmap(s->vmm, s->addr, PAGE);
		map(s->vmm, s->addr, 4, handle);
	}
}

static void break_map_unreserved(struct scene *s)
{
	map(s->vmm, s->addr + ((uint64_t)1 << 40), 1, s->one);
}

static void break_map_over_end(struct scene *s)
{
	map(s->vmm, s->addr + 5 * PAGE, 2, s->two);
}

static void break_map_part(struct scene *s)
{
	map(s->vmm, s->addr + 4 * PAGE, 1, s->two);
}

static void break_map_unaligned(struct scene *s)
{
	map(s->vmm, s->addr + 4 * PAGE + 4096, 1, s->one);
}

static void break_map_released(struct scene *s)
{
	s->vmm->ops->release(s->vmm, s->one);
	map(s->vmm, s->addr + 4 * PAGE, 1, s->one);
}

static void break_release_twice(struct scene *s)
{
	s->vmm->ops->release(s->vmm, s->one);
	s->vmm->ops->release(s->vmm, s->one);
}

static void break_release_unknown(struct scene *s)
{
	s->vmm->ops->release(s->vmm, (struct vmm_handle){77});
}

static void break_access_hole(struct scene *s)
{
	s->vmm->ops->set_access(s->vmm, s->addr, 4 * PAGE);
}

static void break_access_part(struct scene *s)
{
	s->vmm->ops->set_access(s->vmm, s->addr, 2 * PAGE);
}

static void break_unmap_first_part(struct scene *s)
{
	s->vmm->ops->unmap(s->vmm, s->addr, 2 * PAGE);
}

static void break_unmap_last_part(struct scene *s)
{
	s->vmm->ops->unmap(s->vmm, s->addr + 2 * PAGE, PAGE);
}

static void break_unmap_hole(struct scene *s)
{
	s->vmm->ops->unmap(s->vmm, s->addr + 4 * PAGE, PAGE);
}

static void break_unreserve_mapped(struct scene *s)
{
	s->vmm->ops->unreserve(s->vmm, s->addr, 6 * PAGE);
}

static void break_unreserve_part(struct scene *s)
{
	s->vmm->ops->unmap(s->vmm, s->addr, 3 * PAGE);
	s->vmm->ops->unreserve(s->vmm, s->addr, 3 * PAGE);
}

static const struct rule {
	const char *name;
	void (*run)(struct scene *scene);
} rules[] = {
	{"reserve: size", break_reserve_size},
	{"create: size", break_create_size},
	{"map: occupied", break_map_occupied},
	{"map: runs into another", break_map_into_occupied},
	{"map: not reserved", break_map_unreserved},
	{"map: over the end", break_map_over_end},
	{"map: part of a handle", break_map_part},
	{"map: not aligned", break_map_unaligned},
	{"map: released handle", break_map_released},
	{"release: twice", break_release_twice},
	{"release: unknown", break_release_unknown},
	{"set_access: hole", break_access_hole},
	{"set_access: part of a mapping", break_access_part},
	{"unmap: first part of a mapping", break_unmap_first_part},
	{"unmap: last part of a mapping", break_unmap_last_part},
	{"unmap: hole", break_unmap_hole},
	{"unreserve: mapped", break_unreserve_mapped},
	{"unreserve: part", break_unreserve_part},
};

#define RULE_COUNT (sizeof(rules) / sizeof(rules[0]))

struct trial {
	const struct backend *backend;
	const struct rule *rule; /* NULL: break nothing */
};

static void run_trial(void *argument)
{
	const struct trial *trial = argument;
	struct fixture f;
	struct scene s = {.vmm = &f.vmm};

	open_fixture(&f, trial->backend);
	s.addr = reserve(s.vmm, 6);
	s.one = create(s.vmm, 1);
	s.two = create(s.vmm, 2);
	map(s.vmm, s.addr, 1, s.one);
	map(s.vmm, s.addr + PAGE, 2, s.two);
	s.vmm->ops->set_access(s.vmm, s.addr, 3 * PAGE);
	if (trial->rule)
		trial->rule->run(&s);
}

static void test_vmm__each_broken_rule_aborts(void)
{
	for (size_t b = 0; b < BACKEND_COUNT; b++) {
		struct trial trial = {&backends[b], NULL};

		CU_ASSERT_FALSE(aborts(run_trial, &trial));
		for (size_t i = 0; i < RULE_COUNT; i++) {
			trial.rule = &rules[i];
			if (aborts(run_trial, &trial))
				continue;
			printf("%s: %s did not abort\n", backends[b].name,
				rules[i].name);
			CU_FAIL("rule");
		}
	}
}

/* --- the fake's own ------------------------------------------------------- */

static void unmap_under_work(void *argument)
{
	struct vmm *vmm = argument;

	vmm->ops->unmap(vmm, (vmm_addr)1 << 44, PAGE);
}

static void test_fake_vmm__unmap_under_work_aborts(void)
{
	struct fixture f;
	struct vmm *vmm = &f.vmm;
	struct vmm_handle a, b;
	vmm_addr addr;

	open_fixture(&f, &backends[1]);
	addr = reserve(vmm, 2);
	CU_ASSERT_EQUAL(addr, (vmm_addr)1 << 44);
	a = create(vmm, 1);
	b = create(vmm, 1);
	map(vmm, addr, 1, a);
	vmm->ops->set_access(vmm, addr, PAGE);
	fake_vmm_work_begin(vmm);
	CU_ASSERT(fake_vmm_work_runs(vmm));
	CU_ASSERT(aborts(unmap_under_work, vmm));

	/* What came after the work began may go. */
	map(vmm, addr + PAGE, 1, b);
	vmm->ops->set_access(vmm, addr + PAGE, PAGE);
	vmm->ops->unmap(vmm, addr + PAGE, PAGE);

	fake_vmm_fail(vmm, FAKE_FENCE, 1);
	CU_ASSERT_EQUAL(vmm->ops->fence(vmm), -EIO);
	CU_ASSERT(aborts(unmap_under_work, vmm));
	CU_ASSERT_EQUAL(vmm->ops->fence(vmm), 0);
	CU_ASSERT_FALSE(fake_vmm_work_runs(vmm));
	vmm->ops->unmap(vmm, addr, PAGE);
	vmm->ops->release(vmm, a);
	vmm->ops->release(vmm, b);
	vmm->ops->unreserve(vmm, addr, 2 * PAGE);
	close_fixture(&f);
}

static void touch(void *argument)
{
	struct vmm *vmm = argument;

	vmm->ops->clear(vmm, ((vmm_addr)1 << 44) + PAGE - 8, 16);
}

static void test_fake_vmm__touching_without_access_aborts(void)
{
	struct fixture f;
	struct vmm *vmm = &f.vmm;
	struct vmm_handle a;
	vmm_addr addr;

	open_fixture(&f, &backends[1]);
	addr = reserve(vmm, 2);
	a = create(vmm, 1);
	map(vmm, addr, 1, a);
	map(vmm, addr + PAGE, 1, a);
	vmm->ops->set_access(vmm, addr, PAGE);
	CU_ASSERT(aborts(touch, vmm));
	vmm->ops->set_access(vmm, addr + PAGE, PAGE);
	CU_ASSERT_FALSE(aborts(touch, vmm));
	vmm->ops->unmap(vmm, addr, 2 * PAGE);
	CU_ASSERT(aborts(touch, vmm));
	vmm->ops->release(vmm, a);
	vmm->ops->unreserve(vmm, addr, 2 * PAGE);
	close_fixture(&f);
}

static void test_fake_vmm__fault_counts_and_clock(void)
{
	struct fixture f;
	struct vmm *vmm = &f.vmm;
	struct vmm_handle a = {0};
	vmm_addr addr;

	open_fixture(&f, &backends[1]);
	fake_vmm_fail(vmm, FAKE_CREATE, 2);
	addr = reserve(vmm, 1);
	a = create(vmm, 1);
	CU_ASSERT_FALSE(fake_vmm_has_failed(vmm));
	CU_ASSERT_EQUAL(vmm->ops->create(vmm, PAGE, &a), -ENOMEM);
	CU_ASSERT(fake_vmm_has_failed(vmm));
	CU_ASSERT_EQUAL(fake_vmm_calls(vmm, FAKE_CREATE), 2);
	CU_ASSERT_EQUAL(fake_vmm_calls(vmm, FAKE_ANY), 3);
	CU_ASSERT_EQUAL(fake_vmm_live(vmm).handles, 1);
	CU_ASSERT_EQUAL(fake_vmm_live(vmm).reserved_bytes, PAGE);
	CU_ASSERT_EQUAL(vmm->ops->now(vmm).ns, 0);
	fake_vmm_set_now(vmm, (struct mono){5 * NS_PER_MS});
	CU_ASSERT_EQUAL(vmm->ops->now(vmm).ns, 5 * NS_PER_MS);
	vmm->ops->release(vmm, a);
	vmm->ops->unreserve(vmm, addr, PAGE);
	close_fixture(&f);
}

/* --- the host's own --------------------------------------------------------- */

static void test_vmm_host_init__refuses_granularities(void)
{
	static const size_t wrong[] = {0, 4096, PAGE - 1, 3 * PAGE};

	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		struct vmm_host_config config = {.granularity_bytes = wrong[i]};
		struct error err = {0};
		struct vmm vmm;

		CU_ASSERT_EQUAL(vmm_host_init(&vmm, &config, &err), -EINVAL);
		CU_ASSERT_PTR_NOT_NULL(strstr(err.text, "granularity"));
		vmm_host_destroy(&vmm);
	}
}

/* Areas of this process that map a memory file. */
static unsigned count_file_areas(void)
{
	FILE *maps = fopen("/proc/self/maps", "re");
	char line[512];
	unsigned count = 0;

	while (maps && fgets(line, sizeof(line), maps))
		count += strstr(line, "heddle-pages") != NULL;
	if (maps)
		fclose(maps);
	return count;
}

static void test_vmm_host__neighbours_are_one_area(void)
{
	struct fixture f;
	struct vmm *vmm = &f.vmm;
	struct vmm_handle handles[200];
	vmm_addr addr;

	open_fixture(&f, &backends[0]);
	addr = reserve(vmm, 200);
	for (size_t i = 0; i < 200; i++) {
		handles[i] = create(vmm, 1);
		CU_ASSERT_EQUAL(map(vmm, addr + i * PAGE, 1, handles[i]), 0);
	}
	CU_ASSERT_FALSE(readable(addr));
	CU_ASSERT_EQUAL(count_file_areas(), 0);
	CU_ASSERT_EQUAL(vmm->ops->set_access(vmm, addr, 100 * PAGE), 0);
	CU_ASSERT(readable(addr + 100 * PAGE - 1));
	CU_ASSERT_FALSE(readable(addr + 100 * PAGE));
	CU_ASSERT_EQUAL(vmm->ops->set_access(vmm, addr, 200 * PAGE), 0);
	CU_ASSERT(readable(addr + 200 * PAGE - 1));
	CU_ASSERT_EQUAL(count_file_areas(), 1);
	vmm->ops->unmap(vmm, addr + 50 * PAGE, PAGE);
	CU_ASSERT_EQUAL(count_file_areas(), 2);
	CU_ASSERT_FALSE(readable(addr + 50 * PAGE));
	CU_ASSERT(readable(addr + 51 * PAGE));
	CU_ASSERT_EQUAL(map(vmm, addr + 50 * PAGE, 1, handles[50]), 0);
	CU_ASSERT_EQUAL(vmm->ops->set_access(vmm, addr, 200 * PAGE), 0);
	CU_ASSERT_EQUAL(count_file_areas(), 1);
	vmm->ops->unmap(vmm, addr, 200 * PAGE);
	CU_ASSERT_EQUAL(count_file_areas(), 0);
	for (size_t i = 0; i < 200; i++)
		vmm->ops->release(vmm, handles[i]);
	vmm->ops->unreserve(vmm, addr, 200 * PAGE);
	close_fixture(&f);
}

static void test_vmm_host_map__limit_counts_spans(void)
{
	/* One reservation and two spans: 1 + 2 * 2. */
	const struct vmm_host_config config = {
		.granularity_bytes = PAGE, .mapping_count_max = 5};
	struct vmm_handle handles[5];
	struct error err = {0};
	struct vmm vmm;
	vmm_addr addr, other;

	CU_ASSERT_EQUAL_FATAL(vmm_host_init(&vmm, &config, &err), 0);
	addr = reserve(&vmm, 10);
	for (int i = 0; i < 5; i++)
		handles[i] = create(&vmm, 1);
	CU_ASSERT_EQUAL(map(&vmm, addr, 1, handles[0]), 0);
	CU_ASSERT_EQUAL(map(&vmm, addr + PAGE, 1, handles[1]), 0);
	CU_ASSERT_EQUAL(map(&vmm, addr + 4 * PAGE, 1, handles[4]), 0);
	/* Neither beside others, nor beside them but elsewhere in the file. */
	CU_ASSERT_EQUAL(map(&vmm, addr + 8 * PAGE, 1, handles[2]), -ENOMEM);
	CU_ASSERT_EQUAL(map(&vmm, addr + 2 * PAGE, 1, handles[3]), -ENOMEM);
	CU_ASSERT_EQUAL(vmm.ops->reserve(&vmm, PAGE, &other), -ENOMEM);
	/* To the end of a span, and between two. */
	CU_ASSERT_EQUAL(map(&vmm, addr + 2 * PAGE, 1, handles[2]), 0);
	CU_ASSERT_EQUAL(map(&vmm, addr + 3 * PAGE, 1, handles[3]), 0);
	CU_ASSERT_EQUAL(map(&vmm, addr + 8 * PAGE, 1, handles[2]), 0);
	CU_ASSERT_EQUAL(map(&vmm, addr + 6 * PAGE, 1, handles[0]), -ENOMEM);
	vmm.ops->unmap(&vmm, addr + 8 * PAGE, PAGE);
	CU_ASSERT_EQUAL(map(&vmm, addr + 6 * PAGE, 1, handles[0]), 0);
	vmm.ops->unmap(&vmm, addr + 6 * PAGE, PAGE);
	vmm.ops->unmap(&vmm, addr, 5 * PAGE);
	for (int i = 0; i < 5; i++)
		vmm.ops->release(&vmm, handles[i]);
	vmm.ops->unreserve(&vmm, addr, 10 * PAGE);
	vmm_host_destroy(&vmm);
}

static int64_t file_blocks(const struct vmm *vmm, size_t *out_size)
{
	struct stat status = {0};

	CU_ASSERT_EQUAL(fstat(vmm_host_descriptor(vmm, out_size), &status), 0);
	CU_ASSERT_EQUAL((size_t)status.st_size, *out_size);
	return status.st_blocks;
}

static void test_vmm_host_release__memory_goes_and_range_comes_back(void)
{
	struct fixture f;
	struct vmm *vmm = &f.vmm;
	struct vmm_handle a;
	size_t before, after;
	vmm_addr addr;

	open_fixture(&f, &backends[0]);
	addr = reserve(vmm, 4);
	a = create(vmm, 4);
	map(vmm, addr, 4, a);
	vmm->ops->set_access(vmm, addr, 4 * PAGE);
	memset((void *)(uintptr_t)addr, 1, 4 * PAGE);
	CU_ASSERT(file_blocks(vmm, &before) * 512 >= (int64_t)(4 * PAGE));
	vmm->ops->release(vmm, a);
	CU_ASSERT(file_blocks(vmm, &before) * 512 >= (int64_t)(4 * PAGE));
	vmm->ops->unmap(vmm, addr, 4 * PAGE);
	CU_ASSERT_EQUAL(file_blocks(vmm, &before), 0);
	for (int i = 0; i < 1000; i++)
		vmm->ops->release(vmm, create(vmm, 4));
	CU_ASSERT_EQUAL(file_blocks(vmm, &after), 0);
	CU_ASSERT_EQUAL(before, after);
	vmm->ops->unreserve(vmm, addr, 4 * PAGE);
	close_fixture(&f);
}

/* One and the same memory, seen by a first and by a second owner. */
static void test_vmm_host_init__a_kept_file_keeps_its_bytes(void)
{
	struct vmm_host_config config = {.granularity_bytes = PAGE,
		.adopts = true,
		.descriptor = memfd_create("kept", MFD_CLOEXEC),
		.head_bytes = PAGE};
	char head[4] = "abc", seen[4] = "";

	CU_ASSERT_FATAL(config.descriptor >= 0);
	CU_ASSERT_EQUAL(pwrite(config.descriptor, head, 4, 0), 4);
	for (int life = 0; life < 3; life++) {
		struct vmm_handle handles[2];
		struct error err = {0};
		struct vmm vmm;
		uint8_t *bytes;
		vmm_addr addr;

		CU_ASSERT_EQUAL_FATAL(vmm_host_init(&vmm, &config, &err), 0);
		addr = reserve(&vmm, 3);
		handles[0] = create(&vmm, 2);
		handles[1] = create(&vmm, 1);
		CU_ASSERT_EQUAL(map(&vmm, addr, 2, handles[0]), 0);
		CU_ASSERT_EQUAL(map(&vmm, addr + 2 * PAGE, 1, handles[1]), 0);
		CU_ASSERT_EQUAL(vmm.ops->set_access(&vmm, addr, 3 * PAGE), 0);
		bytes = vmm.ops->host_pointer(&vmm, addr);
		CU_ASSERT_EQUAL(bytes[0], life == 0 ? 0 : 7);
		CU_ASSERT_EQUAL(bytes[3 * PAGE - 1], life == 0 ? 0 : 8);
		bytes[0] = 7;
		bytes[3 * PAGE - 1] = 8;
		vmm.ops->unmap(&vmm, addr, 3 * PAGE);
		vmm.ops->release(&vmm, handles[0]);
		vmm.ops->release(&vmm, handles[1]);
		vmm.ops->unreserve(&vmm, addr, 3 * PAGE);
		vmm_host_destroy(&vmm);
	}
	CU_ASSERT_EQUAL(pread(config.descriptor, seen, 4, 0), 4);
	CU_ASSERT_STRING_EQUAL(seen, "abc");
	CU_ASSERT_EQUAL(fcntl(config.descriptor, F_GETFD), FD_CLOEXEC);
	close(config.descriptor);
}

/* Reservations between others are found again after any order of going. */
static void test_vmm_host_reserve__many_in_any_order(void)
{
	uint64_t seed = suite_seed(3);
	vmm_addr addrs[40] = {0};
	struct vmm_handle handles[40];
	struct fixture f;
	struct vmm *vmm = &f.vmm;

	open_fixture(&f, &backends[2]);
	for (int n = 0; n < 40; n++)
		handles[n] = create(vmm, 1);
	for (int i = 0; i < 2000; i++) {
		uint32_t n = suite_below(&seed, 40);

		if (addrs[n] == 0) {
			addrs[n] = reserve(vmm, 1 + n % 5);
			map(vmm, addrs[n], 1, handles[n]);
			vmm->ops->set_access(vmm, addrs[n], PAGE);
			put_word(vmm, addrs[n], n);
		} else {
			CU_ASSERT_EQUAL(get_word(&f, addrs[n], n), n);
			vmm->ops->unmap(vmm, addrs[n], PAGE);
			vmm->ops->unreserve(vmm, addrs[n], (1 + n % 5) * PAGE);
			addrs[n] = 0;
		}
	}
	for (uint32_t n = 0; n < 40; n++) {
		vmm->ops->release(vmm, handles[n]);
		if (addrs[n] == 0)
			continue;
		vmm->ops->unmap(vmm, addrs[n], PAGE);
		vmm->ops->unreserve(vmm, addrs[n], (1 + n % 5) * PAGE);
	}
	close_fixture(&f);
}

static void test_vmm_host_mapping_limit__of_the_system_less_a_tenth(void)
{
	FILE *file = fopen("/proc/sys/vm/max_map_count", "re");
	unsigned long long limit = 65530;
	char text[32] = {0};

	if (file) {
		CU_ASSERT_PTR_NOT_NULL(fgets(text, sizeof(text), file));
		limit = strtoull(text, NULL, 10);
		fclose(file);
	}
	CU_ASSERT_EQUAL(vmm_host_mapping_limit(), limit - limit / 10);
	fake_os_reset();
	fake_os_fail(FAKE_OS_OPEN, 1, EACCES);
	CU_ASSERT_EQUAL(vmm_host_mapping_limit(), 58977);
	fake_os_fail(FAKE_OS_READ, 1, EIO);
	CU_ASSERT_EQUAL(vmm_host_mapping_limit(), 58977);
	CU_ASSERT(fake_os_has_failed());
	fake_os_disarm();
	CU_ASSERT(fake_os_check_empty());
}

/* All calls once; 0 or the first error, with nothing left in either case. */
static int run_once(struct error *err)
{
	const struct vmm_host_config config = {.granularity_bytes = PAGE};
	struct vmm_handle a = {0}, b = {0};
	struct vmm vmm;
	vmm_addr addr = 0;
	int rc = vmm_host_init(&vmm, &config, err);

	if (rc != 0)
		return rc;
	rc = vmm.ops->reserve(&vmm, 4 * PAGE, &addr);
	if (rc == 0)
		rc = vmm.ops->create(&vmm, PAGE, &a);
	if (rc == 0)
		rc = vmm.ops->create(&vmm, 2 * PAGE, &b);
	if (rc == 0)
		rc = map(&vmm, addr, 2, b);
	if (rc == 0)
		rc = map(&vmm, addr + 2 * PAGE, 1, a);
	if (rc == 0)
		rc = map(&vmm, addr + 3 * PAGE, 1, a);
	/* One first, then the others: three spans, two calls to come. */
	if (rc == 0)
		rc = vmm.ops->set_access(&vmm, addr + 2 * PAGE, PAGE);
	if (rc == 0) {
		rc = vmm.ops->set_access(&vmm, addr, 4 * PAGE);
		CU_ASSERT_EQUAL(readable(addr), rc == 0);
		CU_ASSERT_EQUAL(readable(addr + 3 * PAGE), rc == 0);
		CU_ASSERT(readable(addr + 2 * PAGE));
		vmm.ops->unmap(&vmm, addr, 4 * PAGE);
		CU_ASSERT_FALSE(readable(addr));
	} else if (b.id != 0) {
		vmm.ops->unmap(&vmm, addr, 4 * PAGE);
	}
	if (a.id != 0)
		vmm.ops->release(&vmm, a);
	if (b.id != 0)
		vmm.ops->release(&vmm, b);
	if (addr != 0)
		vmm.ops->unreserve(&vmm, addr, 4 * PAGE);
	vmm_host_destroy(&vmm);
	return rc;
}

static void test_vmm_host__every_system_call_may_fail(void)
{
	bool seen[FAKE_OS_CALL_COUNT] = {false};
	struct error err;
	uint64_t n = 0;
	int rc;

	do {
		err = (struct error){0};
		fake_os_reset();
		fake_os_fail(FAKE_OS_ANY, ++n, EMFILE);
		rc = run_once(&err);
		if (fake_os_has_failed())
			seen[fake_os_failed_call()] = true;
		/* The limit has a default, a hole is only worth trying. */
		if (fake_os_has_failed() &&
			fake_os_failed_call() != FAKE_OS_OPEN &&
			fake_os_failed_call() != FAKE_OS_READ &&
			fake_os_failed_call() != FAKE_OS_FALLOCATE)
			CU_ASSERT(rc < 0);
		if (fake_os_has_failed() &&
			fake_os_failed_call() == FAKE_OS_MEMFD_CREATE) {
			CU_ASSERT_EQUAL(rc, -EMFILE);
			CU_ASSERT_PTR_NOT_NULL(strstr(err.text, "memfd"));
		}
		CU_ASSERT(fake_os_check_empty());
	} while (fake_os_has_failed() && n < 1000);
	CU_ASSERT_EQUAL(rc, 0);
	CU_ASSERT(seen[FAKE_OS_ALLOCATE] && seen[FAKE_OS_MEMFD_CREATE]);
	CU_ASSERT(seen[FAKE_OS_FTRUNCATE] && seen[FAKE_OS_MMAP]);
	CU_ASSERT(seen[FAKE_OS_FALLOCATE] && seen[FAKE_OS_OPEN]);
	fake_os_disarm();
}

static void run_with_failing_withdrawal(void *argument)
{
	struct error err = {0};

	(void)argument;
	fake_os_fail_withdrawal();
	run_once(&err);
}

static void test_vmm_host_unmap__cannot_be_left_half_done(void)
{
	CU_ASSERT(aborts(run_with_failing_withdrawal, NULL));
}

static void destroy_with_handle(void *argument)
{
	struct fixture f;

	(void)argument;
	open_fixture(&f, &backends[0]);
	create(&f.vmm, 1);
	vmm_host_destroy(&f.vmm);
}

static void destroy_with_reservation(void *argument)
{
	struct fixture f;

	(void)argument;
	open_fixture(&f, &backends[0]);
	reserve(&f.vmm, 1);
	vmm_host_destroy(&f.vmm);
}

static void test_vmm_host_destroy__what_is_left_aborts(void)
{
	CU_ASSERT(aborts(destroy_with_handle, NULL));
	CU_ASSERT(aborts(destroy_with_reservation, NULL));
}

int main(void)
{
	static const struct suite_case cases[] = {
		SUITE_CASE(vmm__handle_is_seen_at_both_addresses),
		SUITE_CASE(vmm__released_handle_lives_while_mapped),
		SUITE_CASE(vmm__addresses_stay_and_pages_move),
		SUITE_CASE(vmm__pointer_only_where_there_is_memory),
		SUITE_CASE(vmm__each_broken_rule_aborts),
		SUITE_CASE(fake_vmm__unmap_under_work_aborts),
		SUITE_CASE(fake_vmm__touching_without_access_aborts),
		SUITE_CASE(fake_vmm__fault_counts_and_clock),
		SUITE_CASE(vmm_host_init__refuses_granularities),
		SUITE_CASE(vmm_host__neighbours_are_one_area),
		SUITE_CASE(vmm_host_map__limit_counts_spans),
		SUITE_CASE(vmm_host_release__memory_goes_and_range_comes_back),
		SUITE_CASE(vmm_host_init__a_kept_file_keeps_its_bytes),
		SUITE_CASE(vmm_host_reserve__many_in_any_order),
		SUITE_CASE(vmm_host_mapping_limit__of_the_system_less_a_tenth),
		SUITE_CASE(vmm_host__every_system_call_may_fail),
		SUITE_CASE(vmm_host_unmap__cannot_be_left_half_done),
		SUITE_CASE(vmm_host_destroy__what_is_left_aborts),
	};

	return SUITE_MAIN("vmm", cases);
}
