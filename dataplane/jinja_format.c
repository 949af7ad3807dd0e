/* jinja_format.c - values as text: str(), repr() and JSON (value -> text) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dataplane/jinja_tree.h"

/*
 * repr(float): the shortest digits that read back as the same number, as
 * %r has them since Python 3.1; an exponent from 1e16 on and below 1e-4.
 */
void jformat_float(char out[JFLOAT_BYTES], double real)
{
	char digits[32], *e;
	int precision = 1, exponent, count;

	if (!isfinite(real)) {
		snprintf(out, JFLOAT_BYTES, "%s",
			isnan(real) ? "nan"
			: real < 0  ? "-inf"
				    : "inf");
		return;
	}
	do
		snprintf(digits, sizeof(digits), "%.*e", precision - 1, real);
	while (strtod(digits, NULL) != real && precision++ < 17);
	e = strchr(digits, 'e');
	exponent = (int)strtol(e + 1, NULL, 10);
	count = precision - 1 - exponent; /* digits behind the point */
	if (exponent < -4 || exponent >= 16) {
		*e = '\0';
		snprintf(out, JFLOAT_BYTES, "%se%c%02d", digits,
			exponent < 0 ? '-' : '+', abs(exponent));
	} else {
		snprintf(
			out, JFLOAT_BYTES, "%.*f", count > 0 ? count : 1, real);
	}
}

static void add_word(struct jbuilder *b, const char *word, bool trusted)
{
	jbuilder_add(b, word, strlen(word), trusted);
}

static void add_scalar(struct jbuilder *b, struct jvalue value)
{
	char text[JFLOAT_BYTES];

	switch (value.type) {
	case J_NONE:
		add_word(b, "None", value.trusted);
		break;
	case J_BOOL:
		add_word(b, value.boolean ? "True" : "False", value.trusted);
		break;
	case J_INT:
		snprintf(text, sizeof(text), "%" PRId64, value.integer);
		add_word(b, text, value.trusted);
		break;
	default:
		jformat_float(text, value.real);
		add_word(b, text, value.trusted);
		break;
	}
}

/* --- repr() -------------------------------------------------------------- */

static void add_escape(struct jbuilder *b, uint32_t point, bool trusted)
{
	char text[16];

	if (point == '\n' || point == '\r' || point == '\t')
		snprintf(text, sizeof(text), "\\%c",
			point == '\n'   ? 'n'
			: point == '\r' ? 'r'
					: 't');
	else if (point < 0x100)
		snprintf(text, sizeof(text), "\\x%02x", (unsigned)point);
	else if (point < 0x10000)
		snprintf(text, sizeof(text), "\\u%04x", (unsigned)point);
	else
		snprintf(text, sizeof(text), "\\U%08x", (unsigned)point);
	add_word(b, text, trusted);
}

static void repr_text(struct jbuilder *b, const struct jtext *text)
{
	bool single = memchr(text->bytes, '\'', text->length) != NULL;
	bool both = single && memchr(text->bytes, '"', text->length) != NULL;
	char quote = single && !both ? '"' : '\'';
	bool all_trusted = jtext_all_trusted(text);
	unsigned size;

	(void)jrun_charge_characters(b->run, text->length);
	if (text->markup)
		add_word(b, "Markup(", all_trusted);
	jbuilder_add(b, &quote, 1, all_trusted);
	for (size_t at = 0; at < text->length && !b->run->rc; at += size) {
		uint32_t point = jutf8_read(text->bytes, at, &size);
		bool trusted = jtext_trusted_at(text, at);

		if (point == (unsigned char)quote || point == '\\') {
			jbuilder_add(b, "\\", 1, trusted);
			jbuilder_add(b, text->bytes + at, 1, trusted);
		} else if (point == ' ' ||
			   (junicode_flags(point) & JU_PRINTABLE)) {
			jbuilder_add(b, text->bytes + at, size, trusted);
		} else {
			add_escape(b, point, trusted);
		}
	}
	jbuilder_add(b, &quote, 1, all_trusted);
	if (text->markup)
		add_word(b, ")", all_trusted);
}

static void repr_list(struct jbuilder *b, struct jvalue value)
{
	const struct jlist *list = value.list;
	bool is_list = value.type == J_LIST;

	add_word(b, is_list ? "[" : "(", true);
	for (size_t i = 0; i < list->count && jrun_charge(b->run, 1); i++) {
		if (i > 0)
			add_word(b, ", ", true);
		jformat_repr(b, list->items[i]);
	}
	if (!is_list && list->count == 1)
		add_word(b, ",", true);
	add_word(b, is_list ? "]" : ")", true);
}

