/* fake_cuda_path.c - the probe's test build takes its driver from HEDDLE_LIBCUDA */
/* SPDX-License-Identifier: Apache-2.0 */
#include "bench/gpu/cuda_driver.h"

#include <stdlib.h>

const char *const *cuda_driver_paths(void)
{
	static const char *paths[2];

	paths[0] = getenv("HEDDLE_LIBCUDA");
	if (paths[0] == NULL)
		paths[0] = "HEDDLE_LIBCUDA-is-not-set";
	return paths;
}

const char *const *cuda_blaslt_paths(void)
{
	static const char *const none[] = {NULL};

	return none;
}
