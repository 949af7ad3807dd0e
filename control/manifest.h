/* manifest.h - what an adapter's files are, in signed words (text -> list) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Form:  heddle-manifest.json is {"heddle-manifest": 1, "name": NAME, "key": K,
 *        "files": [{"name": N, "size": BYTES, "sha256": HEX}, ...]}. It lists
 *        every file of the directory but itself and heddle-manifest.sig.
 *        NAME (may be absent) is the only name under which the adapter may be
 *        loaded; K (may be absent) is the public key in hexadecimal digits,
 *        so that a refusal can say whose key is not known. Nothing else may
 *        be in it: an older program must not overlook what a newer one says.
 * Invariants: after a successful parse files are sorted by name, no name is
 *        there twice, holds a slash or is "." or "..", and there is at least
 *        one.
 * Ownership: the struct owns its array until release.
 * Threads: immutable after parse.
 * Limits: MANIFEST_BYTES_MAX, MANIFEST_FILE_COUNT_MAX.
 */
#ifndef HEDDLE_CONTROL_MANIFEST_H
#define HEDDLE_CONTROL_MANIFEST_H

#include <stddef.h>
#include <stdint.h>

#include "base/adapters.h"
#include "base/error.h"
#include "engine/files.h"

#define MANIFEST_NAME "heddle-manifest.json"
#define MANIFEST_SIGNATURE_NAME "heddle-manifest.sig"
#define MANIFEST_BYTES_MAX ((uint64_t)1 << 20)
#define MANIFEST_FILE_COUNT_MAX 4096u
#define MANIFEST_KEY_BYTES 32 /* of an ed25519 public key */

struct manifest_file {
	char name[256];
	uint64_t size_bytes;
	uint8_t hash[FILE_HASH_BYTES]; /* SHA-256 */
};

struct manifest {
	char name[ADAPTER_NAME_BYTES]; /* "" = any */
	bool has_key;
	uint8_t key[MANIFEST_KEY_BYTES];
	struct manifest_file *files; /* [count], owned */
	uint32_t count;
};

/* -EINVAL with the place, which does not name the file; -ENOMEM. */
int manifest_parse(const char *text, size_t length, struct manifest *out,
	struct error *err);

/* A zeroed struct is allowed. */
void manifest_release(struct manifest *manifest);

/* NULL: it is not listed. */
const struct manifest_file *manifest_find(
	const struct manifest *manifest, const char *name);

/* One more file, which is checked as by parse; files stay sorted. */
int manifest_add(struct manifest *manifest, const struct manifest_file *file,
	struct error *err);

/* The text, malloc()ed; -EINVAL: a name is no UTF-8; -ENOMEM. */
int manifest_format(const struct manifest *manifest, char **out,
	size_t *out_length, struct error *err);

/* Twice as many digits as bytes, and a NUL. */
void manifest_hex(const uint8_t *bytes, size_t count, char *out);

#endif
