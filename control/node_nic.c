/* node_nic.c - the port of our own (options -> its part of the setup) */
/* SPDX-License-Identifier: Apache-2.0 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <linux/bpf.h>
#include <linux/capability.h>
#include <linux/ethtool.h>
#include <linux/sockios.h>

#include "control/node_setup.h"

#define HUGE_BYTES_WANTED ((uint64_t)64 << 20)

/* --- what the options say --------------------------------------------------------- */

static int wrong(enum option_id id, struct error *err)
{
	error_prefix(err, "%s", option_spec(id)->key);
	return err->code;
}

static bool parse_bits(const char *text, unsigned max, uint8_t *out)
{
	char *end;
	unsigned long bits = strtoul(text, &end, 10);

	*out = (uint8_t)bits;
	return text[0] >= '0' && text[0] <= '9' && *end == '\0' && bits > 0 &&
	       bits <= max;
}

/* "10.0.0.5/24" */
static int set_address(
	struct stream_nic_link *link, const char *text, struct error *err)
{
	static const uint8_t none[16];
	const char *slash = strchr(text, '/');
	char host[INET6_ADDRSTRLEN];
	uint8_t bytes[16];
	bool six;

	if (!slash || (size_t)(slash - text) >= sizeof(host))
		return error_set(err, EINVAL,
			"\"%s\" is not ADDR/BITS, such as 10.0.0.5/24", text);
	snprintf(host, sizeof(host), "%.*s", (int)(slash - text), text);
	six = inet_pton(AF_INET6, host, bytes) == 1;
	if (!six && inet_pton(AF_INET, host, bytes) != 1)
		return error_set(err, EINVAL, "\"%s\" is no address", host);
	if (memcmp(six ? link->ip6 : link->ip4, none, six ? 16 : 4) != 0)
		return error_set(err, EINVAL,
			"%s is the second address of its family; the port has "
			"one of each",
			text);
	if (memcmp(bytes, none, six ? 16 : 4) == 0 ||
		!parse_bits(slash + 1, six ? 128 : 32,
			six ? &link->prefix6_bits : &link->prefix4_bits))
		return error_set(
			err, EINVAL, "\"%s\" is no address of a network", text);
	memcpy(six ? link->ip6 : link->ip4, bytes, six ? 16 : 4);
	return 0;
}

static int set_gateway(
	struct stream_nic_link *link, const char *text, struct error *err)
{
	bool six = inet_pton(AF_INET6, text, link->gateway6) == 1;

	if (six ? link->prefix6_bits == 0
		: inet_pton(AF_INET, text, link->gateway4) == 1 &&
				link->prefix4_bits == 0)
		return error_set(err, EINVAL,
			"%s: the port has no address of this family", text);
	if (!six && inet_pton(AF_INET, text, link->gateway4) != 1)
		return error_set(err, EINVAL, "\"%s\" is no address", text);
	return 0;
}

static int parse_core(const char *text, int32_t *out, struct error *err)
{
	char *end;
	unsigned long core = strtoul(text, &end, 10);

	if (text[0] < '0' || text[0] > '9' || *end != '\0' ||
		core >= CPU_SETSIZE)
		return error_set(err, EINVAL,
			"\"%.32s\" is no processor: 0 to %d", text,
			CPU_SETSIZE - 1);
	*out = (int32_t)core;
	return 0;
}

/* One for each queue: two loops that poll on one core would halve each. */
static int set_cores(struct stream_nic_link *link,
	const struct option_value *list, struct error *err)
{
	uint32_t count = link->port.queue_count;

	for (uint32_t i = 0; i < NIC_QUEUE_COUNT_MAX; i++)
		link->cores[i] = -1;
	if (list->count == 0)
		return 0;
	if (list->count != count)
		return error_set(err, EINVAL,
			"%u processors for nic-queues: %u; each queue has one",
			list->count, count);
	for (uint32_t i = 0; i < count; i++) {
		int rc = parse_core(list->items[i], &link->cores[i], err);

		for (uint32_t k = 0; rc == 0 && k < i; k++)
			if (link->cores[k] == link->cores[i])
				rc = error_set(err, EINVAL,
					"processor %d is given twice",
					link->cores[i]);
		if (rc)
			return rc;
	}
	return 0;
}

