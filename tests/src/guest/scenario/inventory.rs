// SPDX-License-Identifier: GPL-2.0-only
//! `list`, `show`, `status`, and every way to name a target, on a real kernel.

use anyhow::{ensure, Result};

use super::{disk, Scenarios};
use crate::guest::bench::Bench;
use crate::guest::volume::Volume;
use crate::guest::{cli, pci};

/// The scenarios of this file.
pub const SCENARIOS: Scenarios = &[("inventory", inventory), ("targets", targets)];

/// The IOMMU's driver, as `iommuctl` calls it.
const IOMMU: &str = if cfg!(target_arch = "aarch64") {
    "arm-smmu-v3"
} else {
    "intel"
};

/// What `iommuctl` shows is what sysfs has.
fn inventory(bench: &Bench) -> Result<()> {
    bench.check(
        "list",
        shows(
            "list",
            &[pci::DISK, "nvme", pci::NETWORK, "e1000", "DMA-FQ"],
        ),
    );
    bench.check("list-json", list_json());
    bench.check(
        "list-by-driver",
        shows("list --driver nvme", &[pci::DISK, pci::DISK_TWO]),
    );
    bench.check(
        "list-by-driver-leaves-out",
        leaves_out("list --driver nvme", pci::NETWORK),
    );
    bench.check(
        "list-by-class",
        shows("list --class network", &[pci::NETWORK, pci::ORACLE]),
    );
    bench.check(
        "list-by-type-leaves-out",
        leaves_out("list --type DMA", pci::DISK),
    );
    bench.check(
        "show",
        shows(
            &format!("show {}", pci::DISK),
            &[pci::DISK, "nvme", "DMA-FQ"],
        ),
    );
    bench.check(
        "show-json",
        cli::iommuctl(&format!("show --json {}", pci::DISK))?
            .ended(0)?
            .json()
            .map(|_| "json"),
    );
    bench.check(
        "status",
        shows("status", &[IOMMU, "iommu_live", "iommu.strict=0", "DMA-FQ"]),
    );
    bench.check(
        "status-json",
        cli::iommuctl("status --json")?
            .ended(0)?
            .json()
            .map(|_| "json"),
    );
    bench.check("completions", shows("completions bash", &["set-mode"]));
    Ok(())
}

fn shows(line: &str, words: &[&str]) -> Result<String> {
    Ok(cli::iommuctl(line)?.ended(0)?.mentions(words)?.out)
}

fn leaves_out(line: &str, word: &str) -> Result<&'static str> {
    let said = cli::iommuctl(line)?.ended(0)?;
    ensure!(
        !said.out.contains(word),
        "{word} should not be there: {}",
        said.all()
    );
    Ok("as it should be")
}

/// Every group of sysfs is in the document, and no other.
fn list_json() -> Result<String> {
    let document = cli::iommuctl("list --json")?.ended(0)?.json()?;
    let listed = document
        .get("groups")
        .and_then(|groups| groups.as_array())
        .map_or(0, Vec::len);
    let there = pci::groups()?.len();
    ensure!(
        listed == there,
        "sysfs has {there} groups, the document {listed}"
    );
    Ok(format!("{listed} groups"))
}

/// Each way to name a group leads to the same one. Nothing is changed.
fn targets(bench: &Bench) -> Result<()> {
    let (group, device) = disk()?;
    let second = format!("/dev/{}", pci::block_device(pci::DISK_TWO)?);
    let _volume = Volume::make(&second)?;
    let names = [
        ("group-number", group.to_string(), pci::DISK),
        ("pci-address", pci::DISK.to_owned(), pci::DISK),
        (
            "short-pci-address",
            pci::DISK.trim_start_matches("0000:").to_owned(),
            pci::DISK,
        ),
        ("device-node", device, pci::DISK),
        ("mount-point", "/mnt".to_owned(), pci::DISK_TWO),
        ("interface", pci::interface(pci::NETWORK)?, pci::NETWORK),
        ("driver", "driver:e1000".to_owned(), pci::NETWORK),
        ("class", "class:network".to_owned(), pci::NETWORK),
        ("all", "all".to_owned(), pci::DISK),
    ];
    for (name, target, address) in names {
        let number = pci::group(address)?.to_string();
        bench.check(name, shows(&format!("show {target}"), &[address, &number]));
    }
    Ok(())
}
