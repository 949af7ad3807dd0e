/* jinja_string.c - texts that know each byte's origin (texts -> texts) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A text is a view of bytes and, where they differ in origin, of one mark
 * per byte beside them. So a slice costs nothing, and whatever copies bytes
 * through a builder copies their marks along.
 */
#include <assert.h>
#include <errno.h>
#include <string.h>

#include "dataplane/jinja_private.h"

#define SHOWN_BYTES_MAX 200 /* of a text in an error */

/* --- UTF-8 --------------------------------------------------------------- */

uint32_t jutf8_read(const char *bytes, size_t at, unsigned *size)
{
	const unsigned char *b = (const unsigned char *)bytes + at;

	if (b[0] < 0x80) {
		*size = 1;
		return b[0];
	}
	if (b[0] < 0xe0) {
		*size = 2;
		return (b[0] & 0x1fu) << 6 | (b[1] & 0x3fu);
	}
	if (b[0] < 0xf0) {
		*size = 3;
		return (b[0] & 0x0fu) << 12 | (b[1] & 0x3fu) << 6 |
		       (b[2] & 0x3fu);
	}
	*size = 4;
	return (b[0] & 0x07u) << 18 | (b[1] & 0x3fu) << 12 |
	       (b[2] & 0x3fu) << 6 | (b[3] & 0x3fu);
}

size_t jutf8_write(char out[4], uint32_t point)
{
	if (point < 0x80) {
		out[0] = (char)point;
		return 1;
	}
	if (point < 0x800) {
		out[0] = (char)(0xc0 | point >> 6);
		out[1] = (char)(0x80 | (point & 0x3f));
		return 2;
	}
	if (point < 0x10000) {
		out[0] = (char)(0xe0 | point >> 12);
		out[1] = (char)(0x80 | (point >> 6 & 0x3f));
		out[2] = (char)(0x80 | (point & 0x3f));
		return 3;
	}
	assert(point <= 0x10ffff);
	out[0] = (char)(0xf0 | point >> 18);
	out[1] = (char)(0x80 | (point >> 12 & 0x3f));
	out[2] = (char)(0x80 | (point >> 6 & 0x3f));
	out[3] = (char)(0x80 | (point & 0x3f));
	return 4;
}

bool jutf8_valid(const char *bytes, size_t length, size_t *bad_at)
{
	const unsigned char *b = (const unsigned char *)bytes;
	static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};

	for (size_t at = 0; at < length;) {
		unsigned size = b[at] < 0x80    ? 1
				: b[at] < 0xc2  ? 0
				: b[at] < 0xe0  ? 2
				: b[at] < 0xf0  ? 3
				: b[at] <= 0xf4 ? 4
						: 0;
		uint32_t point;

		*bad_at = at;
		if (size == 0 || length - at < size)
			return false;
		for (unsigned i = 1; i < size; i++)
			if ((b[at + i] & 0xc0) != 0x80)
				return false;
		point = jutf8_read(bytes, at, &size);
		if (point < least[size] || point > 0x10ffff ||
			(point >= 0xd800 && point <= 0xdfff))
			return false;
		at += size;
	}
	return true;
}

/* --- views --------------------------------------------------------------- */

struct jtext *jtext_make(
	struct jrun *run, const char *bytes, size_t length, bool trusted)
{
	struct jtext *text = jrun_take(run, sizeof(*text));

	if (text)
		*text = (struct jtext){.bytes = bytes,
			.length = length,
			.points = SIZE_MAX,
			.trusted = trusted};
	return text;
}

struct jvalue jtext_value(struct jtext *text)
{
	if (!text)
		return jvalue_undefined(NULL);
	return (struct jvalue){.type = J_TEXT, .text = text};
}

struct jvalue jtext_name_value(struct jrun *run, const struct jtext *name)
{
	return jtext_value(jtext_part(run, name, 0, name->length));
}

