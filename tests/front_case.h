/* front_case.h - a dataplane role with the test as its clients and its engine */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Why:   the role is tested whole: HTTP in, ring messages out, tokens in, SSE
 *        out. The test is the network thread (it turns the loop), the clients
 *        (over tests/fake/fake_stream.h) and the engine (it pops RING_SUBMIT
 *        and writes into the log); only the text workers are threads.
 */
#ifndef HEDDLE_TESTS_FRONT_CASE_H
#define HEDDLE_TESTS_FRONT_CASE_H

#include "dataplane/front_private.h"
#include "tests/fake/fake_stream.h"

#define FRONT_CASE_SLOTS 8
#define FRONT_CASE_PAGES 64
#define FRONT_CASE_RING 64
#define FRONT_CASE_POSITIONS 2048

struct front_case {
	struct segment segment;
	int segment_fd;
	struct front_setup setup;
	struct front *front;
	struct tokenizer *tok; /* the same as the role's */
};

/* The usual setup, files opened; change it, then start. */
void front_case_prepare(struct front_case *c, uint32_t rank_count);
void front_case_start(struct front_case *c);
/* prepare and start, one rank that is ready */
void front_case_open(struct front_case *c);
/* Also checks that nothing is left behind: slots, pages, exchanges. */
void front_case_close(struct front_case *c);
/* Another life of the role over the same segment. */
void front_case_restart(struct front_case *c);

/* Beat as a rank that is ready, now. */
void front_case_beat(struct front_case *c, uint32_t rank);

/*
 * Turn the loop until `done` says so; a test that never gets there fails
 * after some ten seconds of turns.
 */
typedef bool front_case_done(struct front_case *c, void *arg);
bool front_case_turn(struct front_case *c, front_case_done *done, void *arg);
/* Turn until the workers and the loop have nothing to do. */
void front_case_settle(struct front_case *c);
/* The same where slots have messages that find no room. */
void front_case_settle_except_slots(struct front_case *c);

/* --- client ---- */
uint32_t front_case_connect(struct front_case *c, uint32_t listener);
/* POST with a body; headers is "" or whole lines. */
void front_case_post(uint32_t client, const char *path, const char *headers,
	const char *body);
void front_case_say(uint32_t client, const char *text);
void front_case_get(uint32_t client, const char *path);
/* Wait until the client has this text, or `count` times of it. */
bool front_case_expect(struct front_case *c, uint32_t client, const char *text);
/* The output with ids, dates, times and lengths replaced by fixed words. */
const char *front_case_output(uint32_t client, char *out, size_t capacity);

/* --- engine ---- */
/* The next message of a rank's request ring; waits. */
struct ring_message front_case_pop(struct front_case *c, uint32_t rank);
bool front_case_pop_now(
	struct front_case *c, uint32_t rank, struct ring_message *out);
/* Accept: QUEUED, RUNNING. */
void front_case_run(struct front_case *c, uint32_t slot);
/* One more token in the log, without a message. */
void front_case_write(
	struct front_case *c, uint32_t slot, uint32_t id, float logprob);
/* One alternative of the newest token. */
void front_case_write_top(struct front_case *c, uint32_t slot, uint32_t k,
	uint32_t id, float logprob);
/* Say how long the log is. */
void front_case_tell(struct front_case *c, const struct ring_message *request);
/* The engine's half is terminal. */
void front_case_finish(struct front_case *c, const struct ring_message *request,
	enum finish_reason reason);
/* Accept, write all of text's tokens one by one, finish. */
void front_case_answer(struct front_case *c, const struct ring_message *request,
	const char *text, enum finish_reason reason);
void front_case_push(
	struct front_case *c, uint32_t rank, struct ring_message message);
/* The ids of a request's prompt. */
uint32_t front_case_prompt(const struct front_case *c, uint32_t slot,
	uint32_t *out, uint32_t capacity);

#endif
