/* tls_speed.c - what a TLS record costs (argv -> table, JSON) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Our record layer beside SSL_write() and SSL_read(), each into and out of
 * memory, for every suite; and what a connection that is idle holds. "cold" is
 * a connection whose cipher is not ready: another has used its place since.
 * Noise: all take turns of a millisecond or so; it is the processor time of
 * the turns that counts, and the figure is the median of the turns.
 */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <openssl/err.h>

#include "base/clock.h"
#include "bench/median.h"
#include "bench/report.h"
#include "bench/tls_peer.h"
#include "bench/tls_speed.h"
#include "dataplane/tls_record.h"

#define ROUND_COUNT 15
#define TURN_BYTES ((size_t)1 << 20) /* of records, of a turn */
#define TURN_RECORDS_MAX 2000u
#define SUITE_COUNT 3
#define SIZE_COUNT 3

static const struct {
	const char *name, *openssl;
	uint16_t suite;
} suites[SUITE_COUNT] = {
	{"aes128", "TLS_AES_128_GCM_SHA256", TLS_AES_128_GCM},
	{"aes256", "TLS_AES_256_GCM_SHA384", TLS_AES_256_GCM},
	{"chacha20", "TLS_CHACHA20_POLY1305_SHA256", TLS_CHACHA20_POLY1305},
};

/* A token event of ours, one of a long delta, a full record. */
static const size_t sizes[SIZE_COUNT] = {220, 1024, TLS_RECORD_BYTES_MAX};

enum what { SEAL, SEAL_COLD, SEAL_PEER, OPEN, OPEN_PEER, WHAT_COUNT };

/* One suite, one size. */
struct bench {
	struct tls_peer peer;
	struct tls_aead *aead;
	struct tls_record ours[2], client; /* [1]: shares a place with [0] */
	uint8_t *bytes; /* records of a turn, one behind the other */
	size_t size;
	uint32_t count; /* of records in a turn */
	double runs[WHAT_COUNT][ROUND_COUNT];
};

static uint64_t processor_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (uint64_t)t.tv_sec * NS_PER_S + (uint64_t)t.tv_nsec;
}

static int begin(
	struct bench *b, uint32_t suite, size_t size, struct error *err)
{
	uint8_t one[TLS_SECRET_BYTES_MAX] = {1};
	uint8_t two[TLS_SECRET_BYTES_MAX] = {2};
	uint8_t three[TLS_SECRET_BYTES_MAX] = {3};
	int rc = tls_peer_open(&b->peer, suites[suite].openssl, err);

	if (rc)
		return rc;
	b->size = size;
	b->count = (uint32_t)(TURN_BYTES / size);
	if (b->count > TURN_RECORDS_MAX)
		b->count = TURN_RECORDS_MAX;
	b->bytes = calloc(b->count, size + TLS_RECORD_EXTRA_BYTES);
	if (!b->bytes || tls_aead_create(1, &b->aead) ||
		tls_record_init(&b->ours[0], suites[suite].suite, one, two) ||
		tls_record_init(&b->ours[1], suites[suite].suite, one, three) ||
		tls_record_init(&b->client, suites[suite].suite, two, one))
		return error_set(err, ENOMEM, "no memory");
	return 0;
}

static void end(struct bench *b)
{
	free(b->bytes);
	tls_aead_destroy(b->aead);
	tls_peer_close(&b->peer);
}

/* Records that come one after the other from `count` connections. */
static bool seal(struct bench *b, struct tls_record *from, uint32_t count)
{
	static const uint8_t plain[TLS_RECORD_BYTES_MAX];

	for (uint32_t i = 0; i < b->count; i++) {
		uint8_t *to = b->bytes + i * (b->size + TLS_RECORD_EXTRA_BYTES);

		memcpy(to + TLS_RECORD_HEADER_BYTES, plain, b->size);
		if (tls_record_seal(&from[i % count], b->aead, 0, to, b->size))
			return false;
	}
	return true;
}

static bool open_all(struct bench *b)
{
	static uint8_t plain[TLS_RECORD_SEALED_BYTES_MAX];
	size_t record = b->size + TLS_RECORD_EXTRA_BYTES;
	struct tls_opened o;

	for (uint32_t i = 0; i < b->count; i++)
		if (tls_record_open(&b->ours[0], b->aead, b->bytes + i * record,
			    record, plain, &o) != TLS_RECORD_DATA)
			return false;
	return true;
}

static bool peer_write(SSL *ssl, const struct bench *b)
{
	static const uint8_t plain[TLS_RECORD_BYTES_MAX];

	for (uint32_t i = 0; i < b->count; i++)
		if (SSL_write(ssl, plain, (int)b->size) != (int)b->size)
			return false;
	return true;
}

