/*
 * fake_cuda.c - a driver library with no card behind it (calls, graphs)
 *
 * Kernels and copies run at once, on the host; memory is in
 * fake_cuda_memory.c. A breach of CUDA's rules is an error to the caller and a
 * violation in the report.
 *
 * FAKE_CUDA_FAIL_AT=n    the n-th call of the process fails
 * FAKE_CUDA_HANG_AT=n    the n-th call never returns
 * FAKE_CUDA_CRASH_AT=n   the n-th call aborts
 * FAKE_CUDA_MIB=n        memory of the card in MiB, instead of 512
 * FAKE_CUDA_REPORT=path  append "calls N leaks N violations N failed N"
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/fake/fake_cuda.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { STEPS = 256, OBJECTS = 64 };
enum { STREAM = 1, EVENT, MODULE, GRAPH, EXEC };

struct step { /* of a graph: a launch, or a fill when kernel is NULL */
	struct fake_launch launch;
	uint64_t at;
	size_t words;
	uint32_t word;
};

struct graph {
	size_t count;
	struct step step[STEPS];
};

static struct {
	struct object *objects[OBJECTS]; /* those that were not destroyed */
	long contexts;
	struct graph *capture;
	unsigned long calls;
	unsigned long fail_at;
	unsigned long hang_at;
	unsigned long crash_at;
	unsigned long violations;
	bool failed;
	bool begun;
} fake;

/* ---- calls, faults, report --------------------------------------------- */

static unsigned long number(const char *name)
{
	const char *text = getenv(name);

	return text == NULL ? 0 : strtoul(text, NULL, 10);
}

size_t fake_total_bytes(void)
{
	unsigned long mib = number("FAKE_CUDA_MIB");

	return (mib == 0 ? (size_t)512 : mib) << 20;
}

static void begin(void)
{
	fake.begun = true;
	fake.fail_at = number("FAKE_CUDA_FAIL_AT");
	fake.hang_at = number("FAKE_CUDA_HANG_AT");
	fake.crash_at = number("FAKE_CUDA_CRASH_AT");
}

/* At the head of every call: true when this one is to fail. */
bool fake_fault(void)
{
	if (!fake.begun)
		begin();
	fake.calls++;
	if (fake.calls == fake.crash_at)
		abort();
	while (fake.calls == fake.hang_at)
		pause();
	if (fake.calls != fake.fail_at)
		return false;
	fake.failed = true;
	return true;
}

CUresult fake_breach(const char *what)
{
	fake.violations++;
	fprintf(stderr, "fake_cuda: %s\n", what);
	return CUDA_ERROR_INVALID_VALUE;
}

static long leaks(void)
{
	long sum = fake.contexts + (long)fake_memory_leaks();

	for (int i = 0; i < OBJECTS; i++)
		sum += fake.objects[i] != NULL ? 1 : 0;
	return sum;
}

__attribute__((destructor)) static void report(void)
{
	const char *path = getenv("FAKE_CUDA_REPORT");
	FILE *file = path != NULL ? fopen(path, "a") : NULL;

	if (file == NULL)
		return;
	fprintf(file, "calls %lu leaks %ld violations %lu failed %d\n",
		fake.calls, leaks(), fake.violations, fake.failed ? 1 : 0);
	fclose(file);
}

/* ---- the card ----------------------------------------------------------- */

