/* tcp_check.c - is all state consistent? (for tests) */
/* SPDX-License-Identifier: Apache-2.0 */
#include "dataplane/tcp_private.h"

static uint32_t chain_length(
	const struct tcp *t, const struct tcp_connection *c)
{
	uint32_t count = 0, last = UNIT_NONE;

	for (uint32_t at = c->first_block; at != UNIT_NONE;
		at = t->blocks.next[at]) {
		last = at;
		count++;
	}
	assert(last == c->last_block && count == c->block_count);
	return count;
}

static void check_ranges(
	const struct tcp_range *r, uint32_t count, uint32_t low, uint32_t high)
{
	for (uint32_t i = 0; i < count; i++) {
		assert(seq_lt(low, r[i].start));
		assert(seq_lt(r[i].start, r[i].end));
		assert(seq_le(r[i].end, high));
		low = r[i].end;
	}
}

static void check_connection(
	const struct tcp *t, const struct tcp_connection *c)
{
	struct tcp_segment s = {.remote = &c->remote,
		.local = c->local,
		.local_port = c->local_port,
		.remote_port = c->remote_port};

	if (c->state == TCP_CLOSED) {
		assert(c->owned && c->block_count == 0 && c->slab == TCP_NONE);
		return;
	}
	assert(tcp_connection_find(t, &s) == c);
	assert(seq_le(c->snd_una, c->snd_nxt));
	assert(c->queued_bytes <= t->config.send_bytes);
	if (c->state == TCP_SYN_RECEIVED)
		return;
	assert(c->state == TCP_TIME_WAIT ||
		c->snd_nxt - c->snd_una <= c->queued_bytes + c->fin_sent);
	assert(seq_le(c->rcv_nxt, c->rcv_edge));
	assert(c->unread_bytes + (c->rcv_edge - c->rcv_nxt) <=
		t->config.receive_bytes + c->fin_received);
	assert((c->slab != TCP_NONE) ==
		(c->unread_bytes > 0 || c->range_count > 0));
	check_ranges(c->ranges, c->range_count, c->rcv_nxt, c->rcv_edge);
	if (c->state != TCP_TIME_WAIT)
		check_ranges(
			c->sacked, c->sacked_count, c->snd_una, c->snd_nxt);
	assert(c->cwnd >= TCP_MSS_MIN && c->mss >= TCP_MSS_MIN);
	assert(seq_le(c->snd_una, c->lost_edge) || c->state == TCP_TIME_WAIT);
}

void tcp_check(const struct tcp *t)
{
	uint32_t used = 0, half_open = 0, waiting = 0, open = 0;
	uint32_t blocks = 0, slabs = 0;

	for (uint32_t i = 0; i < t->config.connection_count; i++) {
		const struct tcp_connection *c = &t->connections[i];

		if (c->state == TCP_FREE) {
			assert(t->wheel.links[i].tick == 0);
			continue;
		}
		check_connection(t, c);
		used++;
		half_open += c->state == TCP_SYN_RECEIVED;
		waiting += c->state == TCP_TIME_WAIT;
		open += c->owned;
		blocks += chain_length(t, c);
		slabs += c->slab != TCP_NONE;
	}
	assert(used == t->used_count && half_open == t->half_open_count);
	assert(waiting == t->time_wait_count && open == t->open_count);
	assert(blocks == t->blocks.used_count);
	assert(slabs == t->slabs.used_count);
}
