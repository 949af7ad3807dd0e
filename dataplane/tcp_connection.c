/* tcp_connection.c - connections: found, begun, ended (table, lists) */
/* SPDX-License-Identifier: Apache-2.0 */
#include "dataplane/tcp_private.h"

/* --- lists --- */

void tcp_mark_ready(struct tcp *t, struct tcp_connection *c)
{
	uint32_t index = tcp_index(t, c);

	if (c->ready_queued)
		return;
	c->ready_queued = true;
	c->ready_next = TCP_NONE;
	if (t->ready.first == TCP_NONE)
		t->ready.first = index;
	else
		t->connections[t->ready.last].ready_next = index;
	t->ready.last = index;
}

void tcp_mark_flush(struct tcp *t, struct tcp_connection *c)
{
	uint32_t index = tcp_index(t, c);

	if (c->flush_queued)
		return;
	c->flush_queued = true;
	c->flush_next = TCP_NONE;
	if (t->flush.first == TCP_NONE)
		t->flush.first = index;
	else
		t->connections[t->flush.last].flush_next = index;
	t->flush.last = index;
}

struct tcp_connection *tcp_take_ready(struct tcp *t)
{
	while (t->ready.first != TCP_NONE) {
		struct tcp_connection *c = &t->connections[t->ready.first];

		t->ready.first = c->ready_next;
		c->ready_queued = false;
		if (c->owned &&
			(c->news_opened || c->news_data || c->news_room ||
				c->news_done || c->news_closed))
			return c;
	}
	return NULL;
}

struct tcp_connection *tcp_take_flush(struct tcp *t)
{
	while (t->flush.first != TCP_NONE) {
		struct tcp_connection *c = &t->connections[t->flush.first];

		t->flush.first = c->flush_next;
		if (c->flush_next != TCP_NONE)
			tcp_prefetch(t, c->flush_next);
		c->flush_queued = false;
		if (c->state != TCP_FREE && c->state != TCP_CLOSED)
			return c;
	}
	return NULL;
}

static void wait_list_add(struct tcp *t, struct tcp_connection *c)
{
	uint32_t index = tcp_index(t, c);

	c->list_next = TCP_NONE;
	c->list_previous = t->time_wait.last;
	if (t->time_wait.last == TCP_NONE)
		t->time_wait.first = index;
	else
		t->connections[t->time_wait.last].list_next = index;
	t->time_wait.last = index;
	t->time_wait_count++;
}

static void wait_list_remove(struct tcp *t, struct tcp_connection *c)
{
	if (c->list_previous == TCP_NONE)
		t->time_wait.first = c->list_next;
	else
		t->connections[c->list_previous].list_next = c->list_next;
	if (c->list_next == TCP_NONE)
		t->time_wait.last = c->list_previous;
	else
		t->connections[c->list_next].list_previous = c->list_previous;
	t->time_wait_count--;
}

/* --- the table --- */

static uint32_t hash_of(const struct tcp *t, const struct net_address *remote,
	uint8_t local, uint32_t ports)
{
	uint8_t key[24] = {0};

	memcpy(key, remote->bytes, 16);
	net_put32(key + 16, ports);
	key[20] = local;
	return (uint32_t)siphash_1_3(&t->hash_key, key, sizeof(key));
}

static uint32_t ports_of(uint16_t remote_port, uint16_t local_port)
{
	return (uint32_t)remote_port << 16 | local_port;
}

static uint32_t hash_of_connection(
	const struct tcp *t, const struct tcp_connection *c)
{
	return hash_of(t, &c->remote, c->local,
		ports_of(c->remote_port, c->local_port));
}

uint32_t tcp_ahead(const struct tcp *t, const struct net_in *in)
{
	uint32_t hash;

	if (in->length < 4)
		return 0;
	hash = hash_of(t, &in->from, in->local, net_get32(in->data));
	__builtin_prefetch(&t->places[hash & (t->place_count - 1)]);
	return hash;
}

void tcp_ahead_more(const struct tcp *t, uint32_t hash)
{
	uint32_t place = t->places[hash & (t->place_count - 1)];

	if (place)
		tcp_prefetch(t, (place & TCP_PLACE_INDEX_MASK) - 1);
}

struct tcp_connection *tcp_connection_at(
	const struct tcp *t, const struct tcp_segment *s, uint32_t hash)
{
	uint32_t mask = t->place_count - 1, place;

	for (uint32_t at = hash & mask; (place = t->places[at]) != 0;
		at = (at + 1) & mask) {
		uint32_t index = (place & TCP_PLACE_INDEX_MASK) - 1;
		struct tcp_connection *c = &t->connections[index];

		if ((place ^ hash) & ~TCP_PLACE_INDEX_MASK)
			continue;
		tcp_prefetch(t, index);
		if (c->remote_port == s->remote_port &&
			c->local_port == s->local_port &&
			c->local == s->local && net_same(&c->remote, s->remote))
			return c;
	}
	return NULL;
}

