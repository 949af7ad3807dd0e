/* jinja_methods.c - methods of strings (text, arguments -> value) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <string.h>

#include "dataplane/jinja_private.h"

/* Arguments that take no keyword have names that begin with '/'. */
#define SIGNATURE(variable, function, required, ...)                           \
	static const char *const variable##_names[] = {__VA_ARGS__};           \
	static const struct jsignature variable = {function, variable##_names, \
		COUNT_OF(variable##_names), required}

/* What escape and safe made would have to escape its arguments too. */
static bool refuse_markup(struct jrun *run, struct jvalue self)
{
	if (self.text->markup)
		jrun_fail(run, EINVAL,
			"this method of escaped text is not supported");
	return self.text->markup || run->rc;
}

static bool is_given(struct jvalue value)
{
	return value.type != J_MISSING && value.type != J_NONE;
}

/* --- stripping and splitting --------------------------------------------- */

static struct jvalue strip(struct jrun *run, struct jvalue self,
	const struct jargs *args, unsigned sides)
{
	SIGNATURE(signature, "strip", 0, "/chars");
	struct jvalue chars;

	if (!jargs_bind(run, args, &signature, &chars))
		return self;
	return jtext_value(jtext_strip(run, self.text,
		is_given(chars) ? jarg_text(run, chars) : NULL, sides));
}

static struct jvalue text_strip(
	struct jrun *run, struct jvalue self, const struct jargs *args)
{
	return strip(run, self, args, JSTRIP_LEFT | JSTRIP_RIGHT);
}

static struct jvalue text_lstrip(
	struct jrun *run, struct jvalue self, const struct jargs *args)
{
	return strip(run, self, args, JSTRIP_LEFT);
}

static struct jvalue text_rstrip(
	struct jrun *run, struct jvalue self, const struct jargs *args)
{
	return strip(run, self, args, JSTRIP_RIGHT);
}

/* Words between whitespace, from the left. */
static void split_space(struct jrun *run, const struct jtext *text,
	int64_t most, struct jlist *out)
{
	size_t at = 0, from;
	unsigned size;

	while (jrun_charge(run, 1)) {
		while (at < text->length &&
			(junicode_flags(jutf8_read(text->bytes, at, &size)) &
				JU_SPACE))
			at += size;
		if (at == text->length)
			return;
		from = at;
		if (most == 0) {
			jlist_add(run, out,
				jtext_value(jtext_part(
					run, text, from, text->length)));
			return;
		}
		while (at < text->length &&
			!(junicode_flags(jutf8_read(text->bytes, at, &size)) &
				JU_SPACE))
			at += size;
		jlist_add(
			run, out, jtext_value(jtext_part(run, text, from, at)));
		most--;
	}
}

static void split_by(struct jrun *run, const struct jtext *text,
	const struct jtext *separator, int64_t most, struct jlist *out)
{
	size_t from = 0, found;

	for (; most != 0 && jrun_charge(run, 1); most--) {
		found = jtext_find(text, separator, from);
		if (found == SIZE_MAX)
			break;
		jlist_add(run, out,
			jtext_value(jtext_part(run, text, from, found)));
		from = found + separator->length;
	}
	if (!run->rc)
		jlist_add(run, out,
			jtext_value(jtext_part(run, text, from, text->length)));
}

/* The last occurrence that ends at or before `end`; SIZE_MAX = none. */
static size_t find_last(struct jrun *run, const struct jtext *text,
	const struct jtext *needle, size_t end)
{
	if (needle->length > end)
		return SIZE_MAX;
	if (needle->length == 0)
		return end;
	for (size_t at = end - needle->length + 1; at-- > 0;)
		if (text->bytes[at] == needle->bytes[0] &&
			jrun_charge_bytes(run, needle->length) &&
			memcmp(text->bytes + at, needle->bytes,
				needle->length) == 0)
			return at;
	return SIZE_MAX;
}

static void rsplit_by(struct jrun *run, const struct jtext *text,
	const struct jtext *separator, int64_t most, struct jlist *out)
{
	size_t end = text->length, found;

	for (; most != 0 && jrun_charge(run, 1); most--) {
		found = find_last(run, text, separator, end);
		if (found == SIZE_MAX)
			break;
		jlist_add(run, out,
			jtext_value(jtext_part(
				run, text, found + separator->length, end)));
		end = found;
	}
	if (!run->rc)
		jlist_add(run, out, jtext_value(jtext_part(run, text, 0, end)));
}

/* Words from the right; what is left over stays one piece. */
static void rsplit_space(struct jrun *run, const struct jtext *text,
	int64_t most, struct jlist *out)
{
	struct jtext *rest = jtext_strip(run, text, NULL, JSTRIP_RIGHT);

	while (rest && rest->length > 0 && jrun_charge(run, 1)) {
		size_t at = rest->length, start = at;
		unsigned size;

		while (at > 0) {
			at--;
			while (((unsigned char)rest->bytes[at] & 0xc0) == 0x80)
				at--;
			if (junicode_flags(jutf8_read(rest->bytes, at, &size)) &
				JU_SPACE)
				break;
			start = at;
		}
		if (most == 0)
			start = 0;
		jlist_add(run, out,
			jtext_value(
				jtext_part(run, rest, start, rest->length)));
		rest = jtext_strip(run, jtext_part(run, rest, 0, start), NULL,
			JSTRIP_RIGHT);
		most--;
	}
}

static struct jvalue split(struct jrun *run, struct jvalue self,
	const struct jargs *args, bool from_right)
{
	SIGNATURE(signature, "split", 0, "sep", "maxsplit");
	struct jvalue values[2], swap;
	struct jtext *separator;
	struct jlist *out;
	int64_t most;

	if (!jargs_bind(run, args, &signature, values))
		return self;
	most = jarg_int(run, values[1], -1);
	separator = is_given(values[0]) ? jarg_text(run, values[0]) : NULL;
	out = jlist_make(run, 4);
	if (run->rc || !jrun_charge_bytes(run, self.text->length))
		return self;
	if (!separator && !jrun_charge_characters(run, self.text->length))
		return self;
	if (separator && separator->length == 0)
		return jrun_bad(run, "split() by an empty separator");
	if (separator && from_right)
		rsplit_by(run, self.text, separator, most, out);
	else if (separator)
		split_by(run, self.text, separator, most, out);
	else if (from_right)
		rsplit_space(run, self.text, most, out);
	else
		split_space(run, self.text, most, out);
	for (size_t i = 0; from_right && !run->rc && i < out->count / 2; i++) {
		swap = out->items[i];
		out->items[i] = out->items[out->count - 1 - i];
		out->items[out->count - 1 - i] = swap;
	}
	return jvalue_list(out);
}

static struct jvalue text_split(
	struct jrun *run, struct jvalue self, const struct jargs *args)
{
	return split(run, self, args, false);
}

static struct jvalue text_rsplit(
	struct jrun *run, struct jvalue self, const struct jargs *args)
{
	return split(run, self, args, true);
}

static struct jvalue text_splitlines(
	struct jrun *run, struct jvalue self, const struct jargs *args)
{
	SIGNATURE(signature, "splitlines", 0, "keepends");
	struct jvalue keep;

	if (!jargs_bind(run, args, &signature, &keep))
		return self;
	return jtext_split_lines(run, self.text, jarg_bool(run, keep, false));
}

static struct jvalue partition(struct jrun *run, struct jvalue self,
	const struct jargs *args, bool from_right)
{
	SIGNATURE(signature, "partition", 1, "/sep");
	struct jvalue value;
	struct jtext *text = self.text, *separator;
	struct jlist *parts = jlist_make(run, 3);
	size_t cuts[4] = {0, text->length, text->length, text->length}, found;

	if (!jargs_bind(run, args, &signature, &value))
		return self;
	separator = jarg_text(run, value);
	if (run->rc || !parts || !jrun_charge_bytes(run, text->length))
		return self;
	if (separator->length == 0)
		return jrun_bad(run, "partition() by an empty separator");
	found = from_right ? find_last(run, text, separator, text->length)
			   : jtext_find(text, separator, 0);
	if (found != SIZE_MAX) {
		cuts[1] = found;
		cuts[2] = found + separator->length;
	} else if (from_right) {
		cuts[1] = cuts[2] = 0;
	}
	for (int i = 0; i < 3; i++)
		jlist_add(run, parts,
			jtext_value(
				jtext_part(run, text, cuts[i], cuts[i + 1])));
	return jvalue_tuple(parts);
}

static struct jvalue text_partition(
	struct jrun *run, struct jvalue self, const struct jargs *args)
{
	return partition(run, self, args, false);
}

static struct jvalue text_rpartition(
	struct jrun *run, struct jvalue self, const struct jargs *args)
{
	return partition(run, self, args, true);
}

/* --- searching ----------------------------------------------------------- */

/* The arguments (sub, start, end) of find() and its kin, as bytes. */
struct search {
	struct jtext *needle;
	struct jvalue needles; /* where a tuple is allowed */
	size_t from, to;
	bool empty; /* start lies behind the end */
};

static bool search_bind(struct jrun *run, struct jvalue self,
	const struct jargs *args, bool tuples, struct search *out)
{
	SIGNATURE(signature, "find", 1, "/sub", "/start", "/end");
	struct jvalue values[3];
	int64_t points = (int64_t)jtext_points(run, self.text), start, end;

	if (!jargs_bind(run, args, &signature, values))
		return false;
	*out = (struct search){.needles = values[0]};
	start = is_given(values[1]) ? jarg_int(run, values[1], 0) : 0;
	end = is_given(values[2]) ? jarg_int(run, values[2], 0) : points;
	if (!tuples || values[0].type != J_TUPLE)
		out->needle = jarg_text(run, values[0]);
	if (start < 0)
		start = start + points < 0 ? 0 : start + points;
	if (end < 0)
		end = end + points < 0 ? 0 : end + points;
	if (end > points)
		end = points;
	out->empty = start > end;
	if (run->rc || out->empty)
		return !run->rc;
	out->from = jtext_offset(run, self.text, (size_t)start);
	out->to = jtext_offset(run, self.text, (size_t)end);
	return jrun_charge_bytes(run, self.text->length);
}

/* Where the needle is within the bounds, in bytes; SIZE_MAX = nowhere. */
static size_t search_run(struct jrun *run, const struct jtext *text,
	const struct search *search, bool from_right)
{
	size_t found;

	if (search->empty)
		return SIZE_MAX;
	if (from_right) {
		found = find_last(run, text, search->needle, search->to);
		return found != SIZE_MAX && found < search->from ? SIZE_MAX
								 : found;
	}
	found = jtext_find(text, search->needle, search->from);
	return found != SIZE_MAX && found + search->needle->length > search->to
		       ? SIZE_MAX
		       : found;
}

static struct jvalue find(struct jrun *run, struct jvalue self,
	const struct jargs *args, bool from_right, bool must)
{
	struct search search;
	int64_t points = 0;
	size_t found;

	if (!search_bind(run, self, args, false, &search))
		return self;
	found = search_run(run, self.text, &search, from_right);
	if (found == SIZE_MAX && must)
		return jrun_bad(run, "index(): the text is not there");
	if (found == SIZE_MAX)
		return jvalue_int(-1, true);
	for (size_t i = 0; i < found; i++)
		points += ((unsigned char)self.text->bytes[i] & 0xc0) != 0x80;
	return jvalue_int(points, jtext_all_trusted(self.text));
}

static struct jvalue text_find(
	struct jrun *run, struct jvalue self, const struct jargs *args)
{
	return find(run, self, args, false, false);
}

static struct jvalue text_rfind(
	struct jrun *run, struct jvalue self, const struct jargs *args)
{
	return find(run, self, args, true, false);
}

static struct jvalue text_index(
	struct jrun *run, struct jvalue self, const struct jargs *args)
{
	return find(run, self, args, false, true);
}

static struct jvalue text_rindex(
	struct jrun *run, struct jvalue self, const struct jargs *args)
{
	return find(run, self, args, true, true);
}

static struct jvalue text_count(
	struct jrun *run, struct jvalue self, const struct jargs *args)
{
	struct search search;
	int64_t count = 0;
	size_t found;

	if (!search_bind(run, self, args, false, &search))
		return self;
	while (jrun_charge(run, 1)) {
		found = search_run(run, self.text, &search, false);
		if (found == SIZE_MAX)
			break;
		count++;
		search.from = found + search.needle->length;
		if (search.needle->length > 0)
			continue;
		if (found == self.text->length)
			break;
		do
			search.from++;
		while (search.from < self.text->length &&
			((unsigned char)self.text->bytes[search.from] & 0xc0) ==
				0x80);
	}
	return jvalue_int(count, jtext_all_trusted(self.text));
}

static bool has_affix(const struct jtext *text, const struct search *search,
	const struct jtext *affix, bool at_end)
{
	if (search->empty || affix->length > search->to - search->from)
		return false;
	return memcmp(text->bytes + (at_end ? search->to - affix->length
					    : search->from),
		       affix->bytes, affix->length) == 0;
}

static struct jvalue affix(struct jrun *run, struct jvalue self,
	const struct jargs *args, bool at_end)
{
	struct search search;
	bool found = false;

	if (!search_bind(run, self, args, true, &search))
		return self;
	if (search.needle)
		return jvalue_bool(
			has_affix(self.text, &search, search.needle, at_end));
	for (size_t i = 0; i < search.needles.list->count && !found; i++) {
		struct jtext *one =
			jarg_text(run, search.needles.list->items[i]);

		if (run->rc)
			return self;
		found = has_affix(self.text, &search, one, at_end);
	}
	return jvalue_bool(found);
}

static struct jvalue text_startswith(
	struct jrun *run, struct jvalue self, const struct jargs *args)
{
	return affix(run, self, args, false);
}

static struct jvalue text_endswith(
	struct jrun *run, struct jvalue self, const struct jargs *args)
{
	return affix(run, self, args, true);
}

static struct jvalue remove_affix(struct jrun *run, struct jvalue self,
	const struct jargs *args, bool at_end)
{
	SIGNATURE(signature, "removeprefix", 1, "/affix");
	struct jtext *text = self.text, *affix_text;
	struct search all = {.from = 0, .to = text->length};
	struct jvalue value;

	if (!jargs_bind(run, args, &signature, &value))
		return self;
	affix_text = jarg_text(run, value);
	if (run->rc || !has_affix(text, &all, affix_text, at_end))
		return self;
	if (at_end)
		return jtext_value(jtext_part(
			run, text, 0, text->length - affix_text->length));
	return jtext_value(
		jtext_part(run, text, affix_text->length, text->length));
}

static struct jvalue text_removeprefix(
	struct jrun *run, struct jvalue self, const struct jargs *args)
{
	return remove_affix(run, self, args, false);
}

static struct jvalue text_removesuffix(
	struct jrun *run, struct jvalue self, const struct jargs *args)
{
	return remove_affix(run, self, args, true);
}

/* --- building ------------------------------------------------------------ */

static struct jvalue text_replace(
	struct jrun *run, struct jvalue self, const struct jargs *args)
{
	SIGNATURE(signature, "replace", 2, "/old", "/new", "/count");
	struct jvalue values[3];
	struct jtext *from, *to;
	int64_t count;

	if (refuse_markup(run, self) ||
		!jargs_bind(run, args, &signature, values))
		return self;
	from = jarg_text(run, values[0]);
	to = jarg_text(run, values[1]);
	count = jarg_int(run, values[2], -1);
	if (run->rc)
		return self;
	return jtext_value(jtext_replace(run, self.text, from, to, count));
}

static struct jvalue text_join(
	struct jrun *run, struct jvalue self, const struct jargs *args)
{
	SIGNATURE(signature, "join", 1, "/iterable");
	struct jbuilder out;
	struct jvalue value, item;
	struct jiter *iter;
	bool first = true;

	if (refuse_markup(run, self) ||
		!jargs_bind(run, args, &signature, &value))
		return self;
	iter = jiter_open(run, value);
	jbuilder_init(&out, run);
	while (jiter_next(run, iter, &item)) {
		if (item.type != J_TEXT)
			return jrun_bad(run, "join() of '%s', not a string",
				jvalue_type_name(item));
		if (!first)
			jbuilder_add_text(&out, self.text);
		jbuilder_add_text(&out, item.text);
		first = false;
	}
	return run->rc ? self : jtext_value(jbuilder_finish(&out));
}

static struct jvalue text_format(
	struct jrun *run, struct jvalue self, const struct jargs *args)
{
	if (refuse_markup(run, self))
		return self;
	return jprintf_format(run, self.text, args);
}

/* Fill up to a width; `left` of the missing characters go to the left. */
static struct jvalue pad(struct jrun *run, const struct jtext *text,
	const struct jtext *fill, size_t left, size_t right)
{
	struct jbuilder out;

	if (!jrun_charge(run, (left + right) / 16 + 1))
		return jvalue_undefined(NULL);
	jbuilder_init(&out, run);
	for (size_t i = 0; i < left && !run->rc; i++)
		jbuilder_add_text(&out, fill);
	jbuilder_add_text(&out, text);
	for (size_t i = 0; i < right && !run->rc; i++)
		jbuilder_add_text(&out, fill);
	return jtext_value(jbuilder_finish(&out));
}

enum side { PAD_RIGHT, PAD_LEFT, PAD_BOTH };

static struct jvalue justify(struct jrun *run, struct jvalue self,
	const struct jargs *args, enum side side)
{
	SIGNATURE(signature, "center", 1, "/width", "/fillchar");
	struct jvalue values[2];
	struct jtext space = {.bytes = " ",
		.length = 1,
		.points = 1,
		.trusted = jtext_all_trusted(self.text)};
	struct jtext *fill = &space;
	int64_t width;
	size_t points = jtext_points(run, self.text), missing, left;

	if (refuse_markup(run, self) ||
		!jargs_bind(run, args, &signature, values))
		return self;
	width = jarg_int(run, values[0], 0);
	if (values[1].type != J_MISSING)
		fill = jarg_text(run, values[1]);
	if (run->rc)
		return self;
	if (jtext_points(run, fill) != 1)
		return jrun_bad(run, "the fill must be one character");
	if (width < 0 || (uint64_t)width <= points)
		return self;
	missing = (size_t)width - points;
	left = side == PAD_LEFT ? missing : 0;
	/* Python's center() puts the odd one to the left in odd widths. */
	if (side == PAD_BOTH)
		left = missing / 2 + (missing & (size_t)width & 1);
	return pad(run, self.text, fill, left, missing - left);
}

static struct jvalue text_center(
	struct jrun *run, struct jvalue self, const struct jargs *args)
{
	return justify(run, self, args, PAD_BOTH);
}

static struct jvalue text_ljust(
	struct jrun *run, struct jvalue self, const struct jargs *args)
{
	return justify(run, self, args, PAD_RIGHT);
}

static struct jvalue text_rjust(
	struct jrun *run, struct jvalue self, const struct jargs *args)
{
	return justify(run, self, args, PAD_LEFT);
}

static struct jvalue text_zfill(
	struct jrun *run, struct jvalue self, const struct jargs *args)
{
	SIGNATURE(signature, "zfill", 1, "/width");
	struct jbuilder out;
	struct jvalue value;
	struct jtext *text = self.text, *filled;
	size_t points = jtext_points(run, text), sign;
	int64_t width;

	if (!jargs_bind(run, args, &signature, &value))
		return self;
	width = jarg_int(run, value, 0);
	if (run->rc || width < 0 || (uint64_t)width <= points)
		return self;
	sign = text->length > 0 &&
	       (text->bytes[0] == '+' || text->bytes[0] == '-');
	jbuilder_init(&out, run);
	jbuilder_add_part(&out, text, 0, sign);
	jbuilder_fill(
		&out, '0', (size_t)width - points, jtext_all_trusted(text));
	jbuilder_add_part(&out, text, sign, text->length);
	filled = jbuilder_finish(&out);
	if (filled)
		filled->markup = text->markup;
	return jtext_value(filled);
}

#define TEXT_METHOD(name)                                                      \
	{                                                                      \
#name, JOWNER_TEXT, JMETHOD_CALL, text_##name                  \
	}
#define TEXT_REFUSED(name)                                                     \
	{                                                                      \
#name, JOWNER_TEXT, JMETHOD_REFUSED, NULL                      \
	}

const struct jmethod_entry jtext_methods[] = {TEXT_METHOD(strip),
	TEXT_METHOD(split), TEXT_METHOD(lstrip), TEXT_METHOD(rstrip),
	TEXT_METHOD(startswith), TEXT_METHOD(endswith), TEXT_METHOD(replace),
	TEXT_METHOD(join), TEXT_METHOD(format), TEXT_METHOD(rsplit),
	TEXT_METHOD(splitlines), TEXT_METHOD(partition),
	TEXT_METHOD(rpartition), TEXT_METHOD(find), TEXT_METHOD(rfind),
	TEXT_METHOD(index), TEXT_METHOD(rindex), TEXT_METHOD(count),
	TEXT_METHOD(removeprefix), TEXT_METHOD(removesuffix),
	TEXT_METHOD(center), TEXT_METHOD(ljust), TEXT_METHOD(rjust),
	TEXT_METHOD(zfill), TEXT_REFUSED(casefold), TEXT_REFUSED(encode),
	TEXT_REFUSED(expandtabs), TEXT_REFUSED(format_map),
	TEXT_REFUSED(isidentifier), TEXT_REFUSED(isprintable),
	TEXT_REFUSED(istitle), TEXT_REFUSED(maketrans),
	TEXT_REFUSED(translate)};

const size_t jtext_method_count = COUNT_OF(jtext_methods);
