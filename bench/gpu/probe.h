/*
 * probe.h - what a section of the card probe works with
 *
 * Why:        sections differ in what they measure, not in how they time,
 *             report and clean up.
 * Invariants: `why` holds the first thing that went wrong, or is empty; every
 *             buffer of a section is released before the context, also on
 *             the error path.
 * Ownership:  probe_open() owns context, module, stream and events until
 *             probe_close(); buffers belong to the section.
 * Threads:    one; each section is a process of its own.
 * Limits:     times are host nanoseconds on CLOCK_MONOTONIC, device times are
 *             milliseconds between events.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PROBE_H
#define PROBE_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "cuda_driver.h"
#include "probe_args.h"
#include "probe_kernels.h"
#include "probe_names.h"
#include "probe_record.h"

#define PROBE_PAGE (UINT64_C(2) << 20)
#define PROBE_EXPERT UINT64_C(17301504)
#define PROBE_MIB (UINT64_C(1) << 20)
#define PROBE_GIB (UINT64_C(1) << 30)
/* The descriptors a section's process is started with. */
#define PROBE_RESULT_FD 3
#define PROBE_SOCKET_FD 4
/* Repetitions that a timed operation can have at most. */
#define PROBE_RUNS_MAX 200

struct probe {
	/* set by probe_open */
	struct cuda_driver cu;
	CUdevice device;
	CUcontext context;
	CUmodule module;
	CUstream stream;
	CUevent start;
	CUevent stop;
	FILE *out; /* owns; records to the parent */
	bool quick;
	int sm_count;
	int major;
	double peak_gb_s; /* NaN when the card does not say */
	uint64_t free_bytes; /* at the start, with this context */
	uint64_t deadline_ns; /* loops that can be shorter end before it */
	/* written by the section */
	bool wrong; /* a check failed; the section went on */
	bool abandon; /* end the process without any clean-up */
	char why[PROBE_TEXT_MAX];
};

/*
 * Open driver, device, context and module. 0; -ENODEV: there is no card;
 * -EIO: a call failed. probe_close() is right after any of them.
 */
int probe_open(struct probe *p, const struct probe_args *args);
void probe_close(struct probe *p);

/* 0, or -EIO with `why` = "what: CUDA_ERROR_...". */
int probe_cu(struct probe *p, CUresult result, const char *what);
const char *probe_error_name(struct probe *p, CUresult result);

/* Note why (the first one stays) and return `error`. */
__attribute__((format(printf, 3, 4))) int probe_stop(
	struct probe *p, int error, const char *format, ...);
/* A check found wrong data: the section fails but may go on measuring. */
__attribute__((format(printf, 2, 3))) void probe_wrong(
	struct probe *p, const char *format, ...);

int probe_attribute(const struct probe *p, int attribute, int *value);
uint64_t probe_now_ns(void);
bool probe_late(const struct probe *p);

/* ---- records ---- */
void probe_record_write(struct probe *p, const struct probe_record *record);
void probe_value(
	struct probe *p, const char *name, double value, const char *note);
void probe_bool(struct probe *p, const char *name, bool yes, const char *note);
/* Times in microseconds, sorted in place. */
void probe_times(struct probe *p, const char *name, double *us, size_t count,
	const char *note);

/* ---- device work ---- */
struct probe_grid {
	unsigned blocks;
	unsigned threads;
};
int probe_function(struct probe *p, const char *name, CUfunction *function);
/* Launch on p->stream; `args` as cuLaunchKernel's kernelParams. */
int probe_launch(
	struct probe *p, const char *name, struct probe_grid grid, void **args);
int probe_sync(struct probe *p, const char *what);
/*
 * Copy and wait, both in the order of p->stream: the stream does not wait for
 * the driver's default stream, where plain copies would run.
 */
int probe_upload(
	struct probe *p, CUdeviceptr to, const void *from, size_t bytes);
int probe_download(struct probe *p, void *to, CUdeviceptr from, size_t bytes);

/* An operation that queues work on p->stream; 0 or -errno. */
typedef int probe_op(struct probe *p, void *context);
/* Time `op` by events: `runs` times after 3 warm-ups, milliseconds. */
int probe_time(struct probe *p, probe_op *op, void *context, double *ms,
	unsigned runs);

struct probe_rate {
	const char *name;
	double amount; /* per run, in units of 1e9 (bytes) or 1e12 (operations) */
	double limit; /* NaN for none */
	unsigned runs;
	const char *note;
};
/* Time `op` and write amount / second; `ms_median` may be NULL. */
int probe_rate(struct probe *p, const struct probe_rate *rate, probe_op *op,
	void *context, double *ms_median);

/* ---- patterns ---- */
int probe_fill(struct probe *p, CUdeviceptr at, uint64_t bytes, uint32_t seed);
/* Count the words that are not the pattern's. */
int probe_check(struct probe *p, CUdeviceptr at, uint64_t bytes, uint32_t seed,
	uint64_t *bad);

#endif
