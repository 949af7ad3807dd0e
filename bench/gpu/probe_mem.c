/* probe_mem.c - bandwidth of device memory and of the bus (section mem, host) */
/* SPDX-License-Identifier: Apache-2.0 */
#include "probe_section.h"

#include <errno.h>
#include <math.h>

struct mem {
	CUdeviceptr source;
	CUdeviceptr target;
	CUdeviceptr sink;
	uint64_t bytes;
	uint64_t steps;
	unsigned blocks;
};

enum { MEM_SEED = 0x51ab };

static int op_read(struct probe *p, void *context)
{
	struct mem *m = context;
	void *args[] = {&m->source, &m->steps, &m->sink};

	return probe_launch(p, "k_read",
		(struct probe_grid){m->blocks, PROBE_THREADS}, args);
}

static int op_write(struct probe *p, void *context)
{
	struct mem *m = context;
	uint32_t seed = MEM_SEED;
	void *args[] = {&m->target, &m->steps, &seed};

	return probe_launch(p, "k_write",
		(struct probe_grid){m->blocks, PROBE_THREADS}, args);
}

static int op_copy(struct probe *p, void *context)
{
	struct mem *m = context;
	void *args[] = {&m->target, &m->source, &m->steps};

	return probe_launch(p, "k_copy",
		(struct probe_grid){m->blocks, PROBE_THREADS}, args);
}

static int op_memcpy(struct probe *p, void *context)
{
	const struct mem *m = context;

	return probe_cu(p,
		p->cu.copy_on_device_async(
			m->target, m->source, m->bytes, p->stream),
		"cuMemcpyDtoDAsync");
}

static int op_memset(struct probe *p, void *context)
{
	const struct mem *m = context;

	return probe_cu(p,
		p->cu.set_async(
			m->target, 0x3f803f80u, m->bytes / 4, p->stream),
		"cuMemsetD32Async");
}

/* k_write's words, head and tail: fast memory that is not written is none. */
static int check_written(struct probe *p, const struct mem *m)
{
	uint64_t places[2] = {0, m->bytes / 16 - 1};

	for (int i = 0; i < 2; i++) {
		uint32_t word[4] = {0, 0, 0, 0};
		uint32_t low = (uint32_t)places[i];

		if (probe_download(p, word, m->target + places[i] * 16,
			    sizeof(word)) != 0)
			return -EIO;
		if (word[0] != low || word[1] != (low ^ MEM_SEED) ||
			word[2] != ~low || word[3] != MEM_SEED)
			probe_wrong(p, "k_write left wrong words at %llu",
				(unsigned long long)places[i] * 16);
	}
	return 0;
}

static int check_copied(struct probe *p, const struct mem *m, const char *what)
{
	uint64_t bad = 0;
	int error = probe_check(p, m->target, m->bytes, MEM_SEED, &bad);

	if (error == 0 && bad != 0)
		probe_wrong(p, "%s left %llu wrong words", what,
			(unsigned long long)bad);
	return error;
}

static int measure_mem(struct probe *p, struct mem *m)
{
	double gb = (double)m->bytes / 1e9;
	struct probe_rate rate = {"mem.read", gb, p->peak_gb_s, 30, ""};
	int error = probe_fill(p, m->source, m->bytes, MEM_SEED);

	if (error == 0)
		error = probe_rate(p, &rate, op_read, m, NULL);
	rate.name = "mem.write";
	if (error == 0)
		error = probe_rate(p, &rate, op_write, m, NULL);
	if (error == 0)
		error = check_written(p, m);
	rate.name = "mem.memset";
	if (error == 0)
		error = probe_rate(p, &rate, op_memset, m, NULL);
	rate.amount = 2 * gb;
	rate.note = "bytes read plus written";
	rate.name = "mem.copy";
	if (error == 0)
		error = probe_rate(p, &rate, op_copy, m, NULL);
	if (error == 0)
		error = check_copied(p, m, "k_copy");
	rate.name = "mem.memcpy";
	if (error == 0)
		error = op_memset(p, m);
	if (error == 0)
		error = probe_rate(p, &rate, op_memcpy, m, NULL);
	if (error == 0)
		error = check_copied(p, m, "cuMemcpyDtoDAsync");
	return error;
}

int probe_section_mem(struct probe *p)
{
	struct mem m = {.blocks = (unsigned)p->sm_count * 4};
	int error = -EIO;

	m.bytes = probe_size(p, 4 * PROBE_GIB, 8);
	m.steps = m.bytes / PROBE_STEP_BYTES;
	if (probe_cu(p, p->cu.memory_alloc(&m.source, m.bytes), "cuMemAlloc") ==
			0 &&
		probe_cu(p, p->cu.memory_alloc(&m.target, m.bytes),
			"cuMemAlloc") == 0 &&
		probe_cu(p,
			p->cu.memory_alloc(
				&m.sink, m.blocks * sizeof(uint32_t)),
			"cuMemAlloc") == 0)
		error = measure_mem(p, &m);
	if (m.sink != 0)
		(void)p->cu.memory_free(m.sink);
	if (m.target != 0)
		(void)p->cu.memory_free(m.target);
	if (m.source != 0)
		(void)p->cu.memory_free(m.source);
	return error;
}

