/* tokenizer_vocab.c - tokens by id and by text (spelling -> id -> bytes) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "dataplane/tokenizer_private.h"

int blob_add(
	struct blob *blob, const char *bytes, size_t length, uint32_t *offset)
{
	size_t wanted;

	if (!add_ok(blob->used, length, &wanted) || wanted > UINT32_MAX / 2)
		return -E2BIG;
	/* There is a place to point to, also for a text of no bytes. */
	if (wanted > blob->capacity || !blob->data) {
		size_t capacity = wanted + wanted / 2 + 1024;
		char *data = realloc(blob->data, capacity);

		if (!data)
			return -ENOMEM;
		blob->data = data;
		blob->capacity = capacity;
	}
	if (length)
		memcpy(blob->data + blob->used, bytes, length);
	*offset = (uint32_t)blob->used;
	blob->used = wanted;
	return 0;
}

/*
 * GPT-2 writes each byte as a printable character: the printable ones of
 * Latin-1 stand for themselves, the other 68 follow from U+0100 on in order.
 * (openai/gpt-2, src/encoder.py, bytes_to_unicode)
 */
static bool stands_for_itself(uint32_t byte)
{
	return (byte >= 0x21 && byte <= 0x7e) ||
	       (byte >= 0xa1 && byte <= 0xff && byte != 0xad);
}

/* The byte of a letter, or -1. */
static int byte_of_letter(uint32_t c)
{
	if (c < 0x100)
		return stands_for_itself(c) ? (int)c : -1;
	if (c < 0x100 + 0x21)
		return (int)(c - 0x100);
	if (c < 0x100 + 0x21 + 0xa1 - 0x7f)
		return (int)(c - 0x100 - 0x21 + 0x7f);
	return c == 0x100 + 0x21 + 0xa1 - 0x7f ? 0xad : -1;
}

bool byte_level_bytes(
	const char *text, size_t length, char *out, size_t *out_length)
{
	size_t used = 0;
	uint32_t size;

	for (size_t i = 0; i < length; i += size) {
		int byte = byte_of_letter(utf8_get(text + i, &size));

		if (byte < 0)
			return false;
		out[used++] = (char)byte;
	}
	*out_length = used;
	return true;
}

int table_create(size_t count, size_t entry_bytes, void **table, uint32_t *mask)
{
	size_t slots = 16;

	while (slots < 2 * count)
		slots *= 2;
	assert(slots - 1 <= UINT32_MAX);
	*table = calloc(slots, entry_bytes);
	if (!*table)
		return -ENOMEM;
	*mask = (uint32_t)(slots - 1);
	return 0;
}

/* Eight bytes at a time, multiplied and folded. */
uint64_t text_hash(const char *text, size_t length, bool as_bytes)
{
	const uint64_t factor = UINT64_C(0x9e3779b97f4a7c15);
	uint64_t hash = length * factor + as_bytes;
	uint64_t word = 0;

	for (; length > 8; text += 8, length -= 8) {
		memcpy(&word, text, 8);
		hash = (hash ^ word) * factor;
		hash ^= hash >> 32;
	}
	word = 0;
	for (size_t i = 0; i < length; i++)
		word |= (uint64_t)(unsigned char)text[i] << (8 * i);
	hash = (hash ^ word) * factor;
	hash ^= hash >> 29;
	hash *= UINT64_C(0xbf58476d1ce4e5b9);
	return hash ^ hash >> 32;
}

static bool token_is(const struct tokenizer *tok, uint32_t id, const char *text,
	size_t length, bool as_bytes)
{
	const struct token *token = &tok->tokens[id];

	return token->text_bytes == length &&
	       ((token->flags & TOKEN_BYTES) != 0) == as_bytes &&
	       memcmp(blob_at(tok, token->text), text, length) == 0;
}

uint32_t vocab_find(const struct tokenizer *tok, const char *text,
	size_t length, bool as_bytes)
{
	uint32_t slot =
		(uint32_t)text_hash(text, length, as_bytes) & tok->text_mask;

	for (;; slot = (slot + 1) & tok->text_mask) {
		uint32_t entry = tok->text_table[slot];

		if (entry == 0)
			return TOKENIZER_NONE;
		if (token_is(tok, entry - 1, text, length, as_bytes))
			return entry - 1;
	}
}

uint32_t vocab_find_spelling(
	const struct tokenizer *tok, const char *text, size_t length)
{
	char bytes[TOKENIZER_TOKEN_BYTES_MAX];
	size_t used;

	if (length > sizeof(bytes))
		return TOKENIZER_NONE;
	if (tok->byte_level && byte_level_bytes(text, length, bytes, &used))
		return vocab_find(tok, bytes, used, true);
	return vocab_find(tok, text, length, false);
}

void vocab_insert(struct tokenizer *tok, uint32_t id)
{
	const struct token *token = &tok->tokens[id];
	uint32_t slot =
		(uint32_t)text_hash(blob_at(tok, token->text),
			token->text_bytes, (token->flags & TOKEN_BYTES) != 0) &
		tok->text_mask;

	while (tok->text_table[slot])
		slot = (slot + 1) & tok->text_mask;
	tok->text_table[slot] = id + 1;
}

uint32_t tokenizer_vocab_size(const struct tokenizer *tok)
{
	return tok->token_count;
}

static bool has_flag(const struct tokenizer *tok, uint32_t id, unsigned flag)
{
	return id < tok->token_count && (tok->tokens[id].flags & flag) != 0;
}

const char *tokenizer_token_bytes(
	const struct tokenizer *tok, uint32_t id, size_t *length)
{
	if (!has_flag(tok, id, TOKEN_EXISTS))
		return NULL;
	*length = tok->tokens[id].out_bytes;
	return blob_at(tok, tok->tokens[id].out);
}

bool tokenizer_is_special(const struct tokenizer *tok, uint32_t id)
{
	return has_flag(tok, id, TOKEN_SPECIAL);
}

bool tokenizer_is_control(const struct tokenizer *tok, uint32_t id)
{
	return has_flag(tok, id, TOKEN_CONTROL);
}

uint32_t tokenizer_id_of(
	const struct tokenizer *tok, const char *text, size_t length)
{
	for (uint32_t i = 0; i < tok->added_count; i++) {
		const struct added_token *added = &tok->added[i];

		if (added->content_bytes == length &&
			memcmp(blob_at(tok, added->content), text, length) == 0)
			return added->id;
	}
	if (utf8_valid_prefix(text, length) != length)
		return TOKENIZER_NONE;
	return vocab_find_spelling(tok, text, length);
}
