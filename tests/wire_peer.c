/* wire_peer.c - a small TCP client of its own, for the wire's other end */
/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "tests/pattern.h"
#include "tests/suite.h"
#include "tests/wire_peer.h"

const uint8_t server_mac[6] = {2, 0, 0, 0, 0, 1};
const uint8_t peer_mac[6] = {2, 0, 0, 0, 0, 2};
const uint8_t server_ip4[4] = {10, 0, 0, 1}, peer_ip4[4] = {10, 0, 0, 2};
const uint8_t server_ip6[16] = {0xfd, [15] = 1},
	      peer_ip6[16] = {0xfd, [15] = 2};

#define SHIFT 7 /* our window scale */
#define RTO_NS (200 * NS_PER_MS)
#define RTO_MAX_NS (5 * NS_PER_S)

enum { FIN = 1, SYN = 2, RST = 4, PSH = 8, ACK = 16 };

uint16_t peer_checksum(uint32_t sum, const uint8_t *data, size_t length)
{
	for (size_t i = 0; i < length; i++)
		sum += i & 1 ? data[i] : (uint32_t)data[i] << 8;
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)~sum;
}

static void w16(uint8_t *p, uint32_t v)
{
	p[0] = (uint8_t)(v >> 8);
	p[1] = (uint8_t)v;
}

static void w32(uint8_t *p, uint32_t v)
{
	w16(p, v >> 16);
	w16(p + 2, v);
}

static uint32_t r16(const uint8_t *p)
{
	return (uint32_t)p[0] << 8 | p[1];
}

static uint32_t r32(const uint8_t *p)
{
	return r16(p) << 16 | r16(p + 2);
}

/* --- frames out --- */

static uint32_t pseudo(const uint8_t *from, const uint8_t *to, size_t bytes,
	uint32_t protocol, size_t length)
{
	uint32_t sum = protocol + (uint32_t)length;

	for (size_t i = 0; i < bytes; i += 2)
		sum += r16(from + i) + r16(to + i);
	return sum;
}

/* Wrap `length` bytes of transport at f + 54 (or 34) and send. */
static void send_ip(struct peer_host *h, bool ip6, uint8_t protocol, uint8_t *f,
	size_t length)
{
	size_t ip = ip6 ? 40 : 20, at = protocol == 6 ? 16 : 2;
	uint8_t *p = f + 14, *l4 = p + ip;
	uint32_t sum;

	memcpy(f, server_mac, 6);
	memcpy(f + 6, peer_mac, 6);
	w16(f + 12, ip6 ? 0x86dd : 0x0800);
	memset(p, 0, ip);
	if (ip6) {
		p[0] = 0x60;
		w16(p + 4, (uint32_t)length);
		p[6] = protocol;
		p[7] = 255;
		memcpy(p + 8, peer_ip6, 16);
		memcpy(p + 24, server_ip6, 16);
		sum = pseudo(peer_ip6, server_ip6, 16, protocol, length);
	} else {
		p[0] = 0x45;
		w16(p + 2, (uint32_t)(length + 20));
		w16(p + 4, h->ip_id++);
		p[8] = 64;
		p[9] = protocol;
		memcpy(p + 12, peer_ip4, 4);
		memcpy(p + 16, server_ip4, 4);
		w16(p + 10, peer_checksum(0, p, 20));
		sum = pseudo(peer_ip4, server_ip4, 4, protocol, length);
	}
	w16(l4 + at, 0);
	w16(l4 + at, peer_checksum(sum, l4, length));
	wire_send(h->wire, h->end, f, 14 + ip + length);
}

static uint32_t now_ms(const struct peer_host *h)
{
	return (uint32_t)(h->wire->now.ns / NS_PER_MS) + 77;
}

