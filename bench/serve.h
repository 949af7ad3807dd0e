/* serve.h - the load generator as a command (argv -> exit status) */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HEDDLE_BENCH_SERVE_H
#define HEDDLE_BENCH_SERVE_H

/* 0: every request was whole; 1: some failed; 2: wrong usage or no run. */
int serve_main(int argc, char **argv);

#endif
