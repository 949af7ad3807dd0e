/* test_model_dir.c - directories of models, and links that lead elsewhere */
/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "control/model_dir.h"
#include "tests/fake/fake_os.h"
#include "tests/suite.h"

/* The folder of one case; removed with all that is in it. */
static char root[64];

static int remove_one(
	const char *path, const struct stat *st, int kind, struct FTW *where)
{
	(void)st;
	(void)kind;
	(void)where;
	return remove(path);
}

static void begin(void)
{
	strcpy(root, "/tmp/test_model_dir.XXXXXX");
	if (!mkdtemp(root))
		abort();
}

static void end(void)
{
	CU_ASSERT_EQUAL(nftw(root, remove_one, 8, FTW_DEPTH | FTW_PHYS), 0);
}

static const char *in_root(const char *name)
{
	static char path[512];

	snprintf(path, sizeof(path), "%s/%s", root, name);
	return path;
}

static void make_folder(const char *name)
{
	CU_ASSERT_EQUAL(mkdir(in_root(name), 0700), 0);
}

static void make_file(const char *name, const char *text)
{
	FILE *out = fopen(in_root(name), "w");

	assert(out);
	fputs(text, out);
	fclose(out);
}

static void make_link(const char *name, const char *target)
{
	CU_ASSERT_EQUAL(symlink(target, in_root(name)), 0);
}

static int open_root(
	const char *name, struct model_files *files, struct error *err)
{
	*err = (struct error){0};
	return model_dir_open(in_root(name), files, err);
}

/* What has to be opened; the files are the caller's to close. */
static struct model_files accept(const char *name)
{
	struct model_files files;
	struct error err;

	if (open_root(name, &files, &err))
		printf("\n    %s\n", err.text);
	CU_ASSERT_EQUAL(err.code, 0);
	return files;
}

static void refuse(const char *name, int code, const char *expect)
{
	struct model_files files;
	struct error err;
	int rc = open_root(name, &files, &err);

	if (rc != code || !strstr(err.text, expect))
		printf("\n    got %d \"%s\", expected \"%s\"\n", rc, err.text,
			expect);
	CU_ASSERT_EQUAL(rc, code);
	CU_ASSERT_PTR_NOT_NULL(strstr(err.text, expect));
	CU_ASSERT_EQUAL(files.config.fd, -1);
	CU_ASSERT_EQUAL(files.weight_count, 0);
	CU_ASSERT_PTR_NULL(files.weights);
	model_files_close(&files);
}

static void make_model(void)
{
	make_file("config.json", "{}");
	make_file("generation_config.json", "{ }");
	make_file("model.safetensors.index.json", "{  }");
	make_file("b.safetensors", "bb");
	make_file("a.safetensors", "a");
	make_file("tokenizer.json", "{}");
	make_file("safetensors", "x");
	make_file(".safetensors", "x");
	make_file("a.safetensors.bak", "x");
}

/* ---- what is right ---- */

static void test_model_dir_open__finds_everything(void)
{
	struct model_files files;
	char text[4] = "";

	begin();
	make_model();
	files = accept(".");
	CU_ASSERT_EQUAL(files.config.size_bytes, 2);
	CU_ASSERT_STRING_EQUAL(files.config.name, "config.json");
	CU_ASSERT_EQUAL(files.generation.size_bytes, 3);
	CU_ASSERT_EQUAL(files.index.size_bytes, 4);
	CU_ASSERT_EQUAL_FATAL(files.weight_count, 2);
	CU_ASSERT_STRING_EQUAL(files.weights[0].name, "a.safetensors");
	CU_ASSERT_STRING_EQUAL(files.weights[1].name, "b.safetensors");
	CU_ASSERT_EQUAL(pread(files.weights[1].fd, text, 3, 0), 2);
	CU_ASSERT_STRING_EQUAL(text, "bb");
	CU_ASSERT(fcntl(files.weights[1].fd, F_GETFD) & FD_CLOEXEC);
	model_files_close(&files);
	CU_ASSERT_EQUAL(files.config.fd, -1);
	end();
}

