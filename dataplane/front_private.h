/* front_private.h - the network thread's state, shared by front_*.c only */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Three kinds of things, each in a fixed array and named by index:
 *
 *   connection  a client's stream; holds a row of exchanges, answered in
 *               their order. Same index as its stream.
 *   exchange    one HTTP request and its answer. Outlives its connection
 *               while a text worker or the engine still knows it.
 *   slot        this side's half of a request_slot: private copies of what
 *               shared memory is only told.
 *
 * An exchange ends in this order: the answer is complete (or the client is
 * gone) -> TEXT_RELEASE -> TEXT_RELEASED: nobody reads the logs any more,
 * its slots are CLOSED -> each slot is freed when the engine's half is
 * terminal too. Nothing is reused before.
 *
 * All functions are the network thread's, except where they say otherwise.
 */
#ifndef HEDDLE_DATAPLANE_FRONT_PRIVATE_H
#define HEDDLE_DATAPLANE_FRONT_PRIVATE_H

#include <pthread.h>

#include "dataplane/front.h"
#include "dataplane/http.h"
#include "dataplane/stream_kernel.h"
#include "dataplane/text_worker.h"

#define FRONT_NONE UINT32_MAX
#define FRONT_LABEL_BYTES 128 /* x-request-id */
#define FRONT_TRACE_BYTES 128 /* traceparent */
#define FRONT_WORKER_COUNT_MAX 64
#define FRONT_BODY_TOTAL_BYTES ((size_t)512 << 20) /* bodies in memory */
#define FRONT_SEND_BYTES ((size_t)65536) /* a stream's buffer */
#define FRONT_RECEIVE_BYTES ((size_t)16384)
#define FRONT_FLIGHT_TOKENS 64 /* handed to a worker and not answered for */
#define FRONT_PROBE_NS (1 * NS_PER_S)
#define FRONT_BEAT_NS (100 * NS_PER_MS)
#define FRONT_STANDSTILL_NS (2 * NS_PER_S) /* beat or progress: unhealthy */

enum front_timer_kind {
	FRONT_TIMER_IDLE,
	FRONT_TIMER_HEADER,
	FRONT_TIMER_BODY,
	FRONT_TIMER_PROBE, /* is a half-closed client still there? */
	FRONT_TIMER_STALL,
	FRONT_TIMER_REQUEST,
	FRONT_TIMER_COUNT
};

/*
 * All timers of a kind run equally long, so each kind is a list in the order
 * of its deadlines. Zeroed = not running.
 */
struct front_timer {
	struct front_timer *prev, *next;
	uint64_t deadline_ns;
	uint32_t owner; /* index of the connection or exchange */
};

/* A parser at work; idle connections have none. */
struct front_parser {
	struct http_parser http;
	uint32_t next_free;
	char head[HTTP_HEAD_BYTES_MAX];
};

struct connection {
	struct stream_id id;
	bool open;
	bool closing; /* close() was called: no more input or output */
	bool deaf; /* input is thrown away */
	bool half_closed; /* the client has ended its side */
	bool paused; /* input waits for an exchange to end */
	bool waiting; /* asked for WRITABLE */
	enum front_service service;
	uint32_t first, last, count; /* exchanges, in order */
	uint32_t receiving; /* the one whose request is coming in */
	uint32_t parser;
	struct front_timer read_timer, stall_timer;
};

struct exchange {
	uint32_t index, generation;
	bool used;
	/* the request */
	uint32_t connection; /* FRONT_NONE: the client is gone or served */
	uint32_t next; /* in the connection's row; in the free list */
	enum api_route route;
	bool http_10, is_head, keep_alive;
	bool receiving; /* its body is not complete */
	bool discard; /* answered before its body had come */
	bool want_continue; /* 100 is owed once it is first in its row */
	/* the answer */
	bool answered; /* head and at least its first bytes are out */
	bool complete; /* no more bytes follow */
	bool timed_out;
	bool asked; /* control has not answered yet */
	/* the model that it is bound to */
	uint32_t instance, serial, name;
	/* text worker */
	uint32_t worker;
	struct text_request *text; /* owned while not with the worker */
	bool parsing; /* with `in` */
	bool known_to_out; /* a job for it was pushed */
	bool streams; /* kept here: after a release the text is gone */
	bool fail_due, fail_sent, release_due, release_sent, dirty;
	enum finish_reason fail_reason;
	uint32_t next_dirty;
	uint32_t first_slot; /* row of its slots */
	uint32_t slot_count;
	/* bytes */
	char *body; /* owned */
	size_t body_length, body_capacity;
	char *pending; /* owned: framed output that found no room */
	size_t pending_at, pending_length, pending_capacity;
	uint64_t received_ns; /* the request was complete */
	struct front_timer timer;
	char id[33]; /* 128 bits in hex */
	char label[FRONT_LABEL_BYTES + 1]; /* "" = our id */
	char trace[FRONT_TRACE_BYTES + 1];
	char tenant[64];
};

