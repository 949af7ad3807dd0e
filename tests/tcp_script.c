/* tcp_script.c - single segments against a stack, written as text */
/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dataplane/tcp_private.h"
#include "tests/pattern.h"
#include "tests/suite.h"
#include "tests/tcp_case.h"
#include "tests/tcp_script.h"
#include "tests/wire_peer.h"

#define SENT_COUNT 64
#define PEER_ISN 1000000u
#define WORD_COUNT 24

struct segment {
	uint8_t flags;
	uint32_t seq, ack, length, window;
	bool has_mss, has_scale, sack_ok, has_ts;
	uint32_t mss, scale, ts_value, ts_echo;
	uint32_t sack_count, sack[4][2];
};

struct script {
	struct net_stack *net;
	struct net_config config;
	struct tcp *tcp;
	struct mono now;
	struct tcp_id id;
	uint16_t port;
	bool known; /* our ISN was seen */
	uint32_t isn;
	uint32_t isns[2]; /* of ports 4000 and 4001 */
	bool knowns[2];
	uint8_t frame[WIRE_FRAME_BYTES];
	struct segment sent[SENT_COUNT];
	uint32_t sent_count, taken;
	bool opened, data, room, done, closed;
	enum tcp_end end;
	char *words[WORD_COUNT];
	uint32_t word_count;
	uint64_t sent_bytes; /* by the application */
	bool asked; /* an ARP request waits for its answer */
	char fault[256];
};

