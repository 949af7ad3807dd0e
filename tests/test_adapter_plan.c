/* test_adapter_plan.c - an adapter is right in every tensor, or it is refused */
/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/adapter_plan.h"
#include "engine/names.h"
#include "tests/adapter_case.h"
#include "tests/fake/fake_os.h"
#include "tests/st_model.h"
#include "tests/suite.h"

/* One adapter of a tiny model: layers 1 and 2 of DeepSeek-V2 have 4 experts. */
struct fixture {
	struct model_config config;
	struct adapter_case a;
	uint32_t layer, expert; /* one that it tunes */
	char name[ADAPTER_PART_COUNT][128]; /* of that expert's tensors */
};

static void begin(struct fixture *f, enum model_family family,
	const struct adapter_case_options *options)
{
	static const char *const parts[] = {"gate", "up", "down"};
	const char *text = st_model_config_text(family);
	struct error err = {0};
	uint32_t at = 0;

	*f = (struct fixture){0};
	CU_ASSERT_EQUAL_FATAL(model_config_parse(text, strlen(text), "config",
				      &f->config, &err),
		0);
	adapter_case_make(&f->a, &f->config, options);
	while (!f->a.has[at])
		at++;
	f->layer = model_layer(&f->config, at / f->config.router.expert_count);
	f->expert = at % f->config.router.expert_count;
	for (int p = 0; p < ADAPTER_PART_COUNT; p++)
		snprintf(f->name[p], sizeof(f->name[p]),
			"model.layers.%u.mlp.experts.%u.%s_proj.weight",
			f->layer, f->expert, parts[p]);
}

static const struct adapter_case_options plain = {
	.seed = 7,
	.type = DTYPE_BF16,
	.file_count = 2,
	.with_model_prefix = true,
};

static void begin_plain(struct fixture *f)
{
	begin(f, FAMILY_DEEPSEEK_V2, &plain);
}

static void end(struct fixture *f)
{
	adapter_case_release(&f->a);
}

static int plan(struct fixture *f, struct adapter_plan *out, struct error *err)
{
	struct adapter_files files;
	int rc;

	adapter_case_open(&f->a, &files);
	rc = adapter_plan_create(&files, &f->config, NULL, out, err);
	adapter_files_close(&files);
	return rc;
}

/* The plan fails, and its text holds both. */
static void refuses(struct fixture *f, const char *first, const char *second)
{
	struct adapter_plan got = {0};
	struct error err = {0};
	int rc = plan(f, &got, &err);

	CU_ASSERT_NOT_EQUAL(rc, 0);
	CU_ASSERT_PTR_NULL(got.tensors);
	if (!strstr(err.text, first) || !strstr(err.text, second))
		printf("\"%s\" lacks \"%s\" or \"%s\"; ", err.text, first,
			second);
	CU_ASSERT_PTR_NOT_NULL(strstr(err.text, first));
	CU_ASSERT_PTR_NOT_NULL(strstr(err.text, second));
	adapter_plan_release(&got);
}

static void refuses_config(const char *text, const char *reason)
{
	struct fixture f;

	begin_plain(&f);
	free(f.a.config_text);
	f.a.config_text = strdup(text);
	refuses(&f, "expert_cfg.json", reason);
	end(&f);
}

/* ---- what is right ---- */

static void check_plan(const struct fixture *f, const struct adapter_plan *plan)
{
	uint32_t experts = f->config.router.expert_count, seen = 0;
	const struct adapter_config *config = &plan->config;

	CU_ASSERT_EQUAL(config->layer_count, f->config.moe_layer_count);
	CU_ASSERT_EQUAL(config->total, f->a.total);
	for (uint32_t l = 0; l < config->layer_count; l++)
		for (uint32_t i = 0; i < config->counts[l]; i++, seen++) {
			uint32_t id = config->lists[l][i];

			CU_ASSERT(f->a.has[l * experts + id]);
			CU_ASSERT(i == 0 || config->lists[l][i - 1] < id);
			CU_ASSERT_PTR_EQUAL(config->lists[l],
				config->ids + config->first[l]);
			for (int p = 0; p < ADAPTER_PART_COUNT; p++)
				CU_ASSERT_EQUAL(
					plan->tensors[seen][p].size_bytes,
					(uint64_t)f->config.hidden *
						f->config.expert_inter *
						dtype_size(f->a.options.type));
		}
	CU_ASSERT_EQUAL(seen, config->total);
}

