// SPDX-License-Identifier: GPL-2.0-only
//! The machines the suites run on: what they have, how their kernel is told to start, and which scenarios they run.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use super::command::Log;
use super::debug_kernel::Watch;
use super::qemu::{Accelerator, Device, Machine};
use super::userspace::checkout;
use super::workshop::{Boot, Flavour, Workshop};

/// Size of a disk in bytes; sparse.
const DISK: u64 = 256 << 20;

/// Devices that only some machines have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extra {
    /// None.
    Nothing,
    /// A card behind a root port that the firmware calls external.
    External,
    /// Sixty-four disks, each in a group of its own.
    Disks,
}

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
    /// What it has beside the devices that every machine has.
    pub extra: Extra,
    /// Scenarios, in the order they run.
    pub scenarios: &'static [&'static str],
}

const LAZY: &[&str] = &["intel_iommu=on", "iommu.strict=0"];
/// With each slab cache counted by itself.
const MANY: &[&str] = &["intel_iommu=on", "iommu.strict=0", "slab_nomerge"];

/// Every kind of machine.
pub const KINDS: [Kind; 15] = [
    Kind {
        name: "plain",
        purpose: "a stock kernel without the module",
        flavour: Flavour::Stock,
        with_module: false,
        command_line: LAZY,
        extra: Extra::Nothing,
        scenarios: &[
            "inventory",
            "targets",
            "without-module",
            "policy-without-module",
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
        extra: Extra::Nothing,
        scenarios: &[
            "switch",
            "raw-write",
            "several",
            "reports",
            "denied",
            "two-writers",
            "policy",
            "lockdown",
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
        extra: Extra::Nothing,
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
        extra: Extra::Nothing,
        scenarios: &["oracle-strict-boot"],
    },
    Kind {
        name: "off",
        purpose: "a kernel told to leave the IOMMU off",
        flavour: Flavour::Stock,
        with_module: false,
        command_line: &["intel_iommu=off"],
        extra: Extra::Nothing,
        scenarios: &["no-iommu"],
    },
    Kind {
        name: "external",
        purpose: "a card behind a port the firmware calls external",
        flavour: Flavour::Stock,
        with_module: true,
        command_line: LAZY,
        extra: Extra::External,
        scenarios: &["untrusted", "policy-external"],
    },
    Kind {
        name: "faults",
        purpose: "a stock kernel that changes under the module",
        flavour: Flavour::Stock,
        with_module: true,
        command_line: LAZY,
        extra: Extra::Nothing,
        scenarios: &[
            "processors-go",
            "driver-goes",
            "device-goes",
            "function-reset",
            "crowd",
            "vfio-takes",
            "suspends",
        ],
    },
    Kind {
        name: "many",
        purpose: "a stock kernel with sixty-six disks",
        flavour: Flavour::Stock,
        with_module: true,
        command_line: MANY,
        extra: Extra::Disks,
        scenarios: &["soak"],
    },
    Kind {
        name: "stragglers",
        purpose: "a kernel with checks and hold points, tasks held in the middle of an unmap",
        flavour: Flavour::Debug(Watch::Checks),
        with_module: true,
        command_line: LAZY,
        extra: Extra::Nothing,
        scenarios: &[
            "stragglers",
            "across-each-wait",
            "starved",
            "final-flush",
            "last-device-leaves",
        ],
    },
    Kind {
        name: "checks",
        purpose: "a kernel with checks",
        flavour: Flavour::Debug(Watch::Checks),
        with_module: true,
        command_line: LAZY,
        extra: Extra::Nothing,
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
            "vfio-takes",
            "suspends",
            "no-memory",
            "leaks",
        ],
    },
    Kind {
        name: "concerns",
        purpose: "a kernel with checks and hold points, and the five concerns of 2021",
        flavour: Flavour::Debug(Watch::Checks),
        with_module: true,
        command_line: LAZY,
        extra: Extra::Nothing,
        scenarios: &[
            "flag-without-queue",
            "barrier-while-deferred",
            "race-with-itself",
            "no-memory",
            "mode-not-atomic",
        ],
    },
    Kind {
        name: "tasks",
        purpose: "a kernel with checks, disks whose unmaps are done by tasks",
        flavour: Flavour::Debug(Watch::Checks),
        with_module: true,
        command_line: &[
            "intel_iommu=on",
            "iommu.strict=0",
            "nvme.poll_queues=2",
            "nvme.use_threaded_interrupts=1",
        ],
        extra: Extra::Nothing,
        scenarios: &["polled", "threaded"],
    },
    Kind {
        name: "soak",
        purpose: "a kernel with checks, and sixty-six disks",
        flavour: Flavour::Debug(Watch::Checks),
        with_module: true,
        command_line: MANY,
        extra: Extra::Disks,
        scenarios: &["soak", "leaks"],
    },
    Kind {
        name: "races",
        purpose: "a kernel that watches for data races",
        flavour: Flavour::Debug(Watch::Races),
        with_module: true,
        command_line: LAZY,
        extra: Extra::Nothing,
        scenarios: &[
            "switch",
            "oracle-live",
            "reload-while-switching",
            "processors-go",
            "driver-goes",
            "device-goes",
            "crowd",
        ],
    },
    Kind {
        name: "demo",
        purpose: "the demo",
        flavour: Flavour::Stock,
        with_module: true,
        command_line: LAZY,
        extra: Extra::Nothing,
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
        match self.extra {
            Extra::Nothing => {}
            Extra::External => {
                devices.push(Device::Port { slot: 7 });
                acpi_table = Some(external_table(shop, folder)?);
            }
            Extra::Disks => devices.extend((8..16).map(|slot| Device::Disks { slot })),
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
        if let Ok(rounds) = std::env::var("IOMMUCTL_ROUNDS") {
            command_line.push(format!("iommuctl.rounds={rounds}"));
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