static void test_model_dir_open__optional_files(void)
{
	struct model_files files;

	begin();
	make_file("config.json", "{}");
	make_file("model.safetensors", "a");
	files = accept(".");
	CU_ASSERT_EQUAL(files.generation.fd, -1);
	CU_ASSERT_EQUAL(files.index.fd, -1);
	model_files_close(&files);
	end();
}

static void test_model_dir_open__links_inside(void)
{
	struct model_files files;

	begin();
	make_folder("sub");
	make_file("sub/real", "abc");
	make_file("config.json", "{}");
	make_link("model.safetensors", "sub/real");
	make_link("other.safetensors", "sub/../model.safetensors");
	files = accept(".");
	CU_ASSERT_EQUAL_FATAL(files.weight_count, 2);
	CU_ASSERT_EQUAL(files.weights[0].size_bytes, 3);
	CU_ASSERT_EQUAL(files.weights[1].size_bytes, 3);
	CU_ASSERT_STRING_EQUAL(files.weights[1].name, "other.safetensors");
	model_files_close(&files);
	end();
}

/* The operator's own path may be a link to anywhere. */
static void test_model_dir_open__link_to_the_directory(void)
{
	struct model_files files;

	begin();
	make_folder("real");
	make_file("real/config.json", "{}");
	make_file("real/model.safetensors", "a");
	make_link("latest", "real");
	files = accept("latest");
	model_files_close(&files);
	end();
}

static void make_cache(void)
{
	make_folder("models--x--y");
	make_folder("models--x--y/blobs");
	make_folder("models--x--y/snapshots");
	make_folder("models--x--y/snapshots/0123");
	make_file("models--x--y/blobs/c0ffee", "{}");
	make_file("models--x--y/blobs/beef", "abcd");
	make_file("secret", "secret");
}

#define SNAPSHOT "models--x--y/snapshots/0123"

static void test_model_dir_open__hugging_face_cache(void)
{
	struct model_files files;

	begin();
	make_cache();
	make_link(SNAPSHOT "/config.json", "../../blobs/c0ffee");
	make_link(SNAPSHOT "/model.safetensors", "../../blobs/beef");
	files = accept(SNAPSHOT);
	CU_ASSERT_EQUAL_FATAL(files.weight_count, 1);
	CU_ASSERT_EQUAL(files.weights[0].size_bytes, 4);
	CU_ASSERT_STRING_EQUAL(files.weights[0].name, "model.safetensors");
	model_files_close(&files);
	end();
}

/* ---- what is wrong ---- */

#define LEADS_OUT "is a link that leads out of the directory"

static void test_model_dir_open__links_outside(void)
{
	static const char *const targets[] = {"../secret", "/etc/passwd",
		"../model/../secret", "sub/../../secret", "/proc/self/fd/0",
		"../../blobs/beef"};

	for (size_t i = 0; i < sizeof(targets) / sizeof(targets[0]); i++) {
		begin();
		make_file("secret", "secret");
		make_folder("model");
		make_folder("model/sub");
		make_file("model/config.json", "{}");
		make_link("model/model.safetensors", targets[i]);
		refuse("model", -EINVAL, "model.safetensors: " LEADS_OUT);
		end();
	}
}

