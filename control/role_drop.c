/* role_drop.c - a role gives up what it needed to start (process -> less) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Capabilities belong to threads, and nobody can take another thread's. So
 * each one that still has some is sent a signal, whose handler gives up its
 * own; until a look at all of them finds none.
 */
#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <grp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <linux/capability.h>

#include "base/clock.h"
#include "control/role_drop.h"

#define PASS_COUNT 5000 /* of a millisecond */

/* Of the calling thread; also from a signal's handler. */
static void give_up(int signal)
{
	struct __user_cap_header_struct head = {
		.version = _LINUX_CAPABILITY_VERSION_3};
	const struct __user_cap_data_struct none[2] = {
		{.effective = 0}, {.effective = 0}};
	int saved = errno;

	(void)signal;
	(void)prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	(void)prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
	(void)syscall(SYS_capset, &head, none);
	errno = saved;
}

/* Has the thread anything left? One that has ended has not. */
static bool keeps(const char *thread)
{
	char path[64], line[128];
	bool more = false;
	FILE *in;

	snprintf(path, sizeof(path), "/proc/self/task/%.16s/status", thread);
	in = fopen(path, "re");
	if (!in)
		return false;
	while (fgets(line, sizeof(line), in)) {
		const char *value = strchr(line, ':');

		if (!value)
			continue;
		if (strncmp(line, "CapPrm", 6) == 0 ||
			strncmp(line, "CapEff", 6) == 0)
			more |= strtoull(value + 1, NULL, 16) != 0;
		else if (strncmp(line, "NoNewPrivs", 10) == 0)
			more |= strtoull(value + 1, NULL, 10) == 0;
	}
	(void)fclose(in);
	return more;
}

/* How many threads were told; *out_name is one of them. -errno. */
static int tell_threads(char out_name[32])
{
	DIR *all = opendir("/proc/self/task");
	const struct dirent *one;
	int count = 0;

	if (!all)
		return -errno;
	while ((one = readdir(all))) {
		if (one->d_name[0] == '.' || !keeps(one->d_name))
			continue;
		count++;
		snprintf(out_name, 32, "%.16s", one->d_name);
		(void)syscall(SYS_tgkill, getpid(),
			(pid_t)strtol(one->d_name, NULL, 10), SIGRTMIN);
	}
	(void)closedir(all);
	return count;
}

static int drop_capabilities(struct error *err)
{
	static const struct timespec rest = {.tv_nsec = NS_PER_MS};
	struct sigaction action = {
		.sa_handler = give_up, .sa_flags = SA_RESTART};
	char name[32] = "";
	int rc = 1;

	if (sigaction(SIGRTMIN, &action, NULL))
		return error_set(err, errno, "sigaction: %s", strerror(errno));
	give_up(0);
	for (int i = 0; rc > 0 && i < PASS_COUNT; i++) {
		rc = tell_threads(name);
		if (rc > 0)
			(void)nanosleep(&rest, NULL);
	}
	if (rc < 0)
		return error_set(err, -rc,
			"privileges cannot be given up: /proc/self/task: %s",
			strerror(-rc));
	return rc ? error_set(err, EPERM,
			    "thread %s does not give up its privileges", name)
		  : 0;
}

/* Of all threads: libc sees to that. */
static int become(uint32_t uid, uint32_t gid, struct error *err)
{
	pid_t parent = getppid();

	if (setgroups(0, NULL) || setresgid(gid, gid, gid) ||
		setresuid(uid, uid, uid))
		return error_set(err, errno, "cannot become user %u: %s", uid,
			strerror(errno));
	/* The kernel forgets this with the user. */
	(void)prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
	return getppid() == parent ? 0
				   : error_set(err, ESRCH, "control has ended");
}

int role_drop(uint32_t uid, uint32_t gid, struct error *err)
{
	int rc = 0;

	if (uid != getuid() || gid != getgid())
		rc = become(uid, gid, err);
	return rc ? rc : drop_capabilities(err);
}
