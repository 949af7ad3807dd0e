/* probe_fatbin.c - the compiled kernels, carried inside the program */
/* SPDX-License-Identifier: Apache-2.0 */
#include "probe_fatbin.h"

/* The build says where the fatbin lies: -DPROBE_FATBIN='"path"'. */
#ifndef PROBE_FATBIN
#define PROBE_FATBIN "probe.fatbin"
#endif

__asm__(".section .rodata\n"
	".balign 16\n"
	".globl probe_fatbin\n"
	".type probe_fatbin, @object\n"
	"probe_fatbin:\n"
	".incbin \"" PROBE_FATBIN "\"\n"
	".byte 0\n"
	".size probe_fatbin, . - probe_fatbin\n"
	".previous\n");
