/* test_tokenizer_pattern.c - regexes translated, and matched as PCRE2 would */
/* SPDX-License-Identifier: Apache-2.0 */
#define PCRE2_CODE_UNIT_WIDTH 8
#include <errno.h>
#include <pcre2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dataplane/tokenizer_pattern.h"
#include "dataplane/utf8.h"
#include "tests/suite.h"

static int translate(const char *source, struct error *err)
{
	static char out[PATTERN_TRANSLATED_BYTES_MAX + 1];

	error_clear(err);
	return pattern_translate(source, strlen(source), out, err);
}

static void test_translate__refuses_by_name(void)
{
	static const char *const list[][2] = {
		{"a\\h", "\\h"},
		{"\\w+", "\\w"},
		{"\\bx", "\\b"},
		{"\\d", "\\d"},
		{"a\\", "escape"},
		{"(?i)a", "group"},
		{"(?i:ss)", "ligature"},
		{"(?i:\xc3\xa9)", "more than letters"},
		{"(?<name>a)", "group"},
		{"(*VERB)", "group"},
		{"^a", "^"},
		{"[[:alpha:]]", "class in a class"},
		{"[a&&b]", "intersection"},
		{"[]a]", "begins with ]"},
		{"[a", "without an end"},
		{"a{,3}", "{"},
		{"a{2}+", "{ }"},
		{"a{2,3}?", "{ }"},
		{"a{99999}", "{"},
		{"\\pL", "property"},
		{"\\p{^L}", "property"},
		{"[\\P{L}]", "negated property"},
		{"\\x41", "\\x"},
		{"\\u12", "code point"},
		{"\\x{1234567}", "code point"},
	};

	for (size_t i = 0; i < sizeof(list) / sizeof(*list); i++) {
		struct error err = {0};

		CU_ASSERT(translate(list[i][0], &err) == -ENOTSUP);
		if (!strstr(err.text, list[i][1]))
			printf("%s: %s ", list[i][0], err.text);
		CU_ASSERT(strstr(err.text, list[i][1]) != NULL);
	}
}

static void test_create__refuses_what_pcre2_refuses(void)
{
	struct pattern *pattern;
	struct error err = {0};
	static char long_text[PATTERN_BYTES_MAX + 1];

	CU_ASSERT(pattern_create("a(", 2, false, &pattern, &err) == -EINVAL);
	CU_ASSERT(strstr(err.text, "regex") != NULL);
	CU_ASSERT(pattern_create("\\p{Nosuch}", 10, false, &pattern, NULL) ==
		  -EINVAL);
	CU_ASSERT(pattern_create("a*", 2, false, &pattern, NULL) == -ENOTSUP);
	CU_ASSERT(pattern_create("", 0, true, &pattern, NULL) == -ENOTSUP);
	memset(long_text, 'a', sizeof(long_text));
	CU_ASSERT(pattern_create(long_text, sizeof(long_text), false, &pattern,
			  NULL) == -E2BIG);
}

/* The place of the first match as "start-end", or "none". */
static const char *find(const char *regex, const char *text, size_t from)
{
	static char shown[64];
	struct pattern_text subject = {.text = text, .length = strlen(text)};
	struct pattern_state *state;
	struct pattern *pattern;
	size_t match[2];
	int rc;

	CU_ASSERT_FATAL(pattern_create(regex, strlen(regex), false, &pattern,
				NULL) == 0);
	CU_ASSERT_FATAL(pattern_state_create(&state) == 0);
	rc = pattern_find(pattern, state, &subject, from, match);
	CU_ASSERT(rc >= 0);
	snprintf(shown, sizeof(shown), "none");
	if (rc > 0)
		snprintf(shown, sizeof(shown), "%zu-%zu", match[0], match[1]);
	pattern_state_destroy(state);
	pattern_destroy(pattern);
	return shown;
}

