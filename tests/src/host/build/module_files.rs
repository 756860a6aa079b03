// SPDX-License-Identifier: GPL-2.0-only
//! Which of the kernel's module files a driver needs, in the order they must be loaded.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

/// The files of `names` and of everything they need, each once, what is needed first, relative to the folder of
/// `modules.dep`. A name that is no module of this kernel is passed over: it is built in, or missed by who needs it.
///
/// # Errors
/// When the text is no `modules.dep`.
pub fn resolve(dependencies: &str, names: &[&str]) -> Result<Vec<PathBuf>> {
    let mut order: Vec<PathBuf> = Vec::new();
    for name in names {
        let line = dependencies.lines().find(|line| {
            let file = line.split(':').next().unwrap_or_default();
            module_name(file) == *name
        });
        let Some(line) = line else { continue };
        let (file, needs) = line
            .split_once(':')
            .context("a line of modules.dep has no colon")?;
        // modules.dep lists what is needed last-first.
        for needed in needs.split_whitespace().rev().chain([file]) {
            let needed = PathBuf::from(needed);
            if !order.contains(&needed) {
                order.push(needed);
            }
        }
    }
    Ok(order)
}

/// `nvme_core` of `kernel/drivers/nvme/host/nvme-core.ko.xz`.
pub fn module_name(file: &str) -> String {
    let name = Path::new(file)
        .file_name()
        .unwrap_or_default()
        .to_string_lossy();
    name.split(".ko")
        .next()
        .unwrap_or_default()
        .replace('-', "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEP: &str =
        "kernel/nvme/nvme.ko.xz: kernel/nvme/nvme-core.ko.xz kernel/nvme/nvme-auth.ko.xz\n\
        kernel/nvme/nvme-core.ko.xz: kernel/nvme/nvme-auth.ko.xz\nkernel/nvme/nvme-auth.ko.xz:\n";

    #[test]
    fn what_is_needed_comes_first() {
        let order = resolve(DEP, &["nvme_core", "nvme"]).unwrap();
        let names: Vec<_> = order
            .iter()
            .map(|file| module_name(&file.to_string_lossy()))
            .collect();
        assert_eq!(names, ["nvme_auth", "nvme_core", "nvme"]);
    }

    #[test]
    fn what_is_no_module_is_passed_over() {
        assert!(resolve(DEP, &["crc32"]).unwrap().is_empty());
    }
}
