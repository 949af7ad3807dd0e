/*
 * probe_hold.c - memory that outlives its process (hold_make, _check, _after)
 *
 * The maker writes and exports memory, hands the descriptors to the parent,
 * which has no context and never opens the driver, and ends without a clean-up,
 * as a crash would. The checker gets them from the parent and reads every byte.
 * The last process sees whether closing them gave the memory back.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "probe_fds.h"
#include "probe_range.h"
#include "probe_section.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { HOLD_SMALL = 16, HOLD_LARGE = 4 };
#define HOLD_LARGE_BYTES (32 * PROBE_PAGE)

struct hold_set {
	struct probe_handles handles;
	struct probe_range range;
	uint32_t seed; /* of the first handle; the next have the next seeds */
};

static int report_free(struct probe *p, const char *name)
{
	size_t free_bytes = 0;
	size_t total_bytes = 0;

	if (probe_cu(p, p->cu.memory_info(&free_bytes, &total_bytes),
		    "cuMemGetInfo") != 0)
		return -EIO;
	probe_value(p, name, (double)free_bytes, "");
	return 0;
}

static int hold_map(struct probe *p, struct hold_set *set)
{
	if (set->handles.count == 0)
		return 0;
	if (probe_range_init(p, &set->range, set->handles.handle_bytes,
		    set->handles.count) != 0)
		return -EIO;
	return probe_range_map_all(p, &set->range, &set->handles);
}

static void hold_release(struct probe *p, struct hold_set *set)
{
	probe_range_release(p, &set->range);
	probe_handles_release(p, &set->handles);
}

/* ---- the maker --------------------------------------------------------- */

static int make_set(struct probe *p, struct hold_set *set, size_t count)
{
	if (count == 0)
		return 0;
	if (probe_handles_make(
		    p, &set->handles, count, PROBE_EXPORTABLE, NULL) != 0 ||
		hold_map(p, set) != 0)
		return -EIO;
	for (size_t i = 0; i < count; i++)
		if (probe_fill(p, probe_range_at(&set->range, i),
			    set->handles.handle_bytes,
			    set->seed + (uint32_t)i) != 0)
			return -EIO;
	return probe_sync(p, "k_fill");
}

static int export_set(
	struct probe *p, const struct hold_set *set, struct probe_fds *fds)
{
	for (size_t i = 0; i < set->handles.count; i++) {
		int fd = -1;

		if (probe_cu(p,
			    p->cu.export_handle(&fd, set->handles.handle[i],
				    CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR,
				    0),
			    "cuMemExportToShareableHandle") != 0)
			return -EIO;
		fds->fd[fds->count++] = fd;
	}
	return 0;
}

int probe_section_hold_make(struct probe *p)
{
	struct hold_set small = {
		.handles = {.handle_bytes = PROBE_PAGE}, .seed = 100};
	struct hold_set large = {
		.handles = {.handle_bytes = HOLD_LARGE_BYTES}, .seed = 200};
	struct probe_fds fds = {.count = 0};
	size_t count = (size_t)(p->free_bytes / 4 / HOLD_LARGE_BYTES);
	int error;

	if (!(probe_product_flags(p) & PROBE_EXPORTABLE))
		return probe_stop(p, -ENOTSUP,
			"the card cannot export memory as a descriptor");
	if (count > HOLD_LARGE)
		count = HOLD_LARGE;
	error = report_free(p, "hold.free.before");
	if (error == 0)
		error = make_set(p, &small, HOLD_SMALL);
	if (error == 0)
		error = make_set(p, &large, count);
	if (error == 0)
		error = report_free(p, "hold.free.with");
	if (error == 0)
		error = export_set(p, &small, &fds);
	if (error == 0)
		error = export_set(p, &large, &fds);
	if (error == 0 && probe_fds_send(PROBE_SOCKET_FD, &fds) != 0)
		error = probe_stop(
			p, -EIO, "sending descriptors: %s", strerror(errno));
	if (error == 0) {
		/* Everything stays as it is: the process is to die of it. */
		p->abandon = true;
		return 0;
	}
	probe_fds_close(&fds);
	hold_release(p, &large);
	hold_release(p, &small);
	return error;
}

