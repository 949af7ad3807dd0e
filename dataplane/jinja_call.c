/* jinja_call.c - calling what can be called (callee, arguments -> value) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "dataplane/jinja_tree.h"

#define RANGE_COUNT_MAX 100000 /* the sandbox's own */

/* --- arguments ----------------------------------------------------------- */

static const char *plain_name(const char *name)
{
	return name[0] == '/' ? name + 1 : name;
}

static bool bind_keyword(struct jrun *run, const struct jkeyword *keyword,
	const struct jsignature *s, struct jvalue *out)
{
	for (size_t i = 0; i < s->count; i++) {
		if (s->names[i][0] == '/' ||
			!jtext_is(keyword->name, s->names[i]))
			continue;
		if (out[i].type != J_MISSING) {
			jrun_fail(run, EINVAL, "%s() got '%s' twice",
				s->function, s->names[i]);
			return false;
		}
		out[i] = keyword->value;
		return true;
	}
	jrun_fail(run, EINVAL, "%s() takes no keyword '%.*s'", s->function,
		jtext_shown(keyword->name), keyword->name->bytes);
	return false;
}

bool jargs_bind(struct jrun *run, const struct jargs *args,
	const struct jsignature *s, struct jvalue *out)
{
	if (run->rc)
		return false;
	if (args->count > s->count) {
		jrun_fail(run, EINVAL, "%s() takes at most %zu arguments",
			s->function, s->count);
		return false;
	}
	for (size_t i = 0; i < s->count; i++)
		out[i] = i < args->count ? args->items[i]
					 : (struct jvalue){.type = J_MISSING};
	for (size_t i = 0; i < args->keyword_count; i++)
		if (!bind_keyword(run, &args->keywords[i], s, out))
			return false;
	for (size_t i = 0; i < s->required; i++)
		if (out[i].type == J_MISSING) {
			jrun_fail(run, EINVAL, "%s() needs '%s'", s->function,
				plain_name(s->names[i]));
			return false;
		}
	return true;
}

bool jargs_none(
	struct jrun *run, const struct jargs *args, const char *function)
{
	struct jsignature signature = {.function = function};

	return jargs_bind(run, args, &signature, NULL);
}

int64_t jarg_int(struct jrun *run, struct jvalue value, int64_t absent)
{
	int64_t integer = absent;

	if (value.type != J_MISSING && !jvalue_to_index(value, &integer))
		jrun_fail(run, EINVAL, "an integer is needed, not '%s'",
			jvalue_type_name(value));
	return integer;
}

bool jarg_bool(struct jrun *run, struct jvalue value, bool absent)
{
	return value.type == J_MISSING ? absent : jvalue_truth(run, value);
}

struct jtext *jarg_text(struct jrun *run, struct jvalue value)
{
	if (value.type == J_TEXT)
		return value.text;
	jrun_fail(run, EINVAL, "a string is needed, not '%s'",
		jvalue_type_name(value));
	return NULL;
}

/* --- macros -------------------------------------------------------------- */

/* A call's keyword arguments that are not consumed yet. */
struct leftover {
	const struct jargs *args;
	bool *used;
};

static struct jvalue take_keyword(
	const struct leftover *left, const struct jtext *name)
{
	for (size_t i = 0; i < left->args->keyword_count; i++)
		if (!left->used[i] &&
			jtext_equal(left->args->keywords[i].name, name)) {
			left->used[i] = true;
			return left->args->keywords[i].value;
		}
	return (struct jvalue){.type = J_MISSING};
}

static void store_kwargs(
	struct jrun *run, struct jvalue *slot, const struct leftover *left)
{
	struct jdict *dict = jdict_make(run);

	for (size_t i = 0; dict && i < left->args->keyword_count; i++) {
		const struct jtext *name = left->args->keywords[i].name;

		if (left->used[i])
			continue;
		left->used[i] = true;
		jdict_set(run, dict, jtext_name_value(run, name),
			left->args->keywords[i].value);
	}
	if (dict)
		*slot = (struct jvalue){.type = J_DICT, .dict = dict};
}

