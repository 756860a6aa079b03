#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# Runs in a copy of the real system, which is not booted: `defaults set` and `undo` with the helpers of the distribution, and
# what they write. Says what it saw on standard output, in the language of tests/src/report.rs.

strict='iommuctl.defaults=strict iommu.passthrough=0 iommu.strict=1'

# check NAME COMMAND...: whether the command succeeds, with what it said.
check() {
	name=$1
	shift
	if said=$("$@" 2>&1); then verdict=ok; else verdict=FAIL; fi
	echo "check $name $verdict $(echo "$said" | tail -n 8 | sed ':a;N;$!ba;s/\\/\\\\/g;s/\n/\\n/g')"
}

# How many lines with kernel command lines there are in a file, and how many have our words.
has() {
	file=$1 wanted=$2
	ours=$(grep -c -- "$strict" "$file")
	all=$(grep -cE '^[[:space:]]*(linux[[:space:]].*root=|options)' "$file")
	echo "$ours of $all lines in $file have the words"
	grep -m1 -- "$strict" "$file"
	case $wanted in
	all) [ "$all" -gt 0 ] && [ "$ours" = "$all" ] ;;
	none) [ "$all" -gt 0 ] && [ "$ours" = 0 ] ;;
	esac
}

shows() {
	iommuctl defaults | tee /dev/stderr | grep -q -- "$1"
}

echo scenario defaults

mkdir -p /boot/grub
check grub-without update-grub
check grub-has-no-words has /boot/grub/grub.cfg none
check grub-set iommuctl defaults set strict
check grub-has-words has /boot/grub/grub.cfg all
check grub-undo iommuctl defaults undo
check grub-has-no-words-again has /boot/grub/grub.cfg none
check grub-has-no-file-of-ours test ! -e /etc/default/grub.d/zz-iommuctl.cfg

# The same system without GRUB's scripts, and with entries as systemd-boot reads them.
mv /usr/sbin/update-grub /usr/sbin/update-grub.away
line='root=/dev/nvme0n1 rw iommu.strict=0'
echo "$line" >/etc/kernel/cmdline
# The initramfs is there already, and dracut would make another.
echo initrd_generator=initramfs-tools >/etc/kernel/install.conf
mkdir -p "/boot/$(cat /etc/machine-id)" /boot/loader/entries
check kernel-install-set iommuctl defaults set strict
check entry-has-words has /boot/loader/entries/*.conf all
check entry-keeps-what-was-there grep "$line" /boot/loader/entries/*.conf
check kernel-install-undo iommuctl defaults undo
check entry-has-no-words has /boot/loader/entries/*.conf none
check line-is-what-it-was grep -x "$line" /etc/kernel/cmdline

echo end defaults
echo "done"
