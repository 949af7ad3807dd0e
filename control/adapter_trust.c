/* adapter_trust.c - only adapters that somebody vouched for (DIR -> files) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "control/adapter_trust.h"
#include "control/manifest.h"
#include "control/manifest_keys.h"
#include "control/model_dir.h"

#define FRESH ".new"

/* What is at hand while a directory is judged. */
struct judge {
	const struct adapter_trust *trust;
	const char *name; /* NULL = any */
	const char *path;
	int dir;
	struct manifest manifest;
	struct error *err;
};

/* --- small files ------------------------------------------------------------------------ */

static int refuse(
	const struct judge *j, const char *file, int code, const char *why)
{
	return error_set(j->err, code, "%.256s/%.256s: %s", j->path, file, why);
}

/* A name without a slash, and no link. */
static int open_plain(
	const struct judge *j, const char *name, struct model_file *out)
{
	struct stat st;

	*out = (struct model_file){.fd = openat(j->dir, name,
					   O_RDONLY | O_NOFOLLOW | O_NONBLOCK |
						   O_NOCTTY | O_CLOEXEC)};
	snprintf(out->name, sizeof(out->name), "%s", name);
	if (out->fd < 0)
		return refuse(j, name, errno == ELOOP ? EINVAL : errno,
			errno == ELOOP ? "is a link" : strerror(errno));
	if (fstat(out->fd, &st) == 0 && S_ISREG(st.st_mode)) {
		out->size_bytes = (uint64_t)st.st_size;
		return 0;
	}
	close(out->fd);
	out->fd = -1;
	return refuse(j, name, EINVAL, "is not a regular file");
}

/* Of the two files that make an adapter a signed one. */
static int not_signed(const struct judge *j, const char *name)
{
	error_clear(j->err);
	return error_set(j->err, EPERM, "is not signed: %.256s/%s: %s", j->path,
		name, strerror(ENOENT));
}

/* All of one of them, read once; to be freed. */
static int read_small(const struct judge *j, const char *name,
	uint64_t most_bytes, char **out, size_t *out_length)
{
	struct model_file file;
	int rc = open_plain(j, name, &file);

	if (rc)
		return rc == -ENOENT ? not_signed(j, name) : rc;
	if (file.size_bytes > most_bytes)
		rc = error_set(j->err, EFBIG,
			"%.256s/%s: %llu bytes, at most %llu", j->path, name,
			(unsigned long long)file.size_bytes,
			(unsigned long long)most_bytes);
	else
		rc = model_file_text(&file, out, out_length, j->err);
	close(file.fd);
	return rc;
}

/* --- who signed it ------------------------------------------------------------------------ */

/*
 * Nothing of the manifest is believed. Only to say why it is not, the key is
 * looked at that it claims to be signed with.
 */
static int refuse_signature(const struct judge *j,
	const struct manifest_keys *keys, const char *text, size_t length)
{
	char key[2 * MANIFEST_KEY_BYTES + 1] = "";
	struct manifest claims;
	bool known = true;

	if (manifest_parse(text, length, &claims, NULL) == 0) {
		known = !claims.has_key || manifest_keys_hold(keys, claims.key);
		manifest_hex(claims.key, sizeof(claims.key), key);
		manifest_release(&claims);
	}
	if (!known)
		return error_set(j->err, EBADMSG,
			"%.256s/" MANIFEST_NAME
			": is signed with key %s, which %.128s does not hold",
			j->path, key, j->trust->keys);
	return error_set(j->err, EBADMSG,
		"%.256s/" MANIFEST_SIGNATURE_NAME
		": bad signature: it is of other bytes than those "
		"of " MANIFEST_NAME ", or by none of the keys of %.128s",
		j->path, j->trust->keys);
}

static int check_signature(
	const struct judge *j, const char *text, size_t length)
{
	uint8_t signature[MANIFEST_SIGNATURE_BYTES];
	struct manifest_keys keys;
	char *bytes = NULL;
	size_t size = 0;
	int rc = manifest_keys_read(j->trust->keys, &keys, j->err);

	if (rc)
		return error_prefix(j->err, "adapter keys");
	rc = read_small(j, MANIFEST_SIGNATURE_NAME,
		MANIFEST_SIGNATURE_FILE_BYTES_MAX, &bytes, &size);
	if (rc)
		return rc;
	rc = manifest_signature_parse(
		(const uint8_t *)bytes, size, signature, j->err);
	free(bytes);
	if (rc)
		return error_prefix(
			j->err, "%.256s/" MANIFEST_SIGNATURE_NAME, j->path);
	rc = manifest_keys_verify(&keys, text, length, signature);
	if (rc == -EBADMSG)
		return refuse_signature(j, &keys, text, length);
	return rc ? error_set(j->err, -rc, "no memory to check a signature")
		  : 0;
}

