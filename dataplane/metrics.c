/* metrics.c - the page of numbers (counters -> Prometheus text 0.0.4) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vLLM's names where the meaning is the same, so that its boards work; ours
 * with heddle_ beside them. The blocks lie in shared memory: each word is
 * read whole, different words may be of slightly different instants.
 */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "dataplane/front_private.h"

struct page {
	const struct front_model *model;
	const struct segment *segment;
	struct api_text *out;
	struct adapter_entry adapters[ADAPTER_ENTRY_COUNT_MAX];
	struct front_counters front; /* of all loops together */
	uint32_t loop; /* that a line is of; LOOP_ALL = of all */
};

#define LOOP_ALL UINT32_MAX

/* --- lines ------------------------------------------------------------------- */

static void head(const struct page *page, const char *name, const char *type,
	const char *help)
{
	api_text_printf(page->out, "# HELP %s %s\n# TYPE %s %s\n", name, help,
		name, type);
}

/* A label's value: backslash, quote and newline are escaped. */
static void label(const struct page *page, const char *value)
{
	for (; *value; value++) {
		if (*value == '\\' || *value == '"')
			api_text_put(page->out, "\\", 1);
		if (*value == '\n')
			api_text_puts(page->out, "\\n");
		else
			api_text_put(page->out, value, 1);
	}
}

/* `{model_name="...",engine="0"` and what the caller adds. */
static void labels_of(const struct page *page, const char *model, uint32_t rank)
{
	api_text_puts(page->out, "{model_name=\"");
	label(page, model);
	api_text_printf(page->out, "\",engine=\"%u\"", rank);
	if (page->loop != LOOP_ALL)
		api_text_printf(page->out, ",loop=\"%u\"", page->loop);
}

static void labels(const struct page *page, uint32_t rank)
{
	labels_of(page, page->model->name[0], rank);
}

static void sample(const struct page *page, const char *name, uint32_t rank,
	uint64_t value)
{
	api_text_puts(page->out, name);
	labels(page, rank);
	api_text_puts(page->out, "} ");
	api_text_u64(page->out, value);
	api_text_puts(page->out, "\n");
}

static void tagged(const struct page *page, const char *name, const char *tag,
	const char *tag_value, uint64_t value)
{
	api_text_puts(page->out, name);
	labels(page, 0);
	api_text_printf(page->out, ",%s=\"%s\"} ", tag, tag_value);
	api_text_u64(page->out, value);
	api_text_puts(page->out, "\n");
}

/* stage NULL = it has none. */
static void seconds(const struct page *page, const char *name,
	const char *stage, uint64_t ns)
{
	api_text_puts(page->out, name);
	labels(page, 0);
	if (stage)
		api_text_printf(page->out, ",stage=\"%s\"", stage);
	api_text_printf(page->out, "} %.12g\n", (double)ns / (double)NS_PER_S);
}

/* --- histograms ----------------------------------------------------------------- */

/* One line of a distribution: `sum` values up to `bound`. */
static void bucket(const struct page *page, const char *name, uint32_t rank,
	const char *bound, uint64_t sum)
{
	api_text_printf(page->out, "%s_bucket", name);
	labels(page, rank);
	api_text_printf(page->out, ",le=\"%s\"} ", bound);
	api_text_u64(page->out, sum);
	api_text_puts(page->out, "\n");
}

static void total(const struct page *page, const char *name, const char *what,
	uint32_t rank, double value)
{
	api_text_printf(page->out, "%s_%s", name, what);
	labels(page, rank);
	api_text_printf(page->out, "} %.12g\n", value);
}

static void histogram(const struct page *page, const char *name, uint32_t rank,
	const struct histogram *from)
{
	uint64_t sum = 0;
	char bound[24];

	for (uint32_t i = 0; i + 1 < HISTOGRAM_BUCKET_COUNT; i++) {
		sum += counter_read(&from->bucket[i]);
		snprintf(bound, sizeof(bound), "%.9g",
			(double)histogram_bound_ns(i) / (double)NS_PER_S);
		bucket(page, name, rank, bound, sum);
	}
	sum += counter_read(&from->bucket[HISTOGRAM_BUCKET_COUNT - 1]);
	bucket(page, name, rank, "+Inf", sum);
	total(page, name, "sum", rank,
		(double)counter_read(&from->sum_ns) / (double)NS_PER_S);
	/* The same as the last bucket, whatever was written in between. */
	total(page, name, "count", rank, (double)sum);
}

