/* dataplane_client.c - far ends that ask and read streams (frames <-> events) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "bench/dataplane_client.h"
#include "dataplane/net_wire.h"

#define FIRST_ADDRESS 0x0a090100u /* 10.9.1.0 */
#define SERVER_PORT 80
#define AGAIN_NS (1 * NS_PER_S)
#define BURST_MAX 64 /* of a turn */
#define DONE_BYTES_MAX 24 /* chunk framing and "data: [DONE]" */
#define STATUS_AT 9 /* in a head */
#define CHUNKS_END_BYTES 7 /* CR, LF, "0", CR, LF, CR, LF */
#define HEAD_END 0x0d0a0d0au
#define FLOOD_COUNT 10000000u
/*
 * What differs from run to run ends here in a line: data: {"id":"cmpl-...",
 * "object":"text_completion","created":1700000000. Lines of chunks are shorter.
 */
#define VARYING_BYTES 104
#define HASH_SEED UINT64_C(0xcbf29ce484222325)
#define HASH_PRIME UINT64_C(0x100000001b3)

int dataplane_client_init(struct dataplane_client *client,
	struct dataplane_wire *wire, uint32_t address, uint32_t count,
	struct error *err)
{
	*client = (struct dataplane_client){.wire = wire,
		.net = {.mac = {2, 0, 0, 0, 0, 2},
			.server_address = address,
			.first = FIRST_ADDRESS,
			.server_port = SERVER_PORT},
		.count = count};
	client->ends = calloc(count, sizeof(*client->ends));
	client->now_ns = mono_now().ns;
	return client->ends
		       ? 0
		       : error_set(err, ENOMEM, "no memory for %u ends", count);
}

void dataplane_client_release(struct dataplane_client *client)
{
	dataplane_tls_destroy(client->tls);
	free(client->ends);
	*client = (struct dataplane_client){0};
}

/* --- segments out --- */

static uint16_t window_of(const struct far_end *e)
{
	return e->slow && e->state != FAR_OPENING
		       ? (uint16_t)((FAR_SLOW_BYTES - e->unread) >>
				    FAR_WINDOW_SCALE)
		       : FAR_WINDOW_MAX;
}

static void send_segment(struct dataplane_client *client, uint32_t i,
	uint8_t flags, const char *text, size_t length)
{
	struct far_end *e = &client->ends[i];
	uint8_t *frame = client->wire->frame_get(client->wire);
	const struct far_segment s = {.i = i,
		.flags = flags,
		.seq = e->seq,
		.ack = flags & FAR_ACK ? e->ack : 0,
		.ts_value = (uint32_t)(client->now_ns / NS_PER_MS),
		.ts_echo = e->ts_recent,
		.window = window_of(e),
		.data = (const uint8_t *)text,
		.length = (uint32_t)length};

	/* As if it were lost on its way. */
	if (!frame)
		return;
	client->wire->frame_send(
		client->wire, far_frame_make(&client->net, &s, frame));
	client->segments_out++;
}

void dataplane_client_greet(struct dataplane_client *client)
{
	for (uint32_t i = 0; i < client->count; i += FAR_PORT_COUNT) {
		uint8_t *frame = client->wire->frame_get(client->wire);

		if (!frame)
			return;
		client->wire->frame_send(
			client->wire, far_arp_ask(&client->net, i, frame));
		client->arp_out++;
	}
	client->wire->flush(client->wire);
}

bool dataplane_client_knows_server(const struct dataplane_client *client)
{
	static const uint8_t none[6];

	return memcmp(client->net.server_mac, none, 6) != 0;
}

static void send_syn(struct dataplane_client *client, uint32_t i)
{
	send_segment(client, i, FAR_SYN, NULL, 0);
	client->ends[i].sent_ns = client->now_ns;
}

void dataplane_client_open(struct dataplane_client *client, uint32_t i)
{
	client->ends[i] = (struct far_end){
		.seq = i * 2654435761u + (uint32_t)client->now_ns,
		.slow = client->ends[i].slow,
		.state = FAR_OPENING};
	send_syn(client, i);
}

/* Records that wait. */
static void send_records(struct dataplane_client *client, uint32_t i)
{
	char records[FAR_FRAME_PAYLOAD_MAX];
	size_t length;

	while ((length = dataplane_tls_take(
			client->tls, i, records, sizeof(records))) > 0) {
		send_segment(client, i, FAR_ACK | FAR_PSH, records, length);
		client->ends[i].seq += (uint32_t)length;
	}
}