static int set_link(const struct options *options, struct stream_nic_link *link,
	struct error *err)
{
	const struct option_value *own = &options->value[OPTION_NIC_ADDRESS];
	const struct option_value *way = &options->value[OPTION_NIC_GATEWAY];
	const char *device = options_text(options, OPTION_NIC_DEVICE);
	const char *standby = options_text(options, OPTION_NIC_STANDBY);

	if (device[0] == '\0' || own->count == 0)
		return error_set(err, EINVAL,
			"nic: dpdk needs nic-device and nic-address");
	if (strlen(device) >= sizeof(link->port.device)) {
		error_set(err, EINVAL, "longer than %zu bytes",
			sizeof(link->port.device) - 1);
		return wrong(OPTION_NIC_DEVICE, err);
	}
	if (strlen(standby) >= sizeof(link->port.standby) ||
		strcmp(standby, device) == 0) {
		error_set(err, EINVAL, "\"%.64s\" is no second port", standby);
		return wrong(OPTION_NIC_STANDBY, err);
	}
	*link = (struct stream_nic_link){
		.port.mtu_bytes =
			(uint32_t)options_number(options, OPTION_NIC_MTU),
		.port.queue_count =
			(uint32_t)options_number(options, OPTION_NIC_QUEUES),
		.vlan = (uint16_t)options_number(options, OPTION_NIC_VLAN),
		.spin_ns = options_number(options, OPTION_NIC_SPIN),
		.sleep_ns = options_number(options, OPTION_NIC_SLEEP),
	};
	snprintf(link->port.device, sizeof(link->port.device), "%s", device);
	snprintf(link->port.standby, sizeof(link->port.standby), "%s", standby);
	for (uint32_t i = 0; i < own->count; i++)
		if (set_address(link, own->items[i], err))
			return wrong(OPTION_NIC_ADDRESS, err);
	for (uint32_t i = 0; i < way->count; i++)
		if (set_gateway(link, way->items[i], err))
			return wrong(OPTION_NIC_GATEWAY, err);
	if (set_cores(link, &options->value[OPTION_NIC_CORE], err))
		return wrong(OPTION_NIC_CORE, err);
	return 0;
}

/* --- what this machine lacks ------------------------------------------------------ */

struct lacks {
	char text[ERROR_TEXT_BYTES - 64];
	size_t used;
};

__attribute__((format(printf, 2, 3))) static void lack(
	struct lacks *l, const char *format, ...)
{
	va_list args;

	if (l->used > 0 && l->used + 2 < sizeof(l->text))
		l->used += (size_t)snprintf(
			l->text + l->used, sizeof(l->text) - l->used, "; ");
	va_start(args, format);
	if (l->used < sizeof(l->text)) {
		int length = vsnprintf(l->text + l->used,
			sizeof(l->text) - l->used, format, args);

		l->used += length > 0 ? (size_t)length : 0;
	}
	va_end(args);
}

static uint64_t read_number(const char *path)
{
	char text[32] = "";
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return 0;
	if (read(fd, text, sizeof(text) - 1) < 0)
		text[0] = '\0';
	close(fd);
	return strtoull(text, NULL, 10);
}

static bool has_hugepages(void)
{
	/* The sizes that x86 and ARM have, in KiB. */
	static const unsigned sizes[] = {64, 2048, 32768, 524288, 1048576};
	uint64_t bytes = 0;
	char path[96];

	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		snprintf(path, sizeof(path),
			"/sys/kernel/mm/hugepages/hugepages-%ukB/"
			"free_hugepages",
			sizes[i]);
		bytes += read_number(path) * sizes[i] * 1024;
	}
	return bytes >= HUGE_BYTES_WANTED;
}

