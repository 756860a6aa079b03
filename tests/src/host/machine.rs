// SPDX-License-Identifier: GPL-2.0-only
//! The machines the suites run on: what they have, how their kernel is told to start, and which scenarios they run.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use super::command::Log;
use super::qemu::{Accelerator, Device, Machine};
use super::userspace::checkout;
use super::workshop::{Boot, Flavour, Workshop};

/// Size of a disk in bytes; sparse.
const DISK: u64 = 256 << 20;

/// A kind of machine.
#[derive(Debug)]
pub struct Kind {
    /// Its name.
    pub name: &'static str,
    /// What it is for, in a few words.
    pub purpose: &'static str,
    /// Which kernel it boots.
    pub flavour: Flavour,
    /// Whether `iommu_live.ko` is on board (the scenarios load it).
    pub with_module: bool,
    /// Words of the kernel command line.
    pub command_line: &'static [&'static str],
    /// Whether it has a root port that its firmware calls external.
    pub external: bool,
    /// Scenarios, in the order they run.
    pub scenarios: &'static [&'static str],
}

const LAZY: &[&str] = &["intel_iommu=on", "iommu.strict=0"];

/// Every kind of machine.
pub const KINDS: [Kind; 10] = [
    Kind {
        name: "plain",
        purpose: "a stock kernel without the module",
        flavour: Flavour::Stock,
        with_module: false,
        command_line: LAZY,
        external: false,
        scenarios: &[
            "inventory",
            "targets",
            "without-module",
            "oracle-stock",
            "errors",
        ],
    },
    Kind {
        name: "module",
        purpose: "a stock kernel with the module",
        flavour: Flavour::Stock,
        with_module: true,
        command_line: LAZY,
        external: false,
        scenarios: &[
            "switch",
            "raw-write",
            "several",
            "reports",
            "denied",
            "two-writers",
            "oracle-live",
            "round-trips",
        ],
    },
    Kind {
        name: "reload",
        purpose: "the module loaded and unloaded under load",
        flavour: Flavour::Stock,
        with_module: true,
        command_line: LAZY,
        external: false,
        scenarios: &[
            "other-kernel",
            "reload",
            "reload-while-switching",
            "unload-keeps-types",
        ],
    },
    Kind {
        name: "strict",
        purpose: "a stock kernel that starts strict",
        flavour: Flavour::Stock,
        with_module: false,
        command_line: &["intel_iommu=on", "iommu.strict=1"],
        external: false,
        scenarios: &["oracle-strict-boot"],
    },
    Kind {
        name: "off",
        purpose: "a kernel told to leave the IOMMU off",
        flavour: Flavour::Stock,
        with_module: false,
        command_line: &["intel_iommu=off"],
        external: false,
        scenarios: &["no-iommu"],
    },
    Kind {
        name: "external",
        purpose: "a card behind a port the firmware calls external",
        flavour: Flavour::Stock,
        with_module: true,
        command_line: LAZY,
        external: true,
        scenarios: &["untrusted"],
    },
    Kind {
        name: "faults",
        purpose: "a stock kernel that changes under the module",
        flavour: Flavour::Stock,
        with_module: true,
        command_line: LAZY,
        external: false,
        scenarios: &[
            "processors-go",
            "driver-goes",
            "device-goes",
            "function-reset",
            "crowd",
        ],
    },
    Kind {
        name: "stragglers",
        purpose: "a kernel with checks and hold points, tasks held in the middle of an unmap",
        flavour: Flavour::Debug,
        with_module: true,
        command_line: LAZY,
        external: false,
        scenarios: &["stragglers", "across-each-wait", "starved", "final-flush"],
    },
    Kind {
        name: "checks",
        purpose: "a kernel with checks",
        flavour: Flavour::Debug,
        with_module: true,
        command_line: LAZY,
        external: false,
        scenarios: &[
            "switch",
            "several",
            "reports",
            "denied",
            "two-writers",
            "oracle-live",
            "other-kernel",
            "reload",
            "reload-while-switching",
            "unload-keeps-types",
            "processors-go",
            "driver-goes",
            "device-goes",
            "function-reset",
            "crowd",
            "no-memory",
            "leaks",
        ],
    },
    Kind {
        name: "demo",
        purpose: "the demo",
        flavour: Flavour::Stock,
        with_module: true,
        command_line: LAZY,
        external: false,
        scenarios: &["demo"],
    },
];

/// The kind with this name.
///
/// # Errors
/// When there is none: the message lists those there are.
pub fn kind(name: &str) -> Result<&'static Kind> {
    let names: Vec<_> = KINDS.iter().map(|kind| kind.name).collect();
    let found = KINDS.iter().find(|kind| kind.name == name);
    found.with_context(|| {
        format!(
            "no machine is called `{name}`; there are: {}",
            names.join(", ")
        )
    })
}

impl Kind {
    /// A machine of this kind that runs `scenarios`, with its disks and logs in `folder`.
    ///
    /// # Errors
    /// When a disk or the firmware table cannot be made.
    pub fn describe(
        &self,
        shop: &Workshop,
        boot: &Boot,
        folder: &Path,
        scenarios: &[String],
    ) -> Result<Machine> {
        let disk = |name: &str| empty_disk(&folder.join(name));
        let mut devices = vec![
            Device::Nvme {
                slot: 3,
                image: disk("disk0.img")?,
            },
            Device::Nvme {
                slot: 4,
                image: disk("disk1.img")?,
            },
            Device::Network { slot: 5 },
            Device::Oracle { slot: 6 },
        ];
        let mut acpi_table = None;
        if self.external {
            devices.push(Device::Port { slot: 7 });
            acpi_table = Some(external_table(shop, folder)?);
        }
        let mut command_line: Vec<String> = self
            .command_line
            .iter()
            .map(|word| (*word).to_owned())
            .collect();
        command_line.push(format!("iommuctl.scenario={}", scenarios.join(",")));
        if std::env::var_os("IOMMUCTL_FULL").is_some() {
            command_line.push("iommuctl.full=1".into());
        }
        Ok(Machine {
            accelerator: Accelerator::from_environment(),
            processors: 2,
            memory: 1024,
            iommu: true,
            kernel: boot.kernel.clone(),
            initramfs: boot.initramfs.clone(),
            command_line,
            devices,
            acpi_table,
            console: folder.join("console.log"),
            report: folder.join("report.log"),
        })
    }
}

fn empty_disk(path: &Path) -> Result<PathBuf> {
    let file = std::fs::File::create(path)
        .with_context(|| format!("cannot make the disk {}", path.display()))?;
    file.set_len(DISK)
        .with_context(|| format!("cannot size the disk {}", path.display()))?;
    Ok(path.to_owned())
}

/// Compiles the table that makes the firmware call the port in slot 7 external.
fn external_table(shop: &Workshop, folder: &Path) -> Result<PathBuf> {
    let source = checkout()?.join("tests/fixtures/external-port.asl");
    let prefix = folder.join("external-port");
    let log = Log::create(folder.join("iasl.log"))?;
    let mut iasl: Command = shop.root.tool("usr/bin/iasl");
    log.run(iasl.arg("-p").arg(&prefix).arg(&source))?;
    Ok(prefix.with_extension("aml"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_different_and_lead_to_their_kind() {
        for one in &KINDS {
            assert!(std::ptr::eq(
                kind(one.name).unwrap(),
                kind(one.name).unwrap()
            ));
            assert_eq!(
                KINDS.iter().filter(|other| other.name == one.name).count(),
                1
            );
        }
        assert!(kind("none")
            .unwrap_err()
            .to_string()
            .contains("plain, module"));
    }
}
