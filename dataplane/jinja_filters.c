/* jinja_filters.c - filters on lists, dicts and anything (value -> value) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dataplane/jinja_private.h"

#define SIGNATURE(variable, function, required, ...)                           \
	static const char *const variable##_names[] = {__VA_ARGS__};           \
	static const struct jsignature variable = {function, variable##_names, \
		COUNT_OF(variable##_names), required}

static struct jvalue or_none(struct jvalue value)
{
	return value.type == J_MISSING ? jvalue_none() : value;
}

static struct jvalue generator(struct jiter *iter)
{
	if (!iter)
		return jvalue_undefined(NULL);
	return (struct jvalue){.type = J_ITER, .iter = iter};
}

/* --- anything ------------------------------------------------------------ */

static struct jvalue filter_default(
	struct jrun *run, struct jvalue value, const struct jargs *args)
{
	SIGNATURE(signature, "default", 0, "default_value", "boolean");
	struct jvalue values[2];
	bool empty = value.type == J_UNDEFINED;

	if (!jargs_bind(run, args, &signature, values))
		return value;
	if (!empty && jarg_bool(run, values[1], false))
		empty = !jvalue_truth(run, value);
	if (!empty)
		return value;
	if (values[0].type == J_MISSING)
		return jtext_value(jtext_make(run, "", 0, true));
	return values[0];
}

static struct jvalue filter_length(
	struct jrun *run, struct jvalue value, const struct jargs *args)
{
	size_t length;

	if (!jargs_none(run, args, "length"))
		return value;
	if (!jvalue_length(run, value, &length))
		return jrun_bad(
			run, "'%s' has no length", jvalue_type_name(value));
	return jvalue_int((int64_t)length,
		value.type == J_TEXT ? jtext_all_trusted(value.text) : true);
}

static struct jvalue filter_string(
	struct jrun *run, struct jvalue value, const struct jargs *args)
{
	if (!jargs_none(run, args, "string") || value.type == J_TEXT)
		return value;
	return jtext_value(jvalue_str(run, value));
}

static struct jvalue filter_attr(
	struct jrun *run, struct jvalue value, const struct jargs *args)
{
	SIGNATURE(signature, "attr", 1, "name");
	struct jvalue name, found;
	struct jtext *text;

	if (!jargs_bind(run, args, &signature, &name))
		return value;
	text = jarg_text(run, name);
	if (run->rc)
		return value;
	if (value.type == J_UNDEFINED)
		return jrun_bad(run, "an undefined value has no attributes");
	found = jvalue_own_attribute(run, value, text);
	return found.type == J_MISSING ? jvalue_undefined(text) : found;
}

/* --- numbers ------------------------------------------------------------- */

static struct jvalue filter_abs(
	struct jrun *run, struct jvalue value, const struct jargs *args)
{
	int64_t integer;

	if (!jargs_none(run, args, "abs"))
		return value;
	if (value.type == J_FLOAT)
		return jvalue_float(fabs(value.real), value.trusted);
	if (!jvalue_to_index(value, &integer))
		return jrun_bad(run, "'%s' has no absolute value",
			jvalue_type_name(value));
	if (integer == INT64_MIN)
		return jrun_bad(run, "an integer exceeds 64 bits");
	return jvalue_int(integer < 0 ? -integer : integer, value.trusted);
}

/* Half to even, on the decimal digits that the number really has. */
static double round_decimal(double real, int64_t digits)
{
	char text[400];
	double scale, scaled;

	if (!isfinite(real) || digits > 300)
		return real;
	if (digits >= 0) {
		snprintf(text, sizeof(text), "%.*f", (int)digits, real);
		return strtod(text, NULL);
	}
	if (digits < -308)
		return copysign(0.0, real);
	scale = pow(10, (double)-digits);
	scaled = nearbyint(real / scale);
	return scaled * scale;
}

static struct jvalue round_int(
	struct jrun *run, struct jvalue value, int64_t integer, int64_t digits)
{
	int64_t unit = 1, rest;

