/* tokenizer_added.c - added tokens found before the model runs (text -> ids) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "dataplane/tokenizer_private.h"

/* --- the trie ---------------------------------------------------------------- */

static uint32_t trie_child(const struct trie *trie, uint32_t node, uint8_t byte)
{
	uint32_t child = trie->nodes[node].child;

	while (child && trie->nodes[child].byte != byte)
		child = trie->nodes[child].sibling;
	return child;
}

static uint32_t trie_grow(struct trie *trie, uint32_t parent, uint8_t byte)
{
	uint32_t node = trie->node_count++;
	uint32_t *head =
		parent ? &trie->nodes[parent].child : &trie->root[byte];

	trie->nodes[node] = (struct trie_node){.byte = byte};
	if (parent)
		trie->nodes[node].sibling = *head;
	*head = node;
	return node;
}

/* false: another token has this text. */
static bool trie_insert(
	struct trie *trie, const char *text, size_t length, uint32_t added)
{
	uint32_t node = 0;

	for (size_t i = 0; i < length; i++) {
		uint8_t byte = (uint8_t)text[i];
		uint32_t next =
			i ? trie_child(trie, node, byte) : trie->root[byte];

		node = next ? next : trie_grow(trie, node, byte);
	}
	if (trie->nodes[node].added)
		return false;
	trie->nodes[node].added = added + 1;
	return true;
}

static int trie_build(struct tokenizer *tok, bool normalized, struct error *err)
{
	struct trie *trie = normalized ? &tok->normalized : &tok->raw;
	size_t bytes = 0;

	for (uint32_t i = 0; i < tok->added_count; i++)
		if (tok->added[i].normalized == normalized)
			bytes += tok->added[i].sought_bytes;
	if (bytes == 0)
		return 0;
	trie->nodes = calloc(bytes + 1, sizeof(*trie->nodes));
	if (!trie->nodes)
		return error_set(err, ENOMEM, "added_tokens: no memory");
	trie->node_count = 1;
	for (uint32_t i = 0; i < tok->added_count; i++) {
		const struct added_token *added = &tok->added[i];

		if (added->normalized != normalized || !added->sought_bytes)
			continue;
		if (!trie_insert(trie, blob_at(tok, added->sought),
			    added->sought_bytes, i))
			return error_set(err, EINVAL,
				"added_tokens: %u has the text of another",
				added->id);
		trie->has_control |= added->control;
	}
	trie->only_first = -1;
	for (int byte = 0, found = 0; byte < 256; byte++)
		if (trie->root[byte])
			trie->only_first = found++ ? -1 : byte;
	return 0;
}

/* --- loading ----------------------------------------------------------------- */

/* Written as markup: see Trust in tokenizer.h. */
static bool is_markup(const char *text, size_t length)
{
	return length > 1 && strchr("<[{|", text[0]) && text[0] &&
	       strchr(">]}|", text[length - 1]) && text[length - 1];
}

static int load_entry(const json_t *node, struct added_token *added,
	bool *special, const char **content, struct error *err)
{
	static const char *const known[] = {"id", "content", "single_word",
		"lstrip", "rstrip", "normalized", "special", NULL};
	const json_t *text = json_object_get(node, "content");
	const json_t *id = json_object_get(node, "id");
	int rc = part_only(node, "added_tokens", known, err);

	if (rc)
		return rc;
	if (!json_is_string(text) || json_string_length(text) == 0 ||
		!json_is_integer(id) || json_integer_value(id) < 0 ||
		json_integer_value(id) >= UINT32_MAX)
		return error_set(err, EINVAL,
			"added_tokens: an entry without "
			"a content or an id");
	if (json_string_length(text) > TOKENIZER_TOKEN_BYTES_MAX)
		return error_set(err, E2BIG,
			"added_tokens: a content of %zu bytes",
			json_string_length(text));
	added->id = (uint32_t)json_integer_value(id);
	added->content_bytes = (uint32_t)json_string_length(text);
	*content = json_string_value(text);
	rc = part_flag(node, "special", false, special, err);
	if (rc == 0)
		rc = part_flag(
			node, "single_word", false, &added->single_word, err);
	if (rc == 0)
		rc = part_flag(node, "lstrip", false, &added->lstrip, err);
	if (rc == 0)
		rc = part_flag(node, "rstrip", false, &added->rstrip, err);
	if (rc == 0)
		rc = part_flag(
			node, "normalized", !*special, &added->normalized, err);
	added->control = *special || is_markup(*content, added->content_bytes);
	return rc;
}

