#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# Builds the RPM packages, and looks at them. common.sh says what it is given.
here=$(dirname "$(readlink -f "$0")")
. "$here/common.sh"

make_tarball
# Debian's rpm has neither Fedora's macros nor a list of what is installed.
rpmbuild -ta --nodeps --load "$here/fedora.macros" --define "_topdir $PWD/top" "$tarball"
find top -name '*.rpm' -exec cp -t out '{}' +
rpmlint --strict --rpmlintrc "$source/packaging/rpm/iommuctl.rpmlintrc" "$source/iommuctl.spec" out/*.rpm

program=$(echo "out/iommuctl-$version-1."[!s]*.rpm)
module=out/iommu-live-dkms-$version-1.noarch.rpm

# Without Debian's initramfs-tools; the rest is elsewhere, or has another name.
compare iommuctl "$program" '
	1i-rw-r--r-- 0 0 /usr/share/doc/iommuctl/README.md 
	\,/usr/share/initramfs-tools/,d
	s,/zsh/vendor-completions/,/zsh/site-functions/,
	s,/doc/iommuctl/changelog.gz,/doc/iommuctl/CHANGELOG.md,
	s,/doc/iommuctl/copyright,/licenses/iommuctl/LICENSE,
'
compare iommu-live-dkms "$module" '
	\,/doc/iommu-live-dkms/changelog.gz,d
	s,/doc/iommu-live-dkms/copyright,/licenses/iommu-live-dkms/LICENSE,
'
rpm2cpio "$module" | bsdtar -xOf - "./usr/src/iommu-live-$version/dkms.conf" | grep "^PACKAGE_VERSION=\"$version\""

# No scriptlet has a macro left in it, or fails where there is neither systemd nor DKMS: on an upgrade, or otherwise.
for package in "$program" "$module"; do
	for scriptlet in POSTIN PREUN POSTUN POSTTRANS; do
		rpm -qp --qf "%{$scriptlet}" "$package" >scriptlet
		if [ "$(cat scriptlet)" = '(none)' ]; then continue; fi
		echo "$package $scriptlet:"
		cat scriptlet
		if grep % scriptlet; then exit 1; fi
		for count in 0 1 2; do sh scriptlet $count; done
	done
done
rpm -qp --qf '%{POSTTRANS}' "$module" | grep "^dkms add .* -v $version "
rpm -qp --qf '%{PREUN}' "$module" | grep "^dkms remove .* -v $version --all "

# Installed and removed: what the administrator changed stays, and nothing else does.
mkdir root
manage() { rpm --root "$PWD/root" --nodeps "$@"; }
manage -i --noscripts "$program" "$module"
manage -V iommuctl iommu-live-dkms
echo '# mine' >>root/etc/iommuctl/audit.yaml
manage -e --noscripts iommuctl iommu-live-dkms
left=$(find root -path root/var/lib/rpm -prune -o ! -type d -print)
[ "$left" = root/etc/iommuctl/audit.yaml.rpmsave ] || { echo "left: $left" && exit 1; }
