/* counters.h - what each role counts, in shared memory (roles -> /metrics) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Why:        numbers that outlive the role that wrote them, and that any
 *             role can print without asking: the page of metrics, heddlectl
 *             stat, the health check.
 * Invariants: one writer per block. Counters only grow; a role that starts
 *             again goes on from what is there. Gauges are set. A reader
 *             takes each 64-bit word whole; different words may be of
 *             slightly different instants.
 * Threads:    one writer; readers anywhere.
 */
#ifndef HEDDLE_BASE_COUNTERS_H
#define HEDDLE_BASE_COUNTERS_H

#include <stdint.h>

#include "base/request.h"

/*
 * Times in buckets, upper bounds in ns below; the last bucket is "more".
 * Fine enough for a fast box: from 10 us on, as a thread wakes up.
 */
#define HISTOGRAM_BUCKET_COUNT 31

struct histogram {
	uint64_t count;
	uint64_t sum_ns;
	uint64_t bucket[HISTOGRAM_BUCKET_COUNT];
};

/*
 * Numbers of things, such as tokens, in buckets 1, 2, 5, 10, ... as vLLM has
 * them; the last bucket is "more".
 */
#define TALLY_BUCKET_COUNT 20

struct tally {
	uint64_t count;
	uint64_t sum;
	uint64_t bucket[TALLY_BUCKET_COUNT];
};

/* Writer: there is one, so a plain sum; readers take each word whole. */
/* NOLINTNEXTLINE(readability-non-const-parameter): the store is not seen */
static inline void counter_add(uint64_t *counter, uint64_t value)
{
	__atomic_store_n(counter, *counter + value, __ATOMIC_RELAXED);
}

/* NOLINTNEXTLINE(readability-non-const-parameter): as above */
static inline void counter_set(uint64_t *gauge, uint64_t value)
{
	__atomic_store_n(gauge, value, __ATOMIC_RELAXED);
}

/* Reader. */
static inline uint64_t counter_read(const uint64_t *counter)
{
	return __atomic_load_n(counter, __ATOMIC_RELAXED);
}

/* Upper bound of bucket i in ns; UINT64_MAX for the last. */
uint64_t histogram_bound_ns(uint32_t bucket);

/* Writer: one more value. */
void histogram_add(struct histogram *histogram, uint64_t value_ns);

/* Upper bound of bucket i; UINT64_MAX for the last. */
uint64_t tally_bound(uint32_t bucket);

/* Writer: one more value. */
void tally_add(struct tally *tally, uint64_t value);

enum refusal { /* why a request was answered with 4xx or 5xx */
	REFUSAL_BAD, /* 400 and the other 4xx of the request's own making */
	REFUSAL_KEY, /* 401 */
	REFUSAL_MODEL, /* 404 */
	REFUSAL_SIZE, /* 413, 431 */
	REFUSAL_TIMEOUT, /* 408 */
	REFUSAL_BUSY, /* 429 */
	REFUSAL_DRAINING, /* 503 */
	REFUSAL_INTERNAL, /* 500 */
	REFUSAL_COUNT
};

/* Of one name of a model: entry 0 is the base's. */
struct name_counters {
	uint64_t requests_total; /* admitted */
	uint64_t prompt_tokens_total;
	uint64_t output_tokens_total;
};

/* Of a port that is polled, and of the TCP over it; all 0 without one. */
struct nic_counters {
	uint64_t in_frames_total, in_bytes_total;
	uint64_t out_frames_total, out_bytes_total;
	/* received = taken by TCP + answered below it + these */
	uint64_t in_lost_port_total; /* no buffer, broken */
	uint64_t in_lost_pieces_total; /* in more than one buffer */
	uint64_t in_lost_link_total; /* not for us */
	uint64_t in_lost_ip_total; /* header, rule, fragment */
	uint64_t in_lost_icmp_total;
	uint64_t in_lost_tcp_total; /* checksum, malformed, unknown */
	uint64_t out_lost_port_total; /* the port had no room, or refused */
	uint64_t out_lost_neighbor_total;
	/* between the loops of a port: what one has received and another is to
	 * know counts here, as received, for that one */
	uint64_t passed_total; /* handed over, and not this loop's any more */
	uint64_t handed_total; /* taken from other loops */
	uint64_t handed_lost_total; /* there was no room */
	uint64_t segments_in_total, segments_out_total;
	uint64_t segments_again_total; /* retransmitted */
	uint64_t port_count; /* gauge: 2 with one that stands by */
	uint64_t port_active; /* gauge: which is used */
	uint64_t takeovers_total;
	uint64_t link_up, buffers_used; /* gauges */
	uint64_t link_changes_total;
};