static void tally(
	const struct page *page, const char *name, const struct tally *from)
{
	uint64_t sum = 0;
	char bound[24];

	for (uint32_t i = 0; i + 1 < TALLY_BUCKET_COUNT; i++) {
		sum += counter_read(&from->bucket[i]);
		snprintf(bound, sizeof(bound), "%llu",
			(unsigned long long)tally_bound(i));
		bucket(page, name, 0, bound, sum);
	}
	sum += counter_read(&from->bucket[TALLY_BUCKET_COUNT - 1]);
	bucket(page, name, 0, "+Inf", sum);
	total(page, name, "sum", 0, (double)counter_read(&from->sum));
	total(page, name, "count", 0, (double)sum);
}

/* --- the dataplane's -------------------------------------------------------------- */

struct front_metric {
	const char *name, *type, *help;
	size_t offset; /* in struct front_counters */
};

#define FRONT(field) offsetof(struct front_counters, field)

static const struct front_metric front_words[] = {
	{"heddle_connections_open", "gauge", "Client connections.",
		FRONT(connections_open)},
	{"heddle_connections_total", "counter", "Connections accepted.",
		FRONT(connections_total)},
	{"heddle_http_requests_total", "counter", "HTTP requests.",
		FRONT(requests_total)},
	{"heddle_sent_bytes_total", "counter", "Bytes given to streams.",
		FRONT(sent_bytes_total)},
	{"heddle_received_bytes_total", "counter", "Bytes from streams.",
		FRONT(received_bytes_total)},
	{"heddle_request_slots_used", "gauge", "Request slots in use.",
		FRONT(slots_used)},
	{"heddle_payload_pages_used", "gauge", "Payload pages in use.",
		FRONT(pages_used)},
	{"heddle_ring_full_total", "counter", "Messages that found no room.",
		FRONT(ring_full_total)},
	{"heddle_stale_messages_total", "counter",
		"Messages about an earlier life of a slot.",
		FRONT(stale_messages_total)},
	{"heddle_bad_messages_total", "counter",
		"Messages of an engine that cannot be.",
		FRONT(bad_messages_total)},
};

static const struct front_metric front_histograms[] = {
	{"vllm:time_to_first_token_seconds", "histogram",
		"Request received to first token sent.", FRONT(first_token)},
	{"vllm:inter_token_latency_seconds", "histogram",
		"Between tokens sent.", FRONT(inter_token)},
	{"vllm:request_time_per_output_token_seconds", "histogram",
		"Mean time per token after the first.", FRONT(per_token)},
	{"vllm:e2e_request_latency_seconds", "histogram",
		"Request received to last token.", FRONT(end_to_end)},
	{"heddle_token_to_socket_seconds", "histogram",
		"Token in the log to bytes given to the stream.",
		FRONT(token_to_socket)},
	{"heddle_refusal_seconds", "histogram",
		"Request received to its refusal.", FRONT(refusal)},
};

static const struct front_metric front_tallies[] = {
	{"vllm:request_prompt_tokens", "histogram", "Tokens of a prompt.",
		FRONT(prompt_tokens)},
	{"vllm:request_generation_tokens", "histogram",
		"Tokens generated for a sequence.", FRONT(output_tokens)},
	{"vllm:request_params_n", "histogram", "n of a request.",
		FRONT(choices_asked)},
	{"vllm:request_params_max_tokens", "histogram",
		"max_tokens of a request.", FRONT(output_asked)},
};

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static const void *at(const void *block, size_t offset)
{
	return (const char *)block + offset;
}

static void write_front(const struct page *page)
{
	const struct front_counters *front = &page->front;

	for (size_t i = 0; i < COUNT(front_words); i++) {
		const struct front_metric *m = &front_words[i];

		head(page, m->name, m->type, m->help);
		sample(page, m->name, 0, counter_read(at(front, m->offset)));
	}
	for (size_t i = 0; i < COUNT(front_histograms); i++) {
		const struct front_metric *m = &front_histograms[i];

		head(page, m->name, m->type, m->help);
		histogram(page, m->name, 0, at(front, m->offset));
	}
	for (size_t i = 0; i < COUNT(front_tallies); i++) {
		const struct front_metric *m = &front_tallies[i];

		head(page, m->name, m->type, m->help);
		tally(page, m->name, at(front, m->offset));
	}
}

