/* jinja_math.c - arithmetic as Python does it (values -> value) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <math.h>

#include "dataplane/jinja_private.h"

#define EXACT_IN_DOUBLE (INT64_C(1) << 53)

static double real_of(struct jvalue value)
{
	if (value.type == J_FLOAT)
		return value.real;
	return value.type == J_BOOL ? (double)value.boolean
				    : (double)value.integer;
}

static struct jvalue overflow(struct jrun *run)
{
	return jrun_bad(run, "an integer exceeds 64 bits");
}

static struct jvalue zero_division(struct jrun *run)
{
	return jrun_bad(run, "division by zero");
}

/* Quotient rounded down, for b != 0 and not (MIN / -1). */
static int64_t floor_divide(int64_t a, int64_t b)
{
	int64_t quotient = a / b;

	return a % b != 0 && (a < 0) != (b < 0) ? quotient - 1 : quotient;
}

static struct jvalue int_power(
	struct jrun *run, int64_t base, int64_t exponent, bool trusted)
{
	int64_t result = 1;

	while (exponent > 0) {
		if ((exponent & 1) &&
			__builtin_mul_overflow(result, base, &result))
			return overflow(run);
		exponent >>= 1;
		if (exponent > 0 && __builtin_mul_overflow(base, base, &base))
			return overflow(run);
	}
	return jvalue_int(result, trusted);
}

static struct jvalue true_divide(
	struct jrun *run, int64_t a, int64_t b, bool trusted)
{
	if (b == 0)
		return zero_division(run);
	if (a > -EXACT_IN_DOUBLE && a < EXACT_IN_DOUBLE &&
		b > -EXACT_IN_DOUBLE && b < EXACT_IN_DOUBLE)
		return jvalue_float((double)a / (double)b, trusted);
	return jvalue_float((double)((long double)a / (long double)b), trusted);
}

static struct jvalue int_binary(
	struct jrun *run, enum jmath op, int64_t a, int64_t b, bool trusted)
{
	int64_t result = 0;
	bool bad = false;

	switch (op) {
	case JMATH_ADD:
		bad = __builtin_add_overflow(a, b, &result);
		break;
	case JMATH_SUBTRACT:
		bad = __builtin_sub_overflow(a, b, &result);
		break;
	case JMATH_MULTIPLY:
		bad = __builtin_mul_overflow(a, b, &result);
		break;
	case JMATH_DIVIDE:
		return true_divide(run, a, b, trusted);
	case JMATH_POWER:
		if (b < 0 && a == 0)
			return zero_division(run);
		if (b < 0)
			return jvalue_float(pow((double)a, (double)b), trusted);
		return int_power(run, a, b, trusted);
	default:
		if (b == 0)
			return zero_division(run);
		if (a == INT64_MIN && b == -1) {
			bad = op == JMATH_FLOOR_DIVIDE;
		} else {
			result = floor_divide(a, b);
			if (op == JMATH_MODULO)
				result = a - result * b;
		}
		break;
	}
	return bad ? overflow(run) : jvalue_int(result, trusted);
}

/* Python's float modulo has the sign of the divisor. */
static double float_modulo(double a, double b)
{
	double rest = fmod(a, b);

	if (rest != 0)
		return (b < 0) != (rest < 0) ? rest + b : rest;
	return copysign(0.0, b);
}

static double float_floor_divide(double a, double b)
{
	double rest = fmod(a, b), quotient = (a - rest) / b, whole;

	if (rest != 0 && (b < 0) != (rest < 0))
		quotient -= 1;
	if (quotient == 0)
		return copysign(0.0, a / b);
	whole = floor(quotient);
	return quotient - whole > 0.5 ? whole + 1 : whole;
}

static struct jvalue float_power(
	struct jrun *run, double a, double b, bool trusted)
{
	double result;

	if (a == 0 && b < 0)
		return zero_division(run);
	if (a < 0 && isfinite(a) && isfinite(b) && b != floor(b))
		return jrun_bad(run, "complex numbers are not supported");
	result = pow(a, b);
	if (isinf(result) && isfinite(a) && isfinite(b))
		return jrun_bad(run, "a power is out of range");
	return jvalue_float(result, trusted);
}

static struct jvalue float_binary(
	struct jrun *run, enum jmath op, double a, double b, bool trusted)
{
	switch (op) {
	case JMATH_ADD:
		return jvalue_float(a + b, trusted);
	case JMATH_SUBTRACT:
		return jvalue_float(a - b, trusted);
	case JMATH_MULTIPLY:
		return jvalue_float(a * b, trusted);
	case JMATH_POWER:
		return float_power(run, a, b, trusted);
	default:
		break;
	}
	if (b == 0)
		return zero_division(run);
	if (op == JMATH_DIVIDE)
		return jvalue_float(a / b, trusted);
	if (op == JMATH_MODULO)
		return jvalue_float(float_modulo(a, b), trusted);
	return jvalue_float(float_floor_divide(a, b), trusted);
}