int jtext_shown(const struct jtext *text)
{
	size_t length = text->length;

	if (length > SHOWN_BYTES_MAX) {
		length = SHOWN_BYTES_MAX;
		while (length > 0 &&
			((unsigned char)text->bytes[length] & 0xc0) == 0x80)
			length--;
	}
	return (int)length;
}

struct jtext *jtext_part(
	struct jrun *run, const struct jtext *text, size_t from, size_t to)
{
	struct jtext *part;

	if (!text)
		return NULL;
	part = jtext_make(run, text->bytes + from, to - from, text->trusted);
	assert(from <= to && to <= text->length);
	if (part) {
		part->marks = text->marks ? text->marks + from : NULL;
		part->markup = text->markup;
		if (text->points == text->length)
			part->points = to - from; /* ASCII */
	}
	return part;
}

size_t jtext_points(struct jrun *run, struct jtext *text)
{
	size_t count = 0;

	if (!text)
		return 0;
	if (text->points != SIZE_MAX || !jrun_charge_bytes(run, text->length))
		return text->points == SIZE_MAX ? 0 : text->points;
	for (size_t i = 0; i < text->length; i++)
		count += ((unsigned char)text->bytes[i] & 0xc0) != 0x80;
	text->points = count;
	return count;
}

size_t jtext_offset(struct jrun *run, struct jtext *text, size_t index)
{
	size_t at = 0;

	if (!text)
		return 0;
	if (jtext_points(run, text) == text->length)
		return index < text->length ? index : text->length;
	if (!jrun_charge_bytes(run, text->length))
		return 0;
	for (; at < text->length; at++)
		if (((unsigned char)text->bytes[at] & 0xc0) != 0x80 &&
			index-- == 0)
			break;
	return at;
}

bool jtext_is(const struct jtext *text, const char *word)
{
	return strlen(word) == text->length &&
	       memcmp(word, text->bytes, text->length) == 0;
}

bool jtext_equal(const struct jtext *a, const struct jtext *b)
{
	return a->length == b->length &&
	       (a->length == 0 || memcmp(a->bytes, b->bytes, a->length) == 0);
}

/* The order of bytes of UTF-8 is the order of code points. */
int jtext_order(const struct jtext *a, const struct jtext *b)
{
	size_t least = a->length < b->length ? a->length : b->length;
	int order = least ? memcmp(a->bytes, b->bytes, least) : 0;

	if (order)
		return order;
	return (a->length > b->length) - (a->length < b->length);
}

bool jtext_trusted_at(const struct jtext *text, size_t at)
{
	return text->marks ? text->marks[at] : text->trusted;
}

bool jtext_all_trusted(const struct jtext *text)
{
	if (!text)
		return false;
	return text->marks ? !memchr(text->marks, 0, text->length)
			   : text->trusted || text->length == 0;
}

size_t jtext_find(
	const struct jtext *text, const struct jtext *needle, size_t from)
{
	const char *found;

	if (!text || !needle || from > text->length ||
		needle->length > text->length - from)
		return SIZE_MAX;
	if (needle->length == 0)
		return from;
	found = memmem(text->bytes + from, text->length - from, needle->bytes,
		needle->length);
	return found ? (size_t)(found - text->bytes) : SIZE_MAX;
}

/* --- builder ------------------------------------------------------------- */

void jbuilder_init(struct jbuilder *b, struct jrun *run)
{
	*b = (struct jbuilder){.run = run, .max_bytes = SIZE_MAX / 4};
}

