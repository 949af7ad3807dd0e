/* test_node.c - a whole node in one process: setup, roles as threads, HTTP */
/* SPDX-License-Identifier: Apache-2.0 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "control/node_threads.h"
#include "control/role.h"
#include "tests/suite.h"

#define TOKENIZER "tests/golden-text/qwen/tokenizer.json"
#define TEMPLATE "tests/golden-text/chat/chatml.jinja"
/* Of the tokenizer: 900 plain tokens, then four others. */
#define VOCAB 904

static const char config[] =
	"{\"model_type\":\"qwen3_moe\",\"hidden_act\":\"silu\",\"vocab_size\":"
	"904,\"hidden_size\":64,\"num_hidden_layers\":2,\"num_attention_"
	"heads\":"
	"4,\"num_key_value_heads\":2,\"head_dim\":16,\"intermediate_size\":64,"
	"\"moe_intermediate_size\":16,\"num_experts\":4,\"num_experts_per_"
	"tok\":"
	"2,\"norm_topk_prob\":true,\"decoder_sparse_step\":1,"
	"\"mlp_only_layers\":[],\"rms_norm_eps\":1e-6,\"rope_theta\":10000.0,"
	"\"max_position_embeddings\":4096,\"tie_word_embeddings\":true,"
	"\"bos_token_id\":900,\"eos_token_id\":902}";

/* --- a model's directory ----------------------------------------------------------- */

struct place {
	char directory[64];
	struct options options;
	struct node_setup *setup;
};

static void path_in(const struct place *place, const char *name, char out[128])
{
	snprintf(out, 128, "%s/%s", place->directory, name);
}

static void write_file(
	const struct place *place, const char *name, const char *text)
{
	char path[128];
	FILE *file;

	path_in(place, name, path);
	file = fopen(path, "w");
	CU_ASSERT_PTR_NOT_NULL_FATAL(file);
	fputs(text, file);
	CU_ASSERT_EQUAL(fclose(file), 0);
}

static void copy_file(
	const struct place *place, const char *name, const char *from)
{
	static char text[1 << 20];
	int fd = open(from, O_RDONLY);
	ssize_t got = read(fd, text, sizeof(text) - 1);

	CU_ASSERT_FATAL(got > 0);
	close(fd);
	text[got] = '\0';
	write_file(place, name, text);
}

static void set(struct place *place, enum option_id id, const char *text)
{
	static const struct option_origin origin = {OPTION_FLAG, "test"};
	struct error err = {0};

	CU_ASSERT_EQUAL_FATAL(
		options_set_text(&place->options, id, &origin, text, &err), 0);
}

static void make_place(struct place *place)
{
	struct error err = {0};

	memset(place, 0, sizeof(*place));
	snprintf(place->directory, sizeof(place->directory),
		"/tmp/heddle-node-XXXXXX");
	CU_ASSERT_PTR_NOT_NULL_FATAL(mkdtemp(place->directory));
	write_file(place, "config.json", config);
	copy_file(place, "tokenizer.json", TOKENIZER);
	copy_file(place, "chat_template.jinja", TEMPLATE);
	place->setup = calloc(1, sizeof(*place->setup));
	CU_ASSERT_PTR_NOT_NULL_FATAL(place->setup);
	CU_ASSERT_EQUAL_FATAL(options_init(&place->options, &err), 0);
	set(place, OPTION_MODEL, place->directory);
	set(place, OPTION_NAME, "woven");
	set(place, OPTION_ALIAS, "other");
	set(place, OPTION_DEVICE, "null,null");
	set(place, OPTION_LISTEN, "127.0.0.1:0");
	set(place, OPTION_ADMIN, "127.0.0.1:0");
	set(place, OPTION_SLOTS, "64");
	set(place, OPTION_PAGES, "512");
	set(place, OPTION_CONNECTIONS, "64");
}