static void test_find__spaces_are_those_of_unicode(void)
{
	/* PCRE2's own \s has U+180E. */
	CU_ASSERT_STRING_EQUAL(find("\\s", "\xe1\xa0\x8e", 0), "none");
	CU_ASSERT_STRING_EQUAL(find("\\S", "\xe1\xa0\x8e", 0), "0-3");
	CU_ASSERT_STRING_EQUAL(find("[^\\S]", "x\xc2\x85", 0), "1-3");
	CU_ASSERT_STRING_EQUAL(find("[\\S]+", "\xe3\x80\x80x", 0), "3-4");
	CU_ASSERT_STRING_EQUAL(find("\\s", "\x1c", 0), "none");
}

static void test_find__dollar_ends_lines(void)
{
	CU_ASSERT_STRING_EQUAL(find("a$", "ab a\nb", 0), "3-4");
	CU_ASSERT_STRING_EQUAL(find("a$", "ab a", 0), "3-4");
	CU_ASSERT_STRING_EQUAL(find("\\s+$", "x  y  ", 0), "4-6");
	CU_ASSERT_STRING_EQUAL(find("\\s+$", "x  \n y", 0), "1-3");
	CU_ASSERT_STRING_EQUAL(find("\\s+$", "x  \n y", 3), "none");
	CU_ASSERT_STRING_EQUAL(find("\\s+$", "x  \n  ", 3), "3-6");
	CU_ASSERT_STRING_EQUAL(find("\\s+$", "\xc3\xa9  ", 0), "2-4");
}

static void test_find__caseless_letters_fold(void)
{
	CU_ASSERT_STRING_EQUAL(find("(?i:'s|'re)", "'\xc5\xbf", 0), "0-3");
	CU_ASSERT_STRING_EQUAL(find("(?i:'s|'re)", "x'RE", 0), "1-4");
	CU_ASSERT_STRING_EQUAL(find("(?i:'k)", "'\xe2\x84\xaa", 0), "0-4");
}

static void test_find__scripts_and_later_characters(void)
{
	/* U+3001 is in Han's extensions, not in Han. */
	CU_ASSERT_STRING_EQUAL(find("\\p{Han}", "\xe3\x80\x81", 0), "none");
	CU_ASSERT_STRING_EQUAL(find("\\p{Han}", "\xe4\xb8\xad", 0), "0-3");
	/* U+1E030: a letter since Unicode 15. */
	CU_ASSERT_STRING_EQUAL(find("\\p{L}", "\xf0\x9e\x80\xb0", 0), "0-4");
	CU_ASSERT_STRING_EQUAL(find("\\P{L}", "\xf0\x9e\x80\xb0", 0), "none");
	CU_ASSERT_STRING_EQUAL(
		find("[^\\p{L}]", "\xf0\x9e\x80\xb0", 0), "none");
}

/* --- both codes together -------------------------------------------------------- */

static const char *const regexes[] = {
	"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| "
	"?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
	"'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| "
	"?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+",
	"\\p{N}{1,3}",
	"[\xe4\xb8\x80-\xe9\xbe\xa5]+",
	"\\s?[A-Za-z\xc2\xb5\xc3\x80-\xc3\x96]+",
	"\\s+$",
	"(?<=a)b+|\xc3\xa9{2}",
	"[^a-c\xc3\xa9]++x?",
	"a.b|.",
};

