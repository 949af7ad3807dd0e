/* adapter_trust.h - only adapters that somebody vouched for (DIR -> files) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Why:   whoever can write where adapters lie decides what clients are told.
 *        With keys configured, an adapter is used only if one of them signed
 *        the list of its files (manifest.h).
 * Rule:  1. the bytes of heddle-manifest.json are read once; the signature is
 *        over them, and they are parsed only after it holds. 2. The directory
 *        holds what the manifest lists and nothing else: regular files of the
 *        sizes that it says, no links, no directories. 3. The descriptors
 *        that are handed on carry the hashes of the manifest. From here on
 *        nobody opens a path again, so what is renamed into the directory is
 *        not looked at; and whoever reads a descriptor that carries a hash
 *        uses only bytes in its own memory that were hashed (files.h), so
 *        what is written into a file while it is being loaded is refused, or
 *        was not read. Files that no loader reads (tokenizer.json, ...) are
 *        checked for name and size alone, unless `every_byte` is set.
 * Keys:  are read for each adapter: one that was taken away counts at once.
 * Threads: one.
 */
#ifndef HEDDLE_CONTROL_ADAPTER_TRUST_H
#define HEDDLE_CONTROL_ADAPTER_TRUST_H

#include <stdbool.h>

#include "base/error.h"
#include "engine/files.h"

struct adapter_trust {
	const char *keys; /* file or directory; "" = nothing is checked */
	const char *root; /* beneath which the path has to be; NULL: anywhere */
	bool every_byte; /* hash every file now */
};

/*
 * As adapter_dir_open(), of an adapter that is to be called `name` (NULL:
 * whatever its manifest says). -EPERM: it is not signed; -EINVAL: it is
 * bad, or the directory is not what it says; -EBADMSG: signature or hash;
 * each says which file and why. On error nothing is open.
 */
int adapter_trust_open(const struct adapter_trust *trust, const char *name,
	const char *path, struct adapter_files *out, struct error *err);

/*
 * Write manifest and signature into the adapter's directory, in place of those
 * that are there. name: see manifest.h, NULL = any.
 */
int adapter_trust_sign(const char *private_key, const char *name,
	const char *path, struct error *err);

#endif