/*
 * The id is that of the model's token of this text, else the next one behind
 * the model's: what the library gives, whatever the file says. A file that
 * says something else is refused, because nobody knows which one was meant.
 */
static int check_id(const struct tokenizer *tok,
	const struct added_token *added, const char *content, uint32_t *next_id,
	struct error *err)
{
	uint32_t id = vocab_find_spelling(tok, content, added->content_bytes);

	if (id == TOKENIZER_NONE)
		id = (*next_id)++;
	if (id == added->id)
		return 0;
	return error_set(err, EINVAL,
		"added_tokens: \"%s\" has id %u in the file and %u by its "
		"place",
		content, added->id, id);
}

static int add_entry(struct tokenizer *tok, const json_t *node,
	uint32_t *next_id, struct error *err)
{
	struct added_token *added = &tok->added[tok->added_count];
	const char *content = NULL;
	struct token *token;
	bool special = false;
	int rc = load_entry(node, added, &special, &content, err);

	if (rc == 0)
		rc = check_id(tok, added, content, next_id, err);
	if (rc)
		return rc;
	token = &tok->tokens[added->id];
	if (token->flags & TOKEN_ADDED)
		return error_set(err, EINVAL,
			"added_tokens: %u is listed twice", added->id);
	rc = blob_add(
		&tok->blob, content, added->content_bytes, &added->content);
	if (rc)
		return error_set(err, -rc, "added_tokens: no memory");
	if (!(token->flags & TOKEN_EXISTS)) {
		token->text = added->content;
		token->text_bytes = added->content_bytes;
	}
	token->flags |= TOKEN_EXISTS | TOKEN_ADDED;
	if (special)
		token->flags |= TOKEN_SPECIAL;
	if (added->control)
		token->flags |= TOKEN_CONTROL;
	if (added->id >= tok->token_count)
		tok->token_count = added->id + 1;
	tok->added_count++;
	return 0;
}

/* Normalise what is sought after normalisation. */
static int find_sought(struct tokenizer *tok, struct error *err)
{
	const size_t room = (size_t)16 * TOKENIZER_TOKEN_BYTES_MAX;
	char *memory = malloc(2 * room + room * sizeof(int32_t));
	struct normalize_work work = {.capacity = room, .point_capacity = room};
	int rc = 0;

	if (!memory)
		return error_set(err, ENOMEM, "added_tokens: no memory");
	work.points = (int32_t *)(void *)memory;
	work.text[0] = memory + room * sizeof(int32_t);
	work.text[1] = work.text[0] + room;
	for (uint32_t i = 0; rc == 0 && i < tok->added_count; i++) {
		struct added_token *added = &tok->added[i];
		struct text_view in = {blob_at(tok, added->content), NULL,
			added->content_bytes};
		struct text_view out = in;

		added->sought = added->content;
		added->sought_bytes = added->content_bytes;
		if (!added->normalized)
			continue;
		rc = normalize_text(tok, &work, in, &out);
		if (rc == 0 && out.length > TOKENIZER_TOKEN_BYTES_MAX)
			rc = -E2BIG;
		if (rc == 0 && out.text != in.text)
			rc = blob_add(&tok->blob, out.text, out.length,
				&added->sought);
		added->sought_bytes = (uint32_t)out.length;
		if (rc)
			error_set(err, -rc, "added_tokens: %u normalised",
				added->id);
	}
	free(memory);
	return rc;
}

int load_added(struct tokenizer *tok, const json_t *node, struct error *err)
{
	size_t count = json_array_size(node);
	uint32_t next_id = tok->model_count;
	struct token *tokens;
	size_t room;
	int rc = 0;

	if (!node || json_is_null(node) || count == 0)
		return 0;
	if (count > TOKENIZER_ADDED_COUNT_MAX)
		return error_set(
			err, E2BIG, "added_tokens: %zu of them", count);
	room = tok->token_count > next_id + count ? tok->token_count
						  : next_id + count;
	tokens = realloc(tok->tokens, room * sizeof(*tokens));
	if (!tokens)
		return error_set(err, ENOMEM, "added_tokens: no memory");
	tok->tokens = tokens;
	memset(tokens + tok->token_count, 0,
		(room - tok->token_count) * sizeof(*tokens));
	tok->added = calloc(count, sizeof(*tok->added));
	if (!tok->added)
		return error_set(err, ENOMEM, "added_tokens: no memory");
	for (size_t i = 0; rc == 0 && i < count; i++)
		rc = add_entry(tok, json_array_get(node, i), &next_id, err);
	if (rc == 0)
		rc = find_sought(tok, err);
	if (rc == 0)
		rc = trie_build(tok, false, err);
	if (rc == 0)
		rc = trie_build(tok, true, err);
	return rc;
}

