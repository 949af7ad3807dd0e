/* test_stream_tls.c - streams under TLS, against OpenSSL's own client */
/* SPDX-License-Identifier: Apache-2.0 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "dataplane/tls_handshake.h"
#include "tests/stream_case.h"
#include "tests/suite.h"
#include "tests/tls_identity.h"

static struct tls_identity identity; /* of the loop's begin */

static void begin(struct stream_case *c, const struct stream_limits *limits,
	stream_case_handler *handler)
{
	struct stream_setup setup = {
		.limits = *limits,
		.listener_count = 1,
		.tls = true,
		.certificate = identity.certificate,
		.key = identity.key,
	};

	if (!identity.key[0])
		tls_identity_make(&identity);
	case_begin_setup(c, &setup, handler);
}

/* --- a client --- */

/* OpenSSL speaks to memory, so that the sockets may be anybody's. */
struct tls_client {
	SSL_CTX *context;
	SSL *ssl;
	BIO *in, *out; /* the SSL's */
	int fd;
	uint32_t ticket_count;
	SSL_SESSION *session; /* owned: of the last ticket */
};

static int count_ticket(SSL *ssl, SSL_SESSION *session)
{
	struct tls_client *client = SSL_get_app_data(ssl);

	client->ticket_count++;
	SSL_SESSION_free(client->session);
	client->session = session;
	return 1;
}

/* What the server has sent. */
static void client_pull(struct tls_client *client)
{
	uint8_t piece[4096];
	long got;

	while ((got = client_try_receive(client->fd, piece, sizeof(piece))) > 0)
		BIO_write(client->in, piece, (int)got);
	if (got != -EAGAIN)
		BIO_set_mem_eof_return(client->in, 0);
}

/* What OpenSSL has made; true: all of it is on its way. */
static bool client_push(struct tls_client *client)
{
	uint8_t piece[4096];
	const void *data;
	long length = BIO_get_mem_data(client->out, &data), sent = 0;

	if (length > 0)
		sent = client_try_send(client->fd, data, (size_t)length);
	if (sent < 0 && sent != -EAGAIN)
		sent = length; /* nobody is there to get it */
	for (long left = sent; left > 0;)
		left -= BIO_read(client->out, piece,
			left < (long)sizeof(piece) ? (int)left
						   : (int)sizeof(piece));
	return sent == length;
}