#define NAME(field) offsetof(struct name_counters, field)

static const struct front_metric name_words[] = {
	{"vllm:prompt_tokens_total", "counter", "Tokens of admitted prompts.",
		NAME(prompt_tokens_total)},
	{"vllm:generation_tokens_total", "counter", "Tokens generated.",
		NAME(output_tokens_total)},
	{"heddle_model_requests_total", "counter", "Requests admitted.",
		NAME(requests_total)},
};

/* By the model's names: the base's own, and each adapter's. */
static void write_names(const struct page *page)
{
	const struct name_counters *names = page->front.names;

	for (size_t i = 0; i < COUNT(name_words); i++) {
		const struct front_metric *m = &name_words[i];

		head(page, m->name, m->type, m->help);
		sample(page, m->name, 0,
			counter_read(at(&names[0], m->offset)));
		for (uint32_t n = 1; n < ADAPTER_ENTRY_COUNT_MAX; n++) {
			if (!page->adapters[n].instance)
				continue;
			api_text_puts(page->out, m->name);
			labels_of(page, page->adapters[n].name, 0);
			api_text_puts(page->out, "} ");
			api_text_u64(page->out,
				counter_read(at(&names[n], m->offset)));
			api_text_puts(page->out, "\n");
		}
	}
}

static const char *const refusal_names[REFUSAL_COUNT] = {"bad", "key", "model",
	"size", "timeout", "busy", "draining", "internal"};

static const char *const finish_names[FINISH_REASON_COUNT] = {
	[FINISH_NONE] = "error",
	[FINISH_STOP_TOKEN] = "stop",
	[FINISH_STOP_TEXT] = "stop_text",
	[FINISH_LENGTH] = "length",
	[FINISH_CANCELLED] = "abort",
	[FINISH_DEADLINE] = "deadline",
	[FINISH_NO_TOKEN] = "no_token",
	[FINISH_ENGINE_LOST] = "engine_lost",
};

static void write_outcomes(const struct page *page)
{
	const struct front_counters *front = &page->front;
	const char *name = "vllm:request_success_total";

	head(page, name, "counter", "Requests that ended well.");
	tagged(page, name, "finished_reason", "stop",
		counter_read(&front->finished_total[FINISH_STOP_TOKEN]) +
			counter_read(&front->finished_total[FINISH_STOP_TEXT]));
	tagged(page, name, "finished_reason", "length",
		counter_read(&front->finished_total[FINISH_LENGTH]));
	name = "heddle_finished_total";
	head(page, name, "counter", "Sequences by why they ended.");
	for (uint32_t i = 0; i < FINISH_REASON_COUNT; i++)
		tagged(page, name, "reason", finish_names[i],
			counter_read(&front->finished_total[i]));
	name = "heddle_refused_total";
	head(page, name, "counter", "Requests answered with an error.");
	for (uint32_t i = 0; i < REFUSAL_COUNT; i++)
		tagged(page, name, "reason", refusal_names[i],
			counter_read(&front->refused_total[i]));
}

/* --- the polled port's -------------------------------------------------------- */

#define NIC(field) offsetof(struct nic_counters, field)

static const struct front_metric nic_words[] = {
	{"heddle_nic_ports", "gauge", "Ports, with one that stands by.",
		NIC(port_count)},
	{"heddle_nic_port_active", "gauge", "Which of them is used, from 0.",
		NIC(port_active)},
	{"heddle_nic_takeovers_total", "counter",
		"Times that one took the other's place.", NIC(takeovers_total)},
	{"heddle_nic_link_up", "gauge", "1: the port has a link.",
		NIC(link_up)},
	{"heddle_nic_link_changes_total", "counter", "Links gained and lost.",
		NIC(link_changes_total)},
	{"heddle_nic_buffers_used", "gauge",
		"Buffers that the port or a frame has.", NIC(buffers_used)},
	{"heddle_nic_in_frames_total", "counter", "Frames received.",
		NIC(in_frames_total)},
	{"heddle_nic_in_bytes_total", "counter", "Bytes of frames received.",
		NIC(in_bytes_total)},
	{"heddle_nic_out_frames_total", "counter", "Frames sent.",
		NIC(out_frames_total)},
	{"heddle_nic_out_bytes_total", "counter", "Bytes of frames sent.",
		NIC(out_bytes_total)},
	{"heddle_nic_handed_total", "counter",
		"Frames that one loop has taken from another.",
		NIC(handed_total)},
	{"heddle_nic_passed_total", "counter",
		"Segments that came to the queue of another loop than theirs.",
		NIC(passed_total)},
	{"heddle_tcp_in_segments_total", "counter", "TCP segments received.",
		NIC(segments_in_total)},
	{"heddle_tcp_out_segments_total", "counter", "TCP segments sent.",
		NIC(segments_out_total)},
	{"heddle_tcp_again_total", "counter", "TCP segments sent again.",
		NIC(segments_again_total)},
};

