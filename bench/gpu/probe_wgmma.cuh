/*
 * probe_wgmma.cuh - the two matrix instructions as functions, sm_90a and sm_80
 *
 * Why:        inline assembly with up to 128 operands is unreadable inside a
 *             kernel; here each form stands once.
 * Invariants: both operands are K-major bf16, the accumulator is fp32.
 * Threads:    wgmma_*: all 128 threads of a warpgroup, converged; mma_bf16:
 *             all 32 threads of a warp, converged.
 * Limits:     on anything but sm_90a the wgmma functions trap: the host never
 *             launches their kernels there.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PROBE_WGMMA_CUH
#define PROBE_WGMMA_CUH

#include <stdint.h>

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define PROBE_WGMMA 1
#else
#define PROBE_WGMMA 0
#endif

/*
 * mma.sync m16n8k16, bf16 in, fp32 out (PTX ISA, "Matrix Fragments for
 * mma.m16n8k16"). With g = lane / 4 and t = lane % 4:
 *   a[0] = A[g][2t, 2t+1]      a[1] = A[g+8][2t, 2t+1]
 *   a[2] = A[g][2t+8, 2t+9]    a[3] = A[g+8][2t+8, 2t+9]
 *   b[0] = B[2t, 2t+1][g]      b[1] = B[2t+8, 2t+9][g]
 *   d[0], d[1] = D[g][2t, 2t+1]   d[2], d[3] = D[g+8][2t, 2t+1]
 */
static __device__ __forceinline__ void mma_bf16(
	float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2])
{
	asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
		     "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
		     "{%0, %1, %2, %3};"
		     : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
		     : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]),
		     "r"(b[1]));
}

/*
 * The shared-memory matrix descriptor (PTX ISA, "Matrix Descriptor Format"):
 *   bits  0-13  address >> 4
 *   bits 16-29  leading dimension byte offset (LBO) >> 4
 *   bits 32-45  stride dimension byte offset (SBO) >> 4
 *   bits 49-51  base offset, 0 for an address aligned to the pattern
 *   bits 62-63  0 no swizzle, 1 128-byte, 2 64-byte, 3 32-byte swizzle
 *
 * Without swizzle a K-major operand is made of core matrices of 8 rows by 16
 * bytes (8 bf16 of K), each 128 contiguous bytes, row after row. In CuTe's
 * words the canonical layout is ((8,m),(T,2)) : ((1T,SBO),(1,LBO)), T = 8:
 *   LBO = bytes from a core matrix to its neighbour in K (the next 16 bytes
 *         of the same 8 rows); one instruction reads exactly two of them;
 *   SBO = bytes from a core matrix to its neighbour 8 rows further down.
 */
static __device__ __forceinline__ uint64_t wgmma_descriptor(
	uint32_t address, uint32_t lbo, uint32_t sbo, uint32_t swizzle)
{
	return (uint64_t)((address & 0x3ffffu) >> 4) |
	       (uint64_t)(lbo >> 4) << 16 | (uint64_t)(sbo >> 4) << 32 |
	       (uint64_t)swizzle << 62;
}

/* Ordinary stores to shared memory become visible to wgmma: every writing
 * thread calls this, then the barrier. */
static __device__ __forceinline__ void wgmma_publish_shared(void)
{
#if PROBE_WGMMA
	asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
#endif
}

/* Before the first wgmma, and whenever other instructions wrote the
 * accumulator registers. */
static __device__ __forceinline__ void wgmma_fence(void)
{
#if PROBE_WGMMA
	asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
#endif
}

/* Close the group of wgmma issued so far and wait until all have finished. */
static __device__ __forceinline__ void wgmma_finish(void)
{
#if PROBE_WGMMA
	asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
	asm volatile("wgmma.wait_group.sync.aligned 0;" ::: "memory");
#else
	__trap();
#endif
}

/*
 * The text and the operands of wgmma.m64nNk16 for each N. The last three
 * operands are the descriptors of A and B and the flag "add to D".
 */
