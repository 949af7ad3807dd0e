/* options_load.c - all sources in their order (flags, file ... -> options) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "control/options.h"

/* --- the command line ---------------------------------------------------------- */

struct job {
	const char *flag;
	enum command_line_job job;
	bool takes_value;
};

static const struct job jobs[] = {
	{"--check", COMMAND_LINE_CHECK, false},
	{"--help", COMMAND_LINE_HELP, false},
	{"-h", COMMAND_LINE_HELP, false},
	{"--man", COMMAND_LINE_MAN, false},
	{"--version", COMMAND_LINE_VERSION, false},
	{"--hash-key", COMMAND_LINE_HASH_KEY, true},
	{"--role", COMMAND_LINE_ROLE, true},
};

static const struct job *find_job(const char *argument)
{
	for (size_t i = 0; i < sizeof(jobs) / sizeof(jobs[0]); i++)
		if (strcmp(jobs[i].flag, argument) == 0)
			return &jobs[i];
	return NULL;
}

/* A flag of the table, taken apart: --key=value or --key value. */
struct flag {
	enum option_id id;
	const char *value; /* NULL: it is missing */
	int used; /* arguments */
};

static int parse_flag(
	int argc, char **argv, int at, struct flag *out, struct error *err)
{
	const char *text = argv[at];
	const char *equals = strchr(text, '=');
	size_t length;

	if (strncmp(text, "--", 2) != 0)
		return error_set(
			err, EINVAL, "\"%s\" is no option; see --help", text);
	length = (equals ? (size_t)(equals - text) : strlen(text)) - 2;
	out->id = option_find(text + 2, length);
	if (out->id == OPTION_ID_COUNT || option_spec(out->id)->file_only)
		return error_set(err, EINVAL,
			"unknown option --%.*s; the nearest is --%s",
			(int)(length < 64 ? length : 64), text + 2,
			option_nearest(text + 2, length));
	out->value = equals ? equals + 1 : at + 1 < argc ? argv[at + 1] : NULL;
	out->used = equals ? 1 : 2;
	if (!out->value)
		return error_set(err, EINVAL, "%s needs a value", text);
	return 0;
}

static int parse_fd(const char *text, int *out, struct error *err)
{
	char *end;
	unsigned long fd = strtoul(text, &end, 10);

	if (text[0] < '0' || text[0] > '9' || *end || fd > INT_MAX)
		return error_set(err, EINVAL, "--role %s: no descriptor", text);
	*out = (int)fd;
	return 0;
}

/* Flags with a meaning of their own; *used 0 = argv[at] is none of them. */
static int take_job(
	struct command_line *line, int at, int *used, struct error *err)
{
	const struct job *job = find_job(line->argv[at]);
	const char *value = at + 1 < line->argc ? line->argv[at + 1] : NULL;
	bool is_file = strcmp(line->argv[at], "-c") == 0;

	*used = 0;
	if (!job && !is_file)
		return 0;
	if ((is_file || job->takes_value) && !value)
		return error_set(
			err, EINVAL, "%s needs a value", line->argv[at]);
	*used = is_file || job->takes_value ? 2 : 1;
	if (is_file) {
		line->file = value;
		return 0;
	}
	line->job = job->job;
	if (job->job == COMMAND_LINE_HASH_KEY)
		line->tenant = value;
	if (job->job == COMMAND_LINE_ROLE && value)
		return parse_fd(value, &line->role_fd, err);
	return 0;
}

int command_line_parse(
	int argc, char **argv, struct command_line *out, struct error *err)
{
	*out = (struct command_line){
		.file = getenv("HEDDLE_CONFIG"),
		.role_fd = -1,
		.argc = argc,
		.argv = argv,
	};
	for (int at = 1; at < argc;) {
		struct flag flag = {.used = 0};
		int used = 0, rc = take_job(out, at, &used, err);

		if (rc == 0 && used == 0) {
			rc = parse_flag(argc, argv, at, &flag, err);
			used = flag.used;
		}
		if (rc)
			return rc;
		at += used;
	}
	return 0;
}

/* --- sources --------------------------------------------------------------------- */

static int read_all(int fd, char *text, size_t size, size_t *out)
{
	*out = 0;
	while (*out < size) {
		ssize_t got = read(fd, text + *out, size - *out);

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return -errno;
		if (got == 0)
			break;
		*out += (size_t)got;
	}
	return 0;
}

static int apply_open_file(
	struct options *options, int fd, const char *path, struct error *err)
{
	size_t length = 0, size = OPTION_FILE_BYTES_MAX + 1;
	char *text = malloc(size);
	int rc;

	if (!text)
		return error_set(err, ENOMEM, "%s: out of memory", path);
	rc = read_all(fd, text, size, &length);
	if (rc)
		error_set(err, -rc, "%s: %s", path, strerror(-rc));
	else
		rc = options_parse_yaml(options, text, length, path, err);
	free(text);
	return rc;
}

static int apply_file(
	struct options *options, const char *path, struct error *err)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	struct stat st;
	int rc;

	if (fd < 0)
		return error_set(err, errno, "%s: %s", path, strerror(errno));
	if (fstat(fd, &st) || !S_ISREG(st.st_mode))
		rc = error_set(err, EINVAL, "%s: is not a regular file", path);
	else
		rc = apply_open_file(options, fd, path, err);
	close(fd);
	return rc;
}

static int apply_environment(struct options *options, struct error *err)
{
	for (int i = 0; i < OPTION_ID_COUNT; i++) {
		char name[64];
		struct option_origin origin = {OPTION_ENVIRONMENT, name};
		const char *text;
		int rc;

		if (option_spec((enum option_id)i)->file_only)
			continue;
		option_variable((enum option_id)i, name);
		text = getenv(name);
		if (!text)
			continue;
		rc = options_set_text(
			options, (enum option_id)i, &origin, text, err);
		if (rc)
			return rc;
	}
	return 0;
}

static int apply_flag(
	struct options *options, const struct flag *flag, struct error *err)
{
	char where[64];
	struct option_origin origin = {OPTION_FLAG, where};

	snprintf(where, sizeof(where), "--%s", option_spec(flag->id)->key);
	return options_set_text(options, flag->id, &origin, flag->value, err);
}

static int apply_flags(const struct command_line *line, struct options *options,
	struct error *err)
{
	struct command_line scratch = *line;

	for (int at = 1; at < line->argc;) {
		struct flag flag = {.used = 0};
		int used = 0, rc = take_job(&scratch, at, &used, err);

		if (rc == 0 && used == 0) {
			rc = parse_flag(line->argc, line->argv, at, &flag, err);
			used = flag.used;
			if (rc == 0)
				rc = apply_flag(options, &flag, err);
		}
		if (rc)
			return rc;
		at += used;
	}
	return 0;
}

int options_load(
	const struct command_line *line, struct options *out, struct error *err)
{
	int rc = options_init(out, err);

	if (rc)
		return rc;
	if (line->file)
		rc = apply_file(out, line->file, err);
	if (rc == 0)
		rc = apply_environment(out, err);
	if (rc == 0)
		rc = apply_flags(line, out, err);
	if (rc)
		options_release(out);
	return rc;
}
