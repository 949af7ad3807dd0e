/* test_tls_record.c - our record layer: RFC 8448, OpenSSL's client, bad peers */
/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/crypto.h>
#include <openssl/err.h>

#include "tests/pattern.h"
#include "tests/suite.h"
#include "tests/tls_duo.h"

#define SUITE_COUNT 3

static const struct {
	const char *name;
	uint16_t suite;
} suites[SUITE_COUNT] = {
	{"TLS_AES_128_GCM_SHA256", TLS_AES_128_GCM},
	{"TLS_AES_256_GCM_SHA384", TLS_AES_256_GCM},
	{"TLS_CHACHA20_POLY1305_SHA256", TLS_CHACHA20_POLY1305},
};

static size_t from_hex(const char *digits, uint8_t *out)
{
	size_t length = 0;

	for (; *digits; digits++) {
		char byte[3] = {digits[0], 0, 0};

		if (*digits == ' ')
			continue;
		byte[1] = *++digits;
		out[length++] = (uint8_t)strtoul(byte, NULL, 16);
	}
	return length;
}

static bool is_hex(const uint8_t *bytes, size_t length, const char *digits)
{
	uint8_t wanted[256];

	return from_hex(digits, wanted) == length &&
	       memcmp(bytes, wanted, length) == 0;
}

/* --- RFC 8448 section 3: the application records of "Simple 1-RTT" --- */

static const char client_secret[] =
	"9e40646ce79a7f9dc05af8889bce6552875afa0b06df0087f792ebb7c17504a5";
static const char server_secret[] =
	"a11af9f05531f856ad47116b45a950328204b4f44bfb6b3a4b4f1f3fcb631643";
static const char client_data[] =
	"1703030043a23f7054b62c94d0affafe8228ba55cbefacea42f914aa66bcab3f2b"
	"9819a8a5b46b395bd54a9a20441e2b62974e1f5a6292a2977014bd1e3deae63aee"
	"bb21694915e4";
static const char server_data[] =
	"17030300432e937e11ef4ac740e538ad36005fc4a46932fc3225d05f82aa1b36e3"
	"0efaf97d90e6dffc602dcb501a59a8fcc49c4bf2e5f0a21c0047c2abf332540dd0"
	"32e167c2955d";
static const char client_alert[] =
	"1703030013c9872760655666b74d7ff1153efd6db6d0b0e3";
static const char server_alert[] =
	"1703030013b58fd67166ebf599d24720cfbe7efa7a8864a9";

static void test_rfc8448__keys_and_records(void)
{
	uint8_t in[32], out[32], record[128],
		plain[TLS_RECORD_SEALED_BYTES_MAX];
	struct tls_opened o;
	struct tls_record r;
	struct tls_aead *a;
	size_t length;

	CU_ASSERT_EQUAL_FATAL(tls_aead_create(1, &a), 0);
	from_hex(client_secret, in);
	from_hex(server_secret, out);
	CU_ASSERT_EQUAL_FATAL(tls_record_init(&r, TLS_AES_128_GCM, in, out), 0);
	CU_ASSERT_TRUE(
		is_hex(r.in.key.bytes, 16, "17422dda596ed5d9acd890e3c63f5051"));
	CU_ASSERT_TRUE(is_hex(r.in.iv, 12, "5b78923dee08579033e523d9"));
	CU_ASSERT_TRUE(is_hex(
		r.out.key.bytes, 16, "9f02283b6c9c07efc26bb9f2ac92e356"));
	CU_ASSERT_TRUE(is_hex(r.out.iv, 12, "cf782b88dd83549aadf1e984"));
	length = from_hex(client_data, record);
	CU_ASSERT_EQUAL(tls_record_open(&r, a, record, length, plain, &o),
		TLS_RECORD_DATA);
	CU_ASSERT_EQUAL(o.taken, length);
	CU_ASSERT_EQUAL_FATAL(o.length, 50);
	for (uint8_t i = 0; i < 50; i++)
		CU_ASSERT_EQUAL(plain[i], i);
	length = from_hex(client_alert, record);
	CU_ASSERT_EQUAL(tls_record_open(&r, a, record, length, plain, &o),
		TLS_RECORD_CLOSED);
	/* The server's first record is its ticket. */
	r.out.sequence = 1;
	for (uint8_t i = 0; i < 50; i++)
		record[5 + i] = i;
	CU_ASSERT_EQUAL(tls_record_seal(&r, a, 0, record, 50), 0);
	CU_ASSERT_TRUE(is_hex(record, 72, server_data));
	CU_ASSERT_EQUAL(
		tls_record_seal_alert(&r, a, 0, TLS_ALERT_CLOSE_NOTIFY, record),
		0);
	CU_ASSERT_TRUE(is_hex(record, 24, server_alert));
	tls_record_wipe(&r);
	tls_aead_destroy(a);
}

