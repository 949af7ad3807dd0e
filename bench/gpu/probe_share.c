/* probe_share.c - handles as descriptors and as dma-buf (share, rdma) */
/* SPDX-License-Identifier: Apache-2.0 */
#include "probe_range.h"
#include "probe_section.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/types.h>
#include <unistd.h>

enum { SHARE_SEED = 0x5a5a, SHARE_MAX = 500 };

struct share {
	struct probe_handles set;
	struct probe_handles imported;
	struct probe_range range;
	struct probe_range mirror; /* the imported handles */
	double *export_us;
	double *import_us;
	double *map_us;
};

static double us_since(uint64_t begin)
{
	return (double)(probe_now_ns() - begin) / 1e3;
}

/* Export handle i, import it again, close the descriptor. */
static int export_import(struct probe *p, struct share *s, size_t i)
{
	int fd = -1;
	CUresult result;
	uint64_t begin = probe_now_ns();

	if (probe_cu(p,
		    p->cu.export_handle(&fd, s->set.handle[i],
			    CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR, 0),
		    "cuMemExportToShareableHandle") != 0)
		return -EIO;
	s->export_us[i] = us_since(begin);
	begin = probe_now_ns();
	result = p->cu.import_handle(&s->imported.handle[i],
		(void *)(uintptr_t)fd,
		CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR);
	s->import_us[i] = us_since(begin);
	close(fd);
	if (probe_cu(p, result, "cuMemImportFromShareableHandle") != 0)
		return -EIO;
	s->imported.count++;
	begin = probe_now_ns();
	if (probe_range_map(p, &s->mirror, i, s->imported.handle[i]) != 0 ||
		probe_range_access(p, &s->mirror, i, 1) != 0)
		return -EIO;
	s->map_us[i] = us_since(begin);
	return 0;
}

static int measure_share(struct probe *p, struct share *s)
{
	size_t count = s->set.count;
	uint64_t bytes = count * PROBE_PAGE;
	uint64_t bad = 0;
	struct rlimit limit = {0, 0};
	char note[PROBE_TEXT_MAX];

	for (size_t i = 0; i < count; i++)
		if (export_import(p, s, i) != 0)
			return -EIO;
	(void)getrlimit(RLIMIT_NOFILE, &limit);
	snprintf(note, sizeof(note), "open files: limit %llu, at most %llu",
		(unsigned long long)limit.rlim_cur,
		(unsigned long long)limit.rlim_max);
	probe_times(p, "share.export", s->export_us, count, note);
	probe_times(p, "share.import", s->import_us, count, "same process");
	probe_times(p, "share.map_imported", s->map_us, count, "");
	if (probe_fill(p, s->range.at, bytes, SHARE_SEED) != 0 ||
		probe_check(p, s->mirror.at, bytes, SHARE_SEED, &bad) != 0)
		return -EIO;
	snprintf(note, sizeof(note), "%zu handles, %llu wrong words", count,
		(unsigned long long)bad);
	probe_bool(p, "share.same_memory", bad == 0, note);
	return 0;
}

static int share_init(struct probe *p, struct share *s, size_t count)
{
	int error;

	s->export_us = calloc(count, sizeof(double));
	s->import_us = calloc(count, sizeof(double));
	s->map_us = calloc(count, sizeof(double));
	s->imported.handle = calloc(count, sizeof(*s->imported.handle));
	if (s->export_us == NULL || s->import_us == NULL || s->map_us == NULL ||
		s->imported.handle == NULL)
		return probe_stop(
			p, -ENOMEM, "no memory for %zu handles", count);
	error = probe_handles_make(
		p, &s->set, count, probe_product_flags(p), NULL);
	if (error == 0)
		error = probe_range_init(p, &s->range, PROBE_PAGE, count);
	if (error == 0)
		error = probe_range_init(p, &s->mirror, PROBE_PAGE, count);
	if (error == 0)
		error = probe_range_map_all(p, &s->range, &s->set);
	return error;
}

