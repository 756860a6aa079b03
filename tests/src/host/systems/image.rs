// SPDX-License-Identifier: GPL-2.0-only
//! A Debian system on a disk image, booted in a virtual machine as often as one likes. What one boot writes, the next finds.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{ensure, Context as _, Result};

use crate::host::build::arch::Arch;
use crate::host::build::chroot::Chroot;
use crate::host::build::command::{as_root, Log};
use crate::host::build::progress::{say, seconds};
use crate::host::build::toolchain::Toolchain;
use crate::host::vm::machine::external_table;
use crate::host::vm::monitor;
use crate::host::vm::qemu::{Accelerator, Clock, Device, Iommu, Machine};
use crate::host::vm::runner::{self, Finished};
use crate::report::Line;

/// The label of its file system.
const LABEL: &str = "iommuctl-root";

/// The disk and, beside it, what boots it.
#[derive(Debug)]
pub struct Image {
    toolchain: Toolchain,
    /// Goes with it.
    folder: tempfile::TempDir,
}

impl Image {
    /// A folder for one, in the cache.
    ///
    /// # Errors
    /// When the folder cannot be made.
    pub fn new(toolchain: Toolchain, prefix: &str) -> Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix(&format!("{prefix}-"))
            .tempdir_in(toolchain.cache.join("run"))
            .context("cannot make a folder for the system")?;
        Ok(Self { toolchain, folder })
    }

    /// What it was made with.
    pub fn toolchain(&self) -> &Toolchain {
        &self.toolchain
    }

    /// A place in its folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Makes the disk, of this size, from `tree`; and takes out of it the files that boot it, each with its name here.
    ///
    /// # Errors
    /// When a file is missing, or the disk is too small.
    pub fn fill(&self, log: &Log, tree: &Chroot, size: &str, files: &[(&str, &str)]) -> Result<()> {
        for (file, name) in files {
            let copy = self.path(name);
            log.run(
                as_root("cp")
                    .arg("-L")
                    .arg(tree.path().join(file))
                    .arg(&copy),
            )?;
            log.run(as_root("chmod").arg("644").arg(&copy))?;
        }
        let image = self.path("root.img");
        log.run(
            as_root("mkfs.ext4")
                .args(["-q", "-F", "-L", LABEL, "-d"])
                .arg(tree.path())
                .arg(&image)
                .arg(size),
        )?;
        log.run(as_root("chmod").arg("666").arg(&image))
    }

    /// Takes a file out of the disk, as the last boot left it.
    ///
    /// # Errors
    /// When it is not there.
    pub fn take(&self, log: &Log, file: &str, name: &str) -> Result<()> {
        let to = self.path(name);
        // What the last boot did not write back yet is in the journal; e2fsck gives 1 for "corrected".
        let image = self.path("root.img");
        let status = Command::new("/sbin/e2fsck").arg("-pf").arg(&image).output();
        let status = status.context("cannot start e2fsck")?.status;
        ensure!(
            status.code().is_some_and(|code| code <= 1),
            "e2fsck finds more wrong with {} than it mends: {status}",
            image.display()
        );
        let dump = format!("dump {file} {}", to.display());
        log.run(
            Command::new("/sbin/debugfs")
                .arg("-R")
                .arg(dump)
                .arg(&image),
        )?;
        let size = std::fs::metadata(&to).map_or(0, |data| data.len());
        ensure!(size > 0, "there is no {file} on the disk");
        Ok(())
    }

    /// Boots it, with the kernel and the initramfs of these names, and these words on the command line beside its own.
    ///
    /// # Errors
    /// When QEMU cannot be started, or the machine broke every time.
    pub fn boot(
        &self,
        scenario: &str,
        kernel: &str,
        initramfs: &str,
        words: &[&str],
    ) -> Result<Finished> {
        let second = self.path("second.img");
        let file = std::fs::File::create(&second).context("cannot make the second disk")?;
        file.set_len(64 << 20)
            .context("cannot size the second disk")?;
        // By its label: the kernel probes both disks at the same time, and either may be the first.
        let root = format!("root=LABEL={LABEL}");
        let first = [root.as_str(), "rw", "intel_iommu=on"];
        let all = first.iter().chain(words);
        let mut command_line: Vec<String> = all.map(|word| (*word).to_owned()).collect();
        command_line.push(format!("iommuctl.scenario={scenario}"));
        let machine = Machine {
            arch: Arch::X86_64,
            accelerator: Accelerator::from_environment(Arch::X86_64),
            processors: 2,
            clock: Clock::Host,
            memory: 2048,
            iommu: Iommu::Intel(""),
            kernel: self.path(kernel),
            initramfs: self.path(initramfs),
            command_line,
            devices: vec![
                disk(3, self.path("root.img")),
                disk(4, second),
                Device::Network { slot: 5 },
                Device::EmptyPort { slot: 7 },
                Device::EmptyPort { slot: 8 },
                Device::EmptyPort { slot: 9 },
            ],
            // What is behind the port in slot 7 is external then.
            acpi_table: Some(external_table(&self.toolchain, self.folder.path())?),
            console: self.path(&format!("{scenario}-console.log")),
            report: self.path(&format!("{scenario}-report.log")),
            monitor: Some(self.path("monitor")),
        };
        // What cannot be plugged in is missed by the guest, which says so.
        let mut plug = |line: &Line| {
            let Line::Plug(name) = line else { return };
            let done =
                monitor::commands(name).and_then(|c| monitor::execute(&self.path("monitor"), &c));
            if let Err(error) = done {
                say(&format!("   cannot plug in `{name}`: {error:#}"));
            }
        };
        let folder: &Path = self.folder.path();
        runner::run_machine(&self.toolchain, &machine, folder, scenario, &mut plug)
    }

    /// Keeps its folder, with the logs: something failed.
    pub fn keep(self) {
        let _kept = self.folder.keep();
    }
}

fn disk(slot: u8, image: PathBuf) -> Device {
    Device::Nvme { slot, image }
}

/// Everything that a boot reported, for people at work on it.
pub fn tell(finished: &Finished) {
    for section in &finished.report.sections {
        say(&format!("   | {}", section.name));
        for (name, good, detail) in &section.checks {
            let mark = if *good { "ok" } else { "FAIL" };
            say(&format!("   | {mark} {name}: {detail}"));
        }
        for (key, value) in &section.facts {
            say(&format!("   | {key}: {value}"));
        }
    }
    say(&format!("   ran {}", seconds(finished.took)));
}