static void remove_place(struct place *place)
{
	static const char *const names[] = {"config.json", "tokenizer.json",
		"chat_template.jinja", "generation_config.json", "keys",
		"model.safetensors"};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		char path[128];

		path_in(place, names[i], path);
		unlink(path);
	}
	CU_ASSERT_EQUAL(rmdir(place->directory), 0);
	options_release(&place->options);
	free(place->setup);
}

/* --- setups -------------------------------------------------------------------------- */

static void test_node_setup_open__facts_of_the_model(void)
{
	struct place place;
	struct error err = {0};
	uint32_t before;

	make_place(&place);
	write_file(&place, "generation_config.json",
		"{\"eos_token_id\":[902,900],\"do_sample\":true,"
		"\"temperature\":0.5,\"top_k\":7}");
	before = suite_count_descriptors();
	CU_ASSERT_EQUAL_FATAL(
		node_setup_open(&place.options, place.setup, &err), 0);
	CU_ASSERT_EQUAL(place.setup->front.model.vocab, VOCAB);
	CU_ASSERT_EQUAL(place.setup->front.model.position_count, 4096);
	CU_ASSERT_EQUAL(place.setup->front.model.eos_count, 2);
	CU_ASSERT_EQUAL(place.setup->null.eos[1], 900);
	CU_ASSERT_EQUAL(place.setup->front.model.temperature, 0.5f);
	CU_ASSERT_EQUAL(place.setup->front.model.top_k, 7);
	CU_ASSERT_EQUAL(place.setup->front.model.name_count, 2);
	CU_ASSERT_STRING_EQUAL(place.setup->front.model.name[1], "other");
	CU_ASSERT_EQUAL(place.setup->shape.rank_count, 2);
	CU_ASSERT_EQUAL(node_setup_check_text(place.setup, &err), 0);
	CU_ASSERT_EQUAL(place.setup->null.first_id, 0);
	CU_ASSERT_EQUAL(place.setup->null.id_count, 900);
	CU_ASSERT_EQUAL(
		node_setup_listen(place.setup, &place.options, &err), 0);
	CU_ASSERT_EQUAL(place.setup->front.listener_count, 2);
	CU_ASSERT_EQUAL(place.setup->front.listeners[1].service, FRONT_ADMIN);
	node_setup_close(place.setup);
	CU_ASSERT_EQUAL(suite_count_descriptors(), before);
	remove_place(&place);
}

/* One thing is wrong; the error says which. */
static void expect_refusal(
	enum option_id id, const char *text, const char *error)
{
	struct place place;
	struct error err = {0};
	uint32_t before;

	make_place(&place);
	if (id < OPTION_ID_COUNT)
		set(&place, id, text);
	else
		write_file(&place, "config.json", text);
	before = suite_count_descriptors();
	CU_ASSERT_NOT_EQUAL(
		node_setup_open(&place.options, place.setup, &err), 0);
	if (!strstr(err.text, error))
		printf("\n  got  %s\n  want %s\n", err.text, error);
	CU_ASSERT_PTR_NOT_NULL(strstr(err.text, error));
	CU_ASSERT_EQUAL(suite_count_descriptors(), before);
	remove_place(&place);
}

static void test_node_setup_open__refusals(void)
{
	expect_refusal(OPTION_MODEL, "/nowhere", "/nowhere: No such file");
	expect_refusal(OPTION_MODEL, "/tmp", "/tmp/config.json: No such file");
	expect_refusal(OPTION_ID_COUNT, "{\"a\": 1", "config.json");
	expect_refusal(OPTION_ID_COUNT, "{}", "model_type");
	expect_refusal(OPTION_DEVICE, "cpu", "holds no *.safetensors");
	expect_refusal(OPTION_RING, "100", "ring: 100 is no power of two");
	expect_refusal(OPTION_LISTEN, "nowhere", "listen: \"nowhere\" is not");
	expect_refusal(OPTION_ADMIN, "1.2.3.4:99999", "admin: \"1.2.3.4:99999");
	expect_refusal(OPTION_LISTEN,
		"127.0.0.1:1,127.0.0.1:2,127.0.0.1:3,127.0.0.1:4,127.0.0.1:5,"
		"127.0.0.1:6,127.0.0.1:7,127.0.0.1:8",
		"10 addresses to listen on, at most 8");
	expect_refusal(OPTION_ALIAS, "x,x", "the name \"x\" is given twice");
	expect_refusal(OPTION_API_KEYS, "/nowhere", "/nowhere: No such file");
	expect_refusal(OPTION_TLS_KEY, "/nowhere", "go together");
}

