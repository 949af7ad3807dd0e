/* cuda_path.c - where the driver library and cuBLASLt are looked for */
/* SPDX-License-Identifier: Apache-2.0 */
#include "cuda_driver.h"

const char *const *cuda_driver_paths(void)
{
	static const char *const paths[] = {"libcuda.so.1",
		"/usr/local/nvidia/lib64/libcuda.so.1",
		"/usr/local/nvidia/lib/libcuda.so.1",
		"/usr/lib/x86_64-linux-gnu/libcuda.so.1", NULL};

	return paths;
}

const char *const *cuda_blaslt_paths(void)
{
	static const char *const paths[] = {"libcublasLt.so.13",
		"libcublasLt.so.12", "/usr/local/cuda/lib64/libcublasLt.so.13",
		"/usr/local/cuda/lib64/libcublasLt.so.12", NULL};

	return paths;
}