int probe_section_share(struct probe *p)
{
	struct share s = {.set = {.handle_bytes = PROBE_PAGE},
		.imported = {.handle_bytes = PROBE_PAGE}};
	size_t count = p->quick ? 16 : SHARE_MAX;
	int error;

	if (!(probe_product_flags(p) & PROBE_EXPORTABLE))
		return probe_stop(p, -ENOTSUP,
			"the card cannot export memory as a descriptor");
	if (count > p->free_bytes / 2 / PROBE_PAGE)
		count = (size_t)(p->free_bytes / 2 / PROBE_PAGE);
	if (count == 0)
		return probe_stop(p, -ENOTSUP, "no free memory");
	error = share_init(p, &s, count);
	if (error == 0)
		error = measure_share(p, &s);
	probe_range_release(p, &s.mirror);
	probe_range_release(p, &s.range);
	probe_handles_release(p, &s.imported);
	probe_handles_release(p, &s.set);
	free(s.map_us);
	free(s.import_us);
	free(s.export_us);
	return error;
}

/* ---- dma-buf ----------------------------------------------------------- */

/* A refusal is an answer here, not a failure: it goes into the note. */
static void export_span(struct probe *p, const char *label, CUdeviceptr at,
	uint64_t bytes, size_t runs)
{
	double us[PROBE_RUNS_MAX];
	char name[PROBE_NAME_MAX];
	char note[PROBE_TEXT_MAX];
	off_t size = -1;
	size_t done = 0;
	CUresult result = CUDA_SUCCESS;

	for (; done < runs && result == CUDA_SUCCESS; done++) {
		int fd = -1;
		uint64_t begin = probe_now_ns();

		result = p->cu.range_handle(
			&fd, at, bytes, CU_MEM_RANGE_HANDLE_TYPE_DMA_BUF_FD, 0);
		us[done] = us_since(begin);
		if (result != CUDA_SUCCESS)
			break;
		size = lseek(fd, 0, SEEK_END);
		close(fd);
	}
	if (result == CUDA_SUCCESS)
		snprintf(note, sizeof(note), "asked for %llu bytes, got %lld",
			(unsigned long long)bytes, (long long)size);
	else
		snprintf(note, sizeof(note), "%s", probe_error_name(p, result));
	snprintf(name, sizeof(name), "rdma.dmabuf.%s", label);
	probe_bool(p, name, result == CUDA_SUCCESS, note);
	snprintf(name, sizeof(name), "rdma.dmabuf_time.%s", label);
	probe_times(p, name, us, done, "");
}

/* One handle, many, and a part that starts and ends inside handles. */
static int export_all(
	struct probe *p, size_t count, unsigned flags, const char *kind)
{
	static const size_t spans[] = {1, 16, 256, 1024};
	struct probe_handles set = {.handle_bytes = PROBE_PAGE};
	struct probe_range range = {.at = 0};
	char label[32];
	int error = probe_handles_make(p, &set, count, flags, NULL);

	if (error == 0)
		error = probe_range_init(p, &range, PROBE_PAGE, count);
	if (error == 0)
		error = probe_range_map_all(p, &range, &set);
	for (size_t i = 0; i < sizeof(spans) / sizeof(spans[0]); i++) {
		if (error != 0 || spans[i] > count)
			break;
		snprintf(label, sizeof(label), "%s_n%zu", kind, spans[i]);
		export_span(p, label, range.at, spans[i] * PROBE_PAGE, 20);
	}
	if (error == 0 && count >= 4) {
		snprintf(label, sizeof(label), "%s_inner", kind);
		export_span(
			p, label, range.at + PROBE_PAGE / 2, 2 * PROBE_PAGE, 1);
	}
	probe_range_release(p, &range);
	probe_handles_release(p, &set);
	return error;
}

int probe_section_rdma(struct probe *p)
{
	CUmemAllocationProp properties = probe_properties(p, PROBE_RDMA);
	CUmemGenericAllocationHandle handle = 0;
	size_t count = p->quick ? 16 : 1024;
	CUresult result;
	int error;

	if (count > p->free_bytes / 4 / PROBE_PAGE)
		count = (size_t)(p->free_bytes / 4 / PROBE_PAGE);
	if (count == 0)
		return probe_stop(p, -ENOTSUP, "no free memory");
	result = p->cu.create(&handle, PROBE_PAGE, &properties, 0);
	probe_bool(p, "rdma.create_flag", result == CUDA_SUCCESS,
		result == CUDA_SUCCESS ? "" : probe_error_name(p, result));
	if (result == CUDA_SUCCESS)
		(void)probe_cu(p, p->cu.release(handle), "cuMemRelease");
	error = export_all(p, count, PROBE_PLAIN, "plain");
	if (error == 0 && result == CUDA_SUCCESS)
		error = export_all(p, count, PROBE_RDMA, "flagged");
	return error;
}
