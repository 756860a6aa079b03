// SPDX-License-Identifier: GPL-2.0-only
//! What `iommuctl` says when it cannot: each case has its own message and exit code.

use std::os::unix::process::CommandExt as _;
use std::process::Command;

use anyhow::{ensure, Result};

use super::{disk, Scenarios};
use crate::guest::bench::Bench;
use crate::guest::{cli, pci};

/// The scenarios of this file.
pub const SCENARIOS: Scenarios = &[("errors", errors), ("no-iommu", no_iommu)];

/// The host bridge: no driver binds to it.
const BRIDGE: &str = "0000:00:00.0";

/// Mistakes, missing rights, and devices that are not there.
fn errors(bench: &Bench) -> Result<()> {
    let (_, device) = disk()?;
    bench.check(
        "unknown-type",
        says(
            &format!("set-mode {device} lazy"),
            2,
            &["lazy", "DMA-FQ", "identity", "auto"],
        ),
    );
    bench.check("no-target", says("set-mode DMA", 2, &[]));
    bench.check("unknown-command", says("tighten", 2, &["tighten"]));
    bench.check(
        "no-such-device",
        says("set-mode /dev/nvme7n1 DMA", 1, &["/dev/nvme7n1"]),
    );
    bench.check("no-such-group", says("set-mode 4711 DMA", 1, &["4711"]));
    bench.check(
        "no-such-address",
        says("set-mode 0000:99:00.0 DMA", 1, &["0000:99:00.0"]),
    );
    bench.check("not-root", not_root());
    bench.check("not-root-may-look", nobody("list", 0));
    // Last: the disk is gone afterwards.
    bench.check("device-vanished", vanished());
    Ok(())
}

fn says(line: &str, code: i32, words: &[&str]) -> Result<String> {
    Ok(cli::iommuctl(line)?.ended(code)?.mentions(words)?.all())
}

fn nobody(line: &str, code: i32) -> Result<cli::Said> {
    let mut command = Command::new(cli::PROGRAM);
    command.args(line.split_whitespace()).uid(65534).gid(65534);
    cli::said(&mut command, line)?.ended(code)
}

/// The group of the host bridge has no driver, so that only the missing right is in the way.
fn not_root() -> Result<String> {
    let group = pci::group(BRIDGE)?;
    let before = pci::type_of(group)?;
    let said = nobody(&format!("set-mode {BRIDGE} DMA"), 1)?.mentions(&["root"])?;
    pci::expect_type(group, &before)?;
    Ok(said.all())
}

/// The second disk is pulled.
fn vanished() -> Result<String> {
    let group = pci::group(pci::DISK_TWO)?;
    std::fs::write(pci::folder(pci::DISK_TWO).join("remove"), "1")?;
    ensure!(
        !pci::folder(pci::DISK_TWO).exists(),
        "{} is still there",
        pci::DISK_TWO
    );
    let by_address = says(
        &format!("set-mode {} DMA", pci::DISK_TWO),
        1,
        &[pci::DISK_TWO],
    )?;
    let by_group = says(&format!("set-mode {group} DMA"), 1, &[&group.to_string()])?;
    Ok(format!("{by_address}\n{by_group}"))
}

/// A kernel without an IOMMU: what to do about it is said.
fn no_iommu(bench: &Bench) -> Result<()> {
    bench.check("no-groups", no_groups());
    bench.check("list", says("list", 1, &["intel_iommu=off"]));
    bench.check(
        "set-mode",
        says("set-mode all DMA", 1, &["intel_iommu=off"]),
    );
    bench.check(
        "set-mode-device",
        says(
            &format!("set-mode {} DMA", pci::DISK),
            1,
            &["intel_iommu=off"],
        ),
    );
    bench.check("status", cli::iommuctl("status").map(|said| said.all()));
    Ok(())
}

fn no_groups() -> Result<&'static str> {
    ensure!(
        pci::groups().map_or(0, |list| list.len()) == 0,
        "there are groups"
    );
    Ok("as it should be")
}