/* --- OpenSSL's client --- */

static void check_echo(struct duo *d, uint64_t seed, size_t length)
{
	static uint8_t piece[TLS_RECORD_BYTES_MAX], back[TLS_RECORD_BYTES_MAX];
	enum tls_record_result result;
	size_t got = 0;

	pattern_fill(seed, 0, piece, length);
	CU_ASSERT_EQUAL_FATAL(
		SSL_write(d->client, piece, (int)length), (int)length);
	CU_ASSERT_EQUAL_FATAL(
		duo_receive(d, back, sizeof(back), &result), length);
	CU_ASSERT_EQUAL(result, TLS_RECORD_MORE);
	CU_ASSERT_EQUAL(memcmp(back, piece, length), 0);
	duo_send(d, piece, length);
	while (got < length) {
		int part = duo_client_read(d, back, (int)(length - got));

		CU_ASSERT_FATAL(part > 0);
		CU_ASSERT_EQUAL(memcmp(back, piece + got, (size_t)part), 0);
		got += (size_t)part;
	}
}

static void test_openssl__every_suite_and_size(void)
{
	static const size_t sizes[] = {1, 2, 15, 16, 17, 255, 16383, 16384};
	uint64_t random = suite_seed(5);

	for (int i = 0; i < SUITE_COUNT; i++) {
		struct duo d;

		duo_begin(&d, suites[i].name);
		CU_ASSERT_TRUE_FATAL(duo_connect(&d, NULL));
		CU_ASSERT_EQUAL(d.record.in.key.suite, suites[i].suite);
		for (size_t j = 0; j < sizeof(sizes) / sizeof(sizes[0]); j++)
			check_echo(&d, j, sizes[j]);
		for (uint64_t j = 0; j < 100; j++)
			check_echo(&d, j,
				suite_below(&random, TLS_RECORD_BYTES_MAX) + 1);
		duo_end(&d);
	}
}

/* Bytes come and go in steps of the handshake's own. */
static void test_openssl__handshake_in_steps(void)
{
	static const size_t steps[] = {1, 2, 7, 100, 1000};
	struct duo d;

	duo_begin(&d, suites[0].name);
	for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
		d.step_bytes = steps[i];
		CU_ASSERT_TRUE_FATAL(duo_connect(&d, NULL));
		CU_ASSERT_EQUAL(d.record.out.sequence, 1);
		check_echo(&d, 1, 1000);
	}
	duo_end(&d);
}

static void test_openssl__a_ticket_resumes(void)
{
	for (int i = 0; i < SUITE_COUNT; i++) {
		SSL_SESSION *session;
		struct duo d;

		duo_begin(&d, suites[i].name);
		CU_ASSERT_TRUE_FATAL(duo_connect(&d, NULL));
		CU_ASSERT_EQUAL(SSL_session_reused(d.client), 0);
		/* OpenSSL has sealed one record behind the handshake. */
		CU_ASSERT_EQUAL(d.record.out.sequence, 1);
		check_echo(&d, 1, 100);
		CU_ASSERT_EQUAL(d.ticket_count, 1);
		for (uint32_t j = 2; j < 5; j++) {
			session = d.session;
			d.session = NULL;
			CU_ASSERT_TRUE_FATAL(duo_connect(&d, session));
			SSL_SESSION_free(session);
			CU_ASSERT_EQUAL(SSL_session_reused(d.client), 1);
			check_echo(&d, j, 100);
			CU_ASSERT_EQUAL(d.ticket_count, j);
		}
		duo_end(&d);
	}
}

