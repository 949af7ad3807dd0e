/* fuzz_tcp_listen.c - any bytes as steps, from a stack that listens */
/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/tcp_steps.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	tcp_steps_run(STEPS_LISTEN, data, size);
	return 0;
}
