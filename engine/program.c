/* program.c - a step as a list of operations (forward pass -> back end) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The list is bytes: for each call its head and then its arguments, each call
 * on cache lines of its own. A head knows the function, so that what is read
 * between two operations is one stretch of memory.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "base/ticks.h"
#include "engine/program.h"

/* Operations of one argument: all but those that end up in chains. */
#define SINGLES(X)                                                             \
	X(embed, embed_args)                                                   \
	X(gate_up, gate_up_args)                                               \
	X(mla_absorb, mla_args)                                                \
	X(mla_expand, mla_args)                                                \
	X(attention, attention_args)                                           \
	X(router, router_args)                                                 \
	X(moe, moe_args)                                                       \
	X(gather, gather_args)                                                 \
	X(sample, sample_args)

/* Operations on rows: name, arguments, kind, their count of rows. */
#define LINKS(X)                                                               \
	X(rms_norm, rms_norm_args, ROW_RMS_NORM, row_count)                    \
	X(rope, rope_args, ROW_ROPE, rows.count)                               \
	X(kv_write, kv_write_args, ROW_KV_WRITE, rows.count)                   \
	X(combine, combine_args, ROW_COMBINE, row_count)                       \
	X(add, add_args, ROW_ADD, row_count)                                   \
	X(sigmoid_gate, sigmoid_gate_args, ROW_SIGMOID_GATE, row_count)

#define POINTER(name, args_type)                                               \
	int (*(name))(struct ops *, const struct args_type *);
#define POINTER_OF_LINK(name, args_type, kind, rows) POINTER(name, args_type)

struct call {
	int (*run)(const struct call *call);
	struct ops *ops;
	union {
		SINGLES(POINTER)
		LINKS(POINTER_OF_LINK)
		POINTER(chain, chain_args)
		int (*linear)(struct ops *ops, const struct linear_args *args,
			uint32_t count);
		int (*fence)(struct ops *ops);
	} to; /* the back end's */
	size_t size_bytes; /* to the next call */
	uint32_t count; /* of what follows, where that is a list */
	_Alignas(16) unsigned char args[];
};

struct program {
	struct ops recorder; /* program_ops() */
	struct ops *inner;
	uint32_t row_count;
	struct call *last; /* NULL = the list is empty */
	struct call *chain; /* the last one, if rows may join it */
	size_t room_bytes, used_bytes;
	unsigned char *list; /* owns */
};

/* A chain's arguments and its links behind them. */
struct chain_room {
	struct chain_args args;
	struct row_op list[OPS_CHAIN_COUNT_MAX];
};

static struct program *program_of(struct ops *ops)
{
	return ops->context;
}

/* --- running --------------------------------------------------------------- */

#define RUN(name, args_type)                                                   \
	static int run_##name(const struct call *call)                         \
	{                                                                      \
		return call->to.name(call->ops, (const void *)call->args);     \
	}
#define RUN_LINK(name, args_type, kind, rows) RUN(name, args_type)

SINGLES(RUN)
LINKS(RUN_LINK)
RUN(chain, chain_args)

static int run_linear(const struct call *call)
{
	return call->to.linear(
		call->ops, (const void *)call->args, call->count);
}

static int run_fence(const struct call *call)
{
	return call->to.fence(call->ops);
}

static int run_timed(const struct program *program, struct program_times *times)
{
	const unsigned char *at = program->list;
	const unsigned char *end = at + program->used_bytes;
	uint64_t inside_ticks = 0;
	uint32_t call_count = 0;
	int rc = 0;

	while (rc == 0 && at < end) {
		const struct call *call = (const void *)at;
		int (*run)(const struct call *) = call->run;
		uint64_t begin;

		at += call->size_bytes;
		/* The call's head has been read: that is the host's work. */
		begin = ticks_now();
		rc = run(call);
		inside_ticks += ticks_now() - begin;
		call_count++;
	}
	times->inside_ticks += inside_ticks;
	times->call_count += call_count;
	return rc;
}

int program_run(const struct program *program, struct program_times *times)
{
	const unsigned char *at = program->list;
	const unsigned char *end = at + program->used_bytes;
	int rc = 0;

	if (times)
		return run_timed(program, times);
	while (rc == 0 && at < end) {
		const struct call *call = (const void *)at;

		at += call->size_bytes;
		rc = call->run(call);
	}
	return rc;
}

/* --- writing down ---------------------------------------------------------- */

static size_t call_bytes(size_t args_bytes)
{
	return (offsetof(struct call, args) + args_bytes + CACHE_LINE_BYTES -
		       1) /
	       CACHE_LINE_BYTES * CACHE_LINE_BYTES;
}

/* Give the last call, which has `now` bytes, room for `wanted`. */
static void grow(struct program *program, size_t now, size_t wanted)
{
	assert(wanted - now <= program->room_bytes - program->used_bytes);
	program->used_bytes += wanted - now;
	program->last->size_bytes = wanted;
}