static void test_openssl__key_updates_both_ways(void)
{
	for (int i = 0; i < SUITE_COUNT; i++) {
		struct duo d;

		duo_begin(&d, suites[i].name);
		CU_ASSERT_TRUE_FATAL(duo_connect(&d, NULL));
		check_echo(&d, 1, 100);
		/* The client's, without and with a wish for ours. */
		SSL_key_update(d.client, SSL_KEY_UPDATE_NOT_REQUESTED);
		check_echo(&d, 2, 100);
		CU_ASSERT_EQUAL(d.record.in.sequence, 1);
		CU_ASSERT_EQUAL(d.record.out.sequence, 3);
		SSL_key_update(d.client, SSL_KEY_UPDATE_REQUESTED);
		check_echo(&d, 3, 100);
		CU_ASSERT_EQUAL(d.record.out.sequence, 1);
		CU_ASSERT_FALSE(d.record.update_owed);
		/* Ours, when a key has sealed enough. */
		d.record.count_max = 10;
		for (uint64_t j = 0; j < 100; j++) {
			check_echo(&d, j, 50);
			CU_ASSERT_TRUE(d.record.out.sequence <= 10);
			CU_ASSERT_TRUE(d.record.in.sequence <= 12);
		}
		duo_end(&d);
	}
}

static void test_openssl__close_notify_both_ways(void)
{
	enum tls_record_result result;
	uint8_t record[100], byte;
	struct duo d;

	duo_begin(&d, suites[0].name);
	CU_ASSERT_TRUE_FATAL(duo_connect(&d, NULL));
	CU_ASSERT_EQUAL(SSL_write(d.client, "x", 1), 1);
	CU_ASSERT_EQUAL(SSL_shutdown(d.client), 0);
	CU_ASSERT_EQUAL(duo_receive(&d, &byte, 1, &result), 1);
	CU_ASSERT_EQUAL(result, TLS_RECORD_CLOSED);
	duo_send(&d, (const uint8_t *)"y", 1);
	CU_ASSERT_EQUAL(tls_record_seal_alert(&d.record, d.aead, 0,
				TLS_ALERT_CLOSE_NOTIFY, record),
		0);
	BIO_write(d.to_client, record, TLS_RECORD_ALERT_BYTES);
	CU_ASSERT_EQUAL(duo_client_read(&d, record, 1), 1);
	CU_ASSERT_EQUAL(duo_client_read(&d, record, 1), -SSL_ERROR_ZERO_RETURN);
	/* An alert of ours is understood. */
	CU_ASSERT_TRUE_FATAL(duo_connect(&d, NULL));
	CU_ASSERT_EQUAL(tls_record_seal_alert(&d.record, d.aead, 0,
				TLS_ALERT_BAD_RECORD_MAC, record),
		0);
	BIO_write(d.to_client, record, TLS_RECORD_ALERT_BYTES);
	CU_ASSERT_EQUAL(duo_client_read(&d, record, 1), -SSL_ERROR_SSL);
	duo_end(&d);
}

/* --- moved --- */

static void test_move__in_the_middle_of_a_stream(void)
{
	uint64_t random = suite_seed(8);

	for (int i = 0; i < SUITE_COUNT; i++) {
		struct duo d;

		duo_begin(&d, suites[i].name);
		CU_ASSERT_TRUE_FATAL(duo_connect(&d, NULL));
		d.record.count_max = 20;
		for (uint64_t j = 0; j < 60; j++) {
			uint8_t image[TLS_RECORD_EXPORT_BYTES];
			struct tls_aead *fresh;

			check_echo(&d, j, suite_below(&random, 300) + 1);
			if (suite_below(&random, 4) == 0)
				SSL_key_update(
					d.client, SSL_KEY_UPDATE_REQUESTED);
			/* As by another process: only the bytes go along. */
			tls_record_export(&d.record, image);
			tls_record_wipe(&d.record);
			CU_ASSERT_EQUAL_FATAL(tls_aead_create(1, &fresh), 0);
			tls_aead_destroy(d.aead);
			d.aead = fresh;
			CU_ASSERT_EQUAL_FATAL(
				tls_record_import(image, &d.record), 0);
		}
		duo_end(&d);
	}
}

