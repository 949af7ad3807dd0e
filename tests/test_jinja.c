/* test_jinja.c - templates against Jinja2, limits, origins of bytes */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tests/golden-text/jinja_cases.json has small templates that together use
 * every construct, with what Jinja2 makes of them (null: an error) in the
 * environment of transformers; tools/text/make_chat_goldens.py writes it.
 */
#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dataplane/jinja.h"
#include "tests/fake/fake_os.h"
#include "tests/suite.h"

#define CASES "tests/golden-text/jinja_cases.json"

static const struct tm fixed_now = {.tm_year = 124,
	.tm_mon = 6,
	.tm_mday = 5,
	.tm_hour = 13,
	.tm_min = 4,
	.tm_sec = 9,
	.tm_wday = 5,
	.tm_yday = 186};

struct result {
	int rc;
	struct error err;
	struct jinja_output out;
};

static json_t *parse(const char *json)
{
	json_t *value = json_loads(json, 0, NULL);

	assert(value);
	return value;
}

static struct result render_input(const char *source, size_t length,
	const struct jinja_input *input, const struct jinja_limits *limits)
{
	struct result r = {0};
	struct jinja_template *template = NULL;

	r.rc = jinja_compile(source, length, "t", &template, &r.err);
	if (!r.rc)
		r.rc = jinja_render(template, input, limits, &r.out, &r.err);
	jinja_free(template);
	return r;
}

/* Render with JSON text as the client's input; released by result_free(). */
static struct result render(const char *source, const char *json)
{
	struct jinja_limits limits = jinja_limits_default();
	struct jinja_input input = {
		.untrusted = parse(json), .now = &fixed_now};
	struct result r = render_input(source, strlen(source), &input, &limits);

	json_decref(input.untrusted);
	return r;
}

static void result_free(struct result *r)
{
	jinja_output_release(&r->out);
}

/* The spans cover the text, are not empty, and differ from their neighbours. */
static bool spans_are_sound(const struct jinja_output *out)
{
	size_t total = 0;

	for (size_t i = 0; i < out->span_count; i++) {
		if (out->spans[i].length == 0 ||
			(i > 0 && out->spans[i].trusted ==
					  out->spans[i - 1].trusted))
			return false;
		total += out->spans[i].length;
	}
	return total == out->length;
}

/* --- against Jinja2 ------------------------------------------------------ */

static bool agrees(const json_t *one, const struct jinja_input *input)
{
	const json_t *source = json_array_get(one, 0);
	const json_t *want = json_array_get(one, 1);
	struct jinja_limits limits = jinja_limits_default();
	struct result r = render_input(json_string_value(source),
		json_string_length(source), input, &limits);
	bool same;

	if (json_is_null(want))
		same = r.rc == -EINVAL || r.rc == -EBADMSG;
	else
		same = r.rc == 0 && spans_are_sound(&r.out) &&
		       r.out.length == json_string_length(want) &&
		       memcmp(r.out.text, json_string_value(want),
			       r.out.length) == 0;
	if (!same)
		printf("\n%s\n  want %s\n  got  %s\n",
			json_string_value(source),
			json_is_null(want) ? "an error"
					   : json_string_value(want),
			r.rc ? r.err.text : r.out.text);
	result_free(&r);
	return same;
}

static json_t *load_cases(void)
{
	json_error_t err;
	json_t *cases = json_load_file(CASES, JSON_ALLOW_NUL, &err);

	if (!cases)
		printf("%s:%d: %s\n", CASES, err.line, err.text);
	CU_ASSERT_PTR_NOT_NULL_FATAL(cases);
	return cases;
}

static void test_render__equals_jinja2(void)
{
	json_t *file = load_cases(), *one;
	json_t *cases = json_object_get(file, "cases");
	struct jinja_input input = {
		.untrusted = json_object_get(file, "context"),
		.now = &fixed_now};
	size_t i, bad = 0;

	CU_ASSERT(json_array_size(cases) > 1100);
	json_array_foreach(cases, i, one) bad += !agrees(one, &input);
	CU_ASSERT_EQUAL(bad, 0);
	json_decref(file);
}

/* Trusted or not, the text is the same. */
static void test_render__does_not_depend_on_trust(void)
{
	json_t *file = load_cases(), *one;
	json_t *cases = json_object_get(file, "cases");
	struct jinja_input input = {
		.trusted = json_object_get(file, "context"), .now = &fixed_now};
	size_t i, bad = 0;

	json_array_foreach(cases, i, one) bad += !agrees(one, &input);
	CU_ASSERT_EQUAL(bad, 0);
	json_decref(file);
}