/* Bytes of a literal, not a text. */
static void put_bytes(uint8_t *to, const char *bytes, size_t count)
{
	memcpy(to, bytes, count);
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

/* --- the device: sent segments are read and kept --- */

static uint8_t *frame_get(void *arg, size_t size)
{
	struct script *s = arg;

	return size <= sizeof(s->frame) ? s->frame : NULL;
}

static void read_options(struct segment *g, const uint8_t *o, size_t length)
{
	for (size_t i = 0; i < length && o[i] != 0;) {
		if (o[i] == 1) {
			i++;
			continue;
		}
		if (o[i] == 2) {
			g->has_mss = true;
			g->mss = r16(o + i + 2);
		} else if (o[i] == 3) {
			g->has_scale = true;
			g->scale = o[i + 2];
		} else if (o[i] == 4) {
			g->sack_ok = true;
		} else if (o[i] == 8) {
			g->has_ts = true;
			g->ts_value = r32(o + i + 2);
			g->ts_echo = r32(o + i + 6);
		} else if (o[i] == 5) {
			for (size_t k = 2; k + 8 <= o[i + 1]; k += 8) {
				uint32_t n = g->sack_count++;

				g->sack[n][0] = r32(o + i + k) - PEER_ISN;
				g->sack[n][1] = r32(o + i + k + 4) - PEER_ISN;
			}
		}
		i += o[i + 1];
	}
}

static void frame_send(void *arg, uint8_t *frame, size_t length,
	const struct net_offload *offload)
{
	struct script *s = arg;
	const uint8_t *t = frame + 34;
	struct segment *g;
	uint32_t isn;
	size_t header;

	(void)offload;
	s->asked |= r16(frame + 12) == 0x0806;
	if (r16(frame + 12) != 0x0800 || frame[23] != 6 ||
		s->sent_count == SENT_COUNT)
		return;
	g = &s->sent[s->sent_count++];
	*g = (struct segment){0};
	header = (size_t)(t[12] >> 4) * 4;
	g->flags = t[13];
	if ((g->flags & TCP_SYN) && !s->known) {
		s->known = true;
		s->isn = r32(t + 4);
	}
	isn = r16(t + 2) == s->port ? s->isn : s->isns[r16(t + 2) & 1];
	g->seq = r32(t + 4) - isn;
	g->ack = r32(t + 8) - PEER_ISN;
	g->window = r16(t + 14);
	g->length = (uint32_t)(length - 34 - header);
	read_options(g, t + 20, header - 20);
	if (g->length > 0 &&
		!pattern_matches(2, g->seq - 1, t + header, g->length))
		snprintf(s->fault, sizeof(s->fault), "wrong bytes at %u",
			g->seq);
}

/* --- the stack --- */

static void take_news(struct script *s)
{
	struct tcp_news news;

	while (tcp_next(s->tcp, &news)) {
		if (news.opened)
			s->id = news.id;
		s->opened |= news.opened;
		s->data |= news.data;
		s->room |= news.room;
		s->done |= news.peer_done;
		s->closed |= news.closed;
		if (news.closed)
			s->end = news.end;
	}
}

/* The peer's MAC is told whenever it is asked for. */
static void greet(struct script *s)
{
	uint8_t f[42] = {0};

	memset(f, 0xff, 6);
	memcpy(f + 6, peer_mac, 6);
	put_bytes(f + 12, "\x08\x06\0\1\x08\0\6\4\0\1", 10);
	memcpy(f + 22, peer_mac, 6);
	memcpy(f + 28, peer_ip4, 4);
	memcpy(f + 38, server_ip4, 4);
	net_input(s->net, f, sizeof(f), false, s->now);
}

static void settle(struct script *s)
{
	if (s->asked)
		greet(s);
	s->asked = false;
	net_poll(s->net, s->now);
	take_news(s);
	net_poll(s->net, s->now);
}

static void pass_time(struct script *s, uint64_t ns)
{
	struct mono until = mono_add(s->now, ns);

	for (;;) {
		struct mono next = net_deadline(s->net);

		if (!mono_before(next, until))
			break;
		if (mono_before(s->now, next))
			s->now = next;
		settle(s);
	}
	s->now = until;
	settle(s);
}

static void start(struct script *s)
{
	struct error err = {0};

	s->config.device.arg = s;
	s->config.device.frame_get = frame_get;
	s->config.device.frame_send = frame_send;
	if (net_stack_create(&s->config, s->now, &s->net, &err)) {
		printf("%s\n", err.text);
		abort();
	}
	s->tcp = net_stack_tcp(s->net);
	tcp_listen(s->tcp, CASE_PORT, 0);
	greet(s);
}

static struct tcp_connection *connection(const struct script *s)
{
	struct net_address remote = net_ip4(peer_ip4);
	struct tcp_segment key = {.remote = &remote,
		.local = NET_LOCAL_IP4,
		.local_port = CASE_PORT,
		.remote_port = s->port};

	return tcp_connection_find(s->tcp, &key);
}

/* --- words --- */

static const char *word(const struct script *s, uint32_t i)
{
	return i < s->word_count ? s->words[i] : "";
}

static uint32_t number(const char *text)
{
	return (uint32_t)strtoll(text, NULL, 0);
}

/* "A-B" */
static bool read_range(const char *text, uint32_t *out_a, uint32_t *out_b)
{
	char *at;

	*out_a = (uint32_t)strtoul(text, &at, 10);
	if (*at != '-')
		return false;
	*out_b = (uint32_t)strtoul(at + 1, &at, 10);
	return *at == 0;
}

static bool read_flags(const char *text, uint8_t *out)
{
	static const char letters[] = "FSRPAU";

	*out = 0;
	if (strcmp(text, ".") == 0)
		return true;
	for (; *text; text++) {
		const char *at = strchr(letters, *text);

		if (!at)
			return false;
		*out |= (uint8_t)(1u << (at - letters));
	}
	return true;
}

static size_t put_raw(uint8_t *o, const char *hex)
{
	size_t count = strlen(hex) / 2;

	for (size_t i = 0; i < count; i++) {
		char pair[3] = {hex[2 * i], hex[2 * i + 1], 0};

		o[i] = (uint8_t)strtoul(pair, NULL, 16);
	}
	return count;
}

/* Options of an incoming segment, padded with NOPs in front. */
static size_t put_options(const struct script *s, uint8_t *o)
{
	uint8_t *begin = o;

	for (uint32_t i = 2; i < s->word_count; i++) {
		const char *w = word(s, i), *n = word(s, i + 1);
		uint32_t a = 0, b = 0;

		if (strcmp(w, "mss") == 0) {
			put_bytes(o, "\2\4", 2);
			w16(o + 2, number(n));
			o += 4;
		} else if (strcmp(w, "scale") == 0) {
			put_bytes(o, "\1\3\3", 3);
			o[3] = (uint8_t)number(n);
			o += 4;
		} else if (strcmp(w, "sackok") == 0) {
			put_bytes(o, "\1\1\4\2", 4);
			o += 4;
		} else if (strcmp(w, "ts") == 0) {
			put_bytes(o, "\1\1\x8\xa", 4);
			w32(o + 4, number(n));
			w32(o + 8, number(word(s, i + 2)));
			o += 12;
		} else if (strcmp(w, "sack") == 0 && read_range(n, &a, &b)) {
			put_bytes(o, "\1\1\5\xa", 4);
			w32(o + 4, s->isn + a);
			w32(o + 8, s->isn + b);
			o += 12;
		} else if (strcmp(w, "opt") == 0) {
			o += put_raw(o, n);
		}
	}
	return (size_t)(o - begin);
}

static uint32_t word_number(
	const struct script *s, const char *name, uint32_t fallback)
{
	for (uint32_t i = 2; i < s->word_count; i++)
		if (strcmp(word(s, i), name) == 0)
			return number(word(s, i + 1));
	return fallback;
}

/* --- commands --- */

static bool peer_sends(struct script *s)
{
	static uint8_t f[WIRE_FRAME_BYTES];
	uint32_t length = word_number(s, "len", 0), sum, rest;
	uint32_t seq = word_number(s, "seq", 0);
	uint8_t *t = f + 34, flags;
	size_t header = 20 + put_options(s, t + 20);

	if (!read_flags(word(s, 1), &flags))
		return false;
	memcpy(f, server_mac, 6);
	memcpy(f + 6, peer_mac, 6);
	w16(f + 12, 0x0800);
	memset(f + 14, 0, 40);
	rest = (uint32_t)header + length;
	f[14] = 0x45;
	w16(f + 16, 20 + rest);
	f[22] = 64;
	f[23] = 6;
	memcpy(f + 26, peer_ip4, 4);
	memcpy(f + 30, server_ip4, 4);
	w16(f + 24, peer_checksum(0, f + 14, 20));
	w16(t, s->port);
	w16(t + 2, CASE_PORT);
	w32(t + 4, PEER_ISN + seq);
	w32(t + 8, flags & TCP_ACK ? s->isn + word_number(s, "ack", 1) : 0);
	t[12] = (uint8_t)(header / 4 << 4);
	t[13] = flags;
	w16(t + 14, word_number(s, "win", 65535));
	pattern_fill(1, seq - 1, t + header, length);
	sum = 6 + rest;
	for (int i = 0; i < 8; i += 2)
		sum += r16(f + 26 + i);
	w16(t + 16, peer_checksum(sum, t, rest));
	net_input(s->net, f, 34 + rest, false, s->now);
	settle(s);
	return true;
}

static void describe(const struct segment *g, char *out, size_t size)
{
	static const char letters[] = "FSRPAU";
	char flags[8] = "";
	size_t n = 0;

	for (int i = 0; i < 6; i++)
		if (g->flags >> i & 1)
			flags[n++] = letters[i];
	flags[n] = 0;
	snprintf(out, size, "%s seq %d ack %d len %u win %u%s sack %u-%u",
		flags, (int)g->seq, (int)g->ack, g->length, g->window,
		g->has_ts ? " ts" : "", g->sack[0][0], g->sack[0][1]);
}

static bool option_matches(
	const struct script *s, const struct segment *g, uint32_t i)
{
	const char *w = word(s, i), *n = word(s, i + 1);
	uint32_t a, b;

	if (strcmp(w, "mss") == 0)
		return g->has_mss && g->mss == number(n);
	if (strcmp(w, "scale") == 0)
		return g->has_scale && g->scale == number(n);
	if (strcmp(w, "sackok") == 0)
		return g->sack_ok;
	if (strcmp(w, "ts") == 0)
		return g->has_ts && (*n == '*' || g->ts_value == number(n)) &&
		       g->ts_echo == number(word(s, i + 2));
	if (strcmp(w, "nots") == 0)
		return !g->has_ts;
	if (strcmp(w, "noscale") == 0)
		return !g->has_scale;
	if (strcmp(w, "nosack") == 0)
		return !g->sack_ok && g->sack_count == 0;
	if (strcmp(w, "sack") != 0)
		return true;
	for (uint32_t k = 0; k < g->sack_count; k++)
		if (read_range(n, &a, &b) && g->sack[k][0] == a &&
			g->sack[k][1] == b)
			return true;
	return false;
}

static bool expect(struct script *s)
{
	const struct segment *g = &s->sent[s->taken];
	char got[128] = "nothing";
	uint8_t flags;
	bool same;

	if (s->taken < s->sent_count)
		describe(g, got, sizeof(got));
	snprintf(s->fault, sizeof(s->fault), "we sent %s", got);
	if (strcmp(word(s, 1), "none") == 0)
		return s->taken == s->sent_count;
	if (s->taken == s->sent_count || !read_flags(word(s, 1), &flags))
		return false;
	s->taken++;
	same = (g->flags & ~(flags & TCP_PSH ? 0 : TCP_PSH)) == flags &&
	       g->seq == word_number(s, "seq", g->seq) &&
	       g->ack == word_number(s, "ack", g->ack) &&
	       g->length == word_number(s, "len", g->length) &&
	       g->window == word_number(s, "win", g->window);
	for (uint32_t i = 2; same && i < s->word_count; i++)
		same = option_matches(s, g, i);
	return same;
}

static uint64_t duration(const char *text)
{
	char *unit;
	uint64_t n = strtoull(text, &unit, 10);

	if (strcmp(unit, "us") == 0)
		return n * NS_PER_US;
	if (strcmp(unit, "ms") == 0)
		return n * NS_PER_MS;
	return strcmp(unit, "s") == 0 ? n * NS_PER_S : n;
}

static bool state_is(struct script *s, const char *name)
{
	static const char *const names[] = {"LISTEN", "SYN-RECEIVED",
		"ESTABLISHED", "CLOSE-WAIT", "FIN-WAIT-1", "FIN-WAIT-2",
		"CLOSING", "LAST-ACK", "TIME-WAIT", "CLOSED"};
	const struct tcp_connection *c = connection(s);
	const char *now = names[c ? c->state : 0];

	snprintf(s->fault, sizeof(s->fault), "the state is %s", now);
	return strcmp(now, name) == 0;
}

static bool news_is(struct script *s, const char *name)
{
	bool *flag = strcmp(name, "opened") == 0 ? &s->opened
		     : strcmp(name, "data") == 0 ? &s->data
		     : strcmp(name, "room") == 0 ? &s->room
		     : strcmp(name, "done") == 0 ? &s->done
						 : NULL;
	bool was;

	snprintf(s->fault, sizeof(s->fault),
		"news: opened %d data %d room %d done %d closed %d (%d)",
		s->opened, s->data, s->room, s->done, s->closed, (int)s->end);
	if (flag) {
		was = *flag;
		*flag = false;
		return was;
	}
	if (strcmp(name, "none") == 0)
		return !s->opened && !s->data && !s->room && !s->done &&
		       !s->closed;
	was = s->closed &&
	      s->end == (strcmp(name, "clean") == 0          ? TCP_END_CLEAN
				: strcmp(name, "reset") == 0 ? TCP_END_RESET
							     : TCP_END_TIMEOUT);
	s->closed = false;
	return was;
}

static bool application_sends(struct script *s, uint32_t bytes)
{
	static uint8_t data[1 << 20];
	struct tcp_piece piece = {data, bytes};
	int rc;

	pattern_fill(2, s->sent_bytes, data, bytes);
	rc = tcp_send(s->tcp, s->id, &piece, 1);
	snprintf(s->fault, sizeof(s->fault), "tcp_send says %d", rc);
	s->sent_bytes += bytes;
	settle(s);
	return rc == 0;
}

static bool application_reads(struct script *s, uint32_t bytes)
{
	size_t length;
	const uint8_t *data = tcp_unread(s->tcp, s->id, &length);

	snprintf(s->fault, sizeof(s->fault), "%zu bytes are unread", length);
	if (length < bytes || (bytes && !data))
		return false;
	tcp_consume(s->tcp, s->id, bytes);
	settle(s);
	return true;
}

static bool configure(struct script *s)
{
	struct tcp_config *c = &s->config.tcp;
	const char *w = word(s, 1);
	uint32_t n = number(word(s, 2));

	if (strcmp(w, "mtu") == 0)
		s->config.mtu_bytes = n;
	else if (strcmp(w, "recv") == 0)
		c->receive_bytes = n;
	else if (strcmp(w, "sendbuf") == 0)
		c->send_bytes = n;
	else if (strcmp(w, "open") == 0)
		c->open_count = n;
	else if (strcmp(w, "half") == 0)
		c->half_open_count = n;
	else if (strcmp(w, "rtomin") == 0)
		c->rto_min_ns = n * NS_PER_MS;
	else if (strcmp(w, "user") == 0)
		c->user_timeout_ns = n * NS_PER_MS;
	else if (strcmp(w, "keepalive") == 0)
		c->keep_alive_ns = n * NS_PER_MS;
	else
		return false;
	return true;
}

static bool application(struct script *s, const char *w, uint32_t n)
{
	size_t length;
	int rc = -1;

	if (strcmp(w, "send") == 0)
		return application_sends(s, n);
	if (strcmp(w, "read") == 0)
		return application_reads(s, n);
	if (strcmp(w, "unread") == 0) {
		const uint8_t *data = tcp_unread(s->tcp, s->id, &length);

		snprintf(s->fault, sizeof(s->fault), "%zu unread", length);
		return length == n &&
		       (n == 0 || pattern_matches(1, 0, data, n));
	}
	if (strcmp(w, "room") == 0)
		return tcp_room(s->tcp, s->id) == n;
	if (strcmp(w, "finish") == 0)
		rc = tcp_finish(s->tcp, s->id);
	else if (strcmp(w, "close") == 0)
		rc = tcp_close(s->tcp, s->id);
	else if (strcmp(w, "abort") == 0)
		rc = tcp_abort(s->tcp, s->id);
	else if (strcmp(w, "want") == 0)
		rc = tcp_want(s->tcp, s->id, n);
	snprintf(s->fault, sizeof(s->fault), "%s says %d", w, rc);
	settle(s);
	return rc == 0;
}

static bool command(struct script *s)
{
	const char *w = word(s, 0);

	if (strcmp(w, "config") == 0)
		return !s->net && configure(s);
	if (!s->net)
		start(s);
	if (strcmp(w, "<") == 0)
		return peer_sends(s);
	if (strcmp(w, ">") == 0)
		return expect(s);
	if (strcmp(w, "+") == 0) {
		pass_time(s, duration(word(s, 1)));
		return true;
	}
	if (strcmp(w, "state") == 0)
		return state_is(s, word(s, 1));
	if (strcmp(w, "news") == 0)
		return news_is(s, word(s, 1));
	if (strcmp(w, "peer") == 0) {
		s->isns[s->port & 1] = s->isn;
		s->knowns[s->port & 1] = s->known;
		s->port = (uint16_t)number(word(s, 1));
		s->isn = s->isns[s->port & 1];
		s->known = s->knowns[s->port & 1];
		return true;
	}
	return application(s, w, number(word(s, 1)));
}

static bool run_line(struct script *s, char *line)
{
	char *save = NULL;

	s->word_count = 0;
	s->fault[0] = 0;
	for (char *w = strtok_r(line, " ", &save); w;
		w = strtok_r(NULL, " ", &save)) {
		if (s->word_count == WORD_COUNT)
			return false;
		s->words[s->word_count++] = w;
	}
	return s->word_count == 0 || command(s);
}

bool tcp_script_run(const struct tcp_script *script)
{
	static struct script s;
	char text[4096], line[256], *save = NULL;
	bool fine = strlen(script->text) < sizeof(text);

	memset(&s, 0, sizeof(s));
	s.config = case_config();
	s.now = (struct mono){NS_PER_S};
	s.port = 4000;
	snprintf(text, sizeof(text), "%s", script->text);
	for (char *at = strtok_r(text, ";", &save); at && fine;
		at = strtok_r(NULL, ";", &save)) {
		snprintf(line, sizeof(line), "%s", at);
		fine = run_line(&s, line);
		if (!fine)
			printf("\n%s (%s): at \"%s\": %s\n", script->name,
				script->source, at, s.fault);
	}
	if (fine && s.taken != s.sent_count) {
		fine = false;
		describe(&s.sent[s.taken], line, sizeof(line));
		printf("\n%s (%s): unexpected: %s\n", script->name,
			script->source, line);
	}
	if (s.net) {
		tcp_check(s.tcp);
		net_stack_destroy(s.net);
	}
	return fine;
}
