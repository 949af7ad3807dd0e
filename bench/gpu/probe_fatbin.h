/*
 * probe_fatbin.h - the compiled kernels, carried inside the program
 *
 * Why:        one file to copy to a machine with a card.
 * Threads:    constant data.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PROBE_FATBIN_H
#define PROBE_FATBIN_H

/* The fatbin of probe.cu, for cuModuleLoadData. */
extern const unsigned char probe_fatbin[];

#endif
