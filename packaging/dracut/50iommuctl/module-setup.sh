#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# shellcheck disable=SC2154 # dracut's own variables
# Puts iommuctl and the policy into the initramfs, so that groups get their type before drivers are bound.

# called by dracut
check() {
	# Not a reason to have no initramfs at all: then the policy is applied later, or not.
	require_binaries /usr/sbin/iommuctl || return 1
}

# called by dracut
depends() {
	# The hook is run by init.sh or by dracut-pre-udev.service, which both come with this.
	echo base
}

# called by dracut
install() {
	inst /usr/sbin/iommuctl

	# As they are, with owners, modes and links: iommuctl does not believe files that others can write, and dracut's own
	# functions would make them all root's. A change of the policy counts for the initramfs after `dracut --force`. The key of
	# the audit stays out: everybody may read an initramfs.
	local folder
	for folder in /etc/iommuctl /usr/local/lib/iommuctl /usr/lib/iommuctl; do
		[ -d "$dracutsysrootdir$folder" ] || continue
		mkdir -p "$initdir$folder"
		cp -a "$dracutsysrootdir$folder/." "$initdir$folder/" || dwarn "iommuctl: not all of $folder is in the initramfs"
	done
	rm -f "$initdir/etc/iommuctl/audit.key"

	# Before whatever else there is: what comes later, such as rd.driver.pre, loads drivers.
	inst_hook pre-udev 00 "$moddir/iommuctl.sh"
}
