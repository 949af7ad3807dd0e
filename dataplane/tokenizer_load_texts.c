/* tokenizer_load_texts.c - what every token decodes to (spelling -> bytes) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "dataplane/tokenizer_private.h"

/* "<0xHH>", as ByteFallback reads it. */
static bool is_byte_token(const char *text, size_t length, char *byte)
{
	unsigned value;
	char digits[3];

	if (length != 6 || memcmp(text, "<0x", 3) != 0 || text[5] != '>')
		return false;
	memcpy(digits, text + 3, 2);
	digits[2] = '\0';
	if (strspn(digits, "0123456789abcdefABCDEF") != 2)
		return false;
	value = (unsigned)strtoul(digits, NULL, 16);
	*byte = (char)(unsigned char)value;
	return true;
}

/* Two buffers that replacements take turns in. */
struct replacing {
	char text[2][4 * TOKENIZER_TOKEN_BYTES_MAX];
};

static int decode_pieces(const struct tokenizer *tok, struct replacing *room,
	struct text_view *view, bool *is_byte)
{
	const struct decoder *decoder = &tok->decoder;

	for (uint32_t i = 0; i < decoder->replace_count; i++) {
		int rc = replace_text(tok, &decoder->replace[i], view,
			room->text[i % 2], sizeof(room->text[0]));

		if (rc)
			return rc;
	}
	*is_byte = decoder->byte_fallback &&
		   is_byte_token(view->text, view->length, &room->text[0][0]);
	if (*is_byte)
		*view = (struct text_view){room->text[0], NULL, 1};
	return 0;
}

/* What a token says, in the spelling that the decoder starts from. */
static struct text_view spelling_of(
	const struct tokenizer *tok, uint32_t id, const uint32_t *added_at)
{
	const struct token *token = &tok->tokens[id];
	const struct added_token *added;

	if (!(token->flags & TOKEN_ADDED))
		return (struct text_view){
			blob_at(tok, token->text), NULL, token->text_bytes};
	added = &tok->added[added_at[id]];
	return (struct text_view){
		blob_at(tok, added->sought), NULL, added->sought_bytes};
}

/* Metaspace: blocks become spaces; the first token's are dropped later. */
static int decode_metaspace(const struct tokenizer *tok, struct replacing *room,
	struct text_view *view)
{
	const struct decoder *decoder = &tok->decoder;
	size_t size = decoder->metaspace_bytes;
	size_t used = 0;

	for (size_t i = 0; i < view->length;) {
		if (view->length - i >= size &&
			memcmp(view->text + i, decoder->metaspace, size) == 0) {
			room->text[0][used++] = ' ';
			i += size;
			continue;
		}
		room->text[0][used++] = view->text[i++];
	}
	*view = (struct text_view){room->text[0], NULL, used};
	return 0;
}

static int decode_token(struct tokenizer *tok, struct replacing *room,
	uint32_t id, const uint32_t *added_at)
{
	struct token *token = &tok->tokens[id];
	const struct text_view spelling = spelling_of(tok, id, added_at);
	struct text_view view = spelling;
	bool is_model = !(token->flags & TOKEN_ADDED);
	bool is_byte = false;
	int rc = 0;

	switch (tok->decoder.kind) {
	case DECODE_BYTE_LEVEL:
		if (is_model && token->flags & TOKEN_BYTES)
			break;
		if (byte_level_bytes(view.text, view.length, room->text[0],
			    &view.length))
			view.text = room->text[0];
		break;
	case DECODE_METASPACE:
		rc = decode_metaspace(tok, room, &view);
		break;
	case DECODE_PIECES:
	default:
		rc = decode_pieces(tok, room, &view, &is_byte);
		break;
	}
	if (rc == 0 && view.length > TOKENIZER_TOKEN_BYTES_MAX)
		rc = -E2BIG;
	/* Most tokens decode to their spelling, which the blob has. */
	if (rc == 0 && view.text == spelling.text)
		token->out = (uint32_t)(view.text - tok->blob.data);
	else if (rc == 0)
		rc = blob_add(&tok->blob, view.text, view.length, &token->out);
	token->out_bytes = (uint16_t)view.length;
	if (is_byte)
		token->flags |= TOKEN_FALLBACK;
	return rc;
}

int load_token_texts(struct tokenizer *tok, struct error *err)
{
	uint32_t *added_at = calloc(tok->token_count, sizeof(*added_at));
	struct replacing *room = malloc(sizeof(*room));
	int rc = added_at && room ? 0 : -ENOMEM;

	for (uint32_t i = 0; rc == 0 && i < tok->added_count; i++)
		added_at[tok->added[i].id] = i;
	for (uint32_t id = 0; rc == 0 && id < tok->token_count; id++)
		if (tok->tokens[id].flags & TOKEN_EXISTS)
			rc = decode_token(tok, room, id, added_at);
	free(room);
	free(added_at);
	return rc ? error_set(err, -rc, "decoder: token texts") : 0;
}
