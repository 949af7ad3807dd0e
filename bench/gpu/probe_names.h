/*
 * probe_names.h - every section and every result of the card probe, by name
 *
 * Why:        decisions hang on results by name, so names are stable; this is
 *             the one place where they, their units and meanings stand.
 * Invariants: a name that no pattern covers is refused by the writer
 *             (asserted); a pattern is a name with '*' for one dotted part.
 * Threads:    constant data.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PROBE_NAMES_H
#define PROBE_NAMES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * X(name, limit in seconds, what). In running order: what decides most stands
 * first, should the time run out. The last three are no sections of their own
 * but the processes of "hold".
 */
#define PROBE_SECTIONS(X)                                                      \
	X(info, 30, "what the card and its driver say of themselves")          \
	X(mem, 25, "read, write and copy bandwidth of device memory")          \
	X(host, 25, "pinned host memory to the device and back")               \
	X(launch, 20, "gap between kernels, in a graph and out of one")        \
	X(vmm, 45, "create, map, set-access, unmap, release")                  \
	X(remap, 25, "replay of a captured graph after a remap")               \
	X(alias, 30, "one handle mapped at two addresses")                     \
	X(rows, 40, "do a row's bits change with the number of rows")          \
	X(busy, 30, "mapping calls while a kernel streams elsewhere")          \
	X(near, 30, "mapping calls in the reservation that a kernel reads")    \
	X(hold, 60, "memory of a dead process, held by a descriptor")          \
	X(share, 25, "export and import of handles by descriptor")             \
	X(rdma, 25, "dma-buf export over one and over many handles")           \
	X(scatter, 40, "reading scattered 2 MiB pages")                        \
	X(mma, 20, "bf16 matrix rate")                                         \
	X(window, 75, "a whole pool of 2 MiB handles in one window")           \
	X(cublaslt, 60, "do cuBLASLt's bits change with the number of rows")   \
	X(hold_make, 25, "")                                                   \
	X(hold_check, 25, "")                                                  \
	X(hold_after, 25, "")

#define PROBE_SECTION_ID(name, limit_s, what) PROBE_##name,
enum probe_section_id { PROBE_SECTIONS(PROBE_SECTION_ID) PROBE_CHILD_COUNT };
#undef PROBE_SECTION_ID

#define PROBE_SECTION_COUNT ((int)PROBE_hold_make)

struct probe_section_name {
	const char *name;
	unsigned limit_s;
	const char *what;
};

struct probe_result_name {
	const char *pattern;
	const char *unit;
	const char *what;
};

extern const struct probe_section_name probe_section_names[PROBE_CHILD_COUNT];
extern const struct probe_result_name probe_result_names[];
extern const size_t probe_result_name_count;

/* Index in probe_section_names, -1 when there is none; `length` bytes. */
int probe_section_find(const char *name, size_t length);

/* The entry whose pattern covers `name`; NULL when there is none. */
const struct probe_result_name *probe_result_find(const char *name);

/* True when '*' of `pattern` stand for whole dotted parts of `name`. */
bool probe_name_match(const char *pattern, const char *name);

#endif
