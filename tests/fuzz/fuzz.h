/* fuzz.h - the entry point of a fuzz target (bytes -> nothing may break) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Why:   libFuzzer calls it with inputs that it makes up; replay.c calls it
 *        with every file of a corpus, so that the corpus is a plain test.
 * Use:   one target per program: link fuzz_NAME.c with -fsanitize=fuzzer, or
 *        with replay.c.
 */
#ifndef HEDDLE_TESTS_FUZZ_FUZZ_H
#define HEDDLE_TESTS_FUZZ_FUZZ_H

#include <stddef.h>
#include <stdint.h>

/* Returns 0; a fault is a crash. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#endif