static const struct front_metric nic_losses[] = {
	{"in_port", NULL, NULL, NIC(in_lost_port_total)},
	{"in_pieces", NULL, NULL, NIC(in_lost_pieces_total)},
	{"in_link", NULL, NULL, NIC(in_lost_link_total)},
	{"in_ip", NULL, NULL, NIC(in_lost_ip_total)},
	{"in_icmp", NULL, NULL, NIC(in_lost_icmp_total)},
	{"in_tcp", NULL, NULL, NIC(in_lost_tcp_total)},
	{"out_port", NULL, NULL, NIC(out_lost_port_total)},
	{"out_neighbor", NULL, NULL, NIC(out_lost_neighbor_total)},
	{"handed", NULL, NULL, NIC(handed_lost_total)},
};

#define CAPTURE(field) offsetof(struct capture_counters, field)

static const struct front_metric capture_words[] = {
	{"heddle_capture_frames", "gauge", "Frames in the last capture.",
		CAPTURE(frames)},
	{"heddle_capture_bytes", "gauge", "Bytes of its file.", CAPTURE(bytes)},
	{"heddle_capture_dropped", "gauge",
		"Frames that it lost, because the file was too slow.",
		CAPTURE(dropped)},
};

static void write_capture(const struct page *page)
{
	const struct capture_counters *capture = &page->front.capture;

	for (size_t i = 0; i < COUNT(capture_words); i++) {
		const struct front_metric *m = &capture_words[i];

		head(page, m->name, m->type, m->help);
		sample(page, m->name, 0, counter_read(at(capture, m->offset)));
	}
}

static void write_nic(const struct page *page)
{
	const struct nic_counters *nic = &page->front.nic;

	/* The kernel carries the bytes. */
	if (counter_read(&nic->port_count) == 0)
		return;
	for (size_t i = 0; i < COUNT(nic_words); i++) {
		const struct front_metric *m = &nic_words[i];

		head(page, m->name, m->type, m->help);
		sample(page, m->name, 0, counter_read(at(nic, m->offset)));
	}
	head(page, "heddle_nic_lost_total", "counter",
		"Frames dropped, by where.");
	for (size_t i = 0; i < COUNT(nic_losses); i++)
		tagged(page, "heddle_nic_lost_total", "where",
			nic_losses[i].name,
			counter_read(at(nic, nic_losses[i].offset)));
	write_capture(page);
}

/* --- the loop's ------------------------------------------------------------------ */

#define POLL(field) offsetof(struct poll_counters, field)

static const struct front_metric poll_words[] = {
	{"heddle_poll_turns_total", "counter", "Looks for something to do.",
		POLL(turns_total)},
	{"heddle_poll_busy_turns_total", "counter",
		"Looks that found a frame or led to an event.",
		POLL(busy_turns_total)},
	{"heddle_poll_empty_turns_total", "counter",
		"Looks that found nothing.", POLL(empty_turns_total)},
	{"heddle_poll_bursts_total", "counter",
		"Looks at the port that found frames.", POLL(bursts_total)},
};

static const struct front_metric poll_times[] = {
	{"heddle_poll_slept_seconds_total", "counter",
		"Time between looks in which the thread slept.",
		POLL(slept_ns_total)},
	{"heddle_poll_cpu_seconds_total", "counter",
		"Processor time of the thread that polls.", POLL(cpu_ns_total)},
	{"heddle_poll_idle_seconds_total", "counter",
		"Time without work, in tenths of a second.",
		POLL(idle_ns_total)},
	{"heddle_poll_idle_cpu_seconds_total", "counter",
		"Processor time of the thread in them.",
		POLL(idle_cpu_ns_total)},
};

