/* jinja_filters_text.c - filters on texts (value -> value) */
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

/* --- case and whitespace ------------------------------------------------- */

/* str(value), or the text itself with all that it knows. */
static struct jtext *soft_str(struct jrun *run, struct jvalue value)
{
	return value.type == J_TEXT ? value.text : jvalue_str(run, value);
}

static struct jvalue call_method(struct jrun *run, struct jvalue value,
	const struct jargs *args, const char *name)
{
	struct jtext *text = soft_str(run, value);
	struct jvalue method;
	struct jtext name_text = {.bytes = name, .length = strlen(name)};

	if (!text)
		return value;
	method = jvalue_own_attribute(run, jtext_value(text), &name_text);
	return jcall_value(run, method, args);
}

static struct jvalue filter_upper(
	struct jrun *run, struct jvalue value, const struct jargs *args)
{
	return call_method(run, value, args, "upper");
}

static struct jvalue filter_lower(
	struct jrun *run, struct jvalue value, const struct jargs *args)
{
	return call_method(run, value, args, "lower");
}

static struct jvalue filter_capitalize(
	struct jrun *run, struct jvalue value, const struct jargs *args)
{
	return call_method(run, value, args, "capitalize");
}

static struct jvalue filter_center(
	struct jrun *run, struct jvalue value, const struct jargs *args)
{
	SIGNATURE(signature, "center", 0, "width");
	struct jvalue width;
	struct jargs one = {.items = &width, .count = 1};

	if (!jargs_bind(run, args, &signature, &width))
		return value;
	if (width.type == J_MISSING)
		width = jvalue_int(80, true);
	return call_method(run, value, &one, "center");
}

static struct jvalue filter_trim(
	struct jrun *run, struct jvalue value, const struct jargs *args)
{
	SIGNATURE(signature, "trim", 0, "chars");
	struct jvalue chars;
	struct jtext *text, *set = NULL;

	if (!jargs_bind(run, args, &signature, &chars))
		return value;
	text = soft_str(run, value);
	if (chars.type != J_MISSING && chars.type != J_NONE)
		set = jarg_text(run, chars);
	if (run->rc)
		return value;
	return jtext_value(
		jtext_strip(run, text, set, JSTRIP_LEFT | JSTRIP_RIGHT));
}

static bool begins_word(uint32_t point)
{
	return point == '-' || point == '(' || point == '{' || point == '[' ||
	       point == '<' || (junicode_flags(point) & JU_SPACE);
}

/* Not str.title(): a word ends only at whitespace and opening brackets. */
static struct jvalue filter_title(
	struct jrun *run, struct jvalue value, const struct jargs *args)
{
	struct jtext *text;
	struct jbuilder out;
	bool first = true;
	unsigned size;
	size_t from;

	if (!jargs_none(run, args, "title"))
		return value;
	text = soft_str(run, value);
	if (!text)
		return value;
	jbuilder_init(&out, run);
	for (size_t at = 0; at < text->length && !run->rc;) {
		bool separator =
			begins_word(jutf8_read(text->bytes, at, &size));

		if (separator || first) {
			jbuilder_add_text(&out,
				jtext_recase(run,
					jtext_part(run, text, at, at + size),
					JCASE_UPPER));
			first = separator;
			at += size;
			continue;
		}
		for (from = at;
			at < text->length &&
			!begins_word(jutf8_read(text->bytes, at, &size));)
			at += size;
		jbuilder_add_text(
			&out, jtext_recase(run, jtext_part(run, text, from, at),
				      JCASE_LOWER));
	}
	return jtext_value(jbuilder_finish(&out));
}

static struct jvalue filter_replace(
	struct jrun *run, struct jvalue value, const struct jargs *args)
{
	SIGNATURE(signature, "replace", 2, "old", "new", "count");
	struct jvalue values[3];
	struct jtext *text, *from, *to;
	int64_t count = -1;

	if (!jargs_bind(run, args, &signature, values))
		return value;
	text = jvalue_str(run, value);
	from = jvalue_str(run, values[0]);
	to = jvalue_str(run, values[1]);
	if (values[2].type != J_NONE)
		count = jarg_int(run, values[2], -1);
	if (run->rc)
		return value;
	return jtext_value(jtext_replace(run, text, from, to, count));
}