/*
 * Of the loop of streams, over sockets or over a polled port, by the stages
 * of a turn: frames taken in; protocol (ours, or what is spent in calls of
 * the kernel); the role's own work; frames given to the port.
 */
enum poll_stage { POLL_RX, POLL_STACK, POLL_FRONT, POLL_TX, POLL_STAGE_COUNT };

struct poll_counters {
	uint64_t turns_total; /* looks for something to do */
	uint64_t busy_turns_total; /* with a frame or an event */
	uint64_t empty_turns_total; /* the others */
	uint64_t bursts_total; /* looks at the port that found frames */
	uint64_t stage_ns_total[POLL_STAGE_COUNT];
	uint64_t slept_ns_total;
	uint64_t cpu_ns_total; /* of the loop's thread */
	/* Of tenths of a second without a busy turn: time, and the thread's. */
	uint64_t idle_ns_total, idle_cpu_ns_total;
	struct histogram sleep; /* how long nobody looked */
	struct histogram wake; /* called, or time is up -> runs */
};

enum capture_state {
	CAPTURE_NONE,
	CAPTURE_RUNS,
	CAPTURE_STOPPED,
	CAPTURE_FULL, /* it has ended by itself */
	CAPTURE_FAILED /* so has this one: the file, or the role, is gone */
};

/* Of the capture that was begun last. `dropped` is the loop's, the rest of
 * the thread that writes the file. */
struct capture_counters {
	uint64_t serial; /* gauge; 0 = there was none */
	uint64_t state; /* gauge: enum capture_state */
	uint64_t frames, bytes; /* in the file; from 0 for each capture */
	uint64_t dropped; /* the thread did not keep up; likewise */
};

struct front_counters {
	uint64_t connections_open; /* gauge */
	uint64_t connections_total;
	uint64_t requests_total; /* HTTP requests */
	uint64_t refused_total[REFUSAL_COUNT];
	uint64_t finished_total[FINISH_REASON_COUNT];
	uint64_t prompt_tokens_total;
	uint64_t output_tokens_total;
	uint64_t sent_bytes_total;
	uint64_t received_bytes_total;
	uint64_t slots_used; /* gauge */
	uint64_t pages_used; /* gauge */
	uint64_t ring_full_total;
	uint64_t stale_messages_total; /* of an earlier life of a slot */
	uint64_t bad_messages_total; /* impossible values */
	struct histogram first_token; /* received -> first byte sent */
	struct histogram inter_token;
	struct histogram per_token; /* (end - first) / (tokens - 1) */
	struct histogram end_to_end;
	struct histogram token_to_socket; /* in the log -> given to the NIC */
	struct histogram refusal; /* received -> refused */
	struct tally prompt_tokens; /* of each sequence that ended */
	struct tally output_tokens; /* likewise */
	struct tally choices_asked; /* n, of each request admitted */
	struct tally output_asked; /* max_tokens, likewise */
	/* By the entry of base/adapters.h; they sum up to the totals. */
	struct name_counters names[INSTANCE_COUNT_MAX];
	struct poll_counters poll;
	struct nic_counters nic;
	struct capture_counters capture;
};

struct engine_counters {
	uint64_t steps_total;
	uint64_t rows_total;
	uint64_t prompt_tokens_total; /* computed, not found in the cache */
	uint64_t output_tokens_total;
	uint64_t cached_tokens_total; /* found in the prefix cache */
	uint64_t queried_tokens_total; /* sought there */
	uint64_t preemptions_total;
	uint64_t running; /* gauge: requests */
	uint64_t waiting; /* gauge */
	uint64_t kv_pages_used, kv_pages_total; /* gauges */
	uint64_t bad_messages_total;
	struct histogram queue; /* submitted -> scheduled */
	struct histogram prefill; /* scheduled -> first token */
	struct histogram decode; /* first token -> last */
	struct histogram step;
};

#endif
