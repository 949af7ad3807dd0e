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

/* What one turn measures. */
enum { READ_ONE, READ_MANY, LOAD_FRESH, LOAD_AGAIN, SPEED_COUNT };

struct turn {
	const struct model_files *files;
	enum cpu_isa isa;
	uint32_t lanes, threads;
	struct cpu_load_rates *rates;
	double (*speeds)[CPU_LOAD_RUN_COUNT_MAX];
	uint32_t index;
};

static int measure_read(
	const struct turn *turn, int what, uint32_t lanes, struct error *err)
{
	return read_once(turn->files, lanes, &turn->speeds[what][turn->index],
		turn->rates, err);
}

static int measure_loads(const struct turn *turn, struct error *err)
{
	int rc = 0;

	for (int k = LOAD_FRESH; rc == 0 && k <= LOAD_AGAIN; k++)
		rc = load_once(turn->files, turn->isa, turn->threads,
			&turn->speeds[k][turn->index], err);
	return rc;
}

/* Another one first each time: a disk may give more after a rest. */
static int measure_turn(const struct turn *turn, struct error *err)
{
	int rc = 0;

	for (uint32_t k = 0; rc == 0 && k < 3; k++)
		switch ((turn->index + k) % 3) {
		case 0:
			rc = measure_read(turn, READ_ONE, 1, err);
			break;
		case 1:
			rc = measure_read(turn, READ_MANY, turn->lanes, err);
			break;
		default:
			rc = measure_loads(turn, err);
		}
	return rc;
}

int cpu_load_measure(const char *directory, enum cpu_isa isa,
	uint32_t thread_count, uint32_t run_count, struct cpu_load_rates *out,
	struct error *err)
{
	double speeds[SPEED_COUNT][CPU_LOAD_RUN_COUNT_MAX], one, many;
	struct model_files files;
	struct turn turn = {
		.files = &files,
		.isa = isa,
		.lanes = thread_count < READER_LANE_COUNT_MAX
				 ? thread_count
				 : READER_LANE_COUNT_MAX,
		.threads = thread_count,
		.rates = out,
		.speeds = speeds,
	};
	int rc;

	assert(run_count >= 1 && run_count <= CPU_LOAD_RUN_COUNT_MAX);
	rc = model_dir_open(directory, &files, err);
	if (rc)
		return rc;
	for (; rc == 0 && turn.index < run_count; turn.index++)
		rc = measure_turn(&turn, err);
	model_files_close(&files);
	if (rc)
		return rc;
	one = median(speeds[READ_ONE], run_count);
	many = median(speeds[READ_MANY], run_count);
	out->read = one > many ? one : many;
	out->fresh_load = median(speeds[LOAD_FRESH], run_count);
	out->load = median(speeds[LOAD_AGAIN], run_count);
	return 0;
}
