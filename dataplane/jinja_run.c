/* jinja_run.c - the statements of a template, and a render as a whole */
/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "dataplane/jinja_tree.h"

#define STEPS_PER_CHECK 2048
#define BYTES_PER_STEP 64
#define CHARACTERS_PER_STEP 4

/* --- limits -------------------------------------------------------------- */

struct jinja_limits jinja_limits_default(void)
{
	return (struct jinja_limits){.arena_bytes = JINJA_ARENA_BYTES_DEFAULT,
		.output_bytes = JINJA_OUTPUT_BYTES_DEFAULT,
		.step_count = JINJA_STEP_COUNT_DEFAULT,
		.depth = JINJA_DEPTH_DEFAULT};
}

__attribute__((format(printf, 3, 0))) static void failv(
	struct jrun *run, int code, const char *format, va_list args)
{
	if (run->rc)
		return;
	run->rc = error_setv(run->err, code, format, args);
	if (run->at)
		error_prefix(run->err, "%s:%u:%u", run->template->name,
			run->at->line, run->at->column);
	else
		error_prefix(run->err, "%s", run->template->name);
}

void jrun_fail(struct jrun *run, int code, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	failv(run, code, format, args);
	va_end(args);
}

struct jvalue jrun_bad(struct jrun *run, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	failv(run, EINVAL, format, args);
	va_end(args);
	return jvalue_undefined(NULL);
}

bool jrun_charge(struct jrun *run, uint64_t steps)
{
	if (run->rc)
		return false;
	if (steps > run->steps_left) {
		jrun_fail(run, E2BIG, "the template takes too many steps");
		return false;
	}
	run->steps_left -= steps;
	if (steps < run->check_in) {
		run->check_in -= (uint32_t)steps;
		return true;
	}
	run->check_in = STEPS_PER_CHECK;
	if (run->limits->deadline.ns != 0 &&
		!mono_before(mono_now(), run->limits->deadline))
		jrun_fail(run, ETIMEDOUT, "the template takes too long");
	return !run->rc;
}

bool jrun_charge_bytes(struct jrun *run, size_t bytes)
{
	return jrun_charge(run, bytes / BYTES_PER_STEP);
}

bool jrun_charge_characters(struct jrun *run, size_t bytes)
{
	return jrun_charge(run, bytes / CHARACTERS_PER_STEP);
}

bool jrun_enter(struct jrun *run)
{
	if (run->rc)
		return false;
	if (run->depth >= run->limits->depth) {
		jrun_fail(run, ELOOP, "the template nests too deeply");
		return false;
	}
	run->depth++;
	return true;
}

void jrun_leave(struct jrun *run)
{
	assert(run->depth > 0);
	run->depth--;
}

void *jrun_take(struct jrun *run, size_t size_bytes)
{
	void *block = run->rc ? NULL : jarena_take(&run->arena, size_bytes);

	if (!block)
		jrun_fail(run, ENOMEM,
			run->arena.out_of_memory
				? "out of memory"
				: "the template takes too much memory");
	return block;
}

void *jrun_take_array(struct jrun *run, size_t count, size_t item_bytes)
{
	size_t total;

	if (!mul_ok(count, item_bytes, &total))
		total = SIZE_MAX / 2;
	return jrun_take(run, total);
}

/* --- frames -------------------------------------------------------------- */

struct jframe *jrun_frame(
	struct jrun *run, uint32_t slots, struct jframe *parent)
{
	struct jframe *frame = jrun_take(run, sizeof(*frame));

	if (!frame)
		return NULL;
	frame->parent = parent;
	frame->slots = jrun_take_array(run, slots, sizeof(*frame->slots));
	if (!frame->slots)
		return NULL;
	for (uint32_t i = 0; i < slots; i++)
		frame->slots[i] = (struct jvalue){.type = J_MISSING};
	return frame;
}

struct jvalue *jframe_slot(struct jframe *frame, struct jref ref)
{
	for (uint32_t i = 0; frame && i < ref.hops; i++)
		frame = frame->parent;
	assert(frame);
	return &frame->slots[ref.slot];
}

void jrun_scope(
	struct jrun *run, struct jframe *frame, const struct jscope *scope)
{
	for (size_t i = 0; i < scope->count && !run->rc; i++) {
		const struct jload *load = &scope->loads[i];
		struct jvalue *slot = &frame->slots[load->slot];

		switch (load->kind) {
		case JLOAD_PARAMETER:
			break;
		case JLOAD_RESOLVE:
			*slot = jglobal_resolve(run, load->name);
			break;
		case JLOAD_ALIAS:
			*slot = *jframe_slot(frame, load->from);
			break;
		case JLOAD_UNDEFINED:
			*slot = (struct jvalue){.type = J_MISSING};
			break;
		}
	}
}

static void store_tuple(struct jrun *run, struct jframe *frame,
	const struct jnode *target, struct jvalue value)
{
	struct jlist *items = jiter_collect(run, value);

	if (!items)
		return;
	if (items->count != target->list.count) {
		run->at = target;
		jrun_fail(run, EINVAL, "%zu values for %zu names", items->count,
			target->list.count);
		return;
	}
	for (size_t i = 0; i < items->count; i++)
		jrun_store(run, frame, target->list.items[i], items->items[i]);
}

