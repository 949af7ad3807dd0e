/* test_role_drop.c - a process gives up its privileges in all its threads */
/* SPDX-License-Identifier: Apache-2.0 */
/* Each case is a process of its own: what is given up does not come back. */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "control/role_drop.h"
#include "tests/suite.h"

#define THREAD_COUNT 4

struct thread {
	pthread_t id;
	int pipe[2];
	int no_new_privs, raw_socket; /* as the thread found them */
};

/* Waits in a system call, as threads do, then says what it may. */
static void *wait_and_look(void *arg)
{
	struct thread *t = arg;
	char byte;

	while (read(t->pipe[0], &byte, 1) < 0 && errno == EINTR)
		;
	t->no_new_privs = prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0);
	t->raw_socket = socket(AF_PACKET, SOCK_RAW, 0) >= 0 ? 0 : errno;
	return NULL;
}

/* 0 = as it should be; else which part is not. */
static int drop_all(uint32_t uid, uint32_t gid)
{
	struct thread threads[THREAD_COUNT];
	struct error err = {0};
	int rc, bad = 0;

	for (int i = 0; i < THREAD_COUNT; i++)
		if (pipe(threads[i].pipe) ||
			pthread_create(&threads[i].id, NULL, wait_and_look,
				&threads[i]))
			return 1;
	rc = role_drop(uid, gid, &err);
	if (rc) {
		printf("\n%s\n", err.text);
		return 2;
	}
	for (int i = 0; i < THREAD_COUNT; i++) {
		if (write(threads[i].pipe[1], "x", 1) != 1)
			return 3;
		pthread_join(threads[i].id, NULL);
		if (threads[i].no_new_privs != 1)
			bad = 4;
		if (threads[i].raw_socket == 0)
			bad = 5;
	}
	if (getuid() != uid || geteuid() != uid || getgid() != gid)
		bad = 6;
	if (uid != 0 && (setuid(0) == 0 || getgroups(0, NULL) != 0))
		bad = 7;
	return bad;
}

static int in_child(uint32_t uid, uint32_t gid)
{
	int status = -1;
	pid_t pid;

	fflush(stdout);
	pid = fork();
	if (pid == 0)
		_exit(drop_all(uid, gid));
	CU_ASSERT_EQUAL(waitpid(pid, &status, 0), pid);
	return status;
}

static void test_role_drop__all_threads(void)
{
	CU_ASSERT_EQUAL(in_child(getuid(), getgid()), 0);
}

/* Where we may: user 0 of all, not of a namespace without others. */
static void test_role_drop__another_user(void)
{
	char map[64] = "";
	FILE *in = fopen("/proc/self/uid_map", "re");

	if (in) {
		(void)fgets(map, sizeof(map), in);
		(void)fclose(in);
	}
	if (getuid() != 0 || !strstr(map, "4294967295")) {
		puts("SKIP: we may become nobody else here");
		return;
	}
	CU_ASSERT_EQUAL(in_child(65534, 65534), 0);
}

static void test_role_drop__a_user_that_one_may_not_become(void)
{
	int status = -1;
	pid_t pid;

	fflush(stdout);
	pid = fork();
	if (pid == 0) {
		struct error err = {0};

		if (getuid() == 0 && setresuid(65534, 65534, 65534))
			_exit(0); /* a namespace without others */
		_exit(role_drop(0, 0, &err) == -EPERM &&
					strstr(err.text, "become user 0")
				? 0
				: 1);
	}
	CU_ASSERT_EQUAL(waitpid(pid, &status, 0), pid);
	CU_ASSERT_EQUAL(status, 0);
}

int main(void)
{
	static const struct suite_case cases[] = {
		SUITE_CASE(role_drop__all_threads),
		SUITE_CASE(role_drop__another_user),
		SUITE_CASE(role_drop__a_user_that_one_may_not_become),
	};

	return SUITE_MAIN("role_drop", cases);
}
