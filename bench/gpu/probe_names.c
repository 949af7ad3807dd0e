/* probe_names.c - every section and every result of the card probe, by name */
/* SPDX-License-Identifier: Apache-2.0 */
#include "probe_names.h"

#include <string.h>

#define PROBE_SECTION_ROW(name, limit_s, what) {#name, limit_s, what},
const struct probe_section_name probe_section_names[PROBE_CHILD_COUNT] = {
	PROBE_SECTIONS(PROBE_SECTION_ROW)};
#undef PROBE_SECTION_ROW

/*
 * Values are medians; p99 is the 99th percentile, for a rate the rate at the
 * 99th percentile of the time (the slow side). Sizes in names: 2m = 2 MiB.
 */
const struct probe_result_name probe_result_names[] = {
	{"mem.read", "GB/s",
		"kernel that only reads; limit from clock and bus"},
	{"mem.write", "GB/s", "kernel that only writes"},
	{"mem.copy", "GB/s", "kernel copy, bytes read plus written"},
	{"mem.memcpy", "GB/s", "cuMemcpyDtoDAsync, bytes read plus written"},
	{"mem.memset", "GB/s", "cuMemsetD32Async"},
	{"host.h2d.*", "GB/s", "copy engine, pinned host to device, by size"},
	{"host.d2h.*", "GB/s", "copy engine, device to pinned host, by size"},
	{"host.both.*", "GB/s", "both directions at once, sum"},
	{"launch.host", "us", "host time of one launch call"},
	{"launch.round", "us", "launch of an empty kernel and wait for it"},
	{"launch.stream.*", "us", "per kernel back to back in a stream"},
	{"launch.graph.*", "us", "per kernel inside a graph of 200"},
	{"launch.graph_call", "us", "host time of one graph launch call"},
	{"launch.graph_round", "us", "launch of a graph of 1 kernel and wait"},
	{"vmm.reserve", "us", "cuMemAddressReserve of 64 GiB"},
	{"vmm.create.*", "us", "cuMemCreate, by handle size"},
	{"vmm.map.*", "us", "cuMemMap, by handle size"},
	{"vmm.access.*", "us", "cuMemSetAccess over one handle"},
	{"vmm.unmap.*", "us", "cuMemUnmap of one handle"},
	{"vmm.release.*", "us", "cuMemRelease of an unmapped handle"},
	{"vmm.access_span.*", "us", "one cuMemSetAccess over n 2 MiB handles"},
	{"vmm.unmap_span.*", "us", "one cuMemUnmap over n 2 MiB handles"},
	{"vmm.usable", "bool", "memory so mapped holds what was written"},
	{"remap.graph.whole", "bool",
		"replay reads the new bytes of the range"},
	{"remap.graph.middle", "bool", "the same, 16 of 64 pages exchanged"},
	{"remap.graph.cycle", "bool", "the same, one page again and again"},
	{"remap.exchange", "us", "unmap, map, set-access of one 2 MiB page"},
	{"remap.replay.first", "us", "first replay after an exchange"},
	{"remap.replay.steady", "us", "replay with nothing exchanged"},
	{"alias.window_to_tensor", "bool",
		"next kernel sees the other's bytes"},
	{"alias.tensor_to_window", "bool", "the same, the other way round"},
	{"alias.in_kernel.fenced", "share", "seen with fence.proxy.alias"},
	{"alias.in_kernel.plain", "share", "seen without a fence (undefined)"},
	{"alias.read.window", "GB/s", "reading through the window"},
	{"alias.read.tensor", "GB/s", "reading through the second mapping"},
	{"rows.wgmma.right", "bool", "every wgmma tile agrees with fp64"},
	{"rows.mma.right", "bool", "every mma.sync tile agrees with fp64"},
	{"rows.wgmma.same_bits.*", "bool", "rows 1 to 256, tiles 8 to 256"},
	{"rows.mma.same_bits.*", "bool", "rows 1 to 256, tiles 8 to 256"},
	{"rows.wgmma.poison", "bool", "NaN in other rows changes no bit"},
	{"rows.mma.poison", "bool", "NaN in other rows changes no bit"},
	{"rows.wgmma_is_mma", "bool", "both instructions give the same bits"},
	{"busy.quiet.*", "us", "the call with no kernel running"},
	{"busy.call.*", "us", "the call while a kernel streams elsewhere"},
	{"busy.rate.*", "GB/s", "the kernel's reading rate during the calls"},
	{"busy.step.*", "us",
		"time of one 1 MiB step of a block of the kernel"},
	{"busy.stall.*", "us", "longest step of any block"},
	{"busy.outlived", "bool", "the kernel still ran after the last call"},
	{"near.quiet.*", "us", "as busy.quiet"},
	{"near.call.*", "us", "as busy.call, beside pages the kernel reads"},
	{"near.rate.*", "GB/s", "as busy.rate"},
	{"near.step.*", "us", "as busy.step"},
	{"near.stall.*", "us", "as busy.stall"},
	{"near.outlived", "bool", "as busy.outlived"},
	{"hold.free.before", "bytes", "free memory before the maker's memory"},
	{"hold.free.with", "bytes", "free memory with it"},
	{"hold.free.held", "bytes",
		"free memory when only a descriptor is left"},
	{"hold.free.after", "bytes", "free memory after it was closed"},
	{"hold.usage_persisted", "bool", "the memory stayed taken meanwhile"},
	{"hold.usage_returned", "bool", "closing the descriptors gave it back"},
	{"hold.survives", "bool", "another process found every byte"},
	{"hold.import", "us", "import of a handle by the other process"},
	{"share.export", "us", "cuMemExportToShareableHandle, 2 MiB handle"},
	{"share.import", "us", "cuMemImportFromShareableHandle, same process"},
	{"share.map_imported", "us",
		"map and set-access of an imported handle"},
	{"share.same_memory", "bool", "the import shows the original's bytes"},
	{"rdma.create_flag", "bool", "cuMemCreate takes gpuDirectRDMACapable"},
	{"rdma.dmabuf.*", "bool", "dma-buf of n handles in one range"},
	{"rdma.dmabuf_time.*", "us", "time of that export"},
	{"scatter.big.in_order", "GB/s", "17.3 MB experts, one large handle"},
	{"scatter.big.random", "GB/s", "the same, random order"},
	{"scatter.pages.in_order", "GB/s", "the same, shuffled 2 MiB handles"},
	{"scatter.pages.random", "GB/s", "the same, random order"},
	{"scatter.big.six", "GB/s", "6 experts per launch, one large handle"},
	{"scatter.pages.six", "GB/s", "6 experts per launch, shuffled handles"},
	{"scatter.block64k.packed", "GB/s", "64 KiB blocks side by side"},
	{"scatter.block64k.spread", "GB/s", "each alone on a 2 MiB page"},
	{"mma.sync", "TFLOP/s", "mma.sync m16n8k16, registers only"},
	{"mma.wgmma", "TFLOP/s", "wgmma m64n256k16, shared memory, no swizzle"},
	{"mma.wgmma_swizzled", "TFLOP/s", "the same, 128-byte swizzle"},
	{"window.handles", "count", "2 MiB handles in the window"},
	{"window.create", "us", "cuMemCreate, product's flags"},
	{"window.create.last", "us", "the same, last tenth of the handles"},
	{"window.map", "us", "cuMemMap"},
	{"window.map.last", "us", "the same, last tenth of the handles"},
	{"window.access", "s", "one cuMemSetAccess over the whole window"},
	{"window.build", "s", "create, map, set-access of everything"},
	{"window.right", "bool", "every byte written was read back"},
	{"window.read", "GB/s", "reading the whole window"},
	{"window.unmap", "s", "one cuMemUnmap of the whole window"},
	{"window.release", "s", "cuMemRelease of everything"},
	{"cublaslt.right.*", "bool",
		"row 0 agrees with fp64, by shape and type"},
	{"cublaslt.same_bits.*", "bool", "every M gives the bits of M = 1"},
	{"cublaslt.time.*.*", "us", "one product, by shape and M"},
};
const size_t probe_result_name_count =
	sizeof(probe_result_names) / sizeof(probe_result_names[0]);

int probe_section_find(const char *name, size_t length)
{
	for (int i = 0; i < PROBE_CHILD_COUNT; i++) {
		const char *known = probe_section_names[i].name;

		if (strlen(known) == length && memcmp(known, name, length) == 0)
			return i;
	}
	return -1;
}

bool probe_name_match(const char *pattern, const char *name)
{
	while (*pattern != '\0') {
		if (*pattern == '*') {
			size_t part = strcspn(name, ".");

			if (part == 0)
				return false;
			name += part;
			pattern++;
		} else if (*pattern++ != *name++) {
			return false;
		}
	}
	return *name == '\0';
}

const struct probe_result_name *probe_result_find(const char *name)
{
	for (size_t i = 0; i < probe_result_name_count; i++)
		if (probe_name_match(probe_result_names[i].pattern, name))
			return &probe_result_names[i];
	return NULL;
}