void jrun_store(struct jrun *run, struct jframe *frame,
	const struct jnode *target, struct jvalue value)
{
	struct jvalue *slot, key;

	if (run->rc)
		return;
	if (target->kind == JN_TUPLE) {
		store_tuple(run, frame, target, value);
		return;
	}
	slot = jframe_slot(frame, target->name.ref);
	if (target->kind == JN_NAME) {
		*slot = value;
		return;
	}
	run->at = target;
	key = jtext_value(jtext_make(run, target->name.attribute->bytes,
		target->name.attribute->length, true));
	if (slot->type != J_NAMESPACE)
		jrun_fail(run, EINVAL,
			"only attributes of namespaces can be assigned");
	else if (target->name.attribute->bytes[0] == '_')
		jrun_fail(run, EINVAL,
			"a namespace has no names that begin with '_'");
	else
		jdict_set(run, slot->dict, key, value);
}

/* --- statements ---------------------------------------------------------- */

/* Only namespaces have attributes that can be set: checked before the value. */
static void check_targets(
	struct jrun *run, struct jframe *frame, const struct jnode *target)
{
	if (target->kind == JN_TUPLE)
		for (size_t i = 0; i < target->list.count; i++)
			check_targets(run, frame, target->list.items[i]);
	if (target->kind == JN_NAMESPACE_REF &&
		jframe_slot(frame, target->name.ref)->type != J_NAMESPACE) {
		run->at = target;
		jrun_fail(run, EINVAL,
			"only attributes of namespaces can be assigned");
	}
}

static void run_set(
	struct jrun *run, struct jframe *frame, const struct jnode *node)
{
	struct jvalue value;

	check_targets(run, frame, node->set->target);
	if (run->rc)
		return;
	value = jeval(run, frame, node->set->value);
	jrun_store(run, frame, node->set->target, value);
}

/* set and filter blocks: the body's text, filtered. */
static enum jflow run_block(struct jrun *run, struct jframe *frame,
	const struct jnode *node, struct jbuilder *out)
{
	const struct jnode_set *set = node->set;
	struct jbuilder text;
	struct jvalue value;
	enum jflow flow;

	jrun_scope(run, frame, &set->scope);
	jbuilder_init(&text, run);
	flow = jrun_body(run, frame, &set->body, &text);
	if (run->rc || flow != JFLOW_NEXT)
		return flow;
	value = jtext_value(jbuilder_finish(&text));
	if (set->value && !run->rc)
		value = jeval_filter(run, frame, set->value, value);
	if (node->kind == JN_SET_BLOCK)
		jrun_store(run, frame, set->target, value);
	else if (!run->rc)
		jformat_str(out, value);
	return JFLOW_NEXT;
}

static enum jflow run_if(struct jrun *run, struct jframe *frame,
	const struct jnode *node, struct jbuilder *out)
{
	const struct jnode_branch *branch = node->branch;
	struct jvalue test = jeval(run, frame, branch->test);

	if (run->rc)
		return JFLOW_NEXT;
	if (jvalue_truth(run, test))
		return jrun_body(run, frame, &branch->body, out);
	for (size_t i = 0; i < branch->elif_count; i++) {
		const struct jnode_branch *elif = branch->elifs[i]->branch;

		test = jeval(run, frame, elif->test);
		if (run->rc)
			return JFLOW_NEXT;
		if (jvalue_truth(run, test))
			return jrun_body(run, frame, &elif->body, out);
	}
	return jrun_body(run, frame, &branch->otherwise, out);
}

static enum jflow run_with(struct jrun *run, struct jframe *frame,
	const struct jnode *node, struct jbuilder *out)
{
	const struct jnode_with *with = node->with;

	jrun_scope(run, frame, &with->scope);
	for (size_t i = 0; i < with->count && !run->rc; i++)
		jrun_store(run, frame, with->targets[i],
			jeval(run, frame, with->values[i]));
	return jrun_body(run, frame, &with->body, out);
}

static struct jvalue make_macro(
	struct jrun *run, struct jframe *frame, const struct jnode *node)
{
	struct jmacro *macro = jrun_take(run, sizeof(*macro));

	if (!macro)
		return jvalue_undefined(NULL);
	*macro = (struct jmacro){node, frame};
	return (struct jvalue){.type = J_MACRO, .macro = macro};
}

static void run_function(struct jrun *run, struct jframe *frame,
	const struct jnode *node, struct jbuilder *out)
{
	struct jvalue macro = make_macro(run, frame, node), value;
	struct jargs none = {0};

	if (run->rc)
		return;
	if (node->kind == JN_MACRO) {
		jrun_store(run, frame, node->macro->target, macro);
		return;
	}
	if (node->kind == JN_GENERATION)
		value = jcall_macro(run, macro.macro, &none);
	else
		value = jeval_call(run, frame, node->macro->call, macro);
	if (!run->rc)
		jformat_str(out, value);
}

