/* model_dir.c - open the files of a model's directory (path -> descriptors) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "control/model_dir.h"

#define WEIGHT_SUFFIX ".safetensors"
/* Where a snapshot of a Hugging Face cache links to, and nowhere else. */
#define BLOBS_DIR "../../blobs"
#define SNAPSHOTS_DIR "../../snapshots"

struct folder {
	int fd;
	const char *path; /* as the operator wrote it */
	struct error *err;
	const struct adapter_dir_rule *rule; /* NULL = links are followed */
};

/* A descriptor or -errno; glibc has no wrapper for this call. */
static int open_beneath(int dir, const char *name, int flags, uint64_t resolve)
{
	struct open_how how = {
		.flags = (uint64_t)(unsigned)(flags | O_CLOEXEC),
		.resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS | resolve,
	};
	long fd = syscall(SYS_openat2, dir, name, &how, sizeof(how));

	return fd < 0 ? -errno : (int)fd;
}

/* Not a fifo, whose opening would wait for a writer. */
static int open_file(int dir, const char *name, uint64_t resolve)
{
	return open_beneath(
		dir, name, O_RDONLY | O_NONBLOCK | O_NOCTTY, resolve);
}

static bool same_file(const struct stat *a, const struct stat *b)
{
	return a->st_dev == b->st_dev && a->st_ino == b->st_ino;
}

/* models--NAME/snapshots/REVISION: is our parent called snapshots? */
static bool is_snapshot(int dir)
{
	struct stat parent, snapshots;

	return fstatat(dir, "..", &parent, 0) == 0 &&
	       fstatat(dir, SNAPSHOTS_DIR, &snapshots, AT_SYMLINK_NOFOLLOW) ==
		       0 &&
	       same_file(&parent, &snapshots);
}

