#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# Runs at the end of each boot of a system that gets our packages, has its kernel and the packages upgraded, and loses them
# again; and says what it saw, as report.sh does. All the system needs is on its disk: there is no network.

disk=0000:00:03.0
here=/root/packages
scenario=$(sed -n 's/.*iommuctl\.scenario=\([^ ]*\).*/\1/p' /proc/cmdline)
newer=$(sed -n 's/.*iommuctl\.newer=\([^ ]*\).*/\1/p' /proc/cmdline)

. /usr/local/lib/report/checks.sh

export DEBIAN_FRONTEND=noninteractive

# Word that we are alive: all this takes minutes where the processor is emulated.
(while sleep 30; do echo "say working" >/dev/ttyS1; done) &

install() {
	apt-get install -y --no-install-recommends -o Dpkg::Options::=--force-confold "$@" && dpkg --audit && [ -z "$(dpkg --audit)" ]
}

# Every file, but for what changes by itself, or with a kernel.
files() {
	find / -xdev \( -path /proc -o -path /sys -o -path /run -o -path /tmp -o -path /root -o -path /boot \
		-o -path /var/log -o -path /var/cache -o -path "/usr/lib/modules" -o -path /var/lib/systemd \
		-o -path /var/lib/apt -o -path "/usr/src/linux-*" -o -path "/usr/lib/linux-*" \
		-o -path "/var/lib/dpkg/info/linux-*" -o -path "/usr/share/doc/linux-*" -o -path "/usr/share/bug/linux-*" -o -path "/usr/share/lintian/overrides/linux-*" \
		-o -path "/var/lib/dkms/mok.*" \) -prune -o -print | grep -v '~$\|-old$\|\.dpkg-tmp$' | sort
}