static void test_node_setup_open__ranks_that_compute(void)
{
	struct place place;
	struct error err = {0};
	struct node_threads *threads;
	uint32_t before;

	make_place(&place);
	write_file(&place, "model.safetensors", "weights");
	/* Else the flag would add to its list. */
	place.options.value[OPTION_DEVICE].source = OPTION_DEFAULT;
	set(&place, OPTION_DEVICE, "cpu,null,cpu");
	set(&place, OPTION_KV_TOKENS, "1000");
	before = suite_count_descriptors();
	CU_ASSERT_EQUAL_FATAL(
		node_setup_open(&place.options, place.setup, &err), 0);
	CU_ASSERT_EQUAL(place.setup->cpu_count, 2);
	CU_ASSERT_EQUAL(place.setup->device[1], NODE_DEVICE_NULL);
	CU_ASSERT_EQUAL(place.setup->device[2], NODE_DEVICE_CPU);
	CU_ASSERT_TRUE(place.setup->memory_fd[0] >= 0);
	CU_ASSERT_EQUAL(place.setup->memory_fd[1], -1);
	CU_ASSERT_TRUE(place.setup->memory_fd[2] >= 0);
	CU_ASSERT_EQUAL(place.setup->files.weight_count, 1);
	/* No client may ask for more than the cache can hold. */
	CU_ASSERT_EQUAL(place.setup->front.model.position_count, 1000);
	CU_ASSERT_EQUAL(place.setup->null.position_count, 1000);
	CU_ASSERT_EQUAL(
		node_threads_start(place.setup, &threads, &err), -ENOTSUP);
	node_setup_close(place.setup);
	CU_ASSERT_EQUAL(suite_count_descriptors(), before);
	error_clear(&err);
	set(&place, OPTION_CPU_SEQUENCES, "100");
	set(&place, OPTION_CPU_ROWS, "99");
	CU_ASSERT_EQUAL(
		node_setup_open(&place.options, place.setup, &err), -EINVAL);
	CU_ASSERT_PTR_NOT_NULL(strstr(err.text, "cpu-rows: 99"));
	CU_ASSERT_EQUAL(suite_count_descriptors(), before);
	remove_place(&place);
}

static void test_node_listen__addresses(void)
{
	static const char *const good[] = {"127.0.0.1:0", "localhost:0", "*:0"};
	static const char *const bad[] = {"", ":", ":80", "80", "127.0.0.1",
		"127.0.0.1:", "127.0.0.1:x", "127.0.0.1:-1", "::1:80", "[::1]",
		"[::1", "host.example:80", "127.0.0.1:123456"};
	char address[NODE_ADDRESS_BYTES];
	struct error err = {0};
	int fd;

	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		CU_ASSERT_EQUAL(node_listen(good[i], &fd, address, &err), 0);
		CU_ASSERT_PTR_NOT_NULL(strchr(address, ':'));
		CU_ASSERT_PTR_NULL(strstr(address, ":0"));
		close(fd);
	}
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		CU_ASSERT_EQUAL(node_listen_check(bad[i], &err), -EINVAL);
	CU_ASSERT_EQUAL(node_listen("127.0.0.1:0", &fd, address, &err), 0);
	error_clear(&err);
	CU_ASSERT_EQUAL(node_listen(address, &fd, address, &err), -EADDRINUSE);
}

