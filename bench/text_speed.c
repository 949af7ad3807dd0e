/* text_speed.c - how fast text becomes tokens and tokens text (-> MB/s) */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * usage: text-speed [-o RESULT.json] [-p PEER] TOKENIZER.json...
 *        text-speed -w PROSE
 * Texts of 1 MB: prose (/usr/share/common-licenses and docs/), and one byte
 * repeated. One thread, processor time, medians of RUN_COUNT runs. The limit
 * of a speed is that of copying memory, measured in the same run. PEER holds
 * lines "FILE MB/s" of another implementation over the prose that -w writes.
 */
#include <errno.h>
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "bench/median.h"
#include "bench/report.h"
#include "dataplane/detokenizer.h"
#include "dataplane/tokenizer.h"

#define TEXT_BYTES ((size_t)1 << 20)
#define IDS_MAX (2 * TEXT_BYTES)
#define FILE_BYTES_MAX ((size_t)64 << 20)
#define RUN_COUNT 9

/* Figures of one tokenizer, and so how many tokenizers a report holds. */
#define FIGURE_COUNT 9
#define TOKENIZER_COUNT_MAX (REPORT_ROW_COUNT_MAX / FIGURE_COUNT)

struct bench {
	struct tokenizer *tok;
	struct tokenizer_scratch *scratch;
	const char *name;
	uint32_t *ids;
	double copy_speed; /* MB/s */
	double peer_speed; /* MB/s; 0: not known */
	const char *peers; /* file, or NULL */
	struct report report;
};

static double now(void)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void record(struct bench *bench, const char *what, double value,
	const char *unit, double peer)
{
	struct report *report = &bench->report;
	bool is_speed = strcmp(unit, "MB/s") == 0;

	printf("%-16s %-22s %10.2f %s", bench->name, what, value, unit);
	if (peer > 0)
		printf(" (Hugging Face tokenizers: %.2f)", peer);
	printf("\n");
	report_add_named(report,
		&(struct report_row){
			.value = value,
			.unit = unit,
			.limit = is_speed ? bench->copy_speed : 0,
			.peer = peer > 0 ? "Hugging Face tokenizers" : NULL,
			.peer_value = peer,
		},
		"text.%s.%s", bench->name, what);
}

/* Seconds of one encoding; exits where it fails. */
static double encode(struct bench *bench, const char *text, size_t *count)
{
	const struct tokenizer_input input = {
		.text = text, .length = TEXT_BYTES};
	double start = now();
	int rc = tokenizer_encode(
		bench->scratch, &input, bench->ids, IDS_MAX, count);

	if (rc) {
		fprintf(stderr, "encode: %s\n", strerror(-rc));
		exit(1);
	}
	return now() - start;
}

static double encode_often(struct bench *bench, const char *text, size_t *count)
{
	double runs[RUN_COUNT];

	for (int i = 0; i < RUN_COUNT; i++)
		runs[i] = encode(bench, text, count);
	return median(runs, RUN_COUNT);
}

/*
 * What a text costs beside prose: the median of pairs, since a shared machine
 * changes its speed between two medians.
 */
static double cost_of(struct bench *bench, const char *text, const char *prose)
{
	double ratios[RUN_COUNT];
	size_t count;

	for (int i = 0; i < RUN_COUNT; i++) {
		double plain = encode(bench, prose, &count);

		ratios[i] = encode(bench, text, &count) / plain;
	}
	return median(ratios, RUN_COUNT);
}

static double decode(struct bench *bench, size_t count)
{
	struct detokenizer d;
	struct stop_set stops;
	const char *const texts[] = {"<|im_end|>", "\n\nUser:"};
	const size_t lengths[] = {10, 7};
	size_t bytes = 0;
	double start;

	if (stop_set_init(&stops, texts, lengths, 2))
		exit(1);
	detokenizer_init(&d, bench->tok, &stops, true);
	start = now();
	for (size_t i = 0; i < count; i++)
		bytes += detokenizer_push(&d, bench->ids[i]).length;
	bytes += detokenizer_finish(&d).length;
	if (bytes < TEXT_BYTES / 2)
		exit(1);
	return (now() - start) * 1e9 / (double)count;
}