/* ---- the checker -------------------------------------------------------- */

static int import_set(struct probe *p, struct hold_set *set,
	const struct probe_fds *fds, size_t first, size_t count)
{
	if (count == 0)
		return 0;
	set->handles.handle = calloc(count, sizeof(*set->handles.handle));
	if (set->handles.handle == NULL)
		return probe_stop(p, -ENOMEM, "no memory for handles");
	for (size_t i = 0; i < count; i++) {
		if (probe_cu(p,
			    p->cu.import_handle(&set->handles.handle[i],
				    (void *)(uintptr_t)fds->fd[first + i],
				    CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR),
			    "cuMemImportFromShareableHandle") != 0)
			return -EIO;
		set->handles.count++;
	}
	return hold_map(p, set);
}

static int check_set(struct probe *p, const struct hold_set *set, uint64_t *bad)
{
	for (size_t i = 0; i < set->handles.count; i++) {
		uint64_t more = 0;

		if (probe_check(p, probe_range_at(&set->range, i),
			    set->handles.handle_bytes, set->seed + (uint32_t)i,
			    &more) != 0)
			return -EIO;
		*bad += more;
	}
	return 0;
}

/* The first page once more, by the processor: no kernel can flatter it. */
static int check_on_host(
	struct probe *p, const struct hold_set *set, uint64_t *bad)
{
	uint32_t *page = malloc(PROBE_PAGE);

	if (page == NULL)
		return probe_stop(p, -ENOMEM, "no memory for a page");
	if (probe_download(p, page, set->range.at, PROBE_PAGE) != 0) {
		free(page);
		return -EIO;
	}
	for (uint64_t i = 0; i < PROBE_PAGE / 4; i++)
		*bad += page[i] != probe_pattern(set->seed, i) ? 1 : 0;
	free(page);
	return 0;
}

static int check_all(struct probe *p, struct hold_set *small,
	struct hold_set *large, const struct probe_fds *fds)
{
	uint64_t begin = probe_now_ns();
	uint64_t bad = 0;
	double us;
	char note[PROBE_TEXT_MAX];

	if (import_set(p, small, fds, 0, HOLD_SMALL) != 0)
		return -EIO;
	us = (double)(probe_now_ns() - begin) / 1e3 / HOLD_SMALL;
	probe_value(p, "hold.import", us,
		"mean of 16 handles of 2 MiB, with map and set-access");
	if (import_set(p, large, fds, HOLD_SMALL, fds->count - HOLD_SMALL) !=
			0 ||
		check_set(p, small, &bad) != 0 ||
		check_set(p, large, &bad) != 0 ||
		check_on_host(p, small, &bad) != 0)
		return -EIO;
	snprintf(note, sizeof(note), "%zu handles, %llu wrong words",
		fds->count, (unsigned long long)bad);
	probe_bool(p, "hold.survives", bad == 0, note);
	return 0;
}

int probe_section_hold_check(struct probe *p)
{
	struct hold_set small = {
		.handles = {.handle_bytes = PROBE_PAGE}, .seed = 100};
	struct hold_set large = {
		.handles = {.handle_bytes = HOLD_LARGE_BYTES}, .seed = 200};
	struct probe_fds fds = {.count = 0};
	int error = report_free(p, "hold.free.held");

	if (error == 0 && probe_fds_receive(PROBE_SOCKET_FD, &fds) != 0)
		error = probe_stop(
			p, -EIO, "receiving descriptors: %s", strerror(errno));
	if (error == 0 && fds.count < HOLD_SMALL)
		error = probe_stop(p, -EIO, "%zu descriptors came", fds.count);
	if (error == 0)
		error = check_all(p, &small, &large, &fds);
	probe_fds_close(&fds);
	hold_release(p, &large);
	hold_release(p, &small);
	return error;
}

int probe_section_hold_after(struct probe *p)
{
	return report_free(p, "hold.free.after");
}
