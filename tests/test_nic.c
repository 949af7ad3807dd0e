/* test_nic.c - a polled port over DPDK's ring: what is sent comes back */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * net_ring needs no card, no privilege and no huge pages. Its one ring holds
 * RING_COUNT frames by pointer, so that also buffers are counted exactly.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dataplane/nic.h"
#include "tests/fake/fake_ports.h"
#include "tests/pattern.h"
#include "tests/suite.h"

#define RING_COUNT 1023
#define FRAME_BYTES 1514
#define FRAME_COUNT 20000

static const struct net_offload no_offload = {0};
static uint64_t now_ns = NS_PER_S;

/* --- time: instead of base/clock.c --- */

struct mono mono_now(void)
{
	return (struct mono){now_ns};
}

/* --- ports and frames --- */

static struct nic *open_ring(void)
{
	const struct nic_config config = {
		.device = "net_ring0", .mtu_bytes = 1500};
	struct error err = {0};
	struct nic *nic = NULL;
	int rc = nic_open(&config, &nic, &err);

	if (rc)
		printf("\n%s\n", err.text);
	CU_ASSERT_EQUAL_FATAL(rc, 0);
	return nic;
}

/* Refused, with a text that holds the words; returns the error. */
static int refused(const char *device, uint32_t mtu_bytes, const char *words)
{
	struct nic_config config = {.mtu_bytes = mtu_bytes};
	struct error err = {0};
	struct nic *nic = NULL;
	int rc;

	snprintf(config.device, sizeof(config.device), "%s", device);
	rc = nic_open(&config, &nic, &err);
	CU_ASSERT_PTR_NULL(nic);
	CU_ASSERT_NOT_EQUAL(rc, 0);
	CU_ASSERT_EQUAL(rc, err.code);
	if (!strstr(err.text, words) || !strstr(err.text, device))
		printf("\n%s\n", err.text);
	CU_ASSERT(strstr(err.text, words) && strstr(err.text, device));
	return rc;
}

/* Frame `number` of a run, of a length that follows from it. */
static size_t frame_length(uint64_t seed, uint32_t number)
{
	return 60 + (size_t)((seed + number) * 2654435761u >> 7) %
			    (FRAME_BYTES - 60);
}

static bool send_one(struct nic *nic, uint64_t seed, uint32_t number)
{
	size_t length = frame_length(seed, number);
	uint8_t *frame = nic_frame_get(nic, length);

	if (!frame)
		return false;
	pattern_fill(seed + number, 0, frame, length);
	nic_frame_send(nic, frame, length, &no_offload);
	return true;
}

/* Take what is there; each is the next of the run. Returns how many. */
static uint32_t receive_some(
	struct nic *nic, uint64_t seed, uint32_t first, uint32_t max)
{
	struct net_frame frames[NET_BURST_COUNT_MAX];
	uint32_t count = nic_receive(nic, frames, max);

	CU_ASSERT_FATAL(count <= max);
	for (uint32_t i = 0; i < count; i++) {
		uint64_t number = first + i;

		CU_ASSERT_EQUAL_FATAL(
			frames[i].length, frame_length(seed, (uint32_t)number));
		CU_ASSERT_FATAL(pattern_matches(
			seed + number, 0, frames[i].bytes, frames[i].length));
	}
	return count;
}

static void test_nic_open__says_what_is_missing(void)
{
	CU_ASSERT_EQUAL(
		refused("net_nonsense0", 1500, "cannot be made"), -EINVAL);
	CU_ASSERT_EQUAL(
		refused("ff1f:1f:1f.7", 1500, "has no driver"), -ENODEV);
	(void)refused("net_af_packet0,iface=heddle-no", 1500, "DPDK says");
	{
		const struct nic_config two = {.device = "net_ring0",
			.standby = "net_nonsense0",
			.mtu_bytes = 1500};
		struct error err = {0};
		struct nic *nic;

		CU_ASSERT_EQUAL(nic_open(&two, &nic, &err), -EINVAL);
		CU_ASSERT_PTR_NOT_NULL(strstr(err.text, "net_nonsense0"));
	}
	/* Nothing is left: a good one opens. */
	nic_close(open_ring());
}

