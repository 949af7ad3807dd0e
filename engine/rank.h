/* rank.h - what every engine has in common (rings and slots <-> an engine) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Why:   an engine that computes and one that only pretends speak the same
 *        protocol (base/request.h, base/segment.h): the intake of messages,
 *        the checks of what the dataplane wrote, the log, the ends of
 *        requests and the signs of life are written once, here.
 *
 *   request ring -> rank_intake.c -> hooks -> (the engine) -> rank_log.c
 *        -> outbox (rank.c) -> token ring
 *
 * Requests: kept under the index of their slot, as a checked copy of what the
 *        dataplane sealed; the slot is only told. Payload pages are read when
 *        they are needed, and what is read is checked each time.
 * Outbox: one for each of the dataplane's fronts, keeps what its token ring
 *        could not take. No step begins and no message is taken in before all
 *        are empty, so they are bounded.
 * Adapters: a request holds its instance from intake to its end; one whose
 *        instance is not resident here ends as FINISH_ENGINE_LOST
 *        (rank_adapters.h).
 * Trust: whatever is read from the segment is copied once and checked; a bad
 *        value fails its request, or is counted and dropped.
 * Ownership: the segment is borrowed from open to close.
 * Threads: one at a time; one sleeps.
 */
#ifndef HEDDLE_ENGINE_RANK_H
#define HEDDLE_ENGINE_RANK_H

#include <stdbool.h>
#include <stdint.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/segment.h"

/* Messages taken from a ring at a time. */
#define RANK_BURST 256
/* A sign of life at least this often. */
#define RANK_BEAT_NS (100 * NS_PER_MS)
/* A full token ring is looked at again after this long. */
#define RANK_RING_FULL_WAIT_NS (50 * NS_PER_US)
#define RANK_EOS_COUNT_MAX 16

struct engine_mail;
struct rank_adapters;

/* Where an engine serves; all of it is borrowed while it runs. */
struct engine_place {
	const struct segment *segment;
	uint32_t rank;
	struct engine_mail *mail; /* NULL = no adapter comes or goes */
	/* Not 0 = it is to end: set it, then wake_post() the rank's wake. */
	const uint32_t *stop;
};

/* The place of the next record in a chain of payload pages. */
struct rank_cursor {
	uint32_t page; /* index, checked; PAYLOAD_NONE = none */
	uint32_t used; /* records in it */
};

struct rank_request {
	enum engine_state own; /* the truth; the slot is only told */
	uint32_t generation;
	/* copied and checked at intake */
	struct request_params params;
	uint32_t prompt_page, log_page, instance, epoch, name;
	bool holds; /* its adapter's instance, from intake to its end */
	uint64_t submitted_ns;
	/* output */
	uint32_t output_count;
	struct rank_cursor log, top;
	struct engine_times times;
};

/* How an engine hears of its requests. */
struct rank_hooks {
	void *arg;
	/* A good request has become QUEUED, or PREEMPTED where an earlier
	 * life had begun it. */
	void (*submitted)(void *arg, uint32_t slot_index, struct mono now);
	/* It shall end: rank_finish() now, or once no step runs it. */
	void (*end)(void *arg, uint32_t slot_index, enum finish_reason reason);
	/* Is there something to do that no message told of? NULL = never. */
	bool (*pending)(void *arg);
};

struct rank_config {
	uint32_t rank;
	const char *name; /* of the engine, in errors; borrowed */
	uint32_t vocab; /* ids of prompts are below this */
	uint32_t position_count; /* prompt and output together */
	uint32_t row_count; /* tokens that one turn may say */
	uint32_t eos[RANK_EOS_COUNT_MAX];
	uint32_t eos_count;
	bool resume; /* takes over what an earlier life had begun */
	struct rank_hooks hooks;
};

struct rank_outbox {
	struct ring_message *messages; /* owned, [capacity] */
	uint32_t capacity, head, count;
};

/* One of the dataplane's loops, which knows nothing of the others. */
struct rank_front {
	struct ring *request_ring, *token_ring;
	uint32_t request_count, token_count; /* entries */
	struct wake *wake;
	int bell_fd;
	struct rank_outbox outbox;
};

/* Where each request ring ended at some time. */
struct rank_mark {
	uint32_t head[FRONT_COUNT_MAX];
};

struct rank {
	const struct segment *segment; /* borrowed */
	struct rank_config config;
	struct rank_front fronts[FRONT_COUNT_MAX];
	uint32_t front_count;
	uint32_t unsent; /* messages in all outboxes */
	struct ring *control_ring;
	uint32_t control_count; /* entries */
	struct role_beat *beat;
	struct engine_counters *counters;
	struct wake *wake;
	struct rank_request *requests; /* owned, [slot_count] */
	uint32_t waiting; /* requests that are QUEUED */
	struct rank_adapters *adapters; /* borrowed; NULL = there are none */
};

