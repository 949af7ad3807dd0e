/* jinja_eval.c - the expressions of a template (tree -> values) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <errno.h>
#include <string.h>

#include "dataplane/jinja_tree.h"

_Static_assert((int)JN_POWER - (int)JN_ADD == (int)JMATH_POWER, "one order");

static struct jvalue eval_list(
	struct jrun *run, struct jframe *frame, const struct jnode *node)
{
	struct jlist *list = jlist_make(run, node->list.count);

	for (size_t i = 0; list && i < node->list.count && !run->rc; i++)
		jlist_add(run, list, jeval(run, frame, node->list.items[i]));
	return node->kind == JN_LIST ? jvalue_list(list) : jvalue_tuple(list);
}

static struct jvalue eval_dict(
	struct jrun *run, struct jframe *frame, const struct jnode *node)
{
	struct jdict *dict = jdict_make(run);

	for (size_t i = 0; dict && i + 1 < node->list.count && !run->rc;
		i += 2) {
		struct jvalue key = jeval(run, frame, node->list.items[i]);
		struct jvalue value;

		if (run->rc)
			break;
		value = jeval(run, frame, node->list.items[i + 1]);
		jdict_set(run, dict, key, value);
	}
	return run->rc ? jvalue_undefined(NULL)
		       : (struct jvalue){.type = J_DICT, .dict = dict};
}

static struct jvalue eval_item(
	struct jrun *run, struct jframe *frame, const struct jnode *node)
{
	const struct jnode *right = node->binary.right;
	struct jvalue object = jeval(run, frame, node->binary.left), key;
	struct jvalue parts[3];

	if (run->rc)
		return object;
	if (right->kind != JN_SLICE) {
		key = jeval(run, frame, right);
		run->at = node;
		return jvalue_item(run, object, key);
	}
	for (int i = 0; i < 3; i++)
		parts[i] = right->triple.parts[i]
				   ? jeval(run, frame, right->triple.parts[i])
				   : (struct jvalue){.type = J_MISSING};
	run->at = node;
	return jvalue_slice(run, object, parts);
}

static struct jvalue eval_compare(
	struct jrun *run, struct jframe *frame, const struct jnode *node)
{
	const struct jnode_compare *compare = &node->compare;
	struct jvalue left = jeval(run, frame, compare->first);

	for (size_t i = 0; i < compare->count && !run->rc; i++) {
		struct jvalue right = jeval(run, frame, compare->operands[i]);
		bool holds;

		if (run->rc)
			break;
		run->at = node;
		holds = jvalue_compare(
			run, (enum jcompare)compare->operators[i], left, right);
		if (!holds)
			return jvalue_bool(false);
		left = right;
	}
	return jvalue_bool(true);
}

static struct jvalue eval_concat(
	struct jrun *run, struct jframe *frame, const struct jnode *node)
{
	struct jbuilder out;
	struct jlist *parts = jlist_make(run, node->list.count);

	for (size_t i = 0; parts && i < node->list.count && !run->rc; i++)
		jlist_add(run, parts, jeval(run, frame, node->list.items[i]));
	run->at = node;
	jbuilder_init(&out, run);
	for (size_t i = 0; parts && i < parts->count && !run->rc; i++)
		jformat_str(&out, parts->items[i]);
	return run->rc ? jvalue_undefined(NULL)
		       : jtext_value(jbuilder_finish(&out));
}

static struct jvalue eval_condition(
	struct jrun *run, struct jframe *frame, const struct jnode *node)
{
	struct jvalue test = jeval(run, frame, node->triple.parts[0]);

	if (run->rc)
		return test;
	if (jvalue_truth(run, test))
		return jeval(run, frame, node->triple.parts[1]);
	if (node->triple.parts[2])
		return jeval(run, frame, node->triple.parts[2]);
	return jvalue_undefined(NULL);
}

/* and, or: the operand that decided. */
static struct jvalue eval_logic(
	struct jrun *run, struct jframe *frame, const struct jnode *node)
{
	struct jvalue left = jeval(run, frame, node->binary.left);