static bool is_same(const struct tls_record *a, const struct tls_record *b)
{
	uint8_t one[TLS_RECORD_EXPORT_BYTES], two[TLS_RECORD_EXPORT_BYTES];

	tls_record_export(a, one);
	tls_record_export(b, two);
	return memcmp(one, two, sizeof(one)) == 0 &&
	       memcmp(a->in.key.bytes, b->in.key.bytes, TLS_KEY_BYTES_MAX) ==
		       0 &&
	       memcmp(a->out.iv, b->out.iv, TLS_NONCE_BYTES) == 0;
}

static void test_move__bad_images(void)
{
	uint8_t secret[TLS_SECRET_BYTES_MAX] = {1};
	uint8_t image[TLS_RECORD_EXPORT_BYTES];
	struct tls_record r, copy;
	/* Of the bytes before the numbers, those that one value may have. */
	static const uint8_t bad[] = {0, 1, 2, 3, 5, 6, 7, 8, 9, 10, 15};

	CU_ASSERT_EQUAL(
		tls_record_init(&r, TLS_AES_256_GCM, secret, secret), 0);
	tls_record_export(&r, image);
	CU_ASSERT_EQUAL(tls_record_import(image, &copy), 0);
	CU_ASSERT_TRUE(is_same(&copy, &r));
	for (size_t i = 0; i < sizeof(bad); i++) {
		image[bad[i]] ^= 0x80;
		CU_ASSERT_EQUAL(tls_record_import(image, &copy), -EINVAL);
		image[bad[i]] ^= 0x80;
	}
	memset(image + 16, 0, 8);
	CU_ASSERT_EQUAL(tls_record_import(image, &copy), -EINVAL);
}

/* --- a peer that the test writes --- */

struct pair {
	struct tls_record ours, peer;
	struct tls_aead *a;
};

static void pair_begin(struct pair *p, uint16_t suite)
{
	uint8_t one[TLS_SECRET_BYTES_MAX] = {1};
	uint8_t two[TLS_SECRET_BYTES_MAX] = {2};

	CU_ASSERT_EQUAL_FATAL(tls_aead_create(2, &p->a), 0);
	CU_ASSERT_EQUAL_FATAL(tls_record_init(&p->ours, suite, one, two), 0);
	CU_ASSERT_EQUAL_FATAL(tls_record_init(&p->peer, suite, two, one), 0);
}

static void pair_end(struct pair *p)
{
	tls_aead_destroy(p->a);
}

/* A record of any inner bytes, its type and padding among them. */
static size_t seal_inner(
	struct pair *p, const uint8_t *inner, size_t length, uint8_t *record)
{
	struct tls_half *half = &p->peer.out;
	size_t sealed = length + TLS_TAG_BYTES;
	const uint8_t header[5] = {
		23, 3, 3, (uint8_t)(sealed >> 8), (uint8_t)sealed};
	struct tls_text text = {.header = record,
		.header_length = 5,
		.from = inner,
		.length = length};

	memcpy(record, header, 5);
	memcpy(text.nonce, half->iv, TLS_NONCE_BYTES);
	for (int i = 0; i < 8; i++)
		text.nonce[4 + i] ^= (uint8_t)(half->sequence >> (56 - 8 * i));
	half->sequence++;
	CU_ASSERT_EQUAL_FATAL(
		tls_aead_seal(p->a, 1, &half->key, &text, record + 5), 0);
	return 5 + sealed;
}

/* What becomes of such a record: an alert, or -result. */
static int open_inner(struct pair *p, const uint8_t *inner, size_t length)
{
	static uint8_t record[40000], plain[40000];
	size_t sealed = seal_inner(p, inner, length, record);
	struct tls_opened o;
	enum tls_record_result result =
		tls_record_open(&p->ours, p->a, record, sealed, plain, &o);

	return result == TLS_RECORD_FAILED ? (int)o.alert : -(int)result;
}

/* The same for a connection of its own. */
static int open_first(const uint8_t *inner, size_t length)
{
	struct pair p;
	int result;

	pair_begin(&p, TLS_AES_128_GCM);
	result = open_inner(&p, inner, length);
	pair_end(&p);
	return result;
}

#define TAKEN (-(int)TLS_RECORD_DATA)
#define CLOSED (-(int)TLS_RECORD_CLOSED)

static int open_text(const char *inner)
{
	uint8_t bytes[64];

	return open_first(bytes, from_hex(inner, bytes));
}