static const struct front_metric poll_histograms[] = {
	{"heddle_poll_sleep_seconds", "histogram",
		"How long nobody looked: what a frame may have waited for "
		"where it cannot end the sleep.",
		POLL(sleep)},
	{"heddle_poll_wake_seconds", "histogram",
		"From when the thread is called, or its time is up, until it "
		"runs.",
		POLL(wake)},
};

static const char *const stage_names[POLL_STAGE_COUNT] = {
	[POLL_RX] = "rx",
	[POLL_STACK] = "stack",
	[POLL_FRONT] = "front",
	[POLL_TX] = "tx",
};

/* One kind of line, with what it is of in the loop's counters. */
typedef void poll_line(const struct page *page, const struct front_metric *m,
	const struct poll_counters *poll);

static void poll_word(const struct page *page, const struct front_metric *m,
	const struct poll_counters *poll)
{
	sample(page, m->name, 0, counter_read(at(poll, m->offset)));
}

static void poll_time(const struct page *page, const struct front_metric *m,
	const struct poll_counters *poll)
{
	seconds(page, m->name, NULL, counter_read(at(poll, m->offset)));
}

static void poll_histogram(const struct page *page,
	const struct front_metric *m, const struct poll_counters *poll)
{
	histogram(page, m->name, 0, at(poll, m->offset));
}

static void poll_stages(const struct page *page, const struct front_metric *m,
	const struct poll_counters *poll)
{
	for (int i = 0; i < POLL_STAGE_COUNT; i++)
		seconds(page, m->name, stage_names[i],
			counter_read(&poll->stage_ns_total[i]));
}

/* Of each loop; where there is one it needs no number. */
static void write_loops(struct page *page, const struct front_metric *metrics,
	size_t count, poll_line *line)
{
	uint32_t loops = page->segment->shape.front_count;

	for (size_t i = 0; i < count; i++) {
		const struct front_metric *m = &metrics[i];

		head(page, m->name, m->type, m->help);
		for (uint32_t k = 0; k < loops; k++) {
			const struct segment view =
				segment_view(page->segment, k);

			page->loop = loops > 1 ? k : LOOP_ALL;
			line(page, m, &segment_front_counters(&view)->poll);
		}
		page->loop = LOOP_ALL;
	}
}

static void write_poll(struct page *page)
{
	static const struct front_metric stage = {
		"heddle_poll_stage_seconds_total", "counter",
		"Time of the thread that polls, by stage of its turn.", 0};

	write_loops(page, poll_words, COUNT(poll_words), poll_word);
	write_loops(page, poll_times, COUNT(poll_times), poll_time);
	write_loops(page, &stage, 1, poll_stages);
	write_loops(
		page, poll_histograms, COUNT(poll_histograms), poll_histogram);
}

/* --- the engines' -------------------------------------------------------------------
 */

#define ENGINE(field) offsetof(struct engine_counters, field)

static const struct front_metric engine_words[] = {
	{"vllm:num_requests_running", "gauge", "Requests in the batch.",
		ENGINE(running)},
	{"vllm:num_requests_waiting", "gauge", "Requests waiting.",
		ENGINE(waiting)},
	{"vllm:num_preemptions_total", "counter", "Preemptions.",
		ENGINE(preemptions_total)},
	{"vllm:prefix_cache_queries_total", "counter",
		"Prompt tokens sought in the prefix cache.",
		ENGINE(queried_tokens_total)},
	{"vllm:prefix_cache_hits_total", "counter",
		"Prompt tokens found in the prefix cache.",
		ENGINE(cached_tokens_total)},
	{"heddle_engine_steps_total", "counter", "Steps.", ENGINE(steps_total)},
	{"heddle_engine_rows_total", "counter", "Rows of all steps.",
		ENGINE(rows_total)},
	{"heddle_engine_prompt_tokens_total", "counter",
		"Prompt tokens computed.", ENGINE(prompt_tokens_total)},
	{"heddle_engine_output_tokens_total", "counter", "Tokens sampled.",
		ENGINE(output_tokens_total)},
	{"heddle_kv_pages_used", "gauge", "KV pages in use.",
		ENGINE(kv_pages_used)},
	{"heddle_kv_pages_total", "gauge", "KV pages.", ENGINE(kv_pages_total)},
	{"heddle_engine_bad_messages_total", "counter",
		"Messages of the dataplane that cannot be.",
		ENGINE(bad_messages_total)},
};

