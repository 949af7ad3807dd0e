/* adapters.h - heddle-bench adapters: what adapters cost steps and loads */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HEDDLE_BENCH_ADAPTERS_H
#define HEDDLE_BENCH_ADAPTERS_H

/* The subcommand; returns its exit status. */
int adapters_main(int argc, char **argv);

#endif