static bool peer_read(const struct bench *b)
{
	static uint8_t plain[TLS_RECORD_BYTES_MAX];

	for (uint32_t i = 0; i < b->count; i++)
		if (SSL_read(b->peer.server, plain, (int)b->size) !=
			(int)b->size)
			return false;
	return true;
}

static bool run(struct bench *b, enum what what)
{
	switch (what) {
	case SEAL:
		return seal(b, b->ours, 1);
	case SEAL_COLD:
		return seal(b, b->ours, 2);
	case SEAL_PEER:
		return peer_write(b->peer.server, b);
	case OPEN:
		return open_all(b);
	default:
		return peer_read(b);
	}
}

/* What there is to be opened; not measured. */
static bool prepare(struct bench *b, enum what what)
{
	if (what == OPEN)
		return seal(b, &b->client, 1);
	if (what == OPEN_PEER)
		return peer_write(b->peer.client, b);
	if (what == SEAL_PEER)
		(void)BIO_reset(SSL_get_wbio(b->peer.server));
	return true;
}

static int measure(struct bench *b, struct error *err)
{
	for (uint32_t round = 0; round < ROUND_COUNT; round++)
		for (enum what what = SEAL; what < WHAT_COUNT; what++) {
			uint64_t from;

			if (!prepare(b, what))
				return error_set(err, EPROTO, "no records");
			from = processor_ns();
			if (!run(b, what))
				return error_set(err, EPROTO, "a bad record");
			b->runs[what][round] = (double)(processor_ns() - from) /
					       (double)b->count;
		}
	return 0;
}

static void add(
	struct report *report, struct bench *b, uint32_t suite, enum what what)
{
	static const char *const names[WHAT_COUNT] = {
		[SEAL] = "seal", [SEAL_COLD] = "seal.cold", [OPEN] = "open"};
	enum what peer = what == OPEN ? OPEN_PEER : SEAL_PEER;

	report_add_named(report,
		&(struct report_row){
			.value = median(b->runs[what], ROUND_COUNT),
			.unit = "ns/record",
			.peer = what == OPEN ? "SSL_read" : "SSL_write",
			.peer_value = median(b->runs[peer], ROUND_COUNT),
			.less_is_better = true},
		"tls.%s.%s.%zu", names[what], suites[suite].name, b->size);
}

static int measure_one(
	struct report *report, uint32_t suite, size_t size, struct error *err)
{
	struct bench b = {.size = size};
	int rc = begin(&b, suite, size, err);

	if (rc == 0)
		rc = measure(&b, err);
	if (rc == 0) {
		add(report, &b, suite, SEAL);
		add(report, &b, suite, SEAL_COLD);
		add(report, &b, suite, OPEN);
	}
	end(&b);
	return rc;
}

static int measure_idle(struct report *report, struct error *err)
{
	struct tls_peer peer;
	int rc = tls_peer_open(&peer, suites[0].openssl, err);

	if (rc)
		return rc;
	report_add(report, &(struct report_row){.name = "tls.idle",
				   .value = (double)sizeof(struct tls_record),
				   .unit = "bytes",
				   .peer = "SSL",
				   .peer_value = tls_peer_idle_bytes(&peer),
				   .less_is_better = true});
	tls_peer_close(&peer);
	return 0;
}

int tls_speed_main(int argc, char **argv)
{
	static const struct option options[] = {
		{"json", required_argument, NULL, 'j'},
		{"help", no_argument, NULL, 'h'}, {0}};
	static struct report report;
	struct error err = {0};
	const char *json = NULL;
	int id, rc = 0;

	while ((id = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (id == 'j') {
			json = optarg;
			continue;
		}
		fprintf(id == 'h' ? stdout : stderr,
			"usage: heddle-bench tls [--json FILE]\n\n"
			"What a record costs our TLS beside OpenSSL's.\n");
		return id == 'h' ? 0 : 2;
	}
	for (uint32_t i = 0; i < SUITE_COUNT && rc == 0; i++)
		for (uint32_t j = 0; j < SIZE_COUNT && rc == 0; j++)
			rc = measure_one(&report, i, sizes[j], &err);
	if (rc == 0)
		rc = measure_idle(&report, &err);
	report_print_table(&report, stdout);
	if (rc == 0)
		rc = report_write(&report, json, NULL, &err);
	if (rc)
		fprintf(stderr, "heddle-bench tls: %s\n", err.text);
	return rc ? 2 : 0;
}