	if (digits >= 0)
		return jvalue_int(integer, value.trusted);
	for (; digits < 0; digits++)
		if (__builtin_mul_overflow(unit, 10, &unit))
			return jvalue_int(0, value.trusted);
	rest = integer % unit;
	if (rest < 0)
		rest += unit;
	if (__builtin_sub_overflow(integer, rest, &integer))
		return jrun_bad(run, "an integer exceeds 64 bits");
	if ((rest > unit - rest ||
		    (rest == unit - rest && (integer / unit) % 2 != 0)) &&
		__builtin_add_overflow(integer, unit, &integer))
		return jrun_bad(run, "an integer exceeds 64 bits");
	return jvalue_int(integer, value.trusted);
}

static struct jvalue filter_round(
	struct jrun *run, struct jvalue value, const struct jargs *args)
{
	SIGNATURE(signature, "round", 0, "precision", "method");
	struct jvalue values[2];
	int64_t digits, integer;
	double real, scale;
	const struct jtext *method = NULL;

	if (!jargs_bind(run, args, &signature, values))
		return value;
	digits = jarg_int(run, values[0], 0);
	if (values[1].type != J_MISSING)
		method = jarg_text(run, values[1]);
	if (run->rc)
		return value;
	if (method && !jtext_is(method, "common") &&
		!jtext_is(method, "ceil") && !jtext_is(method, "floor"))
		return jrun_bad(run, "round: common, ceil or floor");
	if (!jvalue_is_number(value))
		return jrun_bad(
			run, "'%s' cannot be rounded", jvalue_type_name(value));
	if (!method || jtext_is(method, "common")) {
		if (jvalue_to_index(value, &integer))
			return round_int(run, value, integer, digits);
		return jvalue_float(
			round_decimal(value.real, digits), value.trusted);
	}
	real = value.type == J_FLOAT ? value.real
	       : value.type == J_INT ? (double)value.integer
				     : value.boolean;
	if (!isfinite(real) || digits > 300 || digits < -300)
		return jrun_bad(run, "round: out of range");
	scale = pow(10, (double)digits);
	real = jtext_is(method, "ceil") ? ceil(real * scale)
					: floor(real * scale);
	return jvalue_float(real / scale, value.trusted);
}

/* --- sequences ----------------------------------------------------------- */

static struct jvalue filter_first(
	struct jrun *run, struct jvalue value, const struct jargs *args)
{
	struct jiter *iter;
	struct jvalue item;

	if (!jargs_none(run, args, "first"))
		return value;
	iter = jiter_open(run, value);
	return jiter_next(run, iter, &item) ? item : jvalue_undefined(NULL);
}

static struct jvalue filter_last(
	struct jrun *run, struct jvalue value, const struct jargs *args)
{
	struct jvalue item, reversed;
	size_t points;

	if (!jargs_none(run, args, "last"))
		return value;
	if (value.type == J_TEXT) {
		points = jtext_points(run, value.text);
		if (points == 0)
			return jvalue_undefined(NULL);
		return jtext_slice(run, value.text, (int64_t)points - 1, 1, 1);
	}
	if (value.type == J_ITER)
		return jrun_bad(run, "a generator has no last item");
	reversed = jvalue_reversed(run, value);
	if (run->rc)
		return value;
	return jiter_next(run, reversed.iter, &item) ? item
						     : jvalue_undefined(NULL);
}

static struct jvalue filter_list(
	struct jrun *run, struct jvalue value, const struct jargs *args)
{
	if (!jargs_none(run, args, "list"))
		return value;
	return jvalue_list(jiter_collect(run, value));
}

static struct jvalue filter_reverse(
	struct jrun *run, struct jvalue value, const struct jargs *args)
{
	size_t points;

	if (!jargs_none(run, args, "reverse"))
		return value;
	if (value.type != J_TEXT)
		return jvalue_reversed(run, value);
	points = jtext_points(run, value.text);
	return jtext_slice(run, value.text, (int64_t)points - 1, -1, points);
}

static struct jvalue filter_join(
	struct jrun *run, struct jvalue value, const struct jargs *args)
{
	SIGNATURE(signature, "join", 0, "d", "attribute");
	struct jvalue values[2], item;
	struct jtext *separator = NULL;
	struct jiter *iter;
	struct jbuilder out;
	bool first = true;

