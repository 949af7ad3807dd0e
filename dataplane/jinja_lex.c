/* jinja_lex.c - a template's text cut into tokens (source -> tokens) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Follows Jinja2's lexer rule by rule: data up to the next tag, with the
 * whitespace that "-", trim_blocks and lstrip_blocks take away already gone;
 * inside of tags numbers, names, strings and operators, where a closing
 * delimiter counts only when all brackets are closed.
 */
#include <assert.h>
#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "dataplane/jinja_tree.h"

void *jcompile_fail(struct jcompiler *c, uint32_t line, uint32_t column,
	const char *format, ...)
{
	va_list args;

	if (c->rc)
		return NULL;
	va_start(args, format);
	c->rc = error_setv(c->err, EINVAL, format, args);
	va_end(args);
	error_prefix(c->err, "%s:%u:%u", c->template_name, line, column);
	return NULL;
}

void *jcompile_take(struct jcompiler *c, size_t size_bytes)
{
	void *block = c->rc ? NULL : jarena_take(c->arena, size_bytes);

	if (block) {
		memset(block, 0, size_bytes);
	} else if (!c->rc) {
		c->rc = error_set(c->err, ENOMEM,
			c->arena->out_of_memory
				? "%s: out of memory while the template is read"
				: "%s: the template is too large or too nested",
			c->template_name);
	}
	return block;
}

struct jname *jcompile_name(
	struct jcompiler *c, const char *text, size_t length)
{
	uint32_t hash = 2166136261u; /* FNV-1a */
	struct jname **slot;
	struct jname *name;

	for (size_t i = 0; i < length; i++)
		hash = (hash ^ (unsigned char)text[i]) * 16777619u;
	slot = &c->names[hash % COUNT_OF(c->names)];
	for (name = *slot; name; name = name->next)
		if (name->text.length == length &&
			memcmp(name->text.bytes, text, length) == 0)
			return name;
	if (c->name_count >= JINJA_NAME_COUNT_MAX)
		return jcompile_fail(c, c->line, 1,
			"more than %d different names", JINJA_NAME_COUNT_MAX);
	name = jcompile_take(c, sizeof(*name));
	if (!name)
		return NULL;
	name->text = (struct jtext){.bytes = text,
		.length = length,
		.points = SIZE_MAX,
		.trusted = true};
	/* The tree is shared by threads, so nothing in it is counted later. */
	name->text.points = 0;
	for (size_t i = 0; i < length; i++)
		name->text.points += ((unsigned char)text[i] & 0xc0) != 0x80;
	name->next = *slot;
	*slot = name;
	c->name_count++;
	return name;
}

/* Line and column (in characters, from 1) of byte `at`, which never falls. */
static void place(struct jcompiler *c, size_t at, struct jtoken *token)
{
	for (; c->placed < at; c->placed++) {
		unsigned char byte = (unsigned char)c->source[c->placed];

		c->column += (byte & 0xc0) != 0x80;
		if (byte == '\n') {
			c->line++;
			c->column = 1;
		}
	}
	token->line = c->line;
	token->column = c->column;
}

static void *fail_at(struct jcompiler *c, size_t at, const char *what)
{
	struct jtoken token;

	place(c, at, &token);
	return jcompile_fail(c, token.line, token.column, "%s", what);
}

static struct jtoken *token_add(
	struct jcompiler *c, enum jtoken_kind kind, size_t at)
{
	struct jtoken *token;

	if (c->token_count == c->token_capacity) {
		size_t capacity =
			c->token_capacity ? 2 * c->token_capacity : 256;
		struct jtoken *larger =
			c->rc ? NULL
			      : jarena_grow(c->arena, c->tokens,
					c->token_count * sizeof(*larger),
					capacity * sizeof(*larger));

		if (!larger) {
			(void)jcompile_take(c, SIZE_MAX / 2);
			return NULL;
		}
		c->tokens = larger;
		c->token_capacity = capacity;
	}
	token = &c->tokens[c->token_count++];
	*token = (struct jtoken){.kind = (uint8_t)kind};
	place(c, at, token);
	return token;
}

static bool is_space_at(const struct jcompiler *c, size_t at, unsigned *size)
{
	return at < c->length &&
	       (junicode_flags(jutf8_read(c->source, at, size)) & JU_SPACE);
}