/* Room for `more` bytes, and for their marks where there are marks. */
static bool jbuilder_room(struct jbuilder *b, size_t more)
{
	size_t need, capacity = b->capacity ? b->capacity : 64;
	char *bytes;

	if (b->run->rc)
		return false;
	if (!add_ok(b->length, more, &need) || need > b->max_bytes) {
		jrun_fail(b->run, EFBIG, "the output exceeds its limit");
		return false;
	}
	if (need <= b->capacity)
		return true;
	while (capacity < need)
		capacity *= 2;
	/* Marks lie behind the bytes only in time: each is a block. */
	bytes = jarena_grow(&b->run->arena, b->bytes, b->length, capacity);
	if (bytes && b->marks) {
		uint8_t *marks = jrun_take(b->run, capacity);

		if (!marks)
			return false;
		memcpy(marks, b->marks, b->length);
		b->marks = marks;
	}
	if (!bytes) {
		(void)jrun_take(b->run, SIZE_MAX / 2); /* records the error */
		return false;
	}
	b->bytes = bytes;
	b->capacity = capacity;
	return true;
}

/* From now on every byte has a mark of its own. */
static bool jbuilder_mark(struct jbuilder *b)
{
	if (b->marks)
		return true;
	b->marks = jrun_take(b->run, b->capacity);
	if (b->marks)
		memset(b->marks, b->trusted, b->length);
	return b->marks != NULL;
}

/* Note the origin of `count` bytes about to be added. */
static bool jbuilder_origin(struct jbuilder *b, size_t count, bool trusted)
{
	if (b->length == 0 && !b->marks)
		b->trusted = trusted;
	if (b->marks || trusted != b->trusted) {
		if (!jbuilder_mark(b))
			return false;
		memset(b->marks + b->length, trusted, count);
	}
	return true;
}

void jbuilder_add(
	struct jbuilder *b, const char *bytes, size_t length, bool trusted)
{
	if (length == 0 || !jbuilder_room(b, length) ||
		!jbuilder_origin(b, length, trusted))
		return;
	assert(b->bytes);
	memcpy(b->bytes + b->length, bytes, length);
	b->length += length;
}

void jbuilder_fill(struct jbuilder *b, char c, size_t count, bool trusted)
{
	if (count == 0 || !jbuilder_room(b, count) ||
		!jbuilder_origin(b, count, trusted))
		return;
	memset(b->bytes + b->length, c, count);
	b->length += count;
}

void jbuilder_add_point(struct jbuilder *b, uint32_t point, bool trusted)
{
	char bytes[4] = {0};
	size_t length = jutf8_write(bytes, point);

	jbuilder_add(b, bytes, length, trusted);
}

void jbuilder_add_text(struct jbuilder *b, const struct jtext *text)
{
	if (!text || text->length == 0)
		return;
	if (!text->marks) {
		jbuilder_add(b, text->bytes, text->length, text->trusted);
		return;
	}
	if (!jbuilder_room(b, text->length) || !jbuilder_mark(b))
		return;
	memcpy(b->bytes + b->length, text->bytes, text->length);
	memcpy(b->marks + b->length, text->marks, text->length);
	b->length += text->length;
}

void jbuilder_add_part(
	struct jbuilder *b, const struct jtext *text, size_t from, size_t to)
{
	struct jtext part;

	if (!text)
		return;
	part = *text;
	assert(from <= to && to <= text->length);
	part.bytes += from;
	part.length = to - from;
	if (part.marks)
		part.marks += from;
	jbuilder_add_text(b, &part);
}

struct jtext *jbuilder_finish(struct jbuilder *b)
{
	struct jtext *text;

	if (!jrun_charge_bytes(b->run, b->length))
		return NULL;
	text = jtext_make(b->run, b->bytes ? b->bytes : "", b->length,
		b->length == 0 || b->trusted);
	if (text)
		text->marks = b->marks;
	return text;
}

/* --- operations ---------------------------------------------------------- */

struct jtext *jtext_concat(
	struct jrun *run, const struct jtext *a, const struct jtext *b)
{
	struct jbuilder out;
	struct jtext *text;
	bool markup;

	if (!a || !b)
		return NULL;
	markup = a->markup || b->markup;
	/* What escape and safe made escapes the other side too. */
	if (a->markup && !b->markup)
		b = jtext_escape(run, b);
	else if (b->markup && !a->markup)
		a = jtext_escape(run, a);
	jbuilder_init(&out, run);
	jbuilder_add_text(&out, a);
	jbuilder_add_text(&out, b);
	text = jbuilder_finish(&out);
	if (text)
		text->markup = markup;
	return text;
}

