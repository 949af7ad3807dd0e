/* tokenizer_bpe.c - byte pair encoding of one piece (bytes -> ids) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The merge of the lowest rank is done first, of equal ranks the leftmost, as
 * the library's heap does it. Short pieces search for it. Long ones keep one
 * bucket of places per rank and a heap of the ranks that have a bucket: the
 * places of a rank are sorted once, when its turn comes, and are then taken
 * in order. A new pair whose rank is above the one at work goes into a
 * bucket; one whose rank is not goes into a second heap, which is looked at
 * before each place. A pair is never looked up twice and an entry never moved
 * back, so a piece of n symbols takes O(n log n). As long as one rank is that
 * of a good part of all pairs, as in a run of one byte, all its merges are
 * done in one pass over the symbols before any bucket is filled; so are a few
 * ranks that are not. A piece that is nothing but a few bytes repeated is not
 * even written out: see tokenizer_bpe_run.c.
 */
#include <assert.h>
#include <errno.h>
#include <string.h>

#include "dataplane/tokenizer_private.h"

/* --- symbols ----------------------------------------------------------------- */

/* Where the symbols of a piece go. */
struct symbol_sink {
	struct bpe_symbol *symbols;
	size_t capacity;
	size_t count;
};

static bool add_symbol(struct symbol_sink *sink, uint32_t id)
{
	if (sink->count == sink->capacity)
		return false;
	sink->symbols[sink->count++].id = id;
	return true;
}

static uint32_t unit_id(
	const struct tokenizer *tok, const char *unit, uint32_t *size)
{
	uint32_t c;

	if (tok->byte_level)
		return tok->byte_id[(unsigned char)*unit];
	c = utf8_get(unit, size);
	return c < BMP_COUNT ? tok->char_id[c]
			     : vocab_find(tok, unit, *size, false);
}

/* The byte tokens of a unit; true where all of them exist. */
static bool has_fallback(
	const struct tokenizer *tok, const char *unit, uint32_t size)
{
	for (uint32_t i = 0; i < size; i++)
		if (tok->byte_id[(unsigned char)unit[i]] == TOKENIZER_NONE)
			return false;
	return tok->byte_fallback;
}

/*
 * A unit (byte or character) that is no token becomes its byte tokens, or the
 * unknown token, or nothing. Unknown ones that are waiting come before the
 * next known unit, as in the library, also where byte tokens lie between.
 */
static bool add_unknown(const struct tokenizer *tok, struct symbol_sink *sink,
	const char *unit, uint32_t size, bool *waiting)
{
	if (!tok->byte_level && has_fallback(tok, unit, size)) {
		for (uint32_t i = 0; i < size; i++)
			if (!add_symbol(
				    sink, tok->byte_id[(unsigned char)unit[i]]))
				return false;
		return true;
	}
	if (tok->unk_id == TOKENIZER_NONE)
		return true;
	if (*waiting && !tok->fuse_unk)
		return add_symbol(sink, tok->unk_id);
	*waiting = true;
	return true;
}

static bool find_units(const struct tokenizer *tok, const char *piece,
	size_t length, struct symbol_sink *sink)
{
	bool waiting = false;
	uint32_t size = 1;

	for (size_t i = 0; i < length; i += size) {
		uint32_t id = unit_id(tok, piece + i, &size);

		if (id == TOKENIZER_NONE) {
			if (!add_unknown(tok, sink, piece + i, size, &waiting))
				return false;
			continue;
		}
		if (waiting && !add_symbol(sink, tok->unk_id))
			return false;
		waiting = false;
		if (!add_symbol(sink, id))
			return false;
	}
	return !waiting || add_symbol(sink, tok->unk_id);
}

/* --- short pieces ------------------------------------------------------------- */

static void rank_pair(
	const struct tokenizer *tok, struct bpe_symbol *left, uint32_t right_id)
{
	const struct merge *merge = merge_find(tok, left->id, right_id);

	left->rank = merge ? merge->rank : BPE_END;
	left->merged = merge ? merge->id : TOKENIZER_NONE;
}