static size_t skip_space(const struct jcompiler *c, size_t at)
{
	unsigned size;

	while (is_space_at(c, at, &size))
		at += size;
	return at;
}

/* Where the whitespace before `end` begins, not before `from`. */
static size_t space_before(const struct jcompiler *c, size_t from, size_t end)
{
	while (end > from) {
		size_t at = end - 1;
		unsigned size;

		while (at > from &&
			((unsigned char)c->source[at] & 0xc0) == 0x80)
			at--;
		if (!is_space_at(c, at, &size))
			break;
		end = at;
	}
	return end;
}

static bool looking_at(const struct jcompiler *c, size_t at, const char *text)
{
	size_t length = strlen(text);

	return c->length - at >= length &&
	       memcmp(c->source + at, text, length) == 0;
}

static void add_data(struct jcompiler *c, size_t from, size_t to)
{
	struct jtoken *token;

	if (from == to)
		return;
	token = token_add(c, JT_DATA, from);
	if (!token)
		return;
	token->text = (struct jtext){.bytes = c->source + from,
		.length = to - from,
		.trusted = true};
	for (size_t i = from; i < to; i++)
		token->text.points +=
			((unsigned char)c->source[i] & 0xc0) != 0x80;
}

/*
 * The data [from, to) that stands before a tag: `sign` is the tag's '-', '+'
 * or 0; a print tag is never stripped by lstrip_blocks.
 */
static size_t data_end(const struct jcompiler *c, size_t from, size_t to,
	char sign, bool print)
{
	size_t line = to, space;

	if (sign == '-')
		return space_before(c, from, to);
	if (sign == '+' || print)
		return to;
	while (line > from && c->source[line - 1] != '\n')
		line--;
	if (line == from && !c->line_starting)
		return to;
	space = space_before(c, line, to);
	return space == line ? line : to;
}

/* After "%}" or "#}": trim_blocks drops one newline, "-" all whitespace. */
static bool tag_end(struct jcompiler *c, size_t *at, const char *close)
{
	size_t from = *at;

	if (looking_at(c, from, "-") && looking_at(c, from + 1, close)) {
		*at = skip_space(c, from + 1 + strlen(close));
	} else if (looking_at(c, from, "+") && looking_at(c, from + 1, close) &&
		   close[0] != '}') {
		*at = from + 1 + strlen(close);
	} else if (looking_at(c, from, close)) {
		*at = from + strlen(close);
		if (close[0] != '}' && looking_at(c, *at, "\n"))
			++*at;
	} else {
		return false;
	}
	c->line_starting = c->source[*at - 1] == '\n';
	return true;
}

static char sign_at(const struct jcompiler *c, size_t at)
{
	if (at < c->length && (c->source[at] == '-' || c->source[at] == '+'))
		return c->source[at];
	return '\0';
}

/* "{% raw %}" at `at`: the offset behind it, or 0. */
static size_t raw_begin(const struct jcompiler *c, size_t at)
{
	at += 2;
	at += sign_at(c, at) != '\0';
	at = skip_space(c, at);
	if (!looking_at(c, at, "raw"))
		return 0;
	at = skip_space(c, at + 3);
	if (looking_at(c, at, "-%}"))
		return skip_space(c, at + 3);
	return looking_at(c, at, "%}") ? at + 2 : 0;
}

/* The end tag of a raw block that begins at `at`: its end, or 0. */
static size_t raw_end(struct jcompiler *c, size_t at)
{
	at += 2;
	at += sign_at(c, at) != '\0';
	at = skip_space(c, at);
	if (!looking_at(c, at, "endraw"))
		return 0;
	at = skip_space(c, at + 6);
	return tag_end(c, &at, "%}") ? at : 0;
}

static void lex_raw(struct jcompiler *c, size_t start)
{
	for (size_t at = c->at; at < c->length; at++) {
		bool starting = c->line_starting;
		size_t end = looking_at(c, at, "{%") ? raw_end(c, at) : 0;
		bool ending = c->line_starting;

		if (!end)
			continue;
		c->line_starting = starting;
		add_data(c, c->at,
			data_end(c, c->at, at, sign_at(c, at + 2), false));
		c->line_starting = ending;
		c->at = end;
		return;
	}
	fail_at(c, start, "the raw block has no end");
}