/* The value of ARG in "name,ARG=value,..."; false: it has none. */
static bool argument_of(
	const char *device, const char *argument, char *out, size_t size)
{
	size_t length = strlen(argument);
	const char *at = strchr(device, ',');

	while (at) {
		at++;
		if (strncmp(at, argument, length) == 0 && at[length] == '=') {
			at += length + 1;
			snprintf(out, size, "%.*s", (int)strcspn(at, ","), at);
			return true;
		}
		at = strchr(at, ',');
	}
	return false;
}

/* Two with one address would both answer. */
static void check_kernel_address(
	struct lacks *l, const struct stream_nic_link *link, const char *name)
{
	struct ifaddrs *all, *one;

	if (getifaddrs(&all))
		return;
	for (one = all; one; one = one->ifa_next) {
		char text[INET_ADDRSTRLEN];
		struct sockaddr_in in;

		if (!one->ifa_addr || strcmp(one->ifa_name, name) != 0 ||
			one->ifa_addr->sa_family != AF_INET)
			continue;
		memcpy(&in, one->ifa_addr, sizeof(in));
		if (memcmp(&in.sin_addr, link->ip4, 4) != 0)
			continue;
		inet_ntop(AF_INET, link->ip4, text, sizeof(text));
		lack(l, "the kernel has %s on %s too: ip addr flush dev %s",
			text, name, name);
	}
	freeifaddrs(all);
}

static void check_interface(
	struct lacks *l, const struct stream_nic_link *link, const char *device)
{
	struct ifreq request = {0};
	char name[IFNAMSIZ + 1];
	int fd;

	if (!argument_of(device, "iface", name, sizeof(name))) {
		lack(l, "it needs an interface: net_af_packet0,iface=NAME");
		return;
	}
	if (strlen(name) >= IFNAMSIZ || if_nametoindex(name) == 0) {
		lack(l, "there is no interface %s here: ip link shows them",
			name);
		return;
	}
	check_kernel_address(l, link, name);
	/* It is shorter: see above. */
	memcpy(request.ifr_name, name, strlen(name) + 1);
	fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return;
	if (ioctl(fd, SIOCGIFFLAGS, &request) == 0) {
		if (!(request.ifr_flags & IFF_UP))
			lack(l, "%s is down: ip link set %s up", name, name);
		/* The switch would take that port for the one in use. */
		if (link->port.standby[0] && !(request.ifr_flags & IFF_NOARP))
			lack(l,
				"the kernel answers ARP on %s, with the MAC "
				"of both ports: ip link set %s arp off",
				name, name);
	}
	if (ioctl(fd, SIOCGIFMTU, &request) == 0 &&
		request.ifr_mtu < (int)link->port.mtu_bytes)
		lack(l, "the MTU of %s is %d: ip link set %s mtu %u", name,
			request.ifr_mtu, name, link->port.mtu_bytes);
	close(fd);
}

/* The kernel would give frames to queues that nobody looks at. */
static void check_pairs(
	struct lacks *l, const struct stream_nic_link *link, const char *device)
{
	uint32_t queues = link->port.queue_count;
	char pairs[16];

	if (argument_of(device, "qpairs", pairs, sizeof(pairs)) &&
		strtoul(pairs, NULL, 10) != queues)
		lack(l,
			"qpairs=%s is not nic-queues: %u; without qpairs it "
			"has as many",
			pairs, queues);
}

static void check_raw_socket(struct lacks *l)
{
	int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);

	if (fd >= 0)
		close(fd);
	else
		lack(l,
			"packets need CAP_NET_RAW (%s): run with "
			"AmbientCapabilities=CAP_NET_RAW, or setcap "
			"cap_net_raw+ep",
			strerror(errno));
}