/* A call with room for arguments of `size` bytes. */
static struct call *add_call(
	struct program *program, int (*run)(const struct call *), size_t size)
{
	struct call *call = (void *)(program->list + program->used_bytes);

	size = call_bytes(size);
	assert(size <= program->room_bytes - program->used_bytes);
	*call = (struct call){.run = run, .ops = program->inner, .count = 1};
	program->last = call;
	program->chain = NULL;
	grow(program, 0, size);
	return call;
}

#define RECORD(name, args_type)                                                \
	static int record_##name(                                              \
		struct ops *ops, const struct args_type *args)                 \
	{                                                                      \
		struct program *program = program_of(ops);                     \
		const struct ops_table *to = program->inner->table;            \
		struct call *call =                                            \
			add_call(program, run_##name, sizeof(*args));          \
                                                                               \
		call->to.name = to->name;                                      \
		memcpy(call->args, args, sizeof(*args));                       \
		return 0;                                                      \
	}

SINGLES(RECORD)

static int record_linear(
	struct ops *ops, const struct linear_args *args, uint32_t count)
{
	struct program *program = program_of(ops);
	const struct ops_table *to = program->inner->table;
	struct call *call =
		add_call(program, run_linear, count * sizeof(*args));

	call->to.linear = to->linear;
	call->count = count;
	memcpy(call->args, args, count * sizeof(*args));
	return 0;
}

static int record_fence(struct ops *ops)
{
	struct program *program = program_of(ops);
	const struct ops_table *to = program->inner->table;

	add_call(program, run_fence, 0)->to.fence = to->fence;
	return 0;
}

/*
 * The next link of the chain that is under way, or of a new one; NULL when
 * `rows` rows cannot be in one.
 */
static struct row_op *add_link(
	struct program *program, enum row_op_kind kind, uint32_t rows)
{
	const struct ops_table *to = program->inner->table;
	struct call *call = program->chain;
	struct chain_room *room;
	struct row_op *link;

	if (!to->chain || program->row_count == 0 ||
		rows % program->row_count != 0)
		return NULL;
	if (!call || call->count == OPS_CHAIN_COUNT_MAX) {
		call = add_call(
			program, run_chain, offsetof(struct chain_room, list));
		call->to.chain = to->chain;
		call->count = 0;
		program->chain = call;
	}
	room = (void *)call->args;
	link = &room->list[call->count++];
	grow(program, call->size_bytes,
		call_bytes(offsetof(struct chain_room, list) +
			   call->count * sizeof(*link)));
	link->kind = kind;
	link->group = rows / program->row_count;
	room->args = (struct chain_args){.row_count = program->row_count,
		.count = call->count,
		.list = room->list};
	return link;
}

#define RECORD_LINK(name, args_type, kind, rows)                               \
	static int record_##name(                                              \
		struct ops *ops, const struct args_type *args)                 \
	{                                                                      \
		struct program *program = program_of(ops);                     \
		const struct ops_table *to = program->inner->table;            \
		struct row_op *link = add_link(program, kind, args->rows);     \
		struct call *call;                                             \
                                                                               \
		if (link) {                                                    \
			link->args.name = *args;                               \
			return 0;                                              \
		}                                                              \
		call = add_call(program, run_##name, sizeof(*args));           \
		call->to.name = to->name;                                      \
		memcpy(call->args, args, sizeof(*args));                       \
		return 0;                                                      \
	}

LINKS(RECORD_LINK)

#define ENTRY(name, args_type) .name = record_##name,
#define ENTRY_OF_LINK(name, args_type, kind, rows) ENTRY(name, args_type)

static const struct ops_table recorder_table = {.name = "program",
	.linear = record_linear,
	.fence = record_fence,
	SINGLES(ENTRY) LINKS(ENTRY_OF_LINK)};

/* --- life ------------------------------------------------------------------ */

int program_create(struct ops *inner, size_t room_bytes, struct program **out)
{
	struct program *program = calloc(1, sizeof(*program));

	if (!program)
		return -ENOMEM;
	room_bytes = (room_bytes + CACHE_LINE_BYTES - 1) / CACHE_LINE_BYTES *
		     CACHE_LINE_BYTES;
	program->list = aligned_alloc(CACHE_LINE_BYTES, room_bytes);
	if (!program->list) {
		free(program);
		return -ENOMEM;
	}
	program->room_bytes = room_bytes;
	program->inner = inner;
	program->recorder =
		(struct ops){.table = &recorder_table, .context = program};
	*out = program;
	return 0;
}

void program_destroy(struct program *program)
{
	if (!program)
		return;
	free(program->list);
	free(program);
}

void program_clear(struct program *program, uint32_t row_count)
{
	program->row_count = row_count;
	program->used_bytes = 0;
	program->last = program->chain = NULL;
}

struct ops *program_ops(struct program *program)
{
	return &program->recorder;
}
