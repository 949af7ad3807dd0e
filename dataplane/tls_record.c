/* tls_record.c - the record layer of TLS 1.3, as plain data (bytes <-> records) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <errno.h>
#include <string.h>

#include <openssl/crypto.h>

#include "dataplane/tls_record.h"

#define CONTENT_ALERT 21
#define CONTENT_HANDSHAKE 22
#define CONTENT_DATA 23

#define MESSAGE_KEY_UPDATE 24
#define MESSAGE_BYTES 5 /* of a KeyUpdate */
#define UPDATES_IN_ROW_MAX 32

/* What of a record is sealed beside its plain bytes: type and tag. */
#define INNER_EXTRA_BYTES (TLS_RECORD_EXTRA_BYTES - TLS_RECORD_HEADER_BYTES)

/* --- keys --------------------------------------------------------------------- */

/* The key and the nonce's base of a secret (RFC 8446 section 7.3). */
static int half_derive(struct tls_half *half)
{
	uint16_t suite = half->key.suite;
	int rc;

	memset(half->key.bytes, 0, sizeof(half->key.bytes));
	rc = tls_expand_label(suite, half->secret, "key", half->key.bytes,
		tls_suite_key_bytes(suite));
	if (rc == 0)
		rc = tls_expand_label(
			suite, half->secret, "iv", half->iv, sizeof(half->iv));
	return rc;
}

static int half_init(
	struct tls_half *half, uint16_t suite, const uint8_t *secret)
{
	*half = (struct tls_half){.key.suite = suite};
	memcpy(half->secret, secret, tls_suite_secret_bytes(suite));
	return half_derive(half);
}

/* The next secret of the direction (7.2). */
static int half_update(struct tls_half *half)
{
	size_t length = tls_suite_secret_bytes(half->key.suite);
	int rc = tls_expand_label(half->key.suite, half->secret, "traffic upd",
		half->secret, length);

	if (rc)
		return rc;
	half->sequence = 0;
	return half_derive(half);
}

int tls_record_init(struct tls_record *r, uint16_t suite, const uint8_t *in,
	const uint8_t *out)
{
	int rc;

	if (tls_suite_key_bytes(suite) == 0)
		return -EINVAL;
	*r = (struct tls_record){.count_max = TLS_RECORD_COUNT_MAX};
	rc = half_init(&r->in, suite, in);
	if (rc == 0)
		rc = half_init(&r->out, suite, out);
	if (rc)
		tls_record_wipe(r);
	return rc;
}

void tls_record_wipe(struct tls_record *r)
{
	OPENSSL_cleanse(r, sizeof(*r));
}

/* Each record has its own nonce (5.3). */
static void make_nonce(const struct tls_half *half, uint8_t *nonce)
{
	memcpy(nonce, half->iv, TLS_NONCE_BYTES);
	for (int i = 0; i < 8; i++)
		nonce[4 + i] ^= (uint8_t)(half->sequence >> (56 - 8 * i));
}

/* --- what comes --------------------------------------------------------------- */

static enum tls_record_result fail(struct tls_opened *out, enum tls_alert alert)
{
	out->alert = alert;
	return TLS_RECORD_FAILED;
}

/* A KeyUpdate that is complete; `request` is its one byte. */
static enum tls_record_result take_key_update(
	struct tls_record *r, uint8_t request, struct tls_opened *out)
{
	if (request > 1)
		return fail(out, TLS_ALERT_ILLEGAL_PARAMETER);
	if (++r->updates_in_row > UPDATES_IN_ROW_MAX)
		return fail(out, TLS_ALERT_UNEXPECTED_MESSAGE);
	r->message_length = 0;
	r->update_asked = false;
	if (request)
		r->update_owed = true;
	if (half_update(&r->in))
		return fail(out, TLS_ALERT_INTERNAL_ERROR);
	return TLS_RECORD_DATA;
}

/* Only a KeyUpdate may come; its last byte is the last of its record (5.1). */
static enum tls_record_result take_handshake(struct tls_record *r,
	const uint8_t *bytes, size_t length, struct tls_opened *out)
{
	static const uint8_t wanted[MESSAGE_BYTES - 1] = {
		MESSAGE_KEY_UPDATE, 0, 0, 1};

	if (length == 0)
		return fail(out, TLS_ALERT_UNEXPECTED_MESSAGE);
	for (size_t i = 0; i < length; i++) {
		uint8_t at = r->message_length;

		if (at == sizeof(wanted))
			return i + 1 == length
				       ? take_key_update(r, bytes[i], out)
				       : fail(out,
						 TLS_ALERT_UNEXPECTED_MESSAGE);
		if (bytes[i] != wanted[at])
			return fail(out, at == 0 ? TLS_ALERT_UNEXPECTED_MESSAGE
						 : TLS_ALERT_DECODE_ERROR);
		r->message_length++;
	}
	return TLS_RECORD_DATA;
}

