/* test_tcp_linux.c - our TCP against the kernel's, through a tap */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The kernel is in a network namespace of this process's own, which takes no
 * privilege where user namespaces are allowed. Between the two is the wire of
 * the other tests, with its delay and loss, in real time. Nothing is asserted
 * about time but with HEDDLE_TCP_RATE=COUNT (make bench-tcp): so many transfers
 * go each way in turns, and in all we may take at most 1.25 times as long.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <linux/if_tun.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/pattern.h"
#include "tests/suite.h"
#include "tests/tcp_case.h"
#include "tests/wire_peer.h"

#define TAP "heddle0"
#define CLIENT_COUNT 4
#define RATE_COUNT 4 /* transfers each way; few say little at 1 % */
#define RATE_BYTES 500000
#define RATE_SHARE 0.8 /* of Linux's, at least */
#define PATIENCE_NS (60 * NS_PER_S)

static struct wire wire;
static struct tcp_case server;
static int tap = -1;
static bool over_ip6, announce; /* the next streams, the next server */
static bool has_ip6; /* this kernel */
static uint16_t port_base = 20000; /* those before may be in TIME_WAIT */

struct linux_client {
	int fd;
	uint64_t send_seed, receive_seed, send_total;
	uint64_t sent, received;
	bool shut, ended, wrong;
	int error;
	struct mono end; /* when the last byte came */
};

/* --- the tap --- */

static bool write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	bool fine = fd >= 0 &&
		    write(fd, text, strlen(text)) == (ssize_t)strlen(text);

	if (fd >= 0)
		close(fd);
	return fine;
}

static bool enter_namespace(void)
{
	char map[64];
	unsigned uid = getuid(), gid = getgid();

	if (unshare(CLONE_NEWUSER | CLONE_NEWNET))
		return false;
	write_file("/proc/self/setgroups", "deny");
	snprintf(map, sizeof(map), "0 %u 1", uid);
	if (!write_file("/proc/self/uid_map", map))
		return false;
	snprintf(map, sizeof(map), "0 %u 1", gid);
	return write_file("/proc/self/gid_map", map);
}

static bool set_interface(int fd, struct ifreq *request)
{
	struct sockaddr_in *in = (void *)&request->ifr_addr;
	bool fine;

	in->sin_family = AF_INET;
	memcpy(&in->sin_addr, peer_ip4, 4);
	fine = ioctl(fd, SIOCSIFADDR, request) == 0;
	in->sin_addr.s_addr = htonl(0xffffff00);
	fine = fine && ioctl(fd, SIOCSIFNETMASK, request) == 0;
	request->ifr_flags = IFF_UP | IFF_RUNNING;
	return fine && ioctl(fd, SIOCSIFFLAGS, request) == 0;
}

/* False: this kernel has no IPv6. */
static bool add_ip6(const uint8_t address[16])
{
	/* As linux/ipv6.h has it. */
	struct {
		uint8_t address[16];
		uint32_t prefix_bits;
		int index;
	} request = {.prefix_bits = 64, .index = (int)if_nametoindex(TAP)};
	int fd = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	bool fine;

	if (fd < 0)
		return false;
	memcpy(request.address, address, 16);
	fine = ioctl(fd, SIOCSIFADDR, &request) == 0;
	close(fd);
	return fine;
}

/* NULL, or why there is no kernel to talk to. */
static const char *open_tap(void)
{
	struct ifreq request = {.ifr_flags = IFF_TAP | IFF_NO_PI};
	int fd;

	if (!enter_namespace())
		return "no unprivileged network namespace here";
	tap = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
	if (tap < 0)
		return "no /dev/net/tun here";
	snprintf(request.ifr_name, sizeof(request.ifr_name), TAP);
	if (ioctl(tap, TUNSETIFF, &request))
		return "no tap may be made here";
	fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || !set_interface(fd, &request))
		return "the tap cannot be given an address";
	close(fd);
	/* Whatever this machine's rule is for addresses that others have. */
	write_file("/proc/sys/net/ipv6/conf/" TAP "/accept_dad", "1");
	has_ip6 = add_ip6(peer_ip6);
	/* Each transfer begins without what the last one has learnt. */
	write_file("/proc/sys/net/ipv4/tcp_no_metrics_save", "1");
	return NULL;
}

static void tap_input(
	void *arg, const uint8_t *frame, size_t length, struct mono now)
{
	(void)arg;
	(void)now;
	/* A full tap is a lost frame, as on any wire. */
	if (write(tap, frame, length) < 0 && errno != EAGAIN)
		CU_FAIL("tap");
}