static void repr_dict(struct jbuilder *b, const struct jdict *dict)
{
	add_word(b, "{", true);
	for (size_t i = 0; i < dict->count && jrun_charge(b->run, 1); i++) {
		if (i > 0)
			add_word(b, ", ", true);
		jformat_repr(b, dict->entries[i].key);
		add_word(b, ": ", true);
		jformat_repr(b, dict->entries[i].value);
	}
	add_word(b, "}", true);
}

static void repr_view(struct jbuilder *b, const struct jview *view)
{
	static const char *const names[] = {
		"dict_keys([", "dict_values([", "dict_items(["};

	add_word(b, names[view->kind], true);
	for (size_t i = 0; i < view->dict->count && jrun_charge(b->run, 1);
		i++) {
		if (i > 0)
			add_word(b, ", ", true);
		jformat_repr(b, jview_item(b->run, view->kind,
					&view->dict->entries[i]));
	}
	add_word(b, "])", true);
}

static void repr_range(struct jbuilder *b, const struct jrange *range)
{
	char text[80];

	if (range->step == 1)
		snprintf(text, sizeof(text), "range(%" PRId64 ", %" PRId64 ")",
			range->start, range->stop);
	else
		snprintf(text, sizeof(text),
			"range(%" PRId64 ", %" PRId64 ", %" PRId64 ")",
			range->start, range->stop, range->step);
	add_word(b, text, true);
}

static void repr_loop(struct jbuilder *b, struct jloop *loop)
{
	char text[80];
	size_t length = 0;

	(void)jloop_length(b->run, loop, &length);
	snprintf(text, sizeof(text), "<LoopContext %" PRId64 "/%zu>",
		loop->index0 + 1, length);
	add_word(b, text, true);
}

static void repr_macro(struct jbuilder *b, const struct jmacro *macro)
{
	const struct jname *name = macro->node->macro->name;

	add_word(b, "<Macro ", true);
	if (name)
		repr_text(b, &name->text);
	else
		add_word(b, "anonymous", true);
	add_word(b, ">", true);
}

static void repr_container(struct jbuilder *b, struct jvalue value)
{
	switch (value.type) {
	case J_LIST:
	case J_TUPLE:
		repr_list(b, value);
		break;
	case J_DICT:
		repr_dict(b, value.dict);
		break;
	case J_NAMESPACE:
		add_word(b, "<Namespace ", true);
		repr_dict(b, value.dict);
		add_word(b, ">", true);
		break;
	case J_VIEW:
		repr_view(b, value.view);
		break;
	case J_RANGE:
		repr_range(b, value.range);
		break;
	case J_MACRO:
		repr_macro(b, value.macro);
		break;
	case J_LOOP:
		repr_loop(b, value.loop);
		break;
	default:
		/* Python would print an address. */
		jrun_fail(b->run, EINVAL, "a %s cannot be printed",
			jvalue_type_name(value));
		break;
	}
}

void jformat_repr(struct jbuilder *b, struct jvalue value)
{
	if (!jrun_enter(b->run))
		return;
	switch (value.type) {
	case J_MISSING:
	case J_UNDEFINED:
		add_word(b, "Undefined", true);
		break;
	case J_NONE:
	case J_BOOL:
	case J_INT:
	case J_FLOAT:
		add_scalar(b, value);
		break;
	case J_TEXT:
		repr_text(b, value.text);
		break;
	default:
		repr_container(b, value);
		break;
	}
	jrun_leave(b->run);
}

void jformat_str(struct jbuilder *b, struct jvalue value)
{
	if (value.type == J_TEXT)
		jbuilder_add_text(b, value.text);
	else if (value.type != J_UNDEFINED && value.type != J_MISSING)
		jformat_repr(b, value);
}

struct jtext *jvalue_str(struct jrun *run, struct jvalue value)
{
	struct jbuilder b;
	struct jtext *text;

	if (value.type == J_TEXT && !value.text->markup)
		return value.text;
	if (value.type == J_TEXT) {
		text = jtext_part(run, value.text, 0, value.text->length);
		if (text)
			text->markup = false;
		return text;
	}
	jbuilder_init(&b, run);
	jformat_str(&b, value);
	return run->rc ? NULL : jbuilder_finish(&b);
}

