/* dataplane.h - what a token event costs the dataplane, as a command */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HEDDLE_BENCH_DATAPLANE_H
#define HEDDLE_BENCH_DATAPLANE_H

/* 0: every limit was kept; 1: one was not; 2: no measurement. */
int dataplane_main(int argc, char **argv);

#endif