static void test_open__what_may_be_in_a_record(void)
{
	static uint8_t big[16640];

	CU_ASSERT_EQUAL(open_text("61 17"), TAKEN);
	CU_ASSERT_EQUAL(open_text("17"), TAKEN); /* no data */
	CU_ASSERT_EQUAL(open_text("61 17 00 00 00"), TAKEN); /* padding */
	CU_ASSERT_EQUAL(open_text("00 17 00"), TAKEN);
	CU_ASSERT_EQUAL(open_text("01 00 15"), CLOSED);
	CU_ASSERT_EQUAL(open_text("02 00 15 00"), CLOSED); /* any level */
	CU_ASSERT_EQUAL(open_text("01 5a 15"), TAKEN); /* user_canceled */
	CU_ASSERT_EQUAL(open_text("02 14 15"), TLS_ALERT_NONE);
	CU_ASSERT_EQUAL(open_text("01 15"), TLS_ALERT_DECODE_ERROR);
	CU_ASSERT_EQUAL(open_text("15"), TLS_ALERT_DECODE_ERROR);
	CU_ASSERT_EQUAL(open_text("01 00 00 15"), TLS_ALERT_DECODE_ERROR);
	CU_ASSERT_EQUAL(open_text(""), TLS_ALERT_UNEXPECTED_MESSAGE);
	CU_ASSERT_EQUAL(open_text("00 00"), TLS_ALERT_UNEXPECTED_MESSAGE);
	CU_ASSERT_EQUAL(open_text("01 14"), TLS_ALERT_UNEXPECTED_MESSAGE);
	CU_ASSERT_EQUAL(open_text("01 18"), TLS_ALERT_UNEXPECTED_MESSAGE);
	memset(big, 'x', sizeof(big));
	big[16384] = 23;
	CU_ASSERT_EQUAL(open_first(big, 16385), TAKEN);
	big[16384] = 'x';
	big[16385] = 23;
	CU_ASSERT_EQUAL(open_first(big, 16386), TLS_ALERT_RECORD_OVERFLOW);
	/* More than the whole may be, but for its padding. */
	memset(big + 1, 0, sizeof(big) - 1);
	big[1] = 23;
	CU_ASSERT_EQUAL(open_first(big, 16385), TAKEN);
	CU_ASSERT_EQUAL(open_first(big, 16386), TLS_ALERT_RECORD_OVERFLOW);
	CU_ASSERT_EQUAL(open_first(big, 16624), TLS_ALERT_RECORD_OVERFLOW);
	CU_ASSERT_EQUAL(open_first(big, 16625), TLS_ALERT_RECORD_OVERFLOW);
}

static void test_open__messages_after_the_handshake(void)
{
	static const uint8_t update[] = {24, 0, 0, 1, 1, 22};
	const uint8_t *last = update + 4;
	struct pair p;

	CU_ASSERT_EQUAL(open_text("18 00 00 01 00 16"), TAKEN);
	CU_ASSERT_EQUAL(
		open_text("18 00 00 01 02 16"), TLS_ALERT_ILLEGAL_PARAMETER);
	CU_ASSERT_EQUAL(open_text("18 00 00 02 00 16"), TLS_ALERT_DECODE_ERROR);
	CU_ASSERT_EQUAL(open_text("18 01 00 01 00 16"), TLS_ALERT_DECODE_ERROR);
	/* Nothing behind it in its record. */
	CU_ASSERT_EQUAL(open_text("18 00 00 01 00 18 16"),
		TLS_ALERT_UNEXPECTED_MESSAGE);
	CU_ASSERT_EQUAL(open_text("16"), TLS_ALERT_UNEXPECTED_MESSAGE);
	/* A ticket, a ClientHello, a certificate. */
	CU_ASSERT_EQUAL(
		open_text("04 00 00 01 00 16"), TLS_ALERT_UNEXPECTED_MESSAGE);
	CU_ASSERT_EQUAL(open_text("01 00 16"), TLS_ALERT_UNEXPECTED_MESSAGE);
	CU_ASSERT_EQUAL(open_text("0b 00 16"), TLS_ALERT_UNEXPECTED_MESSAGE);
	/* In pieces, one byte each; it is complete with the last. */
	pair_begin(&p, TLS_AES_128_GCM);
	for (int i = 0; i < 5; i++) {
		const uint8_t piece[2] = {update[i], 22};

		CU_ASSERT_FALSE(p.ours.update_owed);
		CU_ASSERT_EQUAL(open_inner(&p, piece, 2), TAKEN);
	}
	CU_ASSERT_TRUE(p.ours.update_owed);
	CU_ASSERT_EQUAL(p.ours.in.sequence, 0);
	pair_end(&p);
	/* Not with something else between them. */
	pair_begin(&p, TLS_AES_128_GCM);
	CU_ASSERT_EQUAL(open_inner(&p, (const uint8_t[]){24, 22}, 2), TAKEN);
	CU_ASSERT_EQUAL(open_inner(&p, (const uint8_t[]){'x', 23}, 2),
		TLS_ALERT_UNEXPECTED_MESSAGE);
	pair_end(&p);
	CU_ASSERT_EQUAL(*last, 1);
}