static void measure(struct bench *bench, const char *prose, char *run)
{
	const double mega = (double)TEXT_BYTES / 1e6;
	double runs[RUN_COUNT];
	double worst = 0;
	double plain;
	size_t count;
	int which = 0;

	record(bench, "prose_first", mega / encode(bench, prose, &count),
		"MB/s", 0);
	plain = encode_often(bench, prose, &count);
	record(bench, "prose", mega / plain, "MB/s", bench->peer_speed);
	record(bench, "prose_bytes_per_token",
		(double)TEXT_BYTES / (double)count, "B", 0);
	for (int i = 0; i < RUN_COUNT; i++)
		runs[i] = decode(bench, count);
	record(bench, "decode_two_stops", median(runs, RUN_COUNT), "ns/token",
		0);
	/* Every byte that is a text of its own. */
	for (int byte = 0; byte < 128; byte++) {
		double seconds = 1e9;

		memset(run, byte, TEXT_BYTES);
		for (int i = 0; i < 2; i++) {
			double once = encode(bench, run, &count);

			seconds = once < seconds ? once : seconds;
		}
		which = seconds > worst ? byte : which;
		worst = seconds > worst ? seconds : worst;
	}
	memset(run, which, TEXT_BYTES);
	worst = encode_often(bench, run, &count);
	record(bench, "one_byte_worst", mega / worst, "MB/s", 0);
	record(bench, "one_byte_which", which, "byte", 0);
	record(bench, "one_byte_cost", cost_of(bench, run, prose), "x prose",
		0);
	/* No UTF-8: each byte becomes three. */
	memset(run, 0xff, TEXT_BYTES);
	record(bench, "bad_byte_cost", cost_of(bench, run, prose), "x prose",
		0);
}

static char *read_file(const char *path, size_t *length)
{
	FILE *file = fopen(path, "rb");
	char *text = malloc(FILE_BYTES_MAX);

	*length = file && text ? fread(text, 1, FILE_BYTES_MAX, file) : 0;
	if (file)
		fclose(file);
	return text;
}

/* TEXT_BYTES of prose, repeated where the files have less. */
static bool fill_prose(char *prose)
{
	static const char *const patterns[] = {
		"/usr/share/common-licenses/*", "docs/*.md"};
	size_t used = 0;
	glob_t paths;

	for (size_t i = 0; i < 2; i++)
		(void)glob(patterns[i], i ? GLOB_APPEND : 0, NULL, &paths);
	for (size_t i = 0; i < paths.gl_pathc && used < TEXT_BYTES; i++) {
		size_t length;
		char *text = read_file(paths.gl_pathv[i], &length);

		if (length > TEXT_BYTES - used)
			length = TEXT_BYTES - used;
		if (text)
			memcpy(prose + used, text, length);
		used += text ? length : 0;
		free(text);
	}
	globfree(&paths);
	for (size_t i = used; used && i < TEXT_BYTES; i++)
		prose[i] = prose[i - used];
	return used > 0;
}

/* The peer's speed with a file of this name, or 0. */
static double find_peer(const char *path, const char *name)
{
	FILE *file = path ? fopen(path, "r") : NULL;
	char line[512];
	double speed = 0;

	while (file && fgets(line, sizeof(line), file)) {
		char *space = strchr(line, ' ');

		if (!space)
			continue;
		*space = '\0';
		if (strcmp(line, name) == 0)
			speed = strtod(space + 1, NULL);
	}
	if (file)
		fclose(file);
	return speed;
}

static int run_tokenizer(
	struct bench *bench, const char *path, const char *prose, char *run)
{
	struct error err = {0};
	const char *slash = strrchr(path, '/');
	double start = now();
	size_t length;
	char *json = read_file(path, &length);
	int rc;

