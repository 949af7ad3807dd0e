/* jinja_value.c - what a template computes with: comparing and containing */
/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <errno.h>
#include <math.h>
#include <string.h>

#include "dataplane/jinja_private.h"

struct jvalue jvalue_undefined(const struct jtext *what)
{
	return (struct jvalue){
		.type = J_UNDEFINED, .trusted = true, .what = what};
}

struct jvalue jvalue_none(void)
{
	return (struct jvalue){.type = J_NONE, .trusted = true};
}

struct jvalue jvalue_bool(bool boolean)
{
	return (struct jvalue){
		.type = J_BOOL, .trusted = true, .boolean = boolean};
}

struct jvalue jvalue_int(int64_t integer, bool trusted)
{
	return (struct jvalue){
		.type = J_INT, .trusted = trusted, .integer = integer};
}

struct jvalue jvalue_float(double real, bool trusted)
{
	return (struct jvalue){
		.type = J_FLOAT, .trusted = trusted, .real = real};
}

struct jvalue jvalue_list(struct jlist *list)
{
	if (!list)
		return jvalue_undefined(NULL);
	return (struct jvalue){.type = J_LIST, .list = list};
}

struct jvalue jvalue_tuple(struct jlist *list)
{
	if (!list)
		return jvalue_undefined(NULL);
	return (struct jvalue){.type = J_TUPLE, .list = list};
}

const char *jvalue_type_name(struct jvalue value)
{
	static const char *const names[] = {[J_MISSING] = "Undefined",
		[J_UNDEFINED] = "Undefined",
		[J_NONE] = "NoneType",
		[J_BOOL] = "bool",
		[J_INT] = "int",
		[J_FLOAT] = "float",
		[J_TEXT] = "str",
		[J_LIST] = "list",
		[J_TUPLE] = "tuple",
		[J_DICT] = "dict",
		[J_VIEW] = "dict view",
		[J_RANGE] = "range",
		[J_ITER] = "generator",
		[J_NAMESPACE] = "Namespace",
		[J_MACRO] = "Macro",
		[J_LOOP] = "LoopContext",
		[J_METHOD] = "method",
		[J_FUNCTION] = "function"};

	assert(value.type < COUNT_OF(names));
	return names[value.type];
}

bool jvalue_is_number(struct jvalue value)
{
	return value.type == J_BOOL || value.type == J_INT ||
	       value.type == J_FLOAT;
}

bool jvalue_to_index(struct jvalue value, int64_t *out)
{
	if (value.type == J_BOOL)
		*out = value.boolean;
	else if (value.type == J_INT)
		*out = value.integer;
	else
		return false;
	return true;
}

bool jvalue_length(struct jrun *run, struct jvalue value, size_t *out)
{
	switch (value.type) {
	case J_UNDEFINED:
		*out = 0;
		return true;
	case J_TEXT:
		*out = jtext_points(run, value.text);
		return true;
	case J_LIST:
	case J_TUPLE:
		*out = value.list->count;
		return true;
	case J_DICT:
		*out = value.dict->count;
		return true;
	case J_VIEW:
		*out = value.view->dict->count;
		return true;
	case J_RANGE:
		*out = value.range->count;
		return true;
	case J_LOOP:
		return jloop_length(run, value.loop, out);
	default:
		return false;
	}
}

bool jvalue_truth(struct jrun *run, struct jvalue value)
{
	size_t length;

	switch (value.type) {
	case J_NONE:
	case J_MISSING:
		return false;
	case J_BOOL:
		return value.boolean;
	case J_INT:
		return value.integer != 0;
	case J_FLOAT:
		return value.real != 0;
	case J_TEXT:
		return value.text->length > 0;
	default:
		return !jvalue_length(run, value, &length) || length > 0;
	}
}

/* --- equality and order -------------------------------------------------- */

static long double number_of(struct jvalue value)
{
	if (value.type == J_FLOAT)
		return value.real;
	return value.type == J_BOOL ? value.boolean : value.integer;
}

static bool lists_equal(
	struct jrun *run, const struct jlist *a, const struct jlist *b)
{
	bool equal = a->count == b->count;

	for (size_t i = 0; equal && i < a->count; i++)
		equal = jrun_charge(run, 1) &&
			jvalue_equal(run, a->items[i], b->items[i]);
	return equal;
}

