/* aborts.h - does a piece of code stop the process? */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Why:   an assert that guards a contract is a promise, so it has a test.
 * Use:   CU_ASSERT(aborts(run_rule_breaker, &argument)): the function runs in
 *        a child process whose messages are thrown away.
 */
#ifndef HEDDLE_TESTS_ABORTS_H
#define HEDDLE_TESTS_ABORTS_H

#include <stdbool.h>

/* true: run(argument) ended by SIGABRT; false: it returned or died else. */
bool aborts(void (*run)(void *argument), void *argument);

#endif