static void store_varargs(struct jrun *run, struct jvalue *slot,
	const struct jargs *args, size_t from)
{
	struct jlist *list = jlist_make(run, 4);

	for (size_t i = from; i < args->count; i++)
		jlist_add(run, list, args->items[i]);
	*slot = jvalue_tuple(list);
}

/* The special arguments, and complaints about what nobody takes. */
static void bind_rest(struct jrun *run, const struct jnode_macro *node,
	struct jframe *frame, const struct leftover *left)
{
	static const struct jtext caller = {.bytes = "caller", .length = 6};
	const char *name = node->name ? node->name->text.bytes : "caller";
	int length = node->name ? jtext_shown(&node->name->text) : 6;

	if (node->takes_caller) {
		struct jvalue value = take_keyword(left, &caller);

		frame->slots[node->caller_slot] =
			value.type == J_MISSING || value.type == J_NONE
				? jvalue_undefined(&caller)
				: value;
	}
	if (node->takes_kwargs)
		store_kwargs(run, &frame->slots[node->kwargs_slot], left);
	for (size_t i = 0; i < left->args->keyword_count; i++)
		if (!left->used[i])
			jrun_fail(run, EINVAL,
				"macro '%.*s' takes no keyword '%.*s'", length,
				name, jtext_shown(left->args->keywords[i].name),
				left->args->keywords[i].name->bytes);
	if (node->takes_varargs)
		store_varargs(run, &frame->slots[node->varargs_slot],
			left->args, node->parameter_count);
	else if (left->args->count > node->parameter_count)
		jrun_fail(run, EINVAL, "macro '%.*s' takes %zu arguments",
			length, name, node->parameter_count);
}

static void bind_parameters(struct jrun *run, const struct jnode_macro *node,
	struct jframe *frame, const struct leftover *left)
{
	size_t plain = node->parameter_count - node->default_count;

	for (size_t i = 0; i < node->parameter_count; i++) {
		const struct jnode *parameter = node->parameters[i];
		struct jvalue *slot = &frame->slots[parameter->name.ref.slot];

		if (i < left->args->count)
			*slot = left->args->items[i];
		else
			*slot = take_keyword(left, &parameter->name.name->text);
	}
	bind_rest(run, node, frame, left);
	jrun_scope(run, frame, &node->scope);
	for (size_t i = 0; i < node->parameter_count && !run->rc; i++) {
		const struct jnode *parameter = node->parameters[i];
		struct jvalue *slot = &frame->slots[parameter->name.ref.slot];

		if (slot->type == J_MISSING)
			*slot = i < plain ? jvalue_undefined(
						    &parameter->name.name->text)
					  : jeval(run, frame,
						    node->defaults[i - plain]);
	}
}

struct jvalue jcall_macro(
	struct jrun *run, const struct jmacro *macro, const struct jargs *args)
{
	const struct jnode_macro *node = macro->node->macro;
	struct leftover left = {.args = args};
	struct jframe *frame;
	struct jbuilder out;

	if (!jrun_enter(run))
		return jvalue_undefined(NULL);
	jbuilder_init(&out, run);
	frame = jrun_frame(run, node->slots, macro->frame);
	left.used = jrun_take_array(run, args->keyword_count + 1, sizeof(bool));
	if (frame && left.used) {
		memset(left.used, 0, args->keyword_count + 1);
		bind_parameters(run, node, frame, &left);
	}
	if (!run->rc)
		(void)jrun_body(run, frame, &node->body, &out);
	jrun_leave(run);
	return run->rc ? jvalue_undefined(NULL)
		       : jtext_value(jbuilder_finish(&out));
}

/* --- globals ------------------------------------------------------------- */

static struct jvalue global_range(
	struct jrun *run, struct jvalue ignored, const struct jargs *args)
{
	static const char *const names[] = {"/start", "/stop", "/step"};
	static const struct jsignature signature = {"range", names, 3, 1};
	struct jvalue values[3];
	struct jrange *range = jrun_take(run, sizeof(*range));
	int64_t first;
	uint64_t span, step;