/* Up to where an event looks: all but its texts. */
#define EXCHANGE_HOT_BYTES offsetof(struct exchange, received_ns)

struct front_slot {
	enum front_state own;
	bool engine_done; /* the engine's half is terminal */
	bool zombie; /* of an earlier life of this role */
	bool cancel_due, finish_due, submit_due, dirty;
	bool cancelled; /* the engine was told, or is about to be */
	bool done_sent;
	bool ring_was_full; /* counted in its rank's `waiting` */
	bool swept; /* in the sweep that goes on */
	uint32_t generation;
	uint32_t exchange; /* FRONT_NONE: released */
	uint32_t next; /* in its exchange; in the free list */
	uint32_t next_dirty;
	uint32_t rank, choice;
	uint32_t name; /* entry of its model's name; 0 = the base */
	uint32_t life; /* of the rank, when it was submitted */
	uint32_t parent; /* slot whose prompt it shares, or FRONT_NONE */
	uint32_t children; /* that share its prompt and live */
	uint32_t prompt_page, log_page, top_page, bias_page, stop_page;
	uint32_t prompt_count; /* kept here: see `streams` of the exchange */
	uint32_t output_max;
	uint32_t seen; /* tokens that the engine told of */
	uint32_t posted; /* told to the worker */
	uint32_t acked; /* done by the worker */
	uint32_t finish_at, cached;
	enum finish_reason reason;
	uint64_t submitted_ns, first_ns, last_ns, stamp_ns;
};

struct front_rank {
	struct ring *request_ring, *token_ring;
	uint32_t request_count, token_count; /* entries, this side's copies */
	uint32_t active; /* slots */
	uint32_t waiting; /* slots whose message found the ring full */
	uint64_t progress, progress_ns; /* last seen, and when it changed */
	uint32_t life;
	bool healthy;
	bool ready;
	bool rung; /* pushed to since the last strike */
};

struct front_ask_place {
	bool used;
	uint64_t id;
	uint32_t exchange, generation;
};

struct front_ask_answer {
	uint64_t id;
	int status;
	char text[FRONT_ASK_TEXT_BYTES];
};

struct front_asks {
	uint64_t last_id;
	struct front_ask_place places[FRONT_ASK_COUNT_MAX];
	struct front_ask_answer taken[FRONT_ASK_COUNT_MAX];
	uint32_t due; /* atomic */
	pthread_mutex_t lock;
	/* guarded by the lock */
	struct front_ask_answer answers[FRONT_ASK_COUNT_MAX];
	uint32_t answer_count;
};

/* The adapters' names, as they were at `version` of the table. */
struct front_names {
	uint64_t version, told;
	struct adapter_entry entries[ADAPTER_ENTRY_COUNT_MAX];
	/* whose the counters of an entry are */
	char counted[ADAPTER_ENTRY_COUNT_MAX][ADAPTER_NAME_BYTES];
};

struct front_worker {
	struct text_worker text;
	size_t queued_bytes; /* bodies with `in` */
	bool in_rung, out_rung; /* pushed to since the last strike */
};

/* The loops of a role (fronts.h), as each of them sees the others. */
struct front_group {
	uint32_t count;
	/* atomic, each its front's: requests open; 1 until it drains */
	uint32_t open[FRONT_COUNT_MAX];
	struct front *first; /* whose texts all read; NULL while it is made */
};

struct front {
	struct front_setup setup; /* keys and limits change by reload */
	struct front_limits start_limits; /* sizes: those of the start stay */
	struct http_limits http_limits;
	/* A view of its own: the dataplane in it is this front. */
	const struct segment *segment; /* borrowed */
	struct front_group *group; /* borrowed; NULL = it is alone */
	struct segment_share slot_share, page_share; /* what is ours of it */
	struct stream_loop loop;
	struct capture *capture; /* owned; of the first loop of a polled port */
	struct tokenizer *tok;
	struct chat_template *chat;
	bool borrows; /* these two, of the group's first */
	struct text_shared shared;
	struct front_counters *counters;
	struct role_beat *beat;
	struct wake *wake; /* on which this role sleeps */
	struct ring *control_ring;
	uint32_t control_count;
	uint32_t reload_due; /* atomic */