/* --- JSON ---------------------------------------------------------------- */

struct json_style {
	const struct jtext *item; /* ", " */
	const struct jtext *colon; /* ": " */
	const struct jtext *indent; /* NULL: everything in one line */
	bool ascii, sorted;
};

static void json_value(struct jbuilder *b, const struct json_style *style,
	struct jvalue value, size_t level);

/* The parts that json.dumps adds are nobody's: they count as untrusted. */
static void json_word(struct jbuilder *b, const char *word)
{
	jbuilder_add(b, word, strlen(word), false);
}

static void json_part(struct jbuilder *b, const struct jtext *text)
{
	jbuilder_add(b, text->bytes, text->length, false);
}

static void json_point(
	struct jbuilder *b, uint32_t point, bool ascii, bool trusted)
{
	static const char from[] = "\"\\\n\r\t\f\b";
	static const char to[] = "\"\\nrtfb";
	const char *kind =
		point > 0 && point < 0x80 ? strchr(from, (int)point) : NULL;
	char text[16];

	if (kind) {
		snprintf(text, sizeof(text), "\\%c", to[kind - from]);
	} else if (point < 0x20 ||
		   (ascii && point >= 0x7f && point < 0x10000)) {
		snprintf(text, sizeof(text), "\\u%04x", (unsigned)point);
	} else if (ascii && point >= 0x10000) {
		snprintf(text, sizeof(text), "\\u%04x\\u%04x",
			(unsigned)(0xd800 + ((point - 0x10000) >> 10)),
			(unsigned)(0xdc00 + ((point - 0x10000) & 0x3ff)));
	} else {
		jbuilder_add_point(b, point, trusted);
		return;
	}
	add_word(b, text, trusted);
}

static void json_text(struct jbuilder *b, const struct json_style *style,
	const struct jtext *text)
{
	unsigned size;

	(void)jrun_charge_characters(b->run, text->length);
	json_word(b, "\"");
	for (size_t at = 0; at < text->length && !b->run->rc; at += size) {
		uint32_t point = jutf8_read(text->bytes, at, &size);

		json_point(b, point, style->ascii, jtext_trusted_at(text, at));
	}
	json_word(b, "\"");
}

static void json_scalar(struct jbuilder *b, struct jvalue value)
{
	char text[JFLOAT_BYTES];

	if (value.type == J_NONE) {
		json_word(b, "null");
	} else if (value.type == J_BOOL) {
		json_word(b, value.boolean ? "true" : "false");
	} else if (value.type == J_FLOAT && !isfinite(value.real)) {
		json_word(b, isnan(value.real) ? "NaN"
			     : value.real < 0  ? "-Infinity"
					       : "Infinity");
	} else if (value.type == J_FLOAT) {
		jformat_float(text, value.real);
		json_word(b, text);
	} else {
		snprintf(text, sizeof(text), "%" PRId64, value.integer);
		json_word(b, text);
	}
}

static void json_newline(
	struct jbuilder *b, const struct json_style *style, size_t level)
{
	if (!style->indent)
		return;
	json_word(b, "\n");
	for (size_t i = 0; i < level && jrun_charge(b->run, 1); i++)
		json_part(b, style->indent);
}

static void json_key(
	struct jbuilder *b, const struct json_style *style, struct jvalue key)
{
	if (key.type == J_TEXT) {
		json_text(b, style, key.text);
	} else if (key.type == J_NONE || jvalue_is_number(key)) {
		json_word(b, "\"");
		json_scalar(b, key);
		json_word(b, "\"");
	} else {
		jrun_fail(b->run, EINVAL, "tojson: a key that is a '%s'",
			jvalue_type_name(key));
	}
}

static void json_list(struct jbuilder *b, const struct json_style *style,
	const struct jlist *list, size_t level)
{
	if (list->count == 0) {
		json_word(b, "[]");
		return;
	}
	json_word(b, "[");
	for (size_t i = 0; i < list->count && jrun_charge(b->run, 1); i++) {
		if (i > 0)
			json_part(b, style->item);
		json_newline(b, style, level + 1);
		json_value(b, style, list->items[i], level + 1);
	}
	json_newline(b, style, level);
	json_word(b, "]");
}

