/* test_expert_reads.c - a step reads each touched expert once, and no other */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The experts lie in memory that nobody may read. Who reads a page gets a
 * signal, whose handler counts the page, opens it and shuts the one that was
 * opened OPEN_PAGES before. Shapes are such that the weights that belong to one
 * unit of work (a panel of gate with its panel of up, or panels of down) fill
 * whole pages, OPEN_PAGES at most: a page that is counted twice was left and
 * taken up again, which from memory would have been a second reading.
 */
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "gpu/cpu/panels.h"
#include "tests/ops_case.h"
#include "tests/suite.h"

#define PAGE ((size_t)4096)
#define HIDDEN ((size_t)128) /* sixteen rows of bf16 are a page */
#define INTER ((size_t)128)
#define MATRIX_BYTES (HIDDEN * INTER * sizeof(uint16_t))
#define MATRICES ((size_t)3)
#define SLOT_PAGES (MATRICES * MATRIX_BYTES / PAGE)
#define SLOTS ((size_t)24)
#define PAGES (SLOTS * (SLOT_PAGES + 1)) /* and a hole behind each */
#define ROWS ((size_t)64)
#define TOPK_MAX ((size_t)8)
#define OPEN_PAGES 2
#define ROUNDS 40

_Static_assert(16 * HIDDEN * sizeof(uint16_t) == PAGE, "a panel is a page");
_Static_assert(HIDDEN == INTER, "of all three matrices");

/* What the handler works on: there is one handler, so there is one of these. */
static struct {
	unsigned char *memory; /* [PAGES][PAGE] */
	_Atomic uint32_t reads[PAGES];
	bool shuts; /* else what was opened stays open */
	size_t open[OPEN_PAGES]; /* those open, PAGES = none */
	size_t next; /* the one to be shut next */
} guard;

static void shut_all(void)
{
	for (size_t i = 0; i < PAGES; i++)
		atomic_store(&guard.reads[i], 0);
	for (size_t i = 0; i < OPEN_PAGES; i++)
		guard.open[i] = PAGES;
	guard.next = 0;
	mprotect(guard.memory, PAGES * PAGE, PROT_NONE);
}

static void on_read(int number, siginfo_t *info, void *context)
{
	size_t at = (size_t)((unsigned char *)info->si_addr - guard.memory);
	size_t page = at / PAGE;

	(void)context;
	if (at >= PAGES * PAGE) {
		/* Somebody else's fault: once more, without us. */
		signal(number, SIG_DFL);
		return;
	}
	atomic_fetch_add(&guard.reads[page], 1);
	mprotect(guard.memory + page * PAGE, PAGE, PROT_READ);
	if (!guard.shuts)
		return;
	if (guard.open[guard.next] != PAGES)
		mprotect(guard.memory + guard.open[guard.next] * PAGE, PAGE,
			PROT_NONE);
	guard.open[guard.next] = page;
	guard.next = (guard.next + 1) % OPEN_PAGES;
}

static struct sigaction watch(void)
{
	struct sigaction mine = {
		.sa_sigaction = on_read, .sa_flags = SA_SIGINFO};
	struct sigaction before;

	guard.memory = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CU_ASSERT_FATAL(guard.memory != MAP_FAILED);
	CU_ASSERT_EQUAL_FATAL((size_t)sysconf(_SC_PAGESIZE), PAGE);
	sigaction(SIGSEGV, &mine, &before);
	return before;
}

static void unwatch(const struct sigaction *before)
{
	sigaction(SIGSEGV, before, NULL);
	munmap(guard.memory, PAGES * PAGE);
}

struct step {
	struct ops ops;
	struct moe_args args;
	uint64_t slot_offset[SLOTS];
	float x[ROWS * HIDDEN];
	uint16_t slot[ROWS * TOPK_MAX], expert[ROWS * TOPK_MAX];
	float out[ROWS * TOPK_MAX * HIDDEN];
};

static struct step *make_step(uint32_t thread_count, uint64_t *random)
{
	const struct ops_limits limits = {.row_count = ROWS,
		.sample_count = 1,
		.hidden = HIDDEN,
		.vocab = 1,
		.expert_count = SLOTS,
		.topk = TOPK_MAX,
		.inter = INTER};
	struct step *s = suite_calloc(1, sizeof(*s));

	CU_ASSERT_EQUAL_FATAL(ops_create_cpu(case_isa(), &limits, thread_count,
				      NULL, &s->ops),
		0);
	for (size_t i = 0; i < PAGES * PAGE / sizeof(uint16_t); i++)
		dtype_store(guard.memory, DTYPE_BF16, i,
			0.1f * suite_gauss(random));
	for (size_t i = 0; i < SLOTS; i++)
		s->slot_offset[i] = i * (SLOT_PAGES + 1) * PAGE;
	for (size_t i = 0; i < ROWS * HIDDEN; i++)
		s->x[i] = suite_gauss(random);
	s->args = (struct moe_args){.hidden = HIDDEN,
		.inter = INTER,
		.x = s->x,
		.slot = s->slot,
		.expert = s->expert,
		.tensor = guard.memory,
		.slot_offset = s->slot_offset,
		.up_offset_bytes = MATRIX_BYTES,
		.down_offset_bytes = 2 * MATRIX_BYTES,
		.type = DTYPE_BF16,
		.layout = cpu_isa_layout(case_isa()),
		.out = s->out};
	return s;
}

