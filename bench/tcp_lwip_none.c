/* tcp_lwip_none.c - where liblwip's headers are not (nothing -> -ENOTSUP) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>

#include "bench/tcp_side.h"

int tcp_side_lwip(uint32_t count, struct tcp_side *out, struct error *err)
{
	(void)count;
	(void)out;
	return error_set(err, ENOTSUP, "built without liblwip-dev");
}
