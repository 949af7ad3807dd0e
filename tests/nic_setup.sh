#!/bin/bash
# nic_setup.sh - deploy/nic-setup over a /sys and an ip of the test's own
# SPDX-License-Identifier: Apache-2.0
# usage: tests/nic_setup.sh   (ends with the line that tests/run.sh reads)
# What a driver does when it is told (unbind, probe) a loop here does, by one
# FIFO that all these files are: so the links of the devices are as they would
# be, in the order of what was written.
set -u
work=$(mktemp -d)
kernel=
finish() {
	[ -z "$kernel" ] || kill "$kernel" 2>/dev/null
	wait
	rm -rf "$work"
}
trap finish EXIT
. tests/verdict.sh
root=$work/root pci=$work/root/sys/bus/pci

# --- a machine ----------------------------------------------------------------------
card() { # PCI CLASS DRIVER GROUP INTERFACE
	mkdir -p "$pci/devices/$1" "$pci/drivers/$3" "$root/sys/kernel/iommu_groups/$4/devices"
	echo "$2" >"$pci/devices/$1/class"
	echo "(null)" >"$pci/devices/$1/driver_override"
	ln -s "../../drivers/$3" "$pci/devices/$1/driver"
	[ "$4" = none ] || ln -s "../../../kernel/iommu_groups/$4" "$pci/devices/$1/iommu_group"
	[ "$4" = none ] || ln -s "$pci/devices/$1" "$root/sys/kernel/iommu_groups/$4/devices/$1"
	[ -z "${5:-}" ] || mkdir -p "$pci/devices/$1/net/$5" "$root/sys/class/net/$5"
}
card 0000:01:00.0 0x020000 ixgbe 1 eth0
card 0000:01:00.1 0x020000 ixgbe 2 eth1
card 0000:02:00.0 0x020000 ixgbe 3 eth2
card 0000:02:00.1 0x020000 ixgbe 3 eth3
card 0000:03:00.0 0x020000 ixgbe 4 eth4
card 0000:04:00.0 0x020000 ixgbe none eth5
card 0000:05:00.0 0x010802 nvme 6 ''
# bond0 lies on eth1.
mkdir -p "$root/sys/class/net/bond0" "$pci/drivers/vfio-pci" "$root/dev/vfio" "$root/proc"
touch "$root/sys/class/net/bond0/lower_eth1" "$root/dev/vfio/3" "$root/dev/vfio/4"
echo "root=/dev/sda1 isolcpus=1 quiet" >"$root/proc/cmdline"
mkdir -p "$root/sys/kernel/mm/hugepages/hugepages-2048kB" "$root/sys/devices/system/cpu"
echo 3 >"$root/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages"
echo 1 >"$root/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages"
echo >"$root/sys/devices/system/cpu/isolated"
mkfifo "$pci/drivers_probe"
ln -s ../../drivers_probe "$pci/drivers/ixgbe/unbind"
ln -s ../../drivers_probe "$pci/drivers/vfio-pci/unbind"

# The kernel: ixgbe takes what nobody else is to have.
{
	while read -r device; do
		if [ -e "$pci/devices/$device/driver" ]; then
			echo "unbind $device" >>"$work/done"
			rm "$pci/devices/$device/driver"
			continue
		fi
		read -r override <"$pci/devices/$device/driver_override"
		case $override in '' | '(null)') override=ixgbe ;; esac
		echo "probe $device" >>"$work/done"
		[ -e "$work/deaf" ] || ln -s "../../drivers/$override" "$pci/devices/$device/driver"
	done
} <>"$pci/drivers_probe" &
kernel=$!

# The SSH connection comes over eth0, the default route is bond0's.
mkdir "$work/bin"
cat >"$work/bin/ip" <<'END'
#!/bin/sh
case "$*" in
"route get 192.0.2.7") echo "192.0.2.7 dev eth0 src 192.0.2.1 uid 0" ;;
"-o addr show to 192.0.2.1") echo "2: eth0    inet 192.0.2.1/24 scope global eth0" ;;
"-4 route show default") echo "default via 198.51.100.1 dev bond0 proto dhcp" ;;
esac
END
chmod +x "$work/bin/ip"
PATH=$work/bin:$PATH
export SSH_CONNECTION="192.0.2.7 50000 192.0.2.1 22"
setup() { timeout 60 deploy/nic-setup --root "$root" "$@" </dev/null >"$work/out" 2>"$work/err"; }
refuses() { # STATUS TEXT ARGUMENT...
	local status=$1 text=$2
	shift 2
	setup "$@"
	[ $? = "$status" ] && grep -qF -- "$text" "$work/err" && [ ! -s "$work/done" ]
}
driver() { readlink "$pci/devices/$1/driver" | sed 's,.*/,,'; }
state=$root/var/lib/heddle/nic-setup.state
: >"$work/done"