static void tap_poll(void *arg, struct mono now)
{
	static uint8_t frame[WIRE_FRAME_BYTES];
	ssize_t got;

	(void)arg;
	(void)now;
	while ((got = read(tap, frame, sizeof(frame))) > 0)
		wire_send(&wire, 1, frame, (size_t)got);
}

static struct mono tap_deadline(void *arg)
{
	(void)arg;
	return (struct mono){UINT64_MAX};
}

/* --- clients --- */

static socklen_t address_put(
	struct sockaddr_storage *out, bool of_peer, uint16_t port)
{
	struct sockaddr_in6 *in6 = (void *)out;
	struct sockaddr_in *in = (void *)out;

	memset(out, 0, sizeof(*out));
	if (over_ip6) {
		in6->sin6_family = AF_INET6;
		in6->sin6_port = htons(port);
		memcpy(&in6->sin6_addr, of_peer ? peer_ip6 : server_ip6, 16);
		return sizeof(*in6);
	}
	in->sin_family = AF_INET;
	in->sin_port = htons(port);
	memcpy(&in->sin_addr, of_peer ? peer_ip4 : server_ip4, 4);
	return sizeof(*in);
}

static bool client_open(struct linux_client *c, uint32_t index)
{
	struct sockaddr_storage own, to;
	socklen_t length =
		address_put(&own, true, (uint16_t)(port_base + index));
	const int one = 1;

	address_put(&to, false, CASE_PORT);
	c->fd = socket(over_ip6 ? AF_INET6 : AF_INET,
		SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	setsockopt(c->fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	/* Like is compared with like; BBR takes no notice of such loss. */
	setsockopt(c->fd, IPPROTO_TCP, TCP_CONGESTION, "cubic", 5);
	return c->fd >= 0 &&
	       bind(c->fd, (struct sockaddr *)&own, length) == 0 &&
	       (connect(c->fd, (struct sockaddr *)&to, length) == 0 ||
		       errno == EINPROGRESS);
}

static bool is_connected(int fd)
{
	struct sockaddr_storage peer;
	socklen_t length = sizeof(peer);

	return getpeername(fd, (struct sockaddr *)&peer, &length) == 0;
}

static void client_send_some(struct linux_client *c)
{
	uint8_t piece[16384];
	size_t length = sizeof(piece);
	ssize_t got;

	if (c->sent == c->send_total) {
		/* Before it is connected a shutdown would undo that. */
		if (!c->shut && is_connected(c->fd) &&
			shutdown(c->fd, SHUT_WR) == 0)
			c->shut = true;
		return;
	}
	if (length > c->send_total - c->sent)
		length = (size_t)(c->send_total - c->sent);
	pattern_fill(c->send_seed, c->sent, piece, length);
	got = send(c->fd, piece, length, MSG_NOSIGNAL | MSG_DONTWAIT);
	if (got > 0)
		c->sent += (uint64_t)got;
	else if (got < 0 && errno != EAGAIN && errno != ENOTCONN)
		c->error = errno;
}

static void client_receive_some(struct linux_client *c)
{
	uint8_t piece[16384];
	ssize_t got = recv(c->fd, piece, sizeof(piece), MSG_DONTWAIT);

	if (got > 0) {
		c->wrong |= !pattern_matches(
			c->receive_seed, c->received, piece, (size_t)got);
		c->received += (uint64_t)got;
		c->end = mono_now();
	} else if (got == 0) {
		c->ended = true;
	} else if (errno != EAGAIN && errno != ENOTCONN) {
		c->error = errno;
	}
}

static void begin(const struct wire_line *line, uint64_t seed)
{
	struct net_config config = case_config();

	config.tcp.send_bytes = 1 << 20;
	config.tcp.receive_bytes = 1 << 20;
	config.tcp.send_total_bytes = 8 << 20;
	config.tcp.receive_total_bytes = 8 << 20;
	config.ip6_announce = announce;
	wire_init(&wire, seed);
	wire.now = mono_now();
	wire.lines[0] = wire.lines[1] = *line;
	case_init(&server, &wire, 0, &config);
	server.random = seed;
	wire.ends[1] =
		(struct wire_end){NULL, tap_input, tap_poll, tap_deadline};
}

static void add_stream(struct linux_client *c, uint32_t index,
	uint64_t to_server, uint64_t to_client)
{
	*c = (struct linux_client){.send_seed = index * 2 + 1,
		.receive_seed = index * 2 + 2,
		.send_total = to_server};
	server.streams[index] =
		(struct case_stream){.port = (uint16_t)(port_base + index),
			.send_seed = c->receive_seed,
			.receive_seed = c->send_seed,
			.send_total = to_client,
			.ending = (enum case_ending)(
				index % 3 == 1 ? CASE_HALF : CASE_AFTER_PEER),
			.piece_max = 8192};
	server.stream_count = index + 1;
	CU_ASSERT_FATAL(client_open(c, index));
}

static bool all_done(const struct linux_client *clients, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++)
		if (server.streams[i].closed_count == 0 ||
			(!clients[i].ended && !clients[i].error))
			return false;
	return true;
}

/* Turn until all is over; false when that takes too long. */
static bool run(struct linux_client *clients, uint32_t count)
{
	struct mono end = mono_add(mono_now(), PATIENCE_NS);

	while (!all_done(clients, count)) {
		if (!mono_before(mono_now(), end))
			return false;
		wire_run(&wire, mono_now(), NULL, NULL);
		for (uint32_t i = 0; i < count; i++) {
			if (clients[i].error)
				continue;
			client_send_some(&clients[i]);
			if (!clients[i].ended)
				client_receive_some(&clients[i]);
		}
	}
	return true;
}

static void judge(const struct linux_client *c, uint32_t index)
{
	const struct case_stream *s = &server.streams[index];

	CU_ASSERT_EQUAL(c->error, 0);
	CU_ASSERT_FALSE(c->wrong || s->wrong);
	CU_ASSERT_EQUAL(c->received, s->send_total);
	CU_ASSERT_EQUAL(s->received, c->send_total);
	CU_ASSERT_EQUAL(s->end, TCP_END_CLEAN);
}

static void finish(struct linux_client *clients, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++)
		close(clients[i].fd);
	tcp_check(server.tcp);
	case_release(&server);
	wire_release(&wire);
	port_base = (uint16_t)(port_base + CASE_STREAM_COUNT);
}