static void test_nic_open__one_at_a_time(void)
{
	struct nic *nic = open_ring();

	CU_ASSERT_EQUAL(refused("net_ring1", 1500, "is open"), -EBUSY);
	nic_close(nic);
	nic_close(open_ring());
}

static void test_nic_facts__of_a_port_without_off_loads(void)
{
	static const uint8_t none[6];
	struct nic *nic = open_ring();
	struct nic_facts facts;
	struct nic_numbers numbers;

	nic_get_facts(nic, &facts);
	CU_ASSERT_STRING_EQUAL(facts.driver, "net_ring");
	CU_ASSERT_FALSE(facts.checksums_in || facts.checksums_out);
	CU_ASSERT_EQUAL(facts.tso_bytes, 0);
	CU_ASSERT(memcmp(facts.mac, none, 6) != 0 || facts.mac[0] == 0);
	nic_get_numbers(nic, &numbers);
	CU_ASSERT(numbers.link_up);
	CU_ASSERT_EQUAL(numbers.link_changes, 1);
	/* Too large for the MTU, and there is no off-load to cut it. */
	CU_ASSERT_PTR_NULL(nic_frame_get(nic, 4000));
	nic_close(nic);
}

#define ALL_OUT (FAKE_OUT_SUM | FAKE_OUT_IP | FAKE_OUT_CUT)

/* What a port, or one of two, cannot do is left to software. */
static void test_nic_facts__what_the_port_lacks(void)
{
	static const struct {
		bool second;
		unsigned can[2], wanted;
	} cases[] = {
		{false, {0}, 0},
		{false, {FAKE_IN_SUM}, FAKE_IN_SUM},
		{false, {FAKE_OUT_SUM | FAKE_OTHER}, FAKE_OUT_SUM},
		{false, {FAKE_OUT_SUM | FAKE_OUT_CUT}, FAKE_OUT_SUM},
		{false, {FAKE_OUT_IP | FAKE_OUT_CUT}, 0},
		{false, {FAKE_IN_SUM | ALL_OUT}, FAKE_IN_SUM | ALL_OUT},
		{true, {FAKE_IN_SUM | ALL_OUT, FAKE_IN_SUM | FAKE_OUT_SUM},
			FAKE_IN_SUM | FAKE_OUT_SUM},
		{true, {ALL_OUT | FAKE_OTHER, FAKE_IN_SUM | ALL_OUT}, ALL_OUT},
		{true, {FAKE_IN_SUM | ALL_OUT, 0}, 0},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct nic_config config = {
			.device = "net_ring0", .mtu_bytes = 1500};
		struct nic_facts facts;
		struct error err = {0};
		struct nic *nic = NULL;

		if (cases[i].second)
			snprintf(config.standby, sizeof(config.standby),
				"net_ring1");
		fake_ports = (struct fake_ports){.offers = true,
			.can = {cases[i].can[0], cases[i].can[1]}};
		CU_ASSERT_EQUAL_FATAL(nic_open(&config, &nic, &err), 0);
		nic_get_facts(nic, &facts);
		CU_ASSERT_EQUAL(fake_ports.wanted, cases[i].wanted);
		CU_ASSERT_EQUAL(facts.checksums_in,
			(cases[i].wanted & FAKE_IN_SUM) != 0);
		CU_ASSERT_EQUAL(facts.checksums_out,
			(cases[i].wanted & FAKE_OUT_SUM) != 0);
		CU_ASSERT_EQUAL(facts.tso_bytes,
			cases[i].wanted & FAKE_OUT_CUT ? NIC_TSO_BYTES_MAX : 0);
		nic_close(nic);
	}
	fake_ports_reset();
}

/* Frames `first`... of a run, out and in again. */
static uint32_t through(struct nic *nic, uint32_t first, uint32_t count)
{
	uint32_t received = 0, got;

	for (uint32_t i = 0; i < count; i++)
		CU_ASSERT(send_one(nic, 3, first + i));
	(void)nic_flush(nic);
	while ((got = receive_some(nic, 3, first + received, 64)) > 0)
		received += got;
	return received;
}

