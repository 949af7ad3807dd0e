/* tokenizer_private.h - inside a tokenizer: vocabulary, merges, steps */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What:       the parts that tokenizer_*.c and detokenizer.c share. Nobody
 *             else includes this.
 * Invariants: after tokenizer_create() nothing here changes. Every id below
 *             token_count names tokens[id]; hash tables are powers of two, at
 *             most half full, so a search always ends at an empty place.
 */
#ifndef HEDDLE_DATAPLANE_TOKENIZER_PRIVATE_H
#define HEDDLE_DATAPLANE_TOKENIZER_PRIVATE_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "dataplane/tokenizer.h"
#include "dataplane/tokenizer_pattern.h"
#include "dataplane/utf8.h"

#define METASPACE 0x2581u /* the block that SentencePiece writes for a space */
#define METASPACE_TEXT "\xe2\x96\x81"
#define BMP_COUNT 65536u

/* Bytes that belong together: text, and what it is worth. */
struct text_view {
	const char *text;
	const uint8_t *trust; /* [length] 1 = trusted; NULL: all is */
	size_t length;
};

enum token_flag {
	TOKEN_EXISTS = 1,
	TOKEN_BYTES = 2, /* text is the bytes behind the byte-level letters */
	TOKEN_ADDED = 4,
	TOKEN_SPECIAL = 8,
	TOKEN_CONTROL = 16,
	TOKEN_FALLBACK = 32, /* decodes to one raw byte, by ByteFallback */
};

struct token {
	uint32_t text; /* into the blob */
	uint32_t text_bytes;
	uint32_t out; /* what it decodes to, into the blob */
	uint16_t out_bytes;
	uint16_t flags; /* enum token_flag */
};

struct blob {
	char *data; /* owned */
	size_t used;
	size_t capacity;
};

struct merge {
	uint64_t pair; /* left id << 32 | right id; UINT64_MAX: empty */
	uint32_t rank;
	uint32_t id; /* of the two together */
};

struct added_token {
	uint32_t id;
	uint32_t content; /* as written, into the blob */
	uint32_t content_bytes;
	uint32_t sought; /* what is searched for: content, or it normalised */
	uint32_t sought_bytes;
	bool single_word;
	bool lstrip;
	bool rstrip;
	bool normalized;
	bool control;
};

struct trie_node {
	uint32_t child; /* first; 0: none */
	uint32_t sibling; /* next; 0: none */
	uint32_t added; /* index + 1 of the token that ends here; 0: none */
	uint8_t byte;
};

/* Added tokens by their bytes. Node 0 is not used. */
struct trie {
	struct trie_node *nodes; /* owned */
	uint32_t node_count;
	uint32_t root[256]; /* node of a first byte; 0: none */
	int only_first; /* the only first byte, or -1 */
	bool has_control;
};

enum normal_form { FORM_NFC, FORM_NFD, FORM_NFKC, FORM_NFKD, FORM_COUNT };

enum normalize_kind {
	NORMALIZE_FORM,
	NORMALIZE_PREPEND,
	NORMALIZE_REPLACE,
};

struct normalize_step {
	enum normalize_kind kind;
	enum normal_form form;
	uint32_t from; /* Replace: what is replaced, into the blob */
	uint32_t from_bytes;
	uint32_t to; /* Replace, Prepend: by what, into the blob */
	uint32_t to_bytes;
};

enum split_behavior {
	SPLIT_ISOLATED,
	SPLIT_REMOVED,
	SPLIT_CONTIGUOUS,
	SPLIT_MERGED_WITH_PREVIOUS,
	SPLIT_MERGED_WITH_NEXT,
};

struct split_step {
	struct pattern *pattern; /* owned */
	enum split_behavior behavior;
	bool invert;
};

enum prepend_scheme {
	PREPEND_NEVER,
	PREPEND_ALWAYS,
	PREPEND_FIRST, /* only where the text begins */
};

