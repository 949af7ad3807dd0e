/* probe_dev.c - card, clock, records and timing for the sections */
/* SPDX-License-Identifier: Apache-2.0 */
#include "probe.h"
#include "probe_fatbin.h"
#include "probe_section.h"
#include "probe_stats.h"

#include <assert.h>
#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

uint64_t probe_now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

bool probe_late(const struct probe *p)
{
	return probe_now_ns() >= p->deadline_ns;
}

/* The first thing that went wrong is the cause; what follows is not kept. */
__attribute__((format(printf, 2, 0))) static void note_why(
	struct probe *p, const char *format, va_list list)
{
	if (p->why[0] == '\0')
		vsnprintf(p->why, sizeof(p->why), format, list);
}

int probe_stop(struct probe *p, int error, const char *format, ...)
{
	va_list list;

	va_start(list, format);
	note_why(p, format, list);
	va_end(list);
	return error;
}

void probe_wrong(struct probe *p, const char *format, ...)
{
	va_list list;

	p->wrong = true;
	va_start(list, format);
	note_why(p, format, list);
	va_end(list);
}

const char *probe_error_name(struct probe *p, CUresult result)
{
	const char *name = NULL;

	if (p->cu.error_name == NULL ||
		p->cu.error_name(result, &name) != CUDA_SUCCESS || name == NULL)
		return "an unknown CUDA error";
	return name;
}

int probe_cu(struct probe *p, CUresult result, const char *what)
{
	if (result == CUDA_SUCCESS)
		return 0;
	return probe_stop(p, -EIO, "%s: %s (%d)", what,
		probe_error_name(p, result), (int)result);
}

int probe_attribute(const struct probe *p, int attribute, int *value)
{
	CUresult result = p->cu.device_attribute(
		value, (CUdevice_attribute)attribute, p->device);

	return result == CUDA_SUCCESS ? 0 : -ENOTSUP;
}

/* ---- opening ---------------------------------------------------------- */

static int open_device(struct probe *p, int number)
{
	CUresult result = p->cu.init(0);
	int count = 0;

	if (result == CUDA_ERROR_NO_DEVICE)
		return probe_stop(p, -ENODEV, "the driver finds no card");
	/* A machine without a card can still hold a driver library; it then
	 * refuses in one of several ways. */
	if (result != CUDA_SUCCESS)
		return probe_stop(p, -ENODEV, "cuInit: %s (%d)",
			probe_error_name(p, result), (int)result);
	if (probe_cu(p, p->cu.device_count(&count), "cuDeviceGetCount") != 0)
		return -EIO;
	if (number >= count)
		return probe_stop(p, -ENODEV,
			"there is no device %d, the machine has %d", number,
			count);
	return probe_cu(p, p->cu.device_get(&p->device, number), "cuDeviceGet");
}

static int read_attributes(struct probe *p)
{
	int clock_khz = 0;
	int bus_bits = 0;

	if (probe_attribute(p, CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT,
		    &p->sm_count) != 0 ||
		probe_attribute(p, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR,
			&p->major) != 0 ||
		p->sm_count <= 0)
		return probe_stop(
			p, -EIO, "the card does not say what it is made of");
	(void)probe_attribute(
		p, CU_DEVICE_ATTRIBUTE_MEMORY_CLOCK_RATE, &clock_khz);
	(void)probe_attribute(
		p, CU_DEVICE_ATTRIBUTE_GLOBAL_MEMORY_BUS_WIDTH, &bus_bits);
	p->peak_gb_s = probe_peak_gb_s(clock_khz, bus_bits);
	return 0;
}

static int open_context(struct probe *p)
{
	size_t free_bytes = 0;
	size_t total_bytes = 0;

	if (probe_cu(p, p->cu.context_retain(&p->context, p->device),
		    "cuDevicePrimaryCtxRetain") != 0 ||
		probe_cu(p, p->cu.context_set(p->context), "cuCtxSetCurrent") !=
			0 ||
		probe_cu(p, p->cu.module_load(&p->module, probe_fatbin),
			"cuModuleLoadData") != 0 ||
		probe_cu(p,
			p->cu.stream_create(&p->stream, CU_STREAM_NON_BLOCKING),
			"cuStreamCreate") != 0 ||
		probe_cu(p, p->cu.event_create(&p->start, CU_EVENT_DEFAULT),
			"cuEventCreate") != 0 ||
		probe_cu(p, p->cu.event_create(&p->stop, CU_EVENT_DEFAULT),
			"cuEventCreate") != 0 ||
		probe_cu(p, p->cu.memory_info(&free_bytes, &total_bytes),
			"cuMemGetInfo") != 0)
		return -EIO;
	p->free_bytes = free_bytes;
	return 0;
}

