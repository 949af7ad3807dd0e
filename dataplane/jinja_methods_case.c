/* jinja_methods_case.c - methods of strings that look at each character */
/* SPDX-License-Identifier: Apache-2.0 */
#include "dataplane/jinja_private.h"

/* Is the sigma at `at` the last letter of its word? */
static bool is_final_sigma(const struct jtext *text, size_t at)
{
	size_t before = at, after = at;
	unsigned flags = 0, size;

	while (before > 0) {
		before--;
		while (((unsigned char)text->bytes[before] & 0xc0) == 0x80)
			before--;
		flags = junicode_flags(jutf8_read(text->bytes, before, &size));
		if (!(flags & JU_CASE_IGNORABLE))
			break;
		flags = 0;
	}
	if (!(flags & JU_CASED))
		return false;
	(void)jutf8_read(text->bytes, at, &size);
	for (after = at + size; after < text->length; after += size) {
		flags = junicode_flags(jutf8_read(text->bytes, after, &size));
		if (!(flags & JU_CASE_IGNORABLE))
			return !(flags & JU_CASED);
	}
	return true;
}

static void add_recased(struct jbuilder *out, const struct jtext *text,
	size_t at, enum jcase to)
{
	bool trusted = jtext_trusted_at(text, at);
	uint32_t points[3] = {0};
	unsigned size, count;
	uint32_t point = jutf8_read(text->bytes, at, &size);

	if (to == JCASE_LOWER && point == 0x3a3) {
		jbuilder_add_point(
			out, is_final_sigma(text, at) ? 0x3c2 : 0x3c3, trusted);
		return;
	}
	count = junicode_map(point, to, points);
	for (unsigned i = 0; i < count; i++)
		jbuilder_add_point(out, points[i], trusted);
}

struct jtext *jtext_recase(
	struct jrun *run, const struct jtext *text, enum jcase to)
{
	struct jbuilder out;
	struct jtext *result;
	unsigned size;

	if (!text || !jrun_charge_characters(run, text->length))
		return NULL;
	jbuilder_init(&out, run);
	for (size_t at = 0; at < text->length && !run->rc; at += size) {
		(void)jutf8_read(text->bytes, at, &size);
		add_recased(&out, text, at, to);
	}
	result = jbuilder_finish(&out);
	if (result)
		result->markup = text->markup;
	return result;
}

struct jvalue jvalue_fold_case(struct jrun *run, struct jvalue value)
{
	if (run->rc || value.type != J_TEXT)
		return value;
	return jtext_value(jtext_recase(run, value.text, JCASE_LOWER));
}

/* capitalize(), title() and swapcase(), which look at each character. */
enum recase_kind { RECASE_CAPITALIZE, RECASE_TITLE, RECASE_SWAP };

static struct jvalue recase_each(
	struct jrun *run, const struct jtext *text, enum recase_kind kind)
{
	struct jbuilder out;
	struct jtext *result;
	bool inside = false;
	unsigned size;

	jbuilder_init(&out, run);
	(void)jrun_charge_characters(run, text->length);
	for (size_t at = 0; at < text->length && !run->rc; at += size) {
		uint32_t point = jutf8_read(text->bytes, at, &size);
		unsigned flags = junicode_flags(point);
		enum jcase to = inside ? JCASE_LOWER : JCASE_TITLE;

		if (kind == RECASE_SWAP)
			to = flags & JU_UPPER ? JCASE_LOWER : JCASE_UPPER;
		if (kind == RECASE_SWAP && !(flags & (JU_UPPER | JU_LOWER)))
			jbuilder_add_part(&out, text, at, at + size);
		else
			add_recased(&out, text, at, to);
		inside = kind == RECASE_CAPITALIZE || (flags & JU_CASED);
	}
	result = jbuilder_finish(&out);
	if (result)
		result->markup = text->markup;
	return jtext_value(result);
}

static struct jvalue text_upper(
	struct jrun *run, struct jvalue self, const struct jargs *args)
{
	if (!jargs_none(run, args, "upper"))
		return self;
	return jtext_value(jtext_recase(run, self.text, JCASE_UPPER));
}

static struct jvalue text_lower(
	struct jrun *run, struct jvalue self, const struct jargs *args)
{
	if (!jargs_none(run, args, "lower"))
		return self;
	return jtext_value(jtext_recase(run, self.text, JCASE_LOWER));
}