# --- what is refused ------------------------------------------------------------------
refuses 1 "eth0 carries the SSH connection" --yes bind 0000:01:00.0
verdict bind__not_the_ssh_connection $?
(unset SSH_CONNECTION && refuses 1 "eth1 carries the default route" --yes bind 0000:01:00.1)
verdict bind__not_what_lies_under_the_default_route $?
refuses 1 "0000:02:00.1 is in its IOMMU group" --yes bind 0000:02:00.0
verdict bind__not_half_a_group $?
refuses 1 "it has no IOMMU" --yes bind 0000:04:00.0
verdict bind__not_without_an_iommu $?
refuses 1 "is no network card" --yes bind 0000:05:00.0 && refuses 1 "there is no such device" --yes bind 0000:09:00.0 &&
	refuses 2 "is no place on the bus" --yes bind ../../etc && refuses 2 "bind takes cards" --yes bind
verdict bind__not_what_is_no_card $?
# One that is refused keeps the others as they are.
refuses 1 "SSH connection" --yes bind 0000:03:00.0 0000:01:00.0 && [ ! -e "$state" ]
verdict bind__all_or_none $?
refuses 1 "nobody to ask" bind 0000:03:00.0 && grep -q "echo 'vfio-pci' >" "$work/out" && [ ! -e "$state" ]
verdict bind__asks $?
refuses 2 "no such command" eat && refuses 2 "no such option" --force bind && refuses 2 "no command" &&
	refuses 1 "nothing to undo" undo && refuses 1 "vfio-pci does not drive it" unbind 0000:03:00.0
verdict usage $?
before=$(find "$root" -type f -exec md5sum {} +)
setup --dry-run bind 0000:03:00.0 --owner nobody && [ ! -s "$work/done" ] &&
	grep -qx "  echo '0000:03:00.0' >$pci/drivers/ixgbe/unbind" "$work/out" &&
	grep -qx "  echo '0000:03:00.0' >$pci/drivers_probe" "$work/out" &&
	grep -qx "  chown nobody $root/dev/vfio/4" "$work/out" &&
	[ "$before" = "$(find "$root" -type f -exec md5sum {} +)" ]
verdict dry_run__shows_and_does_nothing $?

# --- what is done, and undone ---------------------------------------------------------
setup status && grep -q "^0000:01:00.0 .*eth0 carries the SSH" "$work/out" &&
	grep -q "^0000:03:00.0 *ixgbe *4 *eth4 *yes" "$work/out" && ! grep -q nvme "$work/out" &&
	grep -q "huge pages of 2048kB: 3, 1 free" "$work/out" && grep -q "isolated cores: none" "$work/out"
verdict status $?
setup --yes bind 0000:03:00.0 --owner "$(id -un)" && [ "$(driver 0000:03:00.0)" = vfio-pci ] &&
	[ "$(cat "$work/done")" = "$(printf 'unbind 0000:03:00.0\nprobe 0000:03:00.0')" ] &&
	grep -qx "driver 0000:03:00.0 ixgbe" "$state"
verdict bind__gives_it_to_vfio $?
setup --yes bind 0000:03:00.0 && grep -qx "nothing to do" "$work/out"
verdict bind__again_is_nothing $?
setup --yes bind 0000:02:00.0 0000:02:00.1 && [ "$(driver 0000:02:00.1)" = vfio-pci ]
verdict bind__a_whole_group $?
setup --yes unbind 0000:03:00.0 && [ "$(driver 0000:03:00.0)" = ixgbe ] &&
	! grep -q 03:00 "$state" && grep -q 02:00.1 "$state"
verdict unbind__gives_it_back $?
pages=$root/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages
setup --yes hugepages 64 && [ "$(cat "$pages")" = 64 ] && setup --yes hugepages 32 &&
	grep -qx "hugepages 2048 3" "$state"
verdict hugepages__remembers_the_first $?
setup --yes --size 7 hugepages 4
[ $? = 1 ] && grep -q "no huge pages of 7 KiB" "$work/err"
verdict hugepages__of_a_size_that_is_not_there $?
setup cores 2-3,6 && grep -q "isolcpus=managed_irq,domain,2-3,6 nohz_full=2-3,6 rcu_nocbs=2-3,6" "$work/out" &&
	grep -q "take isolcpus=... out" "$work/out" && ! setup cores "2;reboot"
verdict cores__are_shown_only $?
setup --dry-run undo && [ -e "$state" ] && [ "$(cat "$pages")" = 32 ] &&
	setup --yes undo && [ ! -e "$state" ] && [ "$(cat "$pages")" = 3 ] &&
	[ "$(driver 0000:02:00.0)$(driver 0000:02:00.1)" = ixgbeixgbe ]
verdict undo__all_is_as_it_was $?
mkdir -p "${state%/*}" && echo 'write /etc/passwd x' >"$state"
setup --yes undo
[ $? = 1 ] && grep -q "cannot be read: write" "$work/err" && rm "$state"
verdict undo__believes_no_other_file $?
touch "$work/deaf"
setup --yes bind 0000:03:00.0
[ $? = 1 ] && grep -q "nic-setup undo" "$work/err" && [ -e "$state" ]
verdict bind__a_driver_that_does_not_take_it $?
suite nic_setup
