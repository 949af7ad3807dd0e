/* adapters.h - what adapters there are, in shared memory (control, ranks) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What:  two parts of the segment. The table of names says by which model
 *        names clients reach which adapter instance: control writes it, the
 *        dataplane binds requests by it. The books say what each rank has of
 *        each instance and where its memory went: the rank writes its own,
 *        everybody reads.
 * Number: an instance has a node-wide number, 1 .. INSTANCE_COUNT_MAX - 1
 *        (0 = the base), used again once it is absent from every rank, and a
 *        serial, which is never used again: what is cached under a serial can
 *        never be found by another instance.
 *
 * Table: `version` is odd while control writes; a reader copies what it needs
 *        and takes it only if the version was even and the same before and
 *        after (adapter_table_find(), adapter_table_copy()).
 * Binding: the dataplane binds at admission: it looks the name up, puts
 *        instance, serial (as the slot's epoch) and the entry's index (the
 *        name that fairness goes by) into the slot and pushes RING_SUBMIT.
 *        Between two bursts it stores the version that it has bound by last
 *        in `seen` and posts control's wake. So once seen >= v, no request
 *        that is not yet in a request ring is bound by a table older than v:
 *        control takes a name out (or gives it another instance), waits for
 *        that, and only then tells the ranks to drop the old instance; a rank
 *        that is told empties its request ring before it looks at who uses
 *        the instance.
 * Trust: a reader checks what it copies; a bad entry is no entry.
 * Threads: one writer per part; readers anywhere.
 */
#ifndef HEDDLE_BASE_ADAPTERS_H
#define HEDDLE_BASE_ADAPTERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/limits.h"

#define ADAPTER_NAME_BYTES 128 /* with the NUL */
/* Entry 0 is the base model's and has no name: its names are the
 * configuration's. */
#define ADAPTER_ENTRY_COUNT_MAX INSTANCE_COUNT_MAX

enum adapter_state {
	ADAPTER_ABSENT,
	ADAPTER_STAGING, /* files are read and checked; no memory is taken */
	ADAPTER_LOADING, /* slots and pages are taken, bytes are on their way */
	ADAPTER_RESIDENT,
	ADAPTER_DRAINING, /* no request is bound any more; it goes with the
			     last one */
	ADAPTER_STATE_COUNT
};

/* A name that clients may ask for. */
struct adapter_entry {
	uint32_t instance; /* 0 = no name here */
	uint32_t serial;
	uint32_t weight; /* of the name's share, 1 .. ADAPTER_WEIGHT_MAX */
	uint32_t rank_mask; /* ranks on which it is RESIDENT */
	uint64_t created_s; /* Unix time, for /v1/models */
	char name[ADAPTER_NAME_BYTES];
};

#define ADAPTER_WEIGHT_MAX 1000u

_Static_assert(RANK_COUNT_MAX <= 32, "a mask of ranks fits");

struct adapter_table {
	/* control's */
	_Alignas(CACHE_LINE_BYTES) uint64_t version;
	struct adapter_entry entries[ADAPTER_ENTRY_COUNT_MAX];
	/* the dataplane's: each loop's own */
	_Alignas(CACHE_LINE_BYTES) uint64_t seen[FRONT_COUNT_MAX];
};

/* What one rank has of one instance; serial 0 = nothing. */
struct adapter_book {
	uint32_t serial; /* written last, with release */
	uint32_t state; /* enum adapter_state */
	uint32_t expert_count; /* over all layers */
	uint32_t user_count; /* requests that carry it */
	uint64_t file_bytes; /* of its tensors, as stored */
	uint64_t done_bytes; /* of these, read so far */
	uint64_t used_bytes; /* of its experts, as laid out */
	uint64_t page_bytes; /* of the pages under them */
	uint64_t since_ns[ADAPTER_STATE_COUNT]; /* when it entered a state */
};

/* Where a rank's pages are; the parts add up to page_count. */
struct rank_books {
	uint64_t page_size_bytes;
	uint64_t page_count; /* of the pool */
	uint64_t base_pages; /* the base's weights */
	uint64_t adapter_pages;
	uint64_t kv_held_pages; /* of requests that run */
	uint64_t kv_idle_pages; /* prefix cache: given back when asked for */
	uint64_t free_pages;
	uint64_t base_used_bytes, adapter_used_bytes; /* of those pages */
	struct adapter_book instances[INSTANCE_COUNT_MAX];
};

/* "absent", "staging", ... */
const char *adapter_state_name(enum adapter_state state);

/*
 * Could this be an adapter's name? 1 to ADAPTER_NAME_BYTES - 1 bytes, printable
 * UTF-8 of no control characters, quotes or backslashes, not beginning with a
 * dash, nor with a blank at either end.
 */
bool adapter_name_ok(const char *name, size_t length);

/* --- the table: control ----------------------------------------------------------- */

/* Replace entry `index` (1 ..); instance 0 empties it. Returns the version. */
uint64_t adapter_table_set(struct adapter_table *table, uint32_t index,
	const struct adapter_entry *entry);

/* --- the table: readers ------------------------------------------------------------- */

/* The version now, which may be odd. */
uint64_t adapter_table_version(const struct adapter_table *table);

/*
 * Copy the entry of that name: its index, 0 = there is none. *out_version (NULL
 * is allowed) is the even version that this is true of.
 */
uint32_t adapter_table_find(const struct adapter_table *table, const char *name,
	size_t length, struct adapter_entry *out, uint64_t *out_version);

/* Copy all entries, [ADAPTER_ENTRY_COUNT_MAX]; returns the version. */
uint64_t adapter_table_copy(
	const struct adapter_table *table, struct adapter_entry *out);

/* --- the books: the rank ------------------------------------------------------------ */

/* Numbers of one instance; the words of one that stays may be read apart. */
void adapter_book_write(struct rank_books *books, uint32_t instance,
	const struct adapter_book *book);

/* --- the books: readers -------------------------------------------------------------- */

/* What the rank has of that instance and serial; false: nothing. */
bool adapter_book_read(const struct rank_books *books, uint32_t instance,
	uint32_t serial, struct adapter_book *out);

#endif