	if (!range || !jargs_bind(run, args, &signature, values))
		return ignored;
	first = jarg_int(run, values[0], 0);
	range->start = values[1].type == J_MISSING ? 0 : first;
	range->stop = jarg_int(run, values[1], first);
	range->step = jarg_int(run, values[2], 1);
	range->count = 0;
	if (!run->rc && range->step == 0)
		return jrun_bad(run, "range() with a step of zero");
	step = range->step < 0 ? -(uint64_t)range->step : (uint64_t)range->step;
	span = range->step > 0 ? (uint64_t)range->stop - (uint64_t)range->start
			       : (uint64_t)range->start - (uint64_t)range->stop;
	if (!run->rc && (range->step > 0 ? range->start < range->stop
					 : range->start > range->stop))
		range->count = (span - 1) / step + 1;
	if (range->count > RANGE_COUNT_MAX)
		return jrun_bad(
			run, "a range of more than %d items", RANGE_COUNT_MAX);
	return (struct jvalue){.type = J_RANGE, .range = range};
}

static void add_pairs(struct jrun *run, struct jdict *dict, struct jvalue pairs)
{
	struct jiter *iter;
	struct jvalue pair;

	if (pairs.type == J_DICT) {
		for (size_t i = 0; i < pairs.dict->count; i++)
			jdict_set(run, dict, pairs.dict->entries[i].key,
				pairs.dict->entries[i].value);
		return;
	}
	iter = jiter_open(run, pairs);
	while (jiter_next(run, iter, &pair)) {
		struct jlist *list = jiter_collect(run, pair);

		if (list && list->count != 2)
			jrun_fail(run, EINVAL, "a pair of %zu items",
				list->count);
		else if (list)
			jdict_set(run, dict, list->items[0], list->items[1]);
	}
}

static struct jdict *make_dict(
	struct jrun *run, const struct jargs *args, const char *function)
{
	struct jdict *dict = jdict_make(run);

	if (args->count > 1)
		jrun_fail(run, EINVAL, "%s() takes at most one argument",
			function);
	else if (dict && args->count == 1)
		add_pairs(run, dict, args->items[0]);
	for (size_t i = 0; dict && i < args->keyword_count; i++) {
		const struct jtext *name = args->keywords[i].name;

		jdict_set(run, dict, jtext_name_value(run, name),
			args->keywords[i].value);
	}
	return dict;
}

static struct jvalue global_dict(
	struct jrun *run, struct jvalue ignored, const struct jargs *args)
{
	struct jdict *dict = make_dict(run, args, "dict");

	return run->rc ? ignored
		       : (struct jvalue){.type = J_DICT, .dict = dict};
}

static struct jvalue global_namespace(
	struct jrun *run, struct jvalue ignored, const struct jargs *args)
{
	struct jdict *dict = make_dict(run, args, "namespace");

	for (size_t i = 0; !run->rc && i < dict->count; i++) {
		struct jvalue key = dict->entries[i].key;

		if (key.type == J_TEXT && key.text->length > 0 &&
			key.text->bytes[0] == '_')
			return jrun_bad(run,
				"a namespace has no names that begin with '_'");
	}
	return run->rc ? ignored
		       : (struct jvalue){.type = J_NAMESPACE, .dict = dict};
}

static struct jvalue global_raise(
	struct jrun *run, struct jvalue ignored, const struct jargs *args)
{
	static const char *const names[] = {"message"};
	static const struct jsignature signature = {
		"raise_exception", names, 1, 1};
	struct jvalue message;
	struct jtext *text;

	if (!jargs_bind(run, args, &signature, &message))
		return ignored;
	text = jvalue_str(run, message);
	if (text)
		jrun_fail(run, EBADMSG, "%.*s", jtext_shown(text), text->bytes);
	return ignored;
}

