/* jinja_iter.c - going through values, lazily as Python (value -> items) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Filters such as map and select give generators: nothing is computed before
 * an item is asked for, and an item is given once. Templates depend on it
 * (first of a select, a loop that ends early), so it is done the same way.
 */
#include <assert.h>
#include <errno.h>

#include "dataplane/jinja_private.h"

bool jvalue_is_iterable(struct jvalue value)
{
	switch (value.type) {
	case J_UNDEFINED:
	case J_TEXT:
	case J_LIST:
	case J_TUPLE:
	case J_DICT:
	case J_VIEW:
	case J_RANGE:
	case J_ITER:
	case J_LOOP:
		return true;
	default:
		return false;
	}
}

struct jiter *jiter_make(
	struct jrun *run, enum jiter_kind kind, struct jvalue subject)
{
	struct jiter *iter = jrun_take(run, sizeof(*iter));

	if (iter)
		*iter = (struct jiter){.kind = kind, .subject = subject};
	return iter;
}

struct jiter *jiter_open(struct jrun *run, struct jvalue value)
{
	struct jiter *iter;

	if (run->rc)
		return NULL;
	switch (value.type) {
	case J_UNDEFINED:
		return jiter_make(run, JITER_EMPTY, value);
	case J_TEXT:
		return jiter_make(run, JITER_TEXT, value);
	case J_LIST:
	case J_TUPLE:
		return jiter_make(run, JITER_LIST, value);
	case J_RANGE:
		return jiter_make(run, JITER_RANGE, value);
	case J_DICT:
	case J_VIEW:
		iter = jiter_make(run, JITER_DICT, value);
		if (iter && value.type == J_VIEW)
			iter->view = value.view->kind;
		return iter;
	case J_ITER:
		return value.iter;
	default:
		jrun_fail(run, EINVAL, "'%s' cannot be iterated",
			jvalue_type_name(value));
		return NULL;
	}
}

struct jvalue jview_item(
	struct jrun *run, enum jview_kind kind, const struct jentry *entry)
{
	struct jlist *pair;

	if (kind == JVIEW_KEYS)
		return entry->key;
	if (kind == JVIEW_VALUES)
		return entry->value;
	pair = jlist_make(run, 2);
	jlist_add(run, pair, entry->key);
	jlist_add(run, pair, entry->value);
	return jvalue_tuple(pair);
}

/* The next index of `count`, forwards or backwards; false = at the end. */
static bool step(struct jiter *iter, size_t count, size_t *out)
{
	if (iter->position >= count)
		return false;
	*out = iter->backwards ? count - 1 - iter->position : iter->position;
	iter->position++;
	return true;
}

static bool next_character(
	struct jrun *run, struct jiter *iter, struct jvalue *out)
{
	struct jtext *text = iter->subject.text, *character;
	size_t from = iter->position;
	unsigned size;

	if (from >= text->length)
		return false;
	(void)jutf8_read(text->bytes, from, &size);
	iter->position += size;
	character = jtext_part(run, text, from, from + size);
	if (character)
		character->markup = false;
	*out = jtext_value(character);
	return true;
}

static bool next_plain(struct jrun *run, struct jiter *iter, struct jvalue *out)
{
	const struct jdict *dict;
	size_t i;

	switch (iter->kind) {
	case JITER_LIST:
		if (!step(iter, iter->subject.list->count, &i))
			return false;
		*out = iter->subject.list->items[i];
		return true;
	case JITER_RANGE:
		if (!step(iter, iter->subject.range->count, &i))
			return false;
		*out = jvalue_int(
			iter->subject.range->start +
				(int64_t)i * iter->subject.range->step,
			true);
		return true;
	case JITER_DICT:
		dict = iter->subject.type == J_DICT ? iter->subject.dict
						    : iter->subject.view->dict;
		if (!step(iter, dict->count, &i))
			return false;
		*out = jview_item(run, iter->view, &dict->entries[i]);
		return true;
	case JITER_TEXT:
		return next_character(run, iter, out);
	default:
		return false;
	}
}

static bool next_selected(
	struct jrun *run, struct jiter *iter, struct jvalue *out)
{
	while (jiter_next(run, iter->source, out)) {
		struct jvalue value = *out;
		bool good;

		if (iter->by_attribute)
			value = jvalue_path(run, value, iter->attribute, NULL);
		if (run->rc)
			return false;
		good = iter->test
			       ? jtest_is(run, iter->test, value, &iter->args)
			       : jvalue_truth(run, value);
		if (run->rc)
			return false;
		if (good != iter->reject)
			return true;
	}
	return false;
}

static bool next_unique(
	struct jrun *run, struct jiter *iter, struct jvalue *out)
{
	while (jiter_next(run, iter->source, out)) {
		struct jvalue key =
			jvalue_path(run, *out, iter->attribute, NULL);

		if (iter->fold_case)
			key = jvalue_fold_case(run, key);
		if (run->rc)
			return false;
		if (jdict_get(run, iter->seen, key))
			continue;
		jdict_set(run, iter->seen, key, jvalue_none());
		return !run->rc;
	}
	return false;
}

