/* tcp_cubic.c - how much may be in flight (RFC 9438, 5681) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>

#include "dataplane/tcp_private.h"

#define CUBIC_C 0.4
#define CUBIC_BETA 0.7
#define CUBIC_ALPHA (3 * (1 - CUBIC_BETA) / (1 + CUBIC_BETA))
#define INITIAL_COUNT 10u /* RFC 6928 */
#define CWND_MAX (1u << 30)

static uint32_t initial_window(const struct tcp_connection *c)
{
	uint32_t mss = c->mss;

	return min_u32(INITIAL_COUNT * mss, max_u32(2 * mss, 14600));
}

void tcp_cwnd_init(struct tcp_connection *c)
{
	c->cwnd = initial_window(c);
	c->ssthresh = CWND_MAX;
	c->cubic = (struct tcp_cubic){0};
}

/* Segments that the window should have now, by both curves of RFC 9438. */
static double target_of(struct tcp *t, struct tcp_connection *c, uint32_t bytes)
{
	struct tcp_cubic *q = &c->cubic;
	double cwnd = (double)c->cwnd / c->mss, since, cubic;

	if (q->epoch_ns == 0) {
		q->epoch_ns = t->now_ns;
		q->w_est = cwnd;
		if (q->w_max < cwnd)
			q->w_max = cwnd;
		q->k_s = cbrt((q->w_max - cwnd) / CUBIC_C);
	}
	since = (double)(t->now_ns - q->epoch_ns + c->srtt_ns) / 1e9 - q->k_s;
	cubic = CUBIC_C * since * since * since + q->w_max;
	q->w_est += (q->w_est < q->w_max ? CUBIC_ALPHA : 1.0) *
		    ((double)bytes / c->mss) / cwnd;
	if (cubic < q->w_est)
		return q->w_est;
	if (cubic < cwnd)
		return cwnd;
	if (cubic > 1.5 * cwnd)
		cubic = 1.5 * cwnd;
	return cwnd + (cubic - cwnd) * ((double)bytes / c->mss) / cwnd;
}

void tcp_cwnd_acked(struct tcp *t, struct tcp_connection *c, uint32_t bytes)
{
	double bytes_now;

	/* A window that did not stop us was not tried (RFC 7661). */
	if (!c->limited || c->cwnd >= CWND_MAX)
		return;
	if (c->cwnd < c->ssthresh) {
		/* RFC 3465, 2.3: after a timeout one ACK may tell of much. */
		c->cwnd += min_u32(
			bytes, c->recovery == TCP_LOSS ? c->mss : bytes);
		return;
	}
	bytes_now = target_of(t, c, bytes) * c->mss;
	if (bytes_now > c->cwnd)
		c->cwnd = bytes_now < CWND_MAX ? (uint32_t)bytes_now : CWND_MAX;
}

void tcp_cwnd_reduce(struct tcp *t, struct tcp_connection *c)
{
	double cwnd = (double)c->cwnd / c->mss;

	(void)t;
	c->cubic.epoch_ns = 0;
	/* Fast convergence: others have come since the last time. */
	c->cubic.w_max =
		cwnd < c->cubic.w_max ? cwnd * (1 + CUBIC_BETA) / 2 : cwnd;
	c->ssthresh =
		max_u32((uint32_t)((double)c->cwnd * CUBIC_BETA), 2u * c->mss);
	c->cwnd = c->ssthresh;
}

void tcp_cwnd_idle(struct tcp *t, struct tcp_connection *c)
{
	if (c->sent_ns == 0 || t->now_ns - c->sent_ns <= c->rto_ns)
		return;
	c->cwnd = min_u32(c->cwnd, initial_window(c));
	c->cubic.epoch_ns = 0;
}