/* The format is the template's, cut down to one conversion by the caller. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
static size_t format_time(
	char *out, size_t size, const char *item, const struct tm *now)
{
	return strftime(out, size, item, now);
}
#pragma GCC diagnostic pop

/* One "%..." at `at` of a format; returns its length. */
static size_t strftime_item(struct jrun *run, struct jbuilder *out,
	const struct jtext *format, size_t at)
{
	char item[8], result[128];
	size_t end = at + 1, length;

	while (end < format->length && strchr("-_0^#", format->bytes[end]) &&
		format->bytes[end] && end - at < 4)
		end++;
	if (end == format->length) {
		jrun_fail(
			run, EINVAL, "a format of strftime_now() ends in '%%'");
		return end - at;
	}
	end++;
	memcpy(item, format->bytes + at, end - at);
	item[end - at] = '\0';
	if (item[1] == 'f') {
		jbuilder_add(out, "000000", 6, true); /* whole seconds */
	} else if (item[1] != 'z' && item[1] != 'Z') {
		if ((item[end - at - 1] >= '1' && item[end - at - 1] <= '9') ||
			strchr(":EO", item[end - at - 1])) {
			jrun_fail(run, EINVAL,
				"strftime_now() does not support '%s'", item);
			return end - at;
		}
		length = format_time(result, sizeof(result), item, run->now);
		jbuilder_add(out, result, length, jtext_trusted_at(format, at));
	}
	return end - at;
}

static struct jvalue global_strftime(
	struct jrun *run, struct jvalue ignored, const struct jargs *args)
{
	static const char *const names[] = {"format"};
	static const struct jsignature signature = {
		"strftime_now", names, 1, 1};
	struct jvalue value;
	struct jtext *format;
	struct jbuilder out;

	if (!jargs_bind(run, args, &signature, &value))
		return ignored;
	format = jarg_text(run, value);
	if (!run->now)
		return jrun_bad(run, "strftime_now() without a time");
	jbuilder_init(&out, run);
	for (size_t at = 0; format && !run->rc && at < format->length;) {
		if (format->bytes[at] == '%') {
			at += strftime_item(run, &out, format, at);
			continue;
		}
		jbuilder_add(&out, format->bytes + at, 1,
			jtext_trusted_at(format, at));
		at++;
	}
	return run->rc ? ignored : jtext_value(jbuilder_finish(&out));
}

static const struct jfunction functions[] = {{"range", global_range},
	{"dict", global_dict}, {"namespace", global_namespace},
	{"raise_exception", global_raise}, {"strftime_now", global_strftime},
	{"lipsum", NULL}, {"cycler", NULL}, {"joiner", NULL}};

const struct jfunction *jglobal_find(const struct jtext *name)
{
	for (size_t i = 0; i < COUNT_OF(functions); i++)
		if (jtext_is(name, functions[i].name))
			return &functions[i];
	return NULL;
}

struct jvalue jglobal_resolve(struct jrun *run, const struct jname *name)
{
	struct jvalue *value = jdict_get_text(run, run->context, &name->text);
	const struct jfunction *function =
		value ? NULL : jglobal_find(&name->text);

	if (value)
		return *value;
	if (function && function->call)
		return (struct jvalue){
			.type = J_FUNCTION, .function = function};
	return (struct jvalue){.type = J_MISSING};
}

struct jvalue jcall_value(
	struct jrun *run, struct jvalue callee, const struct jargs *args)
{
	if (run->rc)
		return callee;
	switch (callee.type) {
	case J_METHOD:
		return callee.method->entry->call(
			run, callee.method->self, args);
	case J_FUNCTION:
		return callee.function->call(run, jvalue_none(), args);
	case J_MACRO:
		return jcall_macro(run, callee.macro, args);
	case J_LOOP:
		return jloop_call(run, callee.loop, args);
	case J_UNDEFINED:
		return jrun_bad(run, "'%.*s' is undefined and cannot be called",
			callee.what ? jtext_shown(callee.what) : 0,
			callee.what ? callee.what->bytes : "");
	default:
		return jrun_bad(
			run, "'%s' cannot be called", jvalue_type_name(callee));
	}
}

/* --- methods of containers ----------------------------------------------- */

