/* test_stream_kernel.c - the io_uring back end: what it refuses and survives */
/* SPDX-License-Identifier: Apache-2.0 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "dataplane/stream_kernel.h"
#include "tests/fake/fake_os.h"
#include "tests/stream_case.h"
#include "tests/suite.h"

static size_t ignore(void *arg, const struct stream_event *event)
{
	(void)arg;
	return event->kind == STREAM_DATA ? event->length : 0;
}

static int bound_socket(int type)
{
	struct sockaddr_in at = {.sin_family = AF_INET,
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int fd = socket(AF_INET, type | SOCK_CLOEXEC, 0);

	CU_ASSERT_FATAL(fd >= 0);
	CU_ASSERT_FATAL(bind(fd, (struct sockaddr *)&at, sizeof(at)) == 0);
	return fd;
}

static int listening_socket(void)
{
	int fd = bound_socket(SOCK_STREAM);

	CU_ASSERT_FATAL(listen(fd, 16) == 0);
	return fd;
}

static struct stream_kernel_config usual(int fd)
{
	return (struct stream_kernel_config){
		.listeners = {{fd, false}},
		.listener_count = 1,
		.limits = case_limits(),
		.handler = ignore,
	};
}

/* Refused with a text that has `word` in it; the socket is still ours. */
static void refused(
	const struct stream_kernel_config *config, int code, const char *word)
{
	struct stream_loop loop = {0};
	struct error err = {0};
	int rc;

	fake_os_reset();
	rc = stream_kernel_create(config, &loop, &err);
	CU_ASSERT_EQUAL(rc, code);
	if (rc == 0) {
		loop.ops->destroy(&loop);
		return;
	}
	if (!strstr(err.text, word))
		printf("\n'%s' is not in: %s\n", word, err.text);
	CU_ASSERT_PTR_NOT_NULL(strstr(err.text, word));
	CU_ASSERT_PTR_NULL(loop.ops);
	CU_ASSERT_TRUE(fake_os_check_empty());
}

static void test_create__limits_are_checked(void)
{
	int fd = listening_socket();
	struct stream_kernel_config config = usual(fd);

	config.listener_count = 0;
	refused(&config, -EINVAL, "listeners: 1 to 8, not 0");
	config.listener_count = 9;
	refused(&config, -EINVAL, "not 9");
	config = usual(fd);
	config.limits.stream_count = 0;
	refused(&config, -EINVAL, "streams: at least one per listener");
	config.limits.stream_count = UINT32_MAX;
	refused(&config, -EINVAL, "not 4294967295");
	config = usual(fd);
	config.limits.send_bytes = 0;
	refused(&config, -EINVAL, "send bytes per stream");
	config.limits.send_bytes = SIZE_MAX;
	refused(&config, -EINVAL, "send bytes per stream");
	config = usual(fd);
	config.limits.receive_bytes = 0;
	refused(&config, -EINVAL, "receive bytes per stream");
	config.limits.receive_bytes = SIZE_MAX;
	refused(&config, -EINVAL, "receive bytes per stream");
	config = usual(fd);
	config.limits.user_timeout_ns = 0;
	refused(&config, -EINVAL, "user timeout");
	config = usual(fd);
	config.limits.total_bytes = 100000;
	refused(&config, -EINVAL, "bytes of all streams: at least");
	config.limits.total_bytes = SIZE_MAX / 2;
	config.limits.stream_count = 1 << 20;
	config.limits.send_bytes = 1 << 30;
	refused(&config, -ENOMEM, "bytes of all streams: cannot map");
	close(fd);
}

static void test_create__sockets_are_checked(void)
{
	struct stream_kernel_config config;
	int fd = bound_socket(SOCK_STREAM);

	config = usual(fd);
	refused(&config, -EINVAL, "listener 0: does not listen");
	close(fd);
	refused(&config, -EINVAL, "listener 0: Bad file descriptor");
	fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	config = usual(fd);
	refused(&config, -EINVAL, "listener 0: Socket operation on non-socket");
	close(fd);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	CU_ASSERT_EQUAL(bind(fd, &(struct sockaddr){.sa_family = AF_UNIX},
				sizeof(sa_family_t)),
		0);
	CU_ASSERT_EQUAL(listen(fd, 1), 0);
	config = usual(fd);
	refused(&config, -EINVAL, "listener 0: no TCP socket");
	close(fd);
}

static void test_create__no_io_uring_says_what_to_do(void)
{
	int fd = listening_socket();
	struct stream_kernel_config config = usual(fd);
	static const int codes[] = {ENOSYS, EPERM, EMFILE, ENOMEM};
	static const int wanted[] = {-ENOSYS, -ENOSYS, -ENOMEM, -ENOMEM};

	for (size_t i = 0; i < 4; i++) {
		struct stream_loop loop;
		struct error err = {0};

		fake_os_reset();
		fake_os_fail(FAKE_OS_URING_INIT, 1, codes[i]);
		CU_ASSERT_EQUAL(
			stream_kernel_create(&config, &loop, &err), wanted[i]);
		CU_ASSERT_TRUE(fake_os_has_failed());
		CU_ASSERT_EQUAL(
			strstr(err.text, "kernel.io_uring_disabled") != NULL,
			wanted[i] == -ENOSYS);
		CU_ASSERT_TRUE(fake_os_check_empty());
		fake_os_disarm();
	}
	close(fd);
}