static void test_role_setup__only_what_control_wrote(void)
{
	struct role_setup *setup = calloc(1, sizeof(*setup));
	struct error err = {0};
	int fd = -1;

	setup->kind = ROLE_NULL_ENGINE;
	setup->rank = 3;
	CU_ASSERT_EQUAL_FATAL(role_setup_write(setup, &fd, &err), 0);
	CU_ASSERT_EQUAL(write(fd, "x", 1), -1);
	memset(setup, 0, sizeof(*setup));
	CU_ASSERT_EQUAL(role_setup_read(fd, setup, &err), 0);
	CU_ASSERT_EQUAL(setup->rank, 3);
	fd = open("/proc/self/exe", O_RDONLY);
	CU_ASSERT_EQUAL(role_setup_read(fd, setup, &err), -EINVAL);
	error_clear(&err);
	setup->kind = ROLE_KIND_COUNT;
	CU_ASSERT_EQUAL_FATAL(role_setup_write(setup, &fd, &err), 0);
	CU_ASSERT_EQUAL(role_setup_read(fd, setup, &err), -EINVAL);
	free(setup);
}

/* --- a node that serves ----------------------------------------------------------------- */

static int connect_to(const char *address)
{
	struct sockaddr_in to = {.sin_family = AF_INET};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	to.sin_port =
		htons((uint16_t)strtoul(strrchr(address, ':') + 1, NULL, 10));
	CU_ASSERT_EQUAL_FATAL(
		connect(fd, (const struct sockaddr *)&to, sizeof(to)), 0);
	return fd;
}

/* The whole answer to one request; "connection: close" ends it. */
static char *fetch(const char *address, const char *method, const char *target,
	const char *body)
{
	static char text[1 << 20];
	char head[512];
	size_t length = 0;
	ssize_t got;
	int fd = connect_to(address);

	snprintf(head, sizeof(head),
		"%s %s HTTP/1.1\r\nhost: x\r\nconnection: close\r\n"
		"content-type: application/json\r\ncontent-length: %zu\r\n\r\n",
		method, target, strlen(body));
	CU_ASSERT_EQUAL(send(fd, head, strlen(head), MSG_NOSIGNAL),
		(ssize_t)strlen(head));
	CU_ASSERT_EQUAL(send(fd, body, strlen(body), MSG_NOSIGNAL),
		(ssize_t)strlen(body));
	while (length < sizeof(text) - 1 &&
		(got = recv(fd, text + length, sizeof(text) - 1 - length, 0)) >
			0)
		length += (size_t)got;
	text[length] = '\0';
	close(fd);
	return text;
}

static uint32_t occurrences(const char *text, const char *what)
{
	uint32_t count = 0;

	for (; (text = strstr(text, what)) != NULL; text++)
		count++;
	return count;
}

struct stage {
	struct place place;
	struct node_threads *node;
	const char *api, *admin;
	uint32_t descriptors; /* before */
};

static void open_stage_of(
	struct stage *stage, const char *step_us, const char *loops)
{
	struct error err = {0};

	make_place(&stage->place);
	set(&stage->place, OPTION_NIC_QUEUES, loops);
	set(&stage->place, OPTION_NULL_STEP_US, step_us);
	stage->descriptors = suite_count_descriptors();
	CU_ASSERT_EQUAL_FATAL(node_setup_open(&stage->place.options,
				      stage->place.setup, &err),
		0);
	CU_ASSERT_EQUAL_FATAL(
		node_setup_check_text(stage->place.setup, &err), 0);
	CU_ASSERT_EQUAL_FATAL(node_setup_listen(stage->place.setup,
				      &stage->place.options, &err),
		0);
	if (node_threads_start(stage->place.setup, &stage->node, &err))
		printf("\n  %s\n", err.text);
	CU_ASSERT_PTR_NOT_NULL_FATAL(stage->node);
	stage->api = stage->place.setup->address[0];
	stage->admin = stage->place.setup->address[1];
}

static void open_stage(struct stage *stage, const char *step_us)
{
	open_stage_of(stage, step_us, "1");
}

