#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# usage: previous.sh FOLDER
#
# Makes, in FOLDER/previous, of the packages in FOLDER what they may have been before: another version, and another conffile.
set -eu
cd "$1"
mkdir -p previous
for package in *.deb; do
	version=$(dpkg-deb -f "$package" Version)
	rm -rf tree
	dpkg-deb -R "$package" tree
	sed -i "s/^Version: .*/Version: 0.0.9/" tree/DEBIAN/control
	if [ -d "tree/usr/src/iommu-live-$version" ]; then
		mv "tree/usr/src/iommu-live-$version" tree/usr/src/iommu-live-0.0.9
		ln -sfn ../src/iommu-live-0.0.9/dkms tree/usr/lib/iommu-live
		echo 0.0.9 >tree/usr/src/iommu-live-0.0.9/VERSION
		sed -i "s/$version/0.0.9/g" tree/usr/src/iommu-live-0.0.9/dkms.conf tree/DEBIAN/postinst tree/DEBIAN/prerm
	fi
	if [ -e tree/etc/iommuctl/audit.yaml ]; then sed -i '$d' tree/etc/iommuctl/audit.yaml; fi
	dpkg-deb --root-owner-group -b tree "previous/${package%%_*}_0.0.9.deb"
	rm -rf tree
done