static enum tls_record_result take_alert(
	const uint8_t *bytes, size_t length, struct tls_opened *out)
{
	if (length != 2)
		return fail(out, TLS_ALERT_DECODE_ERROR);
	if (bytes[1] == TLS_ALERT_CLOSE_NOTIFY)
		return TLS_RECORD_CLOSED;
	if (bytes[1] == TLS_ALERT_USER_CANCELED)
		return TLS_RECORD_DATA;
	return fail(out, TLS_ALERT_NONE);
}

/* `length` bytes of one content type, without padding. */
static enum tls_record_result take_content(struct tls_record *r, uint8_t type,
	const uint8_t *bytes, size_t length, struct tls_opened *out)
{
	if (length > TLS_RECORD_BYTES_MAX)
		return fail(out, TLS_ALERT_RECORD_OVERFLOW);
	/* Nothing may come between the pieces of a message. */
	if (r->message_length > 0 && type != CONTENT_HANDSHAKE)
		return fail(out, TLS_ALERT_UNEXPECTED_MESSAGE);
	switch (type) {
	case CONTENT_DATA:
		if (length > 0)
			r->updates_in_row = 0;
		out->length = length;
		return TLS_RECORD_DATA;
	case CONTENT_HANDSHAKE:
		return take_handshake(r, bytes, length, out);
	case CONTENT_ALERT:
		return take_alert(bytes, length, out);
	default:
		return fail(out, TLS_ALERT_UNEXPECTED_MESSAGE);
	}
}

/* The type is the last byte that is not 0 (5.4). */
static enum tls_record_result take_inner(struct tls_record *r,
	const uint8_t *bytes, size_t length, struct tls_opened *out)
{
	if (length > TLS_RECORD_BYTES_MAX + 1)
		return fail(out, TLS_ALERT_RECORD_OVERFLOW);
	while (length > 0 && bytes[length - 1] == 0)
		length--;
	if (length == 0)
		return fail(out, TLS_ALERT_UNEXPECTED_MESSAGE);
	return take_content(r, bytes[length - 1], bytes, length - 1, out);
}

enum tls_record_result tls_record_open(struct tls_record *r, struct tls_aead *a,
	const uint8_t *from, size_t length, uint8_t *to, struct tls_opened *out)
{
	struct tls_text text = {
		.header = from, .header_length = TLS_RECORD_HEADER_BYTES};
	size_t sealed;
	int rc;

	*out = (struct tls_opened){.alert = TLS_ALERT_NONE};
	if (length < TLS_RECORD_HEADER_BYTES) {
		out->need = TLS_RECORD_HEADER_BYTES;
		return TLS_RECORD_MORE;
	}
	sealed = (size_t)from[3] << 8 | from[4];
	if (from[0] != CONTENT_DATA)
		return fail(out, TLS_ALERT_UNEXPECTED_MESSAGE);
	if (TLS_RECORD_HEADER_BYTES + sealed > TLS_RECORD_SEALED_BYTES_MAX)
		return fail(out, TLS_ALERT_RECORD_OVERFLOW);
	if (sealed < TLS_TAG_BYTES || r->in.sequence == UINT64_MAX)
		return fail(out, TLS_ALERT_BAD_RECORD_MAC);
	if (length < TLS_RECORD_HEADER_BYTES + sealed) {
		out->need = TLS_RECORD_HEADER_BYTES + sealed;
		return TLS_RECORD_MORE;
	}
	make_nonce(&r->in, text.nonce);
	text.from = from + TLS_RECORD_HEADER_BYTES;
	text.length = sealed - TLS_TAG_BYTES;
	rc = tls_aead_open(a, &r->in.key, &text, to);
	if (rc)
		return fail(out, rc == -EBADMSG ? TLS_ALERT_BAD_RECORD_MAC
						: TLS_ALERT_INTERNAL_ERROR);
	r->in.sequence++;
	out->taken = TLS_RECORD_HEADER_BYTES + sealed;
	return take_inner(r, to, text.length, out);
}

void tls_record_undo(struct tls_record *r)
{
	assert(r->in.sequence > 0);
	r->in.sequence--;
}

/* --- what goes ---------------------------------------------------------------- */

static int seal(struct tls_record *r, struct tls_aead *a, uint32_t place,
	uint8_t type, uint8_t *to, size_t length)
{
	size_t sealed = length + INNER_EXTRA_BYTES;
	uint8_t *inner = to + TLS_RECORD_HEADER_BYTES;
	struct tls_text text = {.header = to,
		.header_length = TLS_RECORD_HEADER_BYTES,
		.from = inner,
		.length = length + 1};
	int rc;

	assert(length <= TLS_RECORD_BYTES_MAX && r->out.sequence < UINT64_MAX);
	to[0] = CONTENT_DATA;
	to[1] = 3;
	to[2] = 3;
	to[3] = (uint8_t)(sealed >> 8);
	to[4] = (uint8_t)sealed;
	inner[length] = type;
	make_nonce(&r->out, text.nonce);
	rc = tls_aead_seal(a, place, &r->out.key, &text, inner);
	if (rc == 0)
		r->out.sequence++;
	return rc;
}

