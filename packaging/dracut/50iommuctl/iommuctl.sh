#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# Applies the policy before udev loads the drivers of the devices, so that a group can become anything.
#
# Whatever comes of it, the boot goes on: groups that could not be changed are as the kernel started them, and
# iommuctl-policy.service says so later. This is read by dracut's own shell, and must not end it.

# What it says goes into the kernel's log, where the journal finds it.
/usr/sbin/iommuctl --color never policy apply --boot 2>&1 | while read -r line; do
	echo "<6>iommuctl: initramfs: $line" > /dev/kmsg
done
