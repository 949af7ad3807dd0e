/* test_front_run.c - the dataplane role over kernel sockets, from run to stop */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The role runs on its own thread as it does in the process; the test is the
 * client, by a socket on loopback, and the engine.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/front_case.h"
#include "tests/suite.h"

#define TEXT "{\"model\":\"alias\",\"prompt\":\"Hi\""
#define OUTPUT_BYTES 65536
#define PATIENCE_S 20 /* a test that hangs fails */

static struct front_case c;
static pthread_t thread;
static uint16_t ports[2]; /* clients, admin */
static bool spare_core;

static void *run(void *arg)
{
	struct error err = {0};

	(void)front_run(arg, &err);
	return NULL;
}

static int listening(uint16_t *out_port)
{
	struct sockaddr_in address = {.sin_family = AF_INET,
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t length = sizeof(address);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	CU_ASSERT_FATAL(fd >= 0);
	CU_ASSERT_EQUAL_FATAL(
		bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	CU_ASSERT_EQUAL_FATAL(listen(fd, 16), 0);
	getsockname(fd, (struct sockaddr *)&address, &length);
	*out_port = ntohs(address.sin_port);
	return fd;
}

static void *(*network)(void *) = run; /* the network thread's work */

/* false: there is no io_uring here, and the test was skipped aloud. */
static bool start(void)
{
	struct error err = {0};
	int rc;

	front_case_prepare(&c, 1);
	c.setup.has_core = spare_core;
	c.setup.listeners[0].fd = listening(&ports[0]);
	c.setup.listeners[1].fd = listening(&ports[1]);
	rc = front_create(&c.setup, &c.segment, &c.front, &err);
	if (rc == -ENOSYS || rc == -EPERM) {
		suite_skip(err.text);
		return false;
	}
	if (rc)
		CU_FAIL_FATAL(err.text);
	CU_ASSERT_EQUAL_FATAL(
		pthread_create(&thread, NULL, network, c.front), 0);
	return true;
}

static void finish(void)
{
	pthread_join(thread, NULL);
	CU_ASSERT_EQUAL(c.front->exchange_used, 0);
	CU_ASSERT_EQUAL(c.front->counters->connections_open, 0);
	front_case_close(&c);
}

static int dial_to(uint16_t port)
{
	struct sockaddr_in address = {.sin_family = AF_INET,
		.sin_port = htons(port),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct timeval patience = {.tv_sec = PATIENCE_S};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	if (connect(fd, (struct sockaddr *)&address, sizeof(address)) != 0) {
		close(fd);
		return -1;
	}
	return fd;
}

static int dial(void)
{
	return dial_to(ports[0]);
}

static void post(int fd, const char *body)
{
	char text[1024];
	int length = snprintf(text, sizeof(text),
		"POST /v1/completions HTTP/1.1\r\nHost: h\r\n"
		"Content-Length: %zu\r\n\r\n%s",
		strlen(body), body);

	CU_ASSERT_EQUAL(write(fd, text, (size_t)length), length);
}

/* Read until `text` has come, or the end; true when it came. */
static bool read_until(int fd, char *out, const char *text)
{
	size_t used = strlen(out);

	while (!text || !strstr(out, text)) {
		ssize_t got = read(fd, out + used, OUTPUT_BYTES - 1 - used);

		/* The ring was made on this thread: its work ends a read that
		 * has a time limit. */
		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			return !text && got == 0;
		used += (size_t)got;
		out[used] = '\0';
	}
	return true;
}

static struct ring_message pop(void)
{
	struct mono end = mono_add(mono_now(), PATIENCE_S * NS_PER_S);
	struct ring_message m = {0};

	while (!front_case_pop_now(&c, 0, &m)) {
		CU_ASSERT_FATAL(mono_before(mono_now(), end));
		front_case_beat(&c, 0);
		sched_yield();
	}
	return m;
}

static void answer(const struct ring_message *m)
{
	front_case_run(&c, m->slot);
	for (int i = 0; i < 5; i++) {
		front_case_write(&c, m->slot, 20, 0);
		front_case_tell(&c, m);
	}
	front_case_finish(&c, m, FINISH_LENGTH);
}

static void test_front_run__serves_and_keeps_the_connection(void)
{
	char *out = suite_calloc(1, OUTPUT_BYTES);
	struct ring_message m;
	int fd;

	if (!start())
		goto out;
	fd = dial();
	post(fd, TEXT ",\"stream\":true}");
	m = pop();
	answer(&m);
	CU_ASSERT(read_until(fd, out, "\r\n0\r\n\r\n"));
	CU_ASSERT_PTR_NOT_NULL(strstr(out, "data: [DONE]\n\n"));
	out[0] = '\0';
	post(fd, TEXT "}");
	m = pop();
	answer(&m);
	CU_ASSERT(read_until(fd, out, "}}}"));
	front_stop(c.front);
	CU_ASSERT(read_until(fd, out, NULL));
	close(fd);
	finish();
out:
	free(out);
}

/* Its end alone says nothing; what it is sent, it resets. */
static void test_front_run__a_client_that_is_gone_is_cancelled(void)
{
	static const char *const bodies[] = {
		TEXT "}", TEXT ",\"stream\":true}"};

	if (!start())
		return;
	for (size_t i = 0; i < sizeof(bodies) / sizeof(bodies[0]); i++) {
		struct ring_message m;
		int fd = dial();

		post(fd, bodies[i]);
		m = pop();
		front_case_run(&c, m.slot);
		close(fd);
		if (i == 1) {
			front_case_write(&c, m.slot, 20, 0);
			front_case_tell(&c, &m);
		}
		CU_ASSERT_EQUAL(pop().kind, RING_CANCEL);
		front_case_finish(&c, &m, FINISH_CANCELLED);
	}
	front_stop(c.front);
	finish();
}

static void test_front_run__half_closed_client_is_answered(void)
{
	char *out = suite_calloc(1, OUTPUT_BYTES);
	struct ring_message m;
	int fd;

	if (!start())
		goto out;
	fd = dial();
	post(fd, TEXT "}");
	CU_ASSERT_EQUAL(shutdown(fd, SHUT_WR), 0);
	m = pop();
	answer(&m);
	CU_ASSERT(read_until(fd, out, NULL));
	CU_ASSERT_PTR_NOT_NULL(strstr(out, "HTTP/1.1 200 "));
	CU_ASSERT_PTR_NOT_NULL(strstr(out, "}}}"));
	close(fd);
	front_stop(c.front);
	finish();
out:
	free(out);
}

/* The whole answer of a GET on a connection of its own. */
static void get(uint16_t port, const char *path, char *out)
{
	char text[256];
	int length = snprintf(
		text, sizeof(text), "GET %s HTTP/1.1\r\nHost: h\r\n\r\n", path);
	int fd = dial_to(port);

	out[0] = '\0';
	CU_ASSERT_FATAL(fd >= 0);
	CU_ASSERT_EQUAL(write(fd, text, (size_t)length), length);
	CU_ASSERT(read_until(fd, out, NULL));
	close(fd);
}

static bool is_draining(void)
{
	return __atomic_load_n(
		       &segment_beat(&c.segment, ROLE_INDEX_FRONT)->state,
		       __ATOMIC_ACQUIRE) == BEAT_DRAINING;
}

static void check_drain_answers(int kept, char *out)
{
	static const struct {
		const char *path;
		int listener, status;
	} pages[] = {{"/ready", 0, 503}, {"/ready", 1, 503}, {"/live", 0, 200},
		{"/live", 1, 200}, {"/metrics", 1, 200}, {"/health", 0, 200},
		{"/health", 1, 200}};

	for (size_t i = 0; i < sizeof(pages) / sizeof(pages[0]); i++) {
		char status[16];

		snprintf(status, sizeof(status), "HTTP/1.1 %d ",
			pages[i].status);
		front_case_beat(&c, 0);
		get(ports[pages[i].listener], pages[i].path, out);
		CU_ASSERT_EQUAL(strncmp(out, status, strlen(status)), 0);
		CU_ASSERT_PTR_NOT_NULL(strstr(out, "connection: close\r\n"));
	}
	out[0] = '\0';
	post(kept, TEXT "}");
	CU_ASSERT(read_until(kept, out, NULL));
	CU_ASSERT_EQUAL(strncmp(out, "HTTP/1.1 503 ", 13), 0);
	CU_ASSERT_PTR_NOT_NULL(strstr(out, "retry-after-ms: "));
	CU_ASSERT_PTR_NOT_NULL(strstr(out, "\"code\":\"draining\""));
}

static void test_front_run__stop_lets_a_request_end(void)
{
	char *out = suite_calloc(1, OUTPUT_BYTES);
	struct ring_message m;
	int fd, kept, idle;

	if (!start())
		goto out;
	fd = dial();
	kept = dial();
	idle = dial();
	post(fd, TEXT "}");
	m = pop();
	front_stop(c.front);
	while (!is_draining())
		sched_yield();
	check_drain_answers(kept, out);
	close(kept);
	answer(&m);
	out[0] = '\0';
	CU_ASSERT(read_until(fd, out, NULL));
	CU_ASSERT_PTR_NOT_NULL(strstr(out, "connection: close\r\n"));
	CU_ASSERT_PTR_NOT_NULL(strstr(out, "}}}"));
	close(fd);
	/* With the last request everything ends. */
	CU_ASSERT(read_until(idle, out, NULL));
	close(idle);
	finish();
	CU_ASSERT_EQUAL(dial(), -1);
	CU_ASSERT_EQUAL(dial_to(ports[1]), -1);
out:
	free(out);
}

/*
 * Nothing but the wake word tells of a token: a wake that is lost leaves the
 * client waiting until its patience ends.
 */
static void *turn_without_end(void *arg)
{
	const struct mono never = {UINT64_MAX};

	while (__atomic_load_n(&c.front->stop_count, __ATOMIC_ACQUIRE) == 0)
		front_turn(arg, never);
	return front_run(arg, &(struct error){0}) ? arg : NULL;
}

static void test_front_run__no_token_is_slept_over(void)
{
	enum { COUNT = 1000 };
	char *out = suite_calloc(1, OUTPUT_BYTES);
	struct ring_message m;
	int fd;

	network = turn_without_end;
	if (!start())
		goto out;
	fd = dial();
	post(fd, TEXT ",\"max_tokens\":1100,\"stream\":true}");
	m = pop();
	front_case_run(&c, m.slot);
	for (int i = 0; i < COUNT; i++) {
		front_case_write(&c, m.slot, 20, 0);
		front_case_tell(&c, &m);
		out[0] = '\0';
		CU_ASSERT_FATAL(read_until(fd, out, "\"text\":\""));
	}
	front_case_finish(&c, &m, FINISH_LENGTH);
	CU_ASSERT(read_until(fd, out, "data: [DONE]"));
	close(fd);
	front_stop(c.front);
	finish();
out:
	network = run;
	free(out);
}

/* With a request open and nothing to do for it: only the beats go on. */
static void test_front_run__waiting_is_sleeping(void)
{
	struct role_beat *beat;
	struct ring_message m;
	uint64_t turns, begun;
	int fd;

	if (!start())
		return;
	beat = segment_beat(&c.segment, ROLE_INDEX_FRONT);
	fd = dial();
	post(fd, TEXT "}");
	m = pop();
	front_case_run(&c, m.slot);
	/* The first beat may still count what came before. */
	for (int i = 0; i < 2; i++) {
		begun = __atomic_load_n(&beat->beat_ns, __ATOMIC_RELAXED);
		turns = __atomic_load_n(&beat->progress, __ATOMIC_RELAXED);
		while (__atomic_load_n(&beat->beat_ns, __ATOMIC_RELAXED) ==
			begun)
			sched_yield();
	}
	turns = __atomic_load_n(&beat->progress, __ATOMIC_RELAXED) - turns;
	CU_ASSERT(turns > 0 && turns < 50);
	front_case_finish(&c, &m, FINISH_LENGTH);
	close(fd);
	front_stop(c.front);
	finish();
}

static bool is_asleep(void)
{
	return __atomic_load_n(&c.front->wake->asleep, __ATOMIC_SEQ_CST) != 0;
}

/*
 * With a core to itself: while token follows token it does not fall asleep,
 * and soon after the last one it does.
 */
static void test_front_run__short_rests_are_waited_for_awake(void)
{
	enum { COUNT = 400 };
	char *out = suite_calloc(1, OUTPUT_BYTES);
	struct mono end;
	struct ring_message m;
	int fd, awake = 0;

	spare_core = true;
	if (!start())
		goto out;
	fd = dial();
	post(fd, TEXT ",\"max_tokens\":500,\"stream\":true}");
	m = pop();
	front_case_run(&c, m.slot);
	for (int i = 0; i < COUNT; i++) {
		/* What follows a token, the end of its sending, is done. */
		end = mono_add(mono_now(), 50 * NS_PER_US);
		while (mono_before(mono_now(), end))
			sched_yield();
		awake += !is_asleep();
		front_case_write(&c, m.slot, 20, 0);
		front_case_tell(&c, &m);
		out[0] = '\0';
		CU_ASSERT_FATAL(read_until(fd, out, "\"text\":\""));
	}
	/* A busy machine makes long rests of some; else there are none. */
	CU_ASSERT(awake > COUNT / 10);
	end = mono_add(mono_now(), PATIENCE_S * NS_PER_S);
	while (!is_asleep() && mono_before(mono_now(), end))
		sched_yield();
	CU_ASSERT(is_asleep());
	front_case_finish(&c, &m, FINISH_LENGTH);
	CU_ASSERT(read_until(fd, out, "data: [DONE]"));
	close(fd);
	front_stop(c.front);
	finish();
out:
	spare_core = false;
	free(out);
}

static void test_front_run__second_stop_does_not_wait(void)
{
	char *out = suite_calloc(1, OUTPUT_BYTES);
	struct ring_message m;
	int fd;

	if (!start())
		goto out;
	fd = dial();
	post(fd, TEXT "}");
	m = pop();
	front_case_run(&c, m.slot);
	front_stop(c.front);
	front_stop(c.front);
	m = pop();
	CU_ASSERT_EQUAL(m.kind, RING_CANCEL);
	front_case_finish(&c, &m, FINISH_CANCELLED);
	CU_ASSERT(read_until(fd, out, NULL));
	CU_ASSERT_PTR_NOT_NULL(strstr(out, "HTTP/1.1 503 "));
	close(fd);
	finish();
out:
	free(out);
}

static void test_front_run__reload_changes_keys(void)
{
	char *out = suite_calloc(1, OUTPUT_BYTES);
	struct front_setup setup;
	struct error err = {0};
	int fd;

	if (!start())
		goto out;
	fd = dial();
	setup = c.setup;
	setup.key_count = 1;
	CU_ASSERT_EQUAL(front_reload(c.front, &setup, &err), 0);
	setup.text_worker_count = 0;
	CU_ASSERT_EQUAL(front_reload(c.front, &setup, &err), -EINVAL);
	/* Taken up between two bursts: ask until it is. */
	for (struct mono end = mono_add(mono_now(), PATIENCE_S * NS_PER_S);
		mono_before(mono_now(), end);) {
		static const char get[] =
			"GET /version HTTP/1.1\r\nHost: h\r\n\r\n";

		out[0] = '\0';
		CU_ASSERT_EQUAL(write(fd, get, sizeof(get) - 1),
			(ssize_t)sizeof(get) - 1);
		CU_ASSERT_FATAL(read_until(fd, out, "}"));
		if (strstr(out, "HTTP/1.1 401 "))
			break;
	}
	CU_ASSERT_PTR_NOT_NULL(strstr(out, "HTTP/1.1 401 "));
	front_stop(c.front);
	CU_ASSERT(read_until(fd, out, NULL));
	close(fd);
	finish();
out:
	free(out);
}

int main(void)
{
	static const struct suite_case cases[] = {
		SUITE_CASE(front_run__serves_and_keeps_the_connection),
		SUITE_CASE(front_run__a_client_that_is_gone_is_cancelled),
		SUITE_CASE(front_run__half_closed_client_is_answered),
		SUITE_CASE(front_run__stop_lets_a_request_end),
		SUITE_CASE(front_run__no_token_is_slept_over),
		SUITE_CASE(front_run__waiting_is_sleeping),
		SUITE_CASE(front_run__short_rests_are_waited_for_awake),
		SUITE_CASE(front_run__second_stop_does_not_wait),
		SUITE_CASE(front_run__reload_changes_keys),
	};

	return SUITE_MAIN("front_run", cases);
}