int tls_record_seal(struct tls_record *r, struct tls_aead *a, uint32_t place,
	uint8_t *to, size_t length)
{
	return seal(r, a, place, CONTENT_DATA, to, length);
}

static bool asks(const struct tls_record *r)
{
	return r->in.sequence >= r->count_max && !r->update_asked;
}

bool tls_record_update_due(const struct tls_record *r)
{
	return r->update_owed || r->out.sequence >= r->count_max || asks(r);
}

int tls_record_seal_key_update(
	struct tls_record *r, struct tls_aead *a, uint32_t place, uint8_t *to)
{
	bool ask = asks(r);
	const uint8_t message[MESSAGE_BYTES] = {
		MESSAGE_KEY_UPDATE, 0, 0, 1, ask};
	int rc;

	memcpy(to + TLS_RECORD_HEADER_BYTES, message, sizeof(message));
	rc = seal(r, a, place, CONTENT_HANDSHAKE, to, sizeof(message));
	if (rc)
		return rc;
	r->update_owed = false;
	r->update_asked |= ask;
	return half_update(&r->out);
}

int tls_record_seal_alert(struct tls_record *r, struct tls_aead *a,
	uint32_t place, enum tls_alert alert, uint8_t *to)
{
	bool warning = alert == TLS_ALERT_CLOSE_NOTIFY ||
		       alert == TLS_ALERT_USER_CANCELED;

	assert(alert != TLS_ALERT_NONE);
	to[TLS_RECORD_HEADER_BYTES] = warning ? 1 : 2;
	to[TLS_RECORD_HEADER_BYTES + 1] = (uint8_t)alert;
	return seal(r, a, place, CONTENT_ALERT, to, 2);
}

/* --- elsewhere ---------------------------------------------------------------- */

/*
 * "HTR", version, suite (2), pieces of a message (1), updates in a row (1),
 * owed (1), asked (1), 6 of zero, count_max (8); then in and out: sequence
 * (8), secret (48). Little-endian.
 */
static const uint8_t mark[4] = {'H', 'T', 'R', 1};

static void put64(uint8_t *to, uint64_t value)
{
	for (int i = 0; i < 8; i++)
		to[i] = (uint8_t)(value >> (8 * i));
}

static uint64_t get64(const uint8_t *from)
{
	uint64_t value = 0;

	for (int i = 0; i < 8; i++)
		value |= (uint64_t)from[i] << (8 * i);
	return value;
}

static void export_half(const struct tls_half *half, uint8_t *to)
{
	put64(to, half->sequence);
	memcpy(to + 8, half->secret, sizeof(half->secret));
}

void tls_record_export(
	const struct tls_record *r, uint8_t out[TLS_RECORD_EXPORT_BYTES])
{
	memset(out, 0, TLS_RECORD_EXPORT_BYTES);
	memcpy(out, mark, sizeof(mark));
	out[4] = (uint8_t)r->in.key.suite;
	out[5] = (uint8_t)(r->in.key.suite >> 8);
	out[6] = r->message_length;
	out[7] = r->updates_in_row;
	out[8] = r->update_owed;
	out[9] = r->update_asked;
	put64(out + 16, r->count_max);
	export_half(&r->in, out + 24);
	export_half(&r->out, out + 80);
}

int tls_record_import(
	const uint8_t in[TLS_RECORD_EXPORT_BYTES], struct tls_record *r)
{
	static const uint8_t zero[6];
	uint16_t suite = (uint16_t)(in[4] | in[5] << 8);
	int rc;

	if (memcmp(in, mark, sizeof(mark)) != 0 || in[6] >= MESSAGE_BYTES ||
		in[7] > UPDATES_IN_ROW_MAX || in[8] > 1 || in[9] > 1 ||
		memcmp(in + 10, zero, sizeof(zero)) != 0 ||
		get64(in + 16) == 0 || get64(in + 24) == UINT64_MAX ||
		get64(in + 80) == UINT64_MAX)
		return -EINVAL;
	rc = tls_record_init(r, suite, in + 32, in + 88);
	if (rc)
		return rc;
	r->message_length = in[6];
	r->updates_in_row = in[7];
	r->update_owed = in[8];
	r->update_asked = in[9];
	r->count_max = get64(in + 16);
	r->in.sequence = get64(in + 24);
	r->out.sequence = get64(in + 80);
	return 0;
}
