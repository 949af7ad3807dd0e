/* jinja_tests.c - what can stand behind "is" (value, arguments -> bool) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <math.h>
#include <string.h>

#include "dataplane/jinja_private.h"

static const char *const one_name[] = {"other"};
static const struct jsignature one_argument = {"test", one_name, 1, 1};

static struct jvalue is_type(
	struct jrun *run, const struct jargs *args, bool result)
{
	(void)jargs_none(run, args, "test");
	return jvalue_bool(result);
}

/* value % divisor == rest */
static struct jvalue has_rest(struct jrun *run, struct jvalue value,
	struct jvalue divisor, int64_t rest)
{
	struct jvalue modulo = jmath_binary(run, JMATH_MODULO, value, divisor);

	return jvalue_bool(
		!run->rc && jvalue_equal(run, modulo, jvalue_int(rest, true)));
}

static struct jvalue test_odd(
	struct jrun *run, struct jvalue value, const struct jargs *args)
{
	(void)jargs_none(run, args, "odd");
	return has_rest(run, value, jvalue_int(2, true), 1);
}

static struct jvalue test_even(
	struct jrun *run, struct jvalue value, const struct jargs *args)
{
	(void)jargs_none(run, args, "even");
	return has_rest(run, value, jvalue_int(2, true), 0);
}

static struct jvalue test_divisibleby(
	struct jrun *run, struct jvalue value, const struct jargs *args)
{
	struct jvalue divisor;

	if (!jargs_bind(run, args, &one_argument, &divisor))
		return value;
	return has_rest(run, value, divisor, 0);
}

static struct jvalue test_defined(
	struct jrun *run, struct jvalue value, const struct jargs *args)
{
	return is_type(run, args, value.type != J_UNDEFINED);
}

static struct jvalue test_undefined(
	struct jrun *run, struct jvalue value, const struct jargs *args)
{
	return is_type(run, args, value.type == J_UNDEFINED);
}

static struct jvalue test_none(
	struct jrun *run, struct jvalue value, const struct jargs *args)
{
	return is_type(run, args, value.type == J_NONE);
}

static struct jvalue test_boolean(
	struct jrun *run, struct jvalue value, const struct jargs *args)
{
	return is_type(run, args, value.type == J_BOOL);
}

static struct jvalue test_true(
	struct jrun *run, struct jvalue value, const struct jargs *args)
{
	return is_type(run, args, value.type == J_BOOL && value.boolean);
}

static struct jvalue test_false(
	struct jrun *run, struct jvalue value, const struct jargs *args)
{
	return is_type(run, args, value.type == J_BOOL && !value.boolean);
}

static struct jvalue test_integer(
	struct jrun *run, struct jvalue value, const struct jargs *args)
{
	return is_type(run, args, value.type == J_INT);
}

static struct jvalue test_float(
	struct jrun *run, struct jvalue value, const struct jargs *args)
{
	return is_type(run, args, value.type == J_FLOAT);
}

static struct jvalue test_number(
	struct jrun *run, struct jvalue value, const struct jargs *args)
{
	return is_type(run, args, jvalue_is_number(value));
}

static struct jvalue test_string(
	struct jrun *run, struct jvalue value, const struct jargs *args)
{
	return is_type(run, args, value.type == J_TEXT);
}

static struct jvalue test_mapping(
	struct jrun *run, struct jvalue value, const struct jargs *args)
{
	return is_type(run, args, value.type == J_DICT);
}

static struct jvalue test_sequence(
	struct jrun *run, struct jvalue value, const struct jargs *args)
{
	bool result = value.type == J_TEXT || value.type == J_LIST ||
		      value.type == J_TUPLE || value.type == J_DICT ||
		      value.type == J_RANGE || value.type == J_UNDEFINED;

	return is_type(run, args, result);
}

static struct jvalue test_iterable(
	struct jrun *run, struct jvalue value, const struct jargs *args)
{
	return is_type(run, args, jvalue_is_iterable(value));
}

static struct jvalue test_callable(
	struct jrun *run, struct jvalue value, const struct jargs *args)
{
	/* An undefined value can be called: that it fails comes later. */
	bool result = value.type == J_METHOD || value.type == J_FUNCTION ||
		      value.type == J_MACRO || value.type == J_LOOP ||
		      value.type == J_UNDEFINED;

	return is_type(run, args, result);
}

