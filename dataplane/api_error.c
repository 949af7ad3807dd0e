/* api_error.c - OpenAI's error object (what went wrong -> JSON) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "dataplane/api.h"

static const char *type_of(int status)
{
	switch (status) {
	case 401:
		return "authentication_error";
	case 408:
		return "timeout_error";
	case 429:
		return "rate_limit_error";
	default:
		return status >= 500 ? "server_error" : "invalid_request_error";
	}
}

static const char *code_of(int status)
{
	switch (status) {
	case 401:
		return "invalid_api_key";
	case 405:
		return "method_not_allowed";
	case 408:
		return "request_timeout";
	case 413:
	case 431:
		return "too_large";
	case 429:
		return "overloaded";
	case 500:
		return "internal_error";
	case 503:
		return "unavailable";
	default:
		return NULL;
	}
}

static int fail(struct api_error *error, int status, const char *param,
	const char *format, va_list args) __attribute__((format(printf, 4, 0)));

static int fail(struct api_error *error, int status, const char *param,
	const char *format, va_list args)
{
	if (error->status)
		return -EINVAL;
	error->status = status;
	error->type = type_of(status);
	error->code = code_of(status);
	snprintf(error->param, sizeof(error->param), "%s", param ? param : "");
	vsnprintf(error->message, sizeof(error->message), format, args);
	return -EINVAL;
}

int api_fail(struct api_error *error, int status, const char *param,
	const char *format, ...)
{
	va_list args;
	int rc;

	va_start(args, format);
	rc = fail(error, status, param, format, args);
	va_end(args);
	return rc;
}

int api_fail_code(struct api_error *error, int status, const char *code,
	const char *format, ...)
{
	bool first = error->status == 0;
	va_list args;
	int rc;

	va_start(args, format);
	rc = fail(error, status, NULL, format, args);
	va_end(args);
	if (first)
		error->code = code;
	return rc;
}

void api_error_write(const struct api_error *error, struct api_text *out)
{
	api_text_puts(out, "{\"error\":{\"message\":");
	api_text_string(out, error->message, strlen(error->message));
	api_text_puts(out, ",\"type\":");
	api_text_string(out, error->type, strlen(error->type));
	api_text_puts(out, ",\"param\":");
	if (error->param[0])
		api_text_string(out, error->param, strlen(error->param));
	else
		api_text_puts(out, "null");
	api_text_puts(out, ",\"code\":");
	if (error->code)
		api_text_string(out, error->code, strlen(error->code));
	else
		api_text_puts(out, "null");
	api_text_puts(out, "}}");
}
