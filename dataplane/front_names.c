/* front_names.c - the adapters' names (table -> what requests are bound by) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "dataplane/front_private.h"

/* An entry that another name takes counts from nothing. */
static void count_anew(struct front *front, bool first_look)
{
	struct front_names *names = &front->names;

	for (uint32_t i = 1; i < ADAPTER_ENTRY_COUNT_MAX; i++) {
		struct name_counters *counters = &front->counters->names[i];

		if (!names->entries[i].instance ||
			strcmp(names->counted[i], names->entries[i].name) == 0)
			continue;
		memcpy(names->counted[i], names->entries[i].name,
			sizeof(names->counted[i]));
		/* What an earlier life counted goes on. */
		if (first_look)
			continue;
		counter_set(&counters->requests_total, 0);
		counter_set(&counters->prompt_tokens_total, 0);
		counter_set(&counters->output_tokens_total, 0);
	}
}

void front_names_refresh(struct front *front)
{
	const struct adapter_table *table =
		segment_adapter_table(front->segment);
	struct front_names *names = &front->names;
	bool first_look = names->version == 0;

	if (adapter_table_version(table) == names->version)
		return;
	names->version = adapter_table_copy(table, names->entries);
	count_anew(front, first_look);
}

uint32_t front_names_find(const struct front *front, const char *name)
{
	const struct adapter_entry *entries = front->names.entries;

	for (uint32_t i = 1; i < ADAPTER_ENTRY_COUNT_MAX; i++)
		if (entries[i].instance && strcmp(entries[i].name, name) == 0)
			return i;
	return 0;
}

void front_names_tell(struct front *front)
{
	struct adapter_table *table = segment_adapter_table(front->segment);
	struct front_names *names = &front->names;

	front_names_refresh(front);
	if (names->told == names->version)
		return;
	/* What found no room in a request ring is bound and not yet in it. */
	for (uint32_t i = 0; i < front->segment->shape.rank_count; i++)
		if (front->ranks[i].waiting > 0)
			return;
	names->told = names->version;
	/* Release: what was pushed to the rings before is in them. */
	__atomic_store_n(&table->seen[front->segment->front], names->version,
		__ATOMIC_RELEASE);
	wake_post(segment_wake(front->segment, ROLE_INDEX_CONTROL));
}
