/* probe_info.c - what the card and its driver say of themselves (info) */
/* SPDX-License-Identifier: Apache-2.0 */
#include "probe_range.h"
#include "probe_section.h"

#include <errno.h>
#include <math.h>
#include <string.h>

static void say_text(struct probe *p, const char *name, const char *text)
{
	struct probe_record record = {.kind = PROBE_ATTRIBUTE,
		.value = NAN,
		.p99 = NAN,
		.limit = NAN};

	probe_text_set(record.name, sizeof(record.name), name);
	probe_text_set(record.text, sizeof(record.text), text);
	probe_record_write(p, &record);
}

static void say_number(struct probe *p, const char *name, double value)
{
	struct probe_record record = {.kind = PROBE_ATTRIBUTE,
		.value = value,
		.p99 = NAN,
		.limit = NAN};

	probe_text_set(record.name, sizeof(record.name), name);
	probe_record_write(p, &record);
}

/*
 * Numbers of CUdevice_attribute from the cuda.h of CUDA 13.0, so that an
 * older header still builds; a driver that does not know one is not asked on.
 */
static const struct {
	const char *name;
	int attribute;
} attributes[] = {
	{"clock_khz", 13},
	{"sm_count", 16},
	{"ecc", 32},
	{"pci_bus", 33},
	{"memory_clock_khz", 36},
	{"bus_bits", 37},
	{"l2_bytes", 38},
	{"copy_engines", 40},
	{"major", 75},
	{"minor", 76},
	{"vmm_supported", 102},
	{"handle_fd_supported", 103},
	{"gpu_direct_rdma_with_vmm_supported", 110},
	{"gpu_direct_rdma_supported", 116},
	{"gpu_direct_rdma_writes_ordering", 118},
	{"dma_buf_supported", 124},
	{"handle_fabric_supported", 128},
	{"host_numa_id", 134},
	{"host_numa_vmm_supported", 141},
	{"host_vmm_supported", 145},
	{"host_alloc_dma_buf_supported", 146},
};

static void say_granularity(struct probe *p, const char *name, unsigned flags,
	CUmemAllocationGranularity_flags option)
{
	CUmemAllocationProp properties = probe_properties(p, flags);
	size_t bytes = 0;

	if (p->cu.granularity(&bytes, &properties, option) == CUDA_SUCCESS)
		say_number(p, name, (double)bytes);
}

/* The kernel module's own line, where there is one. */
static void say_kernel_module(struct probe *p)
{
	char line[PROBE_TEXT_MAX];
	FILE *file = fopen("/proc/driver/nvidia/version", "r");

	if (file == NULL)
		return;
	if (fgets(line, sizeof(line), file) != NULL) {
		line[strcspn(line, "\n")] = '\0';
		say_text(p, "kernel_module", line);
	}
	(void)fclose(file);
}

int probe_section_info(struct probe *p)
{
	char name[PROBE_TEXT_MAX] = "";
	int driver = 0;
	size_t bytes = 0;

	if (probe_cu(p, p->cu.device_name(name, (int)sizeof(name), p->device),
		    "cuDeviceGetName") != 0 ||
		probe_cu(p, p->cu.driver_version(&driver),
			"cuDriverGetVersion") != 0 ||
		probe_cu(p, p->cu.device_memory(&bytes, p->device),
			"cuDeviceTotalMem") != 0)
		return -EIO;
	say_text(p, "card", name);
	say_number(p, "driver", driver);
	say_number(p, "cuda_build", CUDA_VERSION);
	say_number(p, "total_bytes", (double)bytes);
	say_number(p, "free_bytes", (double)p->free_bytes);
	say_number(p, "peak_gb_s", p->peak_gb_s);
	say_kernel_module(p);
	for (size_t i = 0; i < sizeof(attributes) / sizeof(attributes[0]);
		i++) {
		int value = 0;

		if (probe_attribute(p, attributes[i].attribute, &value) == 0)
			say_number(p, attributes[i].name, value);
	}
	say_granularity(p, "granularity_min", PROBE_PLAIN,
		CU_MEM_ALLOC_GRANULARITY_MINIMUM);
	say_granularity(p, "granularity_recommended", PROBE_PLAIN,
		CU_MEM_ALLOC_GRANULARITY_RECOMMENDED);
	say_granularity(p, "granularity_product_min", probe_product_flags(p),
		CU_MEM_ALLOC_GRANULARITY_MINIMUM);
	return 0;
}