static void test_model_dir_open__links_in_a_cache(void)
{
	static const struct {
		const char *target;
		int code;
		const char *expect;
	} links[] = {
		{"../../../secret", -EINVAL, LEADS_OUT},
		{"../../blobs/../../secret", -EINVAL, LEADS_OUT},
		{"../../blobs/sub/x", -EINVAL, LEADS_OUT},
		{"../../blobs/..", -EINVAL, LEADS_OUT},
		{"../../blobs/link", -EINVAL, LEADS_OUT},
		{"../../blobs/", -ENOENT, "No such file"},
		{"../../blobs/none", -ENOENT, "No such file"},
		{"../../blobs/.", -EINVAL, "is not a regular file"},
		{"../../blobs/sub", -EINVAL, "is not a regular file"},
		{"../../blob/beef", -EINVAL, LEADS_OUT},
	};

	for (size_t i = 0; i < sizeof(links) / sizeof(links[0]); i++) {
		begin();
		make_cache();
		make_folder("models--x--y/blobs/sub");
		make_file("models--x--y/blobs/sub/x", "x");
		make_link("models--x--y/blobs/link", "../../secret");
		make_link(SNAPSHOT "/config.json", "../../blobs/c0ffee");
		make_link(SNAPSHOT "/model.safetensors", links[i].target);
		refuse(SNAPSHOT, links[i].code, links[i].expect);
		end();
	}
}

static void test_model_dir_open__link_too_long(void)
{
	char target[600];

	memset(target, 'x', sizeof(target));
	memcpy(target, "../../blobs/", 12);
	target[sizeof(target) - 1] = '\0';
	begin();
	make_cache();
	make_link(SNAPSHOT "/config.json", target);
	refuse(SNAPSHOT, -EINVAL, "config.json: " LEADS_OUT);
	end();
}

/* blobs itself must not be a way out. */
static void test_model_dir_open__blobs_is_a_link(void)
{
	begin();
	make_folder("elsewhere");
	make_file("elsewhere/beef", "abcd");
	make_folder("m");
	make_folder("m/snapshots");
	make_folder("m/snapshots/0123");
	make_link("m/blobs", "../elsewhere");
	make_link("m/snapshots/0123/config.json", "../../blobs/beef");
	refuse("m/snapshots/0123", -EINVAL, "config.json: Not a directory");
	end();
}

static void test_model_dir_open__not_regular(void)
{
	begin();
	make_file("config.json", "{}");
	make_folder("model.safetensors");
	refuse(".", -EINVAL, "model.safetensors: is not a regular file");
	end();
	begin();
	make_file("model.safetensors", "a");
	CU_ASSERT_EQUAL(mkfifo(in_root("config.json"), 0600), 0);
	refuse(".", -EINVAL, "config.json: is not a regular file");
	end();
}

static void test_model_dir_open__missing(void)
{
	begin();
	refuse("none", -ENOENT, "none: No such file");
	refuse(".", -ENOENT, "config.json: No such file");
	make_file("config.json", "{}");
	refuse(".", -ENOENT, "holds no *.safetensors");
	refuse("config.json", -EINVAL, "Not a directory");
	make_file("model.safetensors", "a");
	make_link("generation_config.json", "nowhere");
	refuse(".", -ENOENT, "generation_config.json: No such file");
	end();
}

static void test_model_dir_open__loop(void)
{
	begin();
	make_file("config.json", "{}");
	make_link("a.safetensors", "b.safetensors");
	make_link("b.safetensors", "a.safetensors");
	refuse(".", -EINVAL, "a.safetensors: ");
	end();
}

static void test_model_dir_open__too_many_files(void)
{
	char name[64];

	begin();
	make_file("config.json", "{}");
	for (int i = 0; i <= MODEL_FILE_COUNT_MAX; i++) {
		snprintf(name, sizeof(name), "%d.safetensors", i);
		make_file(name, "");
	}
	refuse(".", -EINVAL, "more than 1024 weight files");
	end();
}

/* Not for root, who may read everything. */
static void test_model_dir_open__permission(void)
{
	if (geteuid() == 0) {
		suite_skip("root may read everything");
		return;
	}
	begin();
	make_model();
	CU_ASSERT_EQUAL(chmod(in_root("b.safetensors"), 0), 0);
	refuse(".", -EACCES, "b.safetensors: Permission denied");
	end();
}

/* What a call returns after the armed fault, or without one. */
static int expected_rc(void)
{
	if (!fake_os_has_failed())
		return 0;
	return fake_os_failed_call() == FAKE_OS_ALLOCATE ? -ENOMEM : -EMFILE;
}