static struct jtext *indentation(struct jrun *run, struct jvalue width)
{
	struct jtext space = {
		.bytes = " ", .length = 1, .points = 1, .trusted = true};

	if (width.type == J_TEXT)
		return width.text;
	return jtext_repeat(run, &space, jarg_int(run, width, 4));
}

static struct jvalue filter_indent(
	struct jrun *run, struct jvalue value, const struct jargs *args)
{
	SIGNATURE(signature, "indent", 0, "width", "first", "blank");
	struct jvalue values[3], lines;
	struct jtext *indent, *text,
		newline = {.bytes = "\n",
			.length = 1,
			.points = 1,
			.trusted = true};
	struct jbuilder out;
	bool first, blank;

	if (!jargs_bind(run, args, &signature, values))
		return value;
	if (value.type != J_TEXT)
		return jrun_bad(run, "'%s' cannot be indented",
			jvalue_type_name(value));
	if (value.text->markup)
		return jrun_bad(run, "indent of escaped text is not supported");
	indent = indentation(run, values[0]);
	first = jarg_bool(run, values[1], false);
	blank = jarg_bool(run, values[2], false);
	/* As there: a line end more, so that the last line counts. */
	newline.trusted = jtext_all_trusted(value.text);
	text = run->rc ? NULL : jtext_concat(run, value.text, &newline);
	if (!text)
		return value;
	lines = jtext_split_lines(run, text, false);
	if (run->rc)
		return value;
	jbuilder_init(&out, run);
	for (size_t i = 0; i < lines.list->count && !run->rc; i++) {
		struct jtext *line = lines.list->items[i].text;

		if (i > 0)
			jbuilder_add_text(&out, &newline);
		if (i == 0 ? first : blank || line->length > 0)
			jbuilder_add_text(&out, indent);
		jbuilder_add_text(&out, line);
	}
	return jtext_value(jbuilder_finish(&out));
}

static struct jvalue filter_truncate(
	struct jrun *run, struct jvalue value, const struct jargs *args)
{
	SIGNATURE(signature, "truncate", 0, "length", "killwords", "end",
		"leeway");
	struct jvalue values[4], cut;
	struct jtext dots = {
		.bytes = "...", .length = 3, .points = 3, .trusted = true};
	struct jtext *end = &dots, space = {.bytes = " ", .length = 1};
	int64_t length, leeway = 5, points, end_points;
	size_t size;

	if (!jargs_bind(run, args, &signature, values))
		return value;
	length = jarg_int(run, values[0], 255);
	if (values[2].type != J_MISSING)
		end = jarg_text(run, values[2]);
	if (values[3].type != J_NONE)
		leeway = jarg_int(run, values[3], 5);
	if (run->rc || !jvalue_length(run, value, &size))
		return jrun_bad(run, "'%s' cannot be truncated",
			jvalue_type_name(value));
	points = (int64_t)size;
	end_points = (int64_t)jtext_points(run, end);
	if (length < end_points || leeway < 0)
		return jrun_bad(run, "truncate: a length that is too small");
	if (points <= length || points - length <= leeway)
		return value;
	if (value.type != J_TEXT)
		return jrun_bad(run, "'%s' cannot be truncated",
			jvalue_type_name(value));
	cut = jtext_slice(run, value.text, 0, 1, (size_t)(length - end_points));
	if (!run->rc && !jarg_bool(run, values[1], false)) {
		size_t at = cut.text->length;

		while (at > 0 && cut.text->bytes[at - 1] != space.bytes[0])
			at--;
		if (at > 0)
			cut = jtext_value(jtext_part(run, cut.text, 0, at - 1));
	}
	return run->rc ? value : jtext_value(jtext_concat(run, cut.text, end));
}

static struct jvalue filter_wordcount(
	struct jrun *run, struct jvalue value, const struct jargs *args)
{
	struct jtext *text;
	int64_t count = 0;
	bool inside = false;
	unsigned size;