static void test_compile__refuses_by_name(void)
{
	json_t *file = load_cases(), *one;
	json_t *list = json_object_get(file, "refused_at_load");
	size_t i;

	CU_ASSERT(json_array_size(list) > 20);
	json_array_foreach(list, i, one)
	{
		const char *source = json_string_value(one);
		struct jinja_template *template = NULL;
		struct error err = {0};

		CU_ASSERT_EQUAL(jinja_compile(source, strlen(source), "t",
					&template, &err),
			-EINVAL);
		CU_ASSERT_PTR_NULL(template);
		CU_ASSERT(strncmp(err.text, "t:1:", 4) == 0);
		jinja_free(template);
	}
	json_decref(file);
}

static void test_render__refuses_rather_than_differ(void)
{
	json_t *file = load_cases(), *one;
	json_t *list = json_object_get(file, "refused_at_run");
	struct jinja_limits limits = jinja_limits_default();
	struct jinja_input input = {
		.untrusted = json_object_get(file, "context"),
		.now = &fixed_now};
	size_t i;

	CU_ASSERT(json_array_size(list) > 5);
	json_array_foreach(list, i, one)
	{
		struct result r = render_input(json_string_value(one),
			json_string_length(one), &input, &limits);

		CU_ASSERT_EQUAL(r.rc, -EINVAL);
		CU_ASSERT_PTR_NULL(r.out.text);
		result_free(&r);
	}
	json_decref(file);
}

/* --- errors -------------------------------------------------------------- */

static void test_errors__say_where(void)
{
	static const struct {
		const char *source, *place, *text;
	} cases[] = {
		{"a\n  {% nope %}", "t:2:6: ", "statement 'nope'"},
		{"{{ x|nope }}", "t:1:6: ", "filter 'nope'"},
		{"\n\n{{ x is nope }}", "t:3:9: ", "test 'nope'"},
		{"{{ nope() }}", "t:1:4: ", "function 'nope'"},
		{"{{ x.nope() }}", "t:1:6: ", "method 'nope'"},
		{"\u4e16\u754c{{ nope() }}", "t:1:6: ", "function 'nope'"},
		{"{{ x|map('nope') }}", "t:1:6: ", "filter 'nope'"},
		{"{{ x|selectattr('a', 'nope') }}", "t:1:6: ", "test 'nope'"},
		{"{{ 1 +\n }}", "t:2:2: ", "expected an expression"},
		{"{% if x %}", "t:1:11: ", "end of the template"},
		{"{# never", "t:1:1: ", "comment"},
		{"x {% raw %} y", "t:1:3: ", "raw"},
		{"{{ 'abc }}", "t:1:4: ", "unexpected character"},
		{"{{ (1] }}", "t:1:6: ", "bracket"},
		{"{{ 99999999999999999999 }}", "t:1:4: ", "64 bits"},
		{"{% break %}", "t:1:4: ", "outside of a loop"},
		{"{% for loop in x %}{% endfor %}", "t:1:8: ", "loop variable"},
		{"{{ f(a=1, a=2) }}", "t:1:13: ", "keyword only once"},
		{"{% set x = 1 %}\n{{ x.y.z }}", "t:2:8: ", "'y' is undefined"},
		{"{{ 1 }}{{ 1 / 0 }}", "t:1:13: ", "division by zero"},
		{"{{ 'a' + 1 }}", "t:1:8: ", "'str' and 'int'"},
		{"{{ missing() }}{% set missing = none %}",
			"t:1:4: ", "cannot be called"},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct result r = render(cases[i].source, "{}");
		bool good = r.rc == -EINVAL &&
			    strncmp(r.err.text, cases[i].place,
				    strlen(cases[i].place)) == 0 &&
			    strstr(r.err.text, cases[i].text);

		if (!good)
			printf("\n%s: %s\n", cases[i].source, r.err.text);
		CU_ASSERT(good);
		result_free(&r);
	}
}

static void test_errors__of_the_template_itself(void)
{
	struct result r =
		render("\n{{ raise_exception('Only ' ~ who ~ '\n!') }}",
			"{\"who\": \"users\"}");

	CU_ASSERT_EQUAL(r.rc, -EBADMSG);
	CU_ASSERT_STRING_EQUAL(r.err.text, "t:2:4: Only users?!");
	CU_ASSERT_PTR_NULL(r.out.text);
	result_free(&r);
}

