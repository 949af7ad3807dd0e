/* cpu_load.c - how fast a model comes into memory (directory -> GB/s) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "base/clock.h"
#include "bench/cpu_load.h"
#include "bench/median.h"
#include "control/model_dir.h"
#include "engine/load.h"

#define RUN_COUNT_MAX 32

static int throw_away(void *arg, uint32_t lane, uint32_t segment,
	uint64_t offset, const uint8_t *data, size_t length)
{
	(void)arg;
	(void)lane;
	(void)segment;
	(void)offset;
	(void)data;
	(void)length;
	return 0;
}

/* Bytes per second of reading every weight file whole. */
static int read_once(const struct model_files *files, uint32_t lanes,
	double *out_rate, struct cpu_load_rates *rates, struct error *err)
{
	struct reader_sink sink = {.take = throw_away, .lane_count = lanes};
	struct read_segment *segments =
		calloc(files->weight_count, sizeof(*segments));
	struct reader_info info;
	uint64_t bytes = 0;
	struct mono begin;
	int rc;

	if (!segments)
		return error_set(err, ENOMEM, "no memory to read with");
	for (uint32_t i = 0; i < files->weight_count; i++) {
		segments[i] = (struct read_segment){
			.file = i, .size_bytes = files->weights[i].size_bytes};
		bytes += files->weights[i].size_bytes;
	}
	begin = mono_now();
	rc = reader_run(files, segments, (uint32_t)files->weight_count, &sink,
		&info, err);
	*out_rate = (double)bytes * 1e9 /
		    (double)(mono_diff(mono_now(), begin) + 1);
	rates->direct_file_count = info.direct_file_count;
	free(segments);
	return rc;
}

static int load_once(const struct model_files *files, enum cpu_isa isa,
	uint32_t threads, double *out_rate, struct error *err)
{
	struct vmm_host_config host = {
		.granularity_bytes = PAGE_SIZE_BYTES_MIN};
	struct model_options options = {
		.layout = cpu_isa_layout(isa),
		.thread_count = threads,
		.kv_type = DTYPE_BF16,
		.kv_token_count = 1024,
	};
	struct model *model;
	uint64_t bytes = 0;
	struct mono begin;
	struct vmm vmm;
	int rc;

	for (uint32_t i = 0; i < files->weight_count; i++)
		bytes += files->weights[i].size_bytes;
	rc = vmm_host_init(&vmm, &host, err);
	if (rc)
		return rc;
	begin = mono_now();
	rc = model_load(&vmm, files, &options, &model, err);
	*out_rate = (double)bytes * 1e9 /
		    (double)(mono_diff(mono_now(), begin) + 1);
	if (rc == 0)
		model_destroy(model);
	vmm_host_destroy(&vmm);
	return rc;
}

int cpu_load_measure(const char *directory, enum cpu_isa isa,
	uint32_t thread_count, uint32_t run_count, struct cpu_load_rates *out,
	struct error *err)
{
	double loads[RUN_COUNT_MAX], shares[RUN_COUNT_MAX];
	uint32_t lanes = thread_count < READER_LANE_COUNT_MAX
				 ? thread_count
				 : READER_LANE_COUNT_MAX;
	struct model_files files;
	int rc;

	assert(run_count >= 1 && run_count <= RUN_COUNT_MAX);
	rc = model_dir_open(directory, &files, err);
	if (rc)
		return rc;
	for (uint32_t i = 0; rc == 0 && i < run_count; i++) {
		double one = 0, many = 0;

		rc = read_once(&files, 1, &one, out, err);
		if (rc == 0)
			rc = read_once(&files, lanes, &many, out, err);
		if (rc == 0)
			rc = load_once(
				&files, isa, thread_count, &loads[i], err);
		shares[i] = loads[i] / (one > many ? one : many);
	}
	model_files_close(&files);
	if (rc)
		return rc;
	out->load_bytes_per_second = median(loads, run_count);
	out->read_bytes_per_second =
		out->load_bytes_per_second / median(shares, run_count);
	return 0;
}
