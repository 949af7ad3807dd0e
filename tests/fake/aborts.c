/* aborts.c - does a piece of code stop the process? */
/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/fake/aborts.h"

static void run_child(void (*run)(void *argument), void *argument)
{
	const struct rlimit none = {0, 0};
	int null = open("/dev/null", O_WRONLY | O_CLOEXEC);

	setrlimit(RLIMIT_CORE, &none);
	signal(SIGABRT, SIG_DFL);
	if (null >= 0)
		dup2(null, STDERR_FILENO);
	run(argument);
	_exit(0);
}

bool aborts(void (*run)(void *argument), void *argument)
{
	int status;
	pid_t child;

	fflush(NULL);
	child = fork();
	assert(child >= 0);
	if (child == 0)
		run_child(run, argument);
	if (waitpid(child, &status, 0) != child)
		return false;
	return WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT;
}