/* Each call fails in turn: an error, and nothing stays open. */
static void test_model_dir_open__nth_call_fails(void)
{
	uint64_t n = 0;
	int rc;

	begin();
	make_cache();
	make_link(SNAPSHOT "/config.json", "../../blobs/c0ffee");
	make_link(SNAPSHOT "/a.safetensors", "../../blobs/beef");
	make_file(SNAPSHOT "/b.safetensors", "b");
	do {
		struct model_files files;
		struct error err = {0};
		const char *path = in_root(SNAPSHOT);

		fake_os_reset();
		fake_os_fail(FAKE_OS_ANY, ++n, EMFILE);
		rc = model_dir_open(path, &files, &err);
		CU_ASSERT_EQUAL(rc, expected_rc());
		CU_ASSERT_EQUAL(err.code, rc);
		model_files_close(&files);
		CU_ASSERT_EQUAL(fake_os_live().allocations, 0);
	} while (fake_os_has_failed() && n < 1000);
	fake_os_disarm();
	CU_ASSERT(n >= 8);
	end();
}

static int open_descriptors(void)
{
	int count = 0;

	for (int fd = 0; fd < 256; fd++)
		count += fcntl(fd, F_GETFD) >= 0;
	return count;
}

/* After all of the above nothing may be open that was not before. */
static int descriptors_at_start;

static void test_model_dir_open__nothing_stays_open(void)
{
	CU_ASSERT_EQUAL(open_descriptors(), descriptors_at_start);
}

/* ---- adapters, and what is copied beside weights ---- */

static void test_adapter_dir_open__finds_everything(void)
{
	struct adapter_files files;
	struct error err = {0};

	begin();
	make_model();
	CU_ASSERT_EQUAL(adapter_dir_open(root, &files, &err), -ENOENT);
	CU_ASSERT_PTR_NOT_NULL(strstr(err.text, "expert_cfg.json"));
	make_file("expert_cfg.json", "{   }");
	error_clear(&err);
	CU_ASSERT_EQUAL(adapter_dir_open(root, &files, &err), 0);
	CU_ASSERT_EQUAL(files.experts.size_bytes, 5);
	CU_ASSERT_EQUAL(files.model.config.size_bytes, 2);
	CU_ASSERT_EQUAL(files.model.weight_count, 2);
	adapter_files_close(&files);
	CU_ASSERT_EQUAL(files.experts.fd, -1);
	CU_ASSERT_EQUAL(unlink(in_root("config.json")), 0);
	CU_ASSERT_EQUAL(adapter_dir_open(root, &files, &err), 0);
	CU_ASSERT_EQUAL(files.model.config.fd, -1);
	adapter_files_close(&files);
	make_link("config.json", "/etc/passwd");
	CU_ASSERT_EQUAL(adapter_dir_open(root, &files, &err), -EINVAL);
	CU_ASSERT_EQUAL(files.experts.fd, -1);
	end();
}

static int beneath(const char *top, const char *path)
{
	struct adapter_files files;
	struct error err = {0};
	int rc = adapter_dir_open_beneath(top, path, &files, &err);

	CU_ASSERT_EQUAL(rc != 0, error_is_set(&err));
	CU_ASSERT_EQUAL(rc == 0, files.experts.fd >= 0);
	if (rc == 0)
		adapter_files_close(&files);
	return rc;
}

