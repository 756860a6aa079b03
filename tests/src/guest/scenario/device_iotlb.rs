// SPDX-License-Identifier: GPL-2.0-only
//! A device that keeps translations of its own (ATS): a strict unmap invalidates those as well.

use anyhow::{ensure, Context as _, Result};

use super::{finish, load_live, write_type, Scenarios};
use crate::guest::bench::Bench;
use crate::guest::load::Load;
use crate::guest::{modules, pci};

/// The scenarios of this file.
pub const SCENARIOS: Scenarios = &[("device-iotlb", round_trips)];

/// PCI Express's extended capability for ATS, where its control register is, and the bit that says it is on
/// (`include/uapi/linux/pci_regs.h`).
const ATS: u32 = 0x0f;
const CONTROL: usize = 6;
const ENABLE: u16 = 0x8000;

/// Round trips while such a disk is at work.
fn round_trips(bench: &Bench) -> Result<()> {
    load_live()?;
    modules::load_stock("demand", "virtio_blk")?;
    let device = format!("/dev/{}", pci::block_device(pci::TRANSLATING)?);
    let group = pci::group(pci::TRANSLATING)?;
    bench.check("translates-itself", translates(pci::TRANSLATING));
    write_type(group, "DMA-FQ")?;
    let load = Load::start(&device)?;
    let rounds = bench.of(200, 500);
    for round in bench.rounds(rounds) {
        for wanted in ["DMA", "DMA-FQ"] {
            write_type(group, wanted).with_context(|| format!("round {round}"))?;
        }
    }
    bench.check("round-trips", Ok::<_, anyhow::Error>(rounds));
    finish(bench, load);
    modules::unload(modules::LIVE)
}

/// Whether ATS is on, as the device's configuration space has it.
fn translates(address: &str) -> Result<&'static str> {
    let path = pci::folder(address).join("config");
    let config = std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let bytes = |at: usize, count| config.get(at..at + count).context("too short");
    let mut at = 0x100;
    while at != 0 {
        let header = u32::from_le_bytes(bytes(at, 4)?.try_into()?);
        if header & 0xffff == ATS {
            let control = u16::from_le_bytes(bytes(at + CONTROL, 2)?.try_into()?);
            ensure!(control & ENABLE != 0, "it can, and ATS is off");
            return Ok("ATS is on");
        }
        at = (header >> 20) as usize;
    }
    anyhow::bail!("it has no ATS")
}