static void test_errors__no_time_was_given(void)
{
	struct jinja_limits limits = jinja_limits_default();
	struct jinja_input input = {0};
	const char *source = "{{ strftime_now('%Y') }}";
	struct result r = render_input(source, strlen(source), &input, &limits);

	CU_ASSERT_EQUAL(r.rc, -EINVAL);
	result_free(&r);
}

static void test_compile__bytes_that_are_no_text(void)
{
	static const char *const bad[] = {"a\xff", "\xc0\x80", "\xed\xa0\x80",
		"\xf4\x90\x80\x80", "{{ '\xe4\xb8' }}"};
	struct jinja_input input = {0};
	struct jinja_limits limits = jinja_limits_default();
	struct result r;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		r = render_input(bad[i], strlen(bad[i]), &input, &limits);
		CU_ASSERT_EQUAL(r.rc, -EINVAL);
		result_free(&r);
	}
	r = render_input("a\0b{{ 1 }}", 10, &input, &limits);
	CU_ASSERT_EQUAL(r.rc, 0);
	CU_ASSERT_EQUAL(r.out.length, 4);
	result_free(&r);
}

/* --- limits -------------------------------------------------------------- */

/* `part` repeated, between a beginning and an end. */
static char *repeated(
	const char *begin, const char *part, size_t count, const char *end)
{
	char *text = malloc(
		     strlen(begin) + count * strlen(part) + strlen(end) + 1),
	     *at;

	assert(text);
	at = stpcpy(text, begin);
	for (size_t i = 0; i < count; i++)
		at = stpcpy(at, part);
	stpcpy(at, end);
	return text;
}

static void check_load(char *source, int rc, const char *word)
{
	struct jinja_template *template = NULL;
	struct error err = {0};

	CU_ASSERT_EQUAL(
		jinja_compile(source, strlen(source), "t", &template, &err),
		rc);
	CU_ASSERT(!word || strstr(err.text, word) != NULL);
	jinja_free(template);
	free(source);
}

static void test_compile__limits(void)
{
	size_t nesting = JINJA_NESTING_MAX / 2 - 2, tree = JINJA_TREE_DEPTH_MAX;
	char *names = malloc((size_t)16 * (JINJA_NAME_COUNT_MAX + 10)),
	     *at = names;

	check_load(repeated("", "x", JINJA_SOURCE_BYTES_MAX, ""), 0, NULL);
	check_load(repeated("", "x", JINJA_SOURCE_BYTES_MAX, "y"), -EINVAL,
		"bytes of template");
	check_load(repeated("{{ ", "[", nesting, "1"), -EINVAL, "expected");
	check_load(repeated("{{ ", "[", JINJA_NESTING_MAX + 1, "1"), -EINVAL,
		"nested");
	check_load(repeated("{{ ", "not ", JINJA_NESTING_MAX + 1, "1 }}"),
		-EINVAL, "nested");
	check_load(repeated("{{ ", "-", JINJA_NESTING_MAX + 1, "1 }}"), -EINVAL,
		"nested");
	check_load(repeated("", "{% if 1 %}", JINJA_NESTING_MAX + 1, ""),
		-EINVAL, "nested");
	check_load(repeated("{{ 1", " + 1", tree - 10, " }}"), 0, NULL);
	check_load(repeated("{{ 1", " + 1", tree + 10, " }}"), -EINVAL, "long");
	check_load(repeated("{{ x", ".x", tree + 10, " }}"), -EINVAL, "long");
	check_load(
		repeated("{{ x", "|list", tree + 10, " }}"), -EINVAL, "long");
	check_load(repeated("{{ ", "1 < ", JINJA_NESTING_MAX + 1, "2 }}"),
		-EINVAL, "comparisons");
	assert(names);
	for (int i = 0; i <= JINJA_NAME_COUNT_MAX; i++)
		at += sprintf(at, "{{ n%d }}", i);
	check_load(names, -EINVAL, "names");
	/* Every if copies what is known, so many of both take much memory. */
	names = malloc(1u << 19);
	assert(names);
	at = names;
	for (int i = 0; i < JINJA_NAME_COUNT_MAX - 2; i++)
		at += sprintf(at, "{{ n%d }}", i);
	for (int i = 0; i < 20000; i++)
		at += sprintf(at, "{%% if n1 %%}{%% endif %%}");
	check_load(names, -ENOMEM, "too large");
}