static void send_request(struct dataplane_client *client, uint32_t i)
{
	char text[FAR_FRAME_PAYLOAD_MAX];
	struct far_end *e = &client->ends[i];
	size_t length = client->hooks.request(client->hooks.arg, i, text);

	assert(length <= sizeof(text));
	if (client->tls) {
		(void)dataplane_tls_write(client->tls, i, text, length);
		send_records(client, i);
		return;
	}
	/* Again, where the last one is not acknowledged. */
	e->seq -= e->request_bytes;
	send_segment(client, i, FAR_ACK | FAR_PSH, text, length);
	e->request_bytes = (uint32_t)length;
	e->seq += e->request_bytes;
	e->sent_ns = client->now_ns;
}

void dataplane_client_ask(struct dataplane_client *client, uint32_t i)
{
	struct far_end *e = &client->ends[i];

	assert(e->state == FAR_OPEN && !e->asked);
	e->asked = true;
	e->in_body = e->line_end = e->in_text = e->escaped = false;
	e->matched = 0;
	e->head_tail = e->head_bytes = e->tail_bytes = 0;
	e->line = e->column = e->request_bytes = 0;
	e->event_count = 0;
	e->hash = HASH_SEED;
	client->asked_count++;
	send_request(client, i);
}

void dataplane_client_say(struct dataplane_client *client, uint32_t i,
	const char *text, size_t length)
{
	if (client->ends[i].state != FAR_OPEN)
		return;
	send_segment(client, i, FAR_ACK | FAR_PSH, text, length);
	client->ends[i].seq += (uint32_t)length;
}

static void gone(struct dataplane_client *client, struct far_end *e)
{
	client->open_count -= e->counted;
	e->counted = false;
	if (e->asked)
		client->asked_count--;
	e->asked = false;
	e->state = FAR_GONE;
}

void dataplane_client_reset(
	struct dataplane_client *client, uint32_t i, bool in_window)
{
	struct far_end *e = &client->ends[i];
	const uint32_t seq = e->seq;

	if (!in_window)
		e->seq += 1000;
	send_segment(client, i, FAR_RST | FAR_ACK, NULL, 0);
	e->seq = seq;
	if (in_window)
		gone(client, e);
}

void dataplane_client_read(struct dataplane_client *client, uint32_t i)
{
	struct far_end *e = &client->ends[i];

	if (e->state != FAR_OPEN || e->unread == 0)
		return;
	e->unread = 0;
	send_segment(client, i, FAR_ACK, NULL, 0);
}

/* Of somebody beyond all far ends. */
static void send_strange(
	struct dataplane_client *client, const struct far_segment *s)
{
	uint8_t *frame = client->wire->frame_get(client->wire);

	if (!frame)
		return;
	client->wire->frame_send(
		client->wire, far_frame_make(&client->net, s, frame));
	client->segments_out++;
}

void dataplane_client_stray(struct dataplane_client *client, uint32_t number)
{
	const struct far_segment s = {
		.i = client->count + FAR_PORT_COUNT + number % FLOOD_COUNT,
		.flags = FAR_ACK | FAR_PSH,
		.seq = number,
		.window = FAR_WINDOW_MAX,
		.data = (const uint8_t *)"GET",
		.length = 3};

	send_strange(client, &s);
}

void dataplane_client_flood(struct dataplane_client *client, uint32_t number)
{
	const struct far_segment s = {
		.i = client->count + FAR_PORT_COUNT + number % FLOOD_COUNT,
		.flags = FAR_SYN,
		.window = FAR_WINDOW_MAX,
		.seq = number};

	send_strange(client, &s);
}

/* --- answers --- */

/* Where one starts at all: behind what differs from run to run. */
static void hash_add(struct far_end *e, const uint8_t *p, size_t length)
{
	uint64_t hash = e->hash;
	size_t at = 0;

	if (e->line < VARYING_BYTES)
		at = VARYING_BYTES - e->line;
	for (; at < length; at++)
		hash = (hash ^ p[at]) * HASH_PRIME;
	e->hash = hash;
}

/* Of texts alone, as JSON has them. */
static void hash_text(struct far_end *e, const uint8_t *p, size_t length)
{
	static const uint8_t name[] = "\"text\":\"";

	for (size_t i = 0; i < length; i++) {
		if (!e->in_text) {
			if (p[i] != name[e->matched])
				e->matched = 0;
			if (p[i] == name[e->matched])
				e->matched++;
			e->in_text = e->matched == sizeof(name) - 1;
			continue;
		}
		if (p[i] == '"' && !e->escaped) {
			e->in_text = false;
			e->matched = 0;
			continue;
		}
		e->escaped = p[i] == '\\' && !e->escaped;
		e->hash = (e->hash ^ p[i]) * HASH_PRIME;
	}
}

