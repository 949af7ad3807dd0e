/* jinja_dict.c - mappings in order of insertion (JSON, keys -> values) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <errno.h>
#include <math.h>
#include <string.h>

#include "dataplane/jinja_private.h"

#define INDEX_FROM_COUNT 8

/* FNV-1a; who makes keys collide pays with steps of his own render. */
static uint64_t hash_bytes(const void *data, size_t length, uint64_t seed)
{
	const unsigned char *bytes = data;
	uint64_t hash = seed ^ UINT64_C(14695981039346656037);

	for (size_t i = 0; i < length; i++)
		hash = (hash ^ bytes[i]) * UINT64_C(1099511628211);
	return hash ^ hash >> 29;
}

/* Numbers that are equal have one hash; false: the value cannot be a key. */
static bool hash_value(struct jrun *run, struct jvalue key, uint64_t *out)
{
	double real;
	int64_t integer;
	uintptr_t address;

	if (jvalue_is_number(key)) {
		real = key.real;
		if (key.type == J_FLOAT && real >= -JINT_END &&
			real < JINT_END && real == floor(real)) {
			integer = (int64_t)real;
		} else if (key.type == J_FLOAT) {
			*out = hash_bytes(&real, sizeof(real), 1);
			return true;
		} else {
			(void)jvalue_to_index(key, &integer);
		}
		*out = hash_bytes(&integer, sizeof(integer), 2);
		return true;
	}
	switch (key.type) {
	case J_TEXT:
		*out = hash_bytes(key.text->bytes, key.text->length, 3);
		return jrun_charge_bytes(run, key.text->length);
	case J_TUPLE:
		*out = 4;
		for (size_t i = 0; i < key.list->count; i++) {
			uint64_t item;
			bool ok = jrun_charge(run, 1) && jrun_enter(run);

			if (!ok)
				return false;
			ok = hash_value(run, key.list->items[i], &item);
			jrun_leave(run);
			if (!ok)
				return false;
			*out = hash_bytes(&item, sizeof(item), *out);
		}
		return true;
	case J_LIST:
	case J_DICT:
	case J_VIEW:
		jrun_fail(run, EINVAL, "'%s' cannot be a key",
			jvalue_type_name(key));
		return false;
	case J_UNDEFINED:
	case J_NONE:
		*out = key.type;
		return true;
	default: /* what is equal to itself alone */
		address = (uintptr_t)key.list;
		*out = hash_bytes(&address, sizeof(address), 5);
		return true;
	}
}

struct jdict *jdict_make(struct jrun *run)
{
	struct jdict *dict = jrun_take(run, sizeof(*dict));

	if (dict)
		*dict = (struct jdict){0};
	return dict;
}

static bool entry_is(struct jrun *run, const struct jentry *entry,
	struct jvalue key, uint64_t hash)
{
	return entry->hash == hash && jvalue_equal(run, entry->key, key);
}

static struct jentry *find(struct jrun *run, const struct jdict *dict,
	struct jvalue key, uint64_t hash)
{
	if (!dict->index) {
		for (size_t i = 0; i < dict->count; i++)
			if (entry_is(run, &dict->entries[i], key, hash))
				return &dict->entries[i];
		return NULL;
	}
	for (size_t at = hash;; at++) {
		uint32_t entry = dict->index[at & (dict->index_size - 1)];

		if (entry == 0 || !jrun_charge(run, 1))
			return NULL;
		if (entry_is(run, &dict->entries[entry - 1], key, hash))
			return &dict->entries[entry - 1];
	}
}

static void index_add(struct jdict *dict, size_t entry)
{
	size_t at = dict->entries[entry].hash;

	while (dict->index[at & (dict->index_size - 1)] != 0)
		at++;
	dict->index[at & (dict->index_size - 1)] = (uint32_t)(entry + 1);
}

/* Room for one more entry, and an index at most half full. */
static bool make_room(struct jrun *run, struct jdict *dict)
{
	size_t capacity = dict->capacity ? 2 * dict->capacity : 4;
	struct jentry *larger;

	if (dict->count < dict->capacity)
		return true;
	larger = capacity > UINT32_MAX / 4
			 ? NULL
			 : jarena_grow(&run->arena, dict->entries,
				   dict->count * sizeof(*larger),
				   capacity * sizeof(*larger));
	if (!larger) {
		(void)jrun_take(run, SIZE_MAX / 2);
		return false;
	}
	dict->entries = larger;
	dict->capacity = capacity;
	if (capacity <= INDEX_FROM_COUNT)
		return true;
	dict->index_size = 2 * capacity;
	dict->index =
		jrun_take_array(run, dict->index_size, sizeof(*dict->index));
	if (!dict->index)
		return false;
	memset(dict->index, 0, dict->index_size * sizeof(*dict->index));
	for (size_t i = 0; i < dict->count; i++)
		index_add(dict, i);
	return true;
}

