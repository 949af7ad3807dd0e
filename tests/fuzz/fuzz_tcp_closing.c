/* fuzz_tcp_closing.c - any bytes as steps, from one that is being closed */
/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/tcp_steps.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	tcp_steps_run(STEPS_CLOSING, data, size);
	return 0;
}
