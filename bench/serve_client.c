/* serve_client.c - one call at a time, before or after a run (URL -> body) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/time.h>
#include <unistd.h>

#include "bench/serve_client.h"
#include "bench/serve_http.h"

#define HEAD_BYTES_MAX 4096

/* HOST, [HOST]:PORT or HOST:PORT into its parts; false where neither. */
static bool split_authority(const char *authority, char host[256], char port[8])
{
	const char *end = authority + strlen(authority), *colon;
	const char *start = authority;
	size_t length;

	if (*authority == '[') {
		const char *bracket = strchr(authority, ']');

		if (!bracket || (bracket[1] && bracket[1] != ':'))
			return false;
		start = authority + 1;
		length = (size_t)(bracket - start);
		colon = bracket[1] ? bracket + 1 : NULL;
	} else {
		colon = strchr(authority, ':');
		length = (size_t)((colon ? colon : end) - start);
	}
	if (length == 0 || length > 255 || (colon && strlen(colon) > 6) ||
		(colon && colon[1 + strspn(colon + 1, "0123456789")]))
		return false;
	snprintf(host, 256, "%.*s", (int)length, start);
	snprintf(port, 8, "%.7s", colon && colon[1] ? colon + 1 : "80");
	return true;
}

static int resolve(const char *host, const char *port, struct serve_target *out,
	struct error *err)
{
	const struct addrinfo hints = {.ai_socktype = SOCK_STREAM,
		.ai_flags = AI_NUMERICSERV | AI_ADDRCONFIG};
	struct addrinfo *found = NULL;
	int rc = getaddrinfo(host, port, &hints, &found);

	if (rc)
		return error_set(err, ENOENT, "%s: %s", host, gai_strerror(rc));
	memcpy(&out->address, found->ai_addr, found->ai_addrlen);
	out->address_bytes = found->ai_addrlen;
	freeaddrinfo(found);
	return 0;
}

int serve_target_parse(
	const char *url, struct serve_target *out, struct error *err)
{
	char host[256], port[8];
	const char *rest = url + 7;
	size_t length;

	memset(out, 0, sizeof(*out));
	if (strncasecmp(url, "https://", 8) == 0)
		return error_set(err, EINVAL,
			"%s: TLS is not spoken here: use the plaintext "
			"listener",
			url);
	if (strncasecmp(url, "http://", 7) != 0)
		return error_set(err, EINVAL, "%s: not http://HOST:PORT", url);
	length = strcspn(rest, "/");
	if (length >= sizeof(out->authority) ||
		strlen(rest + length) >= sizeof(out->prefix) ||
		strpbrk(rest, " \t\r\n?#@"))
		return error_set(err, EINVAL, "%s: not http://HOST:PORT", url);
	memcpy(out->authority, rest, length);
	rest += length;
	length = strlen(rest);
	memcpy(out->prefix, rest, length + 1);
	if (length && out->prefix[length - 1] == '/')
		out->prefix[length - 1] = '\0';
	if (!split_authority(out->authority, host, port))
		return error_set(err, EINVAL, "%s: not http://HOST:PORT", url);
	return resolve(host, port, out, err);
}

