/* fake_cuda_fatbin.c - the probe's test build carries no kernels */
/* SPDX-License-Identifier: Apache-2.0 */
#include "bench/gpu/probe_fatbin.h"

const unsigned char probe_fatbin[] = {0};