struct tcp_connection *tcp_connection_find(
	const struct tcp *t, const struct tcp_segment *s)
{
	return tcp_connection_at(t, s,
		hash_of(t, s->remote, s->local,
			ports_of(s->remote_port, s->local_port)));
}

static uint32_t place_of(uint32_t hash, uint32_t index)
{
	return (hash & ~TCP_PLACE_INDEX_MASK) | (index + 1);
}

void tcp_connection_enter(struct tcp *t, struct tcp_connection *c)
{
	uint32_t hash = hash_of_connection(t, c), mask = t->place_count - 1;
	uint32_t at = hash & mask;

	while (t->places[at] != 0)
		at = (at + 1) & mask;
	t->places[at] = place_of(hash, tcp_index(t, c));
}

/* How far behind its own place the connection at `at` stands. */
static uint32_t strayed(const struct tcp *t, uint32_t at)
{
	uint32_t index = (t->places[at] & TCP_PLACE_INDEX_MASK) - 1;
	uint32_t hash = hash_of_connection(t, &t->connections[index]);

	return (at - hash) & (t->place_count - 1);
}

/* Those behind move up, so that no search ends too early. */
static void leave(struct tcp *t, const struct tcp_connection *c)
{
	uint32_t hash = hash_of_connection(t, c), mask = t->place_count - 1;
	uint32_t place = place_of(hash, tcp_index(t, c)), hole = hash & mask;

	while (t->places[hole] != place) {
		assert(t->places[hole] != 0);
		hole = (hole + 1) & mask;
	}
	for (uint32_t at = (hole + 1) & mask; t->places[at] != 0;
		at = (at + 1) & mask) {
		/* Not one that would come to stand before its own place. */
		if (strayed(t, at) < ((at - hole) & mask))
			continue;
		t->places[hole] = t->places[at];
		hole = at;
	}
	t->places[hole] = 0;
}

struct tcp_connection *tcp_connection_of(const struct tcp *t, struct tcp_id id)
{
	struct tcp_connection *c;

	if (id.index >= t->config.connection_count)
		return NULL;
	c = &t->connections[id.index];
	if (c->generation != id.generation || !c->owned || c->news_closed)
		return NULL;
	return c;
}

/* --- from free to free --- */

/* The edges of RFC 9293's figure 5 that a server has, and TCP_CLOSED. */
static bool edge_is_allowed(enum tcp_state from, enum tcp_state to)
{
	static const uint16_t allowed[] = {
		[TCP_FREE] = 1 << TCP_SYN_RECEIVED | 1 << TCP_ESTABLISHED |
			     1 << TCP_CLOSE_WAIT | 1 << TCP_FIN_WAIT_1 |
			     1 << TCP_FIN_WAIT_2 | 1 << TCP_CLOSING |
			     1 << TCP_LAST_ACK |
			     1 << TCP_TIME_WAIT, /* import: any that lives */
		[TCP_SYN_RECEIVED] = 1 << TCP_ESTABLISHED | 1 << TCP_CLOSED,
		[TCP_ESTABLISHED] = 1 << TCP_CLOSE_WAIT | 1 << TCP_FIN_WAIT_1 |
				    1 << TCP_CLOSED,
		[TCP_CLOSE_WAIT] = 1 << TCP_LAST_ACK | 1 << TCP_CLOSED,
		[TCP_FIN_WAIT_1] = 1 << TCP_FIN_WAIT_2 | 1 << TCP_CLOSING |
				   1 << TCP_CLOSED,
		[TCP_FIN_WAIT_2] = 1 << TCP_TIME_WAIT | 1 << TCP_CLOSED,
		[TCP_CLOSING] = 1 << TCP_TIME_WAIT | 1 << TCP_CLOSED,
		[TCP_LAST_ACK] = 1 << TCP_CLOSED,
		[TCP_TIME_WAIT] = 1 << TCP_CLOSED,
		[TCP_CLOSED] = 1 << TCP_FREE,
	};

	return allowed[from] >> to & 1;
}