static size_t put_options(const struct peer_host *h, const struct wire_peer *p,
	bool syn, uint8_t *o)
{
	static const uint8_t mss[] = {2, 4}, scale[] = {1, 3, 3};
	static const uint8_t sack_ok[] = {1, 1, 4, 2}, sack[] = {1, 1, 5};
	static const uint8_t stamps[] = {1, 1, 8, 10};
	uint8_t *begin = o;
	uint32_t room = p->server_ts ? 3 : 4;

	if (syn) {
		memcpy(o, mss, sizeof(mss));
		w16(o + 2, p->config.mss);
		o += 4;
		if (p->config.scale) {
			memcpy(o, scale, sizeof(scale));
			o[3] = SHIFT;
			o += 4;
		}
		if (p->config.sack) {
			memcpy(o, sack_ok, sizeof(sack_ok));
			o += 4;
		}
	}
	if (syn ? p->config.timestamps : p->server_ts) {
		memcpy(o, stamps, sizeof(stamps));
		w32(o + 4, now_ms(h));
		w32(o + 8, syn ? 0 : p->ts_recent);
		o += 12;
	}
	if (!syn && p->server_sack && p->island_count > 0) {
		uint32_t n = p->island_count < room ? p->island_count : room;

		memcpy(o, sack, sizeof(sack));
		o[3] = (uint8_t)(2 + 8 * n);
		o += 4;
		for (uint32_t i = 0; i < n; i++, o += 8) {
			uint32_t k = (p->latest + i) % p->island_count;

			w32(o, p->irs + 1 + (uint32_t)p->islands[k].start);
			w32(o + 4, p->irs + 1 + (uint32_t)p->islands[k].end);
		}
	}
	return (size_t)(o - begin);
}

static uint32_t window_now(struct wire_peer *p, bool syn)
{
	uint64_t used = p->received - p->read;
	uint64_t window = p->config.receive_bytes > used
				  ? p->config.receive_bytes - used
				  : 0;
	uint32_t shift = p->server_scale && !syn ? SHIFT : 0;

	/* No silly windows. */
	if (p->received + window < p->edge + p->config.mss &&
		p->received + window < p->edge + p->config.receive_bytes / 2)
		window = p->edge > p->received ? p->edge - p->received : 0;
	window >>= shift;
	if (window > 65535)
		window = 65535;
	if (p->received + (window << shift) > p->edge)
		p->edge = p->received + (window << shift);
	return (uint32_t)window;
}

/* Flags, and `length` bytes of the stream from `offset`. */
static void send_segment(struct peer_host *h, struct wire_peer *p,
	uint8_t flags, uint64_t offset, size_t length)
{
	static uint8_t f[WIRE_FRAME_BYTES];
	uint8_t *t = f + 14 + (p->config.ip6 ? 40 : 20);
	bool syn = flags & SYN;
	size_t header = 20 + put_options(h, p, syn, t + 20);

	w16(t, p->config.port);
	w16(t + 2, p->config.server_port);
	w32(t + 4, p->iss + (syn ? 0 : 1 + (uint32_t)offset));
	w32(t + 8, flags & ACK
			   ? p->irs + 1 + (uint32_t)p->received + p->fin_taken
			   : 0);
	t[12] = (uint8_t)(header / 4 << 4);
	t[13] = flags;
	w16(t + 14, window_now(p, syn));
	w32(t + 16, 0);
	pattern_fill(p->config.send_seed, offset, t + header, length);
	send_ip(h, p->config.ip6, 6, f, header + length);
	if (flags & ACK) {
		p->ack_due = false;
		p->ack_at_ns = 0;
	}
}

/* --- output --- */

static bool fin_allowed(const struct wire_peer *p)
{
	return !p->config.close_last || p->fin_taken;
}

static void output(struct peer_host *h, struct wire_peer *p)
{
	const struct peer_config *c = &p->config;
	uint64_t total = c->send_total;
	uint32_t mss = c->mss < p->server_mss ? c->mss : p->server_mss;

	if (p->server_ts)
		mss -= 12;
	for (;;) {
		uint64_t limit = p->acked + c->send_window;
		uint64_t length = total > p->sent ? total - p->sent : 0;
		bool fin;

		if (limit > p->window_end)
			limit = p->window_end;
		if (length > mss)
			length = mss;
		if (length > 0 && p->sent + length > limit)
			length = limit > p->sent ? limit - p->sent : 0;
		fin = p->sent + length == total && fin_allowed(p);
		if ((length == 0 && !fin) || p->sent > total)
			break;
		send_segment(h, p,
			(uint8_t)(ACK | (fin ? FIN : 0) |
				  (p->sent + length == total ? PSH : 0)),
			p->sent, (size_t)length);
		p->sent += length + fin;
		if (p->sent > p->sent_max)
			p->sent_max = p->sent;
		if (p->rto_at_ns == 0)
			p->rto_at_ns = h->wire->now.ns + p->rto_ns;
	}
	/* A closed window is asked about, at the same pace. */
	if (p->rto_at_ns == 0 && p->acked < total)
		p->rto_at_ns = h->wire->now.ns + p->rto_ns;
	if (p->ack_due)
		send_segment(h, p, ACK, p->sent, 0);
}

/* --- input --- */

