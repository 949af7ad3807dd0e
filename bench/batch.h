/* batch.h - heddle-bench batch: the batching engine beside others (argv) */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HEDDLE_BENCH_BATCH_H
#define HEDDLE_BENCH_BATCH_H

/* argv[0] is the subcommand; returns the exit status. */
int batch_main(int argc, char **argv);

#endif
