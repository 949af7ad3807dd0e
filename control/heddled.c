/* heddled.c - the appliance's daemon (main) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "control/keys.h"
#include "control/node.h"
#include "control/node_setup.h"
#include "control/role.h"
#include "control/version.h"

static int check(const struct command_line *line, struct error *err)
{
	struct options options;
	struct node_setup *setup = malloc(sizeof(*setup));
	int rc;

	if (!setup)
		return error_set(err, ENOMEM, "out of memory");
	rc = options_load(line, &options, err);
	if (rc) {
		free(setup);
		return rc;
	}
	rc = node_setup_open(&options, setup, err);
	if (rc == 0) {
		rc = node_setup_check_text(setup, err);
		node_setup_close(setup);
	}
	if (rc == 0)
		puts("configuration OK");
	options_release(&options);
	free(setup);
	return rc;
}

static int run(const struct command_line *line, struct error *err)
{
	struct options options;
	int rc = options_load(line, &options, err);

	if (rc)
		return rc;
	rc = node_run(line, &options, err);
	options_release(&options);
	return rc;
}

/* A key on standard input, as a line of the file of keys. */
static int hash_key(const char *tenant, struct error *err)
{
	char key[4096], line[KEYS_LINE_BYTES];
	int rc;

	if (!fgets(key, sizeof(key), stdin))
		key[0] = '\0';
	rc = keys_line(key, strcspn(key, "\r\n"), tenant, line, err);
	explicit_bzero(key, sizeof(key));
	if (rc == 0)
		puts(line);
	return rc;
}

static int do_job(const struct command_line *line, struct error *err)
{
	switch (line->job) {
	case COMMAND_LINE_RUN:
		return run(line, err);
	case COMMAND_LINE_CHECK:
		return check(line, err);
	case COMMAND_LINE_HELP:
		options_help(stdout);
		return 0;
	case COMMAND_LINE_MAN:
		options_man(stdout);
		return 0;
	case COMMAND_LINE_VERSION:
		puts("heddled " HEDDLE_VERSION);
		return 0;
	case COMMAND_LINE_HASH_KEY:
		return hash_key(line->tenant, err);
	default:
		return role_main(line->role_fd) ? -ECHILD : 0;
	}
}

int main(int argc, char **argv)
{
	struct command_line line;
	struct error err = {0};

	if (command_line_parse(argc, argv, &line, &err)) {
		fprintf(stderr, "heddled: %s\n", err.text);
		return 2;
	}
	if (do_job(&line, &err)) {
		fprintf(stderr, "heddled: %s\n", err.text);
		return 1;
	}
	return fflush(stdout) ? 1 : 0;
}
