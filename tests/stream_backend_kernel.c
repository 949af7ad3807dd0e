/* stream_backend_kernel.c - the io_uring back end for the stream tests */
/* SPDX-License-Identifier: Apache-2.0 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "dataplane/stream_kernel.h"
#include "tests/stream_case.h"

static int listen_somewhere(uint16_t *out_port)
{
	struct sockaddr_in at = {.sin_family = AF_INET,
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t length = sizeof(at);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0)
		return -errno;
	if (bind(fd, (struct sockaddr *)&at, sizeof(at)) || listen(fd, 4096) ||
		getsockname(fd, (struct sockaddr *)&at, &length)) {
		close(fd);
		return -errno;
	}
	*out_port = ntohs(at.sin_port);
	return fd;
}

static int create(const struct stream_setup *setup, struct stream_loop *out,
	uint16_t *out_ports, struct error *err)
{
	struct stream_kernel_config config = {
		.limits = setup->limits,
		.certificate = setup->certificate,
		.certificate_length =
			setup->certificate ? strlen(setup->certificate) : 0,
		.key = setup->key,
		.key_length = setup->key ? strlen(setup->key) : 0,
		.handler = setup->handler,
		.arg = setup->arg,
	};
	int rc = 0;

	for (uint32_t i = 0; i < setup->listener_count && rc == 0; i++) {
		int fd = listen_somewhere(&out_ports[i]);

		if (fd < 0) {
			rc = error_set(err, -fd, "cannot listen");
			break;
		}
		config.listeners[config.listener_count++] =
			(struct stream_listener){fd, setup->tls};
	}
	if (rc == 0)
		rc = stream_kernel_create(&config, out, err);
	for (uint32_t i = 0; i < config.listener_count && rc; i++)
		close(config.listeners[i].fd);
	return rc;
}

const struct stream_backend *stream_backend(void)
{
	static const struct stream_backend backend = {"kernel", create};

	return &backend;
}