static struct jvalue text_capitalize(
	struct jrun *run, struct jvalue self, const struct jargs *args)
{
	if (!jargs_none(run, args, "capitalize"))
		return self;
	return recase_each(run, self.text, RECASE_CAPITALIZE);
}

static struct jvalue text_title(
	struct jrun *run, struct jvalue self, const struct jargs *args)
{
	if (!jargs_none(run, args, "title"))
		return self;
	return recase_each(run, self.text, RECASE_TITLE);
}

static struct jvalue text_swapcase(
	struct jrun *run, struct jvalue self, const struct jargs *args)
{
	if (!jargs_none(run, args, "swapcase"))
		return self;
	return recase_each(run, self.text, RECASE_SWAP);
}

/* Not empty, and every character has one of the flags. */
static struct jvalue all_have(struct jrun *run, struct jvalue self,
	const struct jargs *args, unsigned flags)
{
	const struct jtext *text = self.text;
	bool all = text->length > 0;
	unsigned size;

	if (!jargs_none(run, args, "is...") ||
		!jrun_charge_characters(run, text->length))
		return self;
	for (size_t at = 0; all && at < text->length; at += size)
		all = junicode_flags(jutf8_read(text->bytes, at, &size)) &
		      flags;
	return jvalue_bool(all);
}

static struct jvalue text_isalpha(
	struct jrun *run, struct jvalue self, const struct jargs *args)
{
	return all_have(run, self, args, JU_ALPHA);
}

static struct jvalue text_isalnum(
	struct jrun *run, struct jvalue self, const struct jargs *args)
{
	return all_have(
		run, self, args, JU_ALPHA | JU_DIGIT | JU_DECIMAL | JU_NUMERIC);
}

static struct jvalue text_isdigit(
	struct jrun *run, struct jvalue self, const struct jargs *args)
{
	return all_have(run, self, args, JU_DIGIT);
}

static struct jvalue text_isdecimal(
	struct jrun *run, struct jvalue self, const struct jargs *args)
{
	return all_have(run, self, args, JU_DECIMAL);
}

static struct jvalue text_isnumeric(
	struct jrun *run, struct jvalue self, const struct jargs *args)
{
	return all_have(run, self, args, JU_NUMERIC);
}

static struct jvalue text_isspace(
	struct jrun *run, struct jvalue self, const struct jargs *args)
{
	return all_have(run, self, args, JU_SPACE);
}

static struct jvalue text_isascii(
	struct jrun *run, struct jvalue self, const struct jargs *args)
{
	if (!jargs_none(run, args, "isascii"))
		return self;
	return jvalue_bool(jtext_points(run, self.text) == self.text->length);
}

static struct jvalue text_islower(
	struct jrun *run, struct jvalue self, const struct jargs *args)
{
	if (!jargs_none(run, args, "islower"))
		return self;
	return jvalue_bool(jtext_has_case(run, self.text, JU_LOWER));
}

static struct jvalue text_isupper(
	struct jrun *run, struct jvalue self, const struct jargs *args)
{
	if (!jargs_none(run, args, "isupper"))
		return self;
	return jvalue_bool(jtext_has_case(run, self.text, JU_UPPER));
}

bool jtext_has_case(struct jrun *run, const struct jtext *text, unsigned flag)
{
	bool found = false;
	unsigned size;

	if (!text || !jrun_charge_characters(run, text->length))
		return false;
	for (size_t at = 0; at < text->length; at += size) {
		unsigned flags =
			junicode_flags(jutf8_read(text->bytes, at, &size));

		if (flags & (JU_LOWER | JU_UPPER | JU_TITLE) & ~flag)
			return false;
		found |= (flags & flag) != 0;
	}
	return found;
}

#define TEXT_METHOD(name)                                                      \
	{                                                                      \
#name, JOWNER_TEXT, JMETHOD_CALL, text_##name                  \
	}

const struct jmethod_entry jcase_methods[] = {TEXT_METHOD(upper),
	TEXT_METHOD(lower), TEXT_METHOD(capitalize), TEXT_METHOD(title),
	TEXT_METHOD(swapcase), TEXT_METHOD(isalpha), TEXT_METHOD(isalnum),
	TEXT_METHOD(isdigit), TEXT_METHOD(isdecimal), TEXT_METHOD(isnumeric),
	TEXT_METHOD(isspace), TEXT_METHOD(isascii), TEXT_METHOD(islower),
	TEXT_METHOD(isupper)};

const size_t jcase_method_count = COUNT_OF(jcase_methods);
