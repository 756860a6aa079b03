// SPDX-License-Identifier: GPL-2.0-only
//! The initramfs: busybox, our programs, and the modules the machine's devices need.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::host::build::cache::Cache;
use crate::host::build::chroot::Chroot;
use crate::host::build::command::Log;
use crate::host::build::cross;
use crate::host::build::kernel::Kernel;
use crate::host::build::module_files;
use crate::host::build::progress::step;
use crate::host::build::userspace::Programs;
use crate::host::vm::cpio::Archive;

/// Loaded at boot, in this order, by kernels that have them as modules: an IOMMU comes before its devices. The network card's
/// driver comes later, by the guest: the oracle's card must be reserved before it.
const AT_BOOT: [&str; 2] = ["virtio_iommu", "nvme"];
/// There when the guest wants them.
const ON_DEMAND: [&str; 5] = [
    "e1000",
    "ext4",
    "vfio_pci",
    "vfio_iommu_type1",
    "virtio_blk",
];

const FOLDERS: [&str; 15] = [
    "bin",
    "dev",
    "etc",
    "lib",
    "lib/modules",
    "lib/ours",
    "mnt",
    "proc",
    "root",
    "run",
    "sys",
    "tmp",
    "usr",
    "usr/share",
    "usr/share/misc",
];

/// What goes into the archive.
#[derive(Debug)]
pub struct Contents<'a> {
    /// Where the kernel is.
    pub cache: &'a Cache,
    /// Where busybox and xz are.
    pub root: &'a Chroot,
    /// Whose modules.
    pub kernel: &'a Kernel,
    /// Our programs.
    pub programs: &'a Programs,
    /// Our modules: `.ko` files, put into `/lib/ours`.
    pub modules: &'a [PathBuf],
}

impl Contents<'_> {
    /// Writes the archive to `target`.
    ///
    /// # Errors
    /// When a file is missing, or a module cannot be unpacked.
    pub fn write(&self, target: &Path) -> Result<()> {
        step("packing the initramfs", || {
            let log = self.cache.log("initramfs")?;
            let archive = self.pack(&log)?;
            std::fs::write(target, archive)
                .with_context(|| format!("cannot write {}", target.display()))
        })
    }

    fn pack(&self, log: &Log) -> Result<Vec<u8>> {
        let mut archive = Archive::default();
        for folder in FOLDERS {
            archive.folder(folder);
        }
        archive.file("init", &read(&self.programs.guest)?);
        archive.file("bin/iommuctl", &read(&self.programs.iommuctl)?);
        archive.file(
            "bin/busybox",
            &read(&cross::busybox(self.root, self.kernel.arch))?,
        );
        archive.link("bin/sh", "busybox");
        archive.file(
            "usr/share/misc/pci.ids",
            &read(&self.root.outside("/usr/share/misc/pci.ids"))?,
        );
        archive.file(
            "etc/passwd",
            b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n",
        );
        archive.file("etc/group", b"root:x:0:\nnogroup:x:65534:\n");
        for module in self.modules {
            let name = module
                .file_name()
                .context("a module's path has no file name")?;
            archive.file(
                &format!("lib/ours/{}", name.to_string_lossy()),
                &read(module)?,
            );
        }
        let mut lists = String::new();
        for (list, names) in [("boot", &AT_BOOT[..]), ("demand", &ON_DEMAND[..])] {
            for file in self.files(names)? {
                let name = module_files::module_name(&file.to_string_lossy());
                let inside = format!("lib/modules/{name}.ko");
                if !lists.contains(&format!(" {name}\n")) {
                    archive.file(&inside, &self.unpacked(log, &file)?);
                }
                lists.push_str(&format!("{list} {name}\n"));
            }
        }
        archive.file("lib/modules/list", lists.as_bytes());
        Ok(archive.finish())
    }

    fn files(&self, names: &[&str]) -> Result<Vec<PathBuf>> {
        let folder = self.kernel.modules(self.cache);
        let path = folder.join("modules.dep");
        let dependencies = std::fs::read_to_string(&path)
            .with_context(|| format!("cannot read {}", path.display()))?;
        module_files::resolve(&dependencies, names)
            .with_context(|| format!("looking for modules in {}", path.display()))
    }

    fn unpacked(&self, log: &Log, file: &Path) -> Result<Vec<u8>> {
        let path = self.kernel.modules(self.cache).join(file);
        if path.extension().is_some_and(|end| end == "ko") {
            return read(&path);
        }
        let mut command = self.root.tool("usr/bin/xz");
        let output = command
            .arg("-dc")
            .arg(&path)
            .stderr(std::process::Stdio::null())
            .output();
        let output = output.with_context(|| format!("cannot run xz for {}", path.display()))?;
        anyhow::ensure!(
            output.status.success(),
            "xz cannot unpack {} ({}); log: {}",
            path.display(),
            output.status,
            log.path().display()
        );
        Ok(output.stdout)
    }
}

fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}
