/* memmgr.h - heddle-bench memmgr: what adapters cost in memory and time */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HEDDLE_BENCH_MEMMGR_H
#define HEDDLE_BENCH_MEMMGR_H

/* The subcommand; returns its exit status. */
int memmgr_main(int argc, char **argv);

#endif