	struct connection *connections; /* by stream index */
	struct front_parser *parsers;
	uint32_t parser_free, parser_fresh;
	struct exchange *exchanges;
	uint32_t exchange_count, exchange_free, exchange_fresh, exchange_used;
	struct front_slot *slots;
	uint32_t slot_free, slot_used, zombie_count;
	uint32_t *page_next; /* private links of all payload pages */
	uint32_t page_free, page_used;
	uint32_t *zombie_pages; /* held until the last zombie is gone */
	uint32_t zombie_page_count;
	struct front_rank ranks[RANK_COUNT_MAX];
	struct front_names names;
	struct front_control control;
	struct front_asks asks;
	struct front_worker *workers;
	uint32_t worker_count, worker_started;

	struct front_timer timers[FRONT_TIMER_COUNT]; /* list heads */
	uint32_t *sweep; /* owned: slots whose rank has said something */
	uint32_t sweep_count, sweep_turn;
	uint32_t dirty_slots, dirty_exchanges; /* rows to try again */
	size_t body_bytes, body_bytes_max; /* in all exchanges */
	uint64_t now_ns, beat_ns, worked_ns;
	uint64_t rest_ns; /* between work and work, on average */
	bool rests; /* the last turn found nothing to do */
	uint64_t turn_count;
	bool draining; /* no new work */
	bool ending; /* and no new connection */
	uint32_t stop_count; /* atomic; front_stop() */
	struct api_text page; /* for answers made here */
	char date[32]; /* RFC 9110 date of date_s */
	int64_t date_s;
	uint8_t random[4096]; /* ids are cut from here */
	size_t random_left;

	pthread_mutex_t reload_lock;
	struct front_setup *reload; /* guarded by reload_lock */
	struct text_bell bell;
};

/* How the streams are opened: stream_kernel_create(), or a test's own. */
typedef int front_opener(const struct stream_kernel_config *config,
	struct stream_loop *out, struct error *err);
int front_create_over(const struct front_setup *setup,
	const struct segment *segment, front_opener *opener, struct front **out,
	struct error *err);

/* One of several; its view of the segment says which. */
int front_create_in(struct front_group *group, const struct front_setup *setup,
	const struct segment *view, struct front **out, struct error *err);

/* One turn of front_run(); waits at most until `until`. Returns work done. */
uint32_t front_turn(struct front *front, struct mono until);

/* --- front_files.c: tokenizer, template and certificates from descriptors -- */
int front_load_texts(struct front *front, struct error *err);
int front_open_streams(
	struct front *front, front_opener *opener, struct error *err);

/* The certificate of a new setup, where it has one; any thread. */
int front_identify(struct front *front, const struct front_setup *setup,
	struct error *err);

/* --- front_connection.c ----------------------------------------------------
 */
size_t front_on_event(void *arg, const struct stream_event *event);
void connection_close(struct front *front, struct connection *connection);
void connection_abort(struct front *front, struct connection *connection);
/* An exchange has left the row: read on, answer the next one, or close. */
void connection_advance(struct front *front, struct connection *connection);
/* Find out whether a half-closed client is gone. */
void connection_probe(struct front *front, struct connection *connection);
/* Nothing in progress: may be closed without harm. */
bool connection_is_idle(const struct connection *connection);

/* --- front_exchange.c: one request -----------------------------------------
 */
struct exchange *exchange_create(
	struct front *front, struct connection *connection);
/* The head has come. */
void exchange_head(struct front *front, struct exchange *exchange,
	const struct http_request *request);
void exchange_body(
	struct front *front, struct exchange *exchange, struct http_text piece);
/* The request is complete. */
void exchange_received(struct front *front, struct exchange *exchange);
/* The client is gone, or has all of its answer. */
void exchange_detach(struct front *front, struct exchange *exchange);
void exchange_try_free(struct front *front, struct exchange *exchange);
struct exchange *exchange_of(
	struct front *front, uint32_t index, uint32_t generation);
/* End generation with an error that the worker words. */
void exchange_fail(struct front *front, struct exchange *exchange,
	enum finish_reason reason);
void exchange_timeout(struct front *front, struct exchange *exchange);

/* --- front_dispatch.c: what a request asks for ------------------------------ */
void exchange_dispatch(struct front *front, struct exchange *exchange);
/* 0, or the error that the head alone deserves. */
int exchange_check_head(struct front *front, struct exchange *exchange,
	const struct http_request *request, struct api_error *error);

/* --- front_reply.c: bytes to the client ------------------------------------- */
void exchange_refuse(struct front *front, struct exchange *exchange,
	const struct api_error *error);
void exchange_answer(struct front *front, struct exchange *exchange, int status,
	const char *type, struct http_text body);
/* As above; takes the malloc()ed body. */
void exchange_answer_take(struct front *front, struct exchange *exchange,
	int status, char *body, size_t length);
/* A piece of a streamed answer; true when it went out at once. */
bool exchange_stream(
	struct front *front, struct exchange *exchange, struct http_text piece);
