/* fuzz_tls_record.c - any bytes as what a TLS client sends after its handshake */
/* SPDX-License-Identifier: Apache-2.0 */
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "dataplane/tls_record.h"
#include "tests/fuzz/fuzz.h"

/*
 * The first byte chooses the suite. Then pieces, each with a head of two
 * bytes: the first bit says whether the bytes come as they are, or sealed as
 * the inside of a proper record, so that what is behind the seal is reached;
 * the rest is how many there are. After each, what is owed is sealed, and the
 * state goes through an export.
 */

#define STREAM_BYTES_MAX 65536

struct world {
	struct tls_record ours, client;
	struct tls_aead *aead;
	uint8_t stream[STREAM_BYTES_MAX]; /* what the client has sent */
	size_t length, at;
	bool over;
};

static void require(bool holds)
{
	if (!holds)
		abort();
}

static void begin(struct world *w, uint8_t first)
{
	uint8_t one[TLS_SECRET_BYTES_MAX] = {1};
	uint8_t two[TLS_SECRET_BYTES_MAX] = {2};
	uint16_t suite = (uint16_t)(TLS_AES_128_GCM + first % 3);

	memset(w, 0, sizeof(*w));
	require(tls_aead_create(2, &w->aead) == 0);
	require(tls_record_init(&w->ours, suite, one, two) == 0);
	require(tls_record_init(&w->client, suite, two, one) == 0);
	w->ours.count_max = 4;
}

static void add(struct world *w, const uint8_t *data, size_t length)
{
	require(length <= STREAM_BYTES_MAX - w->length);
	memcpy(w->stream + w->length, data, length);
	w->length += length;
}

static void add_sealed(struct world *w, const uint8_t *data, size_t length)
{
	uint8_t record[5 + 512 + TLS_TAG_BYTES] = {23, 3, 3};
	struct tls_text text = {.header = record,
		.header_length = 5,
		.from = data,
		.length = length};
	size_t sealed = length + TLS_TAG_BYTES;

	record[3] = (uint8_t)(sealed >> 8);
	record[4] = (uint8_t)sealed;
	/* The keys that we open with now: those after a KeyUpdate too. */
	memcpy(text.nonce, w->ours.in.iv, TLS_NONCE_BYTES);
	for (int i = 0; i < 8; i++)
		text.nonce[4 + i] ^=
			(uint8_t)(w->ours.in.sequence >> (56 - 8 * i));
	require(tls_aead_seal(w->aead, 1, &w->ours.in.key, &text, record + 5) ==
		0);
	add(w, record, 5 + sealed);
}

/* Less than a record changes nothing. */
static void check_part(struct world *w)
{
	static uint8_t plain[TLS_RECORD_SEALED_BYTES_MAX];
	struct tls_record before = w->ours;
	size_t part = (w->length - w->at) / 2;
	struct tls_opened o;

	if (tls_record_open(&w->ours, w->aead, w->stream + w->at, part, plain,
		    &o) == TLS_RECORD_MORE)
		require(o.need > part);
	w->ours = before;
}

static void take(struct world *w)
{
	static uint8_t plain[TLS_RECORD_SEALED_BYTES_MAX];
	struct tls_opened o;

	while (!w->over) {
		size_t left = w->length - w->at;

		check_part(w);
		switch (tls_record_open(&w->ours, w->aead, w->stream + w->at,
			left, plain, &o)) {
		case TLS_RECORD_MORE:
			require(o.need > left);
			require(o.need <= TLS_RECORD_SEALED_BYTES_MAX);
			return;
		case TLS_RECORD_DATA:
			require(o.taken > o.length && o.taken <= left);
			require(o.length <= TLS_RECORD_BYTES_MAX);
			w->at += o.taken;
			break;
		default:
			w->over = true;
		}
	}
}

/* What we say, the client understands. */
static void answer(struct world *w)
{
	static const uint8_t hello[5] = {'h', 'e', 'l', 'l', 'o'};
	uint8_t record[64], plain[64];
	struct tls_opened o;

	if (tls_record_update_due(&w->ours)) {
		require(tls_record_seal_key_update(
				&w->ours, w->aead, 0, record) == 0);
		w->client.updates_in_row = 0;
		require(tls_record_open(&w->client, w->aead, record,
				TLS_RECORD_KEY_UPDATE_BYTES, plain,
				&o) == TLS_RECORD_DATA);
	}
	memcpy(record + 5, hello, 5);
	require(tls_record_seal(&w->ours, w->aead, 0, record, 5) == 0);
	require(tls_record_open(&w->client, w->aead, record,
			5 + TLS_RECORD_EXTRA_BYTES, plain,
			&o) == TLS_RECORD_DATA);
	require(o.length == 5 && memcmp(plain, hello, 5) == 0);
}

static void move(struct world *w)
{
	uint8_t image[TLS_RECORD_EXPORT_BYTES];
	struct tls_record before = w->ours;

	tls_record_export(&w->ours, image);
	tls_record_wipe(&w->ours);
	require(tls_record_import(image, &w->ours) == 0);
	require(w->ours.in.sequence == before.in.sequence);
	require(memcmp(&w->ours.out.key, &before.out.key,
			sizeof(before.out.key)) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct world w;

	if (size < 1 || size > STREAM_BYTES_MAX / 16)
		return 0;
	begin(&w, data[0]);
	for (size_t at = 1; at + 2 <= size && !w.over;) {
		size_t length = (size_t)(data[at] & 1) << 8 | data[at + 1];
		bool sealed = data[at] & 0x80;

		at += 2;
		if (length > size - at)
			length = size - at;
		if (sealed && w.at == w.length)
			add_sealed(&w, data + at, length);
		else
			add(&w, data + at, length);
		at += length;
		take(&w);
		if (!w.over) {
			answer(&w);
			move(&w);
		}
	}
	tls_aead_destroy(w.aead);
	return 0;
}
