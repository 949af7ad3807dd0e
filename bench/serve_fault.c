/* serve_fault.c - what can be wrong with an answer, each with a name */
/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>

#include "bench/serve_fault.h"

#define FAULT_NAME(name, text, meaning) text,
#define FAULT_MEANING(name, text, meaning) meaning,

const char *serve_fault_name(enum serve_fault fault)
{
	static const char *const names[] = {SERVE_FAULTS(FAULT_NAME)};

	assert(fault < SERVE_FAULT_COUNT);
	return names[fault];
}

const char *serve_fault_meaning(enum serve_fault fault)
{
	static const char *const meanings[] = {SERVE_FAULTS(FAULT_MEANING)};

	assert(fault < SERVE_FAULT_COUNT);
	return meanings[fault];
}