static int render_limited(const char *source, const struct jinja_limits *limits)
{
	json_t *json = parse("{\"xs\": [1, 2, 3, [[[[[[[[4]]]]]]]]], "
			     "\"s\": \"0123456789\"}");
	struct jinja_input input = {.untrusted = json};
	struct result r = render_input(source, strlen(source), &input, limits);

	CU_ASSERT(r.rc == 0 || (r.err.text[0] && !r.out.text && !r.out.spans));
	result_free(&r);
	json_decref(json);
	return r.rc;
}

static void test_render__step_limit(void)
{
	struct jinja_limits limits = jinja_limits_default();
	const char *source = "{% for a in range(90000) %}{% for b in "
			     "range(90000) %}{% endfor %}{% endfor %}";

	limits.step_count = 100000;
	CU_ASSERT_EQUAL(render_limited(source, &limits), -E2BIG);
	CU_ASSERT_EQUAL(render_limited("{% for a in range(900) %}{{ a }}"
				       "{% endfor %}",
				&limits),
		0);
	/* Long texts are work too. */
	CU_ASSERT_EQUAL(
		render_limited("{% set a = s * 100000 %}{% for x in range(99) "
			       "%}{% set b = a.count('q') %}{% endfor %}",
			&limits),
		-E2BIG);
	CU_ASSERT_EQUAL(
		render_limited("{{ (('a' * 30000) ~ 'b').rfind("
			       "'b' ~ ('a' * 9000)) + (('a' * 60000).rfind("
			       "('a' * 30000) ~ 'b')) }}",
			&limits),
		-E2BIG);
}

static void test_render__depth_limit(void)
{
	struct jinja_limits limits = jinja_limits_default();
	static const char nested[] =
		"{% set n = namespace(v=[1], w=[1]) %}{% for i in range(40) %}"
		"{% set n.v = [n.v] %}{% set n.w = [n.w] %}{% endfor %}";
	static const char *const uses[] = {"{{ n.v }}", "{{ n.v|tojson }}",
		"{{ n.v == n.w }}", "{{ n.v < n.w }}", "{{ n.w in [n.v] }}"};
	const char *recursion =
		"{% macro m(n) %}{{ m(n + 1) }}{% endmacro %}{{ m(0) }}";

	CU_ASSERT_EQUAL(render_limited(recursion, &limits), -ELOOP);
	CU_ASSERT_EQUAL(
		render_limited("{% for x in xs recursive %}{{ loop(xs) }}"
			       "{% endfor %}",
			&limits),
		-ELOOP);
	limits.depth = 10;
	CU_ASSERT_EQUAL(render_limited("{{ 1 }}", &limits), -ELOOP);
	limits.depth = 30;
	for (size_t i = 0; i < sizeof(uses) / sizeof(uses[0]); i++) {
		char source[400];

		snprintf(source, sizeof(source), "%s%s", nested, uses[i]);
		CU_ASSERT_EQUAL(render_limited(source, &limits), -ELOOP);
	}
	CU_ASSERT_EQUAL(render_limited(nested, &limits), 0);
	limits.depth = 5;
	CU_ASSERT_EQUAL(render_limited("{{ 1 }}", &limits), -ELOOP);
}

static void test_render__memory_limit(void)
{
	struct jinja_limits limits = jinja_limits_default();

	limits.arena_bytes = 1 << 20;
	CU_ASSERT_EQUAL(render_limited("{{ s * 10000 }}", &limits), 0);
	CU_ASSERT_EQUAL(render_limited("{{ s * 1000000 }}", &limits), -ENOMEM);
	CU_ASSERT_EQUAL(
		render_limited("{{ s * 9223372036854775807 }}", &limits),
		-ENOMEM);
	CU_ASSERT_EQUAL(render_limited("{{ xs * 1000000 }}", &limits), -ENOMEM);
	CU_ASSERT_EQUAL(
		render_limited("{% set n = namespace(s='x') %}{% for i in "
			       "range(64) %}{% set n.s = n.s ~ n.s %}"
			       "{% endfor %}",
			&limits),
		-ENOMEM);
	CU_ASSERT_EQUAL(
		render_limited("{{ s.center(99999999) }}", &limits), -ENOMEM);
	CU_ASSERT_EQUAL(
		render_limited("{{ s|replace('', s * 9000) }}", &limits),
		-ENOMEM);
	limits.arena_bytes = 0;
	CU_ASSERT_EQUAL(render_limited("", &limits), -ENOMEM);
}