	if (run->rc || jvalue_truth(run, left) == (node->kind == JN_OR))
		return left;
	return jeval(run, frame, node->binary.right);
}

static struct jvalue eval_binary(
	struct jrun *run, struct jframe *frame, const struct jnode *node)
{
	struct jvalue left = jeval(run, frame, node->binary.left), right;

	if (run->rc)
		return left;
	right = jeval(run, frame, node->binary.right);
	run->at = node;
	return jmath_binary(
		run, (enum jmath)(node->kind - JN_ADD), left, right);
}

/* --- calls, filters, tests ----------------------------------------------- */

/* *args and **kwargs: their items behind the written ones. */
static void add_starred(struct jrun *run, struct jframe *frame,
	const struct jcall_args *args, struct jargs *out)
{
	struct jlist *items = jlist_make(run, out->count + 1);
	struct jiter *iter;
	struct jvalue value, item;

	for (size_t i = 0; i < out->count; i++)
		jlist_add(run, items, out->items[i]);
	if (args->star) {
		value = jeval(run, frame, args->star);
		iter = jiter_open(run, value);
		while (jiter_next(run, iter, &item))
			jlist_add(run, items, item);
	}
	if (run->rc || !items)
		return;
	out->items = items->items;
	out->count = items->count;
	if (!args->star_star)
		return;
	value = jeval(run, frame, args->star_star);
	if (run->rc || value.type != J_DICT) {
		jrun_fail(run, EINVAL, "'**' needs a mapping");
		return;
	}
	out->keywords =
		jrun_take_array(run, out->keyword_count + value.dict->count + 1,
			sizeof(*out->keywords));
	for (size_t i = 0; !run->rc && i < args->keyword_count; i++)
		out->keywords[i].name = &args->names[i]->text;
	for (size_t i = 0; !run->rc && i < value.dict->count; i++) {
		struct jentry *entry = &value.dict->entries[i];

		if (entry->key.type != J_TEXT)
			jrun_fail(run, EINVAL, "keywords must be strings");
		else
			out->keywords[out->keyword_count++] = (struct jkeyword){
				entry->key.text, entry->value};
	}
}

static bool eval_args(struct jrun *run, struct jframe *frame,
	const struct jcall_args *args, struct jargs *out)
{
	struct jkeyword *written;

	*out = (struct jargs){
		.count = args->count, .keyword_count = args->keyword_count};
	if (args->count + args->keyword_count == 0 && !args->star &&
		!args->star_star)
		return !run->rc;
	out->items = jrun_take_array(run, args->count + 1, sizeof(*out->items));
	written =
		jrun_take_array(run, args->keyword_count + 1, sizeof(*written));
	out->keywords = written;
	for (size_t i = 0; i < args->count && !run->rc; i++)
		out->items[i] = jeval(run, frame, args->items[i]);
	for (size_t i = 0; i < args->keyword_count && !run->rc; i++) {
		written[i].name = &args->names[i]->text;
		written[i].value = jeval(run, frame, args->values[i]);
	}
	if (run->rc || (!args->star && !args->star_star))
		return !run->rc;
	add_starred(run, frame, args, out);
	if (!run->rc && out->keywords != written)
		memcpy(out->keywords, written,
			args->keyword_count * sizeof(*written));
	return !run->rc;
}

struct jvalue jeval_call(struct jrun *run, struct jframe *frame,
	const struct jnode *node, struct jvalue caller)
{
	static const struct jtext caller_name = {
		.bytes = "caller", .length = 6};
	struct jvalue callee = jeval(run, frame, node->call.callee);
	struct jkeyword *keywords;
	struct jargs args;

	if (run->rc || !eval_args(run, frame, &node->call.args, &args))
		return callee;
	if (caller.type != J_MISSING) {
		keywords = jrun_take_array(
			run, args.keyword_count + 1, sizeof(*keywords));
		if (!keywords)
			return callee;
		if (args.keyword_count > 0)
			memcpy(keywords, args.keywords,
				args.keyword_count * sizeof(*keywords));
		keywords[args.keyword_count++] =
			(struct jkeyword){&caller_name, caller};
		args.keywords = keywords;
	}
	run->at = node;
	return jcall_value(run, callee, &args);
}