/* What stands before the splits: Metaspace, or ByteLevel's space. */
struct prefix_step {
	enum prepend_scheme scheme;
	bool replace_spaces; /* by prefix, too */
	char prefix[UTF8_BYTES_MAX];
	uint32_t prefix_bytes; /* 0: no such step */
};

enum decode_kind {
	DECODE_BYTE_LEVEL,
	DECODE_PIECES, /* Replace, ByteFallback, Fuse, Strip */
	DECODE_METASPACE,
};

struct decoder {
	enum decode_kind kind;
	struct normalize_step replace[TOKENIZER_STEP_COUNT_MAX];
	uint32_t replace_count;
	bool byte_fallback;
	char strip[UTF8_BYTES_MAX]; /* the character that Strip takes off */
	uint32_t strip_bytes;
	uint32_t strip_count; /* at most that many of it */
	bool drop_first; /* Metaspace: the first token loses its blocks */
	char metaspace[UTF8_BYTES_MAX];
	uint32_t metaspace_bytes;
};

struct tokenizer {
	struct blob blob;

	/* vocabulary */
	struct token *tokens; /* [token_count], owned */
	uint32_t token_count;
	uint32_t model_count; /* tokens of the model, without added ones */
	uint32_t *text_table; /* id + 1 by hash of text; 0: empty; owned */
	uint32_t text_mask;
	struct merge *merges; /* by hash of pair, owned */
	uint32_t merge_mask;
	uint32_t merge_count; /* ranks are below this */

	/* model */
	bool byte_level; /* symbols are bytes, else code points */
	bool byte_fallback;
	bool fuse_unk;
	bool ignore_merges;
	bool cut_before_block; /* no merge crosses x|METASPACE */
	uint32_t unk_id; /* or TOKENIZER_NONE */
	uint32_t byte_id[256]; /* of a byte, or of <0xHH>, or none */
	uint32_t *char_id; /* [BMP_COUNT] of a code point; owned, NULL if
			      byte_level */

	/* added tokens */
	struct added_token *added; /* owned */
	uint32_t added_count;
	struct trie raw; /* searched before normalisation */
	struct trie normalized; /* and after it */

	/* steps */
	struct normalize_step normalize[TOKENIZER_STEP_COUNT_MAX];
	uint32_t normalize_count;
	uint8_t *plain[FORM_COUNT]; /* bitmaps of the BMP, owned, see
				       tokenizer_normalize.c; NULL: unused */
	struct prefix_step prefix;
	struct split_step splits[TOKENIZER_STEP_COUNT_MAX];
	uint32_t split_count;
	struct decoder decoder;
	uint32_t before_ids[TOKENIZER_TEMPLATE_IDS_MAX];
	uint32_t before_count;
	uint32_t after_ids[TOKENIZER_TEMPLATE_IDS_MAX];
	uint32_t after_count;
};

/* tokenizer_vocab.c: bytes, spellings, hash tables */

int blob_add(struct blob *blob, const char *bytes, size_t length,
	uint32_t *offset); /* -ENOMEM, -E2BIG */

/*
 * The bytes behind byte-level letters: returns true and stores at most
 * `length` bytes where every character of `text` is such a letter.
 */
bool byte_level_bytes(
	const char *text, size_t length, char *out, size_t *out_length);

/* Make a table for `count` entries; *mask is its size - 1. */
int table_create(
	size_t count, size_t entry_bytes, void **table, uint32_t *mask);

uint64_t text_hash(const char *text, size_t length, bool as_bytes);

/* The token of the model with this text, or TOKENIZER_NONE. */
uint32_t vocab_find(const struct tokenizer *tok, const char *text,
	size_t length, bool as_bytes);
/* The same by the spelling in the file. */
uint32_t vocab_find_spelling(
	const struct tokenizer *tok, const char *text, size_t length);
void vocab_insert(struct tokenizer *tok, uint32_t id);

static inline uint64_t merge_pair(uint32_t left, uint32_t right)
{
	return (uint64_t)left << 32 | right;
}

static inline uint32_t merge_slot(uint64_t pair, uint32_t mask)
{
	pair *= UINT64_C(0x9e3779b97f4a7c15);
	return (uint32_t)(pair >> 32) & mask;
}

