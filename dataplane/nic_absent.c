/* nic_absent.c - the port of a build without DPDK (nic.h -> errors) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "dataplane/nic.h"

bool nic_is_built(void)
{
	return false;
}

int nic_open(
	const struct nic_config *config, struct nic **out, struct error *err)
{
	*out = NULL;
	return error_set(err, ENOTSUP,
		"%s: this build has no DPDK: install libdpdk-dev and build "
		"again",
		config->device);
}

/* Without a port nobody has what the rest takes. */

struct nic *nic_open_queue(struct nic *first, uint32_t queue)
{
	(void)first;
	(void)queue;
	abort();
}

void nic_enter(struct nic *nic)
{
	(void)nic;
	abort();
}

void nic_get_facts(const struct nic *nic, struct nic_facts *out)
{
	(void)nic;
	(void)out;
	abort();
}

uint32_t nic_receive(struct nic *nic, struct net_frame *out, uint32_t max)
{
	(void)nic;
	(void)out;
	(void)max;
	abort();
}

uint8_t *nic_frame_get(struct nic *nic, size_t size)
{
	(void)nic;
	(void)size;
	abort();
}

/* NOLINTNEXTLINE(readability-non-const-parameter): nic.h's */
void nic_frame_send(struct nic *nic, uint8_t *frame, size_t length,
	const struct net_offload *offload)
{
	(void)nic;
	(void)frame;
	(void)length;
	(void)offload;
	abort();
}

bool nic_flush(struct nic *nic)
{
	(void)nic;
	abort();
}

bool nic_watch(struct nic *nic)
{
	(void)nic;
	abort();
}

int nic_event_fd(const struct nic *nic)
{
	(void)nic;
	abort();
}

bool nic_arm(struct nic *nic)
{
	(void)nic;
	abort();
}

void nic_disarm(struct nic *nic)
{
	(void)nic;
	abort();
}

void nic_get_numbers(struct nic *nic, struct nic_numbers *out)
{
	(void)nic;
	(void)out;
	abort();
}

uint32_t nic_buffers_out(const struct nic *nic)
{
	(void)nic;
	abort();
}

void nic_close(struct nic *nic)
{
	assert(!nic);
}
