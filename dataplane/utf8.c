/* utf8.c - UTF-8 read from anywhere (bytes -> code points) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <string.h>
#include <utf8proc.h>

#include "dataplane/utf8.h"

/* How many bytes a lead byte announces; 0: it is none. */
static uint32_t announced(unsigned char lead)
{
	if (lead < 0x80)
		return 1;
	if (lead < 0xc2)
		return 0;
	if (lead < 0xe0)
		return 2;
	if (lead < 0xf0)
		return 3;
	return lead < 0xf5 ? 4 : 0;
}

/* Table 3-7: only the second byte has a range that depends on the lead. */
static bool second_fits(unsigned char lead, unsigned char second)
{
	unsigned char low = 0x80;
	unsigned char high = 0xbf;

	if (lead == 0xe0)
		low = 0xa0;
	if (lead == 0xed)
		high = 0x9f;
	if (lead == 0xf0)
		low = 0x90;
	if (lead == 0xf4)
		high = 0x8f;
	return second >= low && second <= high;
}

struct utf8_item utf8_next(const char *bytes, size_t length)
{
	const unsigned char *p = (const unsigned char *)bytes;
	uint32_t wanted = announced(p[0]);
	struct utf8_item item = {UTF8_BROKEN, 1, 0};
	uint32_t have;

	assert(length > 0);
	if (wanted == 0)
		return item;
	for (have = 1; have < wanted && have < length; have++) {
		bool fits = have == 1 ? second_fits(p[0], p[1])
				      : (p[have] & 0xc0) == 0x80;

		if (!fits)
			break;
	}
	item.size_bytes = have;
	if (have == wanted) {
		item.kind = UTF8_CHAR;
		item.code_point = utf8_get(bytes, &wanted);
	} else if (have == length) {
		item.kind = UTF8_PARTIAL;
	}
	return item;
}

uint32_t utf8_put(char out[UTF8_BYTES_MAX], uint32_t c)
{
	if (c < 0x80) {
		out[0] = (char)c;
		return 1;
	}
	if (c < 0x800) {
		out[0] = (char)(0xc0 | c >> 6);
		out[1] = (char)(0x80 | (c & 0x3f));
		return 2;
	}
	if (c < 0x10000) {
		out[0] = (char)(0xe0 | c >> 12);
		out[1] = (char)(0x80 | (c >> 6 & 0x3f));
		out[2] = (char)(0x80 | (c & 0x3f));
		return 3;
	}
	out[0] = (char)(0xf0 | c >> 18);
	out[1] = (char)(0x80 | (c >> 12 & 0x3f));
	out[2] = (char)(0x80 | (c >> 6 & 0x3f));
	out[3] = (char)(0x80 | (c & 0x3f));
	return 4;
}

size_t utf8_valid_prefix(const char *bytes, size_t length)
{
	size_t i = 0;

	while (i < length) {
		struct utf8_item item;
		uint64_t eight;

		if (length - i >= sizeof(eight)) {
			memcpy(&eight, bytes + i, sizeof(eight));
			if (!(eight & UINT64_C(0x8080808080808080))) {
				i += sizeof(eight);
				continue;
			}
		}
		item = utf8_next(bytes + i, length - i);
		if (item.kind != UTF8_CHAR)
			break;
		i += item.size_bytes;
	}
	return i;
}

bool utf8_is_space(uint32_t c)
{
	if (c < 0x80)
		return c == ' ' || (c >= 9 && c <= 13);
	return c == 0x85 || c == 0xa0 || c == 0x1680 ||
	       (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 ||
	       c == 0x202f || c == 0x205f || c == 0x3000;
}

/* Alphabetic by Other_Alphabetic alone: the circled and squared letters. */
static bool is_circled_letter(uint32_t c)
{
	return (c >= 0x24b6 && c <= 0x24e9) || (c >= 0x1f130 && c <= 0x1f149) ||
	       (c >= 0x1f150 && c <= 0x1f169) || (c >= 0x1f170 && c <= 0x1f189);
}

bool utf8_is_word(uint32_t c)
{
	switch (utf8proc_category((utf8proc_int32_t)c)) {
	case UTF8PROC_CATEGORY_LU:
	case UTF8PROC_CATEGORY_LL:
	case UTF8PROC_CATEGORY_LT:
	case UTF8PROC_CATEGORY_LM:
	case UTF8PROC_CATEGORY_LO:
	case UTF8PROC_CATEGORY_MN:
	case UTF8PROC_CATEGORY_MC:
	case UTF8PROC_CATEGORY_ME:
	case UTF8PROC_CATEGORY_ND:
	case UTF8PROC_CATEGORY_NL:
	case UTF8PROC_CATEGORY_PC:
		return true;
	default:
		return c == 0x200c || c == 0x200d || is_circled_letter(c);
	}
}
