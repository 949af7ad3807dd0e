/* jinja_printf.c - "..." % values and "...".format() (format -> text) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "dataplane/jinja_private.h"

#define WIDTH_MAX 100000
#define PRECISION_MAX 300
#define DIGITS_MAX 700 /* 309 before the point, 300 behind it, and some */

/* How one value is written. */
struct spec {
	uint32_t fill; /* a code point */
	char align; /* < > ^ =, 0 = by type */
	char sign; /* + - space */
	bool alternate; /* # */
	char group; /* , _ or 0 */
	int64_t width;
	int64_t precision; /* -1 = none */
	char type; /* 0 = none */
};

/* A format that is being read, and where it takes its values from. */
struct reader {
	struct jrun *run;
	const struct jtext *format;
	size_t at;
	struct jbuilder out;
	struct jvalue values; /* % : the right side */
	const struct jargs *args; /* format() */
	size_t next; /* value to take next */
	bool numbered; /* format(): {0}, so {} may not follow */
};

static char peek(const struct reader *r)
{
	static const char end = '\0';

	return *(r->at < r->format->length ? &r->format->bytes[r->at] : &end);
}

static bool skip(struct reader *r, char c)
{
	if (peek(r) != c || r->at >= r->format->length)
		return false;
	r->at++;
	return true;
}

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static int64_t read_number(struct reader *r, int64_t most)
{
	int64_t number = 0;

	while (is_digit(peek(r)) && !r->run->rc) {
		number = number * 10 + (r->format->bytes[r->at++] - '0');
		if (number > most)
			jrun_fail(r->run, EINVAL,
				"a width or precision is too large");
	}
	return number;
}

/* --- padding ------------------------------------------------------------- */

static void fill(
	struct jbuilder *out, uint32_t point, int64_t count, bool trusted)
{
	if (!jrun_charge(out->run, (uint64_t)count / 16))
		return;
	for (int64_t i = 0; i < count; i++)
		jbuilder_add_point(out, point, trusted);
}

static void put_text(
	struct jbuilder *out, const struct spec *spec, struct jtext *text)
{
	bool trusted = jtext_all_trusted(text);
	int64_t points, missing, left;

	if (spec->precision >= 0)
		text = jtext_part(out->run, text, 0,
			jtext_offset(out->run, text, (size_t)spec->precision));
	if (!text)
		return;
	points = (int64_t)jtext_points(out->run, text);
	missing = spec->width > points ? spec->width - points : 0;
	left = spec->align == '>'   ? missing
	       : spec->align == '^' ? missing / 2
				    : 0;
	fill(out, spec->fill, left, trusted);
	jbuilder_add_text(out, text);
	fill(out, spec->fill, missing - left, trusted);
}

/* Sign and prefix, then zeros or spaces, then the digits. */
static void put_digits(struct jbuilder *out, const struct spec *spec,
	const char *prefix, const char *digits, bool trusted)
{
	int64_t length = (int64_t)(strlen(prefix) + strlen(digits));
	int64_t missing = spec->width > length ? spec->width - length : 0;
	int64_t left = missing, inner = 0;

	if (spec->align == '^')
		left = missing / 2;
	if (spec->align == '<' || spec->align == '=')
		left = 0;
	if (spec->align == '=')
		inner = missing;
	fill(out, spec->fill, left, trusted);
	jbuilder_add(out, prefix, strlen(prefix), trusted);
	fill(out, spec->fill, inner, trusted);
	jbuilder_add(out, digits, strlen(digits), trusted);
	fill(out, spec->fill, missing - left - inner, trusted);
}

/* Separators between groups of digits before the point. */
static void group_digits(char out[2 * DIGITS_MAX], const char *digits,
	char separator, size_t each)
{
	size_t whole = strspn(digits, "0123456789abcdefABCDEF"), length = 0;

	for (size_t i = 0; i < whole; i++) {
		if (i > 0 && (whole - i) % each == 0)
			out[length++] = separator;
		out[length++] = digits[i];
	}
	memcpy(out + length, digits + whole, strlen(digits + whole) + 1);
}

static void put_number(struct jbuilder *out, const struct spec *spec,
	bool negative, const char *base, const char *digits, bool trusted)
{
	char prefix[4] = {0}, grouped[2 * DIGITS_MAX];
	size_t length = 0;

	if (negative)
		prefix[length++] = '-';
	else if (spec->sign == '+' || spec->sign == ' ')
		prefix[length++] = spec->sign;
	memcpy(prefix + length, base, strlen(base) + 1);
	if (!spec->group) {
		put_digits(out, spec, prefix, digits, trusted);
		return;
	}
	if (spec->align == '=' && spec->fill == '0') {
		jrun_fail(out->run, EINVAL,
			"a format with zeros and separators is not supported");
		return;
	}
	group_digits(grouped, digits, spec->group, *base ? 4 : 3);
	put_digits(out, spec, prefix, grouped, trusted);
}

