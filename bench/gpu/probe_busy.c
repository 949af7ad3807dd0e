/*
 * probe_busy.c - mapping calls while a kernel streams memory (busy, near)
 *
 * A kernel reads memory over and over and logs a time per step; meanwhile the
 * host makes pages, maps and unmaps them. The log shows whether the kernel
 * slowed or stood still, the host's clock whether a call waited for it. The
 * pages lie in a reservation of their own (busy) or directly behind the pages
 * that the kernel reads, in the same reservation (near).
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "probe_range.h"
#include "probe_section.h"

#include <assert.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <unistd.h>

enum {
	PHASE_IDLE,
	PHASE_QUIET,
	PHASE_CREATE,
	PHASE_MAP,
	PHASE_ACCESS,
	PHASE_UNMAP,
	PHASE_RELEASE,
	PHASE_SPAN_ACCESS,
	PHASE_SPAN_UNMAP,
	PHASE_COUNT
};
enum { BUSY_CALLS = 256, BUSY_LOG = 200000, BUSY_SPANS = 8 };
#define BUSY_KERNEL_NS UINT64_C(8000000000)
#define BUSY_START_NS UINT64_C(5000000000)

static const char *const phase_names[PHASE_COUNT] = {"idle", "quiet", "create",
	"map", "access", "unmap", "release", "span_access", "span_unmap"};

struct busy {
	const char *prefix; /* "busy" or "near" */
	struct probe_handles source;
	struct probe_handles calls;
	struct probe_range source_range;
	struct probe_range own_range; /* unused when near */
	struct probe_range *call_range; /* where calls happen */
	size_t call_first; /* from this slot on */
	size_t call_count;
	volatile uint32_t *host_words; /* pinned: phase, seen */
	struct probe_stream_args args;
	unsigned blocks;
	uint32_t log_max;
};

struct call_times {
	double us[PHASE_COUNT][BUSY_CALLS];
	size_t count[PHASE_COUNT];
};

static void call_time(struct call_times *times, int phase, uint64_t begin)
{
	times->us[phase][times->count[phase]++] =
		(double)(probe_now_ns() - begin) / 1e3;
}

static void set_phase(struct busy *b, uint32_t phase)
{
	b->host_words[0] = phase;
	__sync_synchronize();
}

/* ---- the calls ---------------------------------------------------------- */

static int calls_make(struct probe *p, struct busy *b, struct call_times *times)
{
	size_t count = b->call_count;
	int error;

	set_phase(b, PHASE_CREATE);
	error = probe_handles_make(p, &b->calls, count, probe_product_flags(p),
		times->us[PHASE_CREATE]);
	if (error != 0)
		return error;
	times->count[PHASE_CREATE] = count;
	set_phase(b, PHASE_MAP);
	for (size_t i = 0; i < count; i++) {
		uint64_t begin = probe_now_ns();

		if (probe_range_map(p, b->call_range, b->call_first + i,
			    b->calls.handle[i]) != 0)
			return -EIO;
		call_time(times, PHASE_MAP, begin);
	}
	set_phase(b, PHASE_ACCESS);
	for (size_t i = 0; i < count; i++) {
		uint64_t begin = probe_now_ns();

		if (probe_range_access(
			    p, b->call_range, b->call_first + i, 1) != 0)
			return -EIO;
		call_time(times, PHASE_ACCESS, begin);
	}
	set_phase(b, PHASE_UNMAP);
	for (size_t i = 0; i < count; i++) {
		uint64_t begin = probe_now_ns();

		if (probe_range_unmap(p, b->call_range, b->call_first + i, 1) !=
			0)
			return -EIO;
		call_time(times, PHASE_UNMAP, begin);
	}
	return 0;
}

