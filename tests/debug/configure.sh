#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# Patches and configures a kernel tree for tests. Run in the tree's folder, with this folder beside it as "test".
#
# usage: configure.sh SOURCE_ARCHIVE CONFIG LLVM=-N "PART.config..." MODULE...
set -eu

source=$1 config=$2 llvm=$3 parts=$4
shift 4
here=$PWD/../test

# From the archive's own file each time: a patch that changed is not applied on top of its former self. A file that
# comes out as it is stays, with its time, so that make does not build it again.
for file in $(sed -n 's,^+++ b/,,p' "$here/hold-points.patch"); do
    tar -xOf "$source" --wildcards "*/$file" > "$here/file"
    (cd "$here" && patch file < hold-points.patch)
    cmp -s "$here/file" "$file" || cp "$here/file" "$file"
done

cp "$config" "$here/config"
# What is built in, and these modules; nothing else.
{
    echo 'Module Size Used'
    for module; do echo "$module 1 0"; done
} > "$here/modules"
cp "$here/config" .config
yes '' | make "$llvm" LSMOD="$here/modules" localmodconfig
for part in $parts; do
    scripts/kconfig/merge_config.sh -m .config "$here/$part"
done
make "$llvm" olddefconfig
