/* cpu.c - the CPU back ends: which there are, and how to make one */
/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "gpu/cpu/backend_fast.h"
#include "gpu/cpu/backend_ref.h"
#include "gpu/cpu/cpu.h"
#include "gpu/cpu/gemm_amx.h"

static const char *const names[CPU_ISA_COUNT] = {
	[CPU_REFERENCE] = "reference",
	[CPU_AVX2] = "avx2",
	[CPU_AVX512] = "avx512",
	[CPU_AMX] = "amx",
};

const char *cpu_isa_name(enum cpu_isa isa)
{
	assert(isa < CPU_ISA_COUNT);
	return names[isa];
}

#ifdef __x86_64__

#include <cpuid.h>

/* The compiler's own query knows the rest, and asks the kernel, too. */
static bool has_f16c(void)
{
	unsigned int eax, ebx, ecx, edx;

	return __get_cpuid(1, &eax, &ebx, &ecx, &edx) && (ecx & bit_F16C);
}

static bool has_avx2(void)
{
	return __builtin_cpu_supports("avx2") &&
	       __builtin_cpu_supports("fma") && has_f16c();
}

static bool has_avx512(void)
{
	return has_avx2() && __builtin_cpu_supports("avx512f") &&
	       __builtin_cpu_supports("avx512bw") &&
	       __builtin_cpu_supports("avx512vl") &&
	       __builtin_cpu_supports("avx512dq");
}

static bool has_amx(void)
{
	return has_avx512() && amx_works();
}

static int create_fast(enum cpu_isa isa, const struct ops_limits *limits,
	uint32_t thread_count, const uint32_t *cores, struct ops *out)
{
	if (isa == CPU_AMX)
		return ops_create_amx(limits, thread_count, cores, out);
	if (isa == CPU_AVX512)
		return ops_create_avx512(limits, thread_count, cores, out);
	return ops_create_avx2(limits, thread_count, cores, out);
}

#else

static bool has_avx2(void)
{
	return false;
}

static bool has_avx512(void)
{
	return false;
}

static bool has_amx(void)
{
	return false;
}

static int create_fast(enum cpu_isa isa, const struct ops_limits *limits,
	uint32_t thread_count, const uint32_t *cores, struct ops *out)
{
	(void)isa;
	(void)limits;
	(void)thread_count;
	(void)cores;
	(void)out;
	return -EINVAL; /* cpu_isa_works() said no */
}

#endif

bool cpu_isa_works(enum cpu_isa isa)
{
	if (isa == CPU_AMX)
		return has_amx();
	if (isa == CPU_AVX512)
		return has_avx512();
	if (isa == CPU_AVX2)
		return has_avx2();
	return isa == CPU_REFERENCE;
}

static enum cpu_isa best_isa(void)
{
	enum cpu_isa isa = CPU_ISA_COUNT;

	while (!cpu_isa_works(--isa))
		;
	return isa;
}

int cpu_isa_choose(enum cpu_isa *out, struct error *err)
{
	const char *wanted = getenv("HEDDLE_ISA");

	*out = best_isa();
	if (!wanted || !*wanted)
		return 0;
	for (enum cpu_isa isa = 0; isa < CPU_ISA_COUNT; isa++) {
		if (strcmp(wanted, names[isa]) != 0)
			continue;
		if (!cpu_isa_works(isa))
			return error_set(err, EINVAL,
				"HEDDLE_ISA=%s: this processor has no such "
				"instructions; the best that works is %s",
				wanted, names[*out]);
		*out = isa;
		return 0;
	}
	return error_set(err, EINVAL,
		"HEDDLE_ISA=%.32s: not one of reference, avx2, avx512, amx",
		wanted);
}

enum weight_layout cpu_isa_layout(enum cpu_isa isa)
{
	return isa == CPU_REFERENCE ? WEIGHT_ROWS : WEIGHT_PANELS;
}

int ops_create_cpu(enum cpu_isa isa, const struct ops_limits *limits,
	uint32_t thread_count, const uint32_t *cores, struct ops *out)
{
	assert(cpu_isa_works(isa));
	if (isa != CPU_REFERENCE)
		return create_fast(isa, limits, thread_count, cores, out);
	return ops_create_reference(limits, thread_count, out);
}
