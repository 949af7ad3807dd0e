/* model_dir.h - open the files of a model's directory (path -> descriptors) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Why:   the one place where a path of the operator becomes descriptors.
 *        Names inside the directory are opened beneath it (openat2 with
 *        RESOLVE_BENEATH), so a symbolic link cannot lead out of it, except
 *        into the blobs folder of a Hugging Face cache, which is how
 *        snapshots are stored.
 * Threads: one thread; start-up or control only.
 */
#ifndef HEDDLE_CONTROL_MODEL_DIR_H
#define HEDDLE_CONTROL_MODEL_DIR_H

#include "engine/files.h"

/*
 * Open config.json (required), generation_config.json and
 * model.safetensors.index.json (optional) and every *.safetensors. Links are
 * followed only inside the directory, or to ../../blobs/NAME when the
 * directory is a snapshot of a Hugging Face cache. -ENOENT, -EACCES, -EINVAL
 * with a text that names the path. On error nothing is open.
 */
int model_dir_open(
	const char *path, struct model_files *out, struct error *err);

/* The same of config.json and generation_config.json alone: no weights. */
int model_dir_open_config(
	const char *path, struct model_files *out, struct error *err);

/*
 * The files of an adapter, by the same rules: expert_cfg.json (required),
 * config.json (optional) and every *.safetensors.
 */
int adapter_dir_open(
	const char *path, struct adapter_files *out, struct error *err);

/* What else an adapter's directory has to fulfil. */
struct adapter_dir_rule {
	/* Its files are open, `dir` is it; no link was followed. 0 or -errno. */
	int (*check)(void *arg, int dir, const char *path,
		struct adapter_files *files, struct error *err);
	void *arg;
};

/*
 * As one of the other two, and by that rule; links within the directory are
 * refused too. root NULL: the path is from anywhere.
 */
int adapter_dir_open_ruled(const char *root, const char *path,
	const struct adapter_dir_rule *rule, struct adapter_files *out,
	struct error *err);

/*
 * The same beneath a directory `root`: a relative path, or one that begins
 * with the root's. -EACCES: it leads out of the root.
 */
int adapter_dir_open_beneath(const char *root, const char *path,
	struct adapter_files *out, struct error *err);

/*
 * A view of an open file with flags of its own: flags, such as O_DIRECT, are
 * of an opening, and neither another process nor an earlier life of it may
 * change them under a reader. *out_fd is -1 on error.
 */
int model_file_reopen(
	const struct model_file *file, int *out_fd, struct error *err);

/*
 * Call `take` for each regular file of the directory that is no *.safetensors
 * and not hidden, opened by the same rules; the descriptor is borrowed for
 * the call. Ends with the first error.
 */
int model_dir_each_other(const char *path,
	int (*take)(
		void *arg, const struct model_file *file, struct error *err),
	void *arg, struct error *err);

/* The files that turn text into token ids and back; fd -1 = absent. */
struct text_files {
	struct model_file tokenizer; /* tokenizer.json */
	struct model_file tokenizer_config; /* tokenizer_config.json */
	struct model_file chat_template; /* chat_template.jinja */
};

/* Open what is there of them, by the same rules; the directory must exist. */
int text_files_open(
	const char *path, struct text_files *out, struct error *err);

/* Safe after a failed open. */
void text_files_close(struct text_files *files);

#endif
