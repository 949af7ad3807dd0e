/*
 * probe_args.h - command line of gpu-probe
 *
 * Why:        a wrong argument is refused before a card is touched, with one
 *             line that names it.
 * Ownership:  strings are borrowed from argv.
 * Threads:    no state.
 * Limits:     device 0 to 63, time limit 3 to 3600 s.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PROBE_ARGS_H
#define PROBE_ARGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PROBE_JSON_PATH "build/bench/gpu-probe.json"
#define PROBE_TIME_LIMIT_S 285

struct probe_args {
	uint32_t sections; /* bit i: section i of probe_section_names */
	const char *json_path;
	int device;
	unsigned time_limit_s; /* of the whole run */
	unsigned section_limit_s; /* of each section; 0: its own */
	unsigned child_limit_s; /* of this child; given by the parent */
	int child; /* run this section here and now; -1: be the parent */
	bool quick; /* fewer repetitions and smaller sizes */
	bool list;
	bool help;
};

/*
 * Read argv[1..argc). 0, or -EINVAL with one line (no line break) in
 * `message`, which is always terminated.
 */
int probe_args_parse(struct probe_args *args, int argc, char **argv,
	char *message, size_t message_size);

#endif