static void test_adapter_plan__every_form(void)
{
	static const enum dtype types[] = {DTYPE_F32, DTYPE_BF16, DTYPE_F16};
	uint64_t state = suite_seed(3);

	for (int i = 0; i < 200; i++) {
		struct adapter_case_options options = {
			.seed = suite_random(&state),
			.type = types[suite_below(&state, 3)],
			.file_count = 1 + suite_below(&state, 3),
			.with_model_prefix = suite_below(&state, 2) > 0,
			.odd = suite_below(&state, 2) > 0,
		};
		struct adapter_plan got = {0};
		struct error err = {0};
		struct fixture f;

		begin(&f, (enum model_family)(i % FAMILY_COUNT), &options);
		CU_ASSERT_EQUAL_FATAL(plan(&f, &got, &err), 0);
		check_plan(&f, &got);
		adapter_plan_release(&got);
		end(&f);
	}
}

/* Mixtral's own names, beside those that ESFT publishes. */
static void test_adapter_plan__names_of_the_family(void)
{
	struct adapter_plan got = {0};
	struct error err = {0};
	struct st_tensor *tensor;
	struct fixture f;

	begin(&f, FAMILY_MIXTRAL, &plain);
	tensor = adapter_case_find(&f.a, f.name[ADAPTER_UP]);
	snprintf(tensor->name, sizeof(tensor->name),
		"layers.%u.block_sparse_moe.experts.%u.w3.weight", f.layer,
		f.expert);
	CU_ASSERT_EQUAL(plan(&f, &got, &err), 0);
	adapter_plan_release(&got);
	end(&f);
}

static void test_adapter_plan__its_own_config(void)
{
	struct adapter_plan got = {0};
	struct error err = {0};
	struct fixture f;

	begin_plain(&f);
	f.a.base_text = strdup(st_model_config_text(FAMILY_DEEPSEEK_V2));
	CU_ASSERT_EQUAL(plan(&f, &got, &err), 0);
	adapter_plan_release(&got);
	end(&f);
}

/* ---- expert_cfg.json ---- */