/* Follow exactly ../../blobs/NAME; -EXDEV for any other link. */
static int open_blob(int dir, const char *name)
{
	const char *blob;
	char target[512];
	ssize_t length = readlinkat(dir, name, target, sizeof(target));
	int blobs, fd;

	if (length < 0 || (size_t)length >= sizeof(target))
		return -EXDEV;
	target[length] = '\0';
	if (strncmp(target, BLOBS_DIR "/", strlen(BLOBS_DIR "/")) != 0)
		return -EXDEV;
	blob = target + strlen(BLOBS_DIR "/");
	if (strchr(blob, '/') || !is_snapshot(dir))
		return -EXDEV;
	blobs = openat(dir, BLOBS_DIR,
		O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (blobs < 0)
		return -errno;
	fd = open_file(blobs, blob, RESOLVE_NO_SYMLINKS);
	close(blobs);
	return fd;
}

static int refuse(const struct folder *folder, const char *name, int code)
{
	const char *reason = strerror(code);

	if (code == EXDEV || code == ELOOP) {
		code = EINVAL;
		reason = folder->rule ? "is a link"
				      : "is a link that leads out of the "
					"directory";
	} else if (code == ENOTDIR) {
		code = EINVAL;
	}
	return error_set(
		folder->err, code, "%s/%s: %s", folder->path, name, reason);
}

/* Takes the descriptor. */
static int adopt(const struct folder *folder, int fd, const char *name,
	struct model_file *out)
{
	struct stat st;

	if (fstat(fd, &st)) {
		int code = errno;

		close(fd);
		return refuse(folder, name, code);
	}
	if (!S_ISREG(st.st_mode)) {
		close(fd);
		return error_set(folder->err, EINVAL,
			"%s/%s: is not a regular file", folder->path, name);
	}
	if (out->name != name)
		snprintf(out->name, sizeof(out->name), "%s", name);
	out->fd = fd;
	out->size_bytes = (uint64_t)st.st_size;
	return 0;
}

static int open_required(
	const struct folder *folder, const char *name, struct model_file *out)
{
	int fd = open_file(
		folder->fd, name, folder->rule ? RESOLVE_NO_SYMLINKS : 0);

	if (fd == -EXDEV && !folder->rule)
		fd = open_blob(folder->fd, name);
	if (fd < 0)
		return refuse(folder, name, -fd);
	return adopt(folder, fd, name, out);
}

/* A link that leads nowhere is an error, not an absent file. */
static int open_optional(
	const struct folder *folder, const char *name, struct model_file *out)
{
	struct stat st;

	if (fstatat(folder->fd, name, &st, AT_SYMLINK_NOFOLLOW) &&
		errno == ENOENT)
		return 0;
	return open_required(folder, name, out);
}

static bool is_weight_name(const char *name)
{
	size_t length = strlen(name), suffix = strlen(WEIGHT_SUFFIX);

	return length > suffix &&
	       !strcmp(name + length - suffix, WEIGHT_SUFFIX);
}

static int add_weight(const struct folder *folder, const char *name,
	struct model_files *files)
{
	struct model_file *grown, *file;

	if (files->weight_count == MODEL_FILE_COUNT_MAX)
		return error_set(folder->err, EINVAL,
			"%s: more than %d weight files", folder->path,
			MODEL_FILE_COUNT_MAX);
	grown = reallocarray(
		files->weights, files->weight_count + 1, sizeof(*grown));
	if (!grown)
		return error_set(folder->err, ENOMEM,
			"%s: no memory for its files", folder->path);
	files->weights = grown;
	file = &grown[files->weight_count++];
	*file = (struct model_file){.fd = -1};
	snprintf(file->name, sizeof(file->name), "%s", name);
	return 0;
}

static int list_weights(
	const struct folder *folder, DIR *list, struct model_files *files)
{
	const struct dirent *entry;
	int rc = 0;

	while (rc == 0) {
		errno = 0;
		entry = readdir(list);
		if (!entry)
			break;
		if (is_weight_name(entry->d_name))
			rc = add_weight(folder, entry->d_name, files);
	}
	if (rc == 0 && errno)
		return error_set(folder->err, errno, "%s: cannot be listed: %s",
			folder->path, strerror(errno));
	return rc;
}

static int compare_file(const void *a, const void *b)
{
	const struct model_file *x = a, *y = b;

	return strcmp(x->name, y->name);
}

static int open_weights(const struct folder *folder, struct model_files *files)
{
	int fd = open_beneath(folder->fd, ".", O_RDONLY | O_DIRECTORY, 0);
	DIR *list = fd < 0 ? NULL : fdopendir(fd);
	int rc;

	if (!list) {
		int code = fd < 0 ? -fd : errno;

		if (fd >= 0)
			close(fd);
		return refuse(folder, ".", code);
	}
	rc = list_weights(folder, list, files);
	closedir(list);
	if (rc == 0 && files->weight_count == 0)
		return error_set(folder->err, ENOENT,
			"%s: holds no *" WEIGHT_SUFFIX, folder->path);
	if (rc)
		return rc;
	qsort(files->weights, files->weight_count, sizeof(*files->weights),
		compare_file);
	for (uint32_t i = 0; rc == 0 && i < files->weight_count; i++)
		rc = open_required(
			folder, files->weights[i].name, &files->weights[i]);
	return rc;
}

static int open_config(const struct folder *folder, struct model_files *files)
{
	int rc = open_required(folder, "config.json", &files->config);

	return rc ? rc
		  : open_optional(folder, "generation_config.json",
			    &files->generation);
}

static int open_all(const struct folder *folder, struct model_files *files)
{
	int rc = open_config(folder, files);

	if (rc == 0)
		rc = open_optional(
			folder, "model.safetensors.index.json", &files->index);
	return rc ? rc : open_weights(folder, files);
}

static int open_folder(const char *path, struct error *err, struct folder *out)
{
	*out = (struct folder){-1, path, err, NULL};
	out->fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (out->fd < 0)
		return error_set(err, errno == ENOTDIR ? EINVAL : errno,
			"%s: %s", path, strerror(errno));
	return 0;
}

/* Open the directory, then what `open_files` wants of it. */
static int open_files_of(const char *path,
	int (*open_files)(
		const struct folder *folder, struct model_files *files),
	struct model_files *out, struct error *err)
{
	struct folder folder;
	int rc;

	assert(path && out);
	model_files_init(out);
	rc = open_folder(path, err, &folder);
	if (rc)
		return rc;
	rc = open_files(&folder, out);
	close(folder.fd);
	if (rc)
		model_files_close(out);
	return rc;
}

int model_dir_open(const char *path, struct model_files *out, struct error *err)
{
	return open_files_of(path, open_all, out, err);
}

int model_dir_open_config(
	const char *path, struct model_files *out, struct error *err)
{
	return open_files_of(path, open_config, out, err);
}

static int open_adapter(const struct folder *folder, struct adapter_files *out)
{
	int rc = open_required(folder, "expert_cfg.json", &out->experts);

	if (rc == 0)
		rc = open_optional(folder, "config.json", &out->model.config);
	if (rc == 0)
		rc = open_weights(folder, &out->model);
	if (rc == 0 && folder->rule)
		rc = folder->rule->check(folder->rule->arg, folder->fd,
			folder->path, out, folder->err);
	close(folder->fd);
	if (rc)
		adapter_files_close(out);
	return rc;
}

static int open_anywhere(const char *path, const struct adapter_dir_rule *rule,
	struct adapter_files *out, struct error *err)
{
	struct folder folder;
	int rc;

	assert(path && out);
	adapter_files_init(out);
	rc = open_folder(path, err, &folder);
	folder.rule = rule;
	return rc ? rc : open_adapter(&folder, out);
}

int adapter_dir_open(
	const char *path, struct adapter_files *out, struct error *err)
{
	return open_anywhere(path, NULL, out, err);
}

/* What of an absolute path is beneath the root; NULL: it is not. */
static const char *beneath(const char *root, const char *path)
{
	size_t length = strlen(root);

	if (path[0] != '/')
		return path;
	while (length > 0 && root[length - 1] == '/')
		length--;
	if (strncmp(path, root, length) != 0 || path[length] != '/')
		return NULL;
	path += length;
	while (*path == '/')
		path++;
	return *path ? path : ".";
}

static int open_inside(const char *root, const char *path,
	const struct adapter_dir_rule *rule, struct adapter_files *out,
	struct error *err)
{
	const char *inside = beneath(root, path);
	struct folder top, folder = {-1, path, err, rule};
	int rc;

	adapter_files_init(out);
	if (!inside)
		return error_set(err, EACCES,
			"%.256s: is not beneath the adapters' root", path);
	rc = open_folder(root, err, &top);
	if (rc)
		return rc;
	folder.fd = open_beneath(top.fd, inside, O_RDONLY | O_DIRECTORY, 0);
	close(top.fd);
	if (folder.fd == -EXDEV || folder.fd == -ELOOP)
		return error_set(err, EACCES,
			"%.256s: leads out of the adapters' root", path);
	if (folder.fd < 0)
		return error_set(err,
			folder.fd == -ENOTDIR ? EINVAL : -folder.fd,
			"%.256s: %s", path, strerror(-folder.fd));
	return open_adapter(&folder, out);
}

int adapter_dir_open_beneath(const char *root, const char *path,
	struct adapter_files *out, struct error *err)
{
	return open_inside(root, path, NULL, out, err);
}

int adapter_dir_open_ruled(const char *root, const char *path,
	const struct adapter_dir_rule *rule, struct adapter_files *out,
	struct error *err)
{
	return root ? open_inside(root, path, rule, out, err)
		    : open_anywhere(path, rule, out, err);
}

int model_file_reopen(
	const struct model_file *file, int *out_fd, struct error *err)
{
	char path[48];
	int fd;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", file->fd);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	*out_fd = fd;
	return fd < 0 ? error_set(err, errno, "%s: %s", file->name,
				strerror(errno))
		      : 0;
}

/* Directories and the like are passed over; links are judged when opened. */
static bool is_other_file(const struct folder *folder, const char *name)
{
	struct stat st;

	return name[0] != '.' && !is_weight_name(name) &&
	       fstatat(folder->fd, name, &st, 0) == 0 && S_ISREG(st.st_mode);
}

static int take_others(const struct folder *folder, DIR *list,
	int (*take)(
		void *arg, const struct model_file *file, struct error *err),
	void *arg)
{
	const struct dirent *entry;
	int rc = 0;

	while (rc == 0) {
		struct model_file file = {.fd = -1};

		errno = 0;
		entry = readdir(list);
		if (!entry)
			break;
		if (!is_other_file(folder, entry->d_name))
			continue;
		rc = open_required(folder, entry->d_name, &file);
		if (rc == 0)
			rc = take(arg, &file, folder->err);
		if (file.fd >= 0)
			close(file.fd);
	}
	if (rc == 0 && errno)
		return error_set(folder->err, errno, "%s: cannot be listed: %s",
			folder->path, strerror(errno));
	return rc;
}

int model_dir_each_other(const char *path,
	int (*take)(
		void *arg, const struct model_file *file, struct error *err),
	void *arg, struct error *err)
{
	struct folder folder;
	DIR *list;
	int rc = open_folder(path, err, &folder);

	if (rc)
		return rc;
	list = fdopendir(folder.fd);
	if (!list) {
		rc = refuse(&folder, ".", errno);
		close(folder.fd);
		return rc;
	}
	rc = take_others(&folder, list, take, arg);
	closedir(list);
	return rc;
}

int text_files_open(const char *path, struct text_files *out, struct error *err)
{
	static const struct model_file absent = {.fd = -1};
	struct folder folder;
	int rc;

	assert(path && out);
	*out = (struct text_files){absent, absent, absent};
	rc = open_folder(path, err, &folder);
	if (rc)
		return rc;
	rc = open_optional(&folder, "tokenizer.json", &out->tokenizer);
	if (rc == 0)
		rc = open_optional(&folder, "tokenizer_config.json",
			&out->tokenizer_config);
	if (rc == 0)
		rc = open_optional(
			&folder, "chat_template.jinja", &out->chat_template);
	close(folder.fd);
	if (rc)
		text_files_close(out);
	return rc;
}

void text_files_close(struct text_files *files)
{
	struct model_file *all[] = {&files->tokenizer, &files->tokenizer_config,
		&files->chat_template};

	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
		if (all[i]->fd >= 0) {
			close(all[i]->fd);
			all[i]->fd = -1;
		}
}
