/*
 * cuda_driver.h - NVIDIA's driver library as a table of functions
 *
 * Why:        one build runs with and without a driver: the library is opened
 *             at run time, and its absence is an answer, not a crash.
 * Invariants: after cuda_driver_open() returned 0 every member is set.
 * Ownership:  the library stays open until the process ends.
 * Threads:    the table is constant after opening.
 * Limits:     the symbols are those that the build's cuda.h maps its names to
 *             (cuMemcpyHtoD is cuMemcpyHtoD_v2), so types always match.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CUDA_DRIVER_H
#define CUDA_DRIVER_H

#include <cuda.h>
#include <stddef.h>

/* X(member, function). */
#define CUDA_DRIVER_CALLS(X)                                                   \
	X(init, cuInit)                                                        \
	X(driver_version, cuDriverGetVersion)                                  \
	X(error_name, cuGetErrorName)                                          \
	X(device_count, cuDeviceGetCount)                                      \
	X(device_get, cuDeviceGet)                                             \
	X(device_name, cuDeviceGetName)                                        \
	X(device_memory, cuDeviceTotalMem)                                     \
	X(device_attribute, cuDeviceGetAttribute)                              \
	X(context_retain, cuDevicePrimaryCtxRetain)                            \
	X(context_release, cuDevicePrimaryCtxRelease)                          \
	X(context_set, cuCtxSetCurrent)                                        \
	X(context_sync, cuCtxSynchronize)                                      \
	X(module_load, cuModuleLoadData)                                       \
	X(module_unload, cuModuleUnload)                                       \
	X(module_function, cuModuleGetFunction)                                \
	X(launch, cuLaunchKernel)                                              \
	X(stream_create, cuStreamCreate)                                       \
	X(stream_destroy, cuStreamDestroy)                                     \
	X(stream_sync, cuStreamSynchronize)                                    \
	X(stream_query, cuStreamQuery)                                         \
	X(capture_begin, cuStreamBeginCapture)                                 \
	X(capture_end, cuStreamEndCapture)                                     \
	X(graph_instantiate, cuGraphInstantiate)                               \
	X(graph_launch, cuGraphLaunch)                                         \
	X(graph_exec_destroy, cuGraphExecDestroy)                              \
	X(graph_destroy, cuGraphDestroy)                                       \
	X(event_create, cuEventCreate)                                         \
	X(event_destroy, cuEventDestroy)                                       \
	X(event_record, cuEventRecord)                                         \
	X(event_sync, cuEventSynchronize)                                      \
	X(event_elapsed, cuEventElapsedTime)                                   \
	X(memory_info, cuMemGetInfo)                                           \
	X(memory_alloc, cuMemAlloc)                                            \
	X(memory_free, cuMemFree)                                              \
	X(host_alloc, cuMemHostAlloc)                                          \
	X(host_free, cuMemFreeHost)                                            \
	X(host_device_pointer, cuMemHostGetDevicePointer)                      \
	X(copy_to_device_async, cuMemcpyHtoDAsync)                             \
	X(copy_to_host_async, cuMemcpyDtoHAsync)                               \
	X(copy_on_device_async, cuMemcpyDtoDAsync)                             \
	X(set_async, cuMemsetD32Async)                                         \
	X(granularity, cuMemGetAllocationGranularity)                          \
	X(reserve, cuMemAddressReserve)                                        \
	X(reserve_free, cuMemAddressFree)                                      \
	X(create, cuMemCreate)                                                 \
	X(release, cuMemRelease)                                               \
	X(map, cuMemMap)                                                       \
	X(unmap, cuMemUnmap)                                                   \
	X(set_access, cuMemSetAccess)                                          \
	X(export_handle, cuMemExportToShareableHandle)                         \
	X(import_handle, cuMemImportFromShareableHandle)                       \
	X(range_handle, cuMemGetHandleForAddressRange)

#define CUDA_DRIVER_MEMBER(member, function) __typeof__ (&(function))(member);
struct cuda_driver {
	CUDA_DRIVER_CALLS(CUDA_DRIVER_MEMBER)
};
#undef CUDA_DRIVER_MEMBER

/*
 * Open the driver library and fill `driver`. 0; -ENOENT when there is no
 * library, -ENOSYS when it lacks a function; `message` then says which.
 */
int cuda_driver_open(
	struct cuda_driver *driver, char *message, size_t message_size);

/* File names to try for the driver library and for cuBLASLt, NULL at the end.
 * cuda_path.c gives the real ones; the tests link other ones. */
const char *const *cuda_driver_paths(void);
const char *const *cuda_blaslt_paths(void);

#endif