/* Nothing is left: no slot, no page, no descriptor. */
static void close_stage(struct stage *stage)
{
	const struct segment *segment = node_threads_segment(stage->node);
	struct error err = {0};

	for (uint32_t i = 0; i < segment->shape.front_count; i++) {
		const struct segment view = segment_view(segment, i);

		CU_ASSERT_EQUAL(
			segment_front_counters(&view)->bad_messages_total, 0);
	}
	for (uint32_t i = 0; i < segment->shape.rank_count; i++)
		CU_ASSERT_EQUAL(
			segment_engine_counters(segment, i)->bad_messages_total,
			0);
	CU_ASSERT_EQUAL(node_threads_stop(stage->node, &err), 0);
	node_setup_close(stage->place.setup);
	CU_ASSERT_EQUAL(suite_count_descriptors(), stage->descriptors);
	remove_place(&stage->place);
}

static void test_node_threads__completion_chat_and_models(void)
{
	struct stage stage;
	const char *text;

	open_stage(&stage, "0");
	text = fetch(stage.api, "GET", "/v1/models", "");
	CU_ASSERT_PTR_NOT_NULL(strstr(text, "\"id\":\"woven\""));
	text = fetch(stage.api, "POST", "/v1/completions",
		"{\"model\":\"other\",\"prompt\":[\"a\",\"b\"],"
		"\"max_tokens\":20,\"n\":2}");
	CU_ASSERT_PTR_NOT_NULL(strstr(text, " 200 "));
	CU_ASSERT_EQUAL(occurrences(text, "\"finish_reason\":\"length\""), 4);
	CU_ASSERT_PTR_NOT_NULL(strstr(text, "\"completion_tokens\":80"));
	text = fetch(stage.api, "POST", "/v1/chat/completions",
		"{\"model\":\"woven\",\"messages\":[{\"role\":\"user\","
		"\"content\":\"hi\"}],\"max_tokens\":50,\"stream\":true,"
		"\"logprobs\":true,\"top_logprobs\":3}");
	CU_ASSERT_EQUAL(occurrences(text, "data: [DONE]"), 1);
	CU_ASSERT_EQUAL(occurrences(text, "\"top_logprobs\":[{"), 50);
	text = fetch(stage.admin, "GET", "/health", "");
	CU_ASSERT_PTR_NOT_NULL(strstr(text, " 200 "));
	CU_ASSERT_EQUAL(occurrences(text, "\"healthy\":true"), 2);
	close_stage(&stage);
}

/* The same request gives the same text, whatever runs beside it. */
static void test_node_threads__a_seed_decides_the_text(void)
{
	static const char body[] = "{\"model\":\"woven\",\"prompt\":\"x\","
				   "\"max_tokens\":64,\"seed\":5}";
	struct stage stage;
	char *first, *at;

	open_stage(&stage, "0");
	first = strdup(fetch(stage.api, "POST", "/v1/completions", body));
	CU_ASSERT_PTR_NOT_NULL_FATAL(first);
	at = first ? strstr(first, "\"choices\"") : NULL;
	CU_ASSERT_PTR_NOT_NULL_FATAL(at);
	for (int i = 0; at && i < 5; i++)
		CU_ASSERT_PTR_NOT_NULL(strstr(
			fetch(stage.api, "POST", "/v1/completions", body), at));
	free(first);
	close_stage(&stage);
}

/* Until the answer is whole; the connection stays. */
static void ask_and_keep(int fd)
{
	static const char request[] =
		"POST /v1/completions HTTP/1.1\r\nhost: x\r\n"
		"content-length: 57\r\n\r\n{\"model\":\"woven\","
		"\"prompt\":\"x\",\"max_tokens\":20,\"n\":2}     ";
	char text[8192] = "";
	size_t length = 0;
	ssize_t got = 1;

	CU_ASSERT_EQUAL_FATAL(
		send(fd, request, sizeof(request) - 1, MSG_NOSIGNAL),
		(ssize_t)sizeof(request) - 1);
	while (got > 0 && !strstr(text, "\"total_tokens\"") &&
		length < sizeof(text) - 1) {
		got = recv(fd, text + length, sizeof(text) - 1 - length, 0);
		length += got > 0 ? (size_t)got : 0;
		text[length] = '\0';
	}
	CU_ASSERT_EQUAL(occurrences(text, "\"finish_reason\":\"length\""), 2);
}

