/* tcp_steps.h - any bytes as what happens to a stack in some state */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HEDDLE_TESTS_FUZZ_TCP_STEPS_H
#define HEDDLE_TESTS_FUZZ_TCP_STEPS_H

#include <stddef.h>
#include <stdint.h>

enum tcp_steps_state { STEPS_LISTEN, STEPS_ESTABLISHED, STEPS_CLOSING };

/*
 * Bring a stack into the state, then take steps from the bytes: frames, TCP
 * segments near the window, time, calls from above. All state is checked
 * after each; at the end everything has to have been given back.
 */
void tcp_steps_run(
	enum tcp_steps_state state, const uint8_t *data, size_t size);

#endif