/* --- numbers ------------------------------------------------------------- */

static void put_int(struct jbuilder *out, const struct spec *spec,
	int64_t integer, bool trusted)
{
	char digits[72], *at = digits + sizeof(digits) - 1;
	uint64_t rest = integer < 0 ? -(uint64_t)integer : (uint64_t)integer;
	const char *set =
		spec->type == 'X' ? "0123456789ABCDEF" : "0123456789abcdef";
	unsigned base = spec->type == 'x' || spec->type == 'X' ? 16
			: spec->type == 'o'                    ? 8
			: spec->type == 'b'                    ? 2
							       : 10;
	const char *prefix = "";

	*at = '\0';
	do {
		*--at = set[rest % base];
		rest /= base;
	} while (rest > 0);
	if (spec->alternate && base != 10)
		prefix = spec->type == 'x'   ? "0x"
			 : spec->type == 'X' ? "0X"
			 : spec->type == 'o' ? "0o"
					     : "0b";
	put_number(out, spec, integer < 0, prefix, at, trusted);
}

static void put_float(struct jbuilder *out, const struct spec *spec,
	double real, bool trusted)
{
	char digits[DIGITS_MAX];
	double size = fabs(real);
	int precision = spec->precision < 0 ? 6 : (int)spec->precision;
	bool percent = spec->type == '%';

	switch (spec->type) {
	case 'e':
		snprintf(digits, sizeof(digits), "%.*e", precision, size);
		break;
	case 'E':
		snprintf(digits, sizeof(digits), "%.*E", precision, size);
		break;
	case 'g':
		snprintf(digits, sizeof(digits), "%.*g", precision, size);
		break;
	case 'G':
		snprintf(digits, sizeof(digits), "%.*G", precision, size);
		break;
	case 'F':
		snprintf(digits, sizeof(digits), "%.*F", precision, size);
		break;
	case 'f':
	case '%':
		snprintf(digits, sizeof(digits), percent ? "%.*f%%" : "%.*f",
			precision, percent ? size * 100 : size);
		break;
	default:
		jformat_float(digits, size);
		break;
	}
	if (isnan(real))
		real = 0; /* no sign */
	put_number(out, spec, signbit(real), "", digits, trusted);
}

static bool number_parts(struct jvalue value, double *real, int64_t *integer)
{
	if (value.type == J_FLOAT) {
		*real = value.real;
		return true;
	}
	if (!jvalue_to_index(value, integer))
		return false;
	*real = (double)*integer;
	return true;
}

/* --- % ------------------------------------------------------------------- */

static struct jvalue next_value(struct reader *r)
{
	struct jvalue value = r->values;

	if (value.type == J_TUPLE && r->next < value.list->count)
		return value.list->items[r->next++];
	if (value.type != J_TUPLE && r->next == 0) {
		r->next++;
		return value;
	}
	return jrun_bad(r->run, "more %% in a format than values");
}

/* "(key)" of "%(key)s". */
static struct jvalue keyed_value(struct reader *r)
{
	size_t from = ++r->at, depth = 1;
	struct jtext *key;
	struct jvalue *found;

	while (r->at < r->format->length && depth > 0) {
		depth += peek(r) == '(';
		depth -= peek(r) == ')';
		r->at++;
	}
	if (depth > 0 || r->values.type != J_DICT)
		return jrun_bad(r->run, "a format needs a mapping");
	key = jtext_part(r->run, r->format, from, r->at - 1);
	found = key ? jdict_get_text(r->run, r->values.dict, key) : NULL;
	if (!found)
		return jrun_bad(
			r->run, "a format names a key that is not there");
	return *found;
}

/* A number or '*', which takes a value. */
static int64_t width_or_star(struct reader *r, int64_t most)
{
	int64_t width;

	if (!skip(r, '*'))
		return read_number(r, most);
	width = jarg_int(r->run, next_value(r), 0);
	if (width < -most || width > most)
		jrun_fail(r->run, EINVAL, "a width or precision is too large");
	return r->run->rc ? 0 : width;
}