void exchange_stream_end(
	struct front *front, struct exchange *exchange, bool failed);
void exchange_send_continue(struct front *front, struct exchange *exchange);
/* Output that waited; true when none is left. */
bool exchange_flush(struct front *front, struct exchange *exchange);
/* Answer complete and out: leave the connection. */
void exchange_try_finish(struct front *front, struct exchange *exchange);
bool exchange_is_first(
	const struct front *front, const struct exchange *exchange);

/* --- front_pages.c, front_slots.c -------------------------------------------- */
/* A chain of `count` pages, or FRONT_NONE where there are not so many. */
uint32_t front_pages_take(struct front *front, uint32_t count);
void front_pages_give(struct front *front, uint32_t first);
uint32_t front_pages_left(const struct front *front);

/* One that holds nothing: no page, no rank, no neighbour. */
struct front_slot slot_blank(uint32_t generation, enum front_state own);
struct front_slot *slot_take(struct front *front);
uint32_t slot_index(const struct front *front, const struct front_slot *slot);
void slot_set_state(
	struct front *front, struct front_slot *slot, enum front_state to);
/* Free when both halves are terminal and nobody shares its prompt. */
void slot_try_free(struct front *front, struct front_slot *slot);
/* This side has ended: state CLOSED, exchange forgotten. */
void slot_close(struct front *front, struct front_slot *slot);
void slot_cancel(struct front *front, struct front_slot *slot);
/* Tell the worker and the engine what is due; keeps what found no room. */
void slot_pump(struct front *front, struct front_slot *slot, bool joined);
void exchange_pump(struct front *front, struct exchange *exchange);
uint32_t front_retry(struct front *front);

/* --- front_admit.c ------------------------------------------------------------ */
/* 0, or 429, 503 or 400 in *error; then nothing is taken. */
int front_admit(struct front *front, struct exchange *exchange,
	struct api_error *error);
/* Of the ranks in `mask` the healthy one with the least to do, or FRONT_NONE. */
uint32_t front_rank_choose(struct front *front, uint32_t mask);

/* --- front_names.c: the adapters' names --------------------------------------- */

/* As the table is now. */
void front_names_refresh(struct front *front);
/* Index of the entry, 0 = there is no such name. */
uint32_t front_names_find(const struct front *front, const char *name);
/* Between two bursts: tell control what requests are bound by. */
void front_names_tell(struct front *front);

/* --- front_asks.c: what clients ask of control -------------------------------- */
void exchange_ask(struct front *front, struct exchange *exchange);
uint32_t front_asks_poll(struct front *front);

/* --- front_rings.c, front_notes.c ----------------------------------------------
 */
int front_rings_attach(struct front *front, struct error *err);
uint32_t front_rings_poll(struct front *front);
uint32_t front_control_poll(struct front *front);
uint32_t front_notes_poll(struct front *front);
/* At the end: what notes own is freed, nothing is done about them. */
void front_notes_drop(struct front *front);
bool front_post(struct front *front, struct exchange *exchange,
	const struct text_message *message);
void slot_first_token(struct front *front, struct front_slot *slot);
bool front_post_parse(struct front *front, struct exchange *exchange);
/* Who sleeps and was given something is woken. */
void front_strike(struct front *front);
void front_strike_workers(struct front *front);
/* Do what `out` of a sleeping worker was given, where that is little. */
void front_help(struct front *front);

/* --- front_adopt.c ------------------------------------------------------------- */
int front_adopt(struct front *front); /* -ENOMEM */
void front_zombie_gone(struct front *front);

/* --- front_health.c -------------------------------------------------------------- */
void front_beat(struct front *front, enum beat_state state);
bool front_is_ready(struct front *front);
/* Read a rank's beat. */
void front_rank_look(struct front *front, uint32_t rank);
bool front_is_healthy(const struct front *front);
void front_health_write(const struct front *front, struct api_text *out);

/* --- front_timers.c ------------------------------------------------------------ */
void front_timers_init(struct front *front);
void front_timer_start(struct front *front, struct front_timer *timer,
	enum front_timer_kind kind);
void front_timer_stop(struct front_timer *timer);
uint32_t front_timers_run(struct front *front);
/* The next deadline, or `latest`. */
uint64_t front_timers_next(const struct front *front, uint64_t latest);

/* --- metrics.c ------------------------------------------------------------------- */
void metrics_write(const struct front_model *model,
	const struct segment *segment, struct api_text *out);

/* A 128-bit id in hex; 64 random bits. */
void front_make_id(struct front *front, char out[33]);
uint64_t front_random(struct front *front);
/* Refresh front->now_ns. */
void front_clock(struct front *front);

#endif
