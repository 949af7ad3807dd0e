/* frontend.h - the front end's ceiling as a command (argv -> exit status) */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HEDDLE_BENCH_FRONTEND_H
#define HEDDLE_BENCH_FRONTEND_H

/* 0: every figure reached its limit; 1: some did not; 2: no measurement. */
int frontend_main(int argc, char **argv);

#endif