/* Returns how many symbols are left, at the front. */
static size_t merge_short(
	const struct tokenizer *tok, struct bpe_symbol *s, size_t count)
{
	for (size_t i = 0; i + 1 < count; i++)
		rank_pair(tok, &s[i], s[i + 1].id);
	for (;;) {
		uint32_t lowest = BPE_END;
		size_t at = 0;

		for (size_t i = 0; i + 1 < count; i++)
			if (s[i].rank < lowest) {
				lowest = s[i].rank;
				at = i;
			}
		if (lowest == BPE_END)
			return count;
		s[at].id = s[at].merged;
		count--;
		if (at + 1 < count) {
			memmove(&s[at + 1], &s[at + 2],
				(count - at - 1) * sizeof(*s));
			rank_pair(tok, &s[at], s[at + 1].id);
		}
		if (at > 0)
			rank_pair(tok, &s[at - 1], s[at].id);
	}
}

/* --- long pieces -------------------------------------------------------------- */

struct merging {
	const struct tokenizer *tok;
	const struct bpe_work *work;
	struct bpe_symbol *symbols;
	size_t entry_capacity;
	size_t entry_count; /* in buckets, from below */
	size_t late_count; /* heap of late entries, from above */
	size_t rank_count; /* heap of ranks */
	uint32_t current; /* rank at work; BPE_END while filling */
};

/* The ranks: a binary heap, lowest first. */
static void rank_push(struct merging *m, uint32_t rank)
{
	uint32_t *heap = m->work->ranks;
	size_t i = m->rank_count++;

	for (; i && heap[(i - 1) / 2] > rank; i = (i - 1) / 2)
		heap[i] = heap[(i - 1) / 2];
	heap[i] = rank;
}

static uint32_t rank_pop(struct merging *m)
{
	uint32_t *heap = m->work->ranks;
	uint32_t lowest = heap[0];
	uint32_t last = heap[--m->rank_count];
	size_t i = 0;

	for (size_t child = 1; child < m->rank_count; child = 2 * i + 1) {
		if (child + 1 < m->rank_count && heap[child + 1] < heap[child])
			child++;
		if (last <= heap[child])
			break;
		heap[i] = heap[child];
		i = child;
	}
	heap[i] = last;
	return lowest;
}

/* Late entries: a binary heap by rank, then position, that grows downwards. */
static struct bpe_entry *late_at(const struct merging *m, size_t i)
{
	return &m->work->entries[m->entry_capacity - 1 - i];
}

static bool is_before(struct bpe_entry a, struct bpe_entry b)
{
	return a.rank != b.rank ? a.rank < b.rank : a.position < b.position;
}

static void late_push(struct merging *m, struct bpe_entry entry)
{
	size_t i = m->late_count++;

	for (; i && is_before(entry, *late_at(m, (i - 1) / 2)); i = (i - 1) / 2)
		*late_at(m, i) = *late_at(m, (i - 1) / 2);
	*late_at(m, i) = entry;
}

static struct bpe_entry late_pop(struct merging *m)
{
	struct bpe_entry first = *late_at(m, 0);
	struct bpe_entry last = *late_at(m, --m->late_count);
	size_t i = 0;

	for (size_t child = 1; child < m->late_count; child = 2 * i + 1) {
		if (child + 1 < m->late_count &&
			is_before(*late_at(m, child + 1), *late_at(m, child)))
			child++;
		if (!is_before(*late_at(m, child), last))
			break;
		*late_at(m, i) = *late_at(m, child);
		i = child;
	}
	*late_at(m, i) = last;
	return first;
}

/*
 * Each symbol but the last is entered once, and each merge enters at most
 * two more: 3 entries per symbol are enough for both kinds together.
 */
static void enter(struct merging *m, uint32_t position)
{
	uint32_t rank = m->symbols[position].rank;
	struct bpe_entry *entry;

	if (rank == BPE_END)
		return;
	assert(m->entry_count + m->late_count < m->entry_capacity);
	if (m->current != BPE_END && rank <= m->current) {
		late_push(m, (struct bpe_entry){position, {.rank = rank}});
		return;
	}
	if (!m->work->bucket[rank])
		rank_push(m, rank);
	entry = &m->work->entries[m->entry_count++];
	*entry = (struct bpe_entry){position, {.next = m->work->bucket[rank]}};
	m->work->bucket[rank] = (uint32_t)m->entry_count;
}