	if (!jargs_none(run, args, "wordcount"))
		return value;
	text = soft_str(run, value);
	if (!text || !jrun_charge_characters(run, text->length))
		return value;
	for (size_t at = 0; at < text->length; at += size) {
		uint32_t point = jutf8_read(text->bytes, at, &size);
		bool word = point == '_' ||
			    (junicode_flags(point) &
				    (JU_ALPHA | JU_DIGIT | JU_DECIMAL |
					    JU_NUMERIC));

		count += word && !inside;
		inside = word;
	}
	return jvalue_int(count, jtext_all_trusted(text));
}

/* --- numbers ------------------------------------------------------------- */

/* An integer in a base, as int(text, base) reads it. */
static bool parse_int(
	struct jrun *run, const struct jtext *text, int base, int64_t *out)
{
	const char *bytes = text->bytes;
	size_t at = 0, digits = 0;
	bool negative = false, underscore = false, leading;
	int64_t value = 0;

	if (at < text->length && (bytes[at] == '+' || bytes[at] == '-'))
		negative = bytes[at++] == '-';
	if (text->length - at > 1 && bytes[at] == '0') {
		char kind = (char)(bytes[at + 1] | 0x20);
		int own = kind == 'x'   ? 16
			  : kind == 'o' ? 8
			  : kind == 'b' ? 2
					: 0;

		if (own && (base == 0 || base == own)) {
			base = own;
			at += 2;
			at += at < text->length && bytes[at] == '_';
		}
	}
	leading = base == 0 && at < text->length && bytes[at] == '0';
	base = base ? base : 10;
	for (; at < text->length; at++) {
		char c = bytes[at];
		int digit = c >= '0' && c <= '9' ? c - '0'
			    : (c | 0x20) >= 'a' && (c | 0x20) <= 'z'
				    ? (c | 0x20) - 'a' + 10
				    : 99;

		if (c == '_' && digits > 0 && !underscore) {
			underscore = true;
			continue;
		}
		if (digit >= base)
			return false;
		if (leading && digit > 0)
			return false; /* 010 is neither octal nor decimal */
		underscore = false;
		digits++;
		if (__builtin_mul_overflow(value, base, &value) ||
			__builtin_sub_overflow(value, digit, &value)) {
			jrun_fail(run, EINVAL, "an integer exceeds 64 bits");
			return false;
		}
	}
	if (digits == 0 || underscore)
		return false;
	if (!negative && __builtin_sub_overflow(0, value, &value))
		jrun_fail(run, EINVAL, "an integer exceeds 64 bits");
	*out = value;
	return true;
}

static bool is_word(const char *text, const char *word)
{
	for (; *word; text++, word++)
		if ((*text | 0x20) != *word)
			return false;
	return *text == '\0';
}

/* A float as float(text) reads it. */
static bool parse_float(const struct jtext *text, double *out)
{
	char digits[512], *end;
	size_t count = 0;

	for (size_t i = 0; i < text->length; i++) {
		char c = text->bytes[i];

		if (count + 1 == sizeof(digits))
			return false;
		if (c == '_' && i > 0 && i + 1 < text->length &&
			text->bytes[i - 1] >= '0' &&
			text->bytes[i - 1] <= '9' &&
			text->bytes[i + 1] >= '0' && text->bytes[i + 1] <= '9')
			continue;
		digits[count++] = c;
	}
	digits[count] = '\0';
	if (count == 0)
		return false;
	end = digits + (digits[0] == '+' || digits[0] == '-');
	if (is_word(end, "inf") || is_word(end, "infinity")) {
		*out = digits[0] == '-' ? -INFINITY : INFINITY;
		return true;
	}
	if (is_word(end, "nan")) {
		*out = NAN;
		return true;
	}
	if (strspn(digits, "0123456789+-.eE") != count)
		return false;
	*out = strtod(digits, &end);
	return *end == '\0' && end != digits;
}

static struct jtext *stripped(struct jrun *run, const struct jtext *text)
{
	return jtext_strip(run, text, NULL, JSTRIP_LEFT | JSTRIP_RIGHT);
}

/* int(real): false where Python raises what the filter catches. */
static bool truncate_real(struct jrun *run, double real, int64_t *out)
{
	if (isnan(real))
		return false;
	if (!(real > -JINT_END && real < JINT_END)) {
		if (isfinite(real))
			jrun_fail(run, EINVAL, "an integer exceeds 64 bits");
		return false;
	}
	*out = (int64_t)real;
	return true;
}