static void percent_flags(struct reader *r, struct spec *spec)
{
	bool zero = false, left = false;

	for (; peek(r) && strchr("-+ #0", peek(r)); r->at++) {
		zero |= peek(r) == '0';
		left |= peek(r) == '-';
		spec->alternate |= peek(r) == '#';
		if (peek(r) == '+' || (peek(r) == ' ' && !spec->sign))
			spec->sign = peek(r);
	}
	spec->width = width_or_star(r, WIDTH_MAX);
	if (spec->width < 0) {
		left = true;
		spec->width = -spec->width;
	}
	if (skip(r, '.')) {
		spec->precision = width_or_star(r, PRECISION_MAX);
		if (spec->precision < 0)
			spec->precision = 0;
	}
	spec->align = '>';
	if (zero)
		spec->align = '=';
	if (left)
		spec->align = '<';
	spec->fill = zero && !left ? '0' : ' ';
	while (peek(r) == 'l' || peek(r) == 'h' || peek(r) == 'L')
		r->at++;
}

static void percent_text(
	struct reader *r, struct spec *spec, struct jvalue value)
{
	struct jbuilder b;

	jbuilder_init(&b, r->run);
	if (spec->type == 's')
		jformat_str(&b, value);
	else
		jformat_repr(&b, value);
	spec->fill = ' ';
	if (spec->align == '=')
		spec->align = '>';
	if (!r->run->rc)
		put_text(&r->out, spec, jbuilder_finish(&b));
}

static void percent_char(
	struct reader *r, struct spec *spec, struct jvalue value)
{
	char bytes[4];
	struct jtext *text;
	int64_t point;

	if (value.type == J_TEXT && jtext_points(r->run, value.text) == 1) {
		text = value.text;
	} else if (jvalue_to_index(value, &point) && point >= 0 &&
		   point <= 0x10ffff && !(point >= 0xd800 && point <= 0xdfff)) {
		struct jbuilder b;

		jbuilder_init(&b, r->run);
		jbuilder_add(&b, bytes, jutf8_write(bytes, (uint32_t)point),
			value.trusted);
		text = jbuilder_finish(&b);
	} else {
		jrun_fail(r->run, EINVAL, "%%c needs one character");
		return;
	}
	spec->precision = -1;
	if (spec->align == '=')
		spec->align = '>';
	if (text)
		put_text(&r->out, spec, text);
}

static void percent_number(
	struct reader *r, struct spec *spec, struct jvalue value)
{
	bool whole = strchr("diuxXo", spec->type) != NULL;
	int64_t integer = 0;
	double real;

	if (!number_parts(value, &real, &integer) ||
		(value.type == J_FLOAT && strchr("xXo", spec->type))) {
		jrun_fail(r->run, EINVAL, "%%%c of a '%s'", spec->type,
			jvalue_type_name(value));
		return;
	}
	if (whole && spec->precision >= 0) {
		jrun_fail(r->run, EINVAL,
			"a precision of integers is not supported");
		return;
	}
	if (!whole && spec->alternate) {
		jrun_fail(r->run, EINVAL, "'#' of floats is not supported");
		return;
	}
	if (whole && value.type == J_FLOAT) {
		if (!(real > -JINT_END && real < JINT_END)) {
			jrun_fail(r->run, EINVAL, "an integer exceeds 64 bits");
			return;
		}
		integer = (int64_t)real;
	}
	if (whole)
		put_int(&r->out, spec, integer, value.trusted);
	else
		put_float(&r->out, spec, real, value.trusted);
}

/* One conversion; r->at is behind the '%'. */
static void percent_item(struct reader *r)
{
	struct spec spec = {.precision = -1};
	struct jvalue value = {.type = J_MISSING};

	if (skip(r, '%')) {
		jbuilder_add(&r->out, "%", 1,
			jtext_trusted_at(r->format, r->at - 1));
		return;
	}
	if (peek(r) == '(')
		value = keyed_value(r);
	if (!r->run->rc)
		percent_flags(r, &spec);
	if (r->run->rc)
		return;
	spec.type = peek(r);
	r->at++;
	if (!spec.type || !strchr("srdiuxXoeEfFgGc", spec.type)) {
		jrun_fail(r->run, EINVAL, "an unsupported conversion after %%");
		return;
	}
	if (value.type == J_MISSING)
		value = next_value(r);
	if (r->run->rc)
		return;
	if (spec.type == 's' || spec.type == 'r')
		percent_text(r, &spec, value);
	else if (spec.type == 'c')
		percent_char(r, &spec, value);
	else
		percent_number(r, &spec, value);
}

/* Were all values used? A mapping need not be. */
static bool all_used(const struct reader *r)
{
	switch (r->values.type) {
	case J_TUPLE:
		return r->next == r->values.list->count;
	case J_DICT:
	case J_LIST:
	case J_UNDEFINED:
	case J_RANGE:
		return true;
	default:
		return r->next > 0;
	}
}