#define WG_S4(a, b, c, d) "%" #a ", %" #b ", %" #c ", %" #d
#define WG_R4 WG_S4(0, 1, 2, 3)
#define WG_R8 WG_R4 ", " WG_S4(4, 5, 6, 7)
#define WG_R16 WG_R8 ", " WG_S4(8, 9, 10, 11) ", " WG_S4(12, 13, 14, 15)
#define WG_R32                                                                 \
	WG_R16 ", " WG_S4(16, 17, 18, 19) ", " WG_S4(20, 21, 22,               \
		23) ", " WG_S4(24, 25, 26, 27) ", " WG_S4(28, 29, 30, 31)
#define WG_R64                                                                 \
	WG_R32 ", " WG_S4(32, 33, 34, 35) ", " WG_S4(                          \
		36, 37, 38, 39) ", " WG_S4(40, 41, 42, 43) ", " WG_S4(44, 45,  \
		46, 47) ", " WG_S4(48, 49, 50, 51) ", " WG_S4(52, 53, 54,      \
		55) ", " WG_S4(56, 57, 58, 59) ", " WG_S4(60, 61, 62, 63)
#define WG_R128                                                                \
	WG_R64 ", " WG_S4(64, 65, 66, 67) ", " WG_S4(                          \
		68, 69, 70, 71) ", " WG_S4(72, 73, 74, 75) ", " WG_S4(76, 77,  \
		78, 79) ", " WG_S4(80, 81, 82, 83) ", " WG_S4(84, 85, 86,      \
		87) ", " WG_S4(88, 89, 90, 91) ", " WG_S4(92, 93, 94,          \
		95) ", " WG_S4(96, 97, 98, 99) ", " WG_S4(100, 101, 102,       \
		103) ", " WG_S4(104, 105, 106, 107) ", " WG_S4(108, 109, 110,  \
		111) ", " WG_S4(112, 113, 114, 115) ", " WG_S4(116, 117, 118,  \
		119) ", " WG_S4(120, 121, 122, 123) ", " WG_S4(124, 125, 126,  \
		127)
#define WG_F4(d, i) "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3])
#define WG_F8(d, i) WG_F4(d, i), WG_F4(d, i + 4)
#define WG_F16(d, i) WG_F8(d, i), WG_F8(d, i + 8)
#define WG_F32(d, i) WG_F16(d, i), WG_F16(d, i + 16)
#define WG_F64(d, i) WG_F32(d, i), WG_F32(d, i + 32)
#define WG_F128(d, i) WG_F64(d, i), WG_F64(d, i + 64)
#define WG_ASM(n, regs, a, b, add, outs)                                       \
	asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %" #add ", 0;\n"        \
		     "wgmma.mma_async.sync.aligned.m64n" #n                    \
		     "k16.f32.bf16.bf16 {" regs "}, %" #a ", %" #b             \
		     ", p, 1, 1, 0, 0;\n}\n"                                   \
		     : outs                                                    \
		     : "l"(desc_a), "l"(desc_b), "r"(1))

/*
 * d[64 x N] += A[64 x 16] * B[16 x N]. Thread t of the warpgroup holds N / 2
 * floats: d[i] is row (t / 32) * 16 + (t % 32) / 4 + 8 * ((i / 2) % 2), column
 * 8 * (i / 4) + 2 * (t % 4) + i % 2 (PTX ISA, figure "accumulator matrix D").
 */
template <int N>
static __device__ __forceinline__ void wgmma_bf16(
	float (&d)[N / 2], uint64_t desc_a, uint64_t desc_b)
{
#if PROBE_WGMMA
	if constexpr (N == 8)
		WG_ASM(8, WG_R4, 4, 5, 6, WG_F4(d, 0));
	else if constexpr (N == 16)
		WG_ASM(16, WG_R8, 8, 9, 10, WG_F8(d, 0));
	else if constexpr (N == 32)
		WG_ASM(32, WG_R16, 16, 17, 18, WG_F16(d, 0));
	else if constexpr (N == 64)
		WG_ASM(64, WG_R32, 32, 33, 34, WG_F32(d, 0));
	else if constexpr (N == 128)
		WG_ASM(128, WG_R64, 64, 65, 66, WG_F64(d, 0));
	else
		WG_ASM(256, WG_R128, 128, 129, 130, WG_F128(d, 0));
#else
	(void)d;
	(void)desc_a;
	(void)desc_b;
	__trap();
#endif
}

#endif