static void test_nic_watch__the_other_port_takes_over(void)
{
	const struct nic_config config = {.device = "net_ring0",
		.standby = "net_ring1",
		.mtu_bytes = 1500};
	struct nic_numbers numbers;
	struct error err = {0};
	uint32_t before;
	struct nic *nic;

	CU_ASSERT_EQUAL_FATAL(nic_open(&config, &nic, &err), 0);
	before = nic_buffers_out(nic);
	CU_ASSERT_FALSE(nic_watch(nic));
	CU_ASSERT_EQUAL(through(nic, 0, 100), 100);
	/* What waits goes out by the other one. */
	CU_ASSERT(send_one(nic, 3, 100));
	fake_ports_link("net_ring0", true);
	CU_ASSERT(nic_watch(nic));
	CU_ASSERT_FALSE(nic_watch(nic));
	nic_get_numbers(nic, &numbers);
	CU_ASSERT_EQUAL(numbers.active, 1);
	CU_ASSERT_EQUAL(numbers.port_count, 2);
	CU_ASSERT_EQUAL(numbers.takeovers, 1);
	CU_ASSERT(numbers.link_up);
	CU_ASSERT(nic_flush(nic));
	CU_ASSERT_EQUAL(receive_some(nic, 3, 100, 64), 1);
	CU_ASSERT_EQUAL(through(nic, 101, 50), 50);
	/* That the first is back is no reason to go. */
	fake_ports_link("net_ring0", false);
	CU_ASSERT_FALSE(nic_watch(nic));
	/* With no link at all everything stays. */
	fake_ports_link("net_ring0", true);
	fake_ports_link("net_ring1", true);
	CU_ASSERT_FALSE(nic_watch(nic));
	nic_get_numbers(nic, &numbers);
	CU_ASSERT_FALSE(numbers.link_up);
	CU_ASSERT_EQUAL(numbers.active, 1);
	fake_ports_link("net_ring0", false);
	CU_ASSERT(nic_watch(nic));
	CU_ASSERT_EQUAL(through(nic, 200, 50), 50);
	nic_get_numbers(nic, &numbers);
	CU_ASSERT_EQUAL(numbers.active, 0);
	CU_ASSERT_EQUAL(numbers.takeovers, 2);
	CU_ASSERT_EQUAL(numbers.in_frames, 201);
	CU_ASSERT_EQUAL(numbers.in_lost + numbers.out_lost, 0);
	/* up, up; down; up; down, down; up */
	CU_ASSERT_EQUAL(numbers.link_changes, 7);
	CU_ASSERT_EQUAL(nic_buffers_out(nic), before);
	nic_close(nic);
	fake_ports_reset();
}

/* One that stood by has heard what was for all: it is not news. */
static void test_nic_watch__what_is_old_is_forgotten(void)
{
	const struct nic_config config = {.device = "net_ring0",
		.standby = "net_ring1",
		.mtu_bytes = 1500};
	struct error err = {0};
	uint32_t before;
	struct nic *nic;

	CU_ASSERT_EQUAL_FATAL(nic_open(&config, &nic, &err), 0);
	before = nic_buffers_out(nic);
	/* In the ring, and not taken when its link goes. */
	for (uint32_t i = 0; i < 200; i++)
		CU_ASSERT(send_one(nic, 3, i));
	CU_ASSERT(nic_flush(nic));
	fake_ports_link("net_ring0", true);
	CU_ASSERT(nic_watch(nic));
	fake_ports_link("net_ring0", false);
	fake_ports_link("net_ring1", true);
	CU_ASSERT(nic_watch(nic));
	CU_ASSERT_EQUAL(through(nic, 500, 10), 10);
	CU_ASSERT_EQUAL(nic_buffers_out(nic), before);
	nic_close(nic);
	fake_ports_reset();
}