static void exchange(const struct wire_line *line, uint64_t bytes)
{
	struct linux_client clients[CLIENT_COUNT];

	begin(line, 1);
	for (uint32_t i = 0; i < CLIENT_COUNT; i++)
		add_stream(&clients[i], i, bytes + i, bytes - i);
	CU_ASSERT_TRUE(run(clients, CLIENT_COUNT));
	for (uint32_t i = 0; i < CLIENT_COUNT; i++)
		judge(&clients[i], i);
	finish(clients, CLIENT_COUNT);
}

static void test_linux__both_ways(void)
{
	const struct wire_line line = {0};

	exchange(&line, 3000000);
}

/* What the kernel says of an address of its own; -1 = it has it not. */
static long flags_of(const char *address)
{
	FILE *f = fopen("/proc/thread-self/net/if_inet6", "re");
	char line[128], *at;
	long flags = -1;

	/* address, interface, prefix, scope, flags, name; in hexadecimal */
	while (f && fgets(line, sizeof(line), f)) {
		if (strncmp(line, address, 32) != 0)
			continue;
		at = line + 32;
		for (int i = 0; i < 4; i++)
			flags = strtol(at, &at, 16);
	}
	if (f)
		fclose(f);
	return flags;
}

enum { IS_TENTATIVE = 0x40, DAD_FAILED = 0x08 };

static void pass_real_time(uint64_t ns)
{
	struct mono end = mono_add(mono_now(), ns);

	while (mono_before(mono_now(), end))
		wire_run(&wire, mono_now(), NULL, NULL);
}

static void begin_ip6(const struct wire_line *line)
{
	struct mono end;

	over_ip6 = announce = true;
	begin(line, 1);
	announce = false;
	/* The check of our addresses; the kernel's own may begin a second late. */
	end = mono_add(mono_now(), PATIENCE_NS);
	pass_real_time(1500 * NS_PER_MS);
	while ((flags_of("fd000000000000000000000000000002") & IS_TENTATIVE) &&
		mono_before(mono_now(), end))
		pass_real_time(NS_PER_MS);
}

static void test_linux__ip6(void)
{
	const struct wire_line line = {.loss = 10000, .delay_ns = NS_PER_MS};
	struct linux_client clients[CLIENT_COUNT];

	if (!has_ip6) {
		printf("no IPv6 here ");
		return;
	}
	begin_ip6(&line);
	for (uint32_t i = 0; i < CLIENT_COUNT; i++)
		add_stream(&clients[i], i, 200000 + i, 300000 - i);
	CU_ASSERT_TRUE(run(clients, CLIENT_COUNT));
	for (uint32_t i = 0; i < CLIENT_COUNT; i++)
		judge(&clients[i], i);
	CU_ASSERT_EQUAL(net_stack_counters(server.net)->ip6_duplicates, 0);
	finish(clients, CLIENT_COUNT);
	over_ip6 = false;
}

