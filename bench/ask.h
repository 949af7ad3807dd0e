/* ask.h - one question to a server, its answer as it comes (argv -> status) */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HEDDLE_BENCH_ASK_H
#define HEDDLE_BENCH_ASK_H

/* 0: a whole answer; 1: it failed, said why; 2: wrong usage. */
int ask_main(int argc, char **argv);

#endif