/* --- searching --------------------------------------------------------------- */

static bool is_all(const uint8_t *trust, size_t length, int value)
{
	return memchr(trust, value ? 0 : 1, length) == NULL;
}

/* Does trust forbid to take this token from these bytes? */
static bool is_forbidden(const struct added_scan *scan,
	const struct added_token *added, size_t start, size_t end)
{
	const struct token *token = &scan->tok->tokens[added->id];

	if (!scan->view.trust || !added->control)
		return false;
	if (scan->markup_everywhere && !(token->flags & TOKEN_SPECIAL))
		return false;
	return !is_all(scan->view.trust + start, end - start, 1);
}

/*
 * The longest token that begins at `start`. Where trust forbids it, the
 * library's way (encode_special_tokens) is to step over its whole text; that
 * is kept where all of the text is untrusted. A text that is trusted in part
 * must not hide a token of the server's, so shorter tokens are tried and
 * the search goes on at the next byte. *next is where it goes on.
 */
static const struct added_token *longest_at(
	const struct added_scan *scan, size_t start, size_t *end, size_t *next)
{
	const struct text_view *view = &scan->view;
	const struct trie *trie = scan->trie;
	uint32_t node = trie->root[(uint8_t)view->text[start]];
	const struct added_token *best = NULL;
	const struct added_token *last = NULL;
	size_t last_end = start + 1;
	size_t at = start + 1;

	while (node) {
		if (trie->nodes[node].added) {
			last = &scan->tok->added[trie->nodes[node].added - 1];
			last_end = at;
			if (!is_forbidden(scan, last, start, at)) {
				best = last;
				*end = at;
			}
		}
		if (at == view->length)
			break;
		node = trie_child(trie, node, (uint8_t)view->text[at++]);
	}
	*next = start + 1;
	if (last && last != best &&
		is_all(view->trust + start, last_end - start, 0)) {
		best = NULL;
		*next = last_end;
	}
	if (best)
		*next = *end;
	return best;
}

static bool word_at(const char *text)
{
	uint32_t size;

	return utf8_is_word(utf8_get(text, &size));
}

/* Start of the character that ends at `end` > 0. */
static size_t char_before(const char *text, size_t end)
{
	do
		end--;
	while (((unsigned char)text[end] & 0xc0) == 0x80);
	return end;
}

static bool is_single_word(
	const struct text_view *view, size_t start, size_t end)
{
	return (start == 0 ||
		       !word_at(view->text + char_before(view->text, start))) &&
	       (end == view->length || !word_at(view->text + end));
}

static size_t spaces_before(
	const struct text_view *view, size_t start, size_t floor)
{
	uint32_t size;

	while (start > floor) {
		size_t before = char_before(view->text, start);

		if (!utf8_is_space(utf8_get(view->text + before, &size)))
			break;
		start = before;
	}
	return start;
}

static size_t spaces_behind(const struct text_view *view, size_t end)
{
	uint32_t size;

	while (end < view->length &&
		utf8_is_space(utf8_get(view->text + end, &size)))
		end += size;
	return end;
}

/* The next byte that a token begins with, or the end. */
static size_t next_first(
	const struct trie *trie, const struct text_view *view, size_t from)
{
	const char *hit;

	if (trie->only_first >= 0) {
		hit = memchr(view->text + from, trie->only_first,
			view->length - from);
		return hit ? (size_t)(hit - view->text) : view->length;
	}
	while (from < view->length && !trie->root[(uint8_t)view->text[from]])
		from++;
	return from;
}

bool added_scan_next(struct added_scan *scan, struct added_match *match)
{
	const struct text_view *view = &scan->view;

	if (!scan->trie->nodes)
		return false;
	for (;;) {
		const struct added_token *added;
		size_t start = next_first(scan->trie, view, scan->from);
		size_t end;

		if (start == view->length)
			return false;
		added = longest_at(scan, start, &end, &scan->from);
		if (!added || (added->single_word &&
				      !is_single_word(view, start, end)))
			continue;
		if (added->lstrip)
			start = spaces_before(view, start, scan->done);
		if (added->rstrip)
			end = spaces_behind(view, end);
		scan->done = end;
		*match = (struct added_match){start, end, added->id};
		return true;
	}
}
