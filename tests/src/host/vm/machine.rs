// SPDX-License-Identifier: GPL-2.0-only
//! A machine of one of the kinds, with all that it is made of.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::host::build::command::Log;
use crate::host::build::toolchain::{Boot, Flavour, Toolchain};
use crate::host::build::userspace::checkout;
use crate::host::vm::machines::{Extra, Kind};
use crate::host::vm::qemu::{Accelerator, Clock, Device, Machine};

/// Size of a disk in bytes; sparse.
const DISK: u64 = 256 << 20;

impl Kind {
    /// A machine of this kind that runs `scenarios`, with its disks and logs in `folder`.
    ///
    /// # Errors
    /// When a disk or the firmware table cannot be made.
    pub fn describe(
        &self,
        toolchain: &Toolchain,
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
            match self.clock {
                Clock::Host => Device::Nvme {
                    slot: 4,
                    image: disk("disk1.img")?,
                },
                // The host's files take the host's time, which is not to count.
                Clock::Instructions => Device::Blank { slot: 4 },
            },
            Device::Network { slot: 5 },
            Device::Oracle { slot: 6 },
        ];
        let mut acpi_table = None;
        match self.extra {
            Extra::Nothing => {}
            Extra::External => {
                devices.push(Device::Port { slot: 7 });
                acpi_table = Some(external_table(toolchain, folder)?);
            }
            Extra::Pair => devices.push(Device::Pair {
                slot: 8,
                image: disk("disk2.img")?,
            }),
            Extra::Translating => devices.push(Device::Translating {
                slot: 8,
                image: disk("disk2.img")?,
            }),
            Extra::Disks => devices.extend((8..30).map(|slot| Device::Blank { slot })),
            Extra::ManyDisks => devices.extend((8..16).map(|slot| Device::Blanks { slot })),
            Extra::MostDisks => devices.extend((8..24).map(|slot| Device::Blanks { slot })),
        }
        let mut command_line: Vec<String> = self
            .command_line
            .iter()
            .map(|word| (*word).to_owned())
            .collect();
        command_line.push(format!("iommuctl.scenario={}", scenarios.join(",")));
        if matches!(self.flavour, Flavour::Debug(_)) {
            // Its hold points are in functions that were audited without them.
            command_line.push("iommu_live.allow_unaudited=1".into());
        }
        if std::env::var_os("IOMMUCTL_FULL").is_some() {
            command_line.push("iommuctl.full=1".into());
        }
        if let Ok(rounds) = std::env::var("IOMMUCTL_ROUNDS") {
            command_line.push(format!("iommuctl.rounds={rounds}"));
        }
        Ok(Machine {
            arch: self.arch,
            accelerator: Accelerator::from_environment(self.arch),
            processors: self.processors,
            clock: self.clock,
            // What every processor has of its own adds up.
            memory: 1024 + 16 * u32::from(self.processors),
            iommu: self.iommu,
            kernel: boot.kernel.clone(),
            initramfs: boot.initramfs.clone(),
            command_line,
            devices,
            acpi_table,
            console: folder.join("console.log"),
            report: folder.join("report.log"),
            monitor: None,
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
///
/// # Errors
/// When it does not compile.
pub fn external_table(toolchain: &Toolchain, folder: &Path) -> Result<PathBuf> {
    let source = checkout()?.join("tests/fixtures/external-port.asl");
    let prefix = folder.join("external-port");
    let log = Log::create(folder.join("iasl.log"))?;
    let mut iasl: Command = toolchain.root.tool("usr/bin/iasl");
    log.run(iasl.arg("-p").arg(&prefix).arg(&source))?;
    Ok(prefix.with_extension("aml"))
}
