#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# Runs at the end of a boot of the real system, looks at what the policy did, and says so on the second serial line in the
# language of tests/src/report.rs. What is to be looked at is in iommuctl.scenario= on the kernel command line.

disk=0000:00:03.0
second=0000:00:04.0
card=0000:00:05.0
scenario=$(sed -n 's/.*iommuctl\.scenario=\([^ ]*\).*/\1/p' /proc/cmdline)

. /usr/local/lib/report/checks.sh

# The state of the unit, as systemd has it.
unit() {
	state=$(systemctl show -P ActiveState iommuctl-policy.service)
	journalctl -b -u iommuctl-policy.service --no-pager -o cat
	echo "the unit is $state"
	[ "$state" = "$1" ]
}

# What the unit said.
unit_said() {
	journalctl -b -u iommuctl-policy.service --no-pager -o cat | grep -- "$1"
}

# A line of the kernel's log.
logged() {
	journalctl -b -k --no-pager -o cat | grep -- "$1"
}

# Lines of the kernel's log, with the first pattern before the second.
before() {
	journalctl -b -k --no-pager -o short-monotonic >/tmp/log
	grep -n -m1 -- "$1" /tmp/log
	grep -n -m1 -- "$2" /tmp/log
	first=$(grep -n -m1 -- "$1" /tmp/log | cut -d: -f1)
	second=$(grep -n -m1 -- "$2" /tmp/log | cut -d: -f1)
	[ -n "$first" ] && [ -n "$second" ] && [ "$first" -lt "$second" ]
}

# Waits for a group to become something.
becomes() {
	for _ in $(seq 100); do
		[ "$(type_of "$1" 2>/dev/null)" = "$2" ] && break
		sleep 0.2
	done
	journalctl -b -u "iommuctl-hotplug@$1.service" --no-pager -o cat | tail -8
	is "$1" "$2"
}

# Takes a device out and puts it back, as hotplug does, and waits for its group to become something.
replug() {
	echo 1 >"/sys/bus/pci/devices/$1/remove"
	echo 1 >/sys/bus/pci/rescan
	becomes "$1" "$2"
}

# The device behind the port in a slot.
behind() {
	for found in "/sys/bus/pci/devices/0000:00:0$1.0/0000:"*:00.0; do
		[ -e "$found" ] && basename "$found"
	done
}

# Has the host plug a device in at the port in a slot, and waits for its group to become something.
plug() {
	echo "plug $1" >/dev/ttyS1
	for _ in $(seq 100); do
		[ -n "$(behind "$2")" ] && break
		sleep 0.2
	done
	becomes "$(behind "$2")" "$3"
}

# Nothing happens for a while.
stays() {
	sleep 4
	is "$1" "$2"
}

# Makes every group what it was before the lockdown.
release() {
	iommuctl release && is "$1" DMA-FQ
}

# The same for the journal, by the message id of the audit.
journalled() {
	journalctl -b MESSAGE_ID=3cd768da2d60453a88a39243c5957c0c --no-pager -o cat | grep -- "$1"
}

# A write as anybody makes it, who logged in as user 1000.
raw_write() {
	sh -c "echo 1000 >/proc/self/loginuid; echo $2 >/sys/bus/pci/devices/$1/iommu_group/type"
}

untouched() {
	check root-disk-is-lazy is $disk DMA-FQ
	check second-disk-is-lazy is $second DMA-FQ
	check network-card-is-lazy is $card DMA-FQ
}

echo "scenario $scenario" >/dev/ttyS1
case $scenario in
boots | boots-by-dracut)
	check root-disk-is-strict is $disk DMA
	check second-disk-had-no-translation logged 'initramfs: .* identity .*changed'
	check unit-rebound-it is $second DMA-FQ
	check unit-says-so unit_said 'rebind.*changed'
	check it-is-bound test -e /sys/bus/pci/drivers/nvme/$second
	check nothing-is-left-behind test ! -e /run/iommuctl/rebind-*
	check network-card-is-strict is $card DMA
	check before-the-drivers before 'iommuctl: initramfs: ' 'nvme nvme[01]: pci function'
	check before-the-root-is-mounted before 'iommuctl: initramfs: ' 'EXT4-fs (nvme[01]n1): mounted'
	check unit unit active
	check recorder systemctl is-active iommuctl-audit.service
	check audit-of-the-initramfs audited "$second.*for rule"
	check audit-of-the-unit audited 'iommuctl-policy.service for rule'
	check audit-journalled journalled 'for rule'
	check audit-intact iommuctl audit verify
	for unit in policy audit; do
		echo "fact security-$unit $(systemd-analyze security --no-pager iommuctl-$unit.service | tail -n1)" >/dev/ttyS1
	done
	;;
switched-off)
	untouched
	check unit unit inactive
	;;
broken)
	untouched
	check unit unit failed
	check the-system-came-up systemctl is-active multi-user.target
	;;
hotplug)
	check root-disk-stays-strict is $disk DMA
	check unit-does-not-interrupt-it unit_said 'mounted at /'
	check second-disk-is-lazy is $second DMA-FQ
	check second-disk-comes-back-lazy replug $second DMA-FQ
	check network-card-comes-back-lazy replug $card DMA-FQ
	check new-disk-is-lazy plug disk 8 DMA-FQ
	check new-card-is-lazy plug card 9 DMA-FQ
	check root-disk-was-left-alone is $disk DMA
	;;
lockdown)
	check root-disk-is-lazy is $disk DMA-FQ
	check external-card-is-strict plug external-card 7 DMA
	check not-asked-for-means-nothing stays $disk DMA-FQ
	check one-step touch /etc/iommuctl/lockdown-on-external
	check card-comes-back-strict replug "$(behind 7)" DMA
	check root-disk-becomes-strict becomes $disk DMA
	check second-disk-becomes-strict becomes $second DMA
	check status-says-so sh -c 'iommuctl status | grep -i lockdown'
	check released release $disk
	check events-made-up-by-udev udevadm trigger --action=add --subsystem-match=pci
	check a-release-lasts stays $disk DMA-FQ
	check again-for-the-next-card replug "$(behind 7)" DMA
	check root-disk-becomes-strict-again becomes $disk DMA
	check released-again release $disk
	# As when the machine starts: udev knows of no device yet.
	check udev-begins-anew sh -c 'udevadm info --cleanup-db; udevadm trigger --action=add --subsystem-match=pci'
	check also-for-what-is-there-at-boot becomes $disk DMA
	check audit-of-the-lockdown audited 'in iommuctl-lockdown.service'
	check raw-write raw_write $disk DMA-FQ
	check audit-of-the-raw-write audited "$disk; by sh .* of user 1000"
	raw_write $disk identity
	check audit-of-the-refused-write audited "refused .*$disk; wanted identity; by sh"
	check audit-journalled journalled 'by sh .* of user 1000'
	check nobody-rewrote-it iommuctl audit verify
	check audit-memory systemctl show -P MemoryPeak iommuctl-audit.service
	check unit-says sh -c 'journalctl -b -u iommuctl-lockdown.service --no-pager -o cat | grep changed'
	echo "fact security $(systemd-analyze security --no-pager iommuctl-lockdown.service | tail -n1)" >/dev/ttyS1
	;;
esac
echo "end $scenario" >/dev/ttyS1
echo "done" >/dev/ttyS1
systemctl poweroff