int probe_open(struct probe *p, const struct probe_args *args)
{
	char message[PROBE_TEXT_MAX];
	int error;

	*p = (struct probe){.quick = args->quick, .peak_gb_s = NAN};
	p->deadline_ns = probe_now_ns() +
			 (uint64_t)args->child_limit_s * UINT64_C(800000000);
	p->out = fdopen(PROBE_RESULT_FD, "w");
	if (p->out == NULL)
		return probe_stop(
			p, -EIO, "descriptor %d is not open", PROBE_RESULT_FD);
	/* No kernel is loaded at its first launch, which could be inside a
	 * capture or beside a running kernel. cuBLASLt has too many for that. */
	if (args->child != PROBE_cublaslt)
		(void)setenv("CUDA_MODULE_LOADING", "EAGER", 1);
	error = cuda_driver_open(&p->cu, message, sizeof(message));
	if (error != 0)
		return probe_stop(
			p, error == -ENOENT ? -ENODEV : -EIO, "%s", message);
	error = open_device(p, args->device);
	if (error != 0)
		return error;
	error = read_attributes(p);
	return error != 0 ? error : open_context(p);
}

void probe_close(struct probe *p)
{
	if (p->stop != NULL)
		(void)p->cu.event_destroy(p->stop);
	if (p->start != NULL)
		(void)p->cu.event_destroy(p->start);
	if (p->stream != NULL)
		(void)p->cu.stream_destroy(p->stream);
	if (p->module != NULL)
		(void)p->cu.module_unload(p->module);
	if (p->context != NULL)
		(void)p->cu.context_release(p->device);
	p->stop = NULL;
	p->start = NULL;
	p->stream = NULL;
	p->module = NULL;
	p->context = NULL;
	if (p->out != NULL)
		(void)fclose(p->out);
	p->out = NULL;
}

/* ---- records ---------------------------------------------------------- */

void probe_record_write(struct probe *p, const struct probe_record *record)
{
	char line[PROBE_LINE_MAX];
	size_t length;

	assert(record->kind != PROBE_RESULT ||
		probe_result_find(record->name) != NULL);
	length = probe_record_format(record, line);
	/* At once, so that a crash later does not take it along. */
	(void)fwrite(line, 1, length, p->out);
	(void)fflush(p->out);
}

static struct probe_record result_of(const char *name, const char *note)
{
	struct probe_record record = {.kind = PROBE_RESULT,
		.value = NAN,
		.p99 = NAN,
		.limit = NAN,
		.runs = 1};

	probe_text_set(record.name, sizeof(record.name), name);
	probe_text_set(record.text, sizeof(record.text), note);
	return record;
}

void probe_value(
	struct probe *p, const char *name, double value, const char *note)
{
	struct probe_record record = result_of(name, note);

	record.value = value;
	probe_record_write(p, &record);
}

void probe_bool(struct probe *p, const char *name, bool yes, const char *note)
{
	probe_value(p, name, yes ? 1 : 0, note);
}

void probe_times(struct probe *p, const char *name, double *us, size_t count,
	const char *note)
{
	struct probe_record record = result_of(name, note);
	struct probe_stats stats = probe_stats_of(us, count);

	if (count == 0)
		return;
	record.value = stats.median;
	record.p99 = stats.p99;
	record.runs = count;
	probe_record_write(p, &record);
}

/* ---- device work ------------------------------------------------------ */

int probe_function(struct probe *p, const char *name, CUfunction *function)
{
	return probe_cu(
		p, p->cu.module_function(function, p->module, name), name);
}

int probe_launch(
	struct probe *p, const char *name, struct probe_grid grid, void **args)
{
	CUfunction function = NULL;

	assert(grid.blocks > 0 && grid.threads > 0);
	if (probe_function(p, name, &function) != 0)
		return -EIO;
	return probe_cu(p,
		p->cu.launch(function, grid.blocks, 1, 1, grid.threads, 1, 1, 0,
			p->stream, args, NULL),
		name);
}

int probe_sync(struct probe *p, const char *what)
{
	return probe_cu(p, p->cu.stream_sync(p->stream), what);
}

