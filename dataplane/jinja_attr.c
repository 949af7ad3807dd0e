/* jinja_attr.c - x.name, x[key] and x[from:to] by the sandbox's rules */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * x.name prefers what the type of x has over what x contains, x[name] the
 * other way round; neither ever fails for want of a name, except on an
 * undefined x. Methods that change their object are hidden: undefined.
 */
#include <errno.h>
#include <string.h>

#include "dataplane/jinja_tree.h"

static unsigned owner_of(struct jvalue value)
{
	switch (value.type) {
	case J_TEXT:
		return JOWNER_TEXT;
	case J_LIST:
		return JOWNER_LIST;
	case J_TUPLE:
		return JOWNER_TUPLE;
	case J_DICT:
		return JOWNER_DICT;
	case J_LOOP:
		return JOWNER_LOOP;
	case J_BOOL:
	case J_INT:
		return JOWNER_INT;
	case J_FLOAT:
		return JOWNER_FLOAT;
	case J_RANGE:
		return JOWNER_RANGE;
	case J_VIEW:
		return JOWNER_VIEW;
	case J_ITER:
		return JOWNER_ITER;
	default:
		return 0;
	}
}

static const struct jmethod_entry *find_method(
	const struct jtext *name, unsigned owners)
{
	const struct jmethod_entry *tables[] = {
		jtext_methods, jcase_methods, jother_methods};
	size_t counts[] = {
		jtext_method_count, jcase_method_count, jother_method_count};

	for (size_t t = 0; t < COUNT_OF(tables); t++)
		for (size_t i = 0; i < counts[t]; i++)
			if ((tables[t][i].owners & owners) &&
				jtext_is(name, tables[t][i].name))
				return &tables[t][i];
	return NULL;
}

bool jmethod_known(const struct jtext *name)
{
	const struct jmethod_entry *entry = find_method(name, ~0u);

	return entry && entry->kind != JMETHOD_REFUSED;
}

static struct jvalue macro_attribute(
	struct jrun *run, const struct jmacro *macro, const struct jtext *name)
{
	const struct jnode_macro *node = macro->node->macro;
	struct jlist *list;

	if (jtext_is(name, "name"))
		return node->name ? jtext_value(jtext_make(run,
					    node->name->text.bytes,
					    node->name->text.length, true))
				  : jvalue_none();
	if (jtext_is(name, "caller"))
		return jvalue_bool(node->takes_caller);
	if (jtext_is(name, "catch_kwargs"))
		return jvalue_bool(node->takes_kwargs);
	if (jtext_is(name, "catch_varargs"))
		return jvalue_bool(node->takes_varargs);
	if (!jtext_is(name, "arguments"))
		return (struct jvalue){.type = J_MISSING};
	list = jlist_make(run, node->parameter_count);
	for (size_t i = 0; list && i < node->parameter_count; i++) {
		const struct jtext *text =
			&node->parameters[i]->name.name->text;

		jlist_add(run, list,
			jtext_value(jtext_make(
				run, text->bytes, text->length, true)));
	}
	return jvalue_tuple(list);
}

struct jvalue jvalue_own_attribute(
	struct jrun *run, struct jvalue value, const struct jtext *name)
{
	const struct jmethod_entry *entry;
	struct jvalue *found;
	struct jmethod *method;

	if (value.type == J_NAMESPACE) {
		found = jdict_get_text(run, value.dict, name);
		return found ? *found : (struct jvalue){.type = J_MISSING};
	}
	if (value.type == J_MACRO)
		return macro_attribute(run, value.macro, name);
	if (value.type == J_LOOP && !jtext_is(name, "cycle") &&
		!jtext_is(name, "changed"))
		return jloop_attribute(run, value.loop, name);
	if (value.type == J_TUPLE && value.list->is_group &&
		(jtext_is(name, "grouper") || jtext_is(name, "list")))
		return value.list->items[jtext_is(name, "list")];
	entry = find_method(name, owner_of(value));
	if (!entry)
		return (struct jvalue){.type = J_MISSING};
	if (entry->kind == JMETHOD_FORBIDDEN)
		return jvalue_undefined(name);
	if (entry->kind == JMETHOD_REFUSED)
		return jrun_bad(run, "'%s' of '%s' is not supported",
			entry->name, jvalue_type_name(value));
	method = jrun_take(run, sizeof(*method));
	if (!method)
		return jvalue_undefined(NULL);
	*method = (struct jmethod){entry, value};
	return (struct jvalue){.type = J_METHOD, .method = method};
}