static struct jvalue filter_int(
	struct jrun *run, struct jvalue value, const struct jargs *args)
{
	SIGNATURE(signature, "int", 0, "default", "base");
	struct jvalue values[2], fallback = jvalue_int(0, true);
	const struct jtext *text;
	int64_t base, integer;
	double real;

	if (!jargs_bind(run, args, &signature, values))
		return value;
	base = jarg_int(run, values[1], 10);
	if (values[0].type != J_MISSING)
		fallback = values[0];
	if (jvalue_to_index(value, &integer))
		return jvalue_int(integer, value.trusted);
	if (value.type == J_UNDEFINED)
		return jrun_bad(run, "int of an undefined value");
	if (value.type == J_FLOAT) {
		if (isinf(value.real))
			return jrun_bad(run, "int of an infinite number");
		if (truncate_real(run, value.real, &integer))
			return jvalue_int(integer, value.trusted);
		return fallback;
	}
	if (run->rc || value.type != J_TEXT)
		return fallback;
	text = stripped(run, value.text);
	if (!text || base < 0 || base == 1 || base > 36)
		return fallback;
	if (parse_int(run, text, (int)base, &integer) ||
		(!run->rc && parse_float(text, &real) &&
			truncate_real(run, real, &integer)))
		return jvalue_int(integer, jtext_all_trusted(text));
	return fallback;
}

static struct jvalue filter_float(
	struct jrun *run, struct jvalue value, const struct jargs *args)
{
	SIGNATURE(signature, "float", 0, "default");
	struct jvalue fallback;
	const struct jtext *text;
	int64_t integer;
	double real;

	if (!jargs_bind(run, args, &signature, &fallback))
		return value;
	if (fallback.type == J_MISSING)
		fallback = jvalue_float(0, true);
	if (jvalue_to_index(value, &integer))
		return jvalue_float((double)integer, value.trusted);
	if (value.type == J_FLOAT)
		return value;
	if (value.type == J_UNDEFINED)
		return jrun_bad(run, "float of an undefined value");
	text = value.type == J_TEXT ? stripped(run, value.text) : NULL;
	if (text && parse_float(text, &real))
		return jvalue_float(real, jtext_all_trusted(text));
	return fallback;
}

/* --- formats ------------------------------------------------------------- */

static struct jvalue filter_format(
	struct jrun *run, struct jvalue value, const struct jargs *args)
{
	struct jtext *text = soft_str(run, value);
	struct jlist *list;
	struct jdict *dict;

	if (!text)
		return value;
	if (text->markup)
		return jrun_bad(run, "format of escaped text is not supported");
	if (args->count > 0 && args->keyword_count > 0)
		return jrun_bad(run, "format: positions or keywords, not both");
	if (args->keyword_count > 0) {
		dict = jdict_make(run);
		for (size_t i = 0; dict && i < args->keyword_count; i++)
			jdict_set(run, dict,
				jtext_name_value(run, args->keywords[i].name),
				args->keywords[i].value);
		return jprintf_percent(run, text,
			(struct jvalue){.type = J_DICT, .dict = dict});
	}
	list = jlist_make(run, args->count);
	for (size_t i = 0; list && i < args->count; i++)
		jlist_add(run, list, args->items[i]);
	return run->rc ? value : jprintf_percent(run, text, jvalue_tuple(list));
}

static struct jvalue filter_escape(
	struct jrun *run, struct jvalue value, const struct jargs *args)
{
	struct jtext *text;

	if (!jargs_none(run, args, "escape"))
		return value;
	text = soft_str(run, value);
	if (!text || text->markup)
		return jtext_value(text);
	return jtext_value(jtext_escape(run, text));
}

static struct jvalue filter_forceescape(
	struct jrun *run, struct jvalue value, const struct jargs *args)
{
	struct jtext *text;

	if (!jargs_none(run, args, "forceescape"))
		return value;
	text = jvalue_str(run, value);
	return text ? jtext_value(jtext_escape(run, text)) : value;
}

static struct jvalue filter_safe(
	struct jrun *run, struct jvalue value, const struct jargs *args)
{
	struct jtext *text, *safe;

