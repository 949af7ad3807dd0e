/* test_adapter_table.c - names and books of adapters in shared memory */
/* SPDX-License-Identifier: Apache-2.0 */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/adapters.h"
#include "tests/suite.h"

static struct adapter_table *make_table(void)
{
	struct adapter_table *table =
		aligned_alloc(CACHE_LINE_BYTES, sizeof(*table));

	CU_ASSERT_PTR_NOT_NULL_FATAL(table);
	memset(table, 0, sizeof(*table));
	return table;
}

static struct adapter_entry entry_of(
	const char *name, uint32_t instance, uint32_t serial)
{
	struct adapter_entry entry = {
		.instance = instance, .serial = serial, .weight = 1};

	strncpy(entry.name, name, sizeof(entry.name) - 1);
	return entry;
}

static void test_adapter_name_ok__what_a_name_may_be(void)
{
	char longest[ADAPTER_NAME_BYTES];

	memset(longest, 'a', sizeof(longest));
	CU_ASSERT_TRUE(adapter_name_ok("law", 3));
	CU_ASSERT_TRUE(adapter_name_ok("org/law-v2:\xc3\xa4", 12));
	CU_ASSERT_TRUE(adapter_name_ok(longest, sizeof(longest) - 1));
	CU_ASSERT_FALSE(adapter_name_ok(longest, sizeof(longest)));
	CU_ASSERT_FALSE(adapter_name_ok("", 0));
	CU_ASSERT_FALSE(adapter_name_ok("-law", 4));
	CU_ASSERT_TRUE(adapter_name_ok("a b", 3));
	CU_ASSERT_FALSE(adapter_name_ok(" a", 2));
	CU_ASSERT_FALSE(adapter_name_ok("a ", 2));
	CU_ASSERT_FALSE(adapter_name_ok(" ", 1));
	CU_ASSERT_FALSE(adapter_name_ok("a\tb", 3));
	CU_ASSERT_FALSE(adapter_name_ok("a\nb", 3));
	CU_ASSERT_FALSE(adapter_name_ok("a\0b", 3));
	CU_ASSERT_FALSE(adapter_name_ok("a\"b", 3));
	CU_ASSERT_FALSE(adapter_name_ok("a\x7f", 2));
}

static void test_adapter_table_find__set_changed_and_emptied(void)
{
	struct adapter_table *table = make_table();
	struct adapter_entry entry = entry_of("law", 3, 7), got;
	uint64_t version = 0, first;

	CU_ASSERT_EQUAL(adapter_table_find(table, "law", 3, &got, NULL), 0);
	CU_ASSERT_EQUAL(adapter_table_find(table, "", 0, &got, NULL), 0);
	first = adapter_table_set(table, 5, &entry);
	CU_ASSERT_EQUAL(adapter_table_find(table, "law", 3, &got, &version), 5);
	CU_ASSERT_EQUAL(version, first);
	CU_ASSERT_EQUAL(got.instance, 3);
	CU_ASSERT_EQUAL(got.serial, 7);
	CU_ASSERT_EQUAL(adapter_table_find(table, "la", 2, &got, NULL), 0);
	CU_ASSERT_EQUAL(adapter_table_find(table, "laws", 4, &got, NULL), 0);
	entry.instance = 4;
	entry.serial = 8;
	CU_ASSERT_EQUAL(adapter_table_set(table, 5, &entry), first + 2);
	CU_ASSERT_EQUAL(adapter_table_find(table, "law", 3, &got, NULL), 5);
	CU_ASSERT_EQUAL(got.instance, 4);
	adapter_table_set(table, 5, &(struct adapter_entry){0});
	CU_ASSERT_EQUAL(adapter_table_find(table, "law", 3, &got, NULL), 0);
	free(table);
}

