# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=sh
# usage: KIND.sh FOLDER VERSION
#
# Sourced by the scripts that build packages of one kind, in a Debian. FOLDER has the source in iommuctl-VERSION/, and Debian's
# packages; what is built goes to out/.
set -eu
cd "$1"
version=$2
source=iommuctl-$version
tarball=out/$source.tar.xz

# The same source makes the same archive, and the same packages.
SOURCE_DATE_EPOCH=$(dpkg-parsechangelog -l "$source/debian/changelog" -S Timestamp)
export SOURCE_DATE_EPOCH

make_tarball() {
	tar -c --sort=name --mtime="@$SOURCE_DATE_EPOCH" --owner=0 --group=0 --numeric-owner "$source" | xz -T2 -1 >"$tarball"
}

# Of each file, no folder, in an archive on standard input: mode, owner, path, and where a link leads.
files() {
	bsdtar --numeric-owner -tvf - | awk '$1 !~ /^d/ { sub(/^\.?\//, "", $9); print $1, $3, $4, "/" $9, $11 }' | sort
}

# Whether the package $1 has, in the archive $2, the files that Debian's has, but for what the sed script $3 makes of them.
compare() {
	dpkg-deb --fsys-tarfile "$1"_*.deb | files | sed "$3" | sort >expected
	files <"$2" >found
	echo "$2: $(wc -l <found) files"
	diff -u expected found
}
