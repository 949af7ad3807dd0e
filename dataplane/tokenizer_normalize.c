/* tokenizer_normalize.c - normal forms and replacements (text -> text) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Normal forms work on stretches. A code point of the BMP is PLAIN in a form
 * if it is its own normal form, its combining class is 0, and neither it
 * nor what it decomposes to can be the second part of a composition. Nothing
 * happens across the front of a plain one, so a plain one with another behind
 * it is copied, and only the stretch from a plain one up to the next is
 * decomposed, ordered and composed. Marks are ordered by counting, so a long
 * run of them costs no more than its length.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "dataplane/tokenizer_private.h"
#include "dataplane/tokenizer_unicode.h"

#define PLAIN_BYTES (BMP_COUNT / 8)
#define DECOMPOSITION_MAX 32 /* code points of one, U+FDFA has 18 */

/* --- one code point ------------------------------------------------------------ */

static bool composes(enum normal_form form)
{
	return form == FORM_NFC || form == FORM_NFKC;
}

static int decompose_options(enum normal_form form)
{
	return UTF8PROC_DECOMPOSE | UTF8PROC_STABLE |
	       (form == FORM_NFKC || form == FORM_NFKD ? UTF8PROC_COMPAT : 0);
}

/* Does the library know nothing of it? */
static bool is_inert(uint32_t c)
{
	size_t low = 0;
	size_t high = unicode_inert_count;

	while (low < high) {
		size_t middle = (low + high) / 2;

		if (c > unicode_inert[middle][1])
			low = middle + 1;
		else
			high = middle;
	}
	return low < unicode_inert_count && c >= unicode_inert[low][0];
}

static size_t decompose(uint32_t c, enum normal_form form,
	utf8proc_int32_t out[DECOMPOSITION_MAX])
{
	int bound_class = 0;
	utf8proc_ssize_t count;

	if (is_inert(c)) {
		out[0] = (utf8proc_int32_t)c;
		return 1;
	}
	count = utf8proc_decompose_char((utf8proc_int32_t)c, out,
		DECOMPOSITION_MAX, (utf8proc_option_t)decompose_options(form),
		&bound_class);
	assert(count > 0 && count <= DECOMPOSITION_MAX);
	return (size_t)count;
}

static unsigned combining_class(utf8proc_int32_t c)
{
	return is_inert((uint32_t)c)
		       ? 0
		       : (unsigned)utf8proc_get_property(c)->combining_class;
}

/* --- one stretch -------------------------------------------------------------- */

/* Order one run of marks by combining class, keeping equals in order. */
static void order_run(
	utf8proc_int32_t *run, size_t count, utf8proc_int32_t *spare)
{
	size_t place[256] = {0};
	size_t sum = 0;

	for (size_t i = 0; i < count; i++)
		place[combining_class(run[i]) & 255]++;
	for (size_t class = 0; class < 256; class ++) {
		size_t members = place[class];

		place[class] = sum;
		sum += members;
	}
	for (size_t i = 0; i < count; i++)
		spare[place[combining_class(run[i]) & 255]++] = run[i];
	memcpy(run, spare, count * sizeof(*run));
}

static void order_marks(
	utf8proc_int32_t *points, size_t count, utf8proc_int32_t *spare)
{
	for (size_t i = 0; i < count;) {
		size_t start = i;
		bool sorted = true;

		for (; i < count && combining_class(points[i]); i++)
			if (i > start && combining_class(points[i]) <
						 combining_class(points[i - 1]))
				sorted = false;
		if (!sorted)
			order_run(points + start, i - start, spare);
		if (i == start)
			i++;
	}
}

/* Compose between inert code points, which are starters here and no more. */
static size_t compose(utf8proc_int32_t *points, size_t count)
{
	size_t used = 0;
	size_t end;

	for (size_t i = 0; i < count; i = end) {
		size_t composed;

		for (end = i; end < count && !is_inert((uint32_t)points[end]);)
			end++;
		composed = (size_t)utf8proc_normalize_utf32(points + i,
			(utf8proc_ssize_t)(end - i),
			(utf8proc_option_t)(UTF8PROC_COMPOSE |
					    UTF8PROC_STABLE));
		memmove(points + used, points + i, composed * sizeof(*points));
		used += composed;
		if (end < count)
			points[used++] = points[end++];
	}
	return used;
}

/* --- which code points are plain ---------------------------------------------- */

static void bit_set(uint8_t *bits, uint32_t i)
{
	bits[i / 8] = (uint8_t)(bits[i / 8] | 1u << i % 8);
}

static bool bit_get(const uint8_t *bits, uint32_t i)
{
	return (bits[i / 8] >> i % 8 & 1) != 0;
}

static bool is_surrogate(uint32_t c)
{
	return c >= 0xd800 && c <= 0xdfff;
}