void tcp_set_state(struct tcp *t, struct tcp_connection *c, enum tcp_state to)
{
	assert(edge_is_allowed((enum tcp_state)c->state, to));
	if (c->state == TCP_SYN_RECEIVED)
		t->half_open_count--;
	if (to == TCP_SYN_RECEIVED)
		t->half_open_count++;
	if (c->state == TCP_TIME_WAIT)
		wait_list_remove(t, c);
	if (to == TCP_TIME_WAIT)
		wait_list_add(t, c);
	c->state = (uint8_t)to;
}

/* The oldest of those that only wait, where nobody above waits too. */
static bool recycle(struct tcp *t)
{
	uint32_t at = t->time_wait.first;

	while (at != TCP_NONE && t->connections[at].owned)
		at = t->connections[at].list_next;
	if (at == TCP_NONE)
		return false;
	t->counters.time_wait_recycled++;
	tcp_connection_end(t, &t->connections[at], TCP_END_CLEAN);
	return true;
}

struct tcp_connection *tcp_connection_get(struct tcp *t)
{
	struct tcp_connection *c, old;

	if (t->free.first == TCP_NONE && !recycle(t))
		return NULL;
	c = &t->connections[t->free.first];
	t->free.first = c->list_next;
	old = *c;
	*c = (struct tcp_connection){
		.generation = old.generation + 1,
		.flush_next = old.flush_next,
		.ready_next = old.ready_next,
		.flush_queued = old.flush_queued,
		.ready_queued = old.ready_queued,
		.first_block = UNIT_NONE,
		.last_block = UNIT_NONE,
		.cursor_block = UNIT_NONE,
		.slab = TCP_NONE,
	};
	t->used_count++;
	return c;
}

void tcp_connection_free(struct tcp *t, struct tcp_connection *c)
{
	assert(c->state == TCP_CLOSED && !c->owned);
	tcp_set_state(t, c, TCP_FREE);
	c->list_next = t->free.first;
	t->free.first = tcp_index(t, c);
	t->used_count--;
}

static void count_end(struct tcp *t, enum tcp_end end)
{
	if (end == TCP_END_CLEAN)
		t->counters.closed_clean++;
	else if (end == TCP_END_RESET)
		t->counters.closed_reset++;
	else
		t->counters.closed_timeout++;
}

void tcp_connection_end(
	struct tcp *t, struct tcp_connection *c, enum tcp_end end)
{
	tcp_timers_clear(t, c);
	tcp_queue_clear(t, c);
	tcp_input_drop(t, c);
	leave(t, c);
	tcp_set_state(t, c, TCP_CLOSED);
	if (!c->owned) {
		tcp_connection_free(t, c);
		return;
	}
	/* From TIME_WAIT the news are out already, if tcp_close() came. */
	if (!c->news_closed) {
		c->end = (uint8_t)end;
		c->news_closed = true;
		count_end(t, end);
	}
	tcp_mark_ready(t, c);
}

static void tell_closed(struct tcp *t, struct tcp_connection *c)
{
	c->end = TCP_END_CLEAN;
	c->news_closed = true;
	count_end(t, TCP_END_CLEAN);
	tcp_mark_ready(t, c);
}

void tcp_connection_wait(struct tcp *t, struct tcp_connection *c)
{
	tcp_timers_clear(t, c);
	tcp_queue_clear(t, c);
	tcp_set_state(t, c, TCP_TIME_WAIT);
	tcp_timer_set(t, c, TCP_TIMER_WAIT, t->now_ns + t->config.time_wait_ns);
	if (c->closing)
		tell_closed(t, c);
}

void tcp_connection_closed(struct tcp *t, struct tcp_connection *c)
{
	if (c->state == TCP_FIN_WAIT_2)
		tcp_timer_set(t, c, TCP_TIMER_WAIT,
			t->now_ns + t->config.fin_wait_2_ns);
	else if (c->state == TCP_TIME_WAIT && c->deadline_ns[TCP_TIMER_WAIT])
		tell_closed(t, c);
	/* Its time is over, or our FIN was acknowledged long ago. */
	else if (c->state == TCP_TIME_WAIT ||
		 (c->state == TCP_LAST_ACK && c->fin_sent &&
			 c->snd_una == c->snd_nxt))
		tcp_connection_end(t, c, TCP_END_CLEAN);
}

void tcp_waited(struct tcp *t, struct tcp_connection *c)
{
	/* What is unread is the layer above's until it has closed. */
	if (c->state == TCP_TIME_WAIT && c->owned && !c->news_closed)
		return;
	/* The peer has had its time to finish: it shall not wait for ever. */
	if (c->state == TCP_FIN_WAIT_2)
		tcp_output_reset(t, c);
	tcp_connection_end(t, c, TCP_END_CLEAN);
}
