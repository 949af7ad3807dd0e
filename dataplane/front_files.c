/* front_files.c - texts and streams from descriptors (setup -> ready) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "dataplane/front_private.h"

struct mapped {
	const char *text; /* NULL: there is no such file */
	size_t length;
};

static int map_file(
	int fd, const char *name, struct mapped *out, struct error *err)
{
	struct stat status;
	void *text;

	*out = (struct mapped){NULL, 0};
	if (fd < 0)
		return 0;
	if (fstat(fd, &status) != 0)
		return error_set(err, errno, "%s: cannot be read", name);
	if (status.st_size <= 0 || status.st_size > (off_t)MODEL_JSON_BYTES_MAX)
		return error_set(err, EINVAL,
			"%s: %lld bytes; it must have 1 to %u", name,
			(long long)status.st_size, MODEL_JSON_BYTES_MAX);
	text = mmap(
		NULL, (size_t)status.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
	if (text == MAP_FAILED)
		return error_set(err, errno, "%s: cannot be mapped", name);
	out->text = text;
	out->length = (size_t)status.st_size;
	return 0;
}

static void unmap_file(struct mapped *mapped)
{
	void *text;

	/* munmap() takes what mmap() gave: not const. */
	memcpy(&text, &mapped->text, sizeof(text));
	if (text)
		munmap(text, mapped->length);
	*mapped = (struct mapped){NULL, 0};
}

static int load_tokenizer(struct front *front, struct error *err)
{
	struct mapped file;
	int rc = map_file(
		front->setup.tokenizer_fd, "tokenizer.json", &file, err);

	if (rc)
		return rc;
	if (!file.text)
		return error_set(err, EINVAL, "tokenizer.json: is missing");
	rc = tokenizer_create(
		file.text, file.length, "tokenizer.json", &front->tok, err);
	unmap_file(&file);
	return rc;
}

/* A model without a template serves completions only. */
static int load_template(struct front *front, struct error *err)
{
	struct mapped config, jinja = {NULL, 0};
	struct error local = {0};
	int rc = map_file(front->setup.tokenizer_config_fd,
		"tokenizer_config.json", &config, err);

	if (rc == 0)
		rc = map_file(front->setup.chat_template_fd,
			"chat_template.jinja", &jinja, err);
	if (rc == 0) {
		rc = chat_template_load(
			(struct chat_source){config.text, config.length},
			(struct chat_source){jinja.text, jinja.length}, "model",
			&front->chat, &local);
		if (rc == -ENOENT)
			rc = 0;
		else if (rc)
			error_set(err, -rc, "%s", local.text);
	}
	unmap_file(&config);
	unmap_file(&jinja);
	return rc;
}

int front_load_texts(struct front *front, struct error *err)
{
	int rc;

	if (front->group && front->group->first) {
		front->borrows = true;
		front->tok = front->group->first->tok;
		front->chat = front->group->first->chat;
		return 0;
	}
	rc = load_tokenizer(front, err);
	return rc ? rc : load_template(front, err);
}

static void fill_config(
	struct front *front, struct stream_kernel_config *config)
{
	const struct front_setup *setup = &front->setup;
	size_t streams = setup->limits.connection_count;

	*config = (struct stream_kernel_config){
		.listener_count = setup->listener_count,
		.limits = {.stream_count = setup->limits.connection_count,
			.send_bytes = FRONT_SEND_BYTES,
			.receive_bytes = FRONT_RECEIVE_BYTES,
			.total_bytes = streams *
				       (FRONT_SEND_BYTES + FRONT_RECEIVE_BYTES),
			.user_timeout_ns = setup->limits.stall_timeout_ns},
		.poll = &front->counters->poll,
		.wake_fd = segment_bell(front->segment),
		.handler = front_on_event,
		.arg = front};
	for (uint32_t i = 0; i < setup->listener_count; i++)
		config->listeners[i] = (struct stream_listener){
			setup->listeners[i].fd, setup->listeners[i].tls};
}

static int map_identity(const struct front_setup *setup,
	struct mapped *certificate, struct mapped *key, struct error *err)
{
	int rc = map_file(
		setup->certificate_fd, "certificate", certificate, err);

	*key = (struct mapped){NULL, 0};
	if (rc == 0)
		rc = map_file(setup->certificate_key_fd, "certificate's key",
			key, err);
	return rc;
}

int front_identify(
	struct front *front, const struct front_setup *setup, struct error *err)
{
	struct mapped certificate, key;
	int rc = map_identity(setup, &certificate, &key, err);

	if (rc == 0 && certificate.text) {
		const struct stream_identity identity = {certificate.text,
			key.text, certificate.length, key.length};

		rc = front->loop.ops->identify(&front->loop, &identity, err);
	}
	unmap_file(&certificate);
	unmap_file(&key);
	return rc;
}

/* The first loop captures for all. */
static struct capture_tap *capture_tap_of(struct front *front)
{
	struct capture_counters *counters[FRONT_COUNT_MAX];
	uint32_t count = front->segment->shape.front_count;
	uint32_t index = front->segment->front;

	if (index > 0)
		return &front->group->first->capture->taps[index];
	for (uint32_t i = 0; i < count; i++) {
		const struct segment view = segment_view(front->segment, i);

		counters[i] = &segment_front_counters(&view)->capture;
	}
	return capture_create(counters, count, &front->capture)
		       ? NULL
		       : &front->capture->taps[0];
}

static int open_polled(struct front *front,
	const struct stream_kernel_config *kernel, struct error *err)
{
	const struct front_setup *setup = &front->setup;
	uint32_t index = front->segment->front;
	struct stream_nic_config config = {.link = setup->link,
		.queue = index,
		.first = index ? &front->group->first->loop : NULL,
		.listener_count = setup->listener_count,
		.limits = kernel->limits,
		.identity = {kernel->certificate, kernel->key,
			kernel->certificate_length, kernel->key_length},
		.counters = &front->counters->nic,
		.poll = kernel->poll,
		.wake_fd = kernel->wake_fd,
		.handler = kernel->handler,
		.arg = kernel->arg};

	config.capture = capture_tap_of(front);
	if (!config.capture)
		return error_set(err, ENOMEM, "no memory for captures");
	for (uint32_t i = 0; i < setup->listener_count; i++)
		config.listeners[i] = (struct stream_nic_listener){
			.fd = setup->listeners[i].fd,
			.tcp_port = setup->listeners[i].tcp_port,
			.tls = setup->listeners[i].tls};
	return stream_nic_create(&config, &front->loop, err);
}

int front_open_streams(
	struct front *front, front_opener *opener, struct error *err)
{
	struct mapped certificate, key;
	struct stream_kernel_config config;
	int rc = map_identity(&front->setup, &certificate, &key, err);

	if (rc == 0) {
		fill_config(front, &config);
		config.certificate = certificate.text;
		config.certificate_length = certificate.length;
		config.key = key.text;
		config.key_length = key.length;
		rc = front->setup.polled ? open_polled(front, &config, err)
					 : opener(&config, &front->loop, err);
	}
	unmap_file(&certificate);
	unmap_file(&key);
	return rc;
}