static void client_init(struct tls_client *client, const struct stream_case *c,
	int buffer_bytes)
{
	client->context = SSL_CTX_new(TLS_client_method());
	client->ssl = SSL_new(client->context);
	client->ticket_count = 0;
	client->session = NULL;
	client->fd = client_connect_to(c->ports[0], buffer_bytes);
	CU_ASSERT_FATAL(client->fd >= 0);
	SSL_set_app_data(client->ssl, client);
	SSL_CTX_set_session_cache_mode(client->context, SSL_SESS_CACHE_CLIENT);
	SSL_CTX_sess_set_new_cb(client->context, count_ticket);
	SSL_set_mode(client->ssl, SSL_MODE_ENABLE_PARTIAL_WRITE |
					  SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
	client->in = BIO_new(BIO_s_mem());
	client->out = BIO_new(BIO_s_mem());
	BIO_set_mem_eof_return(client->in, -1);
	SSL_set_bio(client->ssl, client->in, client->out);
}

static void client_end(struct tls_client *client)
{
	SSL_SESSION_free(client->session);
	SSL_free(client->ssl);
	SSL_CTX_free(client->context);
	close(client->fd);
	ERR_clear_error();
}

/* The error of a call that returned `rc`; 0 = try again after a turn. */
static int client_error(struct tls_client *client, int rc)
{
	int error = SSL_get_error(client->ssl, rc);

	ERR_clear_error();
	return error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE
		       ? 0
		       : error;
}

/* 0 = connected, else OpenSSL's error. */
static int client_handshake(struct tls_client *client, struct stream_case *c)
{
	for (int turn = 0; turn < 4000; turn++) {
		int rc, error;

		client_pull(client);
		rc = SSL_connect(client->ssl);
		if (client_push(client) && rc == 1)
			return 0;
		error = rc == 1 ? 0 : client_error(client, rc);
		if (error)
			return error;
		case_turn(c);
	}
	return -1;
}

/* Bytes moved; 0 = would wait; < 0 = -error. */
static int tls_try_read(struct tls_client *client, void *to, int size)
{
	int rc, error;

	client_pull(client);
	rc = SSL_read(client->ssl, to, size);
	error = rc > 0 ? 0 : client_error(client, rc);
	client_push(client);
	return rc > 0 ? rc : -error;
}

static int tls_try_write(struct tls_client *client, const void *from, int size)
{
	int rc, error;

	/* As a socket that is full. */
	if (!client_push(client))
		return 0;
	rc = SSL_write(client->ssl, from, size);
	error = rc > 0 ? 0 : client_error(client, rc);
	client_push(client);
	return rc > 0 ? rc : -error;
}

static bool receives_pattern(struct tls_client *client, struct stream_case *c,
	uint64_t seed, size_t total)
{
	uint8_t piece[5000];
	size_t at = 0;

	for (int idle = 0; at < total && idle < 4000;) {
		size_t most =
			total - at < sizeof(piece) ? total - at : sizeof(piece);
		int got = tls_try_read(client, piece, (int)most);

		if (got < 0 || !pattern_matches(seed, at, piece, (size_t)got))
			return false;
		at += (size_t)got;
		idle = got ? 0 : idle + 1;
		if (!got)
			case_turn(c);
	}
	return at == total;
}

static int receives_end(struct tls_client *client, struct stream_case *c)
{
	char byte;

	for (int turn = 0; turn < 4000; turn++) {
		int got = tls_try_read(client, &byte, 1);

		if (got)
			return -got;
		case_turn(c);
	}
	return -1;
}

static bool has_echo(
	struct tls_client *client, struct stream_case *c, char wanted)
{
	for (int turn = 0; turn < 4000; turn++) {
		char byte;
		int got = tls_try_read(client, &byte, 1);

		if (got)
			return got == 1 && byte == wanted;
		case_turn(c);
	}
	return false;
}

/* The server still serves. */
static void check_alive(struct stream_case *c)
{
	struct tls_client client;

	client_init(&client, c, 0);
	CU_ASSERT_EQUAL_FATAL(client_handshake(&client, c), 0);
	CU_ASSERT_EQUAL(tls_try_write(&client, "p", 1), 1);
	CU_ASSERT_TRUE(has_echo(&client, c, 'p'));
	client_end(&client);
}

/* --- tests --- */

static void test_tls__handshake_is_1_3_with_a_ticket(void)
{
	static const unsigned char offer[] = "\x02h2\x08http/1.1";
	struct stream_limits limits = case_limits();
	const unsigned char *protocol;
	struct tls_client client;
	struct stream_case c;
	unsigned length;

	begin(&c, &limits, case_echo);
	client_init(&client, &c, 0);
	SSL_set_alpn_protos(client.ssl, offer, sizeof(offer) - 1);
	CU_ASSERT_EQUAL_FATAL(client_handshake(&client, &c), 0);
	CU_ASSERT_STRING_EQUAL(SSL_get_version(client.ssl), "TLSv1.3");
	SSL_get0_alpn_selected(client.ssl, &protocol, &length);
	CU_ASSERT_EQUAL(length, 8);
	CU_ASSERT_EQUAL(memcmp(protocol, "http/1.1", 8), 0);
	CU_ASSERT_TRUE(case_run_opened(&c, 1));
	CU_ASSERT_EQUAL(tls_try_write(&client, "x", 1), 1);
	CU_ASSERT_TRUE(has_echo(&client, &c, 'x'));
	client_end(&client);
	CU_ASSERT_EQUAL(client.ticket_count, 1);
	case_end(&c);
}

static void test_tls__what_is_not_offered(void)
{
	static const unsigned char h2[] = "\x02h2";
	struct stream_limits limits = case_limits();
	struct tls_client client;
	struct stream_case c;

	begin(&c, &limits, case_echo);
	client_init(&client, &c, 0);
	SSL_set_max_proto_version(client.ssl, TLS1_2_VERSION);
	CU_ASSERT_EQUAL(client_handshake(&client, &c), SSL_ERROR_SSL);
	client_end(&client);
	client_init(&client, &c, 0);
	SSL_set_alpn_protos(client.ssl, h2, sizeof(h2) - 1);
	CU_ASSERT_EQUAL(client_handshake(&client, &c), SSL_ERROR_SSL);
	client_end(&client);
	case_settle(&c);
	CU_ASSERT_EQUAL(c.opened_count, 0);
	CU_ASSERT_EQUAL(c.closed_count, 0);
	check_alive(&c);
	case_end(&c);
}

static void test_tls__echo_random_sizes(void)
{
	uint64_t random = suite_seed(1313);
	struct stream_limits limits = case_limits();
	size_t total = 600000, sent = 0, received = 0;
	struct tls_client client;
	uint8_t piece[40000];
	struct stream_case c;

	limits.send_bytes = 30000;
	limits.receive_bytes = 5000;
	begin(&c, &limits, case_echo);
	client_init(&client, &c, 0);
	CU_ASSERT_EQUAL_FATAL(client_handshake(&client, &c), 0);
	for (int turn = 0; turn < 100000 && received < total; turn++) {
		size_t length = suite_below(&random, sizeof(piece)) + 1;
		int got;

		if (length > total - sent)
			length = total - sent;
		pattern_fill(1, sent, piece, length);
		got = length ? tls_try_write(&client, piece, (int)length) : 0;
		CU_ASSERT_FATAL(got >= 0);
		sent += (size_t)got;
		got = tls_try_read(&client, piece,
			(int)suite_below(&random, sizeof(piece)) + 1);
		CU_ASSERT_FATAL(got >= 0);
		CU_ASSERT_FATAL(
			pattern_matches(1, received, piece, (size_t)got));
		received += (size_t)got;
		c.loop.ops->poll(&c.loop, mono_now());
	}
	CU_ASSERT_EQUAL(received, total);
	client_end(&client);
	CU_ASSERT_TRUE(case_run_closed(&c, 1));
	case_end(&c);
}

static bool has_peer_done(const struct stream_case *c, const void *arg)
{
	(void)arg;
	return case_record(c, c->last_opened)->peer_done_count > 0;
}

static void test_tls__close_notify_both_ways(void)
{
	struct stream_limits limits = case_limits();
	static uint8_t data[50000];
	struct tls_client client;
	struct stream_case c;

	pattern_fill(2, 0, data, sizeof(data));
	begin(&c, &limits, case_swallow);
	client_init(&client, &c, 0);
	CU_ASSERT_EQUAL_FATAL(client_handshake(&client, &c), 0);
	CU_ASSERT_EQUAL(tls_try_write(&client, "bye", 3), 3);
	CU_ASSERT_EQUAL(SSL_shutdown(client.ssl), 0);
	CU_ASSERT_TRUE(client_push(&client));
	CU_ASSERT_TRUE(case_run_opened(&c, 1));
	CU_ASSERT_TRUE(case_run_until(&c, has_peer_done, NULL));
	CU_ASSERT_EQUAL(case_record(&c, c.last_opened)->received_bytes, 3);
	CU_ASSERT_EQUAL(case_send(&c, c.last_opened, data, sizeof(data)), 0);
	CU_ASSERT_EQUAL(c.loop.ops->close(&c.loop, c.last_opened), 0);
	CU_ASSERT_TRUE(receives_pattern(&client, &c, 2, sizeof(data)));
	CU_ASSERT_EQUAL(receives_end(&client, &c), SSL_ERROR_ZERO_RETURN);
	client_end(&client);
	CU_ASSERT_TRUE(case_run_closed(&c, 1));
	CU_ASSERT_EQUAL(case_record(&c, c.last_opened)->end, STREAM_END_CLEAN);
	case_end(&c);
}

static void test_tls__end_without_close_notify(void)
{
	struct stream_limits limits = case_limits();
	struct tls_client client;
	struct stream_case c;

	begin(&c, &limits, case_swallow);
	client_init(&client, &c, 0);
	CU_ASSERT_EQUAL_FATAL(client_handshake(&client, &c), 0);
	CU_ASSERT_TRUE(case_run_opened(&c, 1));
	shutdown(client.fd, SHUT_WR);
	CU_ASSERT_TRUE(case_run_until(&c, has_peer_done, NULL));
	CU_ASSERT_EQUAL(case_send(&c, c.last_opened, "x", 1), 0);
	CU_ASSERT_EQUAL(c.loop.ops->close(&c.loop, c.last_opened), 0);
	CU_ASSERT_TRUE(case_run_closed(&c, 1));
	client_end(&client);
	case_end(&c);
}

static void test_tls__plain_client(void)
{
	static const char request[] = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
	struct stream_limits limits = case_limits();
	struct stream_case c;
	int fd;

	begin(&c, &limits, case_echo);
	fd = client_connect(&c);
	CU_ASSERT_TRUE(client_send(fd, request, sizeof(request) - 1));
	CU_ASSERT_EQUAL(client_receive_end(&c, fd), 0);
	close(fd);
	case_settle(&c);
	CU_ASSERT_EQUAL(c.opened_count, 0);
	check_alive(&c);
	case_end(&c);
}

static void test_tls__garbage(void)
{
	uint64_t random = suite_seed(99);
	struct stream_limits limits = case_limits();
	struct stream_case c;

	limits.stream_count = 2; /* none of them may be lost */
	limits.user_timeout_ns = 50 * NS_PER_MS;
	begin(&c, &limits, case_echo);
	for (int round = 0; round < 60; round++) {
		/* A record of a handshake that promises what may not come. */
		uint8_t data[400] = {22, 3, 1, 0, 100, 1, 0, 0, 96, 3, 3};
		size_t length = suite_below(&random, sizeof(data)) + 1;
		int fd = client_connect(&c);

		for (size_t i = round % 2 ? 0 : 11; i < length; i++)
			data[i] = (uint8_t)suite_below(&random, 256);
		(void)client_send(fd, data, length);
		for (int i = 0; i < 3; i++)
			c.loop.ops->poll(&c.loop, mono_now());
		close(fd);
	}
	case_settle(&c);
	CU_ASSERT_EQUAL(c.opened_count, 0);
	check_alive(&c);
	case_end(&c);
}

static void test_tls__garbage_after_the_handshake(void)
{
	/* A record of 32 bytes that nobody has sealed. */
	static const uint8_t record[5 + 32] = {0x17, 3, 3, 0, 32, 'x'};
	struct stream_limits limits = case_limits();
	struct tls_client client;
	struct stream_case c;

	begin(&c, &limits, case_echo);
	client_init(&client, &c, 0);
	CU_ASSERT_EQUAL_FATAL(client_handshake(&client, &c), 0);
	CU_ASSERT_TRUE(case_run_opened(&c, 1));
	CU_ASSERT_TRUE(client_send(client.fd, record, sizeof(record)));
	CU_ASSERT_EQUAL(receives_end(&client, &c), SSL_ERROR_SSL);
	client_end(&client);
	CU_ASSERT_TRUE(case_run_closed(&c, 1));
	CU_ASSERT_EQUAL(case_record(&c, c.last_opened)->end, STREAM_END_RESET);
	check_alive(&c);
	case_end(&c);
}

static void test_tls__a_silent_client_times_out(void)
{
	struct stream_limits limits = case_limits();
	struct stream_case c;
	int fd, half;

	limits.stream_count = 2;
	limits.user_timeout_ns = 50 * NS_PER_MS;
	begin(&c, &limits, case_echo);
	fd = client_connect(&c);
	half = client_connect(&c);
	CU_ASSERT_TRUE(client_send(half, "\x16\x03\x01\x02\x00\x01", 6));
	CU_ASSERT_EQUAL(client_receive_end(&c, fd), -ECONNRESET);
	CU_ASSERT_EQUAL(client_receive_end(&c, half), -ECONNRESET);
	close(fd);
	close(half);
	CU_ASSERT_EQUAL(c.opened_count, 0);
	CU_ASSERT_EQUAL(c.closed_count, 0);
	check_alive(&c);
	case_end(&c);
}

static void test_tls__a_slow_reader_is_bounded(void)
{
	struct stream_limits limits = case_limits();
	static uint8_t record[65537];
	struct tls_client client;
	struct stream_case c;
	size_t sent = 0, room;
	int quiet = 0;

	begin(&c, &limits, case_swallow);
	client_init(&client, &c, 4096);
	CU_ASSERT_EQUAL_FATAL(client_handshake(&client, &c), 0);
	CU_ASSERT_TRUE_FATAL(case_run_opened(&c, 1));
	case_settle(&c);
	room = c.loop.ops->room(&c.loop, c.last_opened);
	CU_ASSERT_TRUE(room > 65000 && room < 65536);
	CU_ASSERT_EQUAL(case_send(&c, c.last_opened, record, 65536), -EMSGSIZE);
	while (quiet < 20) {
		int rc;

		pattern_fill(3, sent, record, 700);
		rc = case_send(&c, c.last_opened, record, 700);
		CU_ASSERT_FATAL(rc == 0 || rc == -EAGAIN);
		sent += rc == 0 ? 700 : 0;
		quiet = rc == 0 ? 0 : quiet + 1;
		if (rc)
			case_turn(&c);
	}
	CU_ASSERT_EQUAL(c.loop.ops->want(&c.loop, c.last_opened, room), 0);
	case_settle(&c);
	CU_ASSERT_EQUAL(case_record(&c, c.last_opened)->writable_count, 0);
	CU_ASSERT_TRUE(receives_pattern(&client, &c, 3, sent));
	case_settle(&c);
	CU_ASSERT_EQUAL(case_record(&c, c.last_opened)->writable_count, 1);
	/* All that it takes at once, as one. */
	pattern_fill(4, 0, record, room);
	CU_ASSERT_EQUAL(case_send(&c, c.last_opened, record, room), 0);
	CU_ASSERT_TRUE(receives_pattern(&client, &c, 4, room));
	client_end(&client);
	case_end(&c);
}

static void test_tls__unconsumed_stops_the_peer(void)
{
	struct stream_limits limits = case_limits();
	const struct stream_record *record;
	struct tls_client client;
	uint8_t piece[8192];
	struct stream_case c;
	size_t sent = 0;
	int quiet = 0;

	begin(&c, &limits, case_refuse);
	client_init(&client, &c, 0);
	CU_ASSERT_EQUAL_FATAL(client_handshake(&client, &c), 0);
	CU_ASSERT_TRUE_FATAL(case_run_opened(&c, 1));
	record = case_record(&c, c.last_opened);
	while (quiet < 20) {
		int got = tls_try_write(&client, piece, sizeof(piece));

		CU_ASSERT_FATAL(got >= 0 && sent < (1u << 30));
		sent += (size_t)got;
		quiet = got > 0 ? 0 : quiet + 1;
		case_turn(&c);
	}
	CU_ASSERT_EQUAL(record->data_count, 1);
	c.handler = case_swallow;
	CU_ASSERT_EQUAL(c.loop.ops->resume(&c.loop, c.last_opened), 0);
	/* The record that did not go out yet goes with a repeated write. */
	for (int turn = 0; turn < 4000; turn++) {
		int got = tls_try_write(&client, piece, sizeof(piece));

		CU_ASSERT_FATAL(got >= 0);
		sent += (size_t)got;
		if (got)
			break;
		case_turn(&c);
	}
	case_settle(&c);
	CU_ASSERT_EQUAL(record->received_bytes, sent);
	client_end(&client);
	case_end(&c);
}

/* Fewer buffers than streams that want to read. */
static void test_tls__buffers_are_shared(void)
{
	struct stream_limits limits = case_limits();
	struct tls_client clients[8];
	struct stream_case c;

	limits.total_bytes = 2 * 16384 + 40 * 4160;
	begin(&c, &limits, case_echo);
	for (uint32_t i = 0; i < 8; i++) {
		client_init(&clients[i], &c, 0);
		CU_ASSERT_EQUAL_FATAL(client_handshake(&clients[i], &c), 0);
	}
	for (int round = 0; round < 3; round++) {
		for (uint32_t i = 0; i < 8; i++) {
			uint8_t piece[5000];

			pattern_fill(i, 0, piece, sizeof(piece));
			CU_ASSERT_EQUAL(
				tls_try_write(&clients[i], piece, 5000), 5000);
		}
		for (uint32_t i = 0; i < 8; i++)
			CU_ASSERT_TRUE(
				receives_pattern(&clients[i], &c, i, 5000));
	}
	for (uint32_t i = 0; i < 8; i++)
		client_end(&clients[i]);
	CU_ASSERT_TRUE(case_run_closed(&c, 8));
	case_end(&c);
}

/* The client changes its key and asks for another of the server's. */
static void test_tls__key_updates(void)
{
	struct stream_limits limits = case_limits();
	struct tls_client client;
	struct stream_case c;

	begin(&c, &limits, case_echo);
	client_init(&client, &c, 0);
	CU_ASSERT_EQUAL_FATAL(client_handshake(&client, &c), 0);
	for (int round = 0; round < 50; round++) {
		uint8_t piece[500];

		CU_ASSERT_EQUAL(
			SSL_key_update(client.ssl,
				round % 3 ? SSL_KEY_UPDATE_REQUESTED
					  : SSL_KEY_UPDATE_NOT_REQUESTED),
			1);
		pattern_fill((uint64_t)round, 0, piece, sizeof(piece));
		CU_ASSERT_EQUAL(
			tls_try_write(&client, piece, sizeof(piece)), 500);
		CU_ASSERT_TRUE(
			receives_pattern(&client, &c, (uint64_t)round, 500));
	}
	client_end(&client);
	case_end(&c);
}

static void test_tls__a_ticket_resumes(void)
{
	struct stream_limits limits = case_limits();
	struct tls_client first, second;
	struct stream_case c;

	begin(&c, &limits, case_echo);
	client_init(&first, &c, 0);
	CU_ASSERT_EQUAL_FATAL(client_handshake(&first, &c), 0);
	CU_ASSERT_EQUAL(tls_try_write(&first, "a", 1), 1);
	CU_ASSERT_TRUE(has_echo(&first, &c, 'a'));
	CU_ASSERT_PTR_NOT_NULL_FATAL(first.session);
	client_init(&second, &c, 0);
	CU_ASSERT_EQUAL(SSL_set_session(second.ssl, first.session), 1);
	CU_ASSERT_EQUAL_FATAL(client_handshake(&second, &c), 0);
	CU_ASSERT_EQUAL(SSL_session_reused(second.ssl), 1);
	CU_ASSERT_EQUAL(tls_try_write(&second, "b", 1), 1);
	CU_ASSERT_TRUE(has_echo(&second, &c, 'b'));
	CU_ASSERT_EQUAL(second.ticket_count, 1);
	client_end(&first);
	client_end(&second);
	case_end(&c);
}

static uint64_t nibbles;

/* Consumes some of what it is shown, and now and then nothing. */
static size_t nibble(struct stream_case *c, const struct stream_event *event,
	struct stream_record *record)
{
	size_t taken;

	if (event->kind != STREAM_DATA)
		return 0;
	CU_ASSERT_TRUE(pattern_matches(
		5, record->received_bytes, event->data, event->length));
	taken = suite_below(&nibbles, 3) == 0
			? suite_below(&nibbles, (uint32_t)event->length + 1)
			: event->length;
	if (taken == 0)
		CU_ASSERT_EQUAL(c->loop.ops->resume(&c->loop, event->id), 0);
	return taken;
}

static void test_tls__the_rest_comes_with_what_follows(void)
{
	struct stream_limits limits = case_limits();
	const struct stream_record *record;
	size_t total = 400000, sent = 0;
	struct tls_client client;
	static uint8_t piece[30000];
	struct stream_case c;

	nibbles = suite_seed(77);
	begin(&c, &limits, nibble);
	client_init(&client, &c, 0);
	CU_ASSERT_EQUAL_FATAL(client_handshake(&client, &c), 0);
	CU_ASSERT_TRUE_FATAL(case_run_opened(&c, 1));
	record = case_record(&c, c.last_opened);
	for (int turn = 0; turn < 100000 && record->received_bytes < total;
		turn++) {
		size_t length = suite_below(&nibbles, sizeof(piece)) + 1;
		int got;

		if (length > total - sent)
			length = total - sent;
		pattern_fill(5, sent, piece, length);
		got = length ? tls_try_write(&client, piece, (int)length) : 0;
		CU_ASSERT_FATAL(got >= 0);
		sent += (size_t)got;
		client_push(&client);
		/* The last bytes may have been left for what never comes. */
		if (sent == total)
			(void)c.loop.ops->resume(&c.loop, c.last_opened);
		c.loop.ops->poll(&c.loop, mono_now());
	}
	CU_ASSERT_EQUAL(record->received_bytes, total);
	client_end(&client);
	case_end(&c);
}

#define PIECES_COUNT 70 /* more than there are buffers to hold them */

/* Half of a record from each, then the other halves. */
static void test_tls__records_in_pieces(void)
{
	struct stream_limits limits = case_limits();
	static struct tls_client clients[PIECES_COUNT];
	static uint8_t records[PIECES_COUNT][1100];
	static size_t lengths[PIECES_COUNT];
	struct stream_case c;

	limits.stream_count = PIECES_COUNT + 10;
	limits.receive_bytes = 2048;
	limits.total_bytes = 800000;
	begin(&c, &limits, case_echo);
	for (uint32_t i = 0; i < PIECES_COUNT; i++) {
		struct tls_client *client = &clients[i];
		uint8_t piece[1000];

		client_init(client, &c, 0);
		CU_ASSERT_EQUAL_FATAL(client_handshake(client, &c), 0);
		pattern_fill(i, 0, piece, sizeof(piece));
		CU_ASSERT_EQUAL_FATAL(
			SSL_write(client->ssl, piece, sizeof(piece)), 1000);
		lengths[i] = (size_t)BIO_read(
			client->out, records[i], sizeof(records[i]));
		CU_ASSERT_TRUE(client_send(client->fd, records[i], 600));
	}
	case_settle(&c);
	for (uint32_t i = 0; i < PIECES_COUNT; i++)
		CU_ASSERT_TRUE(client_send(
			clients[i].fd, records[i] + 600, lengths[i] - 600));
	for (uint32_t i = 0; i < PIECES_COUNT; i++) {
		CU_ASSERT_TRUE(receives_pattern(&clients[i], &c, i, 1000));
		client_end(&clients[i]);
	}
	CU_ASSERT_TRUE(case_run_closed(&c, PIECES_COUNT));
	case_end(&c);
}

static void test_tls__destroy_in_the_middle(void)
{
	struct stream_limits limits = case_limits();
	struct tls_client client;
	struct stream_case c;
	int silent;

	begin(&c, &limits, case_refuse);
	silent = client_connect(&c);
	client_init(&client, &c, 4096);
	CU_ASSERT_EQUAL_FATAL(client_handshake(&client, &c), 0);
	CU_ASSERT_TRUE(case_run_opened(&c, 1));
	CU_ASSERT_EQUAL(tls_try_write(&client, "hold this", 9), 9);
	CU_ASSERT_EQUAL(case_send(&c, c.last_opened, &limits, 40), 0);
	case_settle(&c);
	case_end(&c);
	client_end(&client);
	close(silent);
}

static void bad_identity(
	const char *certificate, const char *key, const char *word)
{
	struct tls_context *context = NULL;
	struct error err = {0};

	CU_ASSERT_EQUAL(tls_context_create(certificate,
				certificate ? strlen(certificate) : 0, key,
				key ? strlen(key) : 0, &context, &err),
		-EINVAL);
	CU_ASSERT_PTR_NULL(context);
	if (!strstr(err.text, word))
		printf("\n'%s' is not in: %s\n", word, err.text);
	CU_ASSERT_PTR_NOT_NULL(strstr(err.text, word));
}

static bool shows(
	const struct tls_client *client, const struct tls_identity *who)
{
	X509 *certificate = SSL_get1_peer_certificate(client->ssl);
	BIO *bio = BIO_new(BIO_s_mem());
	char text[PEM_BYTES_MAX];

	CU_ASSERT_PTR_NOT_NULL_FATAL(certificate);
	CU_ASSERT_EQUAL_FATAL(PEM_write_bio_X509(bio, certificate), 1);
	tls_identity_text(bio, text);
	X509_free(certificate);
	return strcmp(text, who->certificate) == 0;
}

static int identify(struct stream_case *c, const char *certificate,
	const char *key, struct error *err)
{
	const struct stream_identity identity_of = {
		certificate, key, strlen(certificate), strlen(key)};

	return c->loop.ops->identify(&c->loop, &identity_of, err);
}

static void test_identify__for_those_that_come(void)
{
	struct stream_limits limits = case_limits();
	struct tls_client before, after;
	struct error err = {0};
	struct stream_case c;
	struct tls_identity unused, fresh;

	tls_identity_make(&unused);
	tls_identity_make(&fresh);
	begin(&c, &limits, case_echo);
	client_init(&before, &c, 0);
	CU_ASSERT_EQUAL_FATAL(client_handshake(&before, &c), 0);
	CU_ASSERT_TRUE(shows(&before, &identity));
	/* What does not fit together changes nothing. */
	CU_ASSERT_EQUAL(
		identify(&c, unused.certificate, fresh.key, &err), -EINVAL);
	CU_ASSERT_EQUAL(identify(&c, "", fresh.key, &err), -EINVAL);
	CU_ASSERT_EQUAL(identify(&c, unused.certificate, unused.key, &err), 0);
	CU_ASSERT_EQUAL(identify(&c, fresh.certificate, fresh.key, &err), 0);
	client_init(&after, &c, 0);
	CU_ASSERT_EQUAL_FATAL(client_handshake(&after, &c), 0);
	CU_ASSERT_TRUE(shows(&after, &fresh));
	CU_ASSERT_EQUAL(tls_try_write(&before, "x", 1), 1);
	CU_ASSERT_TRUE(has_echo(&before, &c, 'x'));
	client_end(&before);
	CU_ASSERT_EQUAL(tls_try_write(&after, "y", 1), 1);
	CU_ASSERT_TRUE(has_echo(&after, &c, 'y'));
	client_end(&after);
	/* One that nobody came for. */
	CU_ASSERT_EQUAL(identify(&c, unused.certificate, unused.key, &err), 0);
	case_end(&c);
}

static void test_identify__needs_a_tls_listener(void)
{
	struct stream_limits limits = case_limits();
	struct error err = {0};
	struct stream_case c;

	case_begin(&c, &limits, case_echo);
	CU_ASSERT_EQUAL(identify(&c, identity.certificate, identity.key, &err),
		-EINVAL);
	CU_ASSERT_PTR_NOT_NULL(strstr(err.text, "no listener speaks TLS"));
	case_end(&c);
}

static void test_context__bad_identities(void)
{
	static const char broken[] =
		"-----BEGIN CERTIFICATE-----\nAAAA\n-----END "
		"CERTIFICATE-----\n";
	struct tls_context *context = NULL;
	struct tls_identity a, b;
	struct error err = {0};
	char chain[3 * PEM_BYTES_MAX];

	tls_identity_make(&a);
	tls_identity_make(&b);
	bad_identity(NULL, a.key, "needs a certificate and a key");
	bad_identity(a.certificate, NULL, "needs a certificate and a key");
	bad_identity("", a.key, "TLS certificate: no start line");
	bad_identity("hello", a.key, "TLS certificate: no start line");
	bad_identity(broken, a.key, "TLS certificate: ");
	bad_identity(a.certificate, "", "TLS key: ");
	bad_identity(a.certificate, a.certificate, "TLS key: ");
	bad_identity(a.certificate, b.key, "TLS key: key values mismatch");
	snprintf(chain, sizeof(chain), "%s%s", a.certificate, broken);
	bad_identity(chain, a.key, "TLS certificate: ");
	snprintf(chain, sizeof(chain), "%s%s", a.certificate, b.certificate);
	CU_ASSERT_EQUAL(tls_context_create(chain, strlen(chain), a.key,
				strlen(a.key), &context, &err),
		0);
	tls_context_destroy(context);
}

int main(void)
{
	static const struct suite_case cases[] = {
		SUITE_CASE(tls__handshake_is_1_3_with_a_ticket),
		SUITE_CASE(tls__what_is_not_offered),
		SUITE_CASE(tls__echo_random_sizes),
		SUITE_CASE(tls__close_notify_both_ways),
		SUITE_CASE(tls__end_without_close_notify),
		SUITE_CASE(tls__plain_client),
		SUITE_CASE(tls__garbage),
		SUITE_CASE(tls__garbage_after_the_handshake),
		SUITE_CASE(tls__a_silent_client_times_out),
		SUITE_CASE(tls__a_slow_reader_is_bounded),
		SUITE_CASE(tls__unconsumed_stops_the_peer),
		SUITE_CASE(tls__buffers_are_shared),
		SUITE_CASE(tls__key_updates),
		SUITE_CASE(tls__a_ticket_resumes),
		SUITE_CASE(tls__the_rest_comes_with_what_follows),
		SUITE_CASE(tls__records_in_pieces),
		SUITE_CASE(tls__destroy_in_the_middle),
		SUITE_CASE(context__bad_identities),
		SUITE_CASE(identify__for_those_that_come),
		SUITE_CASE(identify__needs_a_tls_listener),
	};

	return SUITE_MAIN("stream_tls", cases);
}