	bench->name = slash ? slash + 1 : path;
	bench->peer_speed = find_peer(bench->peers, bench->name);
	rc = json ? tokenizer_create(json, length, path, &bench->tok, &err) : 1;
	free(json);
	if (rc || tokenizer_scratch_create(
			  bench->tok, 3 * TEXT_BYTES, &bench->scratch)) {
		fprintf(stderr, "%s: %s\n", path, err.text);
		tokenizer_destroy(bench->tok);
		bench->tok = NULL;
		return 1;
	}
	record(bench, "load", (now() - start) * 1e3, "ms", 0);
	measure(bench, prose, run);
	tokenizer_scratch_destroy(bench->scratch);
	tokenizer_destroy(bench->tok);
	bench->scratch = NULL;
	bench->tok = NULL;
	return 0;
}

/* MB/s of copying a text; the copy is looked at, so that it is made. */
static double measure_copy(const char *from, char *to)
{
	double runs[RUN_COUNT], speed;
	unsigned sum = 0;

	for (int i = 0; i < RUN_COUNT; i++) {
		double start = now();

		for (size_t k = 0; k < 16; k++) {
			memcpy(to, from, TEXT_BYTES);
			sum += (unsigned char)to[sum % TEXT_BYTES];
		}
		runs[i] = now() - start;
	}
	speed = 16 * (double)TEXT_BYTES / 1e6 / median(runs, RUN_COUNT);
	printf("copying memory: %.0f MB/s (check %u)\n", speed, sum % 2);
	return speed;
}

/* Measure with each tokenizer; the buffers live as long as all of them. */
static int run_all(struct bench *bench, char **paths, int count)
{
	char *prose = malloc(TEXT_BYTES);
	char *run = malloc(TEXT_BYTES);
	int rc = 1;

	bench->ids = malloc(IDS_MAX * sizeof(uint32_t));
	if (prose && run && bench->ids && fill_prose(prose)) {
		bench->copy_speed = measure_copy(prose, run);
		rc = 0;
	}
	if (!bench->peers)
		printf("no figures of Hugging Face tokenizers: run "
		       "`make compare-tokenizers` first\n");
	for (int i = 0; rc == 0 && i < count; i++)
		rc = run_tokenizer(bench, paths[i], prose, run);
	free(bench->ids);
	free(run);
	free(prose);
	return rc;
}

static int write_prose(const char *path)
{
	char *prose = malloc(TEXT_BYTES);
	FILE *file = fopen(path, "wb");
	int rc = 1;

	if (prose && file && fill_prose(prose))
		rc = fwrite(prose, 1, TEXT_BYTES, file) != TEXT_BYTES;
	if (file)
		rc |= fclose(file) != 0;
	free(prose);
	return rc;
}

/* All figures, and into `path` where one is given. */
static int run_to_file(
	struct bench *bench, char **paths, int count, const char *path)
{
	struct error err = {0};
	int rc;

	if (count > TOKENIZER_COUNT_MAX) {
		fprintf(stderr, "text-speed: %d tokenizers, at most %d\n",
			count, TOKENIZER_COUNT_MAX);
		return 2;
	}
	rc = run_all(bench, paths, count);
	if (report_write(&bench->report, path, NULL, &err)) {
		fprintf(stderr, "text-speed: %s\n", err.text);
		return 1;
	}
	return rc;
}

int main(int argc, char **argv)
{
	struct bench bench = {0};
	const char *path = NULL;
	int option;

	while ((option = getopt(argc, argv, "o:p:w:")) != -1) {
		if (option == 'w')
			return write_prose(optarg);
		if (option == 'p')
			bench.peers = optarg;
		if (option == 'o')
			path = optarg;
	}
	if (optind < argc)
		return run_to_file(&bench, argv + optind, argc - optind, path);
	fprintf(stderr, "usage: text-speed [-o RESULT.json] [-p PEER] "
			"TOKENIZER.json... | -w PROSE\n");
	return 2;
}