static struct jvalue dict_get(
	struct jrun *run, struct jvalue self, const struct jargs *args)
{
	static const char *const names[] = {"/key", "/default"};
	static const struct jsignature signature = {"get", names, 2, 1};
	struct jvalue values[2], *found;

	if (!jargs_bind(run, args, &signature, values))
		return self;
	found = jdict_get(run, self.dict, values[0]);
	if (found)
		return *found;
	return values[1].type == J_MISSING ? jvalue_none() : values[1];
}

static struct jvalue dict_view(struct jrun *run, struct jvalue self,
	const struct jargs *args, enum jview_kind kind)
{
	struct jview *view = jrun_take(run, sizeof(*view));

	if (!view || !jargs_none(run, args, "items"))
		return self;
	*view = (struct jview){kind, self.dict};
	return (struct jvalue){.type = J_VIEW, .view = view};
}

static struct jvalue dict_keys(
	struct jrun *run, struct jvalue self, const struct jargs *args)
{
	return dict_view(run, self, args, JVIEW_KEYS);
}

static struct jvalue dict_values(
	struct jrun *run, struct jvalue self, const struct jargs *args)
{
	return dict_view(run, self, args, JVIEW_VALUES);
}

static struct jvalue dict_items(
	struct jrun *run, struct jvalue self, const struct jargs *args)
{
	return dict_view(run, self, args, JVIEW_ITEMS);
}

/* Values never change, so a copy is the thing itself. */
static struct jvalue copy(
	struct jrun *run, struct jvalue self, const struct jargs *args)
{
	(void)jargs_none(run, args, "copy");
	return self;
}

static struct jvalue list_count(
	struct jrun *run, struct jvalue self, const struct jargs *args)
{
	static const char *const names[] = {"/value"};
	static const struct jsignature signature = {"count", names, 1, 1};
	struct jvalue value;
	int64_t count = 0;

	if (!jargs_bind(run, args, &signature, &value))
		return self;
	for (size_t i = 0; i < self.list->count && jrun_charge(run, 1); i++)
		count += jvalue_equal(run, self.list->items[i], value);
	return jvalue_int(count, true);
}

static struct jvalue list_index(
	struct jrun *run, struct jvalue self, const struct jargs *args)
{
	static const char *const names[] = {"/value", "/start", "/stop"};
	static const struct jsignature signature = {"index", names, 3, 1};
	struct jvalue values[3];
	int64_t count = (int64_t)self.list->count, start, stop;

	if (!jargs_bind(run, args, &signature, values))
		return self;
	start = jarg_int(run, values[1], 0);
	stop = jarg_int(run, values[2], count);
	if (start < 0)
		start = start + count < 0 ? 0 : start + count;
	if (stop < 0)
		stop += count;
	for (int64_t i = start; i < stop && i < count; i++) {
		if (!jrun_charge(run, 1))
			return self;
		if (jvalue_equal(run, self.list->items[i], values[0]))
			return jvalue_int(i, true);
	}
	return jrun_bad(run, "index(): the value is not there");
}

static struct jvalue loop_cycle(
	struct jrun *run, struct jvalue self, const struct jargs *args)
{
	if (args->count == 0 || args->keyword_count > 0)
		return jrun_bad(
			run, "cycle() needs something to cycle through");
	return args->items[(size_t)self.loop->index0 % args->count];
}

static struct jvalue loop_changed(
	struct jrun *run, struct jvalue self, const struct jargs *args)
{
	struct jlist *list = jlist_make(run, args->count);
	struct jvalue value;
	bool changed;

	for (size_t i = 0; list && i < args->count; i++)
		jlist_add(run, list, args->items[i]);
	value = jvalue_tuple(list);
	if (run->rc || args->keyword_count > 0)
		return jrun_bad(run, "changed() takes no keywords");
	changed = !jvalue_equal(run, self.loop->changed, value);
	if (changed)
		self.loop->changed = value;
	return jvalue_bool(changed);
}

#define LISTS (JOWNER_LIST | JOWNER_TUPLE)
#define NUMBERS (JOWNER_INT | JOWNER_FLOAT)