	if (!jargs_none(run, args, "safe"))
		return value;
	text = soft_str(run, value);
	safe = text ? jtext_part(run, text, 0, text->length) : NULL;
	if (safe)
		safe->markup = true;
	return jtext_value(safe);
}

static void add_quoted(
	struct jbuilder *out, const struct jtext *text, bool for_query)
{
	static const char hex[] = "0123456789ABCDEF";

	for (size_t i = 0; text && i < text->length && !out->run->rc; i++) {
		unsigned char c = (unsigned char)text->bytes[i];
		bool trusted = jtext_trusted_at(text, i);
		char escaped[3] = {'%', hex[c >> 4], hex[c & 15]};
		bool plain = c < 0x80 &&
			     (strchr("_.-~", c) || (c >= '0' && c <= '9') ||
				     ((c | 0x20) >= 'a' && (c | 0x20) <= 'z'));

		if (c == 0)
			plain = false;
		if (for_query && c == ' ')
			jbuilder_add(out, "+", 1, trusted);
		else if (plain || (c == '/' && !for_query))
			jbuilder_add(out, text->bytes + i, 1, trusted);
		else
			jbuilder_add(out, escaped, 3, trusted);
	}
}

static struct jvalue filter_urlencode(
	struct jrun *run, struct jvalue value, const struct jargs *args)
{
	struct jbuilder out;
	struct jiter *iter;
	struct jvalue item;
	bool first = true;

	if (!jargs_none(run, args, "urlencode"))
		return value;
	jbuilder_init(&out, run);
	if (value.type == J_TEXT || !jvalue_is_iterable(value)) {
		add_quoted(&out, jvalue_str(run, value), false);
		return jtext_value(jbuilder_finish(&out));
	}
	iter = value.type == J_DICT ? jiter_make(run, JITER_ITEMS, value)
				    : jiter_open(run, value);
	while (jiter_next(run, iter, &item)) {
		struct jlist *pair = jiter_collect(run, item);

		if (!pair || pair->count != 2)
			return jrun_bad(run, "urlencode: not a pair");
		if (!first)
			jbuilder_add(&out, "&", 1, true);
		add_quoted(&out, jvalue_str(run, pair->items[0]), true);
		jbuilder_add(&out, "=", 1, true);
		add_quoted(&out, jvalue_str(run, pair->items[1]), true);
		first = false;
	}
	return run->rc ? value : jtext_value(jbuilder_finish(&out));
}

/*
 * Published templates name these in branches for other engines; Jinja2 lets
 * them load and fails when such a branch runs, and so do we.
 */
static struct jvalue filter_absent(
	struct jrun *run, struct jvalue value, const struct jargs *args)
{
	(void)value;
	(void)args;
	return jrun_bad(run,
		"Jinja2 has no filter from_json: what is to be "
		"parsed, such as a tool call's arguments, must be given as an "
		"object");
}

const struct jfilter jfilters_of_texts[] = {{"from_json", filter_absent},
	{"fromjson", filter_absent}, {"trim", filter_trim},
	{"upper", filter_upper}, {"lower", filter_lower},
	{"capitalize", filter_capitalize}, {"title", filter_title},
	{"center", filter_center}, {"replace", filter_replace},
	{"indent", filter_indent}, {"truncate", filter_truncate},
	{"wordcount", filter_wordcount}, {"int", filter_int},
	{"float", filter_float}, {"format", filter_format},
	{"escape", filter_escape}, {"e", filter_escape},
	{"forceescape", filter_forceescape}, {"safe", filter_safe},
	{"urlencode", filter_urlencode}, {"striptags", NULL}, {"urlize", NULL},
	{"wordwrap", NULL}, {"xmlattr", NULL}};

const size_t jfilter_of_texts_count = COUNT_OF(jfilters_of_texts);

const struct jfilter *jfilter_find(const struct jtext *name)
{
	for (size_t i = 0; i < jfilter_of_lists_count; i++)
		if (jtext_is(name, jfilters_of_lists[i].name))
			return &jfilters_of_lists[i];
	for (size_t i = 0; i < jfilter_of_texts_count; i++)
		if (jtext_is(name, jfilters_of_texts[i].name))
			return &jfilters_of_texts[i];
	return NULL;
}