static void test_adapter_config__refuses(void)
{
	static const struct {
		const char *text, *reason;
	} cases[] = {
		{"{\"experts\": {\"1\": [0]}, \"shared_experts\": true}",
			"shared_experts is true"},
		{"{\"experts\": {\"1\": [0]}, \"non_expert_modules\": true}",
			"non_expert_modules is true"},
		{"{\"experts\": {\"1\": [0]}, \"shared_experts\": 1}",
			"shared_experts"},
		{"{\"experts\": {\"1\": [0]}, \"shared_expert\": false}",
			"\"shared_expert\" is not known"},
		{"{\"experts\": {\"1\": [4]}}", "layer 1: expert 4"},
		{"{\"experts\": {\"1\": [-1]}}", "entry 0"},
		{"{\"experts\": {\"1\": [1.0]}}", "entry 0"},
		{"{\"experts\": {\"1\": [0, \"1\"]}}", "entry 1"},
		{"{\"experts\": {\"1\": [99999999999]}}", "entry 0"},
		{"{\"experts\": {\"1\": [2, 2]}}", "expert 2 is there twice"},
		{"{\"experts\": {\"1\": 2}}", "layer 1: is no list"},
		{"{\"experts\": {\"0\": [2]}}", "no routed experts in layer 0"},
		{"{\"experts\": {\"3\": [2]}}", "no routed experts in layer 3"},
		{"{\"experts\": {\"4294967297\": [2]}}",
			"no number of a layer"},
		{"{\"experts\": {\"01\": [2]}}", "no number of a layer"},
		{"{\"experts\": {\" 1\": [2]}}", "no number of a layer"},
		{"{\"experts\": {\"\": [2]}}", "no number of a layer"},
		{"{\"experts\": {\"1\": [2], \"1\": [3]}}", "duplicate"},
		{"{\"experts\": {}}", "names no expert"},
		{"{\"experts\": {\"1\": [], \"2\": []}}", "names no expert"},
		{"{\"experts\": [1]}", "experts: is no object"},
		{"{}", "experts: is no object"},
		{"[]", "is not a JSON object"},
		{"{\"experts\": {\"1\": [0]}", "line 1"},
		{"{\"experts\": {\"1\": [[[[[[[[[[0]]]]]]]]]]}}", "entry 0"},
		{"", "line"},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		refuses_config(cases[i].text, cases[i].reason);
}

static void test_adapter_config__a_bomb_is_not_parsed(void)
{
	struct fixture f;
	char *text = suite_calloc(1, 2000001);

	begin_plain(&f);
	memset(text, '[', 2000000);
	free(f.a.config_text);
	f.a.config_text = text;
	refuses(&f, "expert_cfg.json", "more than");
	memset(text, ',', 2000000);
	refuses(&f, "expert_cfg.json", "more than");
	end(&f);
}

/* ---- tensors ---- */

static void test_adapter_plan__missing_tensor(void)
{
	for (int p = 0; p < ADAPTER_PART_COUNT; p++) {
		struct fixture f;

		begin_plain(&f);
		for (uint32_t i = 0; i < f.a.options.file_count; i++) {
			struct st_tensor *found =
				st_find(&f.a.files[i], f.name[p]);

			if (found)
				st_remove(&f.a.files[i], found);
			st_layout(&f.a.files[i]);
		}
		refuses(&f, f.name[p], "is missing (1 missing in all)");
		end(&f);
	}
}

/* What stands in the place of one tensor's name. */
static void refuses_name(const char *name, const char *reason)
{
	struct st_tensor *tensor;
	struct fixture f;

	begin_plain(&f);
	tensor = adapter_case_find(&f.a, f.name[ADAPTER_GATE]);
	snprintf(tensor->name, sizeof(tensor->name), "%s", name);
	refuses(&f, name, reason);
	end(&f);
}

static void test_adapter_plan__surplus_tensors(void)
{
	refuses_name("model.layers.1.mlp.shared_experts.gate_proj.weight",
		"is surplus");
	refuses_name("model.layers.1.mlp.gate.weight", "is surplus");
	refuses_name("model.layers.0.mlp.gate_proj.weight", "is surplus");
	refuses_name("lm_head.weight", "is surplus");
	refuses_name(
		"model.layers.1.mlp.experts.9.gate_proj.weight", "is surplus");
	refuses_name(
		"model.layers.1.mlp.experts.01.gate_proj.weight", "is surplus");
	refuses_name(
		"model.layers.7.mlp.experts.1.gate_proj.weight", "is surplus");
	refuses_name("model.model.layers.1.mlp.experts.1.gate_proj.weight",
		"is surplus");
	refuses_name("model.layers.1.mlp.experts.gate_up_proj", "is surplus");
	refuses_name("model.layers.1.mlp.experts.1.gate_proj.weight_scale_inv",
		"is surplus");
}

/* expert_cfg.json without one of the experts that the files hold. */
static void test_adapter_plan__unlisted_expert(void)
{
	struct fixture f;
	char list[64];

	begin_plain(&f);
	free(f.a.config_text);
	snprintf(list, sizeof(list), "{\"experts\": {\"%u\": [%u]}}", f.layer,
		f.expert);
	f.a.config_text = strdup(list);
	CU_ASSERT_FATAL(f.a.total > 1);
	refuses(&f, "is surplus", "does not list expert");
	end(&f);
}

/* Both spellings of one tensor; in two files or in one. */
static void test_adapter_plan__the_same_tensor_twice(void)
{
	for (uint32_t i = 0; i < 2; i++) {
		struct st_tensor *tensor;
		struct fixture f;
		char name[128];

		begin_plain(&f);
		tensor = adapter_case_find(&f.a, f.name[ADAPTER_GATE]);
		snprintf(name, sizeof(name), "%s", tensor->name + 6);
		st_add(&f.a.files[i], name, "BF16", 2, tensor->shape);
		st_layout(&f.a.files[i]);
		refuses(&f, "layers.", "is there twice");
		end(&f);
	}
}

static void test_adapter_plan__wrong_shapes(void)
{
	static const uint64_t shapes[][3] = {{6, 23, 1}, {24, 6, 1},
		{144, 1, 1}, {3, 48, 1}, {0, 24, 1}, {6, 24, 1}};

	for (size_t i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++) {
		struct st_tensor *tensor;
		struct fixture f;

		begin_plain(&f);
		tensor = adapter_case_find(&f.a, f.name[ADAPTER_GATE]);
		memcpy(tensor->shape, shapes[i], sizeof(shapes[i]));
		tensor->rank = i == 5 ? 3 : 2;
		tensor->data = NULL;
		for (uint32_t k = 0; k < f.a.options.file_count; k++)
			st_layout(&f.a.files[k]);
		refuses(&f, f.name[ADAPTER_GATE], "this base needs [6, 24]");
		end(&f);
	}
}

/* gate and down change places: nothing but the shape tells. */
static void test_adapter_plan__swapped_tensors(void)
{
	struct st_tensor *gate, *down;
	struct fixture f;

	begin_plain(&f);
	gate = adapter_case_find(&f.a, f.name[ADAPTER_GATE]);
	down = adapter_case_find(&f.a, f.name[ADAPTER_DOWN]);
	memcpy(gate->name, f.name[ADAPTER_DOWN], sizeof(f.name[0]));
	memcpy(down->name, f.name[ADAPTER_GATE], sizeof(f.name[0]));
	refuses(&f, "shape [", "this base needs");
	end(&f);
}

static void test_adapter_plan__wrong_types(void)
{
	static const struct {
		const char *type;
		uint64_t size;
	} types[] = {{"F8_E4M3", 1}, {"I16", 2}, {"F64", 8}};

	for (size_t i = 0; i < 3; i++) {
		struct st_tensor *tensor;
		struct fixture f;

		begin_plain(&f);
		tensor = adapter_case_find(&f.a, f.name[ADAPTER_UP]);
		snprintf(tensor->type, sizeof(tensor->type), "%s",
			types[i].type);
		tensor->data = NULL;
		for (uint32_t k = 0; k < f.a.options.file_count; k++)
			st_layout(&f.a.files[k]);
		refuses(&f, types[i].type, "adapters are F32, BF16 or F16");
		end(&f);
	}
}

/* ---- the base ---- */

static void refuses_base(const char *from, const char *to, const char *reason)
{
	const char *right = st_model_config_text(FAMILY_DEEPSEEK_V2), *at;
	struct fixture f;
	size_t size = strlen(right) + 64;

	begin_plain(&f);
	at = strstr(right, from);
	CU_ASSERT_PTR_NOT_NULL_FATAL(at);
	f.a.base_text = suite_calloc(1, size);
	snprintf(f.a.base_text, size, "%.*s%s%s", (int)(at - right), right, to,
		at + strlen(from));
	refuses(&f, "config.json: is for another base", reason);
	end(&f);
}

static void test_adapter_plan__another_base(void)
{
	refuses_base("\"n_routed_experts\": 4", "\"n_routed_experts\": 8",
		"experts per layer 8, this one has 4");
	refuses_base("\"num_hidden_layers\": 3", "\"num_hidden_layers\": 4",
		"layers 4, this one has 3");
	refuses_base(
		"\"hidden_size\": 24", "\"hidden_size\": 32", "hidden size 32");
	refuses_base("\"moe_intermediate_size\": 6",
		"\"moe_intermediate_size\": 7", "expert width 7");
	refuses_base("\"first_k_dense_replace\": 1",
		"\"first_k_dense_replace\": 2", "layers with routed experts 1");
}

static void test_adapter_plan__another_family(void)
{
	struct fixture f;

	begin_plain(&f);
	f.a.base_text = strdup(st_model_config_text(FAMILY_OLMOE));
	refuses(&f, "a olmoe", "this is a deepseek_v2");
	end(&f);
}

/* Without a config.json the tensors tell: another width, another depth. */
static void test_adapter_plan__a_base_that_only_shapes_tell(void)
{
	struct adapter_plan got = {0};
	struct error err = {0};
	struct fixture f;

	begin_plain(&f);
	f.config.hidden = 48;
	CU_ASSERT_NOT_EQUAL(plan(&f, &got, &err), 0);
	CU_ASSERT_PTR_NOT_NULL(strstr(err.text, "needs ["));
	f.config.hidden = 24;
	f.config.is_moe[f.layer] = false;
	f.config.moe_layer_count--;
	error_clear(&err);
	CU_ASSERT_NOT_EQUAL(plan(&f, &got, &err), 0);
	CU_ASSERT_PTR_NOT_NULL(strstr(err.text, "no routed experts in"));
	end(&f);
}

/* ---- files ---- */

static void test_adapter_plan__no_expert_cfg(void)
{
	struct fixture f;

	begin_plain(&f);
	free(f.a.config_text);
	f.a.config_text = NULL;
	refuses(&f, "expert_cfg.json", "is missing");
	end(&f);
}

/* Every length that a file may be cut to. */
static void test_adapter_plan__truncated(void)
{
	struct adapter_plan got = {0};
	struct adapter_files files;
	uint64_t size, accepted = 0;
	struct fixture f;

	begin_plain(&f);
	adapter_case_open(&f.a, &files);
	size = files.model.weights[0].size_bytes;
	for (uint64_t cut = 0; cut < size; cut += cut < 300 ? 1 : 37) {
		struct model_file *file = &files.model.weights[0];
		uint8_t *bytes = suite_calloc(1, cut + 1);
		struct adapter_files copy = files;
		struct model_file two[2] = {*file, files.model.weights[1]};
		struct error err = {0};

		CU_ASSERT_EQUAL(model_file_read(file, 0, cut, bytes, &err), 0);
		two[0].fd = st_memfd_bytes(bytes, cut);
		two[0].size_bytes = cut;
		copy.model.weights = two;
		accepted += adapter_plan_create(
				    &copy, &f.config, NULL, &got, &err) == 0;
		CU_ASSERT_NOT_EQUAL(err.text[0], '\0');
		close(two[0].fd);
		free(bytes);
	}
	CU_ASSERT_EQUAL(accepted, 0);
	adapter_files_close(&files);
	end(&f);
}

static int plan_bytes(struct fixture *f, const struct adapter_files *files,
	const uint8_t *bytes, uint64_t size)
{
	struct model_file two[2] = {
		files->model.weights[0], files->model.weights[1]};
	struct adapter_files copy = *files;
	struct adapter_plan got = {0};
	struct error err = {0};
	int rc;

	two[0].fd = st_memfd_bytes(bytes, size);
	copy.model.weights = two;
	rc = adapter_plan_create(&copy, &f->config, NULL, &got, &err);
	if (rc == 0)
		check_plan(f, &got);
	CU_ASSERT_EQUAL(rc == 0, err.text[0] == '\0');
	adapter_plan_release(&got);
	close(two[0].fd);
	return rc;
}

/*
 * Every bit of a header once: refused, or the plan is still whole and in the
 * file (a bit of white space may go unnoticed).
 */
static void test_adapter_plan__flipped_bits(void)
{
	struct adapter_files files;
	uint64_t header = 0, refused = 0, flips;
	uint8_t *bytes;
	struct fixture f;
	uint64_t size;

	begin_plain(&f);
	adapter_case_open(&f.a, &files);
	size = files.model.weights[0].size_bytes;
	bytes = suite_calloc(1, size);
	CU_ASSERT_EQUAL(
		model_file_read(&files.model.weights[0], 0, size, bytes, NULL),
		0);
	memcpy(&header, bytes, sizeof(header));
	flips = (header + 8) * 8;
	for (uint64_t i = 0; i < flips; i++) {
		bytes[i / 8] ^= (uint8_t)(1u << i % 8);
		refused += plan_bytes(&f, &files, bytes, size) != 0;
		bytes[i / 8] ^= (uint8_t)(1u << i % 8);
	}
	printf("%" PRIu64 " of %" PRIu64 " flips refused ", refused, flips);
	CU_ASSERT_EQUAL(plan_bytes(&f, &files, bytes, size), 0);
	CU_ASSERT(refused > flips * 8 / 10);
	free(bytes);
	adapter_files_close(&files);
	end(&f);
}

static void test_adapter_plan__every_call_fails_once(void)
{
	uint64_t n = 0, silent = 0, leaks = 0, wrong = 0;
	struct adapter_files files;
	struct fixture f;

	begin_plain(&f);
	f.a.base_text = strdup(st_model_config_text(FAMILY_DEEPSEEK_V2));
	adapter_case_open(&f.a, &files);
	for (;;) {
		struct adapter_plan got = {0};
		struct error err = {0};
		int rc;

		fake_os_reset();
		fake_os_fail(FAKE_OS_ANY, ++n, EIO);
		rc = adapter_plan_create(&files, &f.config, NULL, &got, &err);
		adapter_plan_release(&got);
		if (!fake_os_has_failed()) {
			CU_ASSERT_EQUAL(rc, 0);
			break;
		}
		wrong += rc == 0;
		silent += err.text[0] == '\0';
		leaks += !fake_os_check_empty();
	}
	fake_os_disarm();
	fake_os_reset();
	printf("%" PRIu64 " calls ", n - 1);
	CU_ASSERT(n > 30);
	CU_ASSERT_EQUAL(wrong + silent + leaks, 0);
	adapter_files_close(&files);
	end(&f);
}

int main(void)
{
	static const struct suite_case cases[] = {
		SUITE_CASE(adapter_plan__every_form),
		SUITE_CASE(adapter_plan__names_of_the_family),
		SUITE_CASE(adapter_plan__its_own_config),
		SUITE_CASE(adapter_config__refuses),
		SUITE_CASE(adapter_config__a_bomb_is_not_parsed),
		SUITE_CASE(adapter_plan__missing_tensor),
		SUITE_CASE(adapter_plan__surplus_tensors),
		SUITE_CASE(adapter_plan__unlisted_expert),
		SUITE_CASE(adapter_plan__the_same_tensor_twice),
		SUITE_CASE(adapter_plan__wrong_shapes),
		SUITE_CASE(adapter_plan__swapped_tensors),
		SUITE_CASE(adapter_plan__wrong_types),
		SUITE_CASE(adapter_plan__another_base),
		SUITE_CASE(adapter_plan__another_family),
		SUITE_CASE(adapter_plan__a_base_that_only_shapes_tell),
		SUITE_CASE(adapter_plan__no_expert_cfg),
		SUITE_CASE(adapter_plan__truncated),
		SUITE_CASE(adapter_plan__flipped_bits),
		SUITE_CASE(adapter_plan__every_call_fails_once),
	};

	return SUITE_MAIN("adapter_plan", cases);
}