static void island_add(struct wire_peer *p, uint64_t start, uint64_t end)
{
	uint32_t i = 0;

	if (start <= p->received && end > p->received)
		p->received = end;
	for (bool again = true; again;) {
		again = false;
		for (i = 0; i < p->island_count; i++) {
			struct peer_island *s = &p->islands[i];

			if (s->start <= p->received) {
				if (s->end > p->received)
					p->received = s->end;
			} else if (start > p->received && s->start <= end &&
				   start <= s->end) {
				start = s->start < start ? s->start : start;
				end = s->end > end ? s->end : end;
			} else {
				continue;
			}
			*s = p->islands[--p->island_count];
			again = true;
			break;
		}
	}
	p->latest = 0;
	if (start > p->received && p->island_count < PEER_ISLAND_COUNT) {
		p->latest = p->island_count;
		p->islands[p->island_count++] =
			(struct peer_island){start, end};
	}
}

static void take_data(struct peer_host *h, struct wire_peer *p, uint32_t seq,
	const uint8_t *data, size_t length, bool fin)
{
	/* The offset nearest to what is expected. */
	int64_t at = (int64_t)p->received +
		     (int32_t)(seq - (p->irs + 1 + (uint32_t)p->received));
	uint64_t before = p->received;

	if (length > 0 || fin)
		p->ack_due = true;
	if (at < 0)
		return;
	if (length > 0 && (uint64_t)at + length <= p->received)
		return;
	if (length > 0 && (uint64_t)at + length > p->edge)
		return; /* beyond what we opened */
	if (!pattern_matches(
		    p->config.receive_seed, (uint64_t)at, data, length))
		p->corrupt_bytes = true;
	if (length > 0)
		island_add(p, (uint64_t)at, (uint64_t)at + length);
	if (fin)
		p->fin_at = (uint64_t)at + length;
	if (p->received == p->fin_at)
		p->fin_taken = true;
	if (p->received > before)
		p->last_data_ns = h->wire->now.ns;
	if (p->config.ack_delay_ns && p->received == before + length &&
		p->island_count == 0 && !fin && p->ack_at_ns == 0) {
		p->ack_due = false;
		p->ack_at_ns = h->wire->now.ns + p->config.ack_delay_ns;
	}
}

static void take_options(
	struct wire_peer *p, const uint8_t *o, size_t length, bool syn)
{
	for (size_t i = 0; i < length && o[i] != 0;) {
		if (o[i] == 1) {
			i++;
			continue;
		}
		if (i + 1 >= length || o[i + 1] < 2)
			return;
		if (o[i] == 2 && syn)
			p->server_mss = (uint16_t)r16(o + i + 2);
		else if (o[i] == 3 && syn) {
			p->server_scale = true;
			p->server_shift = o[i + 2];
		} else if (o[i] == 4 && syn)
			p->server_sack = true;
		else if (o[i] == 8) {
			p->server_ts |= syn;
			p->ts_recent = r32(o + i + 2);
		}
		i += o[i + 1];
	}
}

static void take_ack(struct peer_host *h, struct wire_peer *p, const uint8_t *t)
{
	uint32_t ack = r32(t + 8), seq = r32(t + 4);
	int64_t at = (int64_t)p->acked +
		     (int32_t)(ack - (p->iss + 1 + (uint32_t)p->acked));
	uint64_t window = (uint64_t)r16(t + 14) << p->server_shift;

	if (at < 0 || (uint64_t)at > p->sent_max)
		return;
	if ((uint64_t)at > p->acked) {
		p->acked = (uint64_t)at;
		if (p->sent < p->acked)
			p->sent = p->acked;
		p->rto_ns = RTO_NS;
		p->rto_at_ns = p->acked < p->sent_max
				       ? h->wire->now.ns + p->rto_ns
				       : 0;
		p->progress_ns = h->wire->now.ns;
	}
	if ((int32_t)(seq - p->wl1) > 0 ||
		(seq == p->wl1 && (int32_t)(ack - p->wl2) >= 0)) {
		p->wl1 = seq;
		p->wl2 = ack;
		p->window_end = (uint64_t)at + window;
	}
}

static void check_done(struct wire_peer *p)
{
	if (p->state == PEER_OPEN && p->fin_taken &&
		p->acked == p->config.send_total + 1)
		p->state = PEER_DONE;
}