static bool next_batch(struct jrun *run, struct jiter *iter, struct jvalue *out)
{
	struct jlist *batch = NULL;
	struct jvalue item;

	/* As there: a width below 1 is never reached, so all is one batch. */
	while ((!batch || iter->width < 1 ||
		       batch->count < (uint64_t)iter->width) &&
		jiter_next(run, iter->source, &item)) {
		if (!batch)
			batch = jlist_make(run, 4);
		jlist_add(run, batch, item);
	}
	if (!batch || run->rc)
		return false;
	while (iter->fallback.type != J_NONE && iter->width > 0 &&
		batch->count < (uint64_t)iter->width && jrun_charge(run, 1))
		jlist_add(run, batch, iter->fallback);
	*out = jvalue_list(batch);
	return !run->rc;
}

static bool next_slice(struct jrun *run, struct jiter *iter, struct jvalue *out)
{
	size_t count = iter->all->count, width = (size_t)iter->width;
	size_t each = count / width, extra = count % width;
	size_t number = iter->position, from, to;
	struct jlist *slice;

	if (number >= width)
		return false;
	iter->position++;
	from = number * each + (number < extra ? number : extra);
	to = from + each + (number < extra);
	slice = jlist_make(run, to - from + 1);
	for (size_t i = from; i < to && jrun_charge(run, 1); i++)
		jlist_add(run, slice, iter->all->items[i]);
	if (iter->fallback.type != J_NONE && number >= extra)
		jlist_add(run, slice, iter->fallback);
	*out = jvalue_list(slice);
	return !run->rc;
}

/* What a generator does before its first item. */
static void start(struct jrun *run, struct jiter *iter)
{
	iter->started = true;
	switch (iter->kind) {
	case JITER_MAP:
	case JITER_SELECT:
		/* An empty or undefined value is not even looked at. */
		if (!jvalue_truth(run, iter->subject)) {
			iter->done = true;
			return;
		}
		break;
	case JITER_ITEMS:
		if (iter->subject.type == J_UNDEFINED) {
			iter->done = true;
			return;
		}
		if (iter->subject.type != J_DICT) {
			jrun_fail(run, EINVAL, "only mappings have items");
			return;
		}
		iter->source = jiter_open(run, iter->subject);
		if (iter->source)
			iter->source->view = JVIEW_ITEMS;
		return;
	case JITER_SLICE:
		iter->all = jiter_collect(run, iter->subject);
		if (iter->width == 0)
			jrun_fail(run, EINVAL, "division by zero");
		iter->done = iter->width < 1;
		return;
	case JITER_UNIQUE:
		iter->seen = jdict_make(run);
		break;
	default:
		break;
	}
	iter->source = jiter_open(run, iter->subject);
}

static bool next_generated(
	struct jrun *run, struct jiter *iter, struct jvalue *out)
{
	switch (iter->kind) {
	case JITER_MAP:
		if (!jiter_next(run, iter->source, out))
			return false;
		*out = iter->by_attribute
			       ? jvalue_path(run, *out, iter->attribute,
					 &iter->fallback)
			       : iter->filter->apply(run, *out, &iter->args);
		return !run->rc;
	case JITER_SELECT:
		return next_selected(run, iter, out);
	case JITER_ITEMS:
		return jiter_next(run, iter->source, out);
	case JITER_UNIQUE:
		return next_unique(run, iter, out);
	case JITER_BATCH:
		return next_batch(run, iter, out);
	case JITER_SLICE:
		return next_slice(run, iter, out);
	default:
		return false;
	}
}

bool jiter_next(struct jrun *run, struct jiter *iter, struct jvalue *out)
{
	bool found = false;

	if (!iter || iter->done || !jrun_charge(run, 1))
		return false;
	if (iter->kind < JITER_MAP) {
		found = next_plain(run, iter, out);
	} else if (jrun_enter(run)) {
		if (!iter->started)
			start(run, iter);
		if (!iter->done && !run->rc)
			found = next_generated(run, iter, out);
		jrun_leave(run);
	}
	found = found && !run->rc;
	iter->done = !found;
	return found;
}

struct jlist *jiter_collect(struct jrun *run, struct jvalue value)
{
	struct jiter *iter = jiter_open(run, value);
	struct jlist *list = jlist_make(run, 4);
	struct jvalue item;

	while (list && jiter_next(run, iter, &item))
		jlist_add(run, list, item);
	return run->rc ? NULL : list;
}

struct jvalue jvalue_reversed(struct jrun *run, struct jvalue value)
{
	struct jiter *iter;
	struct jlist *list;
	struct jvalue swap;

	switch (value.type) {
	case J_ITER:
		list = jiter_collect(run, value);
		for (size_t i = 0; list && i < list->count / 2; i++) {
			swap = list->items[i];
			list->items[i] = list->items[list->count - 1 - i];
			list->items[list->count - 1 - i] = swap;
		}
		return jvalue_list(list);
	case J_UNDEFINED:
	case J_LIST:
	case J_TUPLE:
	case J_DICT:
	case J_VIEW:
	case J_RANGE:
		iter = jiter_open(run, value);
		if (!iter)
			return jvalue_undefined(NULL);
		iter->backwards = true;
		return (struct jvalue){.type = J_ITER, .iter = iter};
	default:
		return jrun_bad(run, "'%s' cannot be reversed",
			jvalue_type_name(value));
	}
}