int probe_upload(
	struct probe *p, CUdeviceptr to, const void *from, size_t bytes)
{
	if (probe_cu(p, p->cu.copy_to_device_async(to, from, bytes, p->stream),
		    "cuMemcpyHtoDAsync") != 0)
		return -EIO;
	return probe_sync(p, "copy to the device");
}

int probe_download(struct probe *p, void *to, CUdeviceptr from, size_t bytes)
{
	if (probe_cu(p, p->cu.copy_to_host_async(to, from, bytes, p->stream),
		    "cuMemcpyDtoHAsync") != 0)
		return -EIO;
	return probe_sync(p, "copy to the host");
}

static int time_once(struct probe *p, probe_op *op, void *context, double *ms)
{
	float elapsed = 0;
	int error;

	if (probe_cu(p, p->cu.event_record(p->start, p->stream),
		    "cuEventRecord") != 0)
		return -EIO;
	error = op(p, context);
	if (error != 0)
		return error;
	if (probe_cu(p, p->cu.event_record(p->stop, p->stream),
		    "cuEventRecord") != 0 ||
		probe_cu(p, p->cu.event_sync(p->stop), "cuEventSynchronize") !=
			0 ||
		probe_cu(p, p->cu.event_elapsed(&elapsed, p->start, p->stop),
			"cuEventElapsedTime") != 0)
		return -EIO;
	*ms = elapsed;
	return 0;
}

int probe_time(
	struct probe *p, probe_op *op, void *context, double *ms, unsigned runs)
{
	double ignored;

	for (unsigned i = 0; i < 3; i++) {
		int error = time_once(p, op, context, &ignored);

		if (error != 0)
			return error;
	}
	for (unsigned i = 0; i < runs; i++) {
		int error = time_once(p, op, context, &ms[i]);

		if (error != 0)
			return error;
	}
	return 0;
}

int probe_rate(struct probe *p, const struct probe_rate *rate, probe_op *op,
	void *context, double *ms_median)
{
	struct probe_record record = result_of(rate->name, rate->note);
	double ms[PROBE_RUNS_MAX];
	struct probe_stats stats;
	unsigned runs = p->quick ? 3 : rate->runs;
	int error;

	assert(runs > 0 && runs <= PROBE_RUNS_MAX);
	error = probe_time(p, op, context, ms, runs);
	if (error != 0)
		return error;
	stats = probe_stats_of(ms, runs);
	record.value = rate->amount * 1e3 / stats.median;
	record.p99 = rate->amount * 1e3 / stats.p99;
	record.limit = rate->limit;
	record.runs = runs;
	probe_record_write(p, &record);
	if (ms_median != NULL)
		*ms_median = stats.median;
	return 0;
}

/* ---- patterns --------------------------------------------------------- */

static struct probe_grid wide_grid(const struct probe *p)
{
	return (struct probe_grid){(unsigned)p->sm_count * 8, PROBE_THREADS};
}

int probe_fill(struct probe *p, CUdeviceptr at, uint64_t bytes, uint32_t seed)
{
	uint64_t words = bytes / 4;
	uint64_t first = 0;
	void *args[] = {&at, &words, &seed, &first};

	return probe_launch(p, "k_fill", wide_grid(p), args);
}

int probe_check(struct probe *p, CUdeviceptr at, uint64_t bytes, uint32_t seed,
	uint64_t *bad)
{
	uint64_t words = bytes / 4;
	uint64_t first = 0;
	CUdeviceptr count = 0;
	void *args[] = {&at, &words, &seed, &first, &count};
	int error = -EIO;

	if (probe_cu(p, p->cu.memory_alloc(&count, sizeof(*bad)),
		    "cuMemAlloc") != 0)
		return -EIO;
	if (probe_cu(p, p->cu.set_async(count, 0, 2, p->stream),
		    "cuMemsetD32Async") == 0 &&
		probe_launch(p, "k_check", wide_grid(p), args) == 0 &&
		probe_sync(p, "k_check") == 0 &&
		probe_download(p, bad, count, sizeof(*bad)) == 0)
		error = 0;
	(void)p->cu.memory_free(count);
	return error;
}

uint64_t probe_size(const struct probe *p, uint64_t wanted, uint64_t share)
{
	uint64_t bytes = p->quick ? wanted / 16 : wanted;

	if (bytes > p->free_bytes / share)
		bytes = p->free_bytes / share;
	bytes -= bytes % PROBE_PAGE;
	return bytes < PROBE_PAGE ? PROBE_PAGE : bytes;
}
