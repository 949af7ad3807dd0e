/* log.c - lines for the operator (any role -> stderr or syslog) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <syslog.h>
#include <unistd.h>

#include "base/log.h"

#define LINE_BYTES 2048

/* The one unavoidable global: where lines go. Set before threads start. */
static struct {
	const char *name;
	enum log_target target;
	enum log_level max;
} log_state = {"heddle", LOG_TARGET_STDERR, LOG_LEVEL_INFO};

static const struct {
	const char *word;
	int priority;
} levels[] = {
	[LOG_LEVEL_ERROR] = {"error", LOG_ERR},
	[LOG_LEVEL_WARN] = {"warning", LOG_WARNING},
	[LOG_LEVEL_INFO] = {"info", LOG_INFO},
	[LOG_LEVEL_DEBUG] = {"debug", LOG_DEBUG},
};

void log_open(const char *name, enum log_target target, enum log_level max)
{
	log_state.name = name;
	log_state.target = target;
	log_state.max = max;
	if (target == LOG_TARGET_SYSLOG)
		openlog(name, LOG_PID | LOG_NDELAY, LOG_DAEMON);
}

/* "name: level: text: reason\n"; returns its length. */
__attribute__((format(printf, 4, 0))) static size_t format_line(char *line,
	enum log_level level, const char *reason, const char *format,
	va_list args)
{
	int length = snprintf(line, LINE_BYTES - 1, "%s: %s: ", log_state.name,
		levels[level].word);
	size_t used = length > 0 ? (size_t)length : 0;

	if (used >= LINE_BYTES - 1)
		used = LINE_BYTES - 2;
	length = vsnprintf(line + used, LINE_BYTES - 1 - used, format, args);
	used += length > 0 ? (size_t)length : 0;
	if (used >= LINE_BYTES - 1)
		used = LINE_BYTES - 2;
	if (reason) {
		length = snprintf(
			line + used, LINE_BYTES - 1 - used, ": %s", reason);
		used += length > 0 ? (size_t)length : 0;
		if (used >= LINE_BYTES - 1)
			used = LINE_BYTES - 2;
	}
	for (size_t i = 0; i < used; i++)
		if ((unsigned char)line[i] < 0x20 || line[i] == 0x7f)
			line[i] = '?';
	line[used++] = '\n';
	return used;
}

__attribute__((format(printf, 3, 0))) static void write_line(
	enum log_level level, bool with_errno, const char *format, va_list args)
{
	int saved = errno;
	char line[LINE_BYTES];
	char reason[128];
	size_t length;

	if (level > log_state.max)
		return;
	if (with_errno)
		snprintf(reason, sizeof(reason), "%m");
	length = format_line(
		line, level, with_errno ? reason : NULL, format, args);
	if (log_state.target == LOG_TARGET_SYSLOG) {
		syslog(levels[level].priority, "%.*s", (int)length - 1, line);
	} else {
		/* A line that cannot be written has nowhere to be reported. */
		ssize_t written = write(STDERR_FILENO, line, length);

		(void)written;
	}
	errno = saved;
}

#define DEFINE_LOG(function, level, with_errno)                                \
	void function(const char *format, ...)                                 \
	{                                                                      \
		va_list args;                                                  \
                                                                               \
		va_start(args, format);                                        \
		write_line(level, with_errno, format, args);                   \
		va_end(args);                                                  \
	}

DEFINE_LOG(log_error, LOG_LEVEL_ERROR, false)
DEFINE_LOG(log_warn, LOG_LEVEL_WARN, true)
DEFINE_LOG(log_warnx, LOG_LEVEL_WARN, false)
DEFINE_LOG(log_info, LOG_LEVEL_INFO, false)
DEFINE_LOG(log_debug, LOG_LEVEL_DEBUG, false)
