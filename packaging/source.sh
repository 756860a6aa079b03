#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# usage: packaging/source.sh FOLDER
#
# Makes in FOLDER, which must not be there, the source that packages are built from: the checkout, every crate of the lock
# file in vendor/, and what each distribution's tools look for where they do. After that no network is needed.
set -eu

checkout=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
folder=$1
mkdir "$folder"
folder=$(CDPATH='' cd -- "$folder" && pwd)
cd "$checkout"

version=$(sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"/\1/p' Cargo.toml)
# The same source makes the same packages: its time is that of its last change.
if [ -e .git ]; then
	date=$(git -c safe.directory="$checkout" log -1 --format=%ct)
else
	date=$(stat -c %Y CHANGELOG.md)
fi

cp -r --preserve=mode,timestamps Cargo.toml Cargo.lock ARCHITECTURE.md CHANGELOG.md CONTRIBUTING.md LICENSE README.md cli kmod policy packaging tests "$folder/"
mv "$folder/packaging/debian" "$folder/debian"
cat >"$folder/debian/changelog" <<END
iommuctl ($version) unstable; urgency=medium

  * CHANGELOG.md has what is new.

 -- $(sed -n 's/^Maintainer: //p' packaging/debian/control)  $(date -u -R -d "@$date")
END

# Where rpmbuild and makepkg look for them.
day=$(LC_ALL=C date -u -d "@$date" '+%a %b %d %Y')
for file in rpm/iommuctl.spec arch/PKGBUILD; do
	sed -e "s/@VERSION@/$version/" -e "s/@DATE@/$day/" "packaging/$file" >"$folder/${file##*/}"
	rm "$folder/packaging/$file"
done

mkdir "$folder/.cargo"
cargo vendor --quiet --locked --versioned-dirs "$folder/vendor" >/dev/null
cat >"$folder/.cargo/config.toml" <<END
[source.crates-io]
replace-with = "vendored"

[source.vendored]
directory = "vendor"
END