static void test_adapter_table_find__bad_entry_is_none(void)
{
	struct adapter_table *table = make_table();
	struct adapter_entry entry = entry_of("law", 3, 0), got;
	struct adapter_entry *all =
		calloc(ADAPTER_ENTRY_COUNT_MAX, sizeof(*all));

	CU_ASSERT_PTR_NOT_NULL_FATAL(all);
	adapter_table_set(table, 1, &entry); /* no serial */
	CU_ASSERT_EQUAL(adapter_table_find(table, "law", 3, &got, NULL), 0);
	entry = entry_of("law", 3, 1);
	memset(entry.name, 'x', sizeof(entry.name)); /* no end */
	adapter_table_set(table, 1, &entry);
	adapter_table_copy(table, all);
	CU_ASSERT_EQUAL(all[1].instance, 0);
	entry = entry_of("law", 3, 1);
	adapter_table_set(table, 1, &entry);
	table->entries[1].instance = INSTANCE_COUNT_MAX;
	CU_ASSERT_EQUAL(adapter_table_find(table, "law", 3, &got, NULL), 0);
	free(all);
	free(table);
}

#define ROUNDS UINT64_C(20000)

struct race {
	struct adapter_table *table;
	uint32_t stop;
};

/* The serial is a function of the instance in every state of the table. */
static void *write_entries(void *arg)
{
	struct race *race = arg;
	uint64_t version = 0;

	for (uint32_t i = 1; i <= ROUNDS; i++) {
		uint32_t instance = 1 + i % (INSTANCE_COUNT_MAX - 1);
		struct adapter_entry entry =
			entry_of("law", instance, 1000 + instance);

		version = adapter_table_set(race->table, 9, &entry);
	}
	__atomic_store_n(&race->stop, 1, __ATOMIC_RELEASE);
	CU_ASSERT_EQUAL(version, 2 * ROUNDS);
	return NULL;
}

static void test_adapter_table_find__never_half_of_one(void)
{
	struct race race = {.table = make_table()};
	uint32_t found = 0, wrong = 0;
	uint64_t last = 0;
	pthread_t thread;

	CU_ASSERT_EQUAL_FATAL(
		pthread_create(&thread, NULL, write_entries, &race), 0);
	while (!__atomic_load_n(&race.stop, __ATOMIC_ACQUIRE) || found == 0) {
		struct adapter_entry got;
		uint64_t version;

		if (adapter_table_find(race.table, "law", 3, &got, &version) !=
			9)
			continue;
		found++;
		wrong += got.serial != 1000 + got.instance || version % 2 ||
			 version < last;
		last = version;
	}
	pthread_join(thread, NULL);
	CU_ASSERT_EQUAL(wrong, 0);
	free(race.table);
}

static void test_adapter_book__of_another_serial_is_nothing(void)
{
	struct rank_books *books = calloc(1, sizeof(*books));
	struct adapter_book book = {.serial = 4,
				    .state = ADAPTER_RESIDENT,
				    .page_bytes = 65536},
			    got;

	CU_ASSERT_PTR_NOT_NULL_FATAL(books);
	CU_ASSERT_FALSE(adapter_book_read(books, 2, 4, &got));
	adapter_book_write(books, 2, &book);
	CU_ASSERT_TRUE(adapter_book_read(books, 2, 4, &got));
	CU_ASSERT_EQUAL(got.page_bytes, 65536);
	CU_ASSERT_FALSE(adapter_book_read(books, 2, 5, &got));
	CU_ASSERT_FALSE(adapter_book_read(books, 0, 4, &got));
	CU_ASSERT_FALSE(adapter_book_read(books, INSTANCE_COUNT_MAX, 4, &got));
	book.serial = 0;
	adapter_book_write(books, 2, &book);
	CU_ASSERT_FALSE(adapter_book_read(books, 2, 4, &got));
	CU_ASSERT_FALSE(adapter_book_read(books, 2, 0, &got));
	books->instances[2] = (struct adapter_book){
		.serial = 6, .state = ADAPTER_STATE_COUNT};
	CU_ASSERT_FALSE(adapter_book_read(books, 2, 6, &got));
	free(books);
}

int main(void)
{
	static const struct suite_case cases[] = {
		SUITE_CASE(adapter_name_ok__what_a_name_may_be),
		SUITE_CASE(adapter_table_find__set_changed_and_emptied),
		SUITE_CASE(adapter_table_find__bad_entry_is_none),
		SUITE_CASE(adapter_table_find__never_half_of_one),
		SUITE_CASE(adapter_book__of_another_serial_is_nothing),
	};

	return SUITE_MAIN("adapter_table", cases);
}