static void lex_comment(struct jcompiler *c, size_t start)
{
	for (size_t at = c->at; at < c->length; at++) {
		size_t end = at;

		if (tag_end(c, &end, "#}")) {
			c->at = end;
			return;
		}
	}
	fail_at(c, start, "the comment has no end");
}

/* --- inside of tags ------------------------------------------------------ */

static bool is_digit_of(char c, int base)
{
	if (base <= 10)
		return c >= '0' && c < '0' + base;
	return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') ||
	       (c >= 'A' && c <= 'F');
}

/* Digits with single underscores between them: the offset behind. */
static size_t digits_end(const struct jcompiler *c, size_t at, int base)
{
	size_t end = at;

	while (at < c->length && is_digit_of(c->source[at], base)) {
		end = ++at;
		if (at < c->length && c->source[at] == '_')
			at++;
	}
	return end;
}

/* The end of a float at `at`, or 0 when it is none. */
static size_t float_end(const struct jcompiler *c, size_t at)
{
	size_t whole = digits_end(c, at, 10), end = whole, exponent;

	if (whole == at || (at > 0 && c->source[at - 1] == '.'))
		return 0;
	if (looking_at(c, whole, ".") &&
		digits_end(c, whole + 1, 10) > whole + 1)
		end = digits_end(c, whole + 1, 10);
	if (end < c->length && (c->source[end] | 0x20) == 'e') {
		exponent = end + 1 + (sign_at(c, end + 1) != '\0');
		if (digits_end(c, exponent, 10) > exponent)
			return digits_end(c, exponent, 10);
	}
	return end > whole ? end : 0;
}

static void lex_float(struct jcompiler *c, size_t end)
{
	struct jtoken *token = token_add(c, JT_FLOAT, c->at);
	char digits[512];
	size_t count = 0;

	for (size_t i = c->at; i < end && count + 1 < sizeof(digits); i++)
		if (c->source[i] != '_')
			digits[count++] = c->source[i];
	digits[count] = '\0';
	if (end - c->at >= sizeof(digits)) {
		fail_at(c, c->at, "the number is too long");
	} else if (token) {
		token->real = strtod(digits, NULL);
		if (isinf(token->real))
			fail_at(c, c->at, "the number is too large");
	}
	c->at = end;
}

/* The base of the integer at *at, and *at moved behind its prefix. */
static int int_base(const struct jcompiler *c, size_t *at)
{
	size_t first = *at + 2;
	int base, kind;

	if (c->source[*at] != '0')
		return 10;
	kind = first <= c->length ? c->source[*at + 1] | 0x20 : 0;
	base = kind == 'x' ? 16 : kind == 'o' ? 8 : kind == 'b' ? 2 : 1;
	if (first < c->length && c->source[first] == '_')
		first++;
	if (base == 1 || digits_end(c, first, base) == first)
		return 1; /* only zeros belong to the number */
	*at = first;
	return base;
}

static void lex_int(struct jcompiler *c)
{
	struct jtoken *token = token_add(c, JT_INT, c->at);
	size_t at = c->at, end;
	int64_t value = 0;
	int base = int_base(c, &at);

	end = digits_end(c, at, base);
	for (size_t i = at; i < end; i++) {
		char d = c->source[i];
		int digit = d <= '9' ? d - '0' : (d | 0x20) - 'a' + 10;

		if (d == '_')
			continue;
		if (__builtin_mul_overflow(value, base, &value) ||
			__builtin_add_overflow(value, digit, &value)) {
			fail_at(c, c->at, "the integer exceeds 64 bits");
			return;
		}
	}
	if (token)
		token->integer = value;
	c->at = end;
}

static bool is_name_point(uint32_t point, bool first)
{
	if (point < 0x80)
		return point == '_' || (point | 0x20) - 'a' < 26u ||
		       (!first && point - '0' < 10u);
	return junicode_flags(point) &
	       (first ? JU_ALPHA : JU_ALPHA | JU_DECIMAL);
}

static bool lex_name(struct jcompiler *c)
{
	size_t at = c->at;
	struct jtoken *token;

	while (at < c->length) {
		unsigned size;
		uint32_t point = jutf8_read(c->source, at, &size);

		if (!is_name_point(point, at == c->at))
			break;
		at += size;
	}
	if (at == c->at)
		return false;
	token = token_add(c, JT_NAME, c->at);
	if (token)
		token->name = jcompile_name(c, c->source + c->at, at - c->at);
	c->at = at;
	return true;
}