static void test_adapter_dir_open_beneath__nothing_outside(void)
{
	char top[256], path[512];

	begin();
	make_folder("in");
	make_folder("in/a");
	make_folder("inner");
	make_file("in/a/expert_cfg.json", "{}");
	make_file("in/a/m.safetensors", "x");
	make_file("in/file", "x");
	make_link("in/b", "a");
	make_link("in/up", "..");
	make_link("in/out", "/tmp");
	snprintf(top, sizeof(top), "%s/in", root);
	CU_ASSERT_EQUAL(beneath(top, "a"), 0);
	CU_ASSERT_EQUAL(beneath(top, "b"), 0);
	CU_ASSERT_EQUAL(beneath(top, "./a/../a/"), 0);
	snprintf(path, sizeof(path), "%s//a", top);
	CU_ASSERT_EQUAL(beneath(top, path), 0);
	snprintf(path, sizeof(path), "%s/", top);
	CU_ASSERT_EQUAL(beneath(path, "a"), 0);
	CU_ASSERT_EQUAL(beneath(top, top), -EACCES);
	CU_ASSERT_EQUAL(beneath(top, path), -ENOENT);
	CU_ASSERT_EQUAL(beneath(top, "none"), -ENOENT);
	CU_ASSERT_EQUAL(beneath(top, "file"), -EINVAL);
	CU_ASSERT_EQUAL(beneath(top, "../in/a"), -EACCES);
	CU_ASSERT_EQUAL(beneath(top, "up/in/a"), -EACCES);
	CU_ASSERT_EQUAL(beneath(top, "out"), -EACCES);
	snprintf(path, sizeof(path), "%s/../in/a", top);
	CU_ASSERT_EQUAL(beneath(top, path), -EACCES);
	snprintf(path, sizeof(path), "%sner", top);
	CU_ASSERT_EQUAL(beneath(top, path), -EACCES);
	CU_ASSERT_EQUAL(beneath("/nowhere", "a"), -ENOENT);
	end();
}

#define NAMES_BYTES 512

static int note_other(
	void *arg, const struct model_file *file, struct error *err)
{
	char *names = arg;
	size_t used = strlen(names);

	(void)err;
	snprintf(names + used, NAMES_BYTES - used, "%s ", file->name);
	return file->fd < 0 ? -EIO : 0;
}

static void test_model_dir_each_other__no_weights_no_folders(void)
{
	char names[NAMES_BYTES] = "";
	struct error err = {0};

	begin();
	make_model();
	make_folder("figures");
	make_file(".hidden", "x");
	CU_ASSERT_EQUAL(model_dir_each_other(root, note_other, names, &err), 0);
	CU_ASSERT_EQUAL(strlen(names),
		strlen("config.json generation_config.json "
		       "model.safetensors.index.json tokenizer.json "
		       "safetensors a.safetensors.bak "));
	CU_ASSERT_PTR_NOT_NULL(strstr(names, "tokenizer.json"));
	make_link("merges.txt", "/etc/passwd");
	CU_ASSERT_EQUAL(
		model_dir_each_other(root, note_other, names, &err), -EINVAL);
	end();
}

static const struct suite_case cases[] = {
	SUITE_CASE(model_dir_open__finds_everything),
	SUITE_CASE(model_dir_open__optional_files),
	SUITE_CASE(model_dir_open__links_inside),
	SUITE_CASE(model_dir_open__link_to_the_directory),
	SUITE_CASE(model_dir_open__hugging_face_cache),
	SUITE_CASE(model_dir_open__links_outside),
	SUITE_CASE(model_dir_open__links_in_a_cache),
	SUITE_CASE(model_dir_open__link_too_long),
	SUITE_CASE(model_dir_open__blobs_is_a_link),
	SUITE_CASE(model_dir_open__not_regular),
	SUITE_CASE(model_dir_open__missing),
	SUITE_CASE(model_dir_open__loop),
	SUITE_CASE(model_dir_open__too_many_files),
	SUITE_CASE(model_dir_open__permission),
	SUITE_CASE(model_dir_open__nth_call_fails),
	SUITE_CASE(model_dir_open__nothing_stays_open),
	SUITE_CASE(adapter_dir_open__finds_everything),
	SUITE_CASE(adapter_dir_open_beneath__nothing_outside),
	SUITE_CASE(model_dir_each_other__no_weights_no_folders),
};

int main(void)
{
	descriptors_at_start = open_descriptors();
	return SUITE_MAIN("model_dir", cases);
}
