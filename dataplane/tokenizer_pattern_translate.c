/* tokenizer_pattern_translate.c - Oniguruma's syntax as PCRE2's (regex -> regex) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "dataplane/tokenizer_pattern.h"
#include "dataplane/tokenizer_unicode.h"

/* Unicode White_Space and its complement, as ranges of a class. */
#define SPACES                                                                 \
	"\\x{9}-\\x{d}\\x{20}\\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}"       \
	"\\x{2028}\\x{2029}\\x{202f}\\x{205f}\\x{3000}"
#define NOT_SPACES                                                             \
	"\\x{0}-\\x{8}\\x{e}-\\x{1f}\\x{21}-\\x{84}\\x{86}-\\x{9f}"            \
	"\\x{a1}-\\x{167f}\\x{1681}-\\x{1fff}\\x{200b}-\\x{2027}"              \
	"\\x{202a}-\\x{202e}\\x{2030}-\\x{205e}\\x{2060}-\\x{2fff}"            \
	"\\x{3001}-\\x{10ffff}"

struct translation {
	const char *in;
	const char *at; /* next byte to read */
	const char *end;
	char *out;
	size_t used;
	struct error *err;
};

static int refuse(const struct translation *t, const char *what)
{
	return error_set(t->err, ENOTSUP,
		"regex: %s (at byte %zu) is not supported", what,
		(size_t)(t->at - t->in));
}

static bool left(const struct translation *t, size_t count)
{
	return (size_t)(t->end - t->at) >= count;
}

static bool at_text(const struct translation *t, const char *text)
{
	return left(t, strlen(text)) && memcmp(t->at, text, strlen(text)) == 0;
}

static int put(struct translation *t, const char *text, size_t length)
{
	if (PATTERN_TRANSLATED_BYTES_MAX - t->used < length)
		return error_set(t->err, E2BIG, "regex: too long");
	memcpy(t->out + t->used, text, length);
	t->used += length;
	return 0;
}

static int put_text(struct translation *t, const char *text)
{
	return put(t, text, strlen(text));
}

/* Copy `count` bytes as they are. */
static int copy(struct translation *t, size_t count)
{
	int rc = put(t, t->at, count);

	t->at += count;
	return rc;
}

static bool is_category(const char *name, size_t length)
{
	static const char list[] =
		" L Lu Ll Lt Lm Lo M Mn Mc Me N Nd Nl No P Pc Pd Ps Pe Pi Pf "
		"Po S Sm Sc Sk So Z Zs Zl Zp C Cc Cf Co Cn ";
	char word[5];

	if (length > 2)
		return false;
	snprintf(word, sizeof(word), " %.*s ", (int)length, name);
	return strstr(list, word) != NULL;
}

/* The ranges that the library's newer Unicode adds to a property. */
static int later_ranges(struct translation *t, const char *name, size_t length)
{
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < unicode_later_count; i++) {
		const struct unicode_later *later = &unicode_later[i];
		char text[40];

		if (strncmp(later->name, name, length) != 0 ||
			(length > 1 && later->name[length] != '\0'))
			continue;
		snprintf(text, sizeof(text), "\\x{%x}-\\x{%x}",
			(unsigned)later->first, (unsigned)later->last);
		rc = put_text(t, text);
	}
	return rc;
}

/*
 * \p{..} at t->at: a category as it is, a longer name as a script, both with
 * what PCRE2's tables lack, as a class where it is not in one.
 */
static int property(struct translation *t, bool in_class)
{
	const char *name = t->at + 3;
	bool negated = left(t, 2) && t->at[1] == 'P';
	const char *close;
	char text[48];
	size_t length;
	int rc;

	if (!left(t, 4) || t->at[2] != '{')
		return refuse(t, "a property without braces");
	if (negated && in_class)
		return refuse(t, "a negated property in a class");
	close = memchr(name, '}', (size_t)(t->end - name));
	length = close ? (size_t)(close - name) : 0;
	if (length == 0 || length > 30)
		return refuse(t, "a property without a name");
	for (size_t i = 0; i < length; i++)
		if (!isalpha((unsigned char)name[i]) && name[i] != '_')
			return refuse(t, "a property of this form");
	/* PCRE2's plain script names mean Script_Extensions. */
	snprintf(text, sizeof(text), "%s\\p{%s%.*s}",
		in_class  ? ""
		: negated ? "[^"
			  : "[",
		is_category(name, length) ? "" : "sc:", (int)length, name);
	rc = put_text(t, text);
	if (rc == 0)
		rc = later_ranges(t, name, length);
	if (rc == 0 && !in_class)
		rc = put_text(t, "]");
	t->at = close + 1;
	return rc;
}

/* \uHHHH or \x{H..}: the same number in PCRE2's spelling. */
static int code_point(struct translation *t)
{
	bool braces = t->at[1] == 'x';
	const char *digits = t->at + (braces ? 3 : 2);
	char text[24];
	size_t count = 0;

	if (braces && (!left(t, 3) || t->at[2] != '{'))
		return refuse(t, "\\x without braces");
	while (digits + count < t->end && count < (braces ? 6u : 4u) &&
		isxdigit((unsigned char)digits[count]))
		count++;
	if (count == 0 || (!braces && count != 4) ||
		(braces && (digits + count == t->end || digits[count] != '}')))
		return refuse(t, "an escaped code point of this form");
	snprintf(text, sizeof(text), "\\x{%.*s}", (int)count, digits);
	t->at = digits + count + braces;
	return put_text(t, text);
}

