/* fuzz_tcp_established.c - any bytes as steps, from an open connection */
/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/tcp_steps.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	tcp_steps_run(STEPS_ESTABLISHED, data, size);
	return 0;
}