static void opened(struct peer_host *h, struct wire_peer *p, const uint8_t *t)
{
	size_t header = (size_t)(t[12] >> 4) * 4;

	if (r32(t + 8) != p->iss + 1)
		return;
	p->state = PEER_OPEN;
	p->irs = r32(t + 4);
	p->wl1 = p->irs;
	p->wl2 = p->iss + 1;
	p->window_end = r16(t + 14);
	p->server_mss = 536;
	take_options(p, t + 20, header - 20, true);
	if (!p->config.scale || !p->server_scale)
		p->server_scale = false, p->server_shift = 0;
	p->edge = p->config.receive_bytes < 65535 ? p->config.receive_bytes
						  : 65535;
	p->rto_ns = RTO_NS;
	p->rto_at_ns = 0;
	p->ack_due = true;
	p->progress_ns = p->last_data_ns = p->read_ns = h->wire->now.ns;
}

static void segment_input(struct peer_host *h, struct wire_peer *p,
	const uint8_t *t, size_t length)
{
	size_t header = (size_t)(t[12] >> 4) * 4;
	uint32_t seq = r32(t + 4);
	uint32_t next = p->irs + 1 + (uint32_t)p->received + p->fin_taken;

	if (header < 20 || header > length)
		return;
	if (t[13] & RST) {
		bool exact = p->state == PEER_SYN_SENT
				     ? r32(t + 8) == p->iss + 1
				     : (int32_t)(seq - next) >= 0;

		if (p->state != PEER_DONE && exact)
			p->state = PEER_RESET;
		return;
	}
	if (p->state == PEER_SYN_SENT) {
		if ((t[13] & (SYN | ACK)) == (SYN | ACK))
			opened(h, p, t);
		return;
	}
	if ((t[13] & SYN) || (int32_t)(seq - next) < 0) {
		p->ack_due = true;
		if (t[13] & SYN)
			return;
	}
	take_options(p, t + 20, header - 20, false);
	take_ack(h, p, t);
	take_data(h, p, seq, t + header, length - header, t[13] & FIN);
	if (p->config.read_bytes_per_s == 0)
		p->read = p->received;
	check_done(p);
}

/* Who asks for our MAC gets it. */
static void answer_arp(struct peer_host *h, const uint8_t *a, size_t length)
{
	uint8_t f[14 + 28];

	if (length < 28 || r16(a + 6) != 1 || memcmp(a + 24, peer_ip4, 4) != 0)
		return;
	memcpy(f, server_mac, 6);
	memcpy(f + 6, peer_mac, 6);
	w16(f + 12, 0x0806);
	memcpy(f + 14, a, 28);
	w16(f + 20, 2);
	memcpy(f + 22, peer_mac, 6);
	memcpy(f + 28, peer_ip4, 4);
	memcpy(f + 32, a + 8, 10);
	wire_send(h->wire, h->end, f, sizeof(f));
}

static void answer_nd(struct peer_host *h, const uint8_t *nd, size_t length)
{
	uint8_t f[14 + 40 + 32] = {0}, *t = f + 54;

	if (length < 24 || nd[0] != 135 || memcmp(nd + 8, peer_ip6, 16) != 0)
		return;
	t[0] = 136;
	t[4] = 0x60;
	memcpy(t + 8, peer_ip6, 16);
	t[24] = 2;
	t[25] = 1;
	memcpy(t + 26, peer_mac, 6);
	send_ip(h, true, 58, f, 32);
}

static void host_input(
	void *arg, const uint8_t *f, size_t length, struct mono now)
{
	struct peer_host *h = arg;
	const uint8_t *p = f + 14;
	bool ip6 = r16(f + 12) == 0x86dd;
	size_t ip = ip6 ? 40 : 20, rest;
	uint32_t sum;

	(void)now;
	if (r16(f + 12) == 0x0806) {
		answer_arp(h, p, length - 14);
		return;
	}
	if (length < 14 + ip + 20 || (!ip6 && peer_checksum(0, p, 20) != 0) ||
		(!ip6 && p[0] != 0x45))
		return;
	rest = ip6 ? r16(p + 4) : r16(p + 2) - 20u;
	if (rest > length - 14 - ip || rest < 20 || (!ip6 && r16(p + 2) < 20))
		return;
	sum = ip6 ? pseudo(p + 8, p + 24, 16, p[6], rest)
		  : pseudo(p + 12, p + 16, 4, p[9], rest);
	if (peer_checksum(sum, p + ip, rest) != 0)
		return;
	if (ip6 && p[6] == 58)
		answer_nd(h, p + ip, rest);
	if ((ip6 ? p[6] : p[9]) != 6)
		return;
	for (uint32_t i = 0; i < h->count; i++)
		if (h->peers[i].state != PEER_IDLE &&
			h->peers[i].config.ip6 == ip6 &&
			h->peers[i].config.port == r16(p + ip + 2))
			segment_input(h, &h->peers[i], p + ip, rest);
}