/* The merge of two tokens, or NULL. */
static inline const struct merge *merge_find(
	const struct tokenizer *tok, uint32_t left, uint32_t right)
{
	uint64_t pair = merge_pair(left, right);
	uint32_t slot = merge_slot(pair, tok->merge_mask);

	for (;; slot = (slot + 1) & tok->merge_mask) {
		const struct merge *merge = &tok->merges[slot];

		if (merge->pair == pair)
			return merge;
		if (merge->pair == UINT64_MAX)
			return NULL;
	}
}

static inline const char *blob_at(const struct tokenizer *tok, uint32_t offset)
{
	return tok->blob.data + offset;
}

/* tokenizer_part.c: members of a part of the file; messages name the step's type */

const char *part_type(const json_t *node); /* "(no type)" where absent */
bool part_is_type(const json_t *node, const char *type);
int part_unsupported(const char *where, const json_t *node, struct error *err);
/* Refuse members of an object that are not in the NULL-ended list. */
int part_only(const json_t *node, const char *where, const char *const *known,
	struct error *err);
/* A boolean member; `fallback` where it is absent or null. */
int part_flag(const json_t *node, const char *key, bool fallback, bool *out,
	struct error *err);
/* A member that must be a string; a view into the JSON. */
int part_text(const json_t *node, const char *key, struct text_view *out,
	struct error *err);
/* A member that must be one character. */
int part_char(const json_t *node, const char *key, char out[UTF8_BYTES_MAX],
	uint32_t *size, struct error *err);
/* A member that must be a number from 0 to 65536. */
int part_count(
	const json_t *node, const char *key, uint32_t *out, struct error *err);

typedef int part_step_fn(
	struct tokenizer *tok, const json_t *node, struct error *err);
/* Run `step` over a step, or over the leaves of a Sequence of them. */
int part_each_step(struct tokenizer *tok, const json_t *node,
	const char *list_key, part_step_fn *step, int depth, struct error *err);

/* tokenizer_load_model.c, _steps.c, _output.c: parts of the file */

int load_model(struct tokenizer *tok, const json_t *node, struct error *err);
int load_normalizer(
	struct tokenizer *tok, const json_t *node, struct error *err);
int load_replace(struct tokenizer *tok, const json_t *node,
	struct normalize_step *step, struct error *err);
int load_pre_tokenizer(
	struct tokenizer *tok, const json_t *node, struct error *err);
/* The prepend_scheme of a Metaspace. */
int load_prepend_scheme(
	const json_t *node, enum prepend_scheme *scheme, struct error *err);
int load_post_processor(
	struct tokenizer *tok, const json_t *node, struct error *err);
int load_decoder(struct tokenizer *tok, const json_t *node, struct error *err);
/* What every token decodes to; after everything else. */
int load_token_texts(struct tokenizer *tok, struct error *err);

/* tokenizer_added.c: added tokens */

int load_added(struct tokenizer *tok, const json_t *node, struct error *err);

struct added_match {
	size_t start;
	size_t end;
	uint32_t id;
};

struct added_scan {
	const struct tokenizer *tok;
	const struct trie *trie;
	struct text_view view;
	bool markup_everywhere;
	size_t from; /* next byte to search */
	size_t done; /* end of the last match */
};

/* The next added token; false: there is none. */
bool added_scan_next(struct added_scan *scan, struct added_match *match);

/* tokenizer_normalize.c */

struct normalize_work {
	char *text[2]; /* [capacity] */
	uint8_t *trust[2]; /* [capacity] */
	size_t capacity; /* bytes */
	int32_t *points; /* [point_capacity] code points of a stretch */
	size_t point_capacity;
};

/*
 * Apply all steps. *out is in the work, or `in` itself where nothing changed.
 * -E2BIG over the capacities.
 */
int normalize_text(const struct tokenizer *tok, struct normalize_work *work,
	struct text_view in, struct text_view *out);