	if (!jargs_bind(run, args, &signature, values))
		return value;
	if (values[0].type != J_MISSING)
		separator = jvalue_str(run, values[0]);
	iter = jiter_open(run, value);
	jbuilder_init(&out, run);
	while (jiter_next(run, iter, &item)) {
		item = jvalue_path(run, item, or_none(values[1]), NULL);
		if (!first)
			jbuilder_add_text(&out, separator);
		jformat_str(&out, item);
		first = false;
	}
	return run->rc ? value : jtext_value(jbuilder_finish(&out));
}

/* Keys that sort, min, max and groupby compare by. */
static struct jvalue sort_key(struct jrun *run, struct jvalue item,
	struct jvalue path, bool case_sensitive, const struct jvalue *fallback)
{
	struct jvalue key = jvalue_path(run, item, path, fallback);

	return case_sensitive ? key : jvalue_fold_case(run, key);
}

/* "a,b" -> the list of keys that sort compares. */
static struct jvalue sort_keys(struct jrun *run, struct jvalue item,
	struct jvalue paths, bool case_sensitive)
{
	struct jlist *keys = jlist_make(run, 1);
	size_t from = 0, to;

	if (paths.type != J_TEXT) {
		jlist_add(run, keys,
			sort_key(run, item, paths, case_sensitive, NULL));
		return jvalue_list(keys);
	}
	while (!run->rc && from <= paths.text->length) {
		const char *comma = memchr(paths.text->bytes + from, ',',
			paths.text->length - from);
		struct jvalue path;

		to = comma ? (size_t)(comma - paths.text->bytes)
			   : paths.text->length;
		path = jtext_value(jtext_part(run, paths.text, from, to));
		if (!run->rc)
			jlist_add(run, keys,
				sort_key(
					run, item, path, case_sensitive, NULL));
		from = to + 1;
	}
	return jvalue_list(keys);
}

static struct jvalue filter_sort(
	struct jrun *run, struct jvalue value, const struct jargs *args)
{
	SIGNATURE(
		signature, "sort", 0, "reverse", "case_sensitive", "attribute");
	struct jvalue values[3], *keys;
	struct jlist *list;

	if (!jargs_bind(run, args, &signature, values))
		return value;
	list = jiter_collect(run, value);
	if (!list)
		return value;
	keys = jrun_take_array(run, list->count + 1, sizeof(*keys));
	for (size_t i = 0; keys && i < list->count && !run->rc; i++)
		keys[i] = sort_keys(run, list->items[i], or_none(values[2]),
			jarg_bool(run, values[1], false));
	if (!run->rc)
		jlist_sort(run, list->items, keys, list->count,
			jarg_bool(run, values[0], false));
	return jvalue_list(list);
}

static struct jvalue filter_dictsort(
	struct jrun *run, struct jvalue value, const struct jargs *args)
{
	SIGNATURE(signature, "dictsort", 0, "case_sensitive", "by", "reverse");
	struct jvalue values[3], *keys;
	struct jlist *list;
	bool by_value = false;

	if (!jargs_bind(run, args, &signature, values))
		return value;
	if (values[1].type != J_MISSING) {
		const struct jtext *by = jarg_text(run, values[1]);

		by_value = by && jtext_is(by, "value");
		if (by && !by_value && !jtext_is(by, "key"))
			return jrun_bad(run, "dictsort: by key or value");
	}
	if (run->rc || value.type != J_DICT)
		return jrun_bad(run, "'%s' has no items to sort",
			jvalue_type_name(value));
	list = jlist_make(run, value.dict->count);
	keys = jrun_take_array(run, value.dict->count + 1, sizeof(*keys));
	for (size_t i = 0; list && keys && i < value.dict->count; i++) {
		const struct jentry *entry = &value.dict->entries[i];

		jlist_add(run, list, jview_item(run, JVIEW_ITEMS, entry));
		keys[i] = by_value ? entry->value : entry->key;
		if (!jarg_bool(run, values[0], false))
			keys[i] = jvalue_fold_case(run, keys[i]);
	}
	if (list && keys && !run->rc)
		jlist_sort(run, list->items, keys, list->count,
			jarg_bool(run, values[2], false));
	return jvalue_list(list);
}

