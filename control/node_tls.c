/* node_tls.c - who we are to clients (PEM files -> checked descriptors) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "control/node_setup.h"
#include "dataplane/tls_handshake.h"

#define PEM_BYTES_MAX ((off_t)1 << 20)

struct pem {
	int fd; /* a copy: the file may be written anew at any time */
	void *text; /* NULL = not mapped */
	size_t length;
};

static void unmap_pem(struct pem *pem)
{
	if (pem->text)
		munmap(pem->text, pem->length);
	pem->text = NULL;
}

static int copy_file(int from, int to, size_t length)
{
	char piece[4096];

	while (length > 0) {
		ssize_t got = read(from, piece, sizeof(piece));

		if (got <= 0 || (size_t)got > length)
			return got < 0 ? -errno : -EIO;
		if (write(to, piece, (size_t)got) != got)
			return -EIO;
		length -= (size_t)got;
	}
	return 0;
}

static int take_copy(int from, struct pem *out)
{
	void *text;
	int rc;

	out->fd = memfd_create("heddle-pem", MFD_CLOEXEC);
	if (out->fd < 0)
		return -errno;
	rc = copy_file(from, out->fd, out->length);
	if (rc)
		return rc;
	text = mmap(NULL, out->length, PROT_READ, MAP_PRIVATE, out->fd, 0);
	if (text == MAP_FAILED)
		return -errno;
	out->text = text;
	return 0;
}

static int open_pem(const char *path, struct pem *out, struct error *err)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	struct stat status;
	int rc;

	if (fd < 0)
		return error_set(err, errno, "%s: %s", path, strerror(errno));
	if (fstat(fd, &status) || status.st_size <= 0 ||
		status.st_size > PEM_BYTES_MAX) {
		rc = error_set(err, EINVAL,
			"%s: a PEM file has 1 to %lld bytes", path,
			(long long)PEM_BYTES_MAX);
	} else {
		out->length = (size_t)status.st_size;
		rc = take_copy(fd, out);
		if (rc)
			error_set(err, -rc, "%s: %s", path, strerror(-rc));
	}
	close(fd);
	return rc;
}

/* Do the two belong together? Found here, not when clients are turned away. */
static int check(
	const struct pem *certificate, const struct pem *key, struct error *err)
{
	struct tls_context *context = NULL;
	int rc = tls_context_create(certificate->text, certificate->length,
		key->text, key->length, &context, err);

	tls_context_destroy(context);
	return rc;
}

int node_tls_open(const struct options *options, struct front_setup *front,
	struct error *err)
{
	const char *path = options_text(options, OPTION_TLS_CERTIFICATE);
	bool is_set = options_is_set(options, OPTION_TLS_CERTIFICATE);
	struct pem certificate = {.fd = -1}, key = {.fd = -1};
	int rc;

	front->certificate_fd = front->certificate_key_fd = -1;
	if (is_set != options_is_set(options, OPTION_TLS_KEY))
		return error_set(
			err, EINVAL, "tls-certificate and tls-key go together");
	if (!is_set)
		return 0;
	rc = open_pem(path, &certificate, err);
	if (rc == 0)
		rc = open_pem(options_text(options, OPTION_TLS_KEY), &key, err);
	if (rc == 0) {
		rc = check(&certificate, &key, err);
		if (rc)
			error_prefix(err, "%s", path);
	}
	unmap_pem(&certificate);
	unmap_pem(&key);
	front->certificate_fd = certificate.fd;
	front->certificate_key_fd = key.fd;
	if (rc)
		node_tls_close(front);
	return rc;
}

void node_tls_close(struct front_setup *front)
{
	if (front->certificate_fd >= 0)
		close(front->certificate_fd);
	if (front->certificate_key_fd >= 0)
		close(front->certificate_key_fd);
	front->certificate_fd = front->certificate_key_fd = -1;
}
