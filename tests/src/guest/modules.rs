// SPDX-License-Identifier: GPL-2.0-only
//! Loading and unloading kernel modules.

use std::ffi::{CStr, CString};
use std::fs::File;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use nix::errno::Errno;
use nix::kmod::{delete_module, finit_module, DeleteModuleFlags, ModuleInitFlags};

use super::live;

/// The module under test.
pub const LIVE: &str = "iommu_live";

/// Loads one of the kernel's modules with all that it needs; nothing happens when it is loaded already.
///
/// # Errors
/// When the initramfs does not have it, or the kernel refuses it.
pub fn load_stock(list: &str, wanted: &str) -> Result<()> {
    let path = "/lib/modules/list";
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {path}"))?;
    // Each list has what a module needs before the module itself.
    for name in text
        .lines()
        .filter_map(|line| line.strip_prefix(list))
        .map(str::trim)
    {
        load(Path::new(&format!("/lib/modules/{name}.ko")))?;
        if name == wanted {
            return Ok(());
        }
    }
    anyhow::ensure!(wanted.is_empty(), "the initramfs has no module {wanted}");
    Ok(())
}

/// Loads one of our modules.
///
/// # Errors
/// When the initramfs does not have it, or the kernel refuses it.
pub fn load_ours(name: &str) -> Result<()> {
    load(Path::new(&ours(name)))
}

/// Where one of our modules is.
pub fn ours(name: &str) -> String {
    format!("/lib/ours/{name}.ko")
}

/// Loads the module in this file; nothing happens when it is loaded already.
///
/// # Errors
/// When there is no such file, or the kernel refuses it.
pub fn load(path: &Path) -> Result<()> {
    load_with(path, &parameters(&name(path))?)
}

/// The same, with these parameters and no others.
///
/// # Errors
/// As [`load`].
pub fn load_with(path: &Path, words: &CStr) -> Result<()> {
    let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    match finit_module(&file, words, ModuleInitFlags::empty()) {
        Ok(()) | Err(Errno::EEXIST) => Ok(()),
        Err(errno) => {
            Err(errno).with_context(|| format!("the kernel does not load {}", path.display()))
        }
    }
}

fn name(path: &Path) -> String {
    let stem = path.file_stem().unwrap_or_default();
    stem.to_string_lossy().into_owned()
}

/// Words `NAME.KEY=VALUE` of the kernel command line are parameters of the module `NAME`, as `modprobe` has it.
fn parameters(name: &str) -> Result<CString> {
    let path = "/proc/cmdline";
    let line = std::fs::read_to_string(path).with_context(|| format!("cannot read {path}"))?;
    let prefix = format!("{name}.");
    let words: Vec<_> = line
        .split_whitespace()
        .filter_map(|word| word.strip_prefix(&prefix))
        .collect();
    CString::new(words.join(" ")).context("a parameter has a NUL")
}

/// Unloads a module. While it cleans up after a switch it is in use: that is waited for.
///
/// # Errors
/// When the kernel refuses: it stays in use, or is not loaded.
pub fn unload(name: &str) -> Result<()> {
    let begin = Instant::now();
    loop {
        match unload_now(name) {
            Err(Errno::EWOULDBLOCK) if begin.elapsed() < CLEANED_UP => {
                std::thread::sleep(Duration::from_millis(5));
            }
            answer => {
                return answer.with_context(|| format!("the kernel does not unload {name}"));
            }
        }
    }
}

/// Longer than any clean-up takes that nobody holds up, under emulation and with checks.
const CLEANED_UP: Duration = Duration::from_secs(180);

/// Unloads a module, or tells what the kernel answers.
///
/// # Errors
/// `EWOULDBLOCK` while it is in use, `ENOENT` if it is not loaded.
pub fn unload_now(name: &str) -> Result<(), Errno> {
    if name == LIVE {
        live::remember();
    }
    let text = CString::new(name).map_err(|_| Errno::EINVAL)?;
    delete_module(&text, DeleteModuleFlags::O_NONBLOCK)
}

/// Whether a module is loaded.
pub fn loaded(name: &str) -> bool {
    Path::new("/sys/module").join(name).exists()
}