/* What loads a program for packets, and finds one that is loaded; -errno. */
static int try_programs(void)
{
	const struct bpf_insn pass[] = {
		{.code = BPF_ALU64 | BPF_MOV | BPF_K, .imm = XDP_PASS},
		{.code = BPF_JMP | BPF_EXIT}};
	union bpf_attr load, find;
	long fd;
	int rc;

	memset(&load, 0, sizeof(load));
	memset(&find, 0, sizeof(find));
	load.prog_type = BPF_PROG_TYPE_XDP;
	load.insn_cnt = sizeof(pass) / sizeof(pass[0]);
	load.insns = (uintptr_t)pass;
	load.license = (uintptr_t) "Apache-2.0";
	fd = syscall(SYS_bpf, BPF_PROG_LOAD, &load, sizeof(load));
	if (fd < 0)
		return -errno;
	rc = syscall(SYS_bpf, BPF_PROG_GET_NEXT_ID, &find, sizeof(find))
		     ? -errno
		     : 0;
	close((int)fd);
	return rc;
}

static bool is_capable(uint32_t capability)
{
	struct __user_cap_header_struct head = {
		.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct sets[2];

	return syscall(SYS_capget, &head, sets) == 0 &&
	       (sets[CAP_TO_INDEX(capability)].effective &
		       CAP_TO_MASK(capability));
}

static void check_locked(struct lacks *l)
{
	struct rlimit locked;

	if (!is_capable(CAP_IPC_LOCK) &&
		getrlimit(RLIMIT_MEMLOCK, &locked) == 0 &&
		locked.rlim_cur < HUGE_BYTES_WANTED)
		lack(l,
			"only %llu KiB may be locked: ulimit -l unlimited, or "
			"LimitMEMLOCK=infinity",
			(unsigned long long)locked.rlim_cur / 1024);
}

/* DPDK's driver takes queues that send and receive; who names none has one. */
static void check_channels(
	struct lacks *l, const struct stream_nic_link *link, const char *device)
{
	struct ethtool_channels channels = {.cmd = ETHTOOL_GCHANNELS};
	struct ifreq request = {.ifr_data = (void *)&channels};
	uint32_t wanted = link->port.queue_count, has = 1, most = 1;
	int fd;

	if (!argument_of(device, "iface", request.ifr_name,
		    sizeof(request.ifr_name)))
		return;
	fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return;
	if (ioctl(fd, SIOCETHTOOL, &request) == 0 && channels.max_combined) {
		has = channels.combined_count;
		most = channels.max_combined;
	}
	close(fd);
	if (wanted > most)
		lack(l, "nic-queues: %u, and %s has at most %u for AF_XDP",
			wanted, request.ifr_name, most);
	else if (wanted > has)
		lack(l,
			"nic-queues: %u, and %s has %u: ethtool -L %s combined "
			"%u",
			wanted, request.ifr_name, has, request.ifr_name,
			wanted);
}

/* A user namespace gives no right to load a program. */
static void check_xdp(struct lacks *l)
{
	int fd = socket(AF_XDP, SOCK_RAW | SOCK_CLOEXEC, 0), rc;

	if (fd < 0 && errno == EAFNOSUPPORT) {
		lack(l, "the kernel has no AF_XDP (CONFIG_XDP_SOCKETS): take "
			"net_af_packet0");
		return;
	}
	rc = fd < 0 ? -errno : try_programs();
	if (fd >= 0)
		close(fd);
	if (rc)
		lack(l,
			"AF_XDP loads a program into the kernel (%s): run as "
			"root or with AmbientCapabilities=CAP_NET_RAW "
			"CAP_NET_ADMIN CAP_SYS_ADMIN, which are given up when "
			"the port is open, or take net_af_packet0",
			strerror(-rc));
	check_locked(l);
}

static void check_tap(struct lacks *l)
{
	if (access("/dev/net/tun", R_OK | W_OK))
		lack(l, "/dev/net/tun: %s: modprobe tun, and give access",
			strerror(errno));
}

/* The last part of what a link says; "" = there is none. */
static const char *link_name(const char *path, char target[256])
{
	ssize_t length = readlink(path, target, 255);
	const char *slash;

	target[length > 0 ? length : 0] = '\0';
	slash = strrchr(target, '/');
	return slash ? slash + 1 : target;
}

/* What vfio needs beside the card's driver. */
static void check_vfio(struct lacks *l, const char *place, bool hugepages)
{
	char path[96], target[256];
	const char *group;

	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/iommu_group",
		place);
	group = link_name(path, target);
	if (group[0] == '\0' && !hugepages)
		lack(l, "the card has no IOMMU: turn it on (intel_iommu=on), "
			"or reserve huge pages: deploy/nic-setup hugepages "
			"128");
	if (access("/dev/vfio/vfio", R_OK | W_OK)) {
		lack(l,
			"/dev/vfio/vfio: %s: modprobe vfio-pci, and give "
			"access",
			strerror(errno));
		return;
	}
	snprintf(path, sizeof(path), "/dev/vfio/%.32s", group);
	if (group[0] && access(path, R_OK | W_OK))
		lack(l, "%s: %s: deploy/nic-setup bind --owner USER %s", path,
			strerror(errno), place);
	check_locked(l);
}

