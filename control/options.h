/* options.h - everything that an operator can set, once (table -> values) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Why:   a key of the configuration file, its flag, its environment variable,
 *        its default, its bounds and its help are one line of one table, so
 *        they cannot disagree.
 * Order: flag > environment > file > default. Sources are applied in rising
 *        order; a list of a higher source replaces that of a lower one, and
 *        a flag that is repeated adds to its list.
 * Invariants: a value in struct options has passed its bounds. An option that
 *        could not be set leaves the struct as it was.
 * Ownership: struct options owns its texts, options_release().
 * Threads: one at a time.
 */
#ifndef HEDDLE_CONTROL_OPTIONS_H
#define HEDDLE_CONTROL_OPTIONS_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/error.h"

#define OPTION_ITEM_COUNT_MAX 64
#define OPTION_TEXT_BYTES_MAX 4096
#define OPTION_FILE_BYTES_MAX ((size_t)1 << 20)

enum option_id {
	OPTION_CONFIG_VERSION,
	OPTION_MODEL,
	OPTION_NAME,
	OPTION_ALIAS,
	OPTION_ADAPTER,
	OPTION_ADAPTER_ROOT,
	OPTION_ADAPTER_KEYS,
	OPTION_ADAPTER_COUNT,
	OPTION_ADAPTER_SLOTS,
	OPTION_POOL_BYTES,
	OPTION_DEVICE,
	OPTION_NULL_STEP_US,
	OPTION_NULL_ROWS,
	OPTION_CPU_THREADS,
	OPTION_CPU_ROWS,
	OPTION_CPU_SEQUENCES,
	OPTION_CONTEXT,
	OPTION_KV_TOKENS,
	OPTION_KV_TYPE,
	OPTION_STEP_BUDGET,
	OPTION_STEP_MAX,
	OPTION_LISTEN,
	OPTION_ADMIN,
	OPTION_NIC,
	OPTION_NIC_DEVICE,
	OPTION_NIC_STANDBY,
	OPTION_NIC_ADDRESS,
	OPTION_NIC_GATEWAY,
	OPTION_NIC_VLAN,
	OPTION_NIC_MTU,
	OPTION_NIC_QUEUES,
	OPTION_NIC_CORE,
	OPTION_NIC_SPIN,
	OPTION_NIC_SLEEP,
	OPTION_USER,
	OPTION_CONTROL,
	OPTION_TLS_CERTIFICATE,
	OPTION_TLS_KEY,
	OPTION_API_KEYS,
	OPTION_TEXT_WORKERS,
	OPTION_SLOTS,
	OPTION_PAGES,
	OPTION_RING,
	OPTION_CONNECTIONS,
	OPTION_PIPELINED,
	OPTION_BODY_BYTES,
	OPTION_HEADER_BYTES,
	OPTION_HEADER_COUNT,
	OPTION_PROMPT_LIST,
	OPTION_OUTPUT_DEFAULT,
	OPTION_HEADER_TIMEOUT,
	OPTION_BODY_TIMEOUT,
	OPTION_IDLE_TIMEOUT,
	OPTION_STALL_TIMEOUT,
	OPTION_REQUEST_TIMEOUT,
	OPTION_DRAIN_TIMEOUT,
	OPTION_RETRY_AFTER,
	OPTION_LOG_LEVEL,
	OPTION_LOG_TARGET,
	OPTION_ID_COUNT
};

enum option_kind {
	OPTION_KIND_TEXT,
	OPTION_KIND_LIST, /* of texts; "a,b" in a flag or the environment */
	OPTION_KIND_NUMBER,
	OPTION_KIND_BYTES, /* 4096, 64KiB, 16MiB, 1GiB */
	OPTION_KIND_DURATION, /* 500us, 20ms, 30s, 5m, 1h; kept in ns */
	OPTION_KIND_CHOICE /* kept as index among the choices */
};

struct option_spec {
	const char *key; /* in the file; --key; HEDDLE_KEY */
	enum option_kind kind;
	bool reloadable; /* may change while the node runs */
	bool file_only; /* no flag, no environment variable */
	const char *initial; /* default as one would write it; NULL = none */
	uint64_t min, max; /* of numbers, bytes, ns */
	const char *choices; /* "a b c"; lists: of each item, NULL = any */
	const char *value; /* what stands for the value in help */
	const char *help; /* one sentence or two */
};