/* Mark what stands second or later in any canonical decomposition. */
static void find_seconds(uint8_t *seconds)
{
	utf8proc_int32_t parts[DECOMPOSITION_MAX];

	for (uint32_t c = 0; c < 0x20000; c++) {
		size_t count =
			is_surrogate(c) ? 0 : decompose(c, FORM_NFD, parts);

		for (size_t i = 1; i < count; i++)
			if (parts[i] < (utf8proc_int32_t)BMP_COUNT)
				bit_set(seconds, (uint32_t)parts[i]);
	}
}

static bool is_plain(uint32_t c, enum normal_form form, const uint8_t *seconds)
{
	utf8proc_int32_t parts[DECOMPOSITION_MAX];
	size_t count = decompose(c, form, parts);

	if (combining_class((utf8proc_int32_t)c) || combining_class(parts[0]) ||
		bit_get(seconds, c))
		return false;
	if (!composes(form))
		return count == 1 && parts[0] == (utf8proc_int32_t)c;
	if (parts[0] < (utf8proc_int32_t)BMP_COUNT &&
		bit_get(seconds, (uint32_t)parts[0]))
		return false;
	count = compose(parts, count);
	return count == 1 && parts[0] == (utf8proc_int32_t)c;
}

int normalize_prepare(struct tokenizer *tok, enum normal_form form)
{
	uint8_t *seconds;

	if (tok->plain[form])
		return 0;
	seconds = calloc(1, PLAIN_BYTES);
	tok->plain[form] = calloc(1, PLAIN_BYTES);
	if (!seconds || !tok->plain[form]) {
		free(seconds);
		return -ENOMEM;
	}
	find_seconds(seconds);
	for (uint32_t c = 0; c < BMP_COUNT; c++)
		if (!is_surrogate(c) && is_plain(c, form, seconds))
			bit_set(tok->plain[form], c);
	free(seconds);
	return 0;
}

/* --- writing -------------------------------------------------------------------- */

struct writer {
	char *text;
	uint8_t *trust; /* NULL: all is trusted */
	size_t capacity;
	size_t used;
};

static bool write_bytes(
	struct writer *out, const char *bytes, size_t length, bool trusted)
{
	if (out->capacity - out->used < length)
		return false;
	if (length)
		memcpy(out->text + out->used, bytes, length);
	if (out->trust)
		memset(out->trust + out->used, trusted, length);
	out->used += length;
	return true;
}

static bool is_trusted(
	const struct text_view *view, size_t start, size_t length)
{
	return !view->trust || !memchr(view->trust + start, 0, length);
}

/* Copy bytes of `in` with their own trust. */
static bool write_copy(struct writer *out, const struct text_view *in,
	size_t start, size_t length)
{
	if (!write_bytes(out, in->text + start, length, true))
		return false;
	/* There is trust to write only where there is some to read. */
	if (out->trust && in->trust)
		memcpy(out->trust + out->used - length, in->trust + start,
			length);
	return true;
}

static bool normalize_stretch(struct writer *out, const struct text_view *in,
	size_t start, size_t end, enum normal_form form,
	const struct normalize_work *work)
{
	size_t half = work->point_capacity / 2;
	bool trusted = is_trusted(in, start, end - start);
	utf8proc_int32_t *points = work->points;
	size_t before = out->used;
	size_t count = 0;
	uint32_t size;

	for (size_t i = start; i < end; i += size) {
		uint32_t c = utf8_get(in->text + i, &size);

		if (half - count < DECOMPOSITION_MAX)
			return false;
		count += decompose(c, form, points + count);
	}
	order_marks(points, count, points + half);
	if (composes(form))
		count = compose(points, count);
	for (size_t i = 0; i < count; i++) {
		char bytes[UTF8_BYTES_MAX];

		if (!write_bytes(out, bytes,
			    utf8_put(bytes, (uint32_t)points[i]), trusted))
			return false;
	}
	/* What did not change keeps the trust of each byte. */
	if (out->trust && in->trust && out->used - before == end - start &&
		memcmp(out->text + before, in->text + start, end - start) == 0)
		memcpy(out->trust + before, in->trust + start, end - start);
	return true;
}

/* --- a whole text ------------------------------------------------------------- */

/* Bytes of ASCII at the front, all of which is plain: a multiple of 8. */
static size_t ascii_run(const char *text, size_t length)
{
	uint64_t eight;
	size_t run;

	for (run = 0; length - run >= sizeof(eight); run += sizeof(eight)) {
		memcpy(&eight, text + run, sizeof(eight));
		if (eight & UINT64_C(0x8080808080808080))
			break;
	}
	return run;
}

/*
 * The end of the text from `from` that stays as it is: up to the last plain
 * code point in front of one that is not. *behind is where the next plain one
 * begins after that, or the end.
 */