static struct jvalue min_or_max(struct jrun *run, struct jvalue value,
	const struct jargs *args, bool max)
{
	SIGNATURE(signature, "min", 0, "case_sensitive", "attribute");
	struct jvalue values[2], item, best, best_key, key;
	struct jiter *iter;
	bool sensitive;

	if (!jargs_bind(run, args, &signature, values))
		return value;
	sensitive = jarg_bool(run, values[0], false);
	iter = jiter_open(run, value);
	if (!jiter_next(run, iter, &best))
		return jvalue_undefined(NULL);
	best_key = sort_key(run, best, or_none(values[1]), sensitive, NULL);
	while (jiter_next(run, iter, &item)) {
		key = sort_key(run, item, or_none(values[1]), sensitive, NULL);
		if (run->rc || !(max ? jvalue_less(run, best_key, key)
				     : jvalue_less(run, key, best_key)))
			continue;
		best = item;
		best_key = key;
	}
	return best;
}

static struct jvalue filter_min(
	struct jrun *run, struct jvalue value, const struct jargs *args)
{
	return min_or_max(run, value, args, false);
}

static struct jvalue filter_max(
	struct jrun *run, struct jvalue value, const struct jargs *args)
{
	return min_or_max(run, value, args, true);
}

static struct jvalue filter_sum(
	struct jrun *run, struct jvalue value, const struct jargs *args)
{
	SIGNATURE(signature, "sum", 0, "attribute", "start");
	struct jvalue values[2], item, sum = jvalue_int(0, true);
	struct jiter *iter;

	if (!jargs_bind(run, args, &signature, values))
		return value;
	if (values[1].type != J_MISSING)
		sum = values[1];
	if (sum.type == J_TEXT)
		return jrun_bad(run, "strings cannot be summed");
	iter = jiter_open(run, value);
	while (jiter_next(run, iter, &item)) {
		item = jvalue_path(run, item, or_none(values[0]), NULL);
		sum = jmath_binary(run, JMATH_ADD, sum, item);
	}
	return sum;
}

static struct jvalue filter_groupby(
	struct jrun *run, struct jvalue value, const struct jargs *args)
{
	SIGNATURE(signature, "groupby", 1, "attribute", "default",
		"case_sensitive");
	struct jvalue values[3], *keys;
	struct jlist *list, *groups = jlist_make(run, 4), *group, *pair;
	bool sensitive;

	if (!jargs_bind(run, args, &signature, values))
		return value;
	sensitive = jarg_bool(run, values[2], false);
	list = jiter_collect(run, value);
	if (!list)
		return value;
	keys = jrun_take_array(run, list->count + 1, sizeof(*keys));
	for (size_t i = 0; keys && i < list->count && !run->rc; i++)
		keys[i] = sort_key(
			run, list->items[i], values[0], sensitive, &values[1]);
	if (!run->rc)
		jlist_sort(run, list->items, keys, list->count, false);
	for (size_t i = 0; keys && i < list->count && !run->rc;) {
		size_t first = i;

		group = jlist_make(run, 4);
		pair = jlist_make(run, 2);
		while (i < list->count && !run->rc &&
			(i == first || jvalue_equal(run, keys[first], keys[i])))
			jlist_add(run, group, list->items[i++]);
		jlist_add(run, pair,
			jvalue_path(run, list->items[first], values[0],
				&values[1]));
		jlist_add(run, pair, jvalue_list(group));
		if (pair)
			pair->is_group = true;
		jlist_add(run, groups, jvalue_tuple(pair));
	}
	return jvalue_list(groups);
}

/* --- generators ---------------------------------------------------------- */

static struct jvalue filter_map(
	struct jrun *run, struct jvalue value, const struct jargs *args)
{
	SIGNATURE(signature, "map", 0, "attribute", "default");
	struct jiter *iter = jiter_make(run, JITER_MAP, value);
	struct jvalue values[2];

	if (!iter)
		return value;
	if (args->count == 0) {
		if (!jargs_bind(run, args, &signature, values))
			return value;
		if (values[0].type == J_MISSING)
			return jrun_bad(run, "map needs a filter");
		iter->by_attribute = true;
		iter->attribute = values[0];
		iter->fallback = or_none(values[1]);
		return generator(iter);
	}
	if (args->items[0].type == J_TEXT)
		iter->filter = jfilter_find(args->items[0].text);
	if (!iter->filter || !iter->filter->apply)
		return jrun_bad(run, "map: unknown or unsupported filter");
	iter->args = *args;
	iter->args.items++;
	iter->args.count--;
	return generator(iter);
}