/* Everything up to the next of the two characters, as it is. */
static void copy_plain(struct reader *r, char one, char two)
{
	size_t from = r->at;

	while (r->at < r->format->length && peek(r) != one && peek(r) != two)
		r->at++;
	if (r->at > from)
		jbuilder_add_part(&r->out, r->format, from, r->at);
}

struct jvalue jprintf_percent(
	struct jrun *run, const struct jtext *format, struct jvalue value)
{
	struct reader r = {.run = run, .format = format, .values = value};

	jbuilder_init(&r.out, run);
	if (format->markup || (value.type == J_TEXT && value.text->markup))
		return jrun_bad(run, "%% with escaped text is not supported");
	while (!run->rc && r.at < format->length) {
		copy_plain(&r, '%', '%');
		if (skip(&r, '%') && jrun_charge(run, 1))
			percent_item(&r);
	}
	if (!run->rc && !all_used(&r))
		return jrun_bad(run, "more values than %% in a format");
	return run->rc ? value : jtext_value(jbuilder_finish(&r.out));
}

/* --- format() ------------------------------------------------------------ */

static bool is_align(char c)
{
	return c == '<' || c == '>' || c == '^' || c == '=';
}

/* [[fill]align][sign][#][0][width][group][.precision][type] up to '}'. */
static void read_spec(struct reader *r, struct spec *spec)
{
	unsigned size = 1;
	uint32_t point = r->at < r->format->length
				 ? jutf8_read(r->format->bytes, r->at, &size)
				 : 0;

	if (r->at + size < r->format->length &&
		is_align(r->format->bytes[r->at + size])) {
		spec->fill = point;
		spec->align = r->format->bytes[r->at + size];
		r->at += size + 1;
	} else if (is_align(peek(r))) {
		spec->align = peek(r);
		r->at++;
	}
	if (peek(r) == '+' || peek(r) == '-' || peek(r) == ' ') {
		spec->sign = peek(r);
		r->at++;
	}
	spec->alternate = skip(r, '#');
	if (skip(r, '0') && !spec->align) {
		spec->fill = '0';
		spec->align = '=';
	}
	spec->width = read_number(r, WIDTH_MAX);
	if (peek(r) == ',' || peek(r) == '_') {
		spec->group = peek(r);
		r->at++;
	}
	if (skip(r, '.')) {
		if (!is_digit(peek(r)))
			jrun_fail(r->run, EINVAL, "a precision is missing");
		spec->precision = read_number(r, PRECISION_MAX);
	}
	if (peek(r) && peek(r) != '}') {
		spec->type = peek(r);
		r->at++;
	}
	if (peek(r) != '}')
		jrun_fail(r->run, EINVAL, "a format that is not supported");
}

static void format_number(
	struct reader *r, struct spec *spec, struct jvalue value)
{
	int64_t integer = 0;
	double real;
	bool whole = value.type != J_FLOAT;
	const char *types = whole ? "bdoxXeEfFgG%" : "eEfFgG%";

	if (!number_parts(value, &real, &integer) ||
		(spec->type && !strchr(types, spec->type)) ||
		(!spec->type && spec->precision >= 0) ||
		(whole && spec->type && strchr("bdoxX", spec->type) &&
			spec->precision >= 0) ||
		(spec->alternate && (!whole || !spec->type ||
					    strchr("eEfFgG%", spec->type)))) {
		jrun_fail(r->run, EINVAL, "a format of '%s' is not supported",
			jvalue_type_name(value));
		return;
	}
	if (!spec->align)
		spec->align = '>';
	if (whole && (!spec->type || strchr("bdoxX", spec->type)))
		put_int(&r->out, spec, integer, value.trusted);
	else
		put_float(&r->out, spec, real, value.trusted);
}

static void format_value(
	struct reader *r, struct spec *spec, struct jvalue value)
{
	struct jtext *text;

	if (value.type == J_TEXT) {
		if ((spec->type && spec->type != 's') || spec->sign ||
			spec->alternate || spec->group || spec->align == '=') {
			if (spec->align != '=' || spec->fill != '0')
				jrun_fail(r->run, EINVAL,
					"a format of 'str' is not supported");
			spec->align = '<';
		}
		put_text(&r->out, spec, value.text);
		return;
	}
	if (jvalue_is_number(value)) {
		format_number(r, spec, value);
		return;
	}
	if (spec->width || spec->type || spec->align || spec->precision >= 0 ||
		spec->sign || spec->alternate || spec->group) {
		jrun_fail(r->run, EINVAL, "a format of '%s' is not supported",
			jvalue_type_name(value));
		return;
	}
	text = jvalue_str(r->run, value);
	jbuilder_add_text(&r->out, text);
}

