/* tls_speed.h - what a TLS record costs, as a command (argv -> status) */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HEDDLE_BENCH_TLS_SPEED_H
#define HEDDLE_BENCH_TLS_SPEED_H

/* 0: measured; 2: no measurement. */
int tls_speed_main(int argc, char **argv);

#endif