/* ---- pinned host memory ----------------------------------------------- */

struct host {
	CUstream other; /* for both directions at once */
	CUdeviceptr device;
	unsigned char *pinned;
	uint64_t bytes; /* of one copy; each buffer holds two of the largest */
	uint64_t max_bytes;
};

static int op_h2d(struct probe *p, void *context)
{
	const struct host *h = context;

	return probe_cu(p,
		p->cu.copy_to_device_async(
			h->device, h->pinned, h->bytes, p->stream),
		"cuMemcpyHtoDAsync");
}

static int op_d2h(struct probe *p, void *context)
{
	const struct host *h = context;

	return probe_cu(p,
		p->cu.copy_to_host_async(h->pinned + h->max_bytes,
			h->device + h->max_bytes, h->bytes, p->stream),
		"cuMemcpyDtoHAsync");
}

/* Two streams; the timed one ends after both. */
static int op_both(struct probe *p, void *context)
{
	const struct host *h = context;

	if (probe_cu(p,
		    p->cu.copy_to_device_async(
			    h->device, h->pinned, h->bytes, h->other),
		    "cuMemcpyHtoDAsync") != 0)
		return -EIO;
	if (op_d2h(p, context) != 0)
		return -EIO;
	return probe_cu(p, p->cu.stream_sync(h->other), "cuStreamSynchronize");
}

struct host_size {
	const char *h2d;
	const char *d2h;
	uint64_t bytes;
};

static int measure_host(struct probe *p, struct host *h)
{
	static const struct host_size sizes[] = {
		{"host.h2d.64k", "host.d2h.64k", 65536},
		{"host.h2d.2m", "host.d2h.2m", 2 * PROBE_MIB},
		{"host.h2d.expert", "host.d2h.expert", PROBE_EXPERT},
		{"host.h2d.256m", "host.d2h.256m", 256 * PROBE_MIB},
	};
	struct probe_rate rate = {NULL, 0, NAN, 50, ""};

	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		if (sizes[i].bytes > h->max_bytes)
			continue;
		h->bytes = sizes[i].bytes;
		rate.amount = (double)h->bytes / 1e9;
		rate.name = sizes[i].h2d;
		if (probe_rate(p, &rate, op_h2d, h, NULL) != 0)
			return -EIO;
		rate.name = sizes[i].d2h;
		if (probe_rate(p, &rate, op_d2h, h, NULL) != 0)
			return -EIO;
	}
	h->bytes = h->max_bytes;
	rate.amount = 2.0 * (double)h->bytes / 1e9;
	rate.name = "host.both.largest";
	rate.note = "host to device and back together, times on the slower";
	return probe_rate(p, &rate, op_both, h, NULL);
}

/* Both directions carried every word. */
static int check_host(struct probe *p, struct host *h)
{
	const uint32_t *back =
		(const uint32_t *)(const void *)(h->pinned + h->max_bytes);
	uint64_t words = h->max_bytes / 4;
	uint64_t bad = 0;

	if (probe_check(p, h->device, h->max_bytes, MEM_SEED + 1, &bad) != 0)
		return -EIO;
	if (bad != 0)
		probe_wrong(p, "host to device left %llu wrong words",
			(unsigned long long)bad);
	bad = 0;
	if (probe_fill(p, h->device + h->max_bytes, h->max_bytes, MEM_SEED) !=
			0 ||
		op_d2h(p, h) != 0 || probe_sync(p, "copy to the host") != 0)
		return -EIO;
	for (uint64_t i = 0; i < words; i++)
		bad += back[i] != probe_pattern(MEM_SEED, i);
	if (bad != 0)
		probe_wrong(p, "device to host left %llu wrong words",
			(unsigned long long)bad);
	return 0;
}

int probe_section_host(struct probe *p)
{
	struct host h = {.max_bytes = probe_size(p, 256 * PROBE_MIB, 8)};
	void *pinned = NULL;
	int error = -EIO;

	if (probe_cu(p, p->cu.host_alloc(&pinned, 2 * h.max_bytes, 0),
		    "cuMemHostAlloc") == 0 &&
		probe_cu(p, p->cu.memory_alloc(&h.device, 2 * h.max_bytes),
			"cuMemAlloc") == 0 &&
		probe_cu(p,
			p->cu.stream_create(&h.other, CU_STREAM_NON_BLOCKING),
			"cuStreamCreate") == 0) {
		uint32_t *words = pinned;

		h.pinned = pinned;
		for (uint64_t i = 0; i < 2 * h.max_bytes / 4; i++)
			words[i] = probe_pattern(MEM_SEED + 1, i);
		error = measure_host(p, &h);
	}
	if (error == 0)
		error = check_host(p, &h);
	if (h.other != NULL)
		(void)p->cu.stream_destroy(h.other);
	if (h.device != 0)
		(void)p->cu.memory_free(h.device);
	if (pinned != NULL)
		(void)p->cu.host_free(pinned);
	return error;
}
