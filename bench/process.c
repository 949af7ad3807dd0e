/* process.c - a program beside us, and what it says (argv -> streams) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <unistd.h>

#include "bench/process.h"

int process_spawn(const char *const *argv, pid_t *out_pid, FILE **out_to,
	FILE **out_from, struct error *err)
{
	int to[2], from[2];
	sigset_t none;
	pid_t pid;

	if (pipe2(to, O_CLOEXEC))
		return error_set(err, errno, "no pipe for %s", argv[0]);
	if (pipe2(from, O_CLOEXEC)) {
		close(to[0]);
		close(to[1]);
		return error_set(err, errno, "no pipe for %s", argv[0]);
	}
	pid = fork();
	if (pid < 0)
		return error_set(err, errno, "%s: cannot be started", argv[0]);
	if (pid == 0) {
		dup2(to[0], STDIN_FILENO);
		dup2(from[1], STDOUT_FILENO);
		/* What we have blocked may end it. */
		sigemptyset(&none);
		(void)sigprocmask(SIG_SETMASK, &none, NULL);
		/* exec takes pointers that it does not write through. */
		execvp(argv[0], (char *const *)(uintptr_t)argv);
		_exit(127);
	}
	close(to[0]);
	close(from[1]);
	*out_pid = pid;
	*out_from = fdopen(from[0], "r");
	if (out_to)
		*out_to = fdopen(to[1], "w");
	else
		close(to[1]);
	if (!*out_from || (out_to && !*out_to))
		return error_set(err, ENOMEM, "no stream for %s", argv[0]);
	return 0;
}