/* A card has to be with vfio-pci, or with the one driver that shares. */
static void check_card(
	struct lacks *l, const struct stream_nic_link *link, const char *device)
{
	char path[96], target[256], place[32];
	const char *driver;

	snprintf(place, sizeof(place), "%.*s", (int)strcspn(device, ","),
		device);
	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s", place);
	if (access(path, F_OK)) {
		lack(l, "there is no card %s: lspci -D shows them", place);
		return;
	}
	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/driver", place);
	driver = link_name(path, target);
	if (strcmp(driver, "mlx5_core") == 0)
		return;
	if (strcmp(driver, "vfio-pci") != 0)
		lack(l,
			"the card's driver is %s: deploy/nic-setup bind %s "
			"gives it to vfio-pci",
			driver[0] ? driver : "none", place);
	check_vfio(l, place, link->port.hugepages);
}

static void check_core(struct lacks *l, int32_t core)
{
	cpu_set_t allowed;

	CPU_ZERO(&allowed);
	if (core >= 0 && (sched_getaffinity(0, sizeof(allowed), &allowed) ||
				 !CPU_ISSET((size_t)core, &allowed)))
		lack(l, "nic-core: this process may not use processor %d",
			core);
}

static void check_device(
	struct lacks *l, const struct stream_nic_link *link, const char *device)
{
	bool packet = strncmp(device, "net_af_packet", 13) == 0,
	     xdp = strncmp(device, "net_af_xdp", 10) == 0;

	if (packet || xdp)
		check_interface(l, link, device);
	if (packet) {
		check_pairs(l, link, device);
		check_raw_socket(l);
	} else if (xdp) {
		check_channels(l, link, device);
		check_xdp(l);
	} else if (strncmp(device, "net_tap", 7) == 0) {
		check_tap(l);
	} else if (strncmp(device, "net_", 4) != 0) {
		check_card(l, link, device);
	}
}

static int check_machine(const struct stream_nic_link *link, struct error *err)
{
	const char *device = link->port.device, *standby = link->port.standby;
	struct lacks l = {.used = 0};

	if (!nic_is_built())
		lack(&l, "this build has no DPDK: install libdpdk-dev and "
			 "build again");
	check_device(&l, link, device);
	if (standby[0])
		check_device(&l, link, standby);
	for (uint32_t i = 0; i < link->port.queue_count; i++)
		check_core(&l, link->cores[i]);
	if (l.used == 0)
		return 0;
	return error_set(err, ENOTSUP, "nic-device: %s%s%s: %s", device,
		standby[0] ? " and " : "", standby, l.text);
}