/* What PCRE2 finds with the translated regex over the whole text. */
static bool same_as_pcre2(const char *regex, const char *text, size_t length)
{
	static char translated[PATTERN_TRANSLATED_BYTES_MAX + 1];
	struct pattern_text subject = {.text = text, .length = length};
	pcre2_match_data *data = pcre2_match_data_create(1, NULL);
	struct pattern_state *state;
	struct pattern *pattern;
	size_t from = 0;
	bool same = true;
	PCRE2_SIZE at;
	pcre2_code *code;
	int code_rc;

	CU_ASSERT_FATAL(
		pattern_translate(regex, strlen(regex), translated, NULL) == 0);
	code = pcre2_compile((PCRE2_SPTR)translated, PCRE2_ZERO_TERMINATED,
		PCRE2_UTF | PCRE2_UCP, &code_rc, &at, NULL);
	CU_ASSERT_FATAL(code && data);
	CU_ASSERT_FATAL(pattern_create(regex, strlen(regex), false, &pattern,
				NULL) == 0);
	CU_ASSERT_FATAL(pattern_state_create(&state) == 0);
	while (same && from < length) {
		const PCRE2_SIZE *wanted = pcre2_get_ovector_pointer(data);
		size_t match[2];
		int rc = pcre2_match(
			code, (PCRE2_SPTR)text, length, from, 0, data, NULL);
		int got = pattern_find(pattern, state, &subject, from, match);

		same = got == (rc >= 0);
		if (got != 1)
			break;
		same &= match[0] == wanted[0] && match[1] == wanted[1];
		from = match[1];
	}
	pattern_state_destroy(state);
	pattern_destroy(pattern);
	pcre2_code_free(code);
	pcre2_match_data_free(data);
	return same;
}

static void test_find__stretches_of_ascii_change_nothing(void)
{
	static const char *const parts[] = {"a", "b", "bb", "x", " ", "  ",
		"\n", "\r\n", "7", "1234", "'s", "'RE", ".", "--", "!\n",
		"\xc3\xa9", "\xc3\xa9\xc3\xa9", "\xe4\xb8\xad", "\xe2\x80\x83",
		"\xcc\x81", "\xf0\x9f\x98\x80", "\xd9\xa1", "hello", "\t",
		"\xc2\xb5"};
	const size_t part_count = sizeof(parts) / sizeof(*parts);
	uint64_t state = suite_seed(4);

	for (int round = 0; round < 400; round++) {
		const char *regex =
			regexes[(size_t)round %
				(sizeof(regexes) / sizeof(*regexes))];
		char text[512] = "";
		size_t length = 0;

		for (uint32_t i = suite_below(&state, 60); i > 0; i--) {
			const char *part = parts[suite_below(
				&state, (uint32_t)part_count)];

			length += (size_t)snprintf(text + length,
				sizeof(text) - length, "%s", part);
		}
		if (!same_as_pcre2(regex, text, length))
			printf("%s ", regex);
		CU_ASSERT_FATAL(same_as_pcre2(regex, text, length));
	}
}

static void test_find__work_over_the_limit_is_an_error(void)
{
	static const char regex[] = "(?:(?:a?){30}){30}[bc]";
	static char text[4000];
	struct pattern_text subject = {.text = text, .length = sizeof(text)};
	struct pattern_state *state;
	struct pattern *pattern;
	size_t match[2];

	memset(text, 'a', sizeof(text));
	CU_ASSERT_FATAL(pattern_create(regex, strlen(regex), false, &pattern,
				NULL) == 0);
	CU_ASSERT_FATAL(pattern_state_create(&state) == 0);
	CU_ASSERT(pattern_find(pattern, state, &subject, 0, match) == -E2BIG);
	pattern_state_destroy(state);
	pattern_destroy(pattern);
}

int main(void)
{
	static const struct suite_case cases[] = {
		SUITE_CASE(translate__refuses_by_name),
		SUITE_CASE(create__refuses_what_pcre2_refuses),
		SUITE_CASE(find__spaces_are_those_of_unicode),
		SUITE_CASE(find__dollar_ends_lines),
		SUITE_CASE(find__caseless_letters_fold),
		SUITE_CASE(find__scripts_and_later_characters),
		SUITE_CASE(find__stretches_of_ascii_change_nothing),
		SUITE_CASE(find__work_over_the_limit_is_an_error),
	};

	return SUITE_MAIN("tokenizer_pattern", cases);
}
