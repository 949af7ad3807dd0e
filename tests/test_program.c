/* test_program.c - operations said, and run as they were said */
/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/ticks.h"
#include "engine/program.h"
#include "tests/suite.h"

#define CALLS 64
#define ROOM_BYTES ((size_t)1 << 20)

/* Every operation, and a field of its arguments by which it is known again. */
#define SINGLES(X)                                                             \
	X(embed, embed_args, rows.count)                                       \
	X(gate_up, gate_up_args, out_stride)                                   \
	X(mla_absorb, mla_args, latent)                                        \
	X(mla_expand, mla_args, latent)                                        \
	X(attention, attention_args, layer)                                    \
	X(router, router_args, instance_stride)                                \
	X(moe, moe_args, hidden)                                               \
	X(gather, gather_args, width)                                          \
	X(sample, sample_args, vocab)
#define LINKS(X)                                                               \
	X(rms_norm, rms_norm_args, width, ROW_RMS_NORM, row_count)             \
	X(rope, rope_args, head_count, ROW_ROPE, rows.count)                   \
	X(kv_write, kv_write_args, layer, ROW_KV_WRITE, rows.count)            \
	X(combine, combine_args, hidden, ROW_COMBINE, row_count)               \
	X(add, add_args, width, ROW_ADD, row_count)                            \
	X(sigmoid_gate, sigmoid_gate_args, width, ROW_SIGMOID_GATE, row_count)

#define NAME(name, args_type, tag) OP_##name,
#define NAME_OF_LINK(name, args_type, tag, kind, rows) OP_##name,

enum op { SINGLES(NAME) OP_linear, OP_fence, LINKS(NAME_OF_LINK) OP_COUNT };

#define FIRST_LINK OP_rms_norm

struct entry {
	enum op op;
	uint32_t tag;
	uint32_t rows; /* of a link, else 0 */
};

struct list {
	struct entry entries[CALLS];
	uint32_t count;
};

/* A back end that remembers. */
struct fake {
	struct ops ops;
	struct ops_table table;
	struct list done; /* links of chains by themselves */
	uint32_t call_count; /* of the table's functions */
	uint32_t fails_at; /* the call that fails, UINT32_MAX = none */
};

static int note(struct ops *ops)
{
	struct fake *fake = ops->context;
	uint64_t begin = ticks_now();

	/* Every operation takes time, whatever the clock's grain is. */
	while (ticks_now() == begin)
		;
	return fake->call_count++ == fake->fails_at ? -EIO : 0;
}

static void add_entry(struct list *list, struct entry entry)
{
	CU_ASSERT_FATAL(list->count < CALLS);
	list->entries[list->count++] = entry;
}

static void done(struct ops *ops, enum op op, uint32_t tag, uint32_t rows)
{
	struct fake *fake = ops->context;

	add_entry(&fake->done, (struct entry){op, tag, rows});
}

#define FAKE(name, args_type, tag)                                             \
	static int fake_##name(struct ops *ops, const struct args_type *args)  \
	{                                                                      \
		done(ops, OP_##name, args->tag, 0);                            \
		return note(ops);                                              \
	}
#define FAKE_LINK(name, args_type, tag, kind, rows)                            \
	static int fake_##name(struct ops *ops, const struct args_type *args)  \
	{                                                                      \
		done(ops, OP_##name, args->tag, args->rows);                   \
		return note(ops);                                              \
	}

SINGLES(FAKE)
LINKS(FAKE_LINK)

static int fake_linear(
	struct ops *ops, const struct linear_args *args, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++)
		done(ops, OP_linear, args[i].out_stride, 0);
	return note(ops);
}

static int fake_fence(struct ops *ops)
{
	done(ops, OP_fence, 0, 0);
	return note(ops);
}

#define CASE_OF_LINK(name, args_type, tag, kind_of, rows)                      \
	case kind_of:                                                          \
		CU_ASSERT_EQUAL(                                               \
			link->args.name.rows, args->row_count * link->group);  \
		done(ops, OP_##name, link->args.name.tag,                      \
			link->args.name.rows);                                 \
		break;

static int fake_chain(struct ops *ops, const struct chain_args *args)
{
	CU_ASSERT(args->count >= 1 && args->count <= OPS_CHAIN_COUNT_MAX);
	for (uint32_t i = 0; i < args->count; i++) {
		const struct row_op *link = &args->list[i];

		switch (link->kind) {
			LINKS(CASE_OF_LINK)
		default:
			CU_FAIL("no such kind");
		}
	}
	return note(ops);
}

#define ENTRY(name, args_type, tag) .name = fake_##name,
#define ENTRY_OF_LINK(name, args_type, tag, kind, rows) .name = fake_##name,

static void fake_init(struct fake *fake, bool has_chain)
{
	*fake = (struct fake){
		.table = {.linear = fake_linear,
			.fence = fake_fence,
			SINGLES(ENTRY) LINKS(ENTRY_OF_LINK)},
		.fails_at = UINT32_MAX,
	};
	if (has_chain)
		fake->table.chain = fake_chain;
	fake->ops = (struct ops){&fake->table, fake};
}

#define SAY(name, args_type, tag_field)                                        \
	case OP_##name: {                                                      \
		struct args_type args = {.tag_field = entry.tag};              \
                                                                               \
		CU_ASSERT_EQUAL(ops->table->name(ops, &args), 0);              \
		memset(&args, 0xff, sizeof(args));                             \
		break;                                                         \
	}
