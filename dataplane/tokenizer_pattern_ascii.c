/* tokenizer_pattern_ascii.c - a translated regex for ASCII text (regex -> regex) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dataplane/tokenizer_pattern.h"
#include "dataplane/utf8.h"

#define NEVER "(?:(?!))" /* matches nothing */

struct narrowing {
	const char *at;
	char *out;
	size_t used;
};

static int put(struct narrowing *n, const char *text, size_t length)
{
	if (PATTERN_TRANSLATED_BYTES_MAX - n->used < length)
		return -E2BIG;
	memcpy(n->out + n->used, text, length);
	n->used += length;
	return 0;
}

static int put_set(struct narrowing *n, const uint8_t set[16])
{
	char text[128 * 4 + 3];
	size_t used = 1;

	text[0] = '[';
	for (unsigned c = 0; c < 128; c++)
		if (set[c / 8] >> c % 8 & 1)
			used += (size_t)snprintf(
				text + used, sizeof(text) - used, "\\x%02x", c);
	text[used++] = ']';
	return used == 2 ? put(n, NEVER, strlen(NEVER)) : put(n, text, used);
}

/* The end of the class at `text`, behind its ]. */
static const char *class_end(const char *text)
{
	for (text++; *text != ']'; text++)
		if (*text == '\\')
			text++;
	return text + 1;
}

/* An escape outside a class: \x{..} may lie outside of ASCII. */
static int escape(struct narrowing *n)
{
	const char *start = n->at;
	const char *close;

	n->at += 2;
	if (start[1] != 'x')
		return put(n, start, 2);
	close = strchr(start, '}');
	n->at = close + 1;
	if (strtoul(start + 3, NULL, 16) >= 0x80)
		return put(n, NEVER, strlen(NEVER));
	return put(n, start, (size_t)(n->at - start));
}

int pattern_translate_ascii(const char *translated, char *out,
	int (*members)(const char *text, size_t length, uint8_t set[16]))
{
	struct narrowing n = {translated, out, 0};
	int rc = 0;

	while (rc == 0 && *n.at) {
		uint32_t size = 1;

		if (*n.at == '\\') {
			rc = escape(&n);
		} else if (*n.at == '[') {
			const char *end = class_end(n.at);
			uint8_t set[16];

			rc = members(n.at, (size_t)(end - n.at), set);
			if (rc == 0)
				rc = put_set(&n, set);
			n.at = end;
		} else {
			bool ascii = utf8_get(n.at, &size) < 0x80;

			rc = put(&n, ascii ? n.at : NEVER,
				ascii ? 1 : strlen(NEVER));
			n.at += size;
		}
	}
	out[n.used] = '\0';
	return rc;
}
