/* probe_lt_none.c - stands in for probe_lt.c where there is no cublasLt.h */
/* SPDX-License-Identifier: Apache-2.0 */
#include "probe_section.h"

#include <errno.h>

int probe_section_cublaslt(struct probe *p)
{
	return probe_stop(
		p, -ENOTSUP, "this program was built without cublasLt.h");
}