int serve_target_connect(const struct serve_target *target, struct error *err)
{
	const struct timeval limit = {.tv_sec = CLIENT_TIMEOUT_S};
	int one = 1;
	int fd = socket(
		target->address.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return error_set(err, errno, "socket: %s", strerror(errno));
	(void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	(void)setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
	(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	if (connect(fd, (const struct sockaddr *)&target->address,
		    target->address_bytes)) {
		int rc = error_set(err, errno, "%s: %s", target->authority,
			strerror(errno));

		close(fd);
		return rc;
	}
	return fd;
}

int serve_call_head(const struct serve_target *target,
	const struct serve_call *call, struct serve_bytes *out)
{
	char head[HEAD_BYTES_MAX], length[64] = "";
	int count;

	if (call->body)
		snprintf(length, sizeof(length),
			"Content-Type: application/json\r\n"
			"Content-Length: %zu\r\n",
			call->body_bytes);
	count = snprintf(head, sizeof(head),
		"%s %s%s HTTP/1.1\r\nHost: %s\r\nUser-Agent: heddle-bench\r\n"
		"%s%s%s%s\r\n",
		call->method, target->prefix, call->path, target->authority,
		call->api_key ? "Authorization: Bearer " : "",
		call->api_key ? call->api_key : "", call->api_key ? "\r\n" : "",
		length);
	if (count < 0 || count >= (int)sizeof(head))
		return -EMSGSIZE;
	return serve_bytes_add(out, head, (size_t)count, SIZE_MAX / 4);
}

static int send_all(int fd, const char *data, size_t length)
{
	while (length) {
		ssize_t count = send(fd, data, length, MSG_NOSIGNAL);

		if (count < 0)
			return -errno;
		data += count;
		length -= (size_t)count;
	}
	return 0;
}

/* Feed what came; 0 = more is due, 1 = the answer is whole. */
static int take(struct serve_http *http, const char *data, size_t length,
	struct serve_bytes *body)
{
	size_t at = 0, taken;

	for (;;) {
		enum serve_http_event event =
			serve_http_feed(http, data + at, length - at, &taken);
		int rc;

		at += taken;
		if (event == SERVE_HTTP_MORE)
			return 0;
		if (event == SERVE_HTTP_END)
			return 1;
		if (event == SERVE_HTTP_BAD)
			return -EPROTO;
		rc = body ? serve_bytes_add(body, http->piece,
				    http->piece_bytes, CLIENT_BODY_BYTES_MAX)
			  : 0;
		if (rc)
			return rc;
	}
}

static int receive(
	int fd, struct serve_http *http, struct serve_bytes *body, bool is_raw)
{
	char data[16384];
	int rc = 0;

	while (rc == 0) {
		ssize_t count = recv(fd, data, sizeof(data), 0);

		if (count < 0)
			return -errno;
		if (count == 0)
			return serve_http_eof(http) == SERVE_HTTP_END
				       ? 0
				       : -ECONNRESET;
		if (is_raw)
			rc = serve_bytes_add(body, data, (size_t)count,
				CLIENT_BODY_BYTES_MAX);
		if (rc == 0)
			rc = take(http, data, (size_t)count,
				is_raw ? NULL : body);
	}
	return rc == 1 ? 0 : rc;
}

static int call_any(const struct serve_target *target,
	const struct serve_call *call, struct serve_bytes *out,
	struct serve_http *http, bool is_raw)
{
	struct serve_bytes request = {0};
	int fd = serve_target_connect(target, NULL), rc;

	if (fd < 0)
		return fd;
	serve_http_init(http);
	rc = serve_call_head(target, call, &request);
	if (rc == 0)
		rc = send_all(fd, request.data, request.length);
	if (rc == 0 && call->body)
		rc = send_all(fd, call->body, call->body_bytes);
	if (rc == 0)
		rc = receive(fd, http, out, is_raw);
	serve_bytes_release(&request);
	close(fd);
	return rc;
}

static int named(int rc, const struct serve_target *target,
	const struct serve_call *call, struct error *err)
{
	if (rc == 0)
		return 0;
	return error_set(err, -rc, "%s %s%s%s: %s", call->method,
		target->authority, target->prefix, call->path, strerror(-rc));
}

int serve_call(const struct serve_target *target, const struct serve_call *call,
	struct serve_bytes *body, int *status, struct error *err)
{
	struct serve_http http;
	int rc = call_any(target, call, body, &http, false);

	*status = rc == 0 ? http.status : 0;
	return named(rc, target, call, err);
}

int serve_call_raw(const struct serve_target *target,
	const struct serve_call *call, struct serve_bytes *raw,
	struct error *err)
{
	struct serve_http http;
	int rc = call_any(target, call, raw, &http, true);

	if (rc == 0 && http.status != 200)
		return error_set(err, EPROTO, "%s %s%s: status %d",
			call->method, target->prefix, call->path, http.status);
	return named(rc, target, call, err);
}
