/* dataplane_tls.h - far ends that speak TLS 1.3 (plain <-> records) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What:    an OpenSSL client per far end, between its TCP and its HTTP, by
 *          buffers in memory; and the server's identity, which it does not
 *          look at.
 * Ownership: the struct owns all of its clients.
 * Threads: one.
 */
#ifndef HEDDLE_BENCH_DATAPLANE_TLS_H
#define HEDDLE_BENCH_DATAPLANE_TLS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

struct dataplane_tls;

/* A fresh certificate and its key, PEM in files without a name. -EIO. */
int dataplane_tls_identity(
	int *out_certificate_fd, int *out_key_fd, struct error *err);

/* -ENOMEM with a text. */
int dataplane_tls_create(
	uint32_t count, struct dataplane_tls **out, struct error *err);
/* NULL is allowed. */
void dataplane_tls_destroy(struct dataplane_tls *tls);

/* A new connection of far end i: its first record waits to be taken. */
bool dataplane_tls_begin(struct dataplane_tls *tls, uint32_t i);
/* Records that have come. False: they are none, or not for us. */
bool dataplane_tls_input(
	struct dataplane_tls *tls, uint32_t i, const uint8_t *p, size_t n);
bool dataplane_tls_is_open(const struct dataplane_tls *tls, uint32_t i);
/* Plain text to the server. */
bool dataplane_tls_write(
	struct dataplane_tls *tls, uint32_t i, const char *text, size_t n);
/* The next plain bytes of the server's; 0 = none now. */
size_t dataplane_tls_read(
	struct dataplane_tls *tls, uint32_t i, uint8_t *out, size_t room);
/* What is to be sent; 0 = nothing. */
size_t dataplane_tls_take(
	struct dataplane_tls *tls, uint32_t i, char *out, size_t room);

#endif
