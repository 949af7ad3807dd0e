/* keys.h - API keys, hashed (file -> struct front_key) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Why:   a file that somebody reads must not hand out keys, so it holds
 *        SHA-256 hashes. Keys are long and random; a hash that is slow on
 *        purpose would protect nothing more and cost each request.
 * Form:  a line is 64 hex digits, spaces, a tenant's name. Empty lines and
 *        lines that begin with # are skipped.
 * Threads: pure functions.
 */
#ifndef HEDDLE_CONTROL_KEYS_H
#define HEDDLE_CONTROL_KEYS_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "dataplane/front.h"

#define KEYS_FILE_BYTES_MAX 65536

/*
 * Parse a file's text; name stands in errors: "name:LINE: ...". -EINVAL: a
 * line is no key, a key stands there twice, there are more than
 * FRONT_KEY_COUNT_MAX or none. Fills keys and *out_count only on success.
 */
int keys_parse(const char *text, size_t length, const char *name,
	struct front_key keys[FRONT_KEY_COUNT_MAX], uint32_t *out_count,
	struct error *err);

/* The same of the file at a path. */
int keys_load(const char *path, struct front_key keys[FRONT_KEY_COUNT_MAX],
	uint32_t *out_count, struct error *err);

#define KEYS_LINE_BYTES 160

/* The line for a key. -EINVAL: the key is empty or the tenant no name. */
int keys_line(const char *key, size_t length, const char *tenant,
	char out[KEYS_LINE_BYTES], struct error *err);

#endif