static int hex_digits(const struct jcompiler *c, size_t at, size_t count,
	size_t end, uint32_t *out)
{
	*out = 0;
	for (size_t i = at; i < at + count; i++) {
		char d = c->source[i];

		if (i >= end || !is_digit_of(d, 16))
			return -EINVAL;
		*out = *out << 4 |
		       (uint32_t)(d <= '9' ? d - '0' : (d | 0x20) - 'a' + 10);
	}
	return 0;
}

/* A numeric escape whose letter is at `at`; returns the bytes consumed. */
static size_t numeric_escape(
	struct jcompiler *c, size_t at, size_t end, uint32_t *out)
{
	char kind = c->source[at];
	size_t count = kind == 'x' ? 2 : kind == 'u' ? 4 : 8;

	if (kind >= '0' && kind <= '7') {
		count = 0;
		*out = 0;
		while (count < 3 && at + count < end &&
			is_digit_of(c->source[at + count], 8))
			*out = *out * 8 +
			       (uint32_t)(c->source[at + count++] - '0');
		return count;
	}
	if (hex_digits(c, at + 1, count, end, out))
		fail_at(c, at - 1, "a broken escape in a string");
	else if (*out > 0x10ffff || (*out >= 0xd800 && *out <= 0xdfff))
		fail_at(c, at - 1, "an escape that is no character");
	return count + 1;
}

/*
 * A backslash before a character outside ASCII: Python reads the string
 * as ASCII in which that character is itself an escape, so its backslash
 * is eaten and its digits stay.
 */
static size_t wide_escape(
	struct jcompiler *c, size_t at, char *out, size_t *out_length)
{
	unsigned size;
	uint32_t point = jutf8_read(c->source, at, &size);
	int digits = point < 0x100 ? 2 : point < 0x10000 ? 4 : 8;

	out[(*out_length)++] = '\\';
	out[(*out_length)++] = "xxuuU"[digits / 2];
	for (int shift = 4 * (digits - 1); shift >= 0; shift -= 4)
		out[(*out_length)++] = "0123456789abcdef"[point >> shift & 15];
	return size;
}

/* The escape behind the backslash at `at`; returns the bytes consumed. */
static size_t lex_escape(struct jcompiler *c, size_t at, size_t end, char *out,
	size_t *out_length)
{
	static const char from[] = "\\'\"abfnrtv";
	static const char to[] = "\\'\"\a\b\f\n\r\t\v";
	char kind = c->source[at + 1];
	const char *simple = strchr(from, kind);
	uint32_t point;
	size_t used;

	if (kind == '\n')
		return 2;
	if (simple && kind) {
		out[(*out_length)++] = to[simple - from];
		return 2;
	}
	if (kind == 'N') {
		fail_at(c, at, "\\N{...} is not supported in strings");
		return 2;
	}
	if (kind == 'x' || kind == 'u' || kind == 'U' ||
		(kind >= '0' && kind <= '7')) {
		used = numeric_escape(c, at + 1, end, &point);
		if (!c->rc)
			*out_length += jutf8_write(out + *out_length, point);
		return 1 + used;
	}
	if ((unsigned char)kind >= 0x80)
		return 1 + wide_escape(c, at + 1, out, out_length);
	out[(*out_length)++] = '\\';
	return 1;
}

/* Text between quotes, unescaped. The result is never longer than 3 x. */
static void unescape(
	struct jcompiler *c, size_t from, size_t to, struct jtoken *token)
{
	char *out;
	size_t length = 0, points = 0;

	if (!memchr(c->source + from, '\\', to - from)) {
		out = NULL;
		length = to - from;
	} else {
		out = jcompile_take(c, 5 * (to - from));
		for (size_t at = from; out && at < to && !c->rc;) {
			if (c->source[at] == '\\')
				at += lex_escape(c, at, to, out, &length);
			else
				out[length++] = c->source[at++];
		}
	}
	token->text = (struct jtext){.bytes = out ? out : c->source + from,
		.length = length,
		.trusted = true};
	for (size_t i = 0; i < length; i++)
		points += ((unsigned char)token->text.bytes[i] & 0xc0) != 0x80;
	token->text.points = points;
}

