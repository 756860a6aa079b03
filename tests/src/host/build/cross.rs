// SPDX-License-Identifier: GPL-2.0-only
//! What the root needs to build for, and to emulate, a machine of another architecture than its own. Made when such a
//! machine is asked for.

use std::path::PathBuf;

use anyhow::{Context as _, Result};

use crate::host::build::arch::Arch;
use crate::host::build::chroot::{Chroot, BACKPORTS};
use crate::host::build::command::Log;
use crate::host::build::progress::step;

/// The compiler and the emulator: packages, and the suite that is preferred for them.
fn tools(arch: Arch) -> &'static [(&'static str, Option<&'static str>)] {
    match arch {
        Arch::X86_64 => &[],
        Arch::Arm64 => &[
            ("gcc-aarch64-linux-gnu", None),
            ("qemu-system-arm", Some(BACKPORTS)),
        ],
    }
}

/// Makes sure that all of it is there.
///
/// # Errors
/// When a package cannot be fetched: the message has the log's path.
pub fn ensure(root: &Chroot, log: &Log, arch: Arch) -> Result<()> {
    if busybox(root, arch).exists() {
        return Ok(());
    }
    let name = arch.debian();
    step(
        &format!("installing a compiler and QEMU for {name}"),
        || {
            log.run(&mut root.command("dpkg", ["--add-architecture", name]))?;
            root.refresh_resolver(log)?;
            log.run(&mut root.command("apt-get", ["update"]))?;
            for (package, suite) in tools(arch) {
                root.install(log, &[package], *suite)?;
            }
            // Last, and whole or not at all: it says that the rest is there too.
            let script = "rm -rf half && mkdir half && apt-get download \"busybox-static:$1\" && \
             dpkg-deb -x busybox-static_*.deb half && rm busybox-static_*.deb && mv half \"$1\"";
            let enter = format!("mkdir -p {FOLDER} && cd {FOLDER} && {script}");
            log.run(&mut root.command("sh", ["-c", &enter, "sh", name]))
                .with_context(|| format!("Debian's archive has no busybox for {name}"))
        },
    )
}

/// A folder for each architecture, as seen from inside the root.
const FOLDER: &str = "/foreign";

/// The busybox of the initramfs.
pub fn busybox(root: &Chroot, arch: Arch) -> PathBuf {
    let place = match arch {
        Arch::X86_64 => String::new(),
        foreign => format!("{FOLDER}/{}", foreign.debian()),
    };
    root.outside(&format!("{place}/usr/bin/busybox"))
}