static void test_create__every_fault_leaves_nothing(void)
{
	int fd = listening_socket();
	struct stream_kernel_config config = usual(fd);
	uint64_t n = 0;
	bool failed;

	do {
		struct stream_loop loop = {0};
		struct error err = {0};
		int rc;

		fake_os_reset();
		fake_os_fail(FAKE_OS_ANY, ++n, ENOMEM);
		rc = stream_kernel_create(&config, &loop, &err);
		failed = fake_os_has_failed();
		CU_ASSERT_EQUAL(rc, failed ? -ENOMEM : 0);
		CU_ASSERT_EQUAL(error_is_set(&err), failed);
		if (rc == 0) {
			loop.ops->poll(&loop, mono_now());
			loop.ops->destroy(&loop);
		}
		CU_ASSERT_TRUE(fake_os_check_empty());
		CU_ASSERT_FATAL(n < 50);
	} while (failed);
	/* The loop, streams, messages, stock, the pools, the ring. */
	CU_ASSERT_TRUE(n > 6);
	fake_os_disarm();
}

/* A kernel that does not know the newest flags gets the older ones. */
static void test_create__older_kernels(void)
{
	struct stream_limits limits = case_limits();
	struct stream_case c;
	char answer[5];
	int fd;

	fake_os_reset();
	fake_os_fail(FAKE_OS_URING_INIT, 1, EINVAL);
	case_begin(&c, &limits, case_echo);
	CU_ASSERT_TRUE(fake_os_has_failed());
	fd = client_connect(&c);
	CU_ASSERT_TRUE(client_send(fd, "hello", 5));
	CU_ASSERT_TRUE(client_receive(&c, fd, answer, 5));
	CU_ASSERT_EQUAL(memcmp(answer, "hello", 5), 0);
	close(fd);
	CU_ASSERT_TRUE(case_run_closed(&c, 1));
	case_end(&c);
	CU_ASSERT_TRUE(fake_os_check_empty());
	fake_os_disarm();
}

/* No descriptor for a new connection: it waits, the others go on. */
static void test_accept__out_of_descriptors(void)
{
	struct stream_limits limits = case_limits();
	struct rlimit usual_limit, none;
	struct stream_case c;
	char answer[5];
	int first, second;

	case_begin(&c, &limits, case_echo);
	first = client_connect(&c);
	CU_ASSERT_TRUE_FATAL(case_run_opened(&c, 1));
	second = client_connect(&c);
	getrlimit(RLIMIT_NOFILE, &usual_limit);
	none = usual_limit;
	none.rlim_cur = (rlim_t)second;
	CU_ASSERT_EQUAL_FATAL(setrlimit(RLIMIT_NOFILE, &none), 0);
	for (int i = 0; i < 3; i++) {
		CU_ASSERT_TRUE(client_send(first, "hello", 5));
		CU_ASSERT_TRUE(client_receive(&c, first, answer, 5));
	}
	CU_ASSERT_EQUAL(c.opened_count, 1);
	setrlimit(RLIMIT_NOFILE, &usual_limit);
	CU_ASSERT_TRUE(case_run_opened(&c, 2));
	CU_ASSERT_TRUE(client_send(second, "hello", 5));
	CU_ASSERT_TRUE(client_receive(&c, second, answer, 5));
	close(first);
	close(second);
	CU_ASSERT_TRUE(case_run_closed(&c, 2));
	case_end(&c);
}

/* An idle stream has its struct; buffers are borrowed while bytes wait. */
static void test_streams__idle_ones_hold_no_buffer(void)
{
	struct stream_limits limits = case_limits();
	struct stream_case c;
	uint8_t piece[4000] = {0};
	int fds[32];

	/* Two buffers and some blocks are enough for 32 streams in turn. */
	limits.total_bytes = 2 * 16384 + 20 * 4160;
	case_begin(&c, &limits, case_echo);
	for (uint32_t i = 0; i < 32; i++)
		fds[i] = client_connect(&c);
	CU_ASSERT_TRUE_FATAL(case_run_opened(&c, 32));
	for (int round = 0; round < 3; round++)
		for (uint32_t i = 0; i < 32; i++) {
			client_send(fds[i], piece, sizeof(piece));
			CU_ASSERT_TRUE(client_receive(
				&c, fds[i], piece, sizeof(piece)));
		}
	for (uint32_t i = 0; i < 32; i++)
		close(fds[i]);
	CU_ASSERT_TRUE(case_run_closed(&c, 32));
	case_end(&c);
}

/* A blocking eventfd of others': a write to it does what wake() does. */
static void test_wake_fd__ends_a_wait(void)
{
	const struct mono never = {UINT64_MAX};
	struct stream_kernel_config config = usual(listening_socket());
	struct stream_loop loop;
	struct error err = {0};

	config.wake_fd = eventfd(0, EFD_CLOEXEC);
	CU_ASSERT_EQUAL_FATAL(stream_kernel_create(&config, &loop, &err), 0);
	for (uint32_t i = 1; i <= 3; i++) {
		CU_ASSERT_EQUAL(eventfd_write(config.wake_fd, 1), 0);
		CU_ASSERT_EQUAL(loop.ops->poll(&loop, never), 0);
		CU_ASSERT_EQUAL(loop.rung, i);
	}
	loop.ops->destroy(&loop);
	CU_ASSERT_EQUAL(close(config.wake_fd), 0);
}

int main(void)
{
	static const struct suite_case cases[] = {
		SUITE_CASE(create__limits_are_checked),
		SUITE_CASE(create__sockets_are_checked),
		SUITE_CASE(create__no_io_uring_says_what_to_do),
		SUITE_CASE(create__every_fault_leaves_nothing),
		SUITE_CASE(create__older_kernels),
		SUITE_CASE(accept__out_of_descriptors),
		SUITE_CASE(streams__idle_ones_hold_no_buffer),
		SUITE_CASE(wake_fd__ends_a_wait),
	};

	return SUITE_MAIN("stream_kernel", cases);
}