/* 32 in a row, and with data between them as many as there are. */
static void test_open__too_many_key_updates(void)
{
	static const uint8_t data[] = {'x', 23};
	uint8_t record[TLS_RECORD_KEY_UPDATE_BYTES], plain[100];
	struct tls_opened o;
	struct pair p;

	pair_begin(&p, TLS_CHACHA20_POLY1305);
	for (int i = 0; i < 100; i++) {
		enum tls_record_result wanted =
			i < 60 + 32 ? TLS_RECORD_DATA : TLS_RECORD_FAILED;

		CU_ASSERT_EQUAL_FATAL(
			tls_record_seal_key_update(&p.peer, p.a, 1, record), 0);
		CU_ASSERT_EQUAL(tls_record_open(&p.ours, p.a, record,
					sizeof(record), plain, &o),
			wanted);
		if (wanted == TLS_RECORD_FAILED) {
			CU_ASSERT_EQUAL(o.alert, TLS_ALERT_UNEXPECTED_MESSAGE);
			break;
		}
		if (i < 60)
			CU_ASSERT_EQUAL(open_inner(&p, data, 2), TAKEN);
	}
	pair_end(&p);
}

static void test_open__what_is_not_sealed(void)
{
	static const struct {
		const char *record;
		int alert;
	} bad[] = {
		{"14 0303 0001 01", TLS_ALERT_UNEXPECTED_MESSAGE},
		{"15 0303 0002 0100", TLS_ALERT_UNEXPECTED_MESSAGE},
		{"16 0303 0002 0100", TLS_ALERT_UNEXPECTED_MESSAGE},
		{"47 4554 202f 2048", TLS_ALERT_UNEXPECTED_MESSAGE},
		{"17 0303 4101", TLS_ALERT_RECORD_OVERFLOW},
		{"17 0303 ffff", TLS_ALERT_RECORD_OVERFLOW},
		{"17 0303 000f", TLS_ALERT_BAD_RECORD_MAC},
		{"17 0303 0000", TLS_ALERT_BAD_RECORD_MAC},
		{"17 0303 0010 00000000 00000000 00000000 00000000",
			TLS_ALERT_BAD_RECORD_MAC},
	};
	struct pair p;

	pair_begin(&p, TLS_AES_256_GCM);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct tls_record before = p.ours;
		uint8_t record[64], plain[64];
		size_t length = from_hex(bad[i].record, record);
		struct tls_opened o;

		CU_ASSERT_EQUAL(tls_record_open(&p.ours, p.a, record, length,
					plain, &o),
			TLS_RECORD_FAILED);
		CU_ASSERT_EQUAL((int)o.alert, bad[i].alert);
		CU_ASSERT_TRUE(is_same(&before, &p.ours));
	}
	pair_end(&p);
}

static enum tls_record_result open_bytes(
	struct pair *p, const uint8_t *record, size_t length, int *out_alert)
{
	static uint8_t plain[TLS_RECORD_SEALED_BYTES_MAX];
	struct tls_opened o;
	enum tls_record_result result =
		tls_record_open(&p->ours, p->a, record, length, plain, &o);

	*out_alert = (int)o.alert;
	return result;
}

