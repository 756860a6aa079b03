#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# Builds the packages for Arch Linux, and looks at them. common.sh says what it is given.
here=$(dirname "$(readlink -f "$0")")
. "$here/common.sh"

make_tarball
sum=$(sha256sum "$tarball" | cut -d' ' -f1)
sed "s/@SHA256@/$sum/" "$source/PKGBUILD" >out/PKGBUILD
cp "$source"/packaging/arch/*.install out/
# makepkg does not run as root, and asks pacman what is installed: nothing, here.
pacman -Q || true
chown -R nobody out
(cd out && runuser -u nobody -- env HOME="$PWD" PKGEXT=.pkg.tar.zst makepkg --nodeps)
rm -rf out/src out/pkg out/.[a-z]*

program=out/iommuctl-$version-1-x86_64.pkg.tar.zst
module=out/iommu-live-dkms-$version-1-any.pkg.tar.zst

# Without Debian's initramfs-tools, and with pacman's own files; the rest is elsewhere. The licence's text is on every Arch.
own='1i-rw-r--r-- 0 0 /.BUILDINFO \n-rw-r--r-- 0 0 /.INSTALL \n-rw-r--r-- 0 0 /.MTREE \n-rw-r--r-- 0 0 /.PKGINFO '
compare iommuctl "$program" "
	$own
	\\,/usr/share/initramfs-tools/,d
	s,/usr/sbin/,/usr/bin/,
	s,/zsh/vendor-completions/,/zsh/site-functions/,
	s,/doc/iommuctl/changelog.gz,/doc/iommuctl/CHANGELOG.md,
	s,/doc/iommuctl/copyright,/doc/iommuctl/README.md,
"
compare iommu-live-dkms "$module" "
	$own
	\\,/doc/iommu-live-dkms/changelog.gz,d
	\\,/doc/iommu-live-dkms/copyright,d
"
bsdtar -xOf "$module" "usr/src/iommu-live-$version/dkms.conf" | grep "^PACKAGE_VERSION=\"$version\""

# Installed and removed, by pacman itself: what the administrator changed stays, and nothing else does.
mkdir -p root/var/lib/pacman
echo '[options]' >pacman.conf
manage() { pacman --root "$PWD/root" --config pacman.conf --noconfirm "$@"; }
manage -Udd --noscriptlet "$program" "$module"
manage -Qkk iommuctl iommu-live-dkms
echo '# mine' >>root/etc/iommuctl/audit.yaml
manage -Rdd --noscriptlet iommuctl iommu-live-dkms
left=$(find root -path root/var -prune -o ! -type d -print)
[ "$left" = root/etc/iommuctl/audit.yaml.pacsave ] || { echo "left: $left" && exit 1; }