static void test_nic__frames_come_back_in_order(void)
{
	uint64_t random = suite_seed(11), seed = random;
	struct nic *nic = open_ring();
	uint32_t before = nic_buffers_out(nic), sent = 0, received = 0;
	struct nic_numbers numbers;

	while (received < FRAME_COUNT) {
		uint32_t burst = suite_below(&random, 100);

		while (burst-- > 0 && sent < FRAME_COUNT &&
			send_one(nic, seed, sent))
			sent++;
		(void)nic_flush(nic);
		received += receive_some(nic, seed, received,
			1 + suite_below(&random, NET_BURST_COUNT_MAX));
	}
	CU_ASSERT_EQUAL(receive_some(nic, seed, 0, 1), 0);
	nic_get_numbers(nic, &numbers);
	CU_ASSERT_EQUAL(numbers.out_frames, FRAME_COUNT);
	CU_ASSERT_EQUAL(numbers.in_frames, FRAME_COUNT);
	CU_ASSERT_EQUAL(numbers.in_bytes, numbers.out_bytes);
	CU_ASSERT_EQUAL(numbers.out_lost + numbers.in_lost, 0);
	CU_ASSERT_EQUAL(nic_buffers_out(nic), before);
	nic_close(nic);
}

static void test_nic__a_full_port_keeps_what_waits_in_order(void)
{
	struct nic *nic = open_ring();
	uint32_t before = nic_buffers_out(nic), sent = 0, received = 0, got;

	while (send_one(nic, 7, sent))
		sent++;
	CU_ASSERT_EQUAL(sent, RING_COUNT + NIC_SEND_COUNT);
	CU_ASSERT_FALSE(nic_flush(nic));
	CU_ASSERT_PTR_NULL(nic_frame_get(nic, 60));
	while ((got = receive_some(nic, 7, received, 64)) > 0) {
		received += got;
		(void)nic_flush(nic);
	}
	CU_ASSERT_EQUAL(received, sent);
	CU_ASSERT(nic_flush(nic));
	CU_ASSERT_EQUAL(nic_buffers_out(nic), before);
	nic_close(nic);
}

static void test_nic__what_is_stuck_is_dropped_one_by_one(void)
{
	struct nic *nic = open_ring();
	uint32_t before = nic_buffers_out(nic), sent = 0, received;
	struct nic_numbers numbers;

	while (send_one(nic, 8, sent))
		sent++;
	CU_ASSERT_FALSE(nic_flush(nic));
	now_ns += NIC_STUCK_NS - 1;
	CU_ASSERT_FALSE(nic_flush(nic));
	nic_get_numbers(nic, &numbers);
	CU_ASSERT_EQUAL(numbers.out_lost, 0);
	now_ns++;
	CU_ASSERT_FALSE(nic_flush(nic));
	CU_ASSERT_FALSE(nic_flush(nic));
	nic_get_numbers(nic, &numbers);
	CU_ASSERT_EQUAL(numbers.out_lost, 1);
	for (received = 0; received < RING_COUNT;)
		received += receive_some(nic, 8, received, 31);
	/* The first that waited is missing, the others go on. */
	CU_ASSERT(nic_flush(nic));
	for (received++; received < sent;)
		received += receive_some(nic, 8, received, 31);
	CU_ASSERT_EQUAL(receive_some(nic, 8, sent, 1), 0);
	CU_ASSERT_EQUAL(nic_buffers_out(nic), before);
	nic_close(nic);
}

static void test_nic__a_frame_that_is_never_sent_is_no_leak(void)
{
	struct nic *nic = open_ring();
	uint32_t before = nic_buffers_out(nic);

	for (int i = 0; i < 10000; i++)
		CU_ASSERT_PTR_NOT_NULL_FATAL(nic_frame_get(nic, 60));
	CU_ASSERT_EQUAL(nic_buffers_out(nic), before + 1);
	CU_ASSERT(send_one(nic, 1, 0));
	CU_ASSERT(nic_flush(nic));
	CU_ASSERT_EQUAL(receive_some(nic, 1, 0, 64), 1);
	CU_ASSERT_EQUAL(receive_some(nic, 1, 1, 64), 0);
	CU_ASSERT_EQUAL(nic_buffers_out(nic), before);
	nic_close(nic);
}