static void end_answer(struct dataplane_client *client, uint32_t i)
{
	struct far_end *e = &client->ends[i];

	if (!e->asked)
		return;
	e->asked = false;
	client->asked_count--;
	if (client->hooks.done)
		client->hooks.done(client->hooks.arg, i);
}

static void take_event(struct dataplane_client *client, uint32_t i)
{
	struct far_end *e = &client->ends[i];
	const struct dataplane_hooks *hooks = &client->hooks;
	bool done = e->column <= DONE_BYTES_MAX;

	e->column = 0;
	if (done) {
		e->tail_bytes = CHUNKS_END_BYTES;
		return;
	}
	client->events++;
	if (hooks->event)
		hooks->event(hooks->arg, i, e->event_count);
	e->event_count++;
}

/* Behind [DONE]: the end of its chunk, and of all. */
static void take_tail(struct dataplane_client *client, uint32_t i, size_t n)
{
	struct far_end *e = &client->ends[i];

	e->tail_bytes -= n < e->tail_bytes ? (uint32_t)n : e->tail_bytes;
	if (e->tail_bytes == 0)
		end_answer(client, i);
}

static void take_body(
	struct dataplane_client *client, uint32_t i, const uint8_t *p, size_t n)
{
	struct far_end *e = &client->ends[i];

	while (n > 0 && e->tail_bytes == 0) {
		const uint8_t *end = memchr(p, '\n', n);
		size_t part = end ? (size_t)(end - p) + 1 : n;
		bool empty = end && part == 1 && e->line_end;

		if (client->check == FAR_CHECK_BYTES)
			hash_add(e, p, part);
		else if (client->check == FAR_CHECK_TEXT)
			hash_text(e, p, part);
		e->line = end ? 0 : e->line + (uint32_t)part;
		e->column += (uint32_t)part;
		e->line_end = end != NULL;
		if (empty)
			take_event(client, i);
		p += part;
		n -= part;
	}
	if (n > 0)
		take_tail(client, i, n);
}

static void take_bytes(
	struct dataplane_client *client, uint32_t i, const uint8_t *p, size_t n)
{
	struct far_end *e = &client->ends[i];

	while (n > 0 && !e->in_body) {
		e->head_tail = e->head_tail << 8 | *p++;
		n--;
		e->in_body = e->head_tail == HEAD_END;
		/* "HTTP/1.1 200" */
		if (++e->head_bytes == STATUS_AT + 1)
			client->refused += p[-1] != '2';
	}
	if (n > 0 && client->plain)
		end_answer(client, i);
	else if (n > 0)
		take_body(client, i, p, n);
}

/* --- segments in --- */

/* For a connection that is not here (any more). */
static void refuse_segment(
	struct dataplane_client *client, const struct far_segment *s)
{
	struct far_end *e = &client->ends[s->i];
	const uint32_t seq = e->seq;

	if (!(s->flags & FAR_ACK))
		return;
	e->seq = s->ack;
	send_segment(client, s->i, FAR_RST, NULL, 0);
	e->seq = seq;
}

/* Plain bytes out of records, and what they are answered with. */
static void take_records(
	struct dataplane_client *client, uint32_t i, const uint8_t *p, size_t n)
{
	uint8_t plain[DATAPLANE_WIRE_FRAME_BYTES];
	struct far_end *e = &client->ends[i];
	size_t length;

	if (!dataplane_tls_input(client->tls, i, p, n)) {
		client->refused++;
		return;
	}
	if (!e->counted && dataplane_tls_is_open(client->tls, i)) {
		e->counted = true;
		client->open_count++;
	}
	while ((length = dataplane_tls_read(
			client->tls, i, plain, sizeof(plain))) > 0)
		take_bytes(client, i, plain, length);
	send_records(client, i);
}

static void take_opening(
	struct dataplane_client *client, const struct far_segment *s)
{
	struct far_end *e = &client->ends[s->i];