/* Join two sorted lists (index + 1, 0 ends). */
static uint32_t join_lists(struct bpe_entry *entries, uint32_t a, uint32_t b)
{
	uint32_t head = 0;
	uint32_t *tail = &head;

	while (a && b) {
		uint32_t *lower =
			entries[a - 1].position <= entries[b - 1].position ? &a
									   : &b;

		*tail = *lower;
		tail = &entries[*lower - 1].next;
		*lower = *tail;
	}
	*tail = a ? a : b;
	return head;
}

/*
 * A bucket was filled in reverse. Turn it round, and where it is not in order
 * of position, merge its ascending runs: pending[i] holds a sorted list of
 * about 2^i runs.
 */
static uint32_t sort_bucket(struct bpe_entry *entries, uint32_t list)
{
	uint32_t pending[32] = {0};
	uint32_t turned = 0;
	uint32_t result = 0;
	uint32_t next;

	for (; list; list = next) {
		next = entries[list - 1].next;
		entries[list - 1].next = turned;
		turned = list;
	}
	while (turned) {
		uint32_t run = turned;
		uint32_t end = turned;
		size_t i = 0;

		while (entries[end - 1].next &&
			entries[entries[end - 1].next - 1].position >
				entries[end - 1].position)
			end = entries[end - 1].next;
		turned = entries[end - 1].next;
		entries[end - 1].next = 0;
		for (; i < 31 && pending[i]; i++) {
			run = join_lists(entries, pending[i], run);
			pending[i] = 0;
		}
		pending[i] = join_lists(entries, pending[i], run);
	}
	for (size_t i = 0; i < 32; i++)
		result = join_lists(entries, pending[i], result);
	return result;
}

/* Merge at a place, unless the pair there is no longer of this rank. */
static void merge_at(struct merging *m, uint32_t position, uint32_t rank)
{
	struct bpe_symbol *s = m->symbols;
	struct bpe_symbol *left = &s[position];
	uint32_t taken;

	if (left->rank != rank)
		return;
	taken = left->next;
	left->id = left->merged;
	left->next = s[taken].next;
	left->rank = BPE_END;
	s[taken].rank = BPE_END; /* old entries of it find nothing */
	if (left->prev != BPE_END) {
		rank_pair(m->tok, &s[left->prev], left->id);
		enter(m, left->prev);
	}
	if (left->next != BPE_END) {
		s[left->next].prev = position;
		rank_pair(m->tok, left, s[left->next].id);
		enter(m, position);
	}
}

static void run_bucket(struct merging *m, uint32_t rank)
{
	struct bpe_entry *entries = m->work->entries;
	uint32_t list = sort_bucket(entries, m->work->bucket[rank]);

	m->work->bucket[rank] = 0;
	m->current = rank;
	while (list || m->late_count) {
		struct bpe_entry entry = {0, {.rank = rank}};

		if (list)
			entry.position = entries[list - 1].position;
		if (m->late_count &&
			(!list || is_before(*late_at(m, 0), entry)))
			entry = late_pop(m);
		else
			list = entries[list - 1].next;
		merge_at(m, entry.position, entry.rank);
	}
}

/* Link the symbols and enter their pairs; then take rank after rank. */
static void merge_buckets(
	const struct tokenizer *tok, const struct bpe_work *work, size_t count)
{
	struct merging m = {.tok = tok,
		.work = work,
		.symbols = work->symbols,
		.entry_capacity = 3 * work->symbol_capacity,
		.current = BPE_END};

	for (size_t i = 0; i < count; i++) {
		m.symbols[i].prev = i ? (uint32_t)i - 1 : BPE_END;
		m.symbols[i].next = i + 1 < count ? (uint32_t)i + 1 : BPE_END;
		enter(&m, (uint32_t)i);
	}
	while (m.rank_count)
		run_bucket(&m, rank_pop(&m));
}

/* --- passes -------------------------------------------------------------------- */

