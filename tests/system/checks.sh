# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=sh
# What the scripts that look at a booted system have in common. Sourced.

type_of() {
	cat "/sys/bus/pci/devices/$1/iommu_group/type"
}

# check NAME COMMAND...: whether the command succeeds, with what it said.
check() {
	name=$1
	shift
	if said=$("$@" 2>&1); then verdict=ok; else verdict=FAIL; fi
	echo "check $name $verdict $(echo "$said" | sed ':a;N;$!ba;s/\\/\\\\/g;s/\n/\\n/g')" >/dev/ttyS1
}

is() {
	echo "$1 is $(type_of "$1")"
	[ "$(type_of "$1")" = "$2" ]
}

# Waits until the audit log of this boot has a line with the pattern.
audited() {
	for _ in $(seq 50); do
		iommuctl --color never audit log --boot | grep -- "$1" && return
		sleep 0.2
	done
	iommuctl --color never audit log --boot
	return 1
}
