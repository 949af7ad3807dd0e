/* api_unsupported.c - fields that mean something we do not do (-> 400) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A client that asks for something and silently gets something else cannot
 * know. So what OpenAI or vLLM define and this server does not do is refused
 * by name, unless the value says "not wanted".
 */
#include <string.h>

#include "dataplane/api_json.h"

enum route_set {
	IN_TEXT = 1 << API_COMPLETIONS,
	IN_CHAT = 1 << API_CHAT,
	IN_BOTH = IN_TEXT | IN_CHAT
};

/* Values that ask for nothing, beside null and absence. */
enum harmless {
	H_NONE,
	H_FALSE,
	H_EMPTY, /* [], {} or "" */
	H_ONE, /* 1 or 1.0 */
	H_TYPE_TEXT, /* {"type": "text"} */
	H_TEXT_ONLY, /* ["text"] */
	H_WORD_NONE /* "none" */
};

static const struct {
	const char *key;
	enum route_set routes;
	enum harmless harmless;
} table[] = {
	{"suffix", IN_TEXT, H_EMPTY},
	{"best_of", IN_TEXT, H_ONE},
	{"prompt_embeds", IN_TEXT, H_EMPTY},
	{"tools", IN_CHAT, H_EMPTY},
	{"tool_choice", IN_CHAT, H_WORD_NONE},
	{"functions", IN_CHAT, H_EMPTY},
	{"function_call", IN_CHAT, H_WORD_NONE},
	{"audio", IN_CHAT, H_NONE},
	{"modalities", IN_CHAT, H_TEXT_ONLY},
	{"prediction", IN_CHAT, H_NONE},
	{"web_search_options", IN_CHAT, H_NONE},
	{"moderation", IN_CHAT, H_NONE},
	{"chat_template", IN_CHAT, H_NONE},
	{"continue_final_message", IN_CHAT, H_FALSE},
	{"mm_processor_kwargs", IN_CHAT, H_EMPTY},
	{"echo", IN_CHAT, H_FALSE},
	{"response_format", IN_BOTH, H_TYPE_TEXT},
	{"structured_outputs", IN_BOTH, H_NONE},
	{"guided_json", IN_BOTH, H_NONE},
	{"guided_regex", IN_BOTH, H_NONE},
	{"guided_choice", IN_BOTH, H_NONE},
	{"guided_grammar", IN_BOTH, H_NONE},
	{"use_beam_search", IN_BOTH, H_FALSE},
	{"length_penalty", IN_BOTH, H_ONE},
	{"prompt_logprobs", IN_BOTH, H_NONE},
	{"truncate_prompt_tokens", IN_BOTH, H_NONE},
	{"include_stop_str_in_output", IN_BOTH, H_FALSE},
	{"return_token_ids", IN_BOTH, H_FALSE},
	{"return_tokens_as_token_ids", IN_BOTH, H_FALSE},
	{"bad_words", IN_BOTH, H_EMPTY},
	{"allowed_token_ids", IN_BOTH, H_EMPTY},
	{"logits_processors", IN_BOTH, H_EMPTY},
	{"kv_transfer_params", IN_BOTH, H_EMPTY},
	{"repetition_detection", IN_BOTH, H_NONE},
};

static bool is_empty(const json_t *value)
{
	return (json_is_array(value) && json_array_size(value) == 0) ||
	       (json_is_object(value) && json_object_size(value) == 0) ||
	       (json_is_string(value) && json_string_length(value) == 0);
}

static bool is_word(const json_t *value, const char *word)
{
	return json_is_string(value) &&
	       strcmp(json_string_value(value), word) == 0;
}

static bool asks_nothing(const json_t *value, enum harmless harmless)
{
	switch (harmless) {
	case H_FALSE:
		return json_is_false(value);
	case H_EMPTY:
		return is_empty(value);
	case H_ONE:
		return json_is_number(value) && json_number_value(value) == 1;
	case H_TYPE_TEXT:
		return is_word(json_object_get(value, "type"), "text");
	case H_TEXT_ONLY:
		return json_array_size(value) == 1 &&
		       is_word(json_array_get(value, 0), "text");
	case H_WORD_NONE:
		return is_word(value, "none");
	case H_NONE:
		break;
	}
	return false;
}

void api_unsupported_check(
	const struct api_fields *fields, enum api_route route)
{
	unsigned bit = 1u << route;

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		const json_t *value = api_field(fields, table[i].key);

		if (!value || !((unsigned)table[i].routes & bit) ||
			asks_nothing(value, table[i].harmless))
			continue;
		api_fail(fields->error, 400, table[i].key,
			"'%s' is not supported by this server", table[i].key);
		return;
	}
}