static size_t plain_until(const struct text_view *in, size_t from,
	const uint8_t *plain, size_t *behind)
{
	size_t last = from;
	size_t i = from;
	uint32_t size;

	while (i < in->length) {
		size_t ascii = ascii_run(in->text + i, in->length - i);
		uint32_t c;

		if (ascii) {
			last = i + ascii - 1;
			i += ascii;
			continue;
		}
		c = utf8_get(in->text + i, &size);
		if (c >= BMP_COUNT || !bit_get(plain, c))
			break;
		last = i;
		i += size;
	}
	if (i == in->length) {
		*behind = i;
		return i;
	}
	while (i < in->length) {
		uint32_t c = utf8_get(in->text + i, &size);

		if (c < BMP_COUNT && bit_get(plain, c))
			break;
		i += size;
	}
	*behind = i;
	return last;
}

static int normalize_form(const struct tokenizer *tok, enum normal_form form,
	const struct text_view *in, const struct normalize_work *work,
	struct writer *out)
{
	size_t from = 0;

	while (from < in->length) {
		size_t behind;
		size_t until = plain_until(in, from, tok->plain[form], &behind);

		if (!write_copy(out, in, from, until - from) ||
			!normalize_stretch(out, in, until, behind, form, work))
			return -E2BIG;
		from = behind;
	}
	return 0;
}

/* One byte by up to 4, which is what SentencePiece's space becomes. */
static void replace_byte(const struct text_view *in, char from, const char *to,
	size_t to_length, struct writer *out)
{
	char with[UTF8_BYTES_MAX] = {0};
	char *p = out->text + out->used;

	memcpy(with, to, to_length);
	for (size_t i = 0; i < in->length; i++) {
		if (in->text[i] == from) {
			memcpy(p, with, sizeof(with));
			p += to_length;
		} else {
			*p++ = in->text[i];
		}
	}
	out->used = (size_t)(p - out->text);
}

static int normalize_replace(const struct tokenizer *tok,
	const struct normalize_step *step, const struct text_view *in,
	struct writer *out)
{
	const char *from = blob_at(tok, step->from);
	size_t at = 0;

	/* With room for the worst case, and nothing to say about trust. */
	if (step->from_bytes == 1 && step->to_bytes <= UTF8_BYTES_MAX &&
		!in->trust &&
		(out->capacity - out->used) / UTF8_BYTES_MAX > in->length) {
		replace_byte(
			in, *from, blob_at(tok, step->to), step->to_bytes, out);
		return 0;
	}

	for (;;) {
		const char *hit = memmem(
			in->text + at, in->length - at, from, step->from_bytes);
		size_t until = hit ? (size_t)(hit - in->text) : in->length;

		if (!write_copy(out, in, at, until - at))
			return -E2BIG;
		if (!hit)
			return 0;
		if (!write_bytes(out, blob_at(tok, step->to), step->to_bytes,
			    is_trusted(in, until, step->from_bytes)))
			return -E2BIG;
		at = until + step->from_bytes;
	}
}

/* Would the step leave the text as it is? A cheap look, may say no. */
static bool is_idle(const struct tokenizer *tok,
	const struct normalize_step *step, const struct text_view *in)
{
	size_t behind;

	if (in->length == 0)
		return true;
	switch (step->kind) {
	case NORMALIZE_FORM:
		return plain_until(in, 0, tok->plain[step->form], &behind) ==
		       in->length;
	case NORMALIZE_REPLACE:
		return !memmem(in->text, in->length, blob_at(tok, step->from),
			step->from_bytes);
	case NORMALIZE_PREPEND:
	default:
		return step->to_bytes == 0;
	}
}

static int run_step(const struct tokenizer *tok,
	const struct normalize_step *step, const struct text_view *in,
	const struct normalize_work *work, struct writer *out)
{
	switch (step->kind) {
	case NORMALIZE_FORM:
		return normalize_form(tok, step->form, in, work, out);
	case NORMALIZE_REPLACE:
		return normalize_replace(tok, step, in, out);
	case NORMALIZE_PREPEND:
	default:
		return write_bytes(out, blob_at(tok, step->to), step->to_bytes,
			       true) && write_copy(out, in, 0, in->length)
			       ? 0
			       : -E2BIG;
	}
}

int normalize_text(const struct tokenizer *tok, struct normalize_work *work,
	struct text_view in, struct text_view *out)
{
	int side = 0;

	for (uint32_t i = 0; i < tok->normalize_count; i++) {
		const struct normalize_step *step = &tok->normalize[i];
		struct writer writer = {work->text[side],
			in.trust ? work->trust[side] : NULL, work->capacity, 0};
		int rc;

		if (is_idle(tok, step, &in))
			continue;
		rc = run_step(tok, step, &in, work, &writer);
		if (rc)
			return rc;
		in = (struct text_view){writer.text, writer.trust, writer.used};
		side = !side;
	}
	*out = in;
	return 0;
}

int replace_text(const struct tokenizer *tok, const struct normalize_step *step,
	struct text_view *view, char *room, size_t room_bytes)
{
	struct writer writer = {.capacity = room_bytes};
	int rc;

	writer.text = room;
	rc = normalize_replace(tok, step, view, &writer);
	if (rc == 0)
		*view = (struct text_view){room, NULL, writer.used};
	return rc;
}