/* --- listeners -------------------------------------------------------------------- */

/* Is it the port's own address, or any? */
static bool is_own(const struct stream_nic_link *link,
	const struct sockaddr_storage *place, uint16_t *out_port)
{
	static const uint8_t any[16];
	struct sockaddr_in6 six;
	struct sockaddr_in four;

	if (place->ss_family == AF_INET6) {
		memcpy(&six, place, sizeof(six));
		*out_port = ntohs(six.sin6_port);
		return memcmp(&six.sin6_addr, any, 16) == 0 ||
		       memcmp(&six.sin6_addr, link->ip6, 16) == 0;
	}
	memcpy(&four, place, sizeof(four));
	*out_port = ntohs(four.sin_port);
	return four.sin_addr.s_addr == INADDR_ANY ||
	       memcmp(&four.sin_addr, link->ip4, 4) == 0;
}

int node_nic_listen(const struct front_setup *front, const char *text,
	uint16_t *out_port, char address[NODE_ADDRESS_BYTES], struct error *err)
{
	const struct stream_nic_link *link = &front->link;
	struct sockaddr_storage place;
	char host[INET6_ADDRSTRLEN] = "?";
	int rc = node_listen_place(text, &place, err);
	bool six;

	if (rc)
		return rc;
	if (!is_own(link, &place, out_port))
		return error_set(err, EINVAL,
			"%s: is none of nic-address; *:PORT is all of them",
			text);
	if (*out_port == 0)
		return error_set(err, EINVAL,
			"%s: our own TCP takes no free port by itself", text);
	for (uint32_t i = 0; i < front->listener_count; i++)
		if (front->listeners[i].fd < 0 &&
			front->listeners[i].tcp_port == *out_port)
			return error_set(err, EINVAL,
				"%s: port %u is given twice; it is that of "
				"every nic-address",
				text, *out_port);
	six = link->prefix4_bits == 0;
	inet_ntop(six ? AF_INET6 : AF_INET,
		six ? (const void *)link->ip6 : link->ip4, host, sizeof(host));
	snprintf(address, NODE_ADDRESS_BYTES, "%s%.46s%s:%u", six ? "[" : "",
		host, six ? "]" : "", *out_port);
	return 0;
}

/* As they will be made; nothing is bound. */
static int check_listeners(const struct options *options,
	const struct front_setup *front, struct error *err)
{
	const struct option_value *list = &options->value[OPTION_LISTEN];
	char address[NODE_ADDRESS_BYTES];
	struct front_setup *scratch;
	int rc = 0;

	if (options->value[OPTION_ADMIN].count == 0)
		return error_set(err, EINVAL, "admin: nic: dpdk needs one");
	scratch = malloc(sizeof(*scratch));
	if (!scratch)
		return error_set(err, ENOMEM, "out of memory");
	*scratch = *front;
	scratch->listener_count = 0;
	for (uint32_t i = 0; rc == 0 && i < list->count; i++) {
		struct front_listener *listener =
			&scratch->listeners[scratch->listener_count];

		listener->fd = -1;
		rc = node_nic_listen(scratch, list->items[i],
			&listener->tcp_port, address, err);
		scratch->listener_count++;
	}
	free(scratch);
	return rc ? wrong(OPTION_LISTEN, err) : 0;
}

int node_nic_open(const struct options *options, struct front_setup *front,
	struct error *err)
{
	int rc;

	front->polled = options_number(options, OPTION_NIC) == 1;
	if (!front->polled)
		return 0;
	rc = set_link(options, &front->link, err);
	if (rc == 0)
		rc = check_listeners(options, front, err);
	if (rc)
		return rc;
	front->link.port.hugepages = has_hugepages();
	return check_machine(&front->link, err);
}
