/* fake_ports.h - what DPDK's ports say of themselves, by the test's word */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Wraps rte_eth_dev_info_get(), rte_eth_dev_configure() and
 * rte_eth_link_get_nowait(). Bits are of the test's own, so that tests need
 * none of DPDK's headers.
 */
#ifndef HEDDLE_TESTS_FAKE_PORTS_H
#define HEDDLE_TESTS_FAKE_PORTS_H

#include <stdbool.h>
#include <stdint.h>

enum fake_offload {
	FAKE_IN_SUM = 1, /* TCP's checksum of what comes is looked at */
	FAKE_OUT_SUM = 2,
	FAKE_OUT_IP = 4, /* IPv4's of what goes */
	FAKE_OUT_CUT = 8,
	FAKE_OTHER = 16 /* what we have no use for */
};

struct fake_ports {
	bool offers; /* what the first two ports can is said here */
	unsigned can[2]; /* enum fake_offload, in the order of being asked */
	unsigned asked; /* how many have been */
	unsigned wanted; /* of the port that was configured last */
	unsigned queues; /* that ports have; 0 = as many as they say */
};

extern struct fake_ports fake_ports;

/* A port by its name has no link, or what it has. */
void fake_ports_link(const char *name, bool down);

/* All is as DPDK says. */
void fake_ports_reset(void);

#endif