#define SAY_LINK(name, args_type, tag_field, kind, rows_field)                 \
	case OP_##name: {                                                      \
		struct args_type args = {                                      \
			.tag_field = entry.tag, .rows_field = entry.rows};     \
                                                                               \
		CU_ASSERT_EQUAL(ops->table->name(ops, &args), 0);              \
		memset(&args, 0xff, sizeof(args));                             \
		break;                                                         \
	}

/* One operation to the program; linears that follow go in lists of `count`. */
static void say(struct ops *ops, struct entry entry, uint32_t count)
{
	struct linear_args *linear;

	switch (entry.op) {
		SINGLES(SAY)
		LINKS(SAY_LINK)
	case OP_linear:
		linear = suite_calloc(count, sizeof(*linear));
		for (uint32_t i = 0; i < count; i++)
			linear[i].out_stride = entry.tag + i;
		CU_ASSERT_EQUAL(ops->table->linear(ops, linear, count), 0);
		free(linear);
		break;
	default:
		CU_ASSERT_EQUAL(ops->table->fence(ops), 0);
	}
}

/* A random list of at most `most` entries for steps of `rows` rows. */
static void make_list(
	struct list *list, uint32_t most, uint32_t rows, uint64_t *random)
{
	uint32_t count = suite_below(random, most + 1);

	*list = (struct list){.count = 0};
	while (list->count < count) {
		struct entry entry = {
			.op = (enum op)suite_below(random, OP_COUNT),
			.tag = 1 + suite_below(random, 1u << 30),
		};

		if (suite_below(random, 2))
			entry.op = FIRST_LINK +
				   suite_below(random, OP_COUNT - FIRST_LINK);
		if (entry.op == OP_fence)
			entry.tag = 0;
		if (entry.op >= FIRST_LINK)
			entry.rows = rows * (1 + suite_below(random, 3)) +
				     (suite_below(random, 8) == 0);
		add_entry(list, entry);
	}
}

/* The calls that a list becomes, said naively. */
static uint32_t count_calls(
	const struct list *list, uint32_t rows, bool has_chain)
{
	uint32_t calls = 0, links = 0;

	for (uint32_t i = 0; i < list->count; i++) {
		const struct entry *entry = &list->entries[i];

		if (has_chain && entry->op >= FIRST_LINK &&
			entry->rows % rows == 0) {
			calls += links % OPS_CHAIN_COUNT_MAX == 0;
			links++;
		} else {
			calls++;
			links = 0;
		}
	}
	return calls;
}

static bool same_list(const struct list *a, const struct list *b)
{
	if (a->count != b->count)
		return false;
	for (uint32_t i = 0; i < a->count; i++)
		if (a->entries[i].op != b->entries[i].op ||
			a->entries[i].tag != b->entries[i].tag ||
			a->entries[i].rows != b->entries[i].rows)
			return false;
	return true;
}

static void check_list(
	struct program *program, struct fake *fake, uint64_t *random)
{
	uint32_t rows = 2 + suite_below(random, 50);
	struct list list;

	make_list(&list, CALLS, rows, random);
	program_clear(program, rows);
	for (uint32_t i = 0; i < list.count; i++)
		say(program_ops(program), list.entries[i], 1);
	CU_ASSERT_EQUAL(fake->call_count, 0); /* nothing ran yet */
	for (int again = 0; again < 2; again++) {
		CU_ASSERT_EQUAL(program_run(program, NULL), 0);
		CU_ASSERT(same_list(&list, &fake->done));
		CU_ASSERT_EQUAL(fake->call_count,
			count_calls(&list, rows, fake->table.chain));
		fake->done.count = fake->call_count = 0;
	}
}