/* -EINVAL: the rings are broken; -ENOMEM. On error nothing is left. */
int rank_open(const struct segment *segment, const struct rank_config *config,
	struct rank *out, struct error *err);

/* Takes a zeroed struct. */
void rank_close(struct rank *rank);

/* --- rank.c: messages out, ends, signs of life ----------------------------- */

/* QUEUED, RUNNING or PREEMPTED. */
bool rank_is_live(const struct rank_request *request);

void rank_send(struct rank *rank, enum ring_kind kind, uint32_t slot_index,
	uint32_t value);

/* Push what the token rings take, with one wake each; true: nothing is left. */
bool rank_flush(struct rank *rank);

/* QUEUED or PREEMPTED -> RUNNING: scheduled at `now`. */
void rank_start(struct rank *rank, uint32_t slot_index, struct mono now);

/* RUNNING -> PREEMPTED. */
void rank_preempt(struct rank *rank, uint32_t slot_index);

/* The engine's half becomes terminal, and the dataplane is told. */
void rank_finish(
	struct rank *rank, uint32_t slot_index, enum finish_reason reason);

/* The numbers that others watch; `running` requests have been started. */
void rank_beat(struct rank *rank, uint32_t running, struct mono now);

/* One more step is done. */
void rank_progress(struct rank *rank);

void rank_set_state(struct rank *rank, enum beat_state state);

/*
 * Sleep until a message comes, wake_post() is called or `until`, unless *stop
 * is set or *ready is (NULL = none).
 */
void rank_sleep(struct rank *rank, const uint32_t *stop, const uint32_t *ready,
	struct mono until);

/*
 * The same in two parts, for who shares the rank with another thread and lets
 * go of it in between: false = there is something to do at once. Either way
 * rank_sleep_end() follows, which does not look at the rank.
 */
bool rank_sleep_begin(struct rank *rank, const uint32_t *stop,
	const uint32_t *ready, uint32_t *out_seen);
void rank_sleep_end(
	struct wake *wake, bool sleeps, uint32_t seen, struct mono until);

/* --- rank_intake.c: messages in ---------------------------------------------- */

/* Returns how many messages were taken. */
uint32_t rank_intake(struct rank *rank, struct mono now);

/*
 * Before BEAT_READY. Without config.resume: fail what an earlier life left
 * and drop its messages. With it: every request that the dataplane gave this
 * rank goes on from the end of its log (base/segment.h).
 */
void rank_take_over(struct rank *rank, struct mono now);

/* What has been closed by the dataplane ends, told or not. */
void rank_sweep_closed(struct rank *rank);

/*
 * Where the request rings end now, and whether all up to there has been taken
 * in.
 */
struct rank_mark rank_ring_mark(const struct rank *rank);
bool rank_ring_passed(const struct rank *rank, const struct rank_mark *mark);

/* --- rank_log.c: payload pages ------------------------------------------------ */

/*
 * The first `count` ids of a chain, each below the vocabulary. out may be
 * NULL. False: the chain is not what it should be.
 */
bool rank_read_ids(const struct rank *rank, uint32_t first_page, uint32_t count,
	uint32_t *out);

/* The ids of the output so far, out[output_count]; false as above. */
bool rank_read_log(const struct rank *rank, uint32_t slot_index, uint32_t *out);

/*
 * Put the cursors behind what an earlier life wrote. False: the log is not
 * what it should be.
 */
bool rank_recover_log(
	struct rank *rank, uint32_t slot_index, uint32_t output_count);

/* Does this id end the request: end of sequence, or one of its stop ids? */
bool rank_is_stop(const struct rank *rank, const struct rank_request *request,
	uint32_t id);

/* Copy at most max stop ids; returns how many there are. */
uint32_t rank_stop_ids(const struct rank *rank,
	const struct rank_request *request, uint32_t *out, uint32_t max);

/*
 * Append a token with its alternatives (logprob_count of them where the
 * request wants any, else NULL), the count published last. False: there is no
 * room, or a page is not what it should be.
 */
bool rank_append(struct rank *rank, uint32_t slot_index,
	struct token_record record, const struct token_record *top,
	struct mono now);

/* Alternatives that the request wants with each token. */
static inline uint32_t rank_top_count(const struct rank_request *request)
{
	return request->params.want_logprob ? request->params.logprob_count : 0;
}

#endif
