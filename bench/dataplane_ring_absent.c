/* dataplane_ring_absent.c - the ring of a build without DPDK (-> error) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>

#include "bench/dataplane_wire.h"

int dataplane_wire_ring(struct dataplane_wire **out, struct error *err)
{
	*out = NULL;
	return error_set(err, ENOTSUP, "this build has no DPDK");
}

int dataplane_wire_memif(struct dataplane_wire **out, struct error *err)
{
	return dataplane_wire_ring(out, err);
}
