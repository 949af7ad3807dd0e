/* jinja_loop.c - for loops and what `loop` knows (items -> output) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <string.h>

#include "dataplane/jinja_tree.h"

/* The next item that passes the loop's filter, which runs when asked. */
static bool pull(struct jrun *run, struct jloop *loop, struct jvalue *out)
{
	const struct jnode_for *node = loop->node->loop;

	while (jiter_next(run, loop->source, out)) {
		struct jvalue test;

		if (!node->test || loop->filtered)
			return true;
		jrun_store(run, loop->test_frame, node->test_target, *out);
		test = jeval(run, loop->test_frame, node->test);
		if (run->rc)
			return false;
		if (jvalue_truth(run, test))
			return !run->rc;
	}
	return false;
}

/* Look one item ahead; false at the end. */
static bool peek(struct jrun *run, struct jloop *loop)
{
	if (!loop->has_after)
		loop->has_after = pull(run, loop, &loop->after);
	return loop->has_after;
}

static bool advance(struct jrun *run, struct jloop *loop)
{
	struct jvalue item;

	if (!peek(run, loop))
		return false;
	item = loop->after;
	loop->has_after = false;
	loop->index0++;
	loop->before = loop->current;
	loop->current = item;
	return true;
}

/* What has no length is run to its end and kept. */
bool jloop_length(struct jrun *run, struct jloop *loop, size_t *out)
{
	struct jlist *rest;
	struct jvalue item;

	*out = loop->length;
	if (loop->length_known)
		return true;
	if (loop->node->loop->test ||
		!jvalue_length(run, loop->iterable, &loop->length)) {
		rest = jlist_make(run, 4);
		while (rest && pull(run, loop, &item))
			jlist_add(run, rest, item);
		if (run->rc || !rest)
			return false;
		loop->length = rest->count + (size_t)(loop->index0 + 1) +
			       loop->has_after;
		loop->source = jiter_make(run, JITER_LIST, jvalue_list(rest));
		loop->filtered = true;
	}
	loop->length_known = true;
	*out = loop->length;
	return true;
}

static struct jvalue attribute_of_length(
	struct jrun *run, struct jloop *loop, const struct jtext *name)
{
	size_t length = 0;

	if (!jloop_length(run, loop, &length))
		return jvalue_undefined(NULL);
	if (jtext_is(name, "length"))
		return jvalue_int((int64_t)length, true);
	return jvalue_int((int64_t)length - loop->index0 -
				  (jtext_is(name, "revindex0") ? 1 : 0),
		true);
}

struct jvalue jloop_attribute(
	struct jrun *run, struct jloop *loop, const struct jtext *name)
{
	if (jtext_is(name, "index0"))
		return jvalue_int(loop->index0, true);
	if (jtext_is(name, "index"))
		return jvalue_int(loop->index0 + 1, true);
	if (jtext_is(name, "first"))
		return jvalue_bool(loop->index0 == 0);
	if (jtext_is(name, "last"))
		return jvalue_bool(!peek(run, loop));
	if (jtext_is(name, "previtem"))
		return loop->index0 == 0 ? jvalue_undefined(name)
					 : loop->before;
	if (jtext_is(name, "nextitem"))
		return peek(run, loop) ? loop->after : jvalue_undefined(name);
	if (jtext_is(name, "depth"))
		return jvalue_int(loop->depth0 + 1, true);
	if (jtext_is(name, "depth0"))
		return jvalue_int(loop->depth0, true);
	if (jtext_is(name, "length") || jtext_is(name, "revindex") ||
		jtext_is(name, "revindex0"))
		return attribute_of_length(run, loop, name);
	return (struct jvalue){.type = J_MISSING};
}

/* The body for every item, then `else` if no body came to its end. */
static void run_items(
	struct jrun *run, struct jloop *loop, struct jbuilder *out)
{
	const struct jnode_for *node = loop->node->loop;
	bool none = true;

	while (advance(run, loop)) {
		enum jflow flow;

		jrun_store(run, loop->frame, node->target, loop->current);
		if (node->extended)
			loop->frame->slots[node->loop_slot] =
				(struct jvalue){.type = J_LOOP, .loop = loop};
		jrun_scope(run, loop->frame, &node->body_scope);
		flow = jrun_body(run, loop->frame, &node->body, out);
		if (run->rc || flow == JFLOW_BREAK)
			break;
		if (flow == JFLOW_NEXT)
			none = false;
	}
	if (none && !run->rc && node->otherwise.count > 0) {
		jrun_scope(run, loop->frame, &node->otherwise_scope);
		loop->flow = jrun_body(run, loop->frame, &node->otherwise, out);
	}
}

/* Go through `iterable` in `outer`, where the for statement stands. */
static enum jflow run_loop(struct jrun *run, const struct jloop *from,
	struct jvalue iterable, struct jbuilder *out)
{
	const struct jnode_for *node = from->node->loop;
	struct jloop *loop = jrun_take(run, sizeof(*loop));

	if (!loop || !jrun_enter(run))
		return JFLOW_NEXT;
	*loop = *from;
	loop->iterable = iterable;
	loop->source = jiter_open(run, iterable);
	if (node->recursive)
		loop->frame = jrun_frame(run, node->slots, from->outer);
	if (node->test && !run->rc) {
		loop->test_frame =
			jrun_frame(run, node->test_slots, from->outer);
		if (loop->test_frame)
			jrun_scope(run, loop->test_frame, &node->test_scope);
	}
	if (!run->rc)
		run_items(run, loop, out);
	jrun_leave(run);
	return loop->flow;
}

enum jflow jloop_run(struct jrun *run, struct jframe *frame,
	const struct jnode *node, struct jbuilder *out)
{
	struct jloop loop = {.node = node,
		.frame = frame,
		.outer = frame,
		.index0 = -1,
		.changed = {.type = J_MISSING}};
	struct jvalue iterable = jeval(run, frame, node->loop->iterable);

	run->at = node;
	return run->rc ? JFLOW_NEXT : run_loop(run, &loop, iterable, out);
}

struct jvalue jloop_call(
	struct jrun *run, struct jloop *loop, const struct jargs *args)
{
	struct jloop inner = {.node = loop->node,
		.outer = loop->outer,
		.index0 = -1,
		.changed = {.type = J_MISSING},
		.depth0 = loop->depth0 + 1};
	struct jbuilder out;

	if (!loop->node->loop->recursive)
		return jrun_bad(run, "the loop is not marked 'recursive'");
	if (args->count != 1 || args->keyword_count > 0)
		return jrun_bad(run, "loop() takes one argument");
	jbuilder_init(&out, run);
	(void)run_loop(run, &inner, args->items[0], &out);
	return run->rc ? jvalue_undefined(NULL)
		       : jtext_value(jbuilder_finish(&out));
}
