/* node.h - a heddled to measure: start, watch, stop (-> CPU, memory, log) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What:    starts heddled on free ports of the loopback, waits for its "ready"
 *          line, finds its processes by their names, and reads their CPU
 *          clocks, and their memory from /proc.
 * Files:   its log and control socket are in a folder of its own, removed when
 *          it is stopped.
 * Threads: one.
 */
#ifndef HEDDLE_BENCH_NODE_H
#define HEDDLE_BENCH_NODE_H

#include <stdint.h>
#include <sys/types.h>

#include "bench/serve_client.h"

#define BENCH_PID_COUNT_MAX 32
#define BENCH_MODEL_NAME "bench"
#define BENCH_NODE_OPTION_COUNT_MAX 48

struct bench_node_setup {
	const char *heddled, *model;
	/* More of heddled's options, each followed by its value; the last is
	 * NULL. At most BENCH_NODE_OPTION_COUNT_MAX. */
	const char *const *options;
};

struct bench_node {
	pid_t pid; /* of control; 0 = not running */
	pid_t front_pid; /* of the dataplane */
	pid_t pids[BENCH_PID_COUNT_MAX]; /* all of them */
	uint32_t pid_count;
	struct serve_target api, admin;
	char folder[64];
	char log[80]; /* the path of what it says */
};

/* -EINVAL, -ETIMEDOUT with the log's last line; then nothing runs. */
int bench_node_start(const struct bench_node_setup *setup,
	struct bench_node *out, struct error *err);

/* SIGTERM, and SIGKILL when it does not end; a zeroed node is allowed. */
void bench_node_stop(struct bench_node *node);

/* CPU time of a process so far, user and system; 0 where it is gone. */
double bench_cpu_s(pid_t pid);
double bench_node_cpu_s(const struct bench_node *node);

/*
 * Processor time that a hypervisor gave to others while this machine wanted
 * it, so far and of all processors; 0 where the kernel does not say.
 */
double bench_stolen_s(void);

/* Bytes in memory, with shared ones, without files' (VmRSS - RssFile). */
uint64_t bench_memory_bytes(pid_t pid);

#endif