# A file of ours, wherever it is; by name, and in what names files are kept.
remnants() {
	find / -xdev \( -path /proc -o -path /sys -o -path /root -o -path /usr/local -o -path /var/cache/apt -o -path /var/log/journal \) \
		-prune -o \( -name '*iommuctl*' -o -name '*iommu-live*' -o -name '*iommu_live*' \) -print
	for image in /boot/initrd.img-*; do lsinitramfs "$image" | grep -i 'iommuctl\|iommu.live' | sed "s,^,$image: ,"; done
	grep -l 'iommu_live' /usr/lib/modules/*/modules.dep
	systemctl list-unit-files --no-legend 'iommu*'
}

# Nothing on standard output.
nothing() {
	said=$("$@" 2>/dev/null)
	[ -z "$said" ] || { echo "$said"; return 1; }
}

same_files() {
	files >/tmp/after
	diff "$here/before" /tmp/after
}

built() {
	find "/usr/lib/modules/$1" -name 'iommu_live.ko*' | grep .
}

doctor() {
	iommuctl --color never doctor
}

doctor_says() {
	doctor | tee /dev/stderr | grep -q -- "$1"
}

refuses() {
	said=$(/usr/lib/iommu-live/can-build "$1") && return 1
	echo "$said"
	echo "$said" | grep -q -- "$2"
}

no_compiler() {
	mv /usr/bin/rustc /usr/bin/rustc.away
	refuses "$(uname -r)" 'rustc here is not installed'
	result=$?
	mv /usr/bin/rustc.away /usr/bin/rustc
	return $result
}

green() {
	check module-is-for-this-kernel built "$(uname -r)"
	check module-is-loaded test -e /sys/module/iommu_live
	check kernel-was-audited grep -qx audited /sys/kernel/iommu_live/audit
	check module-is-signed sh -c 'modinfo -F signer iommu_live | grep .'
	check root-disk-is-strict is $disk DMA
	check policy systemctl is-active iommuctl-policy.service
	check recorder systemctl is-active iommuctl-audit.service
	check nothing-failed nothing systemctl list-units --failed --no-legend
	check live-relax iommuctl set-mode $disk DMA-FQ
	check live-tighten iommuctl set-mode $disk DMA
	check doctor doctor
	check audit-intact iommuctl audit verify
}

echo "scenario $scenario" >/dev/ttyS1
case $scenario in
installed)
	files >$here/before
	check install-previous install $here/previous/*.deb
	check previous-module built "$(uname -r)"
	echo '# ours' >>/etc/iommuctl/audit.yaml
	check upgrade install $here/*.deb
	check kept-conffile grep -q '# ours' /etc/iommuctl/audit.yaml
	check new-conffile test -e /etc/iommuctl/audit.yaml.dpkg-dist
	check one-module sh -c 'dkms status | tee /dev/stderr | grep -c iommu-live | grep -qx 1'
	check module-is-loaded test -e /sys/module/iommu_live
	check works-at-once iommuctl set-mode $disk DMA
	check recorder systemctl is-active iommuctl-audit.service
	check old-module-stays-loaded doctor_says '0.0.9 is loaded'
	check reload systemctl restart iommu-live
	check no-policy-yet doctor
	check policy sh -c 'iommuctl policy check /root/packages/policy.yaml && install -m 644 /root/packages/policy.yaml /etc/iommuctl/policy.d/50-site.yaml'
	check initramfs update-initramfs -u
	check completion test -e /usr/share/bash-completion/completions/iommuctl
	check no-headers refuses 6.1.0-nothing 'headers of kernel 6.1.0-nothing are not installed'
	check no-compiler no_compiler
	;;
settled)
	green
	# What it takes minutes to make: made before by the same program, on the same kernel.
	tar -xf $here/metadata.tar -C / "./var/cache/iommu-live/$newer"
	# Everybody may read an initramfs.
	(umask 077 && echo 'not for everybody to read' >/etc/iommuctl/audit.key)
	check kernel-upgrade install "linux-image-$newer" "linux-headers-$newer" "linux-source-$(echo "$newer" | cut -d. -f1,2)"
	check policy-is-in-the-initramfs sh -c "lsinitramfs /boot/initrd.img-$newer | grep 50-site.yaml"
	check key-is-not sh -c "! lsinitramfs /boot/initrd.img-$newer | grep audit.key"
	rm /etc/iommuctl/audit.key
	check module-is-for-the-new-kernel built "$newer"
	check module-is-still-there built "$(uname -r)"
	;;
upgraded)
	green
	;;
realtime)
	check sleeps-at-locks grep -q PREEMPT_RT /proc/version
	green
	;;
bare)
	check no-compiler sh -c '! command -v rustc && ! command -v gcc && ! ls /usr/src/linux-headers-*'
	check install install $here/iommuctl_*.deb
	check works iommuctl list
	check advises sh -c '! iommuctl set-mode '$disk' DMA 2>&1'
	check doctor-says doctor_says 'apt install iommu-live-dkms'
	check nothing-failed nothing systemctl list-units --failed --no-legend
	;;
unsigned)
	check module-is-not-loaded test ! -e /sys/module/iommu_live
	check root-disk-is-strict is $disk DMA
	check doctor-says doctor_says 'mokutil'
	check still-works iommuctl list
	;;
no-iommu)
	check still-works sh -c '! iommuctl list'
	check doctor-says doctor_says 'intel_iommu=off'
	check nothing-failed nothing systemctl list-units --failed --no-legend
	;;
removed)
	check module-is-loaded test -e /sys/module/iommu_live
	check remove apt-get remove -y iommuctl iommu-live-dkms
	check module-is-gone test ! -e /sys/module/iommu_live
	check type-stays is $disk DMA
	check policy-stays test -e /etc/iommuctl/policy.d/50-site.yaml
	check log-stays test -e /var/log/iommuctl/audit.jsonl
	check purge apt-get purge -y iommuctl iommu-live-dkms
	check no-remnants nothing remnants
	check same-files same_files
	check nothing-failed nothing systemctl list-units --failed --no-legend
	;;
esac
echo "end $scenario" >/dev/ttyS1
echo "done" >/dev/ttyS1
systemctl poweroff
