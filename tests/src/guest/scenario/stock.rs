// SPDX-License-Identifier: GPL-2.0-only
//! What a stock kernel does and does not do, and how `iommuctl` says so.

use anyhow::{ensure, Result};

use super::{disk, finish, load_live, set_mode, write_type, Scenarios};
use crate::guest::bench::Bench;
use crate::guest::load::Load;
use crate::guest::{cli, modules, pci};

/// The scenarios of this file.
pub const SCENARIOS: Scenarios = &[("without-module", without_module), ("not-live", not_live)];

/// Without the module: tightening is refused, with advice; relaxing works live.
fn without_module(bench: &Bench) -> Result<()> {
    let (group, device) = disk()?;
    bench.check("module-is-not-loaded", not_loaded());
    bench.check("starts-lazy", pci::expect_type(group, "DMA-FQ"));
    let load = Load::start(&device)?;
    bench.check("echo-is-not-permitted", raw_refused(group));
    bench.check("tighten-is-refused", refused(&device, group));
    bench.check("same-type-is-success", set_mode(&device, group, "DMA-FQ"));
    finish(bench, load);
    bench.check("relax-works", relax());
    Ok(())
}

/// With the module, where it does not do it: a relax is the kernel's own, a tighten is refused, and nothing is disturbed.
fn not_live(bench: &Bench) -> Result<()> {
    load_live()?;
    let (group, device) = disk()?;
    let load = Load::start(&device)?;
    bench.check("relax-works", write_type(group, "DMA-FQ"));
    bench.check("echo-is-not-permitted", raw_refused(group));
    bench.check("tighten-is-refused", refused(&device, group));
    finish(bench, load);
    modules::unload(modules::LIVE)
}

fn not_loaded() -> Result<&'static str> {
    ensure!(!modules::loaded(modules::LIVE), "it is loaded");
    Ok("as it should be")
}

/// The raw write that started it all: `echo DMA > type` with a driver bound.
fn raw_refused(group: u32) -> Result<String> {
    let Err(error) = pci::write_type(group, "DMA") else {
        anyhow::bail!("a group with a driver bound was tightened: this was to be refused");
    };
    ensure!(
        error.raw_os_error() == Some(nix::libc::EPERM),
        "expected EPERM, got {error}"
    );
    pci::expect_type(group, "DMA-FQ")?;
    Ok(error.to_string())
}

fn refused(device: &str, group: u32) -> Result<String> {
    let said = cli::iommuctl(&format!("set-mode {device} DMA"))?.ended(3)?;
    let said = said.mentions(&[pci::DISK, "nvme", "iommu_live", "--route rebind"])?;
    pci::expect_type(group, "DMA-FQ")?;
    Ok(said.all())
}

/// Relaxing needs a strict group, and a stock kernel makes one only while no driver is bound: the second disk is
/// unbound, tightened, bound again, and then relaxed live.
fn relax() -> Result<String> {
    let group = pci::group(pci::DISK_TWO)?;
    std::fs::write("/sys/bus/pci/drivers/nvme/unbind", pci::DISK_TWO)?;
    write_type(group, "DMA")?;
    std::fs::write("/sys/bus/pci/drivers/nvme/bind", pci::DISK_TWO)?;
    let device = format!("/dev/{}", pci::block_device(pci::DISK_TWO)?);
    let load = Load::start(&device)?;
    let said = set_mode(&device, group, "DMA-FQ")?;
    load.finish()?;
    Ok(said)
}