enum option_source {
	OPTION_DEFAULT,
	OPTION_FILE,
	OPTION_ENVIRONMENT,
	OPTION_FLAG
};

struct option_value {
	enum option_source source;
	char where[160]; /* "heddle.yaml:3", "HEDDLE_LISTEN"; "" = default */
	uint64_t number;
	uint32_t count; /* of items; 0 = not set */
	char *items[OPTION_ITEM_COUNT_MAX]; /* owned; [0] of a single value */
};

struct options {
	struct option_value value[OPTION_ID_COUNT];
};

const struct option_spec *option_spec(enum option_id id);

/* OPTION_ID_COUNT where there is no such key. */
enum option_id option_find(const char *key, size_t length);

/* The known key that is most like it. */
const char *option_nearest(const char *key, size_t length);

/* "HEDDLE_NULL_STEP_US" */
void option_variable(enum option_id id, char out[64]);

/* Every default. -ENOMEM. */
int options_init(struct options *out, struct error *err);
void options_release(struct options *options); /* takes a zeroed struct */

/* Where a value comes from, for errors and for `config show`. */
struct option_origin {
	enum option_source source;
	const char *where; /* borrowed for the call */
};

/*
 * Set one option to `count` texts (1 but for lists). -EINVAL: names the
 * reason and before it the origin, or for a file the key; -ENOMEM.
 */
int options_set(struct options *options, enum option_id id,
	const struct option_origin *origin, const char *const *items,
	uint32_t count, struct error *err);

/* A text as flags and the environment have it: lists are split at commas. */
int options_set_text(struct options *options, enum option_id id,
	const struct option_origin *origin, const char *text,
	struct error *err);

/* "" where it is not set. */
const char *options_text(const struct options *options, enum option_id id);
uint64_t options_number(const struct options *options, enum option_id id);
bool options_is_set(const struct options *options, enum option_id id);

/* --- options_value.c: texts and what they mean --------------------------- */

/*
 * Check an item against its spec; *out is its number (0 for texts). -EINVAL
 * with the reason alone.
 */
int option_parse(const struct option_spec *spec, const char *text,
	uint64_t *out, struct error *err);

/* A bound or default in the unit of its kind: "16MiB", "30s". */
void option_print_number(
	const struct option_spec *spec, uint64_t number, char out[64]);

/* --- options_yaml.c -------------------------------------------------------- */

/*
 * Apply the text of a configuration file. name stands in errors, which read
 * "name:LINE:COLUMN: ...". -EINVAL, -ENOMEM.
 */
int options_parse_yaml(struct options *options, const char *text, size_t length,
	const char *name, struct error *err);

/* --- options_load.c: all sources in their order ---------------------------- */

enum command_line_job {
	COMMAND_LINE_RUN,
	COMMAND_LINE_CHECK,
	COMMAND_LINE_HELP,
	COMMAND_LINE_MAN,
	COMMAND_LINE_VERSION,
	COMMAND_LINE_HASH_KEY,
	COMMAND_LINE_ROLE /* control started us */
};

struct command_line {
	enum command_line_job job;
	const char *file; /* of -c or HEDDLE_CONFIG; NULL = none */
	const char *tenant; /* of --hash-key */
	int role_fd; /* of --role */
	/* borrowed from main() */
	int argc;
	char **argv;
};

/* Which job, and what needs no option. -EINVAL names the argument. */
int command_line_parse(
	int argc, char **argv, struct command_line *out, struct error *err);

/*
 * Defaults, the file, the environment, the flags. On error *out is released.
 * -ENOENT and others name the file.
 */
int options_load(const struct command_line *line, struct options *out,
	struct error *err);

/*
 * Take from `fresh` what may change while the node runs. Writes the keys that
 * changed but cannot, separated by spaces, to `kept` (cut where it is long).
 */
void options_reload(struct options *options, struct options *fresh, char *kept,
	size_t kept_size);

/* --- options_print.c ------------------------------------------------------- */

/* What is in force and where it comes from, as a file one could use. */
void options_print(const struct options *options, FILE *out);
json_t *options_json(const struct options *options); /* NULL: no memory */
void options_help(FILE *out);
void options_man(FILE *out);

#endif