static int escape(struct translation *t, bool in_class)
{
	char c = '\0';

	if (left(t, 2))
		c = t->at[1];
	switch (c) {
	case 's':
	case 'S':
		t->at += 2;
		if (in_class)
			return put_text(t, c == 's' ? SPACES : NOT_SPACES);
		return put_text(t, c == 's' ? "[" SPACES "]" : "[^" SPACES "]");
	case 'p':
	case 'P':
		return property(t, in_class);
	case 'u':
	case 'x':
		return code_point(t);
	case 'n':
	case 'r':
	case 't':
	case 'f':
		return copy(t, 2);
	default:
		if (!ispunct((unsigned char)c)) {
			char what[] = "the escape \\?";

			if (isprint((unsigned char)c))
				what[sizeof(what) - 2] = c;
			return refuse(t, what);
		}
		return copy(t, 2);
	}
}

static int class(struct translation *t)
{
	int rc = copy(t, 1);

	if (rc == 0 && at_text(t, "^"))
		rc = copy(t, 1);
	if (at_text(t, "]"))
		return refuse(t, "a class that begins with ]");
	while (rc == 0 && left(t, 1) && *t->at != ']') {
		if (*t->at == '[')
			return refuse(t, "a class in a class");
		if (at_text(t, "&&"))
			return refuse(t, "the intersection of classes");
		rc = *t->at == '\\' ? escape(t, true) : copy(t, 1);
	}
	if (rc == 0 && !left(t, 1))
		return refuse(t, "a class without an end");
	return rc ? rc : copy(t, 1);
}

/*
 * (?i: ) of letters, ', | and ?. Oniguruma also folds several characters to
 * one (ss to U+00DF), PCRE2 never does: pairs of which such a fold exists are
 * refused.
 */
static int caseless_group(struct translation *t)
{
	static const char *const pairs[] = {"ss", "st", "ff", "fi", "fl"};
	int rc = copy(t, 4);

	while (rc == 0 && left(t, 1) && *t->at != ')') {
		if (!isalpha((unsigned char)*t->at) && !strchr("'|?", *t->at))
			return refuse(t, "in (?i: more than letters");
		for (size_t i = 0; i < sizeof(pairs) / sizeof(*pairs); i++)
			if (left(t, 2) && strncasecmp(t->at, pairs[i], 2) == 0)
				return refuse(
					t, "in (?i: a ligature's letters");
		rc = copy(t, 1);
	}
	return rc;
}

static int group(struct translation *t)
{
	static const char *const known[] = {
		"(?:", "(?>", "(?=", "(?!", "(?<=", "(?<!"};

	for (size_t i = 0; i < sizeof(known) / sizeof(*known); i++)
		if (at_text(t, known[i]))
			return copy(t, strlen(known[i]));
	if (at_text(t, "(?i:"))
		return caseless_group(t);
	if (at_text(t, "(?") || at_text(t, "(*"))
		return refuse(t, "a group of this kind");
	t->at++;
	return put_text(t, "(?:");
}

/* {n}, {n,} and {n,m}; behind them ? and + mean different things. */
static int repeat(struct translation *t)
{
	const char *p = t->at + 1;
	const char *digits = p;

	while (p < t->end && isdigit((unsigned char)*p))
		p++;
	if (p == digits || p - digits > 4)
		return refuse(t, "{ without a small number");
	if (p < t->end && *p == ',')
		for (p++, digits = p; p < t->end && isdigit((unsigned char)*p);)
			p++;
	if (p == t->end || *p != '}' || p - digits > 4)
		return refuse(t, "a repeat of this form");
	p++;
	if (p < t->end && strchr("?+*", *p))
		return refuse(t, "{ } with ?, + or * behind it");
	return copy(t, (size_t)(p - t->at));
}

static int next(struct translation *t)
{
	switch (*t->at) {
	case '\\':
		return escape(t, false);
	case '[':
		return class(t);
	case '(':
		return group(t);
	case '{':
		return repeat(t);
	case '$':
		t->at++;
		return put_text(t, "(?=\\n|\\z)");
	case '^':
		return refuse(t, "^");
	default:
		return copy(t, 1);
	}
}

int pattern_translate(
	const char *source, size_t length, char *out, struct error *err)
{
	struct translation t = {source, source, source + length, out, 0, err};
	int rc = 0;

	/*
	 * A match that begins inside a run of spaces would also begin at the
	 * run's start, so only two places need to be tried: where the search
	 * starts and where a run starts.
	 */
	if (length == 4 && memcmp(source, "\\s+$", 4) == 0)
		rc = put_text(&t, "(?:\\G|(?<![" SPACES "]))");
	while (rc == 0 && t.at < t.end)
		rc = next(&t);
	if (rc)
		return rc;
	out[t.used] = '\0';
	return 0;
}
