/*
 * fake_cuda.h - the two halves of the driver library that has no card
 *
 * Why:        the probe's host code (order of calls, rules, clean-up, errors)
 *             can run where there is no card.
 * Invariants: a device address is the host's own address of the memory.
 * Threads:    one.
 * Limits:     FAKE_ARGS_MAX kernel arguments of FAKE_ARG_BYTES each.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef FAKE_CUDA_H
#define FAKE_CUDA_H

#include <cuda.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FAKE_ARGS_MAX 6
#define FAKE_ARG_BYTES 96

/* Copies of a launch's arguments; value[i] as the kernel's i-th parameter. */
struct fake_launch {
	const struct fake_kernel *kernel;
	unsigned blocks;
	unsigned threads;
	union {
		uint64_t word;
		uint32_t half;
		unsigned char bytes[FAKE_ARG_BYTES];
	} value[FAKE_ARGS_MAX];
};

/* 0, or -EFAULT: the kernel would touch memory that is not mapped. */
struct fake_kernel {
	const char *name;
	int (*run)(const struct fake_launch *launch);
	unsigned char arg_bytes[FAKE_ARGS_MAX]; /* 0 ends the list */
};

/* NULL when there is no such kernel. */
const struct fake_kernel *fake_kernel_find(const char *name);

/* True when device code may touch [at, at + bytes). */
bool fake_accessible(uint64_t at, uint64_t bytes);

CUresult fake_fill(uint64_t at, uint32_t word, size_t count);

/* Memory of the card: FAKE_CUDA_MIB, 512 MiB when it is not set. */
size_t fake_total_bytes(void);

/* Handles, mappings, ranges and buffers that were not given back. */
size_t fake_memory_leaks(void);

/* At the head of every call: true when this one is to fail. */
bool fake_fault(void);

/* Count and print a breach of the rules; returns the error for the caller. */
CUresult fake_breach(const char *what);

#endif