/* The entries in the order of their keys. */
static const struct jentry *sorted_entries(
	struct jrun *run, const struct jdict *dict)
{
	struct jentry *entries =
		jrun_take_array(run, dict->count, sizeof(*entries));
	struct jvalue *keys = jrun_take_array(run, dict->count, sizeof(*keys));
	struct jvalue *values =
		jrun_take_array(run, dict->count, sizeof(*values));

	for (size_t i = 0; !run->rc && i < dict->count; i++) {
		keys[i] = dict->entries[i].key;
		values[i] = dict->entries[i].value;
	}
	if (!run->rc)
		jlist_sort(run, values, keys, dict->count, false);
	for (size_t i = 0; !run->rc && i < dict->count; i++)
		entries[i] = (struct jentry){keys[i], values[i], 0};
	return run->rc ? dict->entries : entries;
}

static void json_dict(struct jbuilder *b, const struct json_style *style,
	const struct jdict *dict, size_t level)
{
	const struct jentry *entries = dict->entries;

	if (dict->count == 0) {
		json_word(b, "{}");
		return;
	}
	if (style->sorted)
		entries = sorted_entries(b->run, dict);
	json_word(b, "{");
	for (size_t i = 0; i < dict->count && jrun_charge(b->run, 1); i++) {
		if (i > 0)
			json_part(b, style->item);
		json_newline(b, style, level + 1);
		json_key(b, style, entries[i].key);
		json_part(b, style->colon);
		json_value(b, style, entries[i].value, level + 1);
	}
	json_newline(b, style, level);
	json_word(b, "}");
}

static void json_value(struct jbuilder *b, const struct json_style *style,
	struct jvalue value, size_t level)
{
	if (!jrun_enter(b->run))
		return;
	switch (value.type) {
	case J_NONE:
	case J_BOOL:
	case J_INT:
	case J_FLOAT:
		json_scalar(b, value);
		break;
	case J_TEXT:
		json_text(b, style, value.text);
		break;
	case J_LIST:
	case J_TUPLE:
		json_list(b, style, value.list, level);
		break;
	case J_DICT:
		json_dict(b, style, value.dict, level);
		break;
	default:
		jrun_fail(b->run, EINVAL, "tojson of a '%s'",
			jvalue_type_name(value));
		break;
	}
	jrun_leave(b->run);
}

/* indent=4 or indent="\t"; none leaves everything in one line. */
static const struct jtext *json_indent(struct jrun *run, struct jvalue value)
{
	struct jtext space = {.bytes = " ", .length = 1, .points = 1};

	if (value.type == J_MISSING || value.type == J_NONE)
		return NULL;
	if (value.type == J_TEXT)
		return value.text;
	return jtext_repeat(run, &space, jarg_int(run, value, 0));
}

static void json_separators(
	struct jrun *run, struct jvalue value, struct json_style *style)
{
	struct jlist *pair;

	if (value.type == J_MISSING || value.type == J_NONE)
		return;
	pair = jiter_collect(run, value);
	if (pair && pair->count == 2) {
		style->item = jarg_text(run, pair->items[0]);
		style->colon = jarg_text(run, pair->items[1]);
	} else {
		jrun_fail(run, EINVAL, "tojson: separators are two strings");
	}
}

struct jvalue jformat_json(
	struct jrun *run, struct jvalue value, const struct jargs *args)
{
	static const char *const names[] = {
		"ensure_ascii", "indent", "separators", "sort_keys"};
	static const struct jsignature signature = {"tojson", names, 4, 0};
	static const struct jtext comma = {.bytes = ",", .length = 1};
	static const struct jtext comma_space = {.bytes = ", ", .length = 2};
	static const struct jtext colon_space = {.bytes = ": ", .length = 2};
	struct json_style style = {.item = &comma_space, .colon = &colon_space};
	struct jvalue values[4];
	struct jbuilder b;

	if (!jargs_bind(run, args, &signature, values))
		return value;
	style.ascii = jarg_bool(run, values[0], false);
	style.sorted = jarg_bool(run, values[3], false);
	style.indent = json_indent(run, values[1]);
	if (style.indent)
		style.item = &comma;
	json_separators(run, values[2], &style);
	if (run->rc)
		return value;
	jbuilder_init(&b, run);
	json_value(&b, &style, value, 0);
	return run->rc ? value : jtext_value(jbuilder_finish(&b));
}