static void test_program_run__runs_what_was_said(void)
{
	uint64_t random = suite_seed(1);

	for (uint32_t i = 0; i < 400; i++) {
		struct program *program;
		struct fake fake;

		fake_init(&fake, i % 2);
		CU_ASSERT_EQUAL_FATAL(
			program_create(&fake.ops, ROOM_BYTES, &program), 0);
		for (uint32_t round = 0; round < 3; round++)
			check_list(program, &fake, &random);
		program_destroy(program);
	}
}

static void test_program_run__lists_of_linears_stay_lists(void)
{
	struct program *program;
	struct fake fake;

	fake_init(&fake, true);
	CU_ASSERT_EQUAL_FATAL(
		program_create(&fake.ops, ROOM_BYTES, &program), 0);
	program_clear(program, 4);
	say(program_ops(program), (struct entry){OP_linear, 10, 0}, 3);
	CU_ASSERT_EQUAL(program_run(program, NULL), 0);
	CU_ASSERT_EQUAL(fake.call_count, 1);
	CU_ASSERT_EQUAL_FATAL(fake.done.count, 3);
	for (uint32_t i = 0; i < 3; i++)
		CU_ASSERT_EQUAL(fake.done.entries[i].tag, 10 + i);
	program_destroy(program);
}

static void test_program_run__an_error_ends_it(void)
{
	for (uint32_t at = 0; at < 5; at++) {
		struct program *program;
		struct fake fake;

		fake_init(&fake, at % 2);
		CU_ASSERT_EQUAL_FATAL(
			program_create(&fake.ops, ROOM_BYTES, &program), 0);
		program_clear(program, 4);
		for (uint32_t i = 0; i < 5; i++)
			say(program_ops(program), (struct entry){OP_moe, i, 0},
				1);
		fake.fails_at = at;
		CU_ASSERT_EQUAL(program_run(program, NULL), -EIO);
		CU_ASSERT_EQUAL(fake.call_count, at + 1);
		program_destroy(program);
	}
}

/* What is measured is what is run, up to the error, and sums up. */
static void test_program_run__times_are_added(void)
{
	struct program_times times = {0};
	uint64_t begin, all, before;
	struct program *program;
	struct fake fake;

	fake_init(&fake, true);
	CU_ASSERT_EQUAL_FATAL(
		program_create(&fake.ops, ROOM_BYTES, &program), 0);
	program_clear(program, 4);
	for (uint32_t i = 0; i < 5; i++)
		say(program_ops(program), (struct entry){OP_moe, i, 0}, 1);
	begin = ticks_now();
	CU_ASSERT_EQUAL(program_run(program, &times), 0);
	all = ticks_now() - begin;
	CU_ASSERT_EQUAL(times.call_count, 5);
	CU_ASSERT_EQUAL(fake.call_count, 5);
	CU_ASSERT(times.inside_ticks > 0 && times.inside_ticks <= all);
	before = times.inside_ticks;
	fake.fails_at = 7;
	CU_ASSERT_EQUAL(program_run(program, &times), -EIO);
	CU_ASSERT_EQUAL(times.call_count, 8);
	CU_ASSERT(times.inside_ticks > before);
	program_destroy(program);
}

static void test_program_run__an_empty_list_is_nothing(void)
{
	struct program *program;
	struct fake fake;

	fake_init(&fake, true);
	CU_ASSERT_EQUAL_FATAL(
		program_create(&fake.ops, ROOM_BYTES, &program), 0);
	CU_ASSERT_EQUAL(program_run(program, NULL), 0);
	CU_ASSERT_EQUAL(fake.call_count, 0);
	program_destroy(program);
	program_destroy(NULL);
}

static const struct suite_case cases[] = {
	SUITE_CASE(program_run__runs_what_was_said),
	SUITE_CASE(program_run__lists_of_linears_stay_lists),
	SUITE_CASE(program_run__an_error_ends_it),
	SUITE_CASE(program_run__times_are_added),
	SUITE_CASE(program_run__an_empty_list_is_nothing),
};

int main(void)
{
	return SUITE_MAIN("program", cases);
}
