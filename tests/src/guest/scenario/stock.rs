// SPDX-License-Identifier: GPL-2.0-only
//! What a stock kernel does and does not do, and how `iommuctl` says so.

use anyhow::{ensure, Result};

use super::{disk, finish, set_mode, write_type};
use crate::guest::bench::Bench;
use crate::guest::load::Load;
use crate::guest::{cli, modules, pci};

/// Without the module: tightening is refused, with advice; relaxing works live.
pub fn without_module(bench: &Bench) -> Result<()> {
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

fn not_loaded() -> Result<&'static str> {
    ensure!(!modules::loaded(modules::LIVE), "it is loaded");
    Ok("as it should be")
}

/// The raw write that started it all: `echo DMA > type` with a driver bound.
fn raw_refused(group: u32) -> Result<String> {
    let Err(error) = pci::write_type(group, "DMA") else {
        anyhow::bail!(
            "a stock kernel tightened a group with a driver bound: is the module loaded?"
        );
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