static struct jvalue argument_at(struct reader *r, size_t index)
{
	if (index < r->args->count)
		return r->args->items[index];
	return jrun_bad(r->run, "format() has no argument %zu", index);
}

/* "0", "name" or nothing at the start of a field. */
static struct jvalue field_base(struct reader *r)
{
	size_t from = r->at;
	struct jtext *name;

	while (peek(r) && !strchr(".[!:}", peek(r)))
		r->at++;
	if (r->at == from) {
		if (r->numbered && r->next == 0)
			return jrun_bad(r->run, "format() mixes {} and {0}");
		return argument_at(r, r->next++);
	}
	if (is_digit(r->format->bytes[from])) {
		int64_t number;

		r->at = from;
		number = read_number(r, WIDTH_MAX);
		if (r->next > 0)
			return jrun_bad(r->run, "format() mixes {} and {0}");
		r->numbered = true;
		return argument_at(r, (size_t)number);
	}
	name = jtext_part(r->run, r->format, from, r->at);
	for (size_t i = 0; name && i < r->args->keyword_count; i++)
		if (jtext_equal(name, r->args->keywords[i].name))
			return r->args->keywords[i].value;
	return jrun_bad(r->run, "format() names an argument that is not there");
}

/* ".name" and "[key]" behind it. */
static struct jvalue field_path(struct reader *r, struct jvalue value)
{
	while (!r->run->rc && (peek(r) == '.' || peek(r) == '[')) {
		bool item = peek(r) == '[', number = item;
		size_t from = ++r->at;
		struct jtext *name;

		while (peek(r) &&
			(item ? peek(r) != ']' : !strchr(".[!:}", peek(r)))) {
			number = number && is_digit(peek(r));
			r->at++;
		}
		name = jtext_part(r->run, r->format, from, r->at);
		if (!name || name->length == 0 || (item && !skip(r, ']')))
			return jrun_bad(r->run, "a broken field of format()");
		if (number && name->length < 18) {
			size_t end = r->at;

			r->at = from;
			value = jvalue_item(r->run, value,
				jvalue_int(read_number(r, WIDTH_MAX), true));
			r->at = end;
		} else if (item) {
			value = jvalue_item(r->run, value, jtext_value(name));
		} else {
			value = jvalue_attribute(r->run, value, name);
		}
	}
	return value;
}

/* A field; r->at is behind its '{'. */
static void format_field(struct reader *r)
{
	struct spec spec = {.fill = ' ', .precision = -1};
	struct jvalue value = field_base(r);
	struct jbuilder b;
	char conversion = 's';

	value = field_path(r, value);
	if (skip(r, '!')) {
		conversion = peek(r);
		r->at++;
		if (conversion != 's' && conversion != 'r')
			jrun_fail(r->run, EINVAL, "an unsupported conversion");
		jbuilder_init(&b, r->run);
		if (conversion == 'r')
			jformat_repr(&b, value);
		else
			jformat_str(&b, value);
		if (!r->run->rc)
			value = jtext_value(jbuilder_finish(&b));
	}
	if (skip(r, ':'))
		read_spec(r, &spec);
	if (!r->run->rc && !skip(r, '}'))
		jrun_fail(r->run, EINVAL, "a broken field of format()");
	if (r->run->rc)
		return;
	if (value.type == J_BOOL && spec.fill == ' ' && !spec.align &&
		!spec.sign && !spec.alternate && !spec.width && !spec.group &&
		spec.precision < 0 && !spec.type)
		jformat_str(&r->out, value);
	else
		format_value(r, &spec, value);
}

struct jvalue jprintf_format(
	struct jrun *run, const struct jtext *format, const struct jargs *args)
{
	struct reader r = {.run = run, .format = format, .args = args};

	jbuilder_init(&r.out, run);
	while (jrun_charge(run, 1) && r.at < format->length) {
		char kind;

		copy_plain(&r, '{', '}');
		kind = peek(&r);
		if (r.at >= format->length)
			break;
		r.at++;
		if (peek(&r) == kind && r.at < format->length) {
			jbuilder_add(&r.out, &kind, 1,
				jtext_trusted_at(format, r.at));
			r.at++;
		} else if (kind == '{') {
			format_field(&r);
		} else {
			return jrun_bad(run, "a single '}' in a format");
		}
	}
	return run->rc ? jvalue_undefined(NULL)
		       : jtext_value(jbuilder_finish(&r.out));
}