const struct jmethod_entry jother_methods[] = {
	{"get", JOWNER_DICT, JMETHOD_CALL, dict_get},
	{"items", JOWNER_DICT, JMETHOD_CALL, dict_items},
	{"keys", JOWNER_DICT, JMETHOD_CALL, dict_keys},
	{"values", JOWNER_DICT, JMETHOD_CALL, dict_values},
	{"copy", JOWNER_DICT | JOWNER_LIST, JMETHOD_CALL, copy},
	{"count", LISTS, JMETHOD_CALL, list_count},
	{"index", LISTS, JMETHOD_CALL, list_index},
	{"cycle", JOWNER_LOOP, JMETHOD_CALL, loop_cycle},
	{"changed", JOWNER_LOOP, JMETHOD_CALL, loop_changed},
	{"clear", JOWNER_DICT | JOWNER_LIST, JMETHOD_FORBIDDEN, NULL},
	{"pop", JOWNER_DICT | JOWNER_LIST, JMETHOD_FORBIDDEN, NULL},
	{"popitem", JOWNER_DICT, JMETHOD_FORBIDDEN, NULL},
	{"setdefault", JOWNER_DICT, JMETHOD_FORBIDDEN, NULL},
	{"update", JOWNER_DICT, JMETHOD_FORBIDDEN, NULL},
	{"append", JOWNER_LIST, JMETHOD_FORBIDDEN, NULL},
	{"extend", JOWNER_LIST, JMETHOD_FORBIDDEN, NULL},
	{"insert", JOWNER_LIST, JMETHOD_FORBIDDEN, NULL},
	{"remove", JOWNER_LIST, JMETHOD_FORBIDDEN, NULL},
	{"reverse", JOWNER_LIST, JMETHOD_FORBIDDEN, NULL},
	{"sort", JOWNER_LIST, JMETHOD_FORBIDDEN, NULL},
	{"fromkeys", JOWNER_DICT, JMETHOD_REFUSED, NULL},
	{"count", JOWNER_RANGE, JMETHOD_REFUSED, NULL},
	{"index", JOWNER_RANGE, JMETHOD_REFUSED, NULL},
	{"start", JOWNER_RANGE, JMETHOD_REFUSED, NULL},
	{"stop", JOWNER_RANGE, JMETHOD_REFUSED, NULL},
	{"step", JOWNER_RANGE, JMETHOD_REFUSED, NULL},
	{"isdisjoint", JOWNER_VIEW, JMETHOD_REFUSED, NULL},
	{"mapping", JOWNER_VIEW, JMETHOD_REFUSED, NULL},
	{"close", JOWNER_ITER, JMETHOD_REFUSED, NULL},
	{"send", JOWNER_ITER, JMETHOD_REFUSED, NULL},
	{"throw", JOWNER_ITER, JMETHOD_REFUSED, NULL},
	{"as_integer_ratio", NUMBERS, JMETHOD_REFUSED, NULL},
	{"bit_count", JOWNER_INT, JMETHOD_REFUSED, NULL},
	{"bit_length", JOWNER_INT, JMETHOD_REFUSED, NULL},
	{"conjugate", NUMBERS, JMETHOD_REFUSED, NULL},
	{"denominator", JOWNER_INT, JMETHOD_REFUSED, NULL},
	{"from_bytes", JOWNER_INT, JMETHOD_REFUSED, NULL},
	{"fromhex", JOWNER_FLOAT, JMETHOD_REFUSED, NULL},
	{"hex", JOWNER_FLOAT, JMETHOD_REFUSED, NULL},
	{"imag", NUMBERS, JMETHOD_REFUSED, NULL},
	{"is_integer", JOWNER_FLOAT, JMETHOD_REFUSED, NULL},
	{"numerator", JOWNER_INT, JMETHOD_REFUSED, NULL},
	{"real", NUMBERS, JMETHOD_REFUSED, NULL},
	{"to_bytes", JOWNER_INT, JMETHOD_REFUSED, NULL}};

const size_t jother_method_count = COUNT_OF(jother_methods);