static struct jvalue undefined_access(
	struct jrun *run, struct jvalue value, const struct jtext *name)
{
	return jrun_bad(run, "'%.*s' is undefined and has no '%.*s'",
		value.what ? jtext_shown(value.what) : 0,
		value.what ? value.what->bytes : "", jtext_shown(name),
		name->bytes);
}

/* The element at an index, J_MISSING where there is none. */
static struct jvalue element(
	struct jrun *run, struct jvalue value, int64_t index)
{
	size_t length;

	if (value.type != J_TEXT && value.type != J_LIST &&
		value.type != J_TUPLE && value.type != J_RANGE)
		return (struct jvalue){.type = J_MISSING};
	(void)jvalue_length(run, value, &length);
	if (index < 0)
		index += (int64_t)length;
	if (index < 0 || (uint64_t)index >= length)
		return (struct jvalue){.type = J_MISSING};
	if (value.type == J_TEXT)
		return jtext_slice(run, value.text, index, 1, 1);
	if (value.type == J_RANGE)
		return jvalue_int(
			value.range->start + index * value.range->step, true);
	return value.list->items[index];
}

static bool is_hashable(struct jvalue key)
{
	if (key.type == J_TUPLE)
		for (size_t i = 0; i < key.list->count; i++)
			if (key.list->items[i].type == J_TUPLE ||
				!is_hashable(key.list->items[i]))
				return false;
	return key.type != J_LIST && key.type != J_DICT && key.type != J_VIEW;
}

/* value[key] alone, J_MISSING where Python raises. */
static struct jvalue subscript(
	struct jrun *run, struct jvalue value, struct jvalue key)
{
	struct jvalue *found;
	int64_t index;

	if (value.type == J_DICT) {
		found = is_hashable(key) ? jdict_get(run, value.dict, key)
					 : NULL;
		return found ? *found : (struct jvalue){.type = J_MISSING};
	}
	if (jvalue_to_index(key, &index))
		return element(run, value, index);
	return (struct jvalue){.type = J_MISSING};
}

struct jvalue jvalue_attribute(
	struct jrun *run, struct jvalue value, const struct jtext *name)
{
	struct jvalue result, *found;

	if (run->rc)
		return value;
	if (value.type == J_UNDEFINED)
		return undefined_access(run, value, name);
	result = jvalue_own_attribute(run, value, name);
	if (result.type != J_MISSING)
		return result;
	found = value.type == J_DICT ? jdict_get_text(run, value.dict, name)
				     : NULL;
	return found ? *found : jvalue_undefined(name);
}

struct jvalue jvalue_item(
	struct jrun *run, struct jvalue value, struct jvalue key)
{
	struct jvalue result;

	if (run->rc)
		return value;
	if (value.type == J_UNDEFINED) {
		struct jtext *text = jvalue_str(run, key);

		return text ? undefined_access(run, value, text) : value;
	}
	result = subscript(run, value, key);
	if (result.type == J_MISSING && key.type == J_TEXT)
		result = jvalue_own_attribute(run, value, key.text);
	if (result.type == J_MISSING)
		return jvalue_undefined(key.type == J_TEXT ? key.text : NULL);
	return result;
}

/* --- slices -------------------------------------------------------------- */

/* One of start, stop, step: absent or none leaves *out. */
static bool slice_part(struct jrun *run, struct jvalue value, int64_t *out)
{
	if (value.type == J_MISSING || value.type == J_NONE)
		return true;
	if (jvalue_to_index(value, out))
		return true;
	jrun_fail(run, EINVAL, "'%s' cannot be the bound of a slice",
		jvalue_type_name(value));
	return false;
}

static int64_t clamp(int64_t at, int64_t length, int64_t low, int64_t high)
{
	if (at < 0)
		at = at < -length ? low : at + length;
	return at < low ? low : at > high ? high : at;
}

struct bounds {
	int64_t start, stop, step;
	size_t count;
};