/* Each pair of queues is a ring of its own here, with buffers of its own. */
static void test_nic_queues__are_apart(void)
{
	const struct nic_config config = {.device = "net_ring0",
		.standby = "net_ring1",
		.mtu_bytes = 1500,
		.queue_count = 2};
	struct nic_numbers numbers;
	struct nic *nics[2];
	struct error err = {0};
	uint32_t before[2];

	CU_ASSERT_EQUAL_FATAL(nic_open(&config, &nics[0], &err), 0);
	nics[1] = nic_open_queue(nics[0], 1);
	for (int i = 0; i < 2; i++)
		before[i] = nic_buffers_out(nics[i]);
	CU_ASSERT(send_one(nics[1], 3, 0) && nic_flush(nics[1]));
	CU_ASSERT_EQUAL(receive_some(nics[0], 3, 0, 64), 0);
	CU_ASSERT_EQUAL(nic_buffers_out(nics[1]), before[1] + 1);
	CU_ASSERT_EQUAL(nic_buffers_out(nics[0]), before[0]);
	CU_ASSERT_EQUAL(receive_some(nics[1], 3, 0, 64), 1);
	CU_ASSERT_EQUAL(through(nics[0], 10, 50), 50);
	CU_ASSERT_EQUAL(through(nics[1], 20, 60), 60);
	/* The first one decides, the other follows when it looks. */
	fake_ports_link("net_ring0", true);
	CU_ASSERT_FALSE(nic_watch(nics[1]));
	CU_ASSERT(nic_watch(nics[0]));
	nic_get_numbers(nics[1], &numbers);
	CU_ASSERT_EQUAL(numbers.active, 0);
	CU_ASSERT_FALSE(nic_watch(nics[1]));
	nic_get_numbers(nics[1], &numbers);
	CU_ASSERT(numbers.active == 1 && numbers.in_frames == 61);
	CU_ASSERT_EQUAL(numbers.takeovers + numbers.link_changes, 0);
	CU_ASSERT_EQUAL(through(nics[1], 30, 70), 70);
	CU_ASSERT_EQUAL(through(nics[0], 40, 80), 80);
	for (int i = 0; i < 2; i++)
		CU_ASSERT_EQUAL(nic_buffers_out(nics[i]), before[i]);
	nic_close(nics[1]);
	nic_close(nics[0]);
	fake_ports_reset();
	nic_close(open_ring());
}

static void test_nic_queues__too_few(void)
{
	const struct nic_config config = {
		.device = "net_ring0", .mtu_bytes = 1500, .queue_count = 2};
	struct error err = {0};
	struct nic *nic = NULL;

	fake_ports.queues = 1;
	CU_ASSERT_EQUAL(nic_open(&config, &nic, &err), -ENOTSUP);
	CU_ASSERT_PTR_NULL(nic);
	CU_ASSERT_PTR_NOT_NULL(strstr(
		err.text, "net_ring0: nic-queues: 2, and the port has only 1"));
	fake_ports_reset();
	nic_close(open_ring());
}

static const struct suite_case cases[] = {
	SUITE_CASE(nic_open__says_what_is_missing),
	SUITE_CASE(nic_open__one_at_a_time),
	SUITE_CASE(nic_facts__of_a_port_without_off_loads),
	SUITE_CASE(nic_facts__what_the_port_lacks),
	SUITE_CASE(nic_watch__the_other_port_takes_over),
	SUITE_CASE(nic_watch__what_is_old_is_forgotten),
	SUITE_CASE(nic__frames_come_back_in_order),
	SUITE_CASE(nic__a_full_port_keeps_what_waits_in_order),
	SUITE_CASE(nic__what_is_stuck_is_dropped_one_by_one),
	SUITE_CASE(nic__a_frame_that_is_never_sent_is_no_leak),
	SUITE_CASE(nic_queues__are_apart),
	SUITE_CASE(nic_queues__too_few),
};

int main(void)
{
	return SUITE_MAIN("nic", cases);
}