static int read_manifest(struct judge *j)
{
	char *text = NULL;
	size_t length = 0;
	int rc = read_small(
		j, MANIFEST_NAME, MANIFEST_BYTES_MAX, &text, &length);

	if (rc)
		return rc;
	rc = check_signature(j, text, length);
	if (rc == 0 &&
		(rc = manifest_parse(text, length, &j->manifest, j->err)))
		error_prefix(j->err, "%.256s/" MANIFEST_NAME, j->path);
	free(text);
	if (rc == 0 && j->name && j->manifest.name[0] &&
		strcmp(j->manifest.name, j->name) != 0)
		rc = error_set(j->err, EINVAL,
			"%.256s/" MANIFEST_NAME
			": is of an adapter that is called \"%s\"",
			j->path, j->manifest.name);
	return rc;
}

/* --- what the directory holds ---------------------------------------------------------------- */

/* Call for each name but the manifest's own; ends with the first error. */
static int each_name(
	struct judge *j, int (*take)(struct judge *j, const char *name))
{
	int fd = openat(j->dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *list = fd < 0 ? NULL : fdopendir(fd);
	const struct dirent *entry;
	int rc = 0;

	if (!list) {
		rc = refuse(j, ".", errno, strerror(errno));
		if (fd >= 0)
			close(fd);
		return rc;
	}
	while (rc == 0 && (errno = 0, entry = readdir(list)) != NULL) {
		const char *name = entry->d_name;

		if (strcmp(name, ".") != 0 && strcmp(name, "..") != 0 &&
			strcmp(name, MANIFEST_NAME) != 0 &&
			strcmp(name, MANIFEST_SIGNATURE_NAME) != 0)
			rc = take(j, name);
	}
	if (rc == 0 && errno)
		rc = refuse(j, ".", errno, strerror(errno));
	closedir(list);
	return rc;
}

static int check_listed(struct judge *j, const char *name)
{
	return manifest_find(&j->manifest, name)
		       ? 0
		       : refuse(j, name, EINVAL, "is not in " MANIFEST_NAME);
}

static int check_size(const struct judge *j, const struct manifest_file *file,
	uint64_t size_bytes)
{
	if (file->size_bytes == size_bytes)
		return 0;
	return error_set(j->err, EINVAL,
		"%.256s/%.128s: has %llu bytes, " MANIFEST_NAME " says %llu",
		j->path, file->name, (unsigned long long)size_bytes,
		(unsigned long long)file->size_bytes);
}

/* Is it there as the manifest says? */
static int check_there(
	const struct judge *j, const struct manifest_file *listed)
{
	struct model_file file;
	struct stat st;
	int rc;

	if (fstatat(j->dir, listed->name, &st, AT_SYMLINK_NOFOLLOW))
		return refuse(j, listed->name, errno == ENOENT ? EINVAL : errno,
			errno == ENOENT ? "is in " MANIFEST_NAME ", but not "
					  "there"
					: strerror(errno));
	if (!S_ISREG(st.st_mode))
		return refuse(j, listed->name, EINVAL,
			S_ISLNK(st.st_mode) ? "is a link"
					    : "is not a regular file");
	rc = check_size(j, listed, (uint64_t)st.st_size);
	if (rc || !j->trust->every_byte)
		return rc;
	rc = open_plain(j, listed->name, &file);
	if (rc)
		return rc;
	file.has_hash = true;
	memcpy(file.hash, listed->hash, sizeof(file.hash));
	rc = model_file_prove(&file, NULL, j->err);
	if (rc)
		error_prefix(j->err, "%.256s", j->path);
	close(file.fd);
	return rc;
}

/* The open file is the one that was signed, or nobody will read it. */
static int bind_file(const struct judge *j, struct model_file *file)
{
	const struct manifest_file *listed;
	int rc;

	if (file->fd < 0)
		return 0;
	listed = manifest_find(&j->manifest, file->name);
	if (!listed)
		return refuse(
			j, file->name, EINVAL, "is not in " MANIFEST_NAME);
	rc = check_size(j, listed, file->size_bytes);
	file->has_hash = true;
	memcpy(file->hash, listed->hash, sizeof(file->hash));
	return rc;
}

static int bind_files(const struct judge *j, struct adapter_files *files)
{
	int rc = bind_file(j, &files->experts);

	if (rc == 0)
		rc = bind_file(j, &files->model.config);
	for (uint32_t i = 0; rc == 0 && i < files->model.weight_count; i++)
		rc = bind_file(j, &files->model.weights[i]);
	return rc;
}

static int check(void *arg, int dir, const char *path,
	struct adapter_files *files, struct error *err)
{
	struct judge *j = arg;
	int rc;