static const struct front_metric engine_histograms[] = {
	{"vllm:request_queue_time_seconds", "histogram",
		"Submitted to scheduled.", ENGINE(queue)},
	{"vllm:request_prefill_time_seconds", "histogram",
		"Scheduled to first token.", ENGINE(prefill)},
	{"vllm:request_decode_time_seconds", "histogram",
		"First token to last.", ENGINE(decode)},
	{"heddle_step_seconds", "histogram", "One step.", ENGINE(step)},
};

static void write_kv_usage(const struct page *page)
{
	static const char name[] = "vllm:kv_cache_usage_perc";

	head(page, name, "gauge", "Part of the KV pages in use, 0 to 1.");
	for (uint32_t i = 0; i < page->segment->shape.rank_count; i++) {
		const struct engine_counters *engine =
			segment_engine_counters(page->segment, i);
		uint64_t all = counter_read(&engine->kv_pages_total);
		uint64_t used = counter_read(&engine->kv_pages_used);

		api_text_puts(page->out, name);
		labels(page, i);
		api_text_printf(page->out, "} %.6g\n",
			all ? (double)used / (double)all : 0.0);
	}
}

static void write_engines(const struct page *page)
{
	uint32_t ranks = page->segment->shape.rank_count;

	for (size_t i = 0; i < COUNT(engine_words); i++) {
		const struct front_metric *m = &engine_words[i];

		head(page, m->name, m->type, m->help);
		for (uint32_t rank = 0; rank < ranks; rank++)
			sample(page, m->name, rank,
				counter_read(at(segment_engine_counters(
							page->segment, rank),
					m->offset)));
	}
	for (size_t i = 0; i < COUNT(engine_histograms); i++) {
		const struct front_metric *m = &engine_histograms[i];

		head(page, m->name, m->type, m->help);
		for (uint32_t rank = 0; rank < ranks; rank++)
			histogram(page, m->name, rank,
				at(segment_engine_counters(page->segment, rank),
					m->offset));
	}
	write_kv_usage(page);
}

/* --- adapters and memory ------------------------------------------------------------ */

/* The name that leads to an instance; "" where none does (any more). */
static const char *name_of(const struct page *page, uint32_t instance)
{
	for (uint32_t i = 1; i < ADAPTER_ENTRY_COUNT_MAX; i++)
		if (page->adapters[i].instance == instance)
			return page->adapters[i].name;
	return "";
}

static void adapter_sample(const struct page *page, const char *name,
	uint32_t rank, uint32_t instance, const char *state)
{
	api_text_puts(page->out, name);
	labels(page, rank);
	api_text_puts(page->out, ",adapter=\"");
	label(page, name_of(page, instance));
	api_text_printf(page->out, "\",instance=\"%u\"", instance);
	if (state)
		api_text_printf(page->out, ",state=\"%s\"", state);
	api_text_puts(page->out, "} ");
}

enum { ADAPTER_PAGE_BYTES, ADAPTER_USED_BYTES, ADAPTER_USERS, ADAPTER_STATE };

static const struct {
	const char *name, *help;
	int what;
} adapter_metrics[] = {
	{"heddle_adapter_state", "1 for the state of an adapter's instance.",
		ADAPTER_STATE},
	{"heddle_adapter_page_bytes", "Memory of an adapter's pages.",
		ADAPTER_PAGE_BYTES},
	{"heddle_adapter_used_bytes", "Memory that its experts need.",
		ADAPTER_USED_BYTES},
	{"heddle_adapter_users", "Requests that carry it.", ADAPTER_USERS},
};