static struct jvalue list_concat(
	struct jrun *run, struct jvalue a, struct jvalue b)
{
	struct jlist *list = jlist_make(run, a.list->count + b.list->count + 1);

	for (size_t i = 0; i < a.list->count && jrun_charge(run, 1); i++)
		jlist_add(run, list, a.list->items[i]);
	for (size_t i = 0; i < b.list->count && jrun_charge(run, 1); i++)
		jlist_add(run, list, b.list->items[i]);
	return a.type == J_LIST ? jvalue_list(list) : jvalue_tuple(list);
}

static struct jvalue repeat(
	struct jrun *run, struct jvalue value, int64_t times)
{
	struct jlist *list;

	if (value.type == J_TEXT)
		return jtext_value(jtext_repeat(run, value.text, times));
	list = jlist_make(run, 4);
	for (int64_t k = 0; k < times && value.list->count > 0; k++)
		for (size_t i = 0; i < value.list->count; i++) {
			if (!jrun_charge(run, 1))
				return jvalue_undefined(NULL);
			jlist_add(run, list, value.list->items[i]);
		}
	return value.type == J_LIST ? jvalue_list(list) : jvalue_tuple(list);
}

static bool is_sequence(struct jvalue value)
{
	return value.type == J_TEXT || value.type == J_LIST ||
	       value.type == J_TUPLE;
}

static const char *op_text(enum jmath op)
{
	switch (op) {
	case JMATH_ADD:
		return "+";
	case JMATH_SUBTRACT:
		return "-";
	case JMATH_MULTIPLY:
		return "*";
	case JMATH_DIVIDE:
		return "/";
	case JMATH_FLOOR_DIVIDE:
		return "//";
	case JMATH_MODULO:
		return "%";
	default:
		return "**";
	}
}

static struct jvalue sequence_binary(struct jrun *run, enum jmath op,
	struct jvalue a, struct jvalue b, bool *done)
{
	int64_t times;

	*done = true;
	if (op == JMATH_ADD && a.type == J_TEXT && b.type == J_TEXT)
		return jtext_value(jtext_concat(run, a.text, b.text));
	if (op == JMATH_ADD && a.type == b.type && is_sequence(a))
		return list_concat(run, a, b);
	if (op == JMATH_MULTIPLY && is_sequence(a) &&
		jvalue_to_index(b, &times))
		return repeat(run, a, times);
	if (op == JMATH_MULTIPLY && is_sequence(b) &&
		jvalue_to_index(a, &times))
		return repeat(run, b, times);
	if (op == JMATH_MODULO && a.type == J_TEXT)
		return jprintf_percent(run, a.text, b);
	*done = false;
	return jvalue_none();
}

struct jvalue jmath_binary(
	struct jrun *run, enum jmath op, struct jvalue a, struct jvalue b)
{
	bool trusted = a.trusted && b.trusted, done;
	struct jvalue result;
	int64_t x, y;

	if (run->rc)
		return a;
	if (jvalue_to_index(a, &x) && jvalue_to_index(b, &y))
		return int_binary(run, op, x, y, trusted);
	if (jvalue_is_number(a) && jvalue_is_number(b))
		return float_binary(run, op, real_of(a), real_of(b), trusted);
	result = sequence_binary(run, op, a, b, &done);
	if (done)
		return result;
	if (a.type == J_UNDEFINED && a.what)
		return jrun_bad(run, "'%.*s' is undefined", jtext_shown(a.what),
			a.what->bytes);
	if (b.type == J_UNDEFINED && b.what)
		return jrun_bad(run, "'%.*s' is undefined", jtext_shown(b.what),
			b.what->bytes);
	return jrun_bad(run, "'%s' and '%s' do not go with '%s'",
		jvalue_type_name(a), jvalue_type_name(b), op_text(op));
}

struct jvalue jmath_negate(struct jrun *run, struct jvalue value, bool minus)
{
	int64_t integer;

	if (run->rc)
		return value;
	if (jvalue_to_index(value, &integer)) {
		if (minus && __builtin_sub_overflow(0, integer, &integer))
			return overflow(run);
		return jvalue_int(integer, value.trusted);
	}
	if (value.type == J_FLOAT)
		return jvalue_float(
			minus ? -value.real : value.real, value.trusted);
	return jrun_bad(run, "'%s' has no sign", jvalue_type_name(value));
}
