# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=sh
# What there is to know about building iommu_live for one kernel. Sourced by the programs beside it.
#
# A Rust module is compiled against the metadata of the kernel's own Rust code. Some distributions put it into their headers
# packages (Ubuntu, Arch). Debian does not: there it is made from the kernel's source package, once for each kernel, and
# kept.

# Whoever calls, and from wherever: the distribution's own programs, and files that others can read and not write.
PATH=/usr/sbin:/usr/bin:/sbin:/bin
umask 022

# Made here, and removed with the package.
cache=/var/cache/iommu-live
# In MiB, for the time the metadata is made: the kernel's source, unpacked, and what is built in it.
room=2600

# Sets what the functions below need, for the kernel $1.
look_at() {
	release=$1
	headers=$(readlink -f "/lib/modules/$release/build" || true)
	config=$headers/.config
	kept=$cache/$release
	series=$(echo "$release" | cut -d. -f1,2 | sed 's/[^0-9.].*//')
	source=/usr/src/linux-source-$series.tar.xz
}

# Whether the kernel has the option $1 built in.
has() {
	grep -q "^$1=y" "$config"
}

# The text of the option $1.
option() {
	sed -n "s/^$1=\"\(.*\)\"/\1/p" "$config"
}

# The version of the package $1, or nothing where dpkg does not know it.
package_version() {
	# shellcheck disable=SC2016 # dpkg's own variables
	dpkg-query -W -f '${db:Status-Status} ${Version}' "$1" 2>/dev/null | sed -n 's/^installed //p'
}

# Where packages are Debian's.
is_debian() {
	command -v dpkg-query >/dev/null && [ -e /etc/debian_version ]
}

# What makes one build of a kernel differ from another one of the same release: Debian's has no checksums of symbols.
identity() {
	cat "$config" "$headers/Module.symvers" "$(types)" | sha256sum | cut -d' ' -f1
}

# Whether the headers have the metadata.
headers_have_metadata() {
	[ -e "$headers/rust/libkernel.rmeta" ]
}

# Names the attempt to build the module source in the folder $1 for the kernel.
attempt() {
	echo "$(cat "$1/VERSION") $(identity)"
}

# Whether that was made before, and failed.
failed_before() {
	[ "$(cat "$kept.failed" 2>/dev/null)" = "$(attempt "$1")" ]
}

# Whether it was made here before.
kept_metadata() {
	[ "$(cat "$kept/identity" 2>/dev/null)" = "$(identity)" ]
}

# What the module in the file or of the name $1 says of the audit, "WORD: SENTENCE"; further words are for modinfo.
audit() {
	modinfo -F audit "$@" 2>/dev/null || true
}

# The file with the kernel's types.
types() {
	if [ -e "$headers/vmlinux" ]; then
		echo "$headers/vmlinux"
	elif [ "$release" = "$(uname -r)" ] && [ -e /sys/kernel/btf/vmlinux ]; then
		echo /sys/kernel/btf/vmlinux
	fi
}

# Says in one sentence why the module cannot be built for this kernel, and in a line "fix: ..." what would help. Succeeds,
# and says nothing, when it can.
can_build() {
	if [ "$(uname -m)" != x86_64 ]; then
		echo "iommu_live is for x86-64 so far, and this machine is $(uname -m)."
		return 1
	fi
	if [ ! -e "$config" ] || [ ! -e "$headers/Module.symvers" ]; then
		echo "The headers of kernel $release are not installed."
		if is_debian; then echo "fix: apt install linux-headers-$release"; fi
		return 1
	fi
	if ! has CONFIG_RUST; then
		echo "Kernel $release was built without Rust (CONFIG_RUST), so no Rust module can be built for it."
		suite=$(sed -n 's/^VERSION_CODENAME=//p' /etc/os-release)
		# Not where that is where this kernel is from.
		case $(package_version "linux-headers-$release") in
		*~bpo*) ;;
		*)
			if grep -qx 'ID=debian' /etc/os-release && [ "$suite" = trixie ]; then
				echo "fix: apt install -t $suite-backports linux-image-amd64 linux-headers-amd64 linux-source"
			fi
			;;
		esac
		return 1
	fi
	for needed in CONFIG_IOMMU_PT CONFIG_TASKS_RCU CONFIG_DEBUG_INFO_BTF; do
		if ! has $needed; then
			echo "Kernel $release was built without $needed, which iommu_live needs."
			return 1
		fi
	done
	if has CONFIG_CFI || has CONFIG_CFI_CLANG; then
		echo "Kernel $release has control-flow integrity (CONFIG_CFI), which iommu_live does not support."
		return 1
	fi
	wanted=$(option CONFIG_RUSTC_VERSION_TEXT | cut -d' ' -f2)
	found=$(rustc --version 2>/dev/null | cut -d' ' -f2)
	if [ "$found" != "$wanted" ]; then
		echo "Kernel $release was built by rustc $wanted, and rustc here is ${found:-not installed}; they must be the same."
		if [ -z "$found" ] && is_debian; then echo "fix: apt install rustc rust-src"; fi
		return 1
	fi
	if [ -z "$(types)" ]; then
		echo "The headers of kernel $release have no vmlinux, whose types (BTF) are needed, and another kernel is running."
		echo "fix: boot kernel $release, then run: dkms autoinstall"
		return 1
	fi
	if headers_have_metadata || kept_metadata; then return 0; fi
	can_make_metadata
}

can_make_metadata() {
	if ! is_debian; then
		echo "The headers of kernel $release have no Rust metadata (rust/*.rmeta), and only on Debian is it known how to make it."
		return 1
	fi
	has_source=$(package_version "linux-source-$series")
	has_headers=$(package_version "linux-headers-$release")
	if [ ! -e "$source" ] || [ -z "$has_source" ]; then
		echo "The source of kernel $release is not installed; the Rust metadata that its headers lack is made from it."
		echo "fix: apt install linux-source-$series${has_headers:+=$has_headers}"
		return 1
	fi
	if [ "$has_source" != "$has_headers" ]; then
		echo "linux-source-$series has version $has_source, and the headers of kernel $release have ${has_headers:-none that dpkg knows}; they must be the same."
		if [ -n "$has_headers" ] && dpkg --compare-versions "$has_source" gt "$has_headers"; then
			echo "fix: boot the newer kernel, or: apt install linux-source-$series=$has_headers"
		else
			echo "fix: apt install linux-source-$series linux-headers-$release"
		fi
		return 1
	fi
	for program in bindgen bison flex gcc make xz; do
		if ! command -v $program >/dev/null; then
			echo "The program $program, with which the Rust metadata of kernel $release is made, is not installed."
			echo "fix: apt install $(echo $program | sed s/^xz$/xz-utils/)"
			return 1
		fi
	done
	free=$(df -Pm "$(dirname $cache)" | sed -n '2s/  */ /gp' | cut -d' ' -f4)
	if [ "${free:-0}" -lt $room ]; then
		echo "To make the Rust metadata of kernel $release, $room MiB are needed in $cache for some minutes, and $free are free."
		return 1
	fi
}