/*
 * A loop has 32 of the 64 connections, so of 40 that stay each has some; what
 * they ask for goes to both ranks and comes back to whose it is.
 */
static void test_node_threads__several_loops(void)
{
	enum { CLIENTS = 40 };
	const struct front_counters *counters;
	struct front_counters total;
	struct segment view;
	struct stage stage;
	int fds[CLIENTS];
	const char *text;

	open_stage_of(&stage, "0", "2");
	view = segment_view(node_threads_segment(stage.node), 1);
	for (int round = 0; round < 2; round++)
		for (int i = 0; i < CLIENTS; i++) {
			if (round == 0)
				fds[i] = connect_to(stage.api);
			ask_and_keep(fds[i]);
		}
	segment_front_total(&view, &total);
	CU_ASSERT_EQUAL(total.connections_open, CLIENTS);
	CU_ASSERT_EQUAL(total.output_tokens_total, (uint64_t)2 * CLIENTS * 40);
	counters = segment_front_counters(&view);
	CU_ASSERT_TRUE(counter_read(&counters->connections_open) >= 8);
	CU_ASSERT_TRUE(counter_read(&counters->requests_total) >= 16);
	/* The first answers for all. */
	text = fetch(stage.admin, "GET", "/metrics", "");
	CU_ASSERT_PTR_NOT_NULL(
		strstr(text, "heddle_http_requests_total{model_name=\"woven\","
			     "engine=\"0\"} 81"));
	CU_ASSERT_PTR_NOT_NULL(strstr(text, ",loop=\"1\"} "));
	for (int i = 0; i < CLIENTS; i++)
		close(fds[i]);
	close_stage(&stage);
}

static void test_node_threads__clients_that_go_leave_nothing(void)
{
	static const char request[] =
		"POST /v1/completions HTTP/1.1\r\nhost: x\r\n"
		"content-length: 69\r\n\r\n{\"model\":\"woven\",\"prompt\":"
		"\"x\",\"max_tokens\":4000,\"stream\":true}       ";
	const struct front_counters *counters;
	struct stage stage;
	char text[64];

	open_stage(&stage, "1000");
	counters = segment_front_counters(node_threads_segment(stage.node));
	for (int i = 0; i < 20; i++) {
		int fd = connect_to(stage.api);

		CU_ASSERT_EQUAL(
			send(fd, request, sizeof(request) - 1, MSG_NOSIGNAL),
			(ssize_t)sizeof(request) - 1);
		CU_ASSERT_TRUE(recv(fd, text, sizeof(text), 0) > 0);
		close(fd);
	}
	for (int i = 0;
		i < 2000 && (counter_read(&counters->slots_used) ||
				    counter_read(&counters->pages_used));
		i++)
		usleep(5000);
	CU_ASSERT_EQUAL(counter_read(&counters->slots_used), 0);
	CU_ASSERT_EQUAL(counter_read(&counters->pages_used), 0);
	close_stage(&stage);
}

int main(void)
{
	static const struct suite_case cases[] = {
		SUITE_CASE(node_setup_open__facts_of_the_model),
		SUITE_CASE(node_setup_open__refusals),
		SUITE_CASE(node_setup_open__ranks_that_compute),
		SUITE_CASE(node_listen__addresses),
		SUITE_CASE(role_setup__only_what_control_wrote),
		SUITE_CASE(node_threads__completion_chat_and_models),
		SUITE_CASE(node_threads__a_seed_decides_the_text),
		SUITE_CASE(node_threads__several_loops),
		SUITE_CASE(node_threads__clients_that_go_leave_nothing),
	};

	return SUITE_MAIN("node", cases);
}