struct jtext *jtext_repeat(
	struct jrun *run, const struct jtext *text, int64_t times)
{
	struct jbuilder out;
	struct jtext *result;
	size_t total;

	if (!text)
		return NULL;
	jbuilder_init(&out, run);
	if (times > 0 && text->length > 0) {
		if (!mul_ok(text->length, (size_t)times, &total) ||
			!jrun_charge_bytes(run, total) ||
			!jrun_charge(run, (uint64_t)times / 16) ||
			!jbuilder_room(&out, total))
			total = 0;
		for (; total > 0 && !run->rc; total -= text->length)
			jbuilder_add_text(&out, text);
		if (out.length == 0)
			(void)jrun_take(run, SIZE_MAX / 2);
	}
	result = jbuilder_finish(&out);
	if (result)
		result->markup = text->markup;
	return result;
}

static bool is_stripped(
	struct jrun *run, const struct jtext *chars, uint32_t point)
{
	unsigned size;

	if (!chars)
		return junicode_flags(point) & JU_SPACE;
	if (!jrun_charge_bytes(run, chars->length))
		return false;
	for (size_t at = 0; at < chars->length; at += size)
		if (jutf8_read(chars->bytes, at, &size) == point)
			return true;
	return false;
}

struct jtext *jtext_strip(struct jrun *run, const struct jtext *text,
	const struct jtext *chars, unsigned sides)
{
	size_t from = 0, to = text ? text->length : 0;
	unsigned size;

	if (!text)
		return NULL;
	while ((sides & JSTRIP_LEFT) && from < to) {
		uint32_t point = jutf8_read(text->bytes, from, &size);

		if (!is_stripped(run, chars, point))
			break;
		from += size;
	}
	while ((sides & JSTRIP_RIGHT) && to > from) {
		size_t at = to - 1;

		while (((unsigned char)text->bytes[at] & 0xc0) == 0x80)
			at--;
		if (!is_stripped(
			    run, chars, jutf8_read(text->bytes, at, &size)))
			break;
		to = at;
	}
	if (!jrun_charge_characters(run, from + text->length - to))
		return NULL;
	return jtext_part(run, text, from, to);
}

/* replace('', x): x before every character and at the end. */
static void replace_empty(struct jbuilder *out, const struct jtext *text,
	const struct jtext *to, int64_t count)
{
	size_t at = 0;

	while (!out->run->rc && count != 0) {
		size_t next = at + 1;

		jbuilder_add_text(out, to);
		count--;
		if (at == text->length || !jrun_charge(out->run, 1))
			break;
		while (next < text->length &&
			((unsigned char)text->bytes[next] & 0xc0) == 0x80)
			next++;
		jbuilder_add_part(out, text, at, next);
		at = next;
	}
	if (at < text->length && !out->run->rc)
		jbuilder_add_part(out, text, at, text->length);
}

struct jtext *jtext_replace(struct jrun *run, const struct jtext *text,
	const struct jtext *from, const struct jtext *to, int64_t count)
{
	struct jbuilder out;
	size_t at = 0, found;

	if (!text || !from || !to || !jrun_charge_bytes(run, text->length))
		return NULL;
	jbuilder_init(&out, run);
	if (from->length == 0) {
		replace_empty(&out, text, to, count);
		return jbuilder_finish(&out);
	}
	for (; count != 0 && jrun_charge(run, 1); count--) {
		found = jtext_find(text, from, at);
		if (found == SIZE_MAX)
			break;
		jbuilder_add_part(&out, text, at, found);
		jbuilder_add_text(&out, to);
		at = found + from->length;
	}
	if (run->rc)
		return NULL;
	jbuilder_add_part(&out, text, at, text->length);
	return jbuilder_finish(&out);
}