/* One set-access and one unmap over all handles, a few times. */
static int calls_span(struct probe *p, struct busy *b, struct call_times *times)
{
	for (int turn = 0; turn < BUSY_SPANS; turn++) {
		uint64_t begin;

		set_phase(b, PHASE_IDLE);
		for (size_t i = 0; i < b->call_count; i++)
			if (probe_range_map(p, b->call_range, b->call_first + i,
				    b->calls.handle[i]) != 0)
				return -EIO;
		set_phase(b, PHASE_SPAN_ACCESS);
		begin = probe_now_ns();
		if (probe_range_access(p, b->call_range, b->call_first,
			    b->call_count) != 0)
			return -EIO;
		call_time(times, PHASE_SPAN_ACCESS, begin);
		set_phase(b, PHASE_SPAN_UNMAP);
		begin = probe_now_ns();
		if (probe_range_unmap(p, b->call_range, b->call_first,
			    b->call_count) != 0)
			return -EIO;
		call_time(times, PHASE_SPAN_UNMAP, begin);
	}
	return 0;
}

static int calls_release(
	struct probe *p, struct busy *b, struct call_times *times)
{
	set_phase(b, PHASE_RELEASE);
	while (b->calls.count > 0) {
		uint64_t begin = probe_now_ns();

		b->calls.count--;
		if (probe_cu(p, p->cu.release(b->calls.handle[b->calls.count]),
			    "cuMemRelease") != 0)
			return -EIO;
		call_time(times, PHASE_RELEASE, begin);
	}
	probe_handles_release(p, &b->calls);
	return 0;
}

/* Every call, timed; `kind` is "quiet" or "call" in the results' names. */
static int calls_run(struct probe *p, struct busy *b, const char *kind)
{
	struct call_times *times = calloc(1, sizeof(*times));
	char name[PROBE_NAME_MAX];
	int error;

	if (times == NULL)
		return probe_stop(p, -ENOMEM, "no memory for times");
	error = calls_make(p, b, times);
	if (error == 0)
		error = calls_span(p, b, times);
	if (error == 0)
		error = calls_release(p, b, times);
	set_phase(b, PHASE_QUIET);
	for (int phase = PHASE_CREATE; phase < PHASE_COUNT; phase++) {
		snprintf(name, sizeof(name), "%s.%s.%s", b->prefix, kind,
			phase_names[phase]);
		probe_times(p, name, times->us[phase], times->count[phase],
			phase >= PHASE_SPAN_ACCESS ? "over all handles" : "");
	}
	free(times);
	return error;
}

/* ---- the kernel's log --------------------------------------------------- */

struct phase_steps {
	double *us;
	size_t count;
	double total_us;
	double stall_us;
};

static void report_phase(struct probe *p, const struct busy *b, int phase,
	struct phase_steps *steps)
{
	char name[PROBE_NAME_MAX];
	char note[PROBE_TEXT_MAX];

	if (steps->count == 0)
		return;
	snprintf(note, sizeof(note), "%zu steps of %u blocks", steps->count,
		b->blocks);
	snprintf(name, sizeof(name), "%s.rate.%s", b->prefix,
		phase_names[phase]);
	probe_value(p, name,
		(double)steps->count * PROBE_STREAM_STEP_BYTES * b->blocks /
			steps->total_us / 1e3,
		note);
	snprintf(name, sizeof(name), "%s.stall.%s", b->prefix,
		phase_names[phase]);
	probe_value(p, name, steps->stall_us, "");
	snprintf(name, sizeof(name), "%s.step.%s", b->prefix,
		phase_names[phase]);
	probe_times(p, name, steps->us, steps->count, "");
}

/* Steps that began in `phase`, over all blocks. */
static void collect(const struct busy *b, const uint64_t *log,
	const uint32_t *entries, unsigned phase, struct phase_steps *steps)
{
	assert(steps->us != NULL);
	for (unsigned block = 0; block < b->blocks; block++) {
		const uint64_t *line = log + (size_t)block * b->log_max;

		for (uint32_t i = 0; i + 1 < entries[block]; i++) {
			double us;

			if (line[i] >> PROBE_LOG_PHASE_SHIFT != phase)
				continue;
			us = (double)((line[i + 1] - line[i]) &
				      PROBE_LOG_TIME_MASK) /
			     1e3;
			steps->us[steps->count++] = us;
			steps->total_us += us;
			if (us > steps->stall_us)
				steps->stall_us = us;
		}
	}
}

