/* stream_tls.h - TLS 1.3 over any byte stream (stream.h <- stream.h) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What:       a stream_loop that stands on another one, whichever back end
 *             that is: streams of listeners with TLS carry plain text above
 *             and records below, the others pass through as they are. Ids are
 *             those of the loop below.
 * Opening:    OPENED comes after the handshake; one that fails or takes
 *             longer than the user timeout (10 s at most) is never seen above.
 * Bytes in:   a record that came whole is opened into one buffer that all
 *             streams share and handed up from there. Only what is not
 *             consumed, and a record that came in part, is held for a stream,
 *             in a buffer of a pool; without one the bytes wait below, and a
 *             stream that has waited as long as for a handshake is reset.
 * Bytes out:  send() puts its segments together, seals them as records of up
 *             to 16 KiB and sends them as one. room() keeps back what a
 *             KeyUpdate and close_notify need.
 * End:        close_notify goes before close(), where there is room. The
 *             peer's is PEER_DONE, and so is an end without one: a request
 *             that was cut short is known by its own length. What is not a
 *             proper record ends the stream as reset, and the peer gets its
 *             alert.
 * Memory:     some 350 bytes per stream, and the pool: a quarter of
 *             total_bytes beside those of the loop below, reserved, not
 *             touched. Ready ciphers as in tls_aead.h, 4,096 of them.
 *             OpenSSL allocates during a handshake.
 * Ownership:  the loop owns the one below once they are joined.
 * Threads:    as stream.h.
 */
#ifndef HEDDLE_DATAPLANE_STREAM_TLS_H
#define HEDDLE_DATAPLANE_STREAM_TLS_H

#include "dataplane/stream.h"

struct stream_tls;

struct stream_tls_config {
	struct stream_identity identity;
	struct stream_limits limits; /* as they are above */
	uint32_t listeners; /* with TLS, as bits of their indices */
	stream_handler *handler;
	void *arg;
};

/*
 * Makes the loop below of `of`, with these limits, stream_tls_event() as its
 * handler and `tls` as its argument.
 */
typedef int stream_tls_maker(const void *of, const struct stream_limits *limits,
	struct stream_tls *tls, struct stream_loop *out, struct error *err);

/*
 * TLS over a loop that `make` makes, in *out. -EINVAL (bad certificate or key,
 * said which), -ENOMEM, or what `make` gives.
 */
int stream_tls_over(const struct stream_tls_config *config,
	stream_tls_maker *make, const void *of, struct stream_loop *out,
	struct error *err);

size_t stream_tls_event(void *arg, const struct stream_event *event);
/* The loop that this one stands on; itself where there is no TLS. */
const struct stream_loop *stream_tls_below(const struct stream_loop *loop);

#endif
