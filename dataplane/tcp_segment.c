/* tcp_segment.c - TCP's header and options, read and written (RFC 9293, 7323) */
/* SPDX-License-Identifier: Apache-2.0 */
#include "dataplane/tcp_private.h"

enum option_kind {
	OPTION_END = 0,
	OPTION_NOP = 1,
	OPTION_MSS = 2,
	OPTION_SCALE = 3,
	OPTION_SACK_PERMITTED = 4,
	OPTION_SACK = 5,
	OPTION_TIMESTAMPS = 8
};

#define TIMESTAMP_BYTES 12 /* with its two NOPs */

uint32_t tcp_clock_ms(const struct tcp *t)
{
	return (uint32_t)(t->now_ns / NS_PER_MS);
}

uint32_t tcp_ts_offset(const struct tcp *t, const struct tcp_segment *s)
{
	uint8_t key[20];

	memcpy(key, s->remote->bytes, 16);
	net_put16(key + 16, s->remote_port);
	net_put16(key + 18, s->local_port);
	return (uint32_t)siphash_2_4(&t->ts_key, key, sizeof(key));
}

static void take_sack(struct tcp_segment *s, const uint8_t *p, size_t length)
{
	s->sack_count = 0;
	for (size_t at = 2; at + 8 <= length && s->sack_count < 4; at += 8)
		s->sack[s->sack_count++] = (struct tcp_range){
			net_get32(p + at), net_get32(p + at + 4)};
}

/* One option of a sound length; those of a wrong size for their kind are not
 * understood, and skipped. */
static void take_option(struct tcp_segment *s, const uint8_t *p, size_t length)
{
	bool syn = s->flags & TCP_SYN;

	if (p[0] == OPTION_MSS && length == 4 && syn) {
		s->has_mss = true;
		s->mss = net_get16(p + 2);
	} else if (p[0] == OPTION_SCALE && length == 3 && syn) {
		s->has_scale = true;
		/* RFC 7323, 2.3: more than 14 is taken for 14. */
		s->scale = p[2] < TCP_SCALE_MAX ? p[2] : TCP_SCALE_MAX;
	} else if (p[0] == OPTION_SACK_PERMITTED && length == 2 && syn) {
		s->has_sack_permitted = true;
	} else if (p[0] == OPTION_TIMESTAMPS && length == 10) {
		s->has_timestamps = true;
		s->ts_value = net_get32(p + 2);
		s->ts_echo = net_get32(p + 6);
	} else if (p[0] == OPTION_SACK && length >= 10 && length % 8 == 2) {
		take_sack(s, p, length);
	}
}

static bool take_options(struct tcp_segment *s, const uint8_t *p, size_t length)
{
	size_t at = 0;

	/* What nearly all segments have: RFC 7323, appendix A. */
	if (length == TIMESTAMP_BYTES &&
		net_get32(p) == (OPTION_NOP << 24 | OPTION_NOP << 16 |
					OPTION_TIMESTAMPS << 8 | 10)) {
		s->has_timestamps = true;
		s->ts_value = net_get32(p + 4);
		s->ts_echo = net_get32(p + 8);
		return true;
	}
	while (at < length && p[at] != OPTION_END) {
		if (p[at] == OPTION_NOP) {
			at++;
			continue;
		}
		if (at + 1 >= length || p[at + 1] < 2 ||
			at + p[at + 1] > length)
			return false;
		take_option(s, p + at, p[at + 1]);
		at += p[at + 1];
	}
	return true;
}

bool tcp_segment_parse(const struct net_in *in, struct tcp_segment *out)
{
	const uint8_t *p = in->data;
	size_t header;

	if (in->length < TCP_BYTES)
		return false;
	header = (size_t)(p[12] >> 4) * 4;
	if (header < TCP_BYTES || header > in->length)
		return false;
	*out = (struct tcp_segment){
		.remote = &in->from,
		.local = in->local,
		.flags = p[13] & 0x3f,
		.remote_port = net_get16(p),
		.local_port = net_get16(p + 2),
		.seq = net_get32(p + 4),
		.ack = net_get32(p + 8),
		.window = net_get16(p + 14),
		.data = p + header,
		.length = (uint32_t)(in->length - header),
	};
	return take_options(out, p + TCP_BYTES, header - TCP_BYTES);
}

static uint8_t *put_timestamps(
	const struct tcp *t, const struct tcp_connection *c, uint8_t *p)
{
	net_put32(p, OPTION_NOP << 24 | OPTION_NOP << 16 |
			     OPTION_TIMESTAMPS << 8 | 10);
	net_put32(p + 4, tcp_clock_ms(t) + c->ts_offset);
	net_put32(p + 8, c->ts_recent);
	return p + TIMESTAMP_BYTES;
}

static uint8_t *put_syn_options(
	const struct tcp *t, const struct tcp_connection *c, uint8_t *p)
{
	net_put32(p, OPTION_MSS << 24 | 4 << 16 |
			     tcp_mss_local(t, net_is_ip4(&c->remote)));
	p += 4;
	if (c->has_sack) {
		net_put32(p, OPTION_NOP << 24 | OPTION_NOP << 16 |
				     OPTION_SACK_PERMITTED << 8 | 2);
		p += 4;
	}
	if (c->has_timestamps)
		p = put_timestamps(t, c, p);
	if (c->has_scale) {
		net_put32(p, OPTION_NOP << 24 | OPTION_SCALE << 16 | 3 << 8 |
				     c->rcv_scale);
		p += 4;
	}
	return p;
}

static bool has_duplicate(const struct tcp_connection *c)
{
	return c->duplicate.start != c->duplicate.end;
}

/* The islands to report: as many as there is room for. */
static uint32_t sack_count(const struct tcp_connection *c)
{
	uint32_t count = c->range_count + has_duplicate(c);

	return c->has_sack ? min_u32(count, c->has_timestamps ? 3 : 4) : 0;
}

size_t tcp_options_bytes(const struct tcp_connection *c)
{
	uint32_t count = sack_count(c);

	return (c->has_timestamps ? TIMESTAMP_BYTES : 0) +
	       (count ? 4 + 8 * (size_t)count : 0);
}

/* RFC 2018: the island that grew last comes first; RFC 2883: or a duplicate. */
static uint8_t *put_sack(const struct tcp_connection *c, uint8_t *p)
{
	uint32_t count = sack_count(c), put = 0, latest = 0;

	if (count == 0)
		return p;
	net_put32(p, OPTION_NOP << 24 | OPTION_NOP << 16 | OPTION_SACK << 8 |
			     (2 + 8 * count));
	p += 4;
	if (has_duplicate(c)) {
		net_put32(p, c->duplicate.start);
		net_put32(p + 4, c->duplicate.end);
		p += 8;
		put++;
	}
	for (uint32_t i = 0; i < c->range_count; i++)
		if (seq_le(c->ranges[i].start, c->range_latest) &&
			seq_lt(c->range_latest, c->ranges[i].end))
			latest = i;
	for (uint32_t i = 0; put < count; i++, put++) {
		const struct tcp_range *r =
			&c->ranges[(latest + i) % c->range_count];

		net_put32(p, r->start);
		net_put32(p + 4, r->end);
		p += 8;
	}
	return p;
}

size_t tcp_options_put(const struct tcp *t, const struct tcp_connection *c,
	bool syn, uint8_t *out)
{
	uint8_t *p = out;

	if (syn)
		return (size_t)(put_syn_options(t, c, p) - out);
	if (c->has_timestamps)
		p = put_timestamps(t, c, p);
	p = put_sack(c, p);
	return (size_t)(p - out);
}