	/* The server has an older one from this port: that ends first. */
	if (s->ack != e->seq + 1) {
		refuse_segment(client, s);
		send_syn(client, s->i);
		return;
	}
	if ((s->flags & (FAR_SYN | FAR_ACK)) != (FAR_SYN | FAR_ACK))
		return;
	e->seq++;
	e->ack = s->seq + 1;
	e->ts_recent = s->ts_value;
	e->state = FAR_OPEN;
	if (client->tls) {
		client->refused += !dataplane_tls_begin(client->tls, s->i);
		send_records(client, s->i);
		return;
	}
	e->counted = true;
	client->open_count++;
	send_segment(client, s->i, FAR_ACK, NULL, 0);
}

/* What is new of it, where it follows and there is room. */
static void take_next(struct dataplane_client *client,
	const struct far_segment *s, uint32_t known)
{
	struct far_end *e = &client->ends[s->i];
	uint32_t length = s->length - known, fin = !!(s->flags & FAR_FIN);

	if (e->slow && length > FAR_SLOW_BYTES - e->unread) {
		client->overruns++;
		return;
	}
	e->unread += e->slow ? length : 0;
	e->ack += length + fin;
	e->ts_recent = s->ts_value;
	if (client->tls && length > 0)
		take_records(client, s->i, s->data + known, length);
	else
		take_bytes(client, s->i, s->data + known, length);
}

static void take_data(
	struct dataplane_client *client, const struct far_segment *s)
{
	struct far_end *e = &client->ends[s->i];
	uint32_t fin = !!(s->flags & FAR_FIN), known = e->ack - s->seq;

	/* What was asked has come: nothing is to be sent again. */
	if (s->ack == e->seq)
		e->request_bytes = 0;
	if (s->length + fin == 0) {
		/* It asks where we are: a probe of a closed window. */
		if ((int32_t)known > 0)
			send_segment(client, s->i, FAR_ACK, NULL, 0);
		return;
	}
	client->again_in += (int32_t)known > 0;
	client->gaps_in += (int32_t)known < 0;
	if (known < s->length + fin)
		take_next(client, s, known);
	send_segment(client, s->i, FAR_ACK, NULL, 0);
	if (fin && s->seq + s->length + fin == e->ack)
		dataplane_client_reset(client, s->i, true);
}

static void take_segment(
	struct dataplane_client *client, const struct far_segment *s)
{
	struct far_end *e;

	client->segments_in++;
	if (s->i >= client->count)
		return;
	e = &client->ends[s->i];
	if (s->flags & FAR_RST) {
		client->resets++;
		gone(client, e);
		return;
	}
	if (e->state == FAR_OPENING)
		take_opening(client, s);
	else if (e->state == FAR_OPEN && s->flags & FAR_SYN)
		send_segment(client, s->i, FAR_ACK, NULL, 0);
	else if (e->state == FAR_OPEN)
		take_data(client, s);
	else
		refuse_segment(client, s);
}

static void take_frame(
	struct dataplane_client *client, const struct net_frame *frame)
{
	struct far_segment s;
	uint8_t *out;
	size_t length;

	if (far_frame_read(&client->net, frame->bytes, frame->length, &s)) {
		take_segment(client, &s);
		return;
	}
	client->arp_in++;
	out = client->wire->frame_get(client->wire);
	if (!out)
		return;
	length = far_arp_input(&client->net, frame->bytes, frame->length, out);
	if (length == 0)
		return;
	client->wire->frame_send(client->wire, length);
	client->arp_out++;
}

static void sweep(struct dataplane_client *client)
{
	client->swept_ns = client->now_ns;
	for (uint32_t i = 0; i < client->count; i++) {
		const struct far_end *e = &client->ends[i];

		if (client->now_ns - e->sent_ns < AGAIN_NS)
			continue;
		if (e->state == FAR_OPENING)
			send_syn(client, i);
		else if (e->state == FAR_OPEN && e->request_bytes > 0)
			send_request(client, i);
		else
			continue;
		client->asked_again++;
	}
}

uint32_t dataplane_client_turn(struct dataplane_client *client)
{
	struct net_frame frames[DATAPLANE_WIRE_BURST];
	uint32_t total = 0, count;

	client->now_ns = mono_now().ns;
	for (int burst = 0; burst < BURST_MAX; burst++) {
		count = client->wire->receive(
			client->wire, frames, DATAPLANE_WIRE_BURST);
		for (uint32_t i = 0; i < count; i++)
			take_frame(client, &frames[i]);
		total += count;
		if (count == 0)
			break;
	}
	if (client->now_ns - client->swept_ns >= AGAIN_NS)
		sweep(client);
	client->wire->flush(client->wire);
	return total;
}
