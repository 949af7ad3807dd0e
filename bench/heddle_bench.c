/* heddle_bench.c - load the appliance from outside (argv -> subcommand) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <string.h>

#include "bench/adapters.h"
#include "bench/ask.h"
#include "bench/batch.h"
#include "bench/dataplane.h"
#include "bench/frontend.h"
#include "bench/memmgr.h"
#include "bench/serve.h"
#include "bench/tcp_speed.h"
#include "bench/tls_speed.h"

static void usage(FILE *out)
{
	fprintf(out,
		"usage: heddle-bench COMMAND [OPTION...]\n\n"
		"  ask       one question, its answer as it comes\n"
		"  serve     load an OpenAI-compatible server, check every "
		"answer, report\n"
		"  batch     the batching engine beside llama.cpp and others\n"
		"  frontend  the front end's ceiling beside a bare loop\n"
		"  memmgr    what adapters cost in memory and time\n"
		"  adapters  what adapters cost steps and loads\n"
		"  dataplane a token event from ring to wire, over both back "
		"ends\n"
		"  tcp       what a segment costs our own TCP\n"
		"  tls       what a record costs our own TLS\n\n"
		"heddle-bench COMMAND --help lists the options.\n");
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		int (*run)(int argc, char **argv);
	} commands[] = {{"ask", ask_main}, {"serve", serve_main},
		{"batch", batch_main}, {"frontend", frontend_main},
		{"memmgr", memmgr_main}, {"adapters", adapters_main},
		{"dataplane", dataplane_main}, {"tcp", tcp_speed_main},
		{"tls", tls_speed_main}};

	if (argc > 1 && strcmp(argv[1], "--help") == 0) {
		usage(stdout);
		return 0;
	}
	for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
		if (argc > 1 && strcmp(argv[1], commands[i].name) == 0)
			return commands[i].run(argc - 1, argv + 1);
	usage(stderr);
	return 2;
}
