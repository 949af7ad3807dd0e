/* tls_record.h - the record layer of TLS 1.3, as plain data (bytes <-> records) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What:    RFC 8446 section 5 for a server, from the end of the handshake on:
 *          records sealed and opened, sequence numbers, KeyUpdate both ways
 *          (4.6.3, 7.2), alerts (6). The handshake is OpenSSL's
 *          (tls_handshake.h), with its tickets and its alerts.
 * Why:     a connection that has no pointers can be copied, kept in a table,
 *          moved to another thread or process between any two calls, and costs
 *          an idle client 250 bytes rather than what an SSL holds.
 * Rules:   - Sent: records of application data up to 2^14 bytes, unpadded; a
 *            KeyUpdate when one is owed, or when TLS_RECORD_COUNT_MAX records
 *            were sealed with a key (5.5: 2^24.5 for AES-GCM; one bound for
 *            all three suites). One that is owed goes before the next data,
 *            and answers all that were asked for.
 *          - A peer that has sealed as many is asked for a KeyUpdate.
 *          - Taken: padding, records without data, user_canceled (passed
 *            over), KeyUpdate (also in pieces; at most 32 in a row without a
 *            byte of data between them). Nothing else of a handshake: a
 *            client has no other message after it that was not asked for.
 *          - change_cipher_spec and all that is not sealed is refused: it is
 *            for the time before the Finished (5).
 *          - After close_notify what comes is not looked at.
 *          - The version of a record is authenticated, and else ignored.
 * Errors:  what a peer does wrong is told as the alert that it is owed.
 * Ownership: the state is the caller's; tls_record_wipe() when it ends.
 * Threads: none of its own; a state and a struct tls_aead are used by one at
 *          a time.
 */
#ifndef HEDDLE_DATAPLANE_TLS_RECORD_H
#define HEDDLE_DATAPLANE_TLS_RECORD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "dataplane/tls_aead.h"

/* Most plain bytes of a record, and what a record of ours adds to them. */
#define TLS_RECORD_BYTES_MAX 16384
#define TLS_RECORD_EXTRA_BYTES 22
#define TLS_RECORD_HEADER_BYTES 5
/* The largest that may come, with its header. */
#define TLS_RECORD_SEALED_BYTES_MAX (5 + 16384 + 256)
#define TLS_RECORD_ALERT_BYTES (2 + TLS_RECORD_EXTRA_BYTES)
#define TLS_RECORD_KEY_UPDATE_BYTES (5 + TLS_RECORD_EXTRA_BYTES)

#define TLS_RECORD_COUNT_MAX (UINT64_C(1) << 24)
#define TLS_RECORD_EXPORT_BYTES 136

enum tls_alert {
	TLS_ALERT_CLOSE_NOTIFY = 0,
	TLS_ALERT_UNEXPECTED_MESSAGE = 10,
	TLS_ALERT_BAD_RECORD_MAC = 20,
	TLS_ALERT_RECORD_OVERFLOW = 22,
	TLS_ALERT_ILLEGAL_PARAMETER = 47,
	TLS_ALERT_DECODE_ERROR = 50,
	TLS_ALERT_INTERNAL_ERROR = 80,
	TLS_ALERT_USER_CANCELED = 90,
	TLS_ALERT_NONE = 255 /* ours: the peer has said one, none is owed */
};

/* One direction. */
struct tls_half {
	uint64_t sequence; /* of the next record under this key */
	struct tls_key key;
	uint8_t iv[TLS_NONCE_BYTES];
	uint8_t secret[TLS_SECRET_BYTES_MAX]; /* key and iv follow from it */
};

struct tls_record {
	struct tls_half in, out;
	uint64_t count_max; /* records under one key */
	uint8_t message_length; /* what has come of a KeyUpdate, below 5 */
	uint8_t updates_in_row; /* of the peer, without data between */
	bool update_owed; /* the peer has asked for our KeyUpdate */
	bool update_asked; /* we have asked for the peer's */
};

enum tls_record_result {
	TLS_RECORD_MORE, /* not all of the first record is there */
	TLS_RECORD_DATA, /* plain bytes, perhaps none */
	TLS_RECORD_CLOSED, /* close_notify: nothing follows */
	TLS_RECORD_FAILED /* say `alert` and end */
};

struct tls_opened {
	size_t taken; /* bytes of the record, TLS_RECORD_DATA */
	size_t length; /* plain bytes, TLS_RECORD_DATA */
	size_t need; /* bytes with which to try again, TLS_RECORD_MORE */
	enum tls_alert alert; /* TLS_RECORD_FAILED */
};

/*
 * Begin with the secrets of both directions (client_application_traffic_secret
 * and server_application_traffic_secret); sequence numbers are 0. -EINVAL: no
 * such suite; -ENOMEM.
 */
int tls_record_init(struct tls_record *r, uint16_t suite, const uint8_t *in,
	const uint8_t *out);
/* No key is left in it; of the cache see tls_aead_forget(). */
void tls_record_wipe(struct tls_record *r);

/*
 * Open the first record of from[length]; plain bytes to `to`, which has room
 * for TLS_RECORD_SEALED_BYTES_MAX, or is from + TLS_RECORD_HEADER_BYTES.
 */
enum tls_record_result tls_record_open(struct tls_record *r, struct tls_aead *a,
	const uint8_t *from, size_t length, uint8_t *to,
	struct tls_opened *out);
/* The record of data that was opened last was not: it will come again. */
void tls_record_undo(struct tls_record *r);

/* Is a KeyUpdate to be sealed before data? */
bool tls_record_update_due(const struct tls_record *r);

/*
 * Each writes a record into `to` and returns 0 or -ENOMEM: then this direction
 * is not to be used any more. `place` is as in tls_aead.h.
 */

/* The plain bytes are at to + TLS_RECORD_HEADER_BYTES, at most 2^14. */
int tls_record_seal(struct tls_record *r, struct tls_aead *a, uint32_t place,
	uint8_t *to, size_t length);
/* TLS_RECORD_KEY_UPDATE_BYTES; the next record has a new key. */
int tls_record_seal_key_update(
	struct tls_record *r, struct tls_aead *a, uint32_t place, uint8_t *to);
/* TLS_RECORD_ALERT_BYTES; nothing may follow. */
int tls_record_seal_alert(struct tls_record *r, struct tls_aead *a,
	uint32_t place, enum tls_alert alert, uint8_t *to);

/*
 * The state as bytes of a fixed order, with a version; keys are in them. Not
 * between tls_record_open() and tls_record_undo().
 */
void tls_record_export(
	const struct tls_record *r, uint8_t out[TLS_RECORD_EXPORT_BYTES]);
/* -EINVAL: not an export, or of another version; -ENOMEM. */
int tls_record_import(
	const uint8_t in[TLS_RECORD_EXPORT_BYTES], struct tls_record *r);

#endif
