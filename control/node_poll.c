/* node_poll.c - what the dataplane's loop does (counters -> heddlectl stat) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>

#include "control/node_private.h"

static const char *const stage_names[POLL_STAGE_COUNT] = {
	[POLL_RX] = "rx",
	[POLL_STACK] = "stack",
	[POLL_FRONT] = "front",
	[POLL_TX] = "tx",
};

static double ms(const uint64_t *counter)
{
	return (double)counter_read(counter) / (double)NS_PER_MS;
}

static double idle_percent(const struct poll_counters *c)
{
	double idle = ms(&c->idle_ns_total);

	return idle > 0 ? 100 * ms(&c->idle_cpu_ns_total) / idle : 0;
}

static void put(json_t *object, const char *key, json_t *value)
{
	/* No memory: the answer lacks a line. */
	(void)json_object_set_new(object, key, value);
}

static void put_count(json_t *object, const char *key, const uint64_t *counter)
{
	put(object, key, json_integer((json_int_t)counter_read(counter)));
}

json_t *node_poll_json(const struct node *node, const struct poll_counters *c)
{
	json_t *out = json_object();

	put(out, "backend",
		json_string(node->setup.front.polled ? "dpdk" : "kernel"));
	put_count(out, "turns_total", &c->turns_total);
	put_count(out, "busy_turns_total", &c->busy_turns_total);
	put_count(out, "empty_turns_total", &c->empty_turns_total);
	put_count(out, "bursts_total", &c->bursts_total);
	for (int i = 0; i < POLL_STAGE_COUNT; i++) {
		char key[32];

		snprintf(key, sizeof(key), "%s_ms", stage_names[i]);
		put(out, key, json_real(ms(&c->stage_ns_total[i])));
	}
	put(out, "slept_ms", json_real(ms(&c->slept_ns_total)));
	put(out, "cpu_ms", json_real(ms(&c->cpu_ns_total)));
	put(out, "idle_ms", json_real(ms(&c->idle_ns_total)));
	put(out, "idle_cpu_percent", json_real(idle_percent(c)));
	put(out, "sleep", node_latency_json(&c->sleep));
	put(out, "wake", node_latency_json(&c->wake));
	return out;
}

static const struct poll_counters *loop_counters(
	const struct node *node, uint32_t index)
{
	const struct segment view = segment_view(&node->segment, index);
	const struct front_counters *counters = segment_front_counters(&view);

	return &counters->poll;
}

json_t *node_loops_json(const struct node *node)
{
	json_t *out = json_array();

	for (uint32_t i = 0; i < node->segment.shape.front_count; i++)
		(void)json_array_append_new(
			out, node_poll_json(node, loop_counters(node, i)));
	return out;
}

json_t *node_nic_json(const struct nic_counters *c)
{
	json_t *out = json_object();

	put_count(out, "ports", &c->port_count);
	put_count(out, "port_active", &c->port_active);
	put_count(out, "takeovers_total", &c->takeovers_total);
	put(out, "link_up", json_boolean(counter_read(&c->link_up)));
	put_count(out, "link_changes_total", &c->link_changes_total);
	put_count(out, "in_frames_total", &c->in_frames_total);
	put_count(out, "out_frames_total", &c->out_frames_total);
	put_count(out, "segments_again_total", &c->segments_again_total);
	put_count(out, "buffers_used", &c->buffers_used);
	return out;
}

static void print_line(FILE *out, const char *name, double ms, double all)
{
	fprintf(out, "  %-8s %12.3f %8.2f %%\n", name, ms / 1e3,
		all > 0 ? 100 * ms / all : 0);
}

static void print_histogram(
	FILE *out, const char *name, const struct histogram *histogram)
{
	uint64_t count = counter_read(&histogram->count);

	fprintf(out, "  %-8s %12llu times", name, (unsigned long long)count);
	if (count)
		fprintf(out, ", p50 below %g ms, p99 below %g ms",
			node_percentile_ms(histogram, 0.50),
			node_percentile_ms(histogram, 0.99));
	putc('\n', out);
}

static void loop_table(const struct poll_counters *c, FILE *out)
{
	double all = ms(&c->slept_ns_total);

	for (int i = 0; i < POLL_STAGE_COUNT; i++)
		all += ms(&c->stage_ns_total[i]);
	fprintf(out, "  turns    %12llu: %llu busy, %llu empty, %llu bursts\n",
		(unsigned long long)counter_read(&c->turns_total),
		(unsigned long long)counter_read(&c->busy_turns_total),
		(unsigned long long)counter_read(&c->empty_turns_total),
		(unsigned long long)counter_read(&c->bursts_total));
	fprintf(out, "  stage         seconds      share\n");
	for (int i = 0; i < POLL_STAGE_COUNT; i++)
		print_line(out, stage_names[i], ms(&c->stage_ns_total[i]), all);
	print_line(out, "sleep", ms(&c->slept_ns_total), all);
	print_histogram(out, "sleep", &c->sleep);
	print_histogram(out, "wake-up", &c->wake);
	fprintf(out, "  idle     %12.3f s, %.2f %% of a core\n",
		ms(&c->idle_ns_total) / 1e3, idle_percent(c));
}

void node_poll_table(const struct node *node, FILE *out)
{
	uint32_t count = node->segment.shape.front_count;
	const char *nic = node->setup.front.polled ? "dpdk" : "kernel";

	for (uint32_t i = 0; i < count; i++) {
		if (count == 1)
			fprintf(out, "the dataplane's loop (nic: %s)\n", nic);
		else
			fprintf(out, "loop %u of the dataplane (nic: %s)\n", i,
				nic);
		loop_table(loop_counters(node, i), out);
	}
}
