/* adapters.c - the table of adapters' names in shared memory */
/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <string.h>

#include "base/adapters.h"

static const char *const state_names[ADAPTER_STATE_COUNT] = {
	[ADAPTER_ABSENT] = "absent",
	[ADAPTER_STAGING] = "staging",
	[ADAPTER_LOADING] = "loading",
	[ADAPTER_RESIDENT] = "resident",
	[ADAPTER_DRAINING] = "draining",
};

const char *adapter_state_name(enum adapter_state state)
{
	assert((unsigned)state < ADAPTER_STATE_COUNT);
	return state_names[state];
}

bool adapter_name_ok(const char *name, size_t length)
{
	if (length < 1 || length >= ADAPTER_NAME_BYTES || name[0] == '-' ||
		name[0] == ' ' || name[length - 1] == ' ')
		return false;
	for (size_t i = 0; i < length; i++)
		if ((unsigned char)name[i] < ' ' || name[i] == 0x7f ||
			name[i] == '"' || name[i] == '\\')
			return false;
	return true;
}

/*
 * Writer and readers of a table follow the usual order of a sequence lock: the
 * version is odd before the first byte changes and even after the last. Bytes
 * that the other side may touch meanwhile are moved in whole words, each of
 * which keeps the order (fences would, too, but ThreadSanitizer knows none).
 */
#define ENTRY_WORDS (sizeof(struct adapter_entry) / sizeof(uint64_t))
#define BOOK_WORDS (sizeof(struct adapter_book) / sizeof(uint64_t))

_Static_assert(sizeof(struct adapter_entry) % sizeof(uint64_t) == 0, "words");
_Static_assert(sizeof(struct adapter_book) % sizeof(uint64_t) == 0, "words");

static void read_words(const void *from, void *to, size_t count)
{
	const uint64_t *in = from;
	uint64_t *out = to;

	for (size_t i = 0; i < count; i++)
		out[i] = __atomic_load_n(&in[i], __ATOMIC_ACQUIRE);
}

static void write_words(const void *from, void *to, size_t count)
{
	const uint64_t *in = from;
	uint64_t *out = to;

	for (size_t i = 0; i < count; i++)
		__atomic_store_n(&out[i], in[i], __ATOMIC_RELEASE);
}

uint64_t adapter_table_set(struct adapter_table *table, uint32_t index,
	const struct adapter_entry *entry)
{
	uint64_t version = table->version;

	assert(index >= 1 && index < ADAPTER_ENTRY_COUNT_MAX);
	assert(entry->instance < INSTANCE_COUNT_MAX);
	__atomic_store_n(&table->version, version + 1, __ATOMIC_RELAXED);
	write_words(entry, &table->entries[index], ENTRY_WORDS);
	__atomic_store_n(&table->version, version + 2, __ATOMIC_RELEASE);
	return version + 2;
}

uint64_t adapter_table_version(const struct adapter_table *table)
{
	return __atomic_load_n(&table->version, __ATOMIC_ACQUIRE);
}

/* Has nothing changed since the version was `before`, which was even? */
static bool unchanged(const struct adapter_table *table, uint64_t before)
{
	return before % 2 == 0 &&
	       __atomic_load_n(&table->version, __ATOMIC_RELAXED) == before;
}

static bool entry_ok(const struct adapter_entry *entry)
{
	return entry->instance >= 1 && entry->instance < INSTANCE_COUNT_MAX &&
	       entry->serial != 0 && entry->weight >= 1 &&
	       entry->weight <= ADAPTER_WEIGHT_MAX &&
	       memchr(entry->name, '\0', sizeof(entry->name)) != NULL;
}

static bool entry_is(
	const struct adapter_entry *entry, const char *name, size_t length)
{
	return length < sizeof(entry->name) && entry->instance != 0 &&
	       memcmp(entry->name, name, length) == 0 &&
	       entry->name[length] == '\0';
}

uint32_t adapter_table_find(const struct adapter_table *table, const char *name,
	size_t length, struct adapter_entry *out, uint64_t *out_version)
{
	uint64_t before;
	uint32_t found;

	do {
		before = adapter_table_version(table);
		found = 0;
		for (uint32_t i = 1; i < ADAPTER_ENTRY_COUNT_MAX; i++) {
			if (__atomic_load_n(&table->entries[i].instance,
				    __ATOMIC_ACQUIRE) == 0)
				continue;
			read_words(&table->entries[i], out, ENTRY_WORDS);
			if (!entry_is(out, name, length))
				continue;
			found = i;
			break;
		}
	} while (!unchanged(table, before));
	if (out_version)
		*out_version = before;
	return found && entry_ok(out) ? found : 0;
}

uint64_t adapter_table_copy(
	const struct adapter_table *table, struct adapter_entry *out)
{
	uint64_t before;

	do {
		before = adapter_table_version(table);
		read_words(table->entries, out,
			ADAPTER_ENTRY_COUNT_MAX * ENTRY_WORDS);
	} while (!unchanged(table, before));
	for (uint32_t i = 0; i < ADAPTER_ENTRY_COUNT_MAX; i++)
		if (i == 0 || !entry_ok(&out[i]))
			out[i] = (struct adapter_entry){0};
	return before;
}

bool adapter_book_read(const struct rank_books *books, uint32_t instance,
	uint32_t serial, struct adapter_book *out)
{
	const struct adapter_book *book;

	if (instance < 1 || instance >= INSTANCE_COUNT_MAX || serial == 0)
		return false;
	book = &books->instances[instance];
	if (__atomic_load_n(&book->serial, __ATOMIC_ACQUIRE) != serial)
		return false;
	read_words(book, out, BOOK_WORDS);
	return __atomic_load_n(&book->serial, __ATOMIC_RELAXED) == serial &&
	       out->state < ADAPTER_STATE_COUNT;
}

void adapter_book_write(struct rank_books *books, uint32_t instance,
	const struct adapter_book *book)
{
	struct adapter_book *to = &books->instances[instance];
	struct adapter_book rest = *book;

	assert(instance >= 1 && instance < INSTANCE_COUNT_MAX);
	/* Of another instance: readers see none of it before it is whole. */
	if (to->serial != book->serial)
		__atomic_store_n(&to->serial, 0, __ATOMIC_RELAXED);
	rest.serial = to->serial;
	write_words(&rest, to, BOOK_WORDS);
	__atomic_store_n(&to->serial, book->serial, __ATOMIC_RELEASE);
}