struct jvalue jtext_slice(struct jrun *run, struct jtext *text, int64_t start,
	int64_t step, size_t count)
{
	struct jbuilder out;
	struct jtext *result;
	size_t *offsets = NULL;
	bool ascii;

	if (!text)
		return jvalue_undefined(NULL);
	ascii = jtext_points(run, text) == text->length;
	if (count == 0 || run->rc)
		return jtext_value(jtext_part(run, text, 0, 0));
	if (step == 1)
		return jtext_value(jtext_part(run, text,
			jtext_offset(run, text, (size_t)start),
			jtext_offset(run, text, (size_t)start + count)));
	if (!ascii) {
		size_t next = 0;

		offsets = jrun_take_array(
			run, text->points + 1, sizeof(*offsets));
		for (size_t i = 0; offsets && i < text->length; i++)
			if (((unsigned char)text->bytes[i] & 0xc0) != 0x80)
				offsets[next++] = i;
		if (!offsets)
			return jvalue_undefined(NULL);
		offsets[next] = text->length;
	}
	jbuilder_init(&out, run);
	for (size_t i = 0; i < count && jrun_charge(run, 1); i++) {
		size_t point = (size_t)(start + (int64_t)i * step);
		size_t from = ascii ? point : offsets[point];
		size_t to = ascii ? point + 1 : offsets[point + 1];

		if (text->marks)
			jbuilder_add(&out, text->bytes + from, to - from,
				text->marks[from]);
		else
			jbuilder_add(&out, text->bytes + from, to - from,
				text->trusted);
	}
	result = jbuilder_finish(&out);
	if (result)
		result->markup = text->markup;
	return jtext_value(result);
}

/* str.splitlines() knows more line ends than \n. */
static bool is_line_end(uint32_t point)
{
	return (point >= 0x0a && point <= 0x0d) ||
	       (point >= 0x1c && point <= 0x1e) || point == 0x85 ||
	       point == 0x2028 || point == 0x2029;
}

struct jvalue jtext_split_lines(
	struct jrun *run, const struct jtext *text, bool keep_ends)
{
	struct jlist *lines = jlist_make(run, 8);
	size_t from = 0;
	unsigned size;

	for (size_t at = 0; lines && text && at < text->length; at += size) {
		uint32_t point = jutf8_read(text->bytes, at, &size);
		size_t end = at;

		if (!is_line_end(point))
			continue;
		if (point == '\r' && at + 1 < text->length &&
			text->bytes[at + 1] == '\n')
			size = 2;
		if (!jrun_charge(run, 1))
			break;
		jlist_add(run, lines,
			jtext_value(jtext_part(run, text, from,
				keep_ends ? end + size : end)));
		from = at + size;
	}
	if (!text || !jrun_charge_characters(run, text->length))
		return jvalue_undefined(NULL);
	if (from < text->length)
		jlist_add(run, lines,
			jtext_value(jtext_part(run, text, from, text->length)));
	return jvalue_list(lines);
}

struct jtext *jtext_escape(struct jrun *run, const struct jtext *text)
{
	static const char special[] = "&<>\"'";
	static const char *const entities[] = {
		"&amp;", "&lt;", "&gt;", "&#34;", "&#39;"};
	struct jbuilder out;
	struct jtext *result;

	if (!text || !jrun_charge_characters(run, text->length))
		return NULL;
	jbuilder_init(&out, run);
	for (size_t i = 0; i < text->length && !run->rc; i++) {
		const char *kind =
			text->bytes[i] ? strchr(special, text->bytes[i]) : NULL;
		bool trusted = jtext_trusted_at(text, i);

		if (kind)
			jbuilder_add(&out, entities[kind - special],
				strlen(entities[kind - special]), trusted);
		else
			jbuilder_add(&out, text->bytes + i, 1, trusted);
	}
	result = jbuilder_finish(&out);
	if (result)
		result->markup = true;
	return result;
}