/* The kernel wants our address, and hears from us that it is taken. */
static void test_linux__ip6_address_is_taken(void)
{
	const struct wire_line line = {0};
	struct mono end;
	long flags = 0;

	if (!has_ip6) {
		printf("no IPv6 here ");
		return;
	}
	begin_ip6(&line);
	CU_ASSERT_TRUE(add_ip6(server_ip6));
	end = mono_add(mono_now(), PATIENCE_NS);
	while (!(flags & DAD_FAILED) && flags >= 0 &&
		mono_before(mono_now(), end)) {
		pass_real_time(NS_PER_MS);
		flags = flags_of("fd000000000000000000000000000001");
	}
	CU_ASSERT_TRUE(flags >= 0 && (flags & DAD_FAILED));
	finish(NULL, 0);
	over_ip6 = false;
}

static void test_linux__loss_and_reordering(void)
{
	const struct wire_line line = {.loss = 20000,
		.reorder = 20000,
		.duplicate = 20000,
		.delay_ns = NS_PER_MS,
		.reorder_ns = 2 * NS_PER_MS};

	exchange(&line, 200000);
}

static void test_linux__corruption(void)
{
	const struct wire_line line = {.corrupt = 10000, .delay_ns = NS_PER_MS};

	exchange(&line, 200000);
}

static void test_linux__reset_and_refused(void)
{
	const struct wire_line line = {0};
	const struct linger now = {1, 0};
	struct mono end = mono_add(mono_now(), PATIENCE_NS);
	struct linux_client c;

	begin(&line, 1);
	add_stream(&c, 0, 1000000, 10);
	while (server.streams[0].opened_count == 0 &&
		mono_before(mono_now(), end))
		wire_run(&wire, mono_now(), NULL, NULL);
	setsockopt(c.fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
	close(c.fd);
	while (server.streams[0].closed_count == 0 &&
		mono_before(mono_now(), end))
		wire_run(&wire, mono_now(), NULL, NULL);
	CU_ASSERT_EQUAL(server.streams[0].closed_count, 1);
	CU_ASSERT_EQUAL(server.streams[0].end, TCP_END_RESET);
	/* Nobody listens any more: the kernel hears so at once. */
	tcp_drain(server.tcp);
	add_stream(&c, 1, 10, 10);
	while (c.error == 0 && mono_before(mono_now(), end)) {
		wire_run(&wire, mono_now(), NULL, NULL);
		client_send_some(&c);
	}
	CU_ASSERT_EQUAL(c.error, ECONNREFUSED);
	finish(&c, 1);
}

/* One stream of `bytes` one way; how long it took. */
static double seconds_of(uint64_t seed, uint64_t to_server, uint64_t to_client)
{
	const struct wire_line line = {
		.loss = 10000, .delay_ns = 5 * NS_PER_MS};
	struct mono from = mono_now();
	struct linux_client c;
	double seconds;

	begin(&line, seed);
	add_stream(&c, 0, to_server, to_client);
	CU_ASSERT_TRUE(run(&c, 1));
	judge(&c, 0);
	seconds = (double)mono_diff(mono_now(), from) / 1e9;
	finish(&c, 1);
	return seconds;
}

static void test_linux__rate_at_one_percent_loss(void)
{
	const char *text = getenv("HEDDLE_TCP_RATE");
	uint64_t count = text ? strtoull(text, NULL, 10) : RATE_COUNT;
	double ours = 0, theirs = 0;

	/* In turns, so that whatever else the machine does hits both. */
	for (uint64_t seed = 1; seed <= count; seed++) {
		ours += seconds_of(seed, 0, RATE_BYTES);
		theirs += seconds_of(seed, RATE_BYTES, 0);
	}
	printf("1 %% loss, 10 ms, %llu transfers: we send %.2f MB/s, "
	       "Linux's CUBIC %.2f MB/s ",
		(unsigned long long)count,
		RATE_BYTES * 1e-6 / ours * (double)count,
		RATE_BYTES * 1e-6 / theirs * (double)count);
	if (text)
		CU_ASSERT_TRUE(ours * RATE_SHARE <= theirs);
}

static const struct suite_case cases[] = {
	SUITE_CASE(linux__both_ways),
	SUITE_CASE(linux__loss_and_reordering),
	SUITE_CASE(linux__corruption),
	SUITE_CASE(linux__reset_and_refused),
	SUITE_CASE(linux__ip6),
	SUITE_CASE(linux__ip6_address_is_taken),
	SUITE_CASE(linux__rate_at_one_percent_loss),
};

int main(void)
{
	const char *reason = open_tap();

	if (reason) {
		printf("%s\n", reason);
		return 77;
	}
	return SUITE_MAIN("tcp_linux", cases);
}
