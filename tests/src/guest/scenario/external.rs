// SPDX-License-Identifier: GPL-2.0-only
//! A device behind a port that the firmware calls external: never trusted, never lazy.

use anyhow::{ensure, Result};

use super::{load_live, Scenarios};
use crate::guest::bench::Bench;
use crate::guest::{cli, modules, pci};

/// The scenarios of this file.
pub const SCENARIOS: Scenarios = &[("untrusted", untrusted)];

/// The kernel starts it strict; the module and `iommuctl` refuse to relax it.
fn untrusted(bench: &Bench) -> Result<()> {
    let address = behind_port()?;
    let group = pci::group(&address)?;
    bench.check("starts-strict", pci::expect_type(group, "DMA"));
    load_live()?;
    bench.check("module-refuses", refused(group));
    bench.check("iommuctl-refuses", said(&address));
    bench.check("stays-strict", pci::expect_type(group, "DMA"));
    bench.check(
        "others-are-lazy",
        pci::expect_type(pci::group(pci::DISK)?, "DMA-FQ"),
    );
    modules::unload(modules::LIVE)
}

/// The address of the card behind the port.
fn behind_port() -> Result<String> {
    let entries = std::fs::read_dir(pci::folder(pci::PORT))?;
    let names = entries
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned());
    let found = names
        .into_iter()
        .find(|name| name.starts_with("0000:") && name.ends_with(":00.0"));
    found.ok_or_else(|| anyhow::anyhow!("nothing is behind the port {}", pci::PORT))
}

fn refused(group: u32) -> Result<String> {
    let errno = pci::write_type(group, "DMA-FQ")
        .err()
        .and_then(|error| error.raw_os_error());
    ensure!(
        errno == Some(nix::libc::EPERM),
        "expected EPERM, got {errno:?}"
    );
    Ok("EPERM".to_owned())
}

fn said(address: &str) -> Result<String> {
    Ok(cli::iommuctl(&format!("set-mode {address} DMA-FQ"))?
        .ended(3)?
        .mentions(&[address])?
        .all())
}