/*
 * Replace in a view without trust as one step says; the view is of `room`
 * then. -E2BIG where the result does not fit.
 */
int replace_text(const struct tokenizer *tok, const struct normalize_step *step,
	struct text_view *view, char *room, size_t room_bytes);
/* Find out which code points are plain in a form; -ENOMEM. */
int normalize_prepare(struct tokenizer *tok, enum normal_form form);

/* tokenizer_bpe.c, tokenizer_cache.c */

struct id_list {
	uint32_t *ids;
	size_t capacity;
	size_t count;
};

struct bpe_symbol {
	uint32_t id;
	uint32_t prev; /* indices, BPE_END at the ends */
	uint32_t next;
	uint32_t rank; /* of the merge with the next one; BPE_END: none */
	uint32_t merged; /* what that merge gives */
};

struct bpe_entry {
	uint32_t position;
	union {
		uint32_t next; /* in a bucket: index + 1 of an entry */
		uint32_t rank; /* in the heap */
	};
};

#define BPE_END UINT32_MAX
#define BPE_SHORT 40 /* symbols that are merged by plain search */
#define CACHE_KEY_BYTES 30
#define CACHE_ID_COUNT 6
#define CACHE_SLOT_COUNT 16384u

/* A word and its ids: one cache line. */
struct cache_slot {
	uint64_t hash; /* of level and key */
	uint8_t key_bytes; /* 0: empty */
	uint8_t id_count : 3;
	uint8_t level : 5; /* splits that were done before */
	char key[CACHE_KEY_BYTES];
	uint32_t ids[CACHE_ID_COUNT];
};

_Static_assert(sizeof(struct cache_slot) == 64, "one cache line");

struct bpe_work {
	struct bpe_symbol *symbols; /* [symbol_capacity] */
	size_t symbol_capacity;
	struct bpe_entry *entries; /* [3 x symbol_capacity]: buckets from below,
				      heap from above */
	uint32_t *bucket; /* [merge_count] index + 1 of the first entry */
	uint32_t *ranks; /* [merge_count] heap of the ranks with a bucket */
	struct cache_slot *cache; /* [CACHE_SLOT_COUNT] */
};

/* Encode one piece; -E2BIG or -ENOSPC. */
int bpe_encode(const struct tokenizer *tok, const struct bpe_work *work,
	const char *piece, size_t length, struct id_list *out);

/* tokenizer_bpe_run.c: a piece that repeats a few bytes */

#define BPE_RUN_WORD 4 /* bytes, and symbols */
#define BPE_RUN_TAIL 64

struct bpe_run {
	uint32_t word[BPE_RUN_WORD];
	uint32_t word_symbols; /* > 0 */
	size_t count; /* how often the word stands there, > 0 */
	uint32_t tail[BPE_RUN_TAIL]; /* behind that */
	uint32_t tail_symbols;
};

/* How many bytes, at most BPE_RUN_WORD, the piece repeats; 0: it does not. */
size_t bpe_run_period(const char *piece, size_t length);
/*
 * Merge. False: all that is known to be the same as one merge after the other
 * is done, and the run stands for symbols that are not merged to the end.
 */
bool bpe_run_fold(const struct tokenizer *tok, struct bpe_run *run);

int put_ids(struct id_list *out, const uint32_t *ids, size_t count); /*
	-ENOSPC */

/*
 * The slot of a piece at a level of the splits, short enough to be cached.
 * *hit: it holds the piece; its ids are the answer.
 */
struct cache_slot *cache_find(struct cache_slot *cache, uint32_t level,
	const char *piece, size_t length, bool *hit);
/* Remember what a piece gave, where it fits. */
void cache_put(struct cache_slot *slot, uint32_t level, const char *piece,
	size_t length, const struct id_list *out, size_t before);

/* tokenizer_split.c */

/* Runs all splits over a text and encodes the pieces. */
struct split_run {
	const struct tokenizer *tok;
	struct pattern_state *state;
	struct bpe_work *bpe;
	struct id_list *out;
};

int split_text(const struct split_run *run, const char *text, size_t length);

#endif
