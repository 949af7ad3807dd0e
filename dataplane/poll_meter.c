/* poll_meter.c - where a loop's time goes (loop -> struct poll_counters) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <time.h>

#include "dataplane/poll_meter.h"

void poll_meter_init(struct poll_meter *meter, struct poll_counters *out)
{
	*meter = (struct poll_meter){.out = out};
}

void poll_meter_enter(struct poll_meter *meter, struct mono now)
{
	if (meter->left_ns)
		meter->stage_ns[POLL_FRONT] +=
			meter->left_weight * (now.ns - meter->left_ns);
	meter->left_ns = 0;
}

void poll_meter_leave(
	struct poll_meter *meter, struct mono now, uint32_t weight)
{
	meter->left_ns = now.ns;
	meter->left_weight = weight;
}

void poll_meter_call(struct poll_meter *meter)
{
	if (meter->out)
		atomic_store_explicit(
			&meter->called_ns, mono_now().ns, memory_order_relaxed);
}

void poll_meter_slept(struct poll_meter *meter, struct mono from,
	struct mono until, struct mono to)
{
	uint64_t called_ns;

	if (!meter->out)
		return;
	called_ns = atomic_exchange_explicit(
		&meter->called_ns, 0, memory_order_relaxed);
	meter->slept_ns += mono_diff(to, from);
	histogram_add(&meter->out->sleep, mono_diff(to, from));
	/* What a frame or a socket has ended says not when it came. */
	if (called_ns > from.ns && called_ns <= to.ns)
		histogram_add(&meter->out->wake, to.ns - called_ns);
	else if (mono_before(until, to))
		histogram_add(&meter->out->wake, mono_diff(to, until));
}

static uint64_t thread_ns(void)
{
	struct timespec used = {0};

	(void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &used);
	return (uint64_t)used.tv_sec * NS_PER_S + (uint64_t)used.tv_nsec;
}

void poll_meter_write(struct poll_meter *meter, struct mono now)
{
	struct poll_counters *c = meter->out;
	uint64_t cpu_ns = thread_ns(), used_ns = cpu_ns - meter->cpu_ns;

	counter_add(&c->turns_total, meter->turns);
	counter_add(&c->busy_turns_total, meter->busy);
	counter_add(&c->empty_turns_total, meter->turns - meter->busy);
	counter_add(&c->bursts_total, meter->bursts);
	for (int i = 0; i < POLL_STAGE_COUNT; i++) {
		counter_add(&c->stage_ns_total[i], meter->stage_ns[i]);
		meter->stage_ns[i] = 0;
	}
	counter_add(&c->slept_ns_total, meter->slept_ns);
	counter_add(&c->cpu_ns_total, used_ns);
	if (meter->written_ns && meter->busy == 0) {
		counter_add(&c->idle_ns_total, now.ns - meter->written_ns);
		counter_add(&c->idle_cpu_ns_total, used_ns);
	}
	meter->turns = meter->busy = meter->bursts = meter->slept_ns = 0;
	meter->written_ns = now.ns;
	meter->cpu_ns = cpu_ns;
}
