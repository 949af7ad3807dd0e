/* log.h - lines for the operator (any role -> stderr or syslog) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Why:        one place that decides form and destination. Only control/ and
 *             the main programs log; libraries return a struct error. What
 *             DPDK says of itself comes here too (dataplane/nic_eal.h).
 * Invariants: errno is preserved across every call; one call is one line;
 *             control characters in the text come out as '?'.
 * Form:       "level: text" on stderr, or syslog without the level.
 * Threads:    log_open() before threads start; the others from any thread
 *             (a line is one write(2)). Never on the data path, but for
 *             what only the debug level shows.
 */
#ifndef HEDDLE_BASE_LOG_H
#define HEDDLE_BASE_LOG_H

enum log_level {
	LOG_LEVEL_ERROR,
	LOG_LEVEL_WARN,
	LOG_LEVEL_INFO,
	LOG_LEVEL_DEBUG
};

enum log_target { LOG_TARGET_STDERR, LOG_TARGET_SYSLOG };

void log_open(const char *name, enum log_target target, enum log_level max);

/* log_warn() appends the text of errno; the others do not. */
void log_error(const char *format, ...) __attribute__((format(printf, 1, 2)));
void log_warn(const char *format, ...) __attribute__((format(printf, 1, 2)));
void log_warnx(const char *format, ...) __attribute__((format(printf, 1, 2)));
void log_info(const char *format, ...) __attribute__((format(printf, 1, 2)));
void log_debug(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