static struct jvalue test_escaped(
	struct jrun *run, struct jvalue value, const struct jargs *args)
{
	return is_type(run, args, value.type == J_TEXT && value.text->markup);
}

static struct jvalue test_lower(
	struct jrun *run, struct jvalue value, const struct jargs *args)
{
	struct jtext *text = jvalue_str(run, value);

	return is_type(run, args, text && jtext_has_case(run, text, JU_LOWER));
}

static struct jvalue test_upper(
	struct jrun *run, struct jvalue value, const struct jargs *args)
{
	struct jtext *text = jvalue_str(run, value);

	return is_type(run, args, text && jtext_has_case(run, text, JU_UPPER));
}

static struct jvalue test_filter(
	struct jrun *run, struct jvalue value, const struct jargs *args)
{
	return is_type(run, args,
		value.type == J_TEXT && jfilter_find(value.text) != NULL);
}

static struct jvalue test_test(
	struct jrun *run, struct jvalue value, const struct jargs *args)
{
	return is_type(run, args,
		value.type == J_TEXT && jtest_find(value.text) != NULL);
}

static struct jvalue test_sameas(
	struct jrun *run, struct jvalue value, const struct jargs *args)
{
	struct jvalue other;

	if (!jargs_bind(run, args, &one_argument, &other))
		return value;
	return jvalue_bool(jvalue_same(value, other));
}

static struct jvalue compare(struct jrun *run, struct jvalue value,
	const struct jargs *args, enum jcompare op)
{
	struct jvalue other;

	if (!jargs_bind(run, args, &one_argument, &other))
		return value;
	return jvalue_bool(jvalue_compare(run, op, value, other));
}

static struct jvalue test_equal(
	struct jrun *run, struct jvalue value, const struct jargs *args)
{
	return compare(run, value, args, JC_EQUAL);
}

static struct jvalue test_unequal(
	struct jrun *run, struct jvalue value, const struct jargs *args)
{
	return compare(run, value, args, JC_UNEQUAL);
}

static struct jvalue test_less(
	struct jrun *run, struct jvalue value, const struct jargs *args)
{
	return compare(run, value, args, JC_LESS);
}

static struct jvalue test_less_equal(
	struct jrun *run, struct jvalue value, const struct jargs *args)
{
	return compare(run, value, args, JC_LESS_EQUAL);
}

static struct jvalue test_greater(
	struct jrun *run, struct jvalue value, const struct jargs *args)
{
	return compare(run, value, args, JC_GREATER);
}

static struct jvalue test_greater_equal(
	struct jrun *run, struct jvalue value, const struct jargs *args)
{
	return compare(run, value, args, JC_GREATER_EQUAL);
}

static struct jvalue test_in(
	struct jrun *run, struct jvalue value, const struct jargs *args)
{
	return compare(run, value, args, JC_IN);
}

static const struct jtest tests[] = {{"defined", test_defined},
	{"undefined", test_undefined}, {"none", test_none},
	{"string", test_string}, {"mapping", test_mapping},
	{"iterable", test_iterable}, {"sequence", test_sequence},
	{"number", test_number}, {"integer", test_integer},
	{"float", test_float}, {"boolean", test_boolean}, {"true", test_true},
	{"false", test_false}, {"callable", test_callable}, {"odd", test_odd},
	{"even", test_even}, {"divisibleby", test_divisibleby},
	{"lower", test_lower}, {"upper", test_upper}, {"escaped", test_escaped},
	{"filter", test_filter}, {"test", test_test}, {"sameas", test_sameas},
	{"in", test_in}, {"eq", test_equal}, {"equalto", test_equal},
	{"==", test_equal}, {"ne", test_unequal}, {"!=", test_unequal},
	{"lt", test_less}, {"lessthan", test_less}, {"<", test_less},
	{"le", test_less_equal}, {"<=", test_less_equal}, {"gt", test_greater},
	{"greaterthan", test_greater}, {">", test_greater},
	{"ge", test_greater_equal}, {">=", test_greater_equal}};

const struct jtest *jtest_find(const struct jtext *name)
{
	for (size_t i = 0; i < COUNT_OF(tests); i++)
		if (jtext_is(name, tests[i].name))
			return &tests[i];
	return NULL;
}

bool jtest_is(struct jrun *run, const struct jtest *test, struct jvalue value,
	const struct jargs *args)
{
	struct jvalue result;

	if (run->rc)
		return false;
	result = test->apply(run, value, args);
	return !run->rc && result.boolean;
}