static void write_adapter(const struct page *page, size_t metric, uint32_t rank,
	uint32_t instance)
{
	const struct rank_books *books =
		segment_rank_books(page->segment, rank);
	int what = adapter_metrics[metric].what;
	uint32_t serial = __atomic_load_n(
		&books->instances[instance].serial, __ATOMIC_RELAXED);
	struct adapter_book book;

	if (!adapter_book_read(books, instance, serial, &book))
		return;
	adapter_sample(page, adapter_metrics[metric].name, rank, instance,
		what == ADAPTER_STATE
			? adapter_state_name((enum adapter_state)book.state)
			: NULL);
	api_text_u64(page->out, what == ADAPTER_STATE        ? 1
				: what == ADAPTER_USERS      ? book.user_count
				: what == ADAPTER_USED_BYTES ? book.used_bytes
							     : book.page_bytes);
	api_text_puts(page->out, "\n");
}

static void write_adapters(const struct page *page)
{
	for (size_t i = 0; i < COUNT(adapter_metrics); i++) {
		head(page, adapter_metrics[i].name, "gauge",
			adapter_metrics[i].help);
		for (uint32_t r = 0; r < page->segment->shape.rank_count; r++)
			for (uint32_t n = 1; n < INSTANCE_COUNT_MAX; n++)
				write_adapter(page, i, r, n);
	}
}

#define BOOKS(field) offsetof(struct rank_books, field)

static const struct {
	const char *owner;
	size_t offset;
} pool_owners[] = {
	{"base", BOOKS(base_pages)},
	{"adapters", BOOKS(adapter_pages)},
	{"kv_held", BOOKS(kv_held_pages)},
	{"kv_idle", BOOKS(kv_idle_pages)},
	{"free", BOOKS(free_pages)},
};

static void write_pool(const struct page *page)
{
	uint32_t ranks = page->segment->shape.rank_count;

	head(page, "heddle_pool_pages", "gauge", "Pages by their owner.");
	for (uint32_t r = 0; r < ranks; r++)
		for (size_t i = 0; i < COUNT(pool_owners); i++) {
			api_text_puts(page->out, "heddle_pool_pages");
			labels(page, r);
			api_text_printf(page->out, ",owner=\"%s\"} ",
				pool_owners[i].owner);
			api_text_u64(page->out,
				counter_read(
					at(segment_rank_books(page->segment, r),
						pool_owners[i].offset)));
			api_text_puts(page->out, "\n");
		}
	head(page, "heddle_pool_page_bytes", "gauge", "Size of a page.");
	for (uint32_t r = 0; r < ranks; r++)
		sample(page, "heddle_pool_page_bytes", r,
			counter_read(&segment_rank_books(page->segment, r)
					      ->page_size_bytes));
}

/* Does a request on any rank carry it? */
static bool is_used(const struct page *page, const struct adapter_entry *entry)
{
	struct adapter_book book;

	for (uint32_t r = 0; r < page->segment->shape.rank_count; r++)
		if (adapter_book_read(segment_rank_books(page->segment, r),
			    entry->instance, entry->serial, &book) &&
			book.user_count > 0)
			return true;
	return false;
}

/* As vLLM: which adapters are in use, and when that was. */
static void write_lora_info(const struct page *page)
{
	static const char name[] = "vllm:lora_requests_info";
	const char *comma = "";

	head(page, name, "gauge", "Adapters in use; the value is the time.");
	api_text_printf(page->out,
		"%s{max_lora=\"%d\",waiting_lora_adapters=\"\","
		"running_lora_adapters=\"",
		name, INSTANCE_COUNT_MAX - 1);
	for (uint32_t i = 1; i < ADAPTER_ENTRY_COUNT_MAX; i++) {
		const struct adapter_entry *entry = &page->adapters[i];

		if (!entry->instance || !is_used(page, entry))
			continue;
		api_text_puts(page->out, comma);
		label(page, entry->name);
		comma = ",";
	}
	api_text_printf(page->out, "\"} %lld\n", (long long)time(NULL));
}

void metrics_write(const struct front_model *model,
	const struct segment *segment, struct api_text *out)
{
	struct page page = {.model = model,
		.segment = segment,
		.out = out,
		.loop = LOOP_ALL};

	(void)adapter_table_copy(segment_adapter_table(segment), page.adapters);
	segment_front_total(segment, &page.front);
	write_front(&page);
	write_names(&page);
	write_outcomes(&page);
	write_poll(&page);
	write_nic(&page);
	write_engines(&page);
	write_adapters(&page);
	write_pool(&page);
	write_lora_info(&page);
}
