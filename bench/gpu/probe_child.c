/* probe_child.c - run one section in a process of its own, with a deadline */
/* SPDX-License-Identifier: Apache-2.0 */
#include "probe_child.h"
#include "probe_names.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* As in probe.h, which needs cuda.h and is not read on this side. */
enum { RESULT_FD = 3, SOCKET_FD = 4, FREE_FD = 10, KILL_GRACE_MS = 5000 };

static int64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* Put `from` at `to`; through a high number, so that nothing is overwritten. */
static int place(int from, int to)
{
	int high = fcntl(from, F_DUPFD_CLOEXEC, FREE_FD);

	return high < 0 || dup2(high, to) < 0 ? -1 : 0;
}

/*
 * In the new process; never returns. The program is named by its file and not
 * as /proc/self/exe, which below a debugger or valgrind is the debugger.
 */
static void become(const struct probe_child *child, int results, pid_t parent)
{
	char program[PATH_MAX];
	ssize_t length =
		readlink("/proc/self/exe", program, sizeof(program) - 1);
	char limit[16];
	char device[16];
	const char *name = probe_section_names[child->section].name;
	const char *argv[] = {"gpu-probe", "--child", name, "--child-limit",
		limit, "--device", device,
		child->args->quick ? "--quick" : NULL, NULL};
	int high = fcntl(results, F_DUPFD_CLOEXEC, FREE_FD);
	int socket = child->socket < 0
			     ? -1
			     : fcntl(child->socket, F_DUPFD_CLOEXEC, FREE_FD);
	int null = open("/dev/null", O_RDONLY | O_CLOEXEC);

	snprintf(limit, sizeof(limit), "%u", child->limit_s);
	snprintf(device, sizeof(device), "%d", child->args->device);
	if (length <= 0)
		_exit(127);
	program[length] = '\0';
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0 || getppid() != parent)
		_exit(127);
	/* Standard output is the table's: what else is said goes to error. */
	if (high < 0 || null < 0 || place(null, 0) != 0 || place(2, 1) != 0 ||
		place(high, RESULT_FD) != 0)
		_exit(127);
	if (socket >= 0 && place(socket, SOCKET_FD) != 0)
		_exit(127);
	/* execv takes char *const[] for history's sake; it changes nothing. */
	execv(program, (char *const *)(uintptr_t)argv);
	_exit(127);
}

struct reader {
	const struct probe_child *child;
	struct probe_child_end *end;
	char line[PROBE_LINE_MAX];
	size_t length;
	bool skip; /* inside a line that is too long */
};

static void take_line(struct reader *reader)
{
	struct probe_record record;

	reader->line[reader->length] = '\0';
	if (reader->skip || probe_record_parse(reader->line, &record) != 0)
		reader->end->bad_lines++;
	else
		reader->child->take(reader->child->context, &record);
	reader->length = 0;
	reader->skip = false;
}

static void take_bytes(struct reader *reader, const char *bytes, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		if (bytes[i] == '\n')
			take_line(reader);
		else if (reader->length + 1 < sizeof(reader->line))
			reader->line[reader->length++] = bytes[i];
		else
			reader->skip = true;
	}
}

/* Read until the process closes its end or time is up; true: time is up. */
static bool read_all(struct reader *reader, int fd, int64_t until_ms)
{
	char bytes[4096];

	for (;;) {
		struct pollfd wait = {.fd = fd, .events = POLLIN};
		int64_t left = until_ms - now_ms();
		ssize_t count;

		if (left <= 0)
			return true;
		if (poll(&wait, 1, (int)left) <= 0)
			continue;
		count = read(fd, bytes, sizeof(bytes));
		if (count == 0)
			break;
		if (count < 0 && errno != EINTR && errno != EAGAIN)
			break;
		if (count > 0)
			take_bytes(reader, bytes, (size_t)count);
	}
	if (reader->length > 0 || reader->skip)
		take_line(reader);
	return false;
}

/* Wait until `until_ms`; true when the process has ended. */
static bool reap(pid_t pid, int64_t until_ms, int *status)
{
	const struct timespec nap = {.tv_nsec = 2000000};

	for (;;) {
		pid_t ended = waitpid(pid, status, WNOHANG);

		if (ended == pid || (ended < 0 && errno != EINTR))
			return true;
		if (now_ms() >= until_ms)
			return false;
		nanosleep(&nap, NULL);
	}
}

int probe_child_run(
	const struct probe_child *child, struct probe_child_end *end)
{
	struct reader reader = {.child = child, .end = end};
	int64_t begin = now_ms();
	int64_t until = begin + (int64_t)child->limit_s * 1000;
	pid_t parent = getpid();
	int ends[2];
	pid_t pid;

	*end = (struct probe_child_end){.timed_out = false};
	if (pipe(ends) != 0)
		return -errno;
	(void)fcntl(ends[0], F_SETFD, FD_CLOEXEC);
	(void)fcntl(ends[1], F_SETFD, FD_CLOEXEC);
	pid = fork();
	if (pid < 0) {
		int error = -errno;

		close(ends[0]);
		close(ends[1]);
		return error;
	}
	if (pid == 0)
		become(child, ends[1], parent);
	close(ends[1]);
	end->timed_out = read_all(&reader, ends[0], until);
	if (!end->timed_out)
		end->timed_out = !reap(pid, until, &end->wait_status);
	if (end->timed_out) {
		kill(pid, SIGKILL);
		end->stuck =
			!reap(pid, now_ms() + KILL_GRACE_MS, &end->wait_status);
	}
	close(ends[0]);
	end->seconds = (double)(now_ms() - begin) / 1e3;
	return 0;
}