static bool dicts_equal(
	struct jrun *run, const struct jdict *a, const struct jdict *b)
{
	bool equal = a->count == b->count;

	for (size_t i = 0; equal && i < a->count; i++) {
		struct jvalue *other = jdict_get(run, b, a->entries[i].key);

		equal = other && jrun_charge(run, 1) &&
			jvalue_equal(run, a->entries[i].value, *other);
	}
	return equal;
}

static bool ranges_equal(const struct jrange *a, const struct jrange *b)
{
	return a->count == b->count &&
	       (a->count == 0 ||
		       (a->start == b->start &&
			       (a->count == 1 || a->step == b->step)));
}

bool jvalue_same(struct jvalue a, struct jvalue b)
{
	if (a.type != b.type)
		return false;
	switch (a.type) {
	case J_UNDEFINED:
	case J_NONE:
		return true;
	case J_BOOL:
		return a.boolean == b.boolean;
	case J_INT:
		return a.integer == b.integer;
	case J_FLOAT:
		return a.real == b.real;
	case J_METHOD:
		return a.method->entry == b.method->entry &&
		       jvalue_same(a.method->self, b.method->self);
	default:
		return a.list == b.list;
	}
}

bool jvalue_equal(struct jrun *run, struct jvalue a, struct jvalue b)
{
	bool equal;

	if (jvalue_is_number(a) && jvalue_is_number(b))
		return number_of(a) == number_of(b);
	if (a.type != b.type || !jrun_enter(run))
		return false;
	switch (a.type) {
	case J_TEXT:
		equal = jrun_charge_bytes(run, a.text->length) &&
			jtext_equal(a.text, b.text);
		break;
	case J_LIST:
	case J_TUPLE:
		equal = lists_equal(run, a.list, b.list);
		break;
	case J_DICT:
		equal = dicts_equal(run, a.dict, b.dict);
		break;
	case J_RANGE:
		equal = ranges_equal(a.range, b.range);
		break;
	default:
		equal = jvalue_same(a, b);
		break;
	}
	jrun_leave(run);
	return equal;
}

#define UNORDERED 2

/* -1, 0, 1; UNORDERED with a NaN, or when the run failed. */
static int order(struct jrun *run, struct jvalue a, struct jvalue b)
{
	size_t i = 0;
	int result;

	if (jvalue_is_number(a) && jvalue_is_number(b)) {
		long double x = number_of(a), y = number_of(b);

		return isnan(x) || isnan(y) ? UNORDERED : (x > y) - (x < y);
	}
	if (a.type == J_TEXT && b.type == J_TEXT) {
		if (!jrun_charge_bytes(run, a.text->length))
			return UNORDERED;
		result = jtext_order(a.text, b.text);
		return (result > 0) - (result < 0);
	}
	if (a.type != b.type || (a.type != J_LIST && a.type != J_TUPLE)) {
		jrun_fail(run, EINVAL, "'%s' and '%s' have no order",
			jvalue_type_name(a), jvalue_type_name(b));
		return UNORDERED;
	}
	while (i < a.list->count && i < b.list->count && jrun_charge(run, 1) &&
		jvalue_equal(run, a.list->items[i], b.list->items[i]))
		i++;
	if (run->rc || !jrun_enter(run))
		return UNORDERED;
	if (i < a.list->count && i < b.list->count)
		result = order(run, a.list->items[i], b.list->items[i]);
	else
		result = (a.list->count > b.list->count) -
			 (a.list->count < b.list->count);
	jrun_leave(run);
	return result;
}

bool jvalue_less(struct jrun *run, struct jvalue a, struct jvalue b)
{
	return order(run, a, b) == -1;
}

static bool iterable_contains(
	struct jrun *run, struct jvalue container, struct jvalue item)
{
	struct jiter *iter = jiter_open(run, container);
	struct jvalue next;

	while (iter && jiter_next(run, iter, &next))
		if (jvalue_equal(run, next, item))
			return true;
	return false;
}