static int read_entries(
	struct probe *p, const struct busy *b, uint32_t *entries, size_t *total)
{
	if (probe_download(p, entries, b->args.entries,
		    b->blocks * sizeof(*entries)) != 0)
		return -EIO;
	*total = 0;
	for (unsigned block = 0; block < b->blocks; block++) {
		if (entries[block] > b->log_max)
			return probe_stop(p, -EIO, "block %u logged %u entries",
				block, entries[block]);
		*total += entries[block];
	}
	return 0;
}

static int read_log(struct probe *p, const struct busy *b, uint64_t *log,
	const uint32_t *entries)
{
	for (unsigned block = 0; block < b->blocks; block++) {
		size_t at = (size_t)block * b->log_max;

		if (entries[block] > 0 &&
			probe_download(p, log + at,
				b->args.log + at * sizeof(*log),
				entries[block] * sizeof(*log)) != 0)
			return -EIO;
	}
	return 0;
}

static int report_log(struct probe *p, const struct busy *b)
{
	uint32_t *entries = calloc(b->blocks, sizeof(*entries));
	uint64_t *log = calloc((size_t)b->blocks * b->log_max, sizeof(*log));
	size_t total = 0;
	double *us = NULL;
	int error = -ENOMEM;

	if (entries == NULL || log == NULL)
		(void)probe_stop(p, error, "no memory for the log");
	else
		error = read_entries(p, b, entries, &total);
	if (error == 0)
		error = read_log(p, b, log, entries);
	if (error == 0) {
		us = calloc(total + 1, sizeof(*us));
		if (us == NULL)
			error = probe_stop(p, -ENOMEM, "no memory for steps");
	}
	for (int phase = PHASE_QUIET; phase < PHASE_COUNT && error == 0;
		phase++) {
		struct phase_steps steps = {.us = us};

		collect(b, log, entries, (unsigned)phase, &steps);
		report_phase(p, b, phase, &steps);
	}
	free(us);
	free(log);
	free(entries);
	return error;
}

/* ---- both together ------------------------------------------------------ */

static int start_kernel(struct probe *p, struct busy *b)
{
	void *args[] = {&b->args};
	struct probe_grid grid = {b->blocks, PROBE_STREAM_THREADS};
	uint64_t until = probe_now_ns() + BUSY_START_NS;

	b->host_words[1] = 0;
	set_phase(b, PHASE_QUIET);
	if (probe_launch(p, "k_stream", grid, args) != 0)
		return -EIO;
	while (b->host_words[1] < 2) {
		if (probe_now_ns() > until)
			return probe_stop(
				p, -EIO, "the streaming kernel does not start");
		usleep(100);
	}
	return 0;
}

static int measure_busy(struct probe *p, struct busy *b)
{
	const useconds_t quiet_us = p->quick ? 20000 : 300000;
	char name[PROBE_NAME_MAX];
	bool outlived;
	int error = calls_run(p, b, "quiet");

	if (error == 0)
		error = start_kernel(p, b);
	if (error != 0) {
		set_phase(b, PROBE_PHASE_STOP);
		return error;
	}
	usleep(quiet_us);
	error = calls_run(p, b, "call");
	outlived = p->cu.stream_query(p->stream) == CUDA_ERROR_NOT_READY;
	usleep(quiet_us / 2);
	set_phase(b, PROBE_PHASE_STOP);
	if (probe_sync(p, "k_stream") != 0 || error != 0)
		return -EIO;
	snprintf(name, sizeof(name), "%s.outlived", b->prefix);
	probe_bool(p, name, outlived,
		outlived ? "no call waited for the kernel to end"
			 : "the kernel had ended: see the longest call");
	return report_log(p, b);
}