static bool lex_string(struct jcompiler *c)
{
	char quote = c->source[c->at];
	size_t at = c->at + 1;
	struct jtoken *token;

	while (at < c->length && c->source[at] != quote)
		at += c->source[at] == '\\' ? 2 : 1;
	if (at >= c->length)
		return false;
	token = token_add(c, JT_TEXT, c->at);
	if (token)
		unescape(c, c->at + 1, at, token);
	c->at = at + 1;
	return true;
}

static void lex_bracket(struct jcompiler *c, char bracket)
{
	static const char open[] = "([{", close[] = ")]}";
	const char *kind = strchr(open, bracket);

	if (kind && *kind) {
		if (c->bracket_count == COUNT_OF(c->brackets))
			fail_at(c, c->at, "the brackets are too nested");
		else
			c->brackets[c->bracket_count++] = close[kind - open];
	} else if (strchr(close, bracket)) {
		if (c->bracket_count == 0 ||
			c->brackets[--c->bracket_count] != bracket)
			fail_at(c, c->at, "a bracket that closes nothing");
	}
}

static bool lex_operator(struct jcompiler *c)
{
	static const char *const pairs[] = {"//", "**", "==", "!=", ">=", "<="};
	char first = c->source[c->at], second = '\0';
	struct jtoken *token;

	for (size_t i = 0; i < COUNT_OF(pairs); i++)
		if (looking_at(c, c->at, pairs[i]))
			second = pairs[i][1];
	if (!second && (!first || !strchr("+-/*%~[](){}><=.:|,;", first)))
		return false;
	lex_bracket(c, first);
	token = token_add(c, JT_OPERATOR, c->at);
	if (token)
		token->op = JOP(first, second);
	c->at += second ? 2 : 1;
	return true;
}

/* One token inside of a tag, no whitespace before it. */
static void lex_inside(struct jcompiler *c)
{
	char first = c->source[c->at];
	size_t end;

	if (first >= '0' && first <= '9') {
		end = float_end(c, c->at);
		if (end)
			lex_float(c, end);
		else
			lex_int(c);
		return;
	}
	if (lex_name(c))
		return;
	if ((first == '\'' || first == '"') && lex_string(c))
		return;
	if (!lex_operator(c))
		fail_at(c, c->at, "an unexpected character");
}

/* The inside of "{{ }}" or "{% %}", whose begin token is already there. */
static void lex_tag(struct jcompiler *c, bool print)
{
	const char *close = print ? "}}" : "%}";

	c->bracket_count = 0;
	while (!c->rc && (c->at = skip_space(c, c->at)) < c->length) {
		size_t end = c->at;

		if (c->bracket_count == 0 && tag_end(c, &end, close)) {
			token_add(c, print ? JT_VARIABLE_END : JT_BLOCK_END,
				c->at);
			c->at = end;
			return;
		}
		lex_inside(c);
	}
}

/* Data up to the next tag, and that tag. */
static void lex_outside(struct jcompiler *c)
{
	size_t from = c->at, tag = from, raw;
	char kind, sign;

	while (tag < c->length &&
		!(c->source[tag] == '{' && tag + 1 < c->length &&
			strchr("{%#", c->source[tag + 1]) &&
			c->source[tag + 1]))
		tag++;
	if (tag == c->length) {
		add_data(c, from, tag);
		c->at = tag;
		return;
	}
	kind = c->source[tag + 1];
	sign = sign_at(c, tag + 2);
	add_data(c, from, data_end(c, from, tag, sign, kind == '{'));
	raw = kind == '%' ? raw_begin(c, tag) : 0;
	c->at = raw ? raw : tag + 2 + (sign != '\0');
	c->line_starting = c->source[c->at - 1] == '\n';
	if (raw) {
		lex_raw(c, tag);
	} else if (kind == '#') {
		lex_comment(c, tag);
	} else {
		token_add(c, kind == '{' ? JT_VARIABLE_BEGIN : JT_BLOCK_BEGIN,
			tag);
		lex_tag(c, kind == '{');
	}
}

int jinja_lex(struct jcompiler *c)
{
	c->line = 1;
	c->column = 1;
	c->line_starting = true;
	while (!c->rc && c->at < c->length)
		lex_outside(c);
	token_add(c, JT_END, c->length);
	return c->rc;
}