/* Python's rules for bounds outside of the sequence. */
static bool slice_bounds(struct jrun *run, size_t size,
	const struct jvalue parts[3], struct bounds *out)
{
	int64_t length = (int64_t)size, step = 1, start, stop, low, high;

	if (!slice_part(run, parts[2], &step))
		return false;
	if (step == 0) {
		jrun_fail(run, EINVAL, "the step of a slice is zero");
		return false;
	}
	if (step < -INT64_MAX)
		step = -INT64_MAX;
	low = step < 0 ? -1 : 0;
	high = step < 0 ? length - 1 : length;
	start = step < 0 ? high : low;
	stop = step < 0 ? low : high;
	if (parts[0].type != J_MISSING && parts[0].type != J_NONE) {
		if (!slice_part(run, parts[0], &start))
			return false;
		start = clamp(start, length, low, high);
	}
	if (parts[1].type != J_MISSING && parts[1].type != J_NONE) {
		if (!slice_part(run, parts[1], &stop))
			return false;
		stop = clamp(stop, length, low, high);
	}
	*out = (struct bounds){start, stop, step, 0};
	if (step > 0 && start < stop)
		out->count = (size_t)((stop - start - 1) / step + 1);
	else if (step < 0 && start > stop)
		out->count = (size_t)((start - stop - 1) / -step + 1);
	return true;
}

/* a + b * c in 64 bits. */
static bool combine(int64_t a, int64_t b, int64_t c, int64_t *out)
{
	return !__builtin_mul_overflow(b, c, out) &&
	       !__builtin_add_overflow(a, *out, out);
}

/* A slice of a range is a range. */
static struct jvalue slice_range(struct jrun *run, const struct jrange *from,
	const struct bounds *b, struct jrange *out)
{
	out->count = b->count;
	if (!combine(from->start, b->start, from->step, &out->start) ||
		!combine(from->start, b->stop, from->step, &out->stop) ||
		__builtin_mul_overflow(from->step, b->step, &out->step))
		return jrun_bad(run, "an integer exceeds 64 bits");
	return (struct jvalue){.type = J_RANGE, .range = out};
}

struct jvalue jvalue_slice(
	struct jrun *run, struct jvalue value, const struct jvalue parts[3])
{
	struct bounds b;
	struct jlist *list;
	struct jrange *range;
	size_t length;

	if (run->rc || (value.type != J_TEXT && value.type != J_LIST &&
			       value.type != J_TUPLE && value.type != J_RANGE))
		return jrun_bad(
			run, "'%s' has no slices", jvalue_type_name(value));
	(void)jvalue_length(run, value, &length);
	if (run->rc || !slice_bounds(run, length, parts, &b))
		return value;
	if (value.type == J_TEXT)
		return jtext_slice(run, value.text, b.start, b.step, b.count);
	if (value.type == J_RANGE) {
		range = jrun_take(run, sizeof(*range));
		return range ? slice_range(run, value.range, &b, range) : value;
	}
	list = jlist_make(run, b.count);
	for (size_t i = 0; i < b.count && jrun_charge(run, 1); i++)
		jlist_add(run, list,
			value.list->items[b.start + (int64_t)i * b.step]);
	return value.type == J_LIST ? jvalue_list(list) : jvalue_tuple(list);
}

/* --- paths --------------------------------------------------------------- */

/* "12" -> 12; anything else is a text. */
static struct jvalue path_part(
	struct jrun *run, const struct jtext *path, size_t from, size_t to)
{
	int64_t number = 0;

	for (size_t i = from; i < to; i++) {
		char c = path->bytes[i];

		if (c < '0' || c > '9' || number > INT64_MAX / 100)
			return jtext_value(jtext_part(run, path, from, to));
		number = number * 10 + (c - '0');
	}
	if (from == to)
		return jtext_value(jtext_part(run, path, from, to));
	return jvalue_int(number, true);
}

struct jvalue jvalue_path(struct jrun *run, struct jvalue value,
	struct jvalue path, const struct jvalue *fallback)
{
	bool falls = fallback && fallback->type != J_NONE &&
		     fallback->type != J_MISSING;
	size_t from = 0, to;

	if (path.type == J_NONE || path.type == J_MISSING)
		return value;
	if (path.type != J_TEXT) {
		value = jvalue_item(run, value, path);
		return falls && value.type == J_UNDEFINED ? *fallback : value;
	}
	while (!run->rc && from <= path.text->length) {
		const char *dot = memchr(
			path.text->bytes + from, '.', path.text->length - from);

		to = dot ? (size_t)(dot - path.text->bytes) : path.text->length;
		value = jvalue_item(
			run, value, path_part(run, path.text, from, to));
		if (falls && value.type == J_UNDEFINED)
			value = *fallback;
		from = to + 1;
	}
	return value;
}