	j->dir = dir;
	j->path = path;
	j->err = err;
	rc = read_manifest(j);
	if (rc == 0)
		rc = each_name(j, check_listed);
	for (uint32_t i = 0; rc == 0 && i < j->manifest.count; i++)
		rc = check_there(j, &j->manifest.files[i]);
	if (rc == 0)
		rc = bind_files(j, files);
	manifest_release(&j->manifest);
	return rc;
}

int adapter_trust_open(const struct adapter_trust *trust, const char *name,
	const char *path, struct adapter_files *out, struct error *err)
{
	struct judge j = {.trust = trust, .name = name};
	const struct adapter_dir_rule rule = {check, &j};

	if (trust->keys[0])
		return adapter_dir_open_ruled(
			trust->root, path, &rule, out, err);
	return trust->root
		       ? adapter_dir_open_beneath(trust->root, path, out, err)
		       : adapter_dir_open(path, out, err);
}

/* --- signing ------------------------------------------------------------------------------------ */

static int add_file(struct judge *j, const char *name)
{
	struct manifest_file listed = {0};
	struct model_file file;
	int rc = open_plain(j, name, &file);

	if (rc)
		return rc;
	assert(strlen(name) < sizeof(listed.name));
	memcpy(listed.name, name, strlen(name) + 1);
	listed.size_bytes = file.size_bytes;
	rc = model_file_hash(&file, NULL, listed.hash, j->err);
	if (rc == 0)
		rc = manifest_add(&j->manifest, &listed, j->err);
	close(file.fd);
	return rc;
}

/* Under another name first: never half of it. */
static int write_fresh(const struct judge *j, const char *fresh,
	const void *bytes, size_t length)
{
	int fd = openat(j->dir, fresh,
		O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644);
	int rc = 0;

	if (fd < 0)
		return refuse(j, fresh, errno, strerror(errno));
	errno = ENOSPC;
	if (write(fd, bytes, length) != (ssize_t)length || fsync(fd))
		rc = refuse(j, fresh, errno, strerror(errno));
	close(fd);
	if (rc)
		unlinkat(j->dir, fresh, 0);
	return rc;
}

/* Both are there before either takes its name. */
static int write_both(const struct judge *j, const char *text, size_t length,
	const uint8_t signature[MANIFEST_SIGNATURE_BYTES])
{
	int rc = write_fresh(j, MANIFEST_NAME FRESH, text, length);

	if (rc)
		return rc;
	rc = write_fresh(j, MANIFEST_SIGNATURE_NAME FRESH, signature,
		MANIFEST_SIGNATURE_BYTES);
	if (rc) {
		unlinkat(j->dir, MANIFEST_NAME FRESH, 0);
		return rc;
	}
	if (renameat(j->dir, MANIFEST_NAME FRESH, j->dir, MANIFEST_NAME) ||
		renameat(j->dir, MANIFEST_SIGNATURE_NAME FRESH, j->dir,
			MANIFEST_SIGNATURE_NAME))
		rc = refuse(j, MANIFEST_NAME, errno, strerror(errno));
	return rc;
}

struct signing {
	struct judge judge;
	struct manifest_signer signer;
};

static int write_signed(struct signing *signing)
{
	struct judge *j = &signing->judge;
	uint8_t signature[MANIFEST_SIGNATURE_BYTES];
	char *text = NULL;
	size_t length = 0;
	int rc = manifest_format(&j->manifest, &text, &length, j->err);

	if (rc == 0 && length > MANIFEST_BYTES_MAX)
		rc = error_set(j->err, EINVAL,
			"%.256s: has too many files for a manifest", j->path);
	if (rc == 0)
		rc = manifest_sign(
			&signing->signer, text, length, signature, j->err);
	if (rc == 0)
		rc = write_both(j, text, length, signature);
	free(text);
	return rc;
}

static int sign(void *arg, int dir, const char *path,
	struct adapter_files *files, struct error *err)
{
	struct signing *signing = arg;
	struct judge *j = &signing->judge;
	int rc;

	(void)files;
	j->dir = dir;
	j->path = path;
	j->err = err;
	if (j->name)
		snprintf(j->manifest.name, sizeof(j->manifest.name), "%s",
			j->name);
	j->manifest.has_key = true;
	memcpy(j->manifest.key, signing->signer.public_key,
		sizeof(j->manifest.key));
	rc = each_name(j, add_file);
	if (rc == 0)
		rc = write_signed(signing);
	manifest_release(&j->manifest);
	return rc;
}

int adapter_trust_sign(const char *private_key, const char *name,
	const char *path, struct error *err)
{
	struct signing signing = {.judge = {.name = name}};
	const struct adapter_dir_rule rule = {sign, &signing};
	struct adapter_files files;
	int rc;

	if (name && !adapter_name_ok(name, strlen(name)))
		return error_set(err, EINVAL,
			"\"%.64s\" is no name of an adapter", name);
	rc = manifest_signer_open(private_key, &signing.signer, err);
	if (rc)
		return rc;
	rc = adapter_dir_open_ruled(NULL, path, &rule, &files, err);
	if (rc == 0)
		adapter_files_close(&files);
	manifest_signer_close(&signing.signer);
	return rc;
}