static void test_render__output_limit(void)
{
	struct jinja_limits limits = jinja_limits_default();

	limits.output_bytes = 20;
	CU_ASSERT_EQUAL(render_limited("{{ s }}{{ s }}", &limits), 0);
	CU_ASSERT_EQUAL(render_limited("{{ s }}{{ s }}.", &limits), -EFBIG);
	CU_ASSERT_EQUAL(
		render_limited("{% set x = s * 3 %}{{ x|length }}", &limits),
		0);
	limits.output_bytes = 0;
	CU_ASSERT_EQUAL(render_limited("{% if s %}{% endif %}", &limits), 0);
	CU_ASSERT_EQUAL(render_limited("x", &limits), -EFBIG);
}

/* One case under one limit after another, until the limit is no hindrance. */
static void sweep_limit(
	const json_t *one, const struct jinja_input *input, int kind)
{
	static const int codes[] = {-E2BIG, -ELOOP, -EFBIG, -ENOMEM};
	const json_t *source = json_array_get(one, 0);

	for (uint32_t limit = 0; limit < 40; limit++) {
		struct jinja_limits limits = jinja_limits_default();
		struct result r;

		if (kind == 0)
			limits.step_count = limit;
		else if (kind == 1)
			limits.depth = limit;
		else if (kind == 2)
			limits.output_bytes = limit;
		else
			limits.arena_bytes = (size_t)limit * 2048;
		r = render_input(json_string_value(source),
			json_string_length(source), input, &limits);
		if (r.rc != codes[kind])
			limit = 40;
		else
			CU_ASSERT(r.err.text[0] && !r.out.text);
		result_free(&r);
	}
}

/* Whatever a construct was doing when a limit came, it ends in an error. */
static void test_render__any_limit_at_any_moment(void)
{
	json_t *file = load_cases(), *one;
	json_t *cases = json_object_get(file, "cases");
	struct jinja_input input = {
		.untrusted = json_object_get(file, "context"),
		.now = &fixed_now};
	size_t i;

	json_array_foreach(cases, i, one)
	{
		if (json_is_null(json_array_get(one, 1)))
			continue;
		for (int kind = 0; kind < 4; kind++)
			sweep_limit(one, &input, kind);
	}
	json_decref(file);
}

/* Under an eighth of a request's limits, to be done soon. */
static void test_render__attacks(void)
{
#define GROW(begin, step)                                                      \
	"{% set n = namespace(v=" begin ", w=" begin                           \
	") %}{% for i in range(200) %}{% set n.v = " step " %}{% endfor %}"
	static const struct {
		const char *source;
		int rc;
	} attacks[] = {
		{"{{ 'a' * 10 ** 9 }}", -E2BIG},
		{"{{ 'a' * 10 ** 18 }}", -E2BIG},
		{"{{ [1] * 10 ** 9 }}", -ENOMEM},
		{"{{ 'a'.center(10 ** 12) }}", -E2BIG},
		{"{{ 'a'.zfill(10 ** 12) }}", -ENOMEM},
		{"{{ 'a'|indent(10 ** 12, true) }}", -E2BIG},
		{"{{ [[1]]|tojson(indent=10 ** 12) }}", -E2BIG},
		{"{{ '%999999999d' % 5 }}", -EINVAL},
		{"{{ '%*d' % (10 ** 9, 5) }}", -EINVAL},
		{"{{ '{:999999999}'.format(5) }}", -EINVAL},
		{"{{ range(10 ** 9)|list }}", -EINVAL},
		{"{{ [1]|batch(10 ** 12, 0)|list }}", -ENOMEM},
		{"{% macro m(n) %}{{ m(n) }}{{ m(n) }}{% endmacro %}{{ m(1) }}",
			-ELOOP},
		{"{% macro m(n) %}{% if n %}{{ m(n - 1) ~ m(n - 1) }}"
		 "{% endif %}{% endmacro %}{{ m(99) }}",
			-ENOMEM},
		{"{% macro m() %}{{ caller() }}{% endmacro %}{% macro r() %}"
		 "{% call m() %}{{ r() }}{% endcall %}{% endmacro %}{{ r() }}",
			-ELOOP},
		{GROW("'x'", "n.v ~ n.v"), -ENOMEM},
		{GROW("[1]", "n.v + n.v"), -ENOMEM},
		{GROW("[1]", "[n.v, n.v]") "{{ n.v == n.w or n.v }}", -E2BIG},
		{GROW("(1,)", "(n.v, n.v)") "{{ {n.v: 1} }}", -E2BIG},
		{GROW("(1,)", "{'a': n.v, 'b': n.v}") "{{ n.v|tojson }}",
			-ENOMEM},
		{GROW("'x'|list", "n.v|map('string')") "{{ n.v|list }}", 0},
	};
#undef GROW
	struct jinja_limits limits = jinja_limits_default();

	limits.arena_bytes /= 8;
	limits.step_count /= 8;
	for (size_t i = 0; i < sizeof(attacks) / sizeof(attacks[0]); i++) {
		int rc = render_limited(attacks[i].source, &limits);

		if (rc != attacks[i].rc)
			printf("\n%s: %d\n", attacks[i].source, rc);
		CU_ASSERT_EQUAL(rc, attacks[i].rc);
	}
}

