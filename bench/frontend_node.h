/* frontend_node.h - a heddled to measure: start, watch, stop (-> CPU, memory) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What:    starts `heddled --device null` on free ports of the loopback, waits
 *          for its "ready" line, finds its processes by their names, and reads
 *          their CPU clocks, and their memory from /proc.
 * Files:   its log and control socket are in a folder of its own, removed at
 *          the end unless it failed to start.
 * Threads: one.
 */
#ifndef HEDDLE_BENCH_FRONTEND_NODE_H
#define HEDDLE_BENCH_FRONTEND_NODE_H

#include <stdint.h>
#include <sys/types.h>

#include "bench/serve_client.h"

#define FRONTEND_PID_COUNT_MAX 32
#define FRONTEND_MODEL_NAME "bench"

struct frontend_node_setup {
	const char *heddled, *model;
	uint32_t rank_count, row_count, step_us, text_worker_count;
};

struct frontend_node {
	pid_t pid; /* of control; 0 = not running */
	pid_t front_pid; /* of the dataplane */
	pid_t pids[FRONTEND_PID_COUNT_MAX]; /* all of them */
	uint32_t pid_count;
	struct serve_target api, admin;
	char folder[64];
};

/* -EINVAL, -ETIMEDOUT with the log's last line; then nothing runs. */
int frontend_node_start(const struct frontend_node_setup *setup,
	struct frontend_node *out, struct error *err);

/* SIGTERM, and SIGKILL when it does not end; a zeroed node is allowed. */
void frontend_node_stop(struct frontend_node *node);

/* CPU time of a process so far, user and system; 0 where it is gone. */
double frontend_cpu_s(pid_t pid);
double frontend_node_cpu_s(const struct frontend_node *node);

/* Bytes in memory, with shared ones, without files' (VmRSS - RssFile). */
uint64_t frontend_memory_bytes(pid_t pid);

#endif