static void test_open__bent_cut_and_replayed(void)
{
	static const uint8_t inner[] = "bytes\x17";
	uint8_t record[100];
	size_t length;
	int alert;

	for (int s = 0; s < SUITE_COUNT; s++) {
		struct tls_record before;
		struct pair p;

		pair_begin(&p, suites[s].suite);
		length = seal_inner(&p, inner, 6, record);
		before = p.ours;
		for (size_t bit = 0; bit < length * 8; bit++) {
			enum tls_record_result result;

			record[bit / 8] ^= (uint8_t)(1 << bit % 8);
			result = open_bytes(&p, record, length, &alert);
			/* A length that is larger wants more bytes. */
			CU_ASSERT_TRUE(result == TLS_RECORD_FAILED ||
				       (result == TLS_RECORD_MORE &&
					       bit / 8 >= 3 && bit / 8 < 5));
			CU_ASSERT_TRUE(bit / 8 < 5 ||
				       alert == TLS_ALERT_BAD_RECORD_MAC);
			record[bit / 8] ^= (uint8_t)(1 << bit % 8);
		}
		for (size_t cut = 0; cut < length; cut++)
			CU_ASSERT_EQUAL(open_bytes(&p, record, cut, &alert),
				TLS_RECORD_MORE);
		CU_ASSERT_TRUE(is_same(&before, &p.ours));
		CU_ASSERT_EQUAL(open_bytes(&p, record, length, &alert),
			TLS_RECORD_DATA);
		/* Once more, and one too early. */
		CU_ASSERT_EQUAL(open_bytes(&p, record, length, &alert),
			TLS_RECORD_FAILED);
		CU_ASSERT_EQUAL(alert, TLS_ALERT_BAD_RECORD_MAC);
		seal_inner(&p, inner, 6, record);
		length = seal_inner(&p, inner, 6, record);
		CU_ASSERT_EQUAL(open_bytes(&p, record, length, &alert),
			TLS_RECORD_FAILED);
		CU_ASSERT_EQUAL(alert, TLS_ALERT_BAD_RECORD_MAC);
		pair_end(&p);
	}
}

static void test_open__undone_comes_again(void)
{
	static const uint8_t inner[] = "again\x17";
	uint8_t record[100];
	struct pair p;
	size_t length;
	int alert;

	pair_begin(&p, TLS_AES_128_GCM);
	length = seal_inner(&p, inner, 6, record);
	for (int i = 0; i < 3; i++) {
		CU_ASSERT_EQUAL(open_bytes(&p, record, length, &alert),
			TLS_RECORD_DATA);
		tls_record_undo(&p.ours);
	}
	CU_ASSERT_EQUAL(
		open_bytes(&p, record, length, &alert), TLS_RECORD_DATA);
	pair_end(&p);
}

/* --- ciphers --- */

static void send_one(struct pair *p, uint32_t place)
{
	static const uint8_t hello[5] = {'h', 'e', 'l', 'l', 'o'};
	uint8_t record[100], plain[100];
	struct tls_opened o;

	memcpy(record + 5, hello, 5);
	CU_ASSERT_EQUAL_FATAL(
		tls_record_seal(&p->peer, p->a, place, record, 5), 0);
	CU_ASSERT_EQUAL_FATAL(tls_record_open(&p->ours, p->a, record,
				      5 + TLS_RECORD_EXTRA_BYTES, plain, &o),
		TLS_RECORD_DATA);
	CU_ASSERT_EQUAL(memcmp(plain, hello, 5), 0);
}

/* Connections that share one place, of all suites, take turns. */
static void test_aead__a_place_that_is_shared(void)
{
	struct pair pairs[SUITE_COUNT];

	for (int i = 0; i < SUITE_COUNT; i++) {
		pair_begin(&pairs[i], suites[i].suite);
		if (i > 0) {
			tls_aead_destroy(pairs[i].a);
			pairs[i].a = pairs[0].a;
		}
	}
	for (uint32_t i = 0; i < 30; i++) {
		struct pair *p = &pairs[i % SUITE_COUNT];

		send_one(p, 2 * i);
		if (i % 7 == 0)
			tls_aead_forget(
				p->a, 2 * i, &p->ours.in.key, &p->peer.out.key);
		send_one(p, 2 * i);
	}
	pair_end(&pairs[0]);
}