/* The symbols of a piece as a plain array, and the lowest rank in it. */
struct sweep {
	const struct tokenizer *tok;
	struct bpe_symbol *symbols;
	size_t count;
	uint32_t lowest; /* BPE_END: no pair merges */
	size_t lowest_count;
	struct merge last[2]; /* ranked last, on either side */
};

/* As rank_pair(), for pairs that are often the one before. */
static void rank_again(struct sweep *sweep, struct merge *last,
	struct bpe_symbol *left, uint32_t right_id)
{
	uint64_t pair = merge_pair(left->id, right_id);

	if (last->pair != pair) {
		rank_pair(sweep->tok, left, right_id);
		*last = (struct merge){pair, left->rank, left->merged};
	}
	left->rank = last->rank;
	left->merged = last->id;
}

static void forget_lowest(struct sweep *sweep)
{
	sweep->lowest = BPE_END;
	sweep->lowest_count = 0;
}

static void note_rank(struct sweep *sweep, uint32_t rank)
{
	if (rank < sweep->lowest) {
		sweep->lowest = rank;
		sweep->lowest_count = 0;
	}
	sweep->lowest_count += rank == sweep->lowest;
}

static void find_lowest(struct sweep *sweep)
{
	forget_lowest(sweep);
	for (size_t i = 0; i < sweep->count; i++)
		note_rank(sweep, sweep->symbols[i].rank);
}

static void rank_all(struct sweep *sweep)
{
	struct bpe_symbol *s = sweep->symbols;

	forget_lowest(sweep);
	for (size_t i = 0; i + 1 < sweep->count; i++) {
		rank_again(sweep, &sweep->last[0], &s[i], s[i + 1].id);
		note_rank(sweep, s[i].rank);
	}
	s[sweep->count - 1].rank = BPE_END;
}

/* Rank the pairs on both sides of a symbol that has changed. */
static void rank_around(struct sweep *sweep, struct bpe_symbol *symbol,
	size_t used, size_t behind)
{
	struct bpe_symbol *s = sweep->symbols;

	symbol->rank = BPE_END;
	if (behind < sweep->count)
		rank_again(sweep, &sweep->last[0], symbol, s[behind].id);
	if (used)
		rank_again(sweep, &sweep->last[1], &s[used - 1], symbol->id);
}

/*
 * Do all merges of the lowest rank from left to right, closing up the array.
 * A merge may make a pair of a rank that is lower still; that one's turn is
 * at once, and it can only be next to the symbol that has just changed. A
 * symbol's rank stands when the next one is put behind it, unless that one is
 * taken back.
 */
static void sweep_once(struct sweep *sweep)
{
	struct bpe_symbol *s = sweep->symbols;
	const uint32_t rank = sweep->lowest;
	bool took_back = false;
	size_t used = 0;
	size_t i = 0;

	forget_lowest(sweep);
	while (i < sweep->count) {
		struct bpe_symbol symbol = s[i++];

		if (symbol.rank == rank) {
			symbol.id = symbol.merged;
			rank_around(sweep, &symbol, used, ++i);
		}
		for (;;) {
			uint32_t left = used ? s[used - 1].rank : BPE_END;

			if (left < rank && left <= symbol.rank) {
				symbol.id = s[--used].merged;
				took_back = true;
			} else if (symbol.rank < rank && ++i) {
				symbol.id = symbol.merged;
			} else {
				break;
			}
			rank_around(sweep, &symbol, used, i);
		}
		if (used)
			note_rank(sweep, s[used - 1].rank);
		s[used++] = symbol;
	}
	sweep->count = used;
	if (took_back)
		find_lowest(sweep);
}

/* What is left is linked from symbol 0 by next. */
static void merge_long(
	const struct tokenizer *tok, const struct bpe_work *work, size_t count)
{
	struct sweep sweep = {.tok = tok,
		.symbols = work->symbols,
		.count = count,
		.last = {{.pair = UINT64_MAX}, {.pair = UINT64_MAX}}};
	/* Few merges may be in the way of many: some passes for them. */
	size_t spare = 4 * count;

	rank_all(&sweep);
	while (sweep.lowest != BPE_END) {
		if (sweep.lowest_count < sweep.count / 8) {
			if (spare < sweep.count)
				break;
			spare -= sweep.count;
		}
		sweep_once(&sweep);
	}
	merge_buckets(tok, work, sweep.count);
}

