/* probe_json_check.h - is a text one valid JSON document (text -> yes or no) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Why:    what the probe writes is read by other programs; a test that only
 *         looked for words in it would pass on broken JSON.
 * Limits: 32 levels; numbers and escapes as RFC 8259 has them.
 */
#ifndef HEDDLE_TESTS_PROBE_JSON_CHECK_H
#define HEDDLE_TESTS_PROBE_JSON_CHECK_H

#include <stdbool.h>

bool probe_json_valid(const char *text);

#endif