/* Addresses and pages of the kernel's source and of the calls. */
static int busy_map(struct probe *p, struct busy *b, bool near)
{
	uint64_t bytes = probe_size(p, PROBE_GIB, 4);
	size_t pages = (size_t)(bytes / PROBE_PAGE);
	int error;

	b->source.handle_bytes = PROBE_PAGE;
	b->calls.handle_bytes = PROBE_PAGE;
	b->args.step_count = bytes / PROBE_STREAM_STEP_BYTES;
	error = probe_handles_make(
		p, &b->source, pages, probe_product_flags(p), NULL);
	if (error == 0)
		error = probe_range_init(p, &b->source_range, PROBE_PAGE,
			near ? pages + b->call_count : pages);
	if (error == 0 && !near)
		error = probe_range_init(
			p, &b->own_range, PROBE_PAGE, b->call_count);
	if (error == 0)
		error = probe_range_map_all(p, &b->source_range, &b->source);
	if (error == 0)
		error = probe_fill(p, b->source_range.at, bytes, 5);
	b->args.source = b->source_range.at;
	b->call_range = near ? &b->source_range : &b->own_range;
	b->call_first = near ? pages : 0;
	return error;
}

static int busy_buffers(struct probe *p, struct busy *b)
{
	void *words = NULL;
	CUdeviceptr mapped = 0;
	size_t log_bytes = (size_t)b->blocks * b->log_max * sizeof(uint64_t);

	if (probe_cu(p, p->cu.host_alloc(&words, 64, CU_MEMHOSTALLOC_DEVICEMAP),
		    "cuMemHostAlloc") != 0)
		return -EIO;
	b->host_words = words;
	if (probe_cu(p, p->cu.host_device_pointer(&mapped, words, 0),
		    "cuMemHostGetDevicePointer") != 0 ||
		probe_cu(p, p->cu.memory_alloc(&b->args.log, log_bytes),
			"cuMemAlloc") != 0 ||
		probe_cu(p, p->cu.memory_alloc(&b->args.phase, 64),
			"cuMemAlloc") != 0 ||
		probe_cu(p,
			p->cu.memory_alloc(
				&b->args.entries, b->blocks * sizeof(uint32_t)),
			"cuMemAlloc") != 0 ||
		probe_cu(p,
			p->cu.memory_alloc(
				&b->args.sink, b->blocks * sizeof(uint32_t)),
			"cuMemAlloc") != 0)
		return -EIO;
	b->args.host_phase = mapped;
	b->args.host_seen = mapped + sizeof(uint32_t);
	b->args.log_max = b->log_max;
	b->args.limit_ns = BUSY_KERNEL_NS;
	/* The device's word starts as "idle", not as whatever lay there. */
	return probe_cu(p, p->cu.set_async(b->args.phase, 0, 1, p->stream),
		"cuMemsetD32Async");
}

static void busy_release(struct probe *p, struct busy *b)
{
	const CUdeviceptr buffers[] = {
		b->args.sink, b->args.entries, b->args.phase, b->args.log};

	/* After an error the kernel may still run: it stops by itself. */
	(void)probe_cu(p, p->cu.context_sync(), "cuCtxSynchronize");
	for (size_t i = 0; i < sizeof(buffers) / sizeof(buffers[0]); i++)
		if (buffers[i] != 0)
			(void)p->cu.memory_free(buffers[i]);
	if (b->host_words != NULL)
		(void)p->cu.host_free((void *)(uintptr_t)b->host_words);
	probe_range_release(p, &b->own_range);
	probe_range_release(p, &b->source_range);
	probe_handles_release(p, &b->calls);
	probe_handles_release(p, &b->source);
}

static int busy_section(struct probe *p, const char *prefix, bool near)
{
	struct busy b = {.prefix = prefix,
		.call_count = p->quick ? 8 : BUSY_CALLS,
		.blocks = (unsigned)p->sm_count,
		.log_max = p->quick ? 2000 : BUSY_LOG};
	int error = busy_map(p, &b, near);

	if (error == 0)
		error = busy_buffers(p, &b);
	if (error == 0)
		error = probe_sync(p, "preparation");
	if (error == 0)
		error = measure_busy(p, &b);
	busy_release(p, &b);
	return error;
}

int probe_section_busy(struct probe *p)
{
	return busy_section(p, "busy", false);
}

int probe_section_near(struct probe *p)
{
	return busy_section(p, "near", true);
}