static struct jvalue select_or_reject(struct jrun *run, struct jvalue value,
	const struct jargs *args, bool reject, bool by_attribute)
{
	struct jiter *iter = jiter_make(run, JITER_SELECT, value);
	size_t used = by_attribute;

	if (!iter)
		return value;
	iter->reject = reject;
	iter->by_attribute = by_attribute;
	if (args->count < used)
		return jrun_bad(run, "the name of the attribute is missing");
	if (by_attribute)
		iter->attribute = args->items[0];
	if (args->count > used) {
		if (args->items[used].type == J_TEXT)
			iter->test = jtest_find(args->items[used].text);
		if (!iter->test)
			return jrun_bad(run, "unknown or unsupported test");
		used++;
	}
	iter->args = *args;
	if (used > 0) {
		iter->args.items += used;
		iter->args.count -= used;
	}
	return generator(iter);
}

static struct jvalue filter_select(
	struct jrun *run, struct jvalue value, const struct jargs *args)
{
	return select_or_reject(run, value, args, false, false);
}

static struct jvalue filter_reject(
	struct jrun *run, struct jvalue value, const struct jargs *args)
{
	return select_or_reject(run, value, args, true, false);
}

static struct jvalue filter_selectattr(
	struct jrun *run, struct jvalue value, const struct jargs *args)
{
	return select_or_reject(run, value, args, false, true);
}

static struct jvalue filter_rejectattr(
	struct jrun *run, struct jvalue value, const struct jargs *args)
{
	return select_or_reject(run, value, args, true, true);
}

static struct jvalue filter_items(
	struct jrun *run, struct jvalue value, const struct jargs *args)
{
	if (!jargs_none(run, args, "items"))
		return value;
	return generator(jiter_make(run, JITER_ITEMS, value));
}

static struct jvalue filter_unique(
	struct jrun *run, struct jvalue value, const struct jargs *args)
{
	SIGNATURE(signature, "unique", 0, "case_sensitive", "attribute");
	struct jiter *iter = jiter_make(run, JITER_UNIQUE, value);
	struct jvalue values[2];

	if (!iter || !jargs_bind(run, args, &signature, values))
		return value;
	iter->fold_case = !jarg_bool(run, values[0], false);
	iter->attribute = or_none(values[1]);
	return generator(iter);
}

static struct jvalue batch_or_slice(struct jrun *run, struct jvalue value,
	const struct jargs *args, enum jiter_kind kind)
{
	SIGNATURE(signature, "batch", 1, "linecount", "fill_with");
	struct jiter *iter = jiter_make(run, kind, value);
	struct jvalue values[2];

	if (!iter || !jargs_bind(run, args, &signature, values))
		return value;
	iter->width = jarg_int(run, values[0], 0);
	iter->fallback = or_none(values[1]);
	return generator(iter);
}

static struct jvalue filter_batch(
	struct jrun *run, struct jvalue value, const struct jargs *args)
{
	return batch_or_slice(run, value, args, JITER_BATCH);
}

static struct jvalue filter_slice(
	struct jrun *run, struct jvalue value, const struct jargs *args)
{
	return batch_or_slice(run, value, args, JITER_SLICE);
}

const struct jfilter jfilters_of_lists[] = {{"default", filter_default},
	{"d", filter_default}, {"length", filter_length},
	{"count", filter_length}, {"string", filter_string},
	{"attr", filter_attr}, {"abs", filter_abs}, {"round", filter_round},
	{"first", filter_first}, {"last", filter_last}, {"list", filter_list},
	{"reverse", filter_reverse}, {"join", filter_join},
	{"sort", filter_sort}, {"dictsort", filter_dictsort},
	{"min", filter_min}, {"max", filter_max}, {"sum", filter_sum},
	{"groupby", filter_groupby}, {"map", filter_map},
	{"select", filter_select}, {"reject", filter_reject},
	{"selectattr", filter_selectattr}, {"rejectattr", filter_rejectattr},
	{"items", filter_items}, {"unique", filter_unique},
	{"batch", filter_batch}, {"slice", filter_slice},
	{"tojson", jformat_json}, {"random", NULL}, {"pprint", NULL},
	{"filesizeformat", NULL}};

const size_t jfilter_of_lists_count = COUNT_OF(jfilters_of_lists);