/* Messages that nest as deeply as a parser lets them. */
static void test_render__deep_input(void)
{
	char *text = repeated("{\"x\": ", "[", 1900, "");
	char *closed = repeated(text, "]", 1900, "}");
	struct result r = render("{{ x|tojson }}", closed);

	CU_ASSERT_EQUAL(r.rc, -ELOOP);
	result_free(&r);
	free(closed);
	free(text);
}

static void test_render__deadline(void)
{
	struct jinja_limits limits = jinja_limits_default();

	limits.deadline = mono_add(mono_now(), 3600 * NS_PER_S);
	CU_ASSERT_EQUAL(render_limited("{{ s }}", &limits), 0);
	limits.deadline = (struct mono){1};
	CU_ASSERT_EQUAL(render_limited("{{ s }}", &limits), -ETIMEDOUT);
}

/* --- where bytes come from ----------------------------------------------- */

/* "T3U2": three trusted bytes, then two that are not. */
static void describe(const struct jinja_output *out, char *text, size_t size)
{
	size_t length = 0;

	text[0] = '\0';
	for (size_t i = 0; i < out->span_count && length < size; i++)
		length += (size_t)snprintf(text + length, size - length,
			"%c%zu", out->spans[i].trusted ? 'T' : 'U',
			out->spans[i].length);
}

static void check_trust(const char *source, const char *want)
{
	struct jinja_limits limits = jinja_limits_default();
	struct jinja_input input = {.now = &fixed_now};
	struct result r;
	char got[200];

	input.untrusted =
		parse("{\"u\": \"user\", \"n\": 42, \"w\": \" a b \", "
		      "\"d\": {\"k\": \"v<|x|>\"}, \"l\": [\"p\", "
		      "\"q\"], \"t\": \"shadowed\"}");
	input.trusted = parse("{\"t\": \"<s>\", \"m\": 7}");
	r = render_input(source, strlen(source), &input, &limits);
	CU_ASSERT_EQUAL(r.rc, 0);
	CU_ASSERT(spans_are_sound(&r.out));
	describe(&r.out, got, sizeof(got));
	if (strcmp(got, want) != 0)
		printf("\n%s -> %s: want %s, got %s\n", source,
			r.rc ? r.err.text : r.out.text, want, got);
	CU_ASSERT_STRING_EQUAL(got, want);
	result_free(&r);
	json_decref(input.untrusted);
	json_decref(input.trusted);
}

static void test_trust__of_plain_values(void)
{
	check_trust("", "");
	check_trust("abc", "T3");
	check_trust("{{ u }}", "U4");
	check_trust("<{{ u }}>", "T1U4T1");
	check_trust("{{ t }}{{ u }}", "T3U4");
	check_trust("{{ n }}{{ m }}", "U2T1");
	check_trust("{{ 'x' }}{{ 5 }}", "T2");
	check_trust("{{ missing }}{{ none }}", "T4");
	check_trust("{{ t ~ u ~ 'x' ~ n ~ m }}", "T3U4T1U2T1");
	check_trust("{{ t + u }}", "T3U4");
	check_trust("{{ n + m }}{{ m + 1 }}", "U2T1");
	check_trust("{{ u|length }}{{ t|length }}{{ l|length }}", "U1T2");
	check_trust("{{ loop is defined }}{{ strftime_now('%Y') }}", "T9");
}