void jdict_set(struct jrun *run, struct jdict *dict, struct jvalue key,
	struct jvalue value)
{
	struct jentry *entry;
	uint64_t hash;

	if (run->rc || !dict || !hash_value(run, key, &hash))
		return;
	entry = find(run, dict, key, hash);
	if (entry) {
		entry->value = value;
		return;
	}
	if (run->rc || !make_room(run, dict))
		return;
	dict->entries[dict->count++] = (struct jentry){key, value, hash};
	if (dict->index)
		index_add(dict, dict->count - 1);
}

struct jvalue *jdict_get(
	struct jrun *run, const struct jdict *dict, struct jvalue key)
{
	struct jentry *entry;
	uint64_t hash;

	if (run->rc || !hash_value(run, key, &hash))
		return NULL;
	entry = find(run, dict, key, hash);
	return entry ? &entry->value : NULL;
}

struct jvalue *jdict_get_text(
	struct jrun *run, const struct jdict *dict, const struct jtext *key)
{
	struct jtext copy = *key;

	return jdict_get(
		run, dict, (struct jvalue){.type = J_TEXT, .text = &copy});
}

/* --- from JSON ----------------------------------------------------------- */

struct converter {
	struct jrun *run;
	const struct jinja_input *input; /* NULL: all is trusted */
};

static bool is_closed_word(
	const struct converter *c, const char *key, const char *word)
{
	const char *const *words = c->input->closed_words;

	if (!key || !c->input->closed_key || !words ||
		strcmp(key, c->input->closed_key) != 0)
		return false;
	for (; *words; words++)
		if (strcmp(*words, word) == 0)
			return true;
	return false;
}

static struct jvalue convert(
	const struct converter *c, json_t *json, const char *key);

static struct jvalue convert_list(const struct converter *c, json_t *json)
{
	size_t count = json_array_size(json);
	struct jlist *list = jlist_make(c->run, count);

	for (size_t i = 0; list && i < count && !c->run->rc; i++)
		jlist_add(c->run, list,
			convert(c, json_array_get(json, i), NULL));
	return jvalue_list(list);
}

static struct jvalue convert_dict(const struct converter *c, json_t *json)
{
	struct jdict *dict = jdict_make(c->run);

	for (void *at = json_object_iter(json); dict && at && !c->run->rc;
		at = json_object_iter_next(json, at)) {
		const char *key = json_object_iter_key(at);
		size_t length = json_object_iter_key_len(at);

		jdict_set(c->run, dict,
			jtext_value(jtext_make(
				c->run, key, length, c->input == NULL)),
			convert(c, json_object_iter_value(at), key));
	}
	return dict ? (struct jvalue){.type = J_DICT, .dict = dict}
		    : jvalue_undefined(NULL);
}

static struct jvalue convert(
	const struct converter *c, json_t *json, const char *key)
{
	struct jrun *run = c->run;
	bool trusted = !c->input;
	struct jvalue value = {.type = J_NONE, .trusted = trusted};

	if (!jrun_charge(run, 1) || !jrun_enter(run))
		return value;
	switch (json_typeof(json)) {
	case JSON_OBJECT:
		value = convert_dict(c, json);
		break;
	case JSON_ARRAY:
		value = convert_list(c, json);
		break;
	case JSON_STRING:
		if (!trusted && is_closed_word(c, key, json_string_value(json)))
			trusted = true;
		value = jtext_value(jtext_make(run, json_string_value(json),
			json_string_length(json), trusted));
		break;
	case JSON_INTEGER:
		value = jvalue_int(json_integer_value(json), trusted);
		break;
	case JSON_REAL:
		value = jvalue_float(json_real_value(json), trusted);
		break;
	case JSON_TRUE:
	case JSON_FALSE:
		value.type = J_BOOL;
		value.boolean = json_is_true(json);
		break;
	default:
		break;
	}
	jrun_leave(run);
	return value;
}

struct jvalue jvalue_from_json(
	struct jrun *run, json_t *json, const struct jinja_input *input)
{
	struct converter c = {run, input};

	return convert(&c, json, NULL);
}