static void test_init__no_such_suite(void)
{
	uint8_t secret[TLS_SECRET_BYTES_MAX] = {0};
	struct tls_record r;

	CU_ASSERT_EQUAL(tls_record_init(&r, 0x1300, secret, secret), -EINVAL);
	CU_ASSERT_EQUAL(tls_record_init(&r, 0x1304, secret, secret), -EINVAL);
	CU_ASSERT_EQUAL(tls_record_init(&r, 0, secret, secret), -EINVAL);
}

/* --- without memory --- */

static uint64_t allocations, fails_from, fails_to;
static int64_t live;

static void *count_malloc(size_t size, const char *file, int line)
{
	void *memory;

	(void)file;
	(void)line;
	allocations++;
	if (allocations >= fails_from && allocations < fails_to)
		return NULL;
	memory = malloc(size);
	live += memory != NULL;
	return memory;
}

static void *count_realloc(void *old, size_t size, const char *file, int line)
{
	if (!old)
		return count_malloc(size, file, line);
	return realloc(old, size);
}

static void count_free(void *memory, const char *file, int line)
{
	(void)file;
	(void)line;
	live -= memory != NULL;
	free(memory);
}

/* The nth allocation of OpenSSL fails, in all that we ask of it. */
static void test_memory__each_allocation_fails(void)
{
	uint8_t secret[TLS_SECRET_BYTES_MAX] = {3};
	bool failed = true;

	for (uint64_t nth = 1; failed; nth++) {
		uint8_t record[TLS_RECORD_KEY_UPDATE_BYTES];
		struct tls_record r = {.count_max = 0};
		struct tls_aead *a = NULL;
		int64_t before;
		int rc;

		ERR_clear_error();
		before = live;
		fails_from = allocations + nth;
		fails_to = fails_from + 1;
		rc = tls_aead_create(1, &a);
		if (rc == 0)
			rc = tls_record_init(
				&r, TLS_AES_256_GCM, secret, secret);
		if (rc == 0)
			rc = tls_record_seal_key_update(&r, a, 0, record);
		CU_ASSERT_TRUE(rc == 0 || rc == -ENOMEM);
		failed = allocations >= fails_from;
		CU_ASSERT_TRUE(failed || rc == 0);
		fails_from = fails_to = UINT64_MAX;
		tls_aead_destroy(a);
		/* What OpenSSL makes once for all stays. */
		CU_ASSERT_TRUE(nth < 3 || live == before);
	}
}

/* No memory for a cipher of its own: the shared one does it. */
static void test_memory__a_record_needs_none(void)
{
	struct pair p;

	pair_begin(&p, TLS_AES_128_GCM);
	fails_from = allocations + 1;
	fails_to = UINT64_MAX;
	for (uint32_t i = 0; i < 4; i++)
		send_one(&p, i);
	CU_ASSERT_TRUE(allocations >= fails_from);
	fails_from = fails_to = UINT64_MAX;
	pair_end(&p);
}

int main(void)
{
	static const struct suite_case cases[] = {
		SUITE_CASE(rfc8448__keys_and_records),
		SUITE_CASE(openssl__every_suite_and_size),
		SUITE_CASE(openssl__handshake_in_steps),
		SUITE_CASE(openssl__a_ticket_resumes),
		SUITE_CASE(openssl__key_updates_both_ways),
		SUITE_CASE(openssl__close_notify_both_ways),
		SUITE_CASE(move__in_the_middle_of_a_stream),
		SUITE_CASE(move__bad_images),
		SUITE_CASE(open__what_may_be_in_a_record),
		SUITE_CASE(open__messages_after_the_handshake),
		SUITE_CASE(open__too_many_key_updates),
		SUITE_CASE(open__what_is_not_sealed),
		SUITE_CASE(open__bent_cut_and_replayed),
		SUITE_CASE(open__undone_comes_again),
		SUITE_CASE(aead__a_place_that_is_shared),
		SUITE_CASE(init__no_such_suite),
		SUITE_CASE(memory__each_allocation_fails),
		SUITE_CASE(memory__a_record_needs_none),
	};

	fails_from = fails_to = UINT64_MAX;
	/* Before OpenSSL has any. */
	if (CRYPTO_set_mem_functions(count_malloc, count_realloc, count_free) !=
		1)
		return 1;
	return SUITE_MAIN("tls_record", cases);
}