static void test_trust__of_operations(void)
{
	check_trust("{{ (t ~ u)[1:5] }}", "T2U2");
	check_trust("{{ (t ~ u)[::-1] }}", "U4T3");
	check_trust("{{ (u ~ t)[4] }}{{ (u ~ t)[3] }}", "T1U1");
	check_trust("{{ (t ~ u)|upper }}{{ (t ~ u)|title }}", "T3U4T3U4");
	check_trust("{{ ('x' ~ w ~ 'y')|trim }}{{ w|trim }}", "T1U5T1U3");
	check_trust("{{ (w ~ t ~ w)|trim }}", "U4T3U4");
	check_trust("{{ u|replace('s', t) }}", "U1T3U2");
	check_trust("{{ (t ~ '-')|replace('-', u) }}", "T3U4");
	check_trust("{{ t|replace('s', u) }}", "T1U4T1");
	check_trust("{{ l|join('--') }}", "U1T2U1");
	check_trust("{{ ','.join(l) }}{{ u.join([t, t]) }}", "U1T1U1T3U4T3");
	check_trust("{{ ('a,' ~ u ~ ',b').split(',')|join }}", "T1U4T1");
	check_trust("{{ '%s|%5s|%d' % (u, 'x', n) }}", "U4T7U2");
	check_trust("{{ '<{}>{}'.format(u, m) }}", "T1U4T2");
	check_trust("{{ (u ~ t) * 2 }}", "U4T3U4T3");
	check_trust("{{ ('a\\n' ~ u)|indent }}", "T1U1T4U4");
	check_trust("{{ 'long text of ours'|truncate(8, true) }}", "T8");
	check_trust("{{ (u ~ 'abcdefghijk')|truncate(8, true) }}", "U4T4");
	check_trust("{{ (u ~ '<')|e }}", "U4T4");
	check_trust("{{ (u ~ '|')|urlencode }}", "U4T3");
	check_trust("{{ u.center(6) }}{{ 'x'.center(3) }}", "U6T3");
	check_trust("{{ u if u else t }}{{ u and t }}", "U4T3");
	check_trust("{{ {'user': '<|u|>'}[u] }}", "T5");
	check_trust("{{ [u, t]|last }}{{ [t, u]|sort|last }}", "T3U4");
}

static void test_trust__of_json_and_blocks(void)
{
	check_trust("{{ d|tojson }}", "U15");
	check_trust("{{ {'k': t}|tojson }}", "U2T1U4T3U2");
	check_trust("{{ d }}", "T1U3T2U8T1");
	check_trust("{% set x %}<{{ u }}>{% endset %}{{ x }}", "T1U4T1");
	check_trust("{% filter upper %}a{{ u }}{% endfilter %}", "T1U4");
	check_trust(
		"{% macro m(x) %}[{{ x }}]{% endmacro %}{{ m(u) }}{{ m(t) }}",
		"T1U4T6");
	check_trust("{% for c in u ~ t %}{{ c }}{% endfor %}", "U4T3");
	check_trust("{% for k, v in d.items() %}{{ k }}={{ v }}{% endfor %}",
		"U1T1U6");
	check_trust("{% generation %}{{ u }}x{% endgeneration %}", "U4T1");
	check_trust("{% set ns = namespace(s='') %}{% for x in l %}"
		    "{% set ns.s = ns.s + x + ';' %}{% endfor %}{{ ns.s }}",
		"U1T1U1T1");
}

static void test_trust__closed_words(void)
{
	static const char *const words[] = {"user", "tool", NULL};
	const char *source =
		"{% for m in ms %}{{ m.role }}{{ m.text }}|{% endfor %}";
	struct jinja_limits limits = jinja_limits_default();
	struct jinja_input input = {
		.closed_key = "role", .closed_words = words};
	struct result r;
	char got[100];

	input.untrusted = parse("{\"ms\": [{\"role\": \"user\", \"text\": "
				"\"user\"}, {\"role\": \"evil\", \"text\": "
				"\"x\"}], \"role\": [\"user\"]}");
	r = render_input(source, strlen(source), &input, &limits);
	CU_ASSERT_EQUAL(r.rc, 0);
	describe(&r.out, got, sizeof(got));
	CU_ASSERT_STRING_EQUAL(got, "T4U4T1U5T1");
	result_free(&r);
	json_decref(input.untrusted);
}

/* --- memory and threads -------------------------------------------------- */