CUresult cuInit(unsigned flags)
{
	if (fake_fault())
		return CUDA_ERROR_UNKNOWN;
	return flags == 0 ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

CUresult cuDriverGetVersion(int *version)
{
	if (fake_fault())
		return CUDA_ERROR_UNKNOWN;
	*version = CUDA_VERSION;
	return CUDA_SUCCESS;
}

CUresult cuGetErrorName(CUresult error, const char **name)
{
	*name = error == CUDA_ERROR_UNKNOWN ? "FAKE_FAULT" : "FAKE_REFUSAL";
	return CUDA_SUCCESS;
}

CUresult cuDeviceGetCount(int *count)
{
	if (fake_fault())
		return CUDA_ERROR_UNKNOWN;
	*count = 1;
	return CUDA_SUCCESS;
}

CUresult cuDeviceGet(CUdevice *device, int ordinal)
{
	if (fake_fault())
		return CUDA_ERROR_UNKNOWN;
	*device = ordinal;
	return CUDA_SUCCESS;
}

CUresult cuDeviceGetName(char *name, int length, CUdevice device)
{
	(void)device;
	if (fake_fault())
		return CUDA_ERROR_UNKNOWN;
	snprintf(name, (size_t)length, "fake (no card)");
	return CUDA_SUCCESS;
}

CUresult cuDeviceTotalMem(size_t *bytes, CUdevice device)
{
	(void)device;
	if (fake_fault())
		return CUDA_ERROR_UNKNOWN;
	*bytes = fake_total_bytes();
	return CUDA_SUCCESS;
}

CUresult cuDeviceGetAttribute(
	int *value, CUdevice_attribute attribute, CUdevice device)
{
	(void)device;
	if (fake_fault())
		return CUDA_ERROR_UNKNOWN;
	switch ((int)attribute) {
	case CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT:
		*value = 2;
		break;
	case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR:
		*value = 9;
		break;
	case CU_DEVICE_ATTRIBUTE_CLOCK_RATE:
	case CU_DEVICE_ATTRIBUTE_MEMORY_CLOCK_RATE:
		*value = 1000000;
		break;
	case CU_DEVICE_ATTRIBUTE_GLOBAL_MEMORY_BUS_WIDTH:
		*value = 64;
		break;
	case CU_DEVICE_ATTRIBUTE_HOST_NUMA_ID:
		return CUDA_ERROR_INVALID_VALUE;
	default:
		*value = 1;
		break;
	}
	return CUDA_SUCCESS;
}

CUresult cuDevicePrimaryCtxRetain(CUcontext *context, CUdevice device)
{
	(void)device;
	if (fake_fault())
		return CUDA_ERROR_UNKNOWN;
	fake.contexts++;
	*context = (CUcontext)(void *)&fake;
	return CUDA_SUCCESS;
}

CUresult cuDevicePrimaryCtxRelease(CUdevice device)
{
	(void)device;
	if (fake_fault())
		return CUDA_ERROR_UNKNOWN;
	fake.contexts--;
	return CUDA_SUCCESS;
}

CUresult cuCtxSetCurrent(CUcontext context)
{
	(void)context;
	return fake_fault() ? CUDA_ERROR_UNKNOWN : CUDA_SUCCESS;
}

CUresult cuCtxSynchronize(void)
{
	return fake_fault() ? CUDA_ERROR_UNKNOWN : CUDA_SUCCESS;
}

/* ---- streams, events, modules ------------------------------------------- */

struct object {
	int kind;
	struct timespec time; /* of an event */
	struct graph *graph; /* of a graph and of its executable form */
};

/* Place of an object, or of nothing, among the live ones; NULL: none. */
static struct object **object_place(const struct object *object)
{
	for (size_t i = 0; i < OBJECTS; i++)
		if (fake.objects[i] == object)
			return &fake.objects[i];
	return NULL;
}

static struct object *object_new(int kind)
{
	struct object *object = calloc(1, sizeof(*object));
	struct object **place = object_place(NULL);

	if (object == NULL || place == NULL)
		abort();
	object->kind = kind;
	*place = object;
	return object;
}

static CUresult object_drop(void *pointer, int kind)
{
	struct object **place = pointer == NULL ? NULL : object_place(pointer);

	if (fake_fault())
		return CUDA_ERROR_UNKNOWN;
	if (place == NULL || (*place)->kind != kind)
		return fake_breach("destroying what is not there");
	free((*place)->graph);
	free(*place);
	*place = NULL;
	return CUDA_SUCCESS;
}

CUresult cuStreamCreate(CUstream *stream, unsigned flags)
{
	(void)flags;
	if (fake_fault())
		return CUDA_ERROR_UNKNOWN;
	*stream = (CUstream)(void *)object_new(STREAM);
	return CUDA_SUCCESS;
}

CUresult cuStreamDestroy(CUstream stream)
{
	return object_drop(stream, STREAM);
}

CUresult cuStreamSynchronize(CUstream stream)
{
	(void)stream;
	if (fake_fault())
		return CUDA_ERROR_UNKNOWN;
	return fake.capture != NULL ? fake_breach("waiting while capturing")
				    : CUDA_SUCCESS;
}

CUresult cuStreamQuery(CUstream stream)
{
	(void)stream;
	return fake_fault() ? CUDA_ERROR_UNKNOWN : CUDA_SUCCESS;
}

CUresult cuEventCreate(CUevent *event, unsigned flags)
{
	(void)flags;
	if (fake_fault())
		return CUDA_ERROR_UNKNOWN;
	*event = (CUevent)(void *)object_new(EVENT);
	return CUDA_SUCCESS;
}

CUresult cuEventDestroy(CUevent event)
{
	return object_drop(event, EVENT);
}

CUresult cuEventRecord(CUevent event, CUstream stream)
{
	struct object *object = (struct object *)(void *)event;

	(void)stream;
	if (fake_fault())
		return CUDA_ERROR_UNKNOWN;
	clock_gettime(CLOCK_MONOTONIC, &object->time);
	return CUDA_SUCCESS;
}

CUresult cuEventSynchronize(CUevent event)
{
	(void)event;
	return fake_fault() ? CUDA_ERROR_UNKNOWN : CUDA_SUCCESS;
}

CUresult cuEventElapsedTime(float *ms, CUevent start, CUevent stop)
{
	const struct object *a = (const struct object *)(void *)start;
	const struct object *b = (const struct object *)(void *)stop;

	if (fake_fault())
		return CUDA_ERROR_UNKNOWN;
	*ms = (float)((double)(b->time.tv_sec - a->time.tv_sec) * 1e3 +
		      (double)(b->time.tv_nsec - a->time.tv_nsec) / 1e6 + 1e-3);
	return CUDA_SUCCESS;
}

CUresult cuModuleLoadData(CUmodule *module, const void *image)
{
	(void)image;
	if (fake_fault())
		return CUDA_ERROR_UNKNOWN;
	*module = (CUmodule)(void *)object_new(MODULE);
	return CUDA_SUCCESS;
}

CUresult cuModuleUnload(CUmodule module)
{
	return object_drop(module, MODULE);
}

CUresult cuModuleGetFunction(
	CUfunction *function, CUmodule module, const char *name)
{
	const struct fake_kernel *kernel = fake_kernel_find(name);

	(void)module;
	if (fake_fault())
		return CUDA_ERROR_UNKNOWN;
	if (kernel == NULL)
		return fake_breach("no kernel of this name");
	*function = (CUfunction)(uintptr_t)kernel;
	return CUDA_SUCCESS;
}

/* ---- launches and graphs ------------------------------------------------- */

static struct step *capture_step(void)
{
	if (fake.capture->count == STEPS)
		abort();
	return &fake.capture->step[fake.capture->count++];
}

static CUresult run(const struct fake_launch *launch)
{
	if (launch->kernel->run(launch) == 0)
		return CUDA_SUCCESS;
	(void)fake_breach(launch->kernel->name);
	return CUDA_ERROR_ILLEGAL_ADDRESS;
}

/* The signature is NVIDIA's: NOLINTNEXTLINE(readability-function-size) */
CUresult cuLaunchKernel(CUfunction function, unsigned grid_x, unsigned grid_y,
	unsigned grid_z, unsigned block_x, unsigned block_y, unsigned block_z,
	unsigned shared, CUstream stream, void **args, void **extra)
{
	struct fake_launch launch = {
		.kernel = (const struct fake_kernel *)(void *)function,
		.blocks = grid_x * grid_y * grid_z,
		.threads = block_x * block_y * block_z};

	(void)shared;
	(void)stream;
	(void)extra;
	if (fake_fault())
		return CUDA_ERROR_UNKNOWN;
	if (launch.blocks == 0 || launch.threads == 0 || launch.threads > 1024)
		return fake_breach("an impossible grid");
	for (size_t i = 0; i < FAKE_ARGS_MAX; i++) {
		size_t bytes = launch.kernel->arg_bytes[i];

		if (bytes == 0)
			break;
		memcpy(launch.value[i].bytes, args[i], bytes);
	}
	if (fake.capture == NULL)
		return run(&launch);
	capture_step()->launch = launch;
	return CUDA_SUCCESS;
}

CUresult cuStreamBeginCapture(CUstream stream, CUstreamCaptureMode mode)
{
	(void)stream;
	(void)mode;
	if (fake_fault())
		return CUDA_ERROR_UNKNOWN;
	if (fake.capture != NULL)
		return fake_breach("capturing twice");
	fake.capture = calloc(1, sizeof(*fake.capture));
	return CUDA_SUCCESS;
}

CUresult cuStreamEndCapture(CUstream stream, CUgraph *graph)
{
	struct object *object;

	(void)stream;
	if (fake_fault())
		return CUDA_ERROR_UNKNOWN;
	if (fake.capture == NULL)
		return fake_breach("no capture to end");
	object = object_new(GRAPH);
	object->graph = fake.capture;
	fake.capture = NULL;
	*graph = (CUgraph)(void *)object;
	return CUDA_SUCCESS;
}

CUresult cuGraphInstantiate(
	CUgraphExec *exec, CUgraph graph, unsigned long long flags)
{
	const struct object *from = (const struct object *)(void *)graph;
	struct object *object;

	(void)flags;
	if (fake_fault())
		return CUDA_ERROR_UNKNOWN;
	object = object_new(EXEC);
	object->graph = malloc(sizeof(*object->graph));
	if (object->graph == NULL)
		abort();
	*object->graph = *from->graph;
	*exec = (CUgraphExec)(void *)object;
	return CUDA_SUCCESS;
}

CUresult cuMemsetD32Async(
	CUdeviceptr at, unsigned word, size_t count, CUstream stream)
{
	struct step *step;

	(void)stream;
	if (fake_fault())
		return CUDA_ERROR_UNKNOWN;
	if (fake.capture == NULL)
		return fake_fill(at, word, count);
	step = capture_step();
	step->at = at;
	step->word = word;
	step->words = count;
	return CUDA_SUCCESS;
}

CUresult cuGraphLaunch(CUgraphExec exec, CUstream stream)
{
	const struct object *object = (const struct object *)(void *)exec;
	CUresult result = CUDA_SUCCESS;

	(void)stream;
	if (fake_fault())
		return CUDA_ERROR_UNKNOWN;
	for (size_t i = 0; i < object->graph->count; i++) {
		const struct step *step = &object->graph->step[i];

		if (result != CUDA_SUCCESS)
			break;
		result = step->launch.kernel != NULL
				 ? run(&step->launch)
				 : fake_fill(step->at, step->word, step->words);
	}
	return result;
}

CUresult cuGraphExecDestroy(CUgraphExec exec)
{
	return object_drop(exec, EXEC);
}

CUresult cuGraphDestroy(CUgraph graph)
{
	return object_drop(graph, GRAPH);
}
