#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# usage: packaging/install.sh program|module FOLDER
#
# Puts what belongs to the package iommuctl, which must be built, or to iommu-live-dkms into FOLDER, as distributions other
# than Debian have it: debian/rules knows Debian's. SBINDIR is where there are programs for root (/usr/sbin).
set -eu
cd "$(dirname -- "$0")/.."
root=$2
version=$(cat kmod/VERSION)

put() {
	mode=$1 folder=$2
	shift 2
	install -D -p -m "$mode" -t "$root$folder" -- "$@"
}

program() {
	built=${CARGO_TARGET_DIR:-target}/release
	made=$(mktemp -d)
	"$built/iommuctl" man "$made"
	for shell in bash fish zsh; do "$built/iommuctl" completions $shell >"$made/$shell"; done
	"$built/iommuctl" policy schema >"$made/policy.schema.json"

	put 755 "${SBINDIR:-/usr/sbin}" "$built/iommuctl"
	for section in 4 5 7 8; do put 644 "/usr/share/man/man$section" "$made"/*."$section"; done
	install -D -m 644 "$made/bash" "$root/usr/share/bash-completion/completions/iommuctl"
	install -D -m 644 "$made/fish" "$root/usr/share/fish/vendor_completions.d/iommuctl.fish"
	install -D -m 644 "$made/zsh" "$root/usr/share/zsh/site-functions/_iommuctl"
	put 644 /usr/share/iommuctl "$made/policy.schema.json"
	rm -r "$made"

	install -d "$root/etc/iommuctl/policy.d"
	put 644 /etc/iommuctl packaging/etc/audit.yaml
	put 644 /usr/lib/systemd/system packaging/systemd/iommuctl-*
	put 644 /usr/lib/udev/rules.d packaging/udev/*.rules
	put 755 /usr/lib/dracut/modules.d/50iommuctl packaging/dracut/50iommuctl/*.sh
}

module() {
	source=/usr/src/iommu-live-$version
	install -d "$root$source" "$root/usr/lib"
	cp -r kmod/Kbuild kmod/VERSION kmod/audited.txt kmod/*.c kmod/src kmod/auditgen kmod/layoutgen "$root$source/"
	sed "s/#MODULE_VERSION#/$version/" packaging/dkms/dkms.conf >"$root$source/dkms.conf"
	put 755 "$source/dkms" packaging/dkms/can-build packaging/dkms/build packaging/dkms/autobuild
	put 644 "$source/dkms" packaging/dkms/kernel.sh
	ln -s "../src/iommu-live-$version/dkms" "$root/usr/lib/iommu-live"
	put 644 /usr/lib/systemd/system packaging/systemd/iommu-live.service
}

case $1 in
program | module) "$1" ;;
*) echo "usage: $0 program|module FOLDER" >&2 && exit 2 ;;
esac
