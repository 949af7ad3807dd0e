/* probe_launch.c - gaps between kernels, in a graph and out (section launch) */
/* SPDX-License-Identifier: Apache-2.0 */
#include "probe_section.h"

#include <errno.h>
#include <math.h>

enum { CHAIN = 200, LAUNCH_RUNS = 50 };

struct chain {
	CUfunction empty;
	CUgraph graph;
	CUgraphExec exec;
	struct probe_grid grid;
	unsigned length;
};

static int launch_chain(struct probe *p, const struct chain *c)
{
	for (unsigned i = 0; i < c->length; i++)
		if (probe_cu(p,
			    p->cu.launch(c->empty, c->grid.blocks, 1, 1,
				    c->grid.threads, 1, 1, 0, p->stream, NULL,
				    NULL),
			    "k_empty") != 0)
			return -EIO;
	return 0;
}

static int op_stream(struct probe *p, void *context)
{
	return launch_chain(p, context);
}

static int op_graph(struct probe *p, void *context)
{
	const struct chain *c = context;

	return probe_cu(
		p, p->cu.graph_launch(c->exec, p->stream), "cuGraphLaunch");
}

static int op_graph_round(struct probe *p, void *context)
{
	if (op_graph(p, context) != 0)
		return -EIO;
	return probe_sync(p, "graph");
}

static int op_launch_round(struct probe *p, void *context)
{
	if (launch_chain(p, context) != 0)
		return -EIO;
	return probe_sync(p, "k_empty");
}

static void chain_release(struct probe *p, struct chain *c)
{
	if (c->exec != NULL)
		(void)p->cu.graph_exec_destroy(c->exec);
	if (c->graph != NULL)
		(void)p->cu.graph_destroy(c->graph);
	c->exec = NULL;
	c->graph = NULL;
}

static int chain_capture(struct probe *p, struct chain *c)
{
	int error;

	if (probe_cu(p,
		    p->cu.capture_begin(
			    p->stream, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL),
		    "cuStreamBeginCapture") != 0)
		return -EIO;
	error = launch_chain(p, c);
	if (probe_cu(p, p->cu.capture_end(p->stream, &c->graph),
		    "cuStreamEndCapture") != 0 ||
		error != 0)
		return -EIO;
	return probe_cu(p, p->cu.graph_instantiate(&c->exec, c->graph, 0),
		"cuGraphInstantiate");
}

/* Time `op` on the host's clock, `count` times after 5 warm-ups. */
static int host_times(struct probe *p, const char *name, probe_op *op,
	struct chain *c, const char *note)
{
	double us[PROBE_RUNS_MAX];
	unsigned runs = p->quick ? 10 : PROBE_RUNS_MAX;

	for (unsigned i = 0; i < runs + 5; i++) {
		uint64_t begin = probe_now_ns();

		if (op(p, c) != 0)
			return -EIO;
		if (i >= 5)
			us[i - 5] = (double)(probe_now_ns() - begin) / 1e3;
		/* A full queue would make a call wait: keep it short. */
		if (i % 8 == 0 && probe_sync(p, name) != 0)
			return -EIO;
	}
	probe_times(p, name, us, runs, note);
	return probe_sync(p, name);
}

/* Device time per kernel of a chain, between events around it. */
static int chain_times(
	struct probe *p, const char *name, probe_op *op, struct chain *c)
{
	double ms[LAUNCH_RUNS];
	unsigned runs = p->quick ? 5 : LAUNCH_RUNS;
	int error = probe_time(p, op, c, ms, runs);

	if (error != 0)
		return error;
	for (unsigned i = 0; i < runs; i++)
		ms[i] = ms[i] * 1e3 / c->length;
	probe_times(p, name, ms, runs, "whole chain over its 200 kernels");
	return 0;
}

struct shape {
	const char *in_stream;
	const char *in_graph;
	struct probe_grid grid;
};

static int measure_shape(
	struct probe *p, struct chain *c, const struct shape *shape)
{
	int error;

	c->grid = shape->grid;
	c->length = CHAIN;
	error = chain_times(p, shape->in_stream, op_stream, c);
	if (error == 0)
		error = chain_capture(p, c);
	if (error == 0)
		error = chain_times(p, shape->in_graph, op_graph, c);
	if (error == 0 && shape->grid.blocks == 1)
		error = host_times(p, "launch.graph_call", op_graph, c,
			"graph of 200 kernels");
	chain_release(p, c);
	return error;
}

int probe_section_launch(struct probe *p)
{
	const struct shape shapes[] = {
		{"launch.stream.one", "launch.graph.one", {1, 32}},
		{"launch.stream.full", "launch.graph.full",
			{(unsigned)p->sm_count, 256}},
	};
	struct chain c = {.grid = {1, 32}, .length = 1};
	int error = probe_function(p, "k_empty", &c.empty);

	if (error == 0)
		error = host_times(p, "launch.host", op_stream, &c, "");
	if (error == 0)
		error = host_times(p, "launch.round", op_launch_round, &c, "");
	if (error == 0)
		error = chain_capture(p, &c);
	if (error == 0)
		error = host_times(p, "launch.graph_round", op_graph_round, &c,
			"graph of 1 kernel");
	chain_release(p, &c);
	for (size_t i = 0; i < 2 && error == 0; i++)
		error = measure_shape(p, &c, &shapes[i]);
	return error;
}