/* --- time --- */

static void read_some(struct peer_host *h, struct wire_peer *p)
{
	uint64_t now = h->wire->now.ns, rate = p->config.read_bytes_per_s;
	uint64_t may;

	if (rate == 0 || p->read == p->received) {
		p->read_ns = now;
		p->read_at_ns = 0;
		return;
	}
	may = (now - p->read_ns) * rate / NS_PER_S;
	if (may > p->received - p->read)
		may = p->received - p->read;
	if (may > 0) {
		p->read += may;
		p->read_ns = now;
	}
	/* The window's opening has to be told. */
	if (p->received + p->config.receive_bytes - (p->received - p->read) >=
		p->edge + (uint64_t)2 * p->config.mss)
		p->ack_due = true;
	p->read_at_ns = now + 5 * NS_PER_MS;
}

static void timeout(struct peer_host *h, struct wire_peer *p)
{
	p->rto_ns = p->rto_ns * 2 < RTO_MAX_NS ? p->rto_ns * 2 : RTO_MAX_NS;
	p->rto_at_ns = h->wire->now.ns + p->rto_ns;
	if (p->state == PEER_SYN_SENT) {
		send_segment(h, p, SYN, 0, 0);
		return;
	}
	/* With the window closed: one byte beyond it. */
	p->sent = p->acked;
	if (p->window_end <= p->sent && p->sent < p->config.send_total) {
		send_segment(h, p, ACK, p->sent, 1);
		if (p->sent_max < p->sent + 1)
			p->sent_max = p->sent + 1;
	}
}

static void peer_poll(struct peer_host *h, struct wire_peer *p)
{
	uint64_t now = h->wire->now.ns;

	if (p->state != PEER_SYN_SENT && p->state != PEER_OPEN &&
		p->state != PEER_DONE)
		return;
	if (p->rto_at_ns && now >= p->rto_at_ns && p->state != PEER_DONE)
		timeout(h, p);
	if (p->ack_at_ns && now >= p->ack_at_ns)
		p->ack_due = true;
	if (p->state == PEER_DONE) {
		if (p->ack_due)
			send_segment(h, p, ACK, p->sent, 0);
		return;
	}
	if (now - p->progress_ns > p->config.give_up_ns &&
		now - p->last_data_ns > p->config.give_up_ns)
		p->state = PEER_GAVE_UP;
	if (p->state == PEER_OPEN) {
		read_some(h, p);
		output(h, p);
	}
}

static void host_poll(void *arg, struct mono now)
{
	struct peer_host *h = arg;

	(void)now;
	for (uint32_t i = 0; i < h->count; i++)
		peer_poll(h, &h->peers[i]);
}

static struct mono host_deadline(void *arg)
{
	const struct peer_host *h = arg;
	uint64_t ns = UINT64_MAX;

	for (uint32_t i = 0; i < h->count; i++) {
		const struct wire_peer *p = &h->peers[i];
		const uint64_t at[] = {p->rto_at_ns, p->ack_at_ns,
			p->read_at_ns,
			(p->progress_ns > p->last_data_ns ? p->progress_ns
							  : p->last_data_ns) +
				p->config.give_up_ns + 1};

		if (p->state != PEER_SYN_SENT && p->state != PEER_OPEN)
			continue;
		for (int k = 0; k < 4; k++)
			if (at[k] && at[k] < ns)
				ns = at[k];
	}
	return (struct mono){ns};
}

void peer_host_init(struct peer_host *h, struct wire *w, uint8_t end)
{
	*h = (struct peer_host){.wire = w, .end = end};
	w->ends[end] =
		(struct wire_end){h, host_input, host_poll, host_deadline};
}

struct wire_peer *peer_connect(
	struct peer_host *h, const struct peer_config *config)
{
	struct wire_peer *p = &h->peers[h->count++];

	*p = (struct wire_peer){.config = *config,
		.state = PEER_SYN_SENT,
		.fin_at = UINT64_MAX,
		.rto_ns = NS_PER_S,
		.server_mss = 536};
	p->iss = (uint32_t)suite_random(&h->wire->random);
	p->progress_ns = p->last_data_ns = h->wire->now.ns;
	p->rto_at_ns = h->wire->now.ns + p->rto_ns;
	send_segment(h, p, SYN, 0, 0);
	return p;
}

bool peers_ended(const struct peer_host *h)
{
	for (uint32_t i = 0; i < h->count; i++)
		if (h->peers[i].state == PEER_SYN_SENT ||
			h->peers[i].state == PEER_OPEN)
			return false;
	return true;
}
