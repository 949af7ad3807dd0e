/* fake_stream.h - byte streams in memory, driven by a test (stream.h's twin) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Why:   what stands above stream.h can be tested to the byte without a
 *        socket: the test opens streams, feeds input in pieces of any size,
 *        reads output, and says how much room there is.
 * Use:   fake_stream_create() has the signature of stream_kernel_create(). A
 *        test drives the loop by calling its poll(), or by what calls it.
 *        There is one fake at a time.
 * Threads: one, beside wake().
 */
#ifndef HEDDLE_TESTS_FAKE_STREAM_H
#define HEDDLE_TESTS_FAKE_STREAM_H

#include "dataplane/stream_kernel.h"

#define FAKE_STREAM_COUNT 64
#define FAKE_STREAM_BYTES ((size_t)4 << 20) /* input and output of one */

int fake_stream_create(const struct stream_kernel_config *config,
	struct stream_loop *out, struct error *err);

/* A client connects; OPENED comes with the next poll. Its number. */
uint32_t fake_stream_open(uint32_t listener);

/* Bytes from the client; delivered with the next poll. */
void fake_stream_input(uint32_t number, const char *bytes, size_t length);

/* The client has shut down its side, or is gone. */
void fake_stream_peer_done(uint32_t number);
void fake_stream_reset(uint32_t number);

/* Bytes that the stream takes from now on; SIZE_MAX = any number. */
void fake_stream_room(uint32_t number, size_t bytes);

/* What was sent so far, with a NUL behind it. */
const char *fake_stream_output(uint32_t number, size_t *length);
void fake_stream_clear(uint32_t number);

/* close() or abort() was called, or the client reset it; CLOSED is out. */
bool fake_stream_is_closed(uint32_t number);
bool fake_stream_was_aborted(uint32_t number);

/* Input that the handler has not consumed. */
size_t fake_stream_unread(uint32_t number);

/* Calls of send() that were given to the stream, and of wake(). */
uint64_t fake_stream_sends(void);
bool fake_stream_is_draining(void);

#endif