/* --- a piece ------------------------------------------------------------------ */

int put_ids(struct id_list *out, const uint32_t *ids, size_t count)
{
	if (out->capacity - out->count < count)
		return -ENOSPC;
	memcpy(out->ids + out->count, ids, count * sizeof(*ids));
	out->count += count;
	return 0;
}

static int encode_short(const struct tokenizer *tok, const char *piece,
	size_t length, struct id_list *out)
{
	struct bpe_symbol symbols[BPE_SHORT];
	uint32_t ids[BPE_SHORT];
	struct symbol_sink sink = {symbols, BPE_SHORT, 0};
	size_t count;
	bool fits = find_units(tok, piece, length, &sink);

	assert(fits);
	count = merge_short(tok, symbols, sink.count);
	for (size_t i = 0; i < count; i++)
		ids[i] = symbols[i].id;
	return put_ids(out, ids, count);
}

/* A piece that repeats a few bytes of known symbols; false: it does not. */
static bool find_run(const struct tokenizer *tok, const char *piece,
	size_t length, struct bpe_run *run)
{
	struct bpe_symbol symbols[BPE_RUN_WORD];
	struct symbol_sink sink = {symbols, BPE_RUN_WORD, 0};
	size_t period = bpe_run_period(piece, length);

	if (period == 0 || !find_units(tok, piece, period, &sink) ||
		sink.count == 0)
		return false;
	*run = (struct bpe_run){
		.word_symbols = (uint32_t)sink.count, .count = length / period};
	for (size_t i = 0; i < sink.count; i++) {
		run->word[i] = symbols[i].id;
		/* Unknown ones may be joined across repetitions. */
		if (run->word[i] == tok->unk_id)
			return false;
	}
	return true;
}

static int put_run(struct id_list *out, const struct bpe_run *run)
{
	size_t size = run->word_symbols;
	uint32_t *ids = out->ids + out->count;

	if ((out->capacity - out->count) / size < run->count)
		return -ENOSPC;
	for (size_t i = 0; i < run->count; i++)
		for (size_t k = 0; k < size; k++)
			ids[i * size + k] = run->word[k];
	out->count += run->count * size;
	return put_ids(out, run->tail, run->tail_symbols);
}

static bool spread_run(const struct bpe_run *run, struct symbol_sink *sink)
{
	bool fits = true;

	for (size_t i = 0; fits && i < run->count; i++)
		for (size_t k = 0; fits && k < run->word_symbols; k++)
			fits = add_symbol(sink, run->word[k]);
	for (size_t i = 0; fits && i < run->tail_symbols; i++)
		fits = add_symbol(sink, run->tail[i]);
	return fits;
}

static int encode_long(const struct tokenizer *tok, const struct bpe_work *work,
	const char *piece, size_t length, struct id_list *out)
{
	struct symbol_sink sink = {work->symbols, work->symbol_capacity, 0};
	struct bpe_run run;
	bool is_run = find_run(tok, piece, length, &run);

	if (is_run && bpe_run_fold(tok, &run))
		return put_run(out, &run);
	if (is_run ? !spread_run(&run, &sink)
		   : !find_units(tok, piece, length, &sink))
		return -E2BIG;
	if (sink.count == 0)
		return 0;
	merge_long(tok, work, sink.count);
	for (uint32_t i = 0; i != BPE_END; i = work->symbols[i].next)
		if (put_ids(out, &work->symbols[i].id, 1))
			return -ENOSPC;
	return 0;
}

int bpe_encode(const struct tokenizer *tok, const struct bpe_work *work,
	const char *piece, size_t length, struct id_list *out)
{
	if (tok->ignore_merges) {
		uint32_t id = vocab_find(tok, piece, length, tok->byte_level);

		if (id != TOKENIZER_NONE &&
			!(tok->tokens[id].flags & TOKEN_SPECIAL))
			return put_ids(out, &id, 1);
	}
	/* A unit gives at most one symbol per byte. */
	if (length <= BPE_SHORT)
		return encode_short(tok, piece, length, out);
	return encode_long(tok, work, piece, length, out);
}