static const char all_round[] =
	"{% macro m(a, b=2) %}{{ a ~ b }}{{ kwargs }}{% endmacro %}"
	"{% set ns = namespace(x=[]) %}{% for k, v in d|dictsort if v %}"
	"{% set ns.x = ns.x + [k ~ v] %}{{ m(v, z=k) }}{{ loop.last }}"
	"{% endfor %}{{ ns.x|map('upper')|join(',') }}{{ d|tojson(indent=2) }}"
	"{{ '%05d' % 42 }}{{ 'a b'.split() }}";

static int render_once(json_t *json)
{
	struct jinja_limits limits = jinja_limits_default();
	struct jinja_input input = {.untrusted = json};
	struct result r =
		render_input(all_round, sizeof(all_round) - 1, &input, &limits);

	CU_ASSERT(r.rc != 0 || strstr(r.out.text, "00042") != NULL);
	CU_ASSERT(r.rc == 0 || (r.err.code == r.rc && r.err.text[0]));
	CU_ASSERT(r.rc == 0 || !r.out.text);
	result_free(&r);
	return r.rc;
}

static void test_memory__every_allocation_may_fail(void)
{
	json_t *json = parse("{\"d\": {\"b\": 1, \"a\": \"x\", \"c\": null}}");
	uint64_t nth;
	int rc = -ENOMEM;

	for (nth = 1; rc && nth < 1000; nth++) {
		fake_os_reset();
		fake_os_fail(FAKE_OS_ALLOCATE, nth, ENOMEM);
		rc = render_once(json);
		CU_ASSERT(rc == 0 || rc == -ENOMEM);
		CU_ASSERT_EQUAL(rc != 0, fake_os_has_failed());
		fake_os_disarm();
		CU_ASSERT(fake_os_check_empty());
	}
	CU_ASSERT_EQUAL(rc, 0);
	CU_ASSERT(nth > 5);
	json_decref(json);
}

struct worker {
	const struct jinja_template *template;
	int bad;
};

static void *work(void *argument)
{
	struct worker *worker = argument;
	json_t *json = parse("{\"d\": {\"b\": 1, \"a\": \"x\", \"c\": null}}");
	struct jinja_limits limits = jinja_limits_default();
	struct jinja_input input = {.untrusted = json};

	for (int i = 0; i < 50; i++) {
		struct jinja_output out;
		struct error err = {0};

		if (jinja_render(
			    worker->template, &input, &limits, &out, &err) ||
			!strstr(out.text, "00042"))
			worker->bad++;
		jinja_output_release(&out);
	}
	json_decref(json);
	return NULL;
}

static void test_threads__share_a_template(void)
{
	struct jinja_template *template = NULL;
	struct worker workers[4] = {0};
	pthread_t threads[4];

	CU_ASSERT_EQUAL_FATAL(jinja_compile(all_round, sizeof(all_round) - 1,
				      "t", &template, NULL),
		0);
	for (int i = 0; i < 4; i++) {
		workers[i].template = template;
		CU_ASSERT_EQUAL_FATAL(
			pthread_create(&threads[i], NULL, work, &workers[i]),
			0);
	}
	for (int i = 0; i < 4; i++) {
		pthread_join(threads[i], NULL);
		CU_ASSERT_EQUAL(workers[i].bad, 0);
	}
	jinja_free(template);
}

static const struct suite_case cases[] = {
	SUITE_CASE(render__equals_jinja2),
	SUITE_CASE(render__does_not_depend_on_trust),
	SUITE_CASE(compile__refuses_by_name),
	SUITE_CASE(render__refuses_rather_than_differ),
	SUITE_CASE(errors__say_where),
	SUITE_CASE(errors__of_the_template_itself),
	SUITE_CASE(errors__no_time_was_given),
	SUITE_CASE(compile__bytes_that_are_no_text),
	SUITE_CASE(compile__limits),
	SUITE_CASE(render__step_limit),
	SUITE_CASE(render__depth_limit),
	SUITE_CASE(render__memory_limit),
	SUITE_CASE(render__output_limit),
	SUITE_CASE(render__any_limit_at_any_moment),
	SUITE_CASE(render__attacks),
	SUITE_CASE(render__deep_input),
	SUITE_CASE(render__deadline),
	SUITE_CASE(trust__of_plain_values),
	SUITE_CASE(trust__of_operations),
	SUITE_CASE(trust__of_json_and_blocks),
	SUITE_CASE(trust__closed_words),
	SUITE_CASE(memory__every_allocation_may_fail),
	SUITE_CASE(threads__share_a_template),
};

int main(void)
{
	return SUITE_MAIN("jinja", cases);
}