static void free_step(struct step *s)
{
	s->ops.table->destroy(&s->ops);
	free(s);
}

/* Rows go to the first `among` slots of a random order; a few or all. */
static void route(struct step *s, uint64_t *random)
{
	uint16_t order[SLOTS];
	uint32_t among = 1 + suite_below(random, SLOTS);
	uint32_t rows = suite_below(random, 4) ? (uint32_t)ROWS : 3;

	for (uint32_t i = 0; i < SLOTS; i++)
		order[i] = (uint16_t)i;
	for (uint32_t i = SLOTS; i-- > 1;) {
		uint32_t j = suite_below(random, i + 1);
		uint16_t id = order[i];

		order[i] = order[j];
		order[j] = id;
	}
	s->args.rows.count = 1 + suite_below(random, rows);
	s->args.topk = 1 + suite_below(random, (uint32_t)TOPK_MAX);
	for (uint32_t p = 0; p < s->args.rows.count * s->args.topk; p++) {
		uint32_t chosen = suite_below(random, among);

		/* The first ones are the favourites. */
		if (suite_below(random, 2))
			chosen = suite_below(random, chosen + 1);
		s->slot[p] = order[chosen];
	}
}

static void run_step(struct step *s)
{
	CU_ASSERT_EQUAL(s->ops.table->moe(&s->ops, &s->args), 0);
	CU_ASSERT_EQUAL(s->ops.table->fence(&s->ops), 0);
}

/* Pages that were not read as often as `times` says for touched slots. */
static uint32_t count_wrong(const struct step *s, uint32_t times)
{
	uint32_t wanted[PAGES] = {0};
	uint32_t wrong = 0;

	for (uint32_t p = 0; p < s->args.rows.count * s->args.topk; p++)
		for (size_t i = 0; i < SLOT_PAGES; i++)
			wanted[s->slot_offset[s->slot[p]] / PAGE + i] = times;
	for (size_t i = 0; i < PAGES; i++)
		wrong += atomic_load(&guard.reads[i]) != wanted[i];
	return wrong;
}

static void test_expert_reads__one_thread_reads_each_page_once(void)
{
	uint64_t random = suite_seed(1);
	struct sigaction before = watch();
	struct step *s = make_step(1, &random);

	guard.shuts = true;
	for (uint32_t i = 0; i < ROUNDS; i++) {
		route(s, &random);
		shut_all();
		run_step(s);
		CU_ASSERT_EQUAL(count_wrong(s, 1), 0);
	}
	free_step(s);
	unwatch(&before);
}

/* The guard would see a second reading: a second step is one. */
static void test_expert_reads__a_second_step_reads_again(void)
{
	uint64_t random = suite_seed(2);
	struct sigaction before = watch();
	struct step *s = make_step(1, &random);

	guard.shuts = true;
	for (uint32_t p = 0; p < ROWS * TOPK_MAX; p++)
		s->slot[p] = (uint16_t)(p % SLOTS);
	s->args.rows.count = (uint32_t)ROWS;
	s->args.topk = (uint32_t)TOPK_MAX;
	shut_all();
	run_step(s);
	run_step(s);
	CU_ASSERT_EQUAL(count_wrong(s, 2), 0);
	free_step(s);
	unwatch(&before);
}

/* Several may find a page shut at once: what counts is which were read. */
static void test_expert_reads__threads_read_the_same_pages(void)
{
	static const uint32_t threads[] = {2, 3, 5};
	uint64_t random = suite_seed(3);

	for (uint32_t i = 0; i < ROUNDS / 2; i++) {
		struct sigaction before = watch();
		struct step *s = make_step(threads[i % 3], &random);

		guard.shuts = false;
		route(s, &random);
		shut_all();
		run_step(s);
		for (size_t page = 0; page < PAGES; page++)
			if (atomic_load(&guard.reads[page]) > 0)
				atomic_store(&guard.reads[page], 1);
		CU_ASSERT_EQUAL(count_wrong(s, 1), 0);
		free_step(s);
		unwatch(&before);
	}
}

static const struct suite_case each[] = {
	SUITE_CASE(expert_reads__one_thread_reads_each_page_once),
	SUITE_CASE(expert_reads__a_second_step_reads_again),
	SUITE_CASE(expert_reads__threads_read_the_same_pages),
};

int main(void)
{
	return case_run(
		"expert_reads", (struct case_list){NULL, 0}, CASE_LIST(each));
}
