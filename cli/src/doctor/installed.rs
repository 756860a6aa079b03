// SPDX-License-Identifier: GPL-2.0-only
//! The module that is installed for the running kernel.

use std::path::PathBuf;

use crate::sys::trusted::{Content, Root, TrustError};

/// The directory of the loaded module (`Documentation/ABI/stable/sysfs-module`).
pub const LOADED: &str = "module/iommu_live";

/// Where modules are that are not the kernel's own (depmod.d(5), dkms(8), weak-modules of Fedora's kmod), the most important
/// first.
const PLACES: [&str; 4] = ["updates/dkms", "updates", "extra", "weak-updates"];

/// The file name of the module; kmod(8) also loads it compressed.
pub const FILE: &str = "iommu_live.ko";

const SUFFIXES: [&str; 4] = ["", ".xz", ".zst", ".gz"];

/// The module in the file system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Installed {
    /// Its file, relative to the root.
    pub path: String,
    /// Whether depmod(8) knows of it, and so modprobe(8).
    pub listed: bool,
}

/// Finds the module for the kernel `release` below `root`.
///
/// # Errors
///
/// [`TrustError`], if the folders cannot be read, or others can write them.
pub fn find(root: &Root, release: &str) -> Result<Option<Installed>, TrustError> {
    let modules = format!("lib/modules/{release}");
    let Some(folder) = root.dir(&modules)? else {
        return Ok(None);
    };
    let is_there = |path: &String| PathBuf::from(root.display(path)).is_file();
    if let Content::Text(dep) = folder.read("modules.dep")? {
        let path = in_modules_dep(&dep).map(|path| format!("{modules}/{path}"));
        if let Some(path) = path.filter(is_there) {
            return Ok(Some(Installed { path, listed: true }));
        }
    }
    for place in PLACES.map(|place| format!("{modules}/{place}")) {
        let Some(folder) = root.dir(&place)? else {
            continue;
        };
        for name in folder.names()? {
            // In `extra` and `weak-updates`, each package has a folder.
            let within = SUFFIXES.map(|suffix| format!("{place}/{name}/{FILE}{suffix}"));
            let mut paths = within.to_vec();
            if is_module(&name) {
                paths.push(format!("{place}/{name}"));
            }
            if let Some(path) = paths.into_iter().find(is_there) {
                let listed = false;
                return Ok(Some(Installed { path, listed }));
            }
        }
    }
    Ok(None)
}

fn is_module(name: &str) -> bool {
    let suffix = name.strip_prefix(FILE);
    suffix.is_some_and(|suffix| SUFFIXES.contains(&suffix))
}

/// The path of the module in the text of `modules.dep` (modules.dep(5)): each line is a module, a colon, and what it needs.
fn in_modules_dep(text: &str) -> Option<&str> {
    let mut paths = text.lines().filter_map(|line| line.split(':').next());
    paths.find(|path| is_module(path.rsplit('/').next().unwrap_or(path)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_module_itself_counts() {
        for name in ["iommu_live.ko", "iommu_live.ko.xz", "iommu_live.ko.zst"] {
            assert!(is_module(name), "{name}");
        }
        for name in ["iommu_live.ko.bak", "iommu_live", "not_iommu_live.ko"] {
            assert!(!is_module(name), "{name}");
        }
        let dep = "kernel/a/b.ko.xz: kernel/c.ko.xz updates/iommu_live.ko\n\
                   updates/dkms/iommu_live.ko.xz:\n";
        assert_eq!(in_modules_dep(dep), Some("updates/dkms/iommu_live.ko.xz"));
        assert_eq!(in_modules_dep("kernel/a.ko: updates/iommu_live.ko\n"), None);
    }
}