static bool contains(
	struct jrun *run, struct jvalue container, struct jvalue item)
{
	switch (container.type) {
	case J_TEXT:
		if (item.type != J_TEXT) {
			jrun_fail(run, EINVAL, "'%s' cannot be in a string",
				jvalue_type_name(item));
			return false;
		}
		return jrun_charge_bytes(run, container.text->length) &&
		       jtext_find(container.text, item.text, 0) != SIZE_MAX;
	case J_DICT:
		return jdict_get(run, container.dict, item) != NULL;
	case J_VIEW:
		if (container.view->kind == JVIEW_KEYS)
			return jdict_get(run, container.view->dict, item) !=
			       NULL;
		return iterable_contains(run, container, item);
	default:
		return iterable_contains(run, container, item);
	}
}

bool jvalue_compare(
	struct jrun *run, enum jcompare op, struct jvalue a, struct jvalue b)
{
	int result;

	switch (op) {
	case JC_EQUAL:
		return jvalue_equal(run, a, b);
	case JC_UNEQUAL:
		return !jvalue_equal(run, a, b);
	case JC_IN:
		return contains(run, b, a);
	case JC_NOT_IN:
		return !contains(run, b, a);
	default:
		break;
	}
	result = order(run, a, b);
	if (result == UNORDERED)
		return false;
	switch (op) {
	case JC_LESS:
		return result < 0;
	case JC_LESS_EQUAL:
		return result <= 0;
	case JC_GREATER:
		return result > 0;
	default:
		return result >= 0;
	}
}

/* --- lists --------------------------------------------------------------- */

struct jlist *jlist_make(struct jrun *run, size_t capacity)
{
	struct jlist *list = jrun_take(run, sizeof(*list));

	if (!list)
		return NULL;
	*list = (struct jlist){.capacity = capacity};
	list->items = jrun_take_array(run, capacity, sizeof(*list->items));
	return list->items ? list : NULL;
}

void jlist_add(struct jrun *run, struct jlist *list, struct jvalue value)
{
	size_t capacity;
	struct jvalue *larger;

	if (run->rc || !list)
		return;
	if (list->count == list->capacity) {
		capacity = list->capacity ? 2 * list->capacity : 4;
		larger = jarena_grow(&run->arena, list->items,
			list->count * sizeof(*larger),
			capacity * sizeof(*larger));
		if (!larger) {
			(void)jrun_take(run, SIZE_MAX / 2);
			return;
		}
		list->items = larger;
		list->capacity = capacity;
	}
	list->items[list->count++] = value;
}

/* Merge [low, middle) and [middle, high) of from[] into to[]. */
static void merge(struct jrun *run, const size_t *from, size_t *to,
	const struct jvalue *keys, const size_t bounds[3], bool reverse)
{
	size_t left = bounds[0], right = bounds[1];

	for (size_t i = bounds[0]; i < bounds[2]; i++) {
		bool take_right = left == bounds[1];

		if (!take_right && right < bounds[2] && jrun_charge(run, 1))
			take_right =
				reverse ? jvalue_less(run, keys[from[left]],
						  keys[from[right]])
					: jvalue_less(run, keys[from[right]],
						  keys[from[left]]);
		to[i] = take_right ? from[right++] : from[left++];
	}
}

void jlist_sort(struct jrun *run, struct jvalue *items, struct jvalue *keys,
	size_t count, bool reverse)
{
	size_t *from = jrun_take_array(run, count + 1, sizeof(*from));
	size_t *to = jrun_take_array(run, count + 1, sizeof(*to)), *swap;
	struct jvalue *sorted =
		jrun_take_array(run, 2 * count + 1, sizeof(*sorted));

	if (!from || !to || !sorted)
		return;
	for (size_t i = 0; i < count; i++)
		from[i] = i;
	for (size_t width = 1; width < count && !run->rc; width *= 2) {
		for (size_t low = 0; low < count && !run->rc;
			low += 2 * width) {
			size_t middle =
				low + width < count ? low + width : count;
			size_t high =
				middle + width < count ? middle + width : count;
			size_t bounds[3] = {low, middle, high};

			merge(run, from, to, keys, bounds, reverse);
		}
		swap = from;
		from = to;
		to = swap;
	}
	if (run->rc)
		return;
	for (size_t i = 0; i < count; i++) {
		sorted[i] = items[from[i]];
		sorted[count + i] = keys[from[i]];
	}
	memcpy(items, sorted, count * sizeof(*items));
	memcpy(keys, sorted + count, count * sizeof(*keys));
}