static void run_print(struct jrun *run, struct jframe *frame,
	const struct jnode *node, struct jbuilder *out)
{
	for (size_t i = 0; i < node->list.count && !run->rc; i++) {
		struct jvalue value = jeval(run, frame, node->list.items[i]);

		run->at = node->list.items[i];
		if (!run->rc)
			jformat_str(out, value);
	}
}

static enum jflow run_statement(struct jrun *run, struct jframe *frame,
	const struct jnode *node, struct jbuilder *out)
{
	switch ((enum jnode_kind)node->kind) {
	case JN_DATA:
		jbuilder_add_text(out, node->value.text);
		return JFLOW_NEXT;
	case JN_PRINT:
		run_print(run, frame, node, out);
		return JFLOW_NEXT;
	case JN_SET:
		run_set(run, frame, node);
		return JFLOW_NEXT;
	case JN_IF:
		return run_if(run, frame, node, out);
	case JN_FOR:
		return jloop_run(run, frame, node, out);
	case JN_SET_BLOCK:
	case JN_FILTER_BLOCK:
		return run_block(run, frame, node, out);
	case JN_WITH:
		return run_with(run, frame, node, out);
	case JN_BREAK:
		return JFLOW_BREAK;
	case JN_CONTINUE:
		return JFLOW_CONTINUE;
	default:
		run_function(run, frame, node, out);
		return JFLOW_NEXT;
	}
}

enum jflow jrun_body(struct jrun *run, struct jframe *frame,
	const struct jbody *body, struct jbuilder *out)
{
	enum jflow flow = JFLOW_NEXT;

	if (!jrun_enter(run))
		return JFLOW_NEXT;
	for (size_t i = 0; i < body->count && flow == JFLOW_NEXT && !run->rc;
		i++) {
		run->at = body->nodes[i];
		if (jrun_charge(run, 1))
			flow = run_statement(run, frame, body->nodes[i], out);
	}
	jrun_leave(run);
	return run->rc ? JFLOW_NEXT : flow;
}

/* --- the whole ----------------------------------------------------------- */

static void add_variables(
	struct jrun *run, json_t *object, const struct jinja_input *input)
{
	struct jvalue all;

	if (!object)
		return;
	all = jvalue_from_json(run, object, input);
	if (!run->rc && all.type != J_DICT)
		jrun_fail(run, EINVAL, "the input is not an object");
	for (size_t i = 0; !run->rc && i < all.dict->count; i++)
		jdict_set(run, run->context, all.dict->entries[i].key,
			all.dict->entries[i].value);
}

static size_t count_spans(const struct jtext *text)
{
	size_t count = text->length > 0;

	for (size_t i = 1; text->marks && i < text->length; i++)
		count += text->marks[i] != text->marks[i - 1];
	return count;
}

static void fill_spans(const struct jtext *text, struct text_span *spans)
{
	size_t from = 0, span = 0;

	for (size_t at = 1; at <= text->length; at++) {
		if (at < text->length &&
			(!text->marks || text->marks[at] == text->marks[from]))
			continue;
		spans[span++] = (struct text_span){
			at - from, jtext_trusted_at(text, from)};
		from = at;
	}
}

/* Copy the result out of the arena. */
static void give(
	struct jrun *run, const struct jtext *text, struct jinja_output *out)
{
	size_t count = count_spans(text);

	out->text = malloc(text->length + 1);
	out->spans = calloc(count + 1, sizeof(*out->spans));
	if (!out->text || !out->spans) {
		jinja_output_release(out);
		jrun_fail(run, ENOMEM, "out of memory");
		return;
	}
	memcpy(out->text, text->bytes, text->length);
	out->text[text->length] = '\0';
	out->length = text->length;
	out->span_count = count;
	fill_spans(text, out->spans);
}

int jinja_render(const struct jinja_template *template,
	const struct jinja_input *input, const struct jinja_limits *limits,
	struct jinja_output *out, struct error *err)
{
	struct jrun run = {.template = template,
		.limits = limits,
		.err = err,
		.steps_left = limits->step_count,
		.check_in = 1,
		.now = input->now};
	struct jbuilder text;
	struct jframe *frame;
	struct jtext *result;

	*out = (struct jinja_output){0};
	jarena_init(&run.arena, limits->arena_bytes);
	run.context = jdict_make(&run);
	if (run.context) {
		add_variables(&run, input->untrusted, input);
		add_variables(&run, input->trusted, NULL);
	}
	jbuilder_init(&text, &run);
	text.max_bytes = limits->output_bytes;
	frame = jrun_frame(&run, template->slots, NULL);
	if (frame && !run.rc) {
		jrun_scope(&run, frame, &template->scope);
		(void)jrun_body(&run, frame, &template->body, &text);
	}
	result = run.rc ? NULL : jbuilder_finish(&text);
	if (result && !input->untrusted) {
		/* Where nothing untrusted came in, nothing comes out. */
		result->marks = NULL;
		result->trusted = true;
	}
	if (result)
		give(&run, result, out);
	jarena_release(&run.arena);
	return run.rc;
}

void jinja_output_release(struct jinja_output *output)
{
	free(output->text);
	free(output->spans);
	*output = (struct jinja_output){0};
}
