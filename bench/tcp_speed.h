/* tcp_speed.h - what a segment costs our TCP, as a command (argv -> status) */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HEDDLE_BENCH_TCP_SPEED_H
#define HEDDLE_BENCH_TCP_SPEED_H

/* 0: every figure reached its limit; 1: some did not; 2: no measurement. */
int tcp_speed_main(int argc, char **argv);

#endif