struct jvalue jeval_filter(struct jrun *run, struct jframe *frame,
	const struct jnode *node, struct jvalue text)
{
	struct jvalue value = text;
	struct jargs args;

	if (!jrun_enter(run))
		return text;
	if (node->filter.subject && node->filter.subject->kind == JN_FILTER)
		value = jeval_filter(run, frame, node->filter.subject, text);
	else if (node->filter.subject)
		value = jeval(run, frame, node->filter.subject);
	if (!run->rc && eval_args(run, frame, &node->filter.args, &args)) {
		run->at = node;
		value = node->filter.filter->apply(run, value, &args);
	}
	jrun_leave(run);
	/* Who keeps the arguments copies them. */
	/* cppcheck-suppress returnDanglingLifetime */
	return value;
}

static struct jvalue eval_test(
	struct jrun *run, struct jframe *frame, const struct jnode *node)
{
	struct jvalue value = jeval(run, frame, node->filter.subject);
	struct jargs args;

	if (run->rc || !eval_args(run, frame, &node->filter.args, &args))
		return value;
	run->at = node;
	return jvalue_bool(jtest_is(run, node->filter.test, value, &args));
}

static struct jvalue eval_attribute(
	struct jrun *run, struct jframe *frame, const struct jnode *node)
{
	struct jvalue object = jeval(run, frame, node->attribute.object);

	run->at = node;
	return jvalue_attribute(run, object, &node->attribute.name->text);
}

static struct jvalue eval_unary(
	struct jrun *run, struct jframe *frame, const struct jnode *node)
{
	struct jvalue value = jeval(run, frame, node->binary.left);

	if (run->rc)
		return value;
	run->at = node;
	if (node->kind == JN_NOT)
		return jvalue_bool(!jvalue_truth(run, value));
	return jmath_negate(run, value, node->kind == JN_NEGATE);
}

static struct jvalue eval_name(struct jframe *frame, const struct jnode *node)
{
	struct jvalue value = *jframe_slot(frame, node->name.ref);

	return value.type == J_MISSING
		       ? jvalue_undefined(&node->name.name->text)
		       : value;
}

static struct jvalue eval_node(
	struct jrun *run, struct jframe *frame, const struct jnode *node)
{
	switch ((enum jnode_kind)node->kind) {
	case JN_CONST:
		return node->value;
	case JN_NAME:
		return eval_name(frame, node);
	case JN_LIST:
	case JN_TUPLE:
		return eval_list(run, frame, node);
	case JN_DICT:
		return eval_dict(run, frame, node);
	case JN_ATTRIBUTE:
		return eval_attribute(run, frame, node);
	case JN_ITEM:
		return eval_item(run, frame, node);
	case JN_CALL:
		return jeval_call(
			run, frame, node, (struct jvalue){.type = J_MISSING});
	case JN_FILTER:
		return jeval_filter(run, frame, node, jvalue_undefined(NULL));
	case JN_TEST:
		return eval_test(run, frame, node);
	case JN_NOT:
	case JN_NEGATE:
	case JN_PLUS:
		return eval_unary(run, frame, node);
	case JN_AND:
	case JN_OR:
		return eval_logic(run, frame, node);
	case JN_COMPARE:
		return eval_compare(run, frame, node);
	case JN_CONCAT:
		return eval_concat(run, frame, node);
	case JN_CONDITION:
		return eval_condition(run, frame, node);
	default:
		assert(node->kind >= JN_ADD && node->kind <= JN_POWER);
		return eval_binary(run, frame, node);
	}
}

struct jvalue jeval(
	struct jrun *run, struct jframe *frame, const struct jnode *node)
{
	struct jvalue value = jvalue_undefined(NULL);

	run->at = node;
	if (!jrun_charge(run, 1) || !jrun_enter(run))
		return value;
	value = eval_node(run, frame, node);
	jrun_leave(run);
	return value;
}
