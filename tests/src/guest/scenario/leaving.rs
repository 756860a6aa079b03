// SPDX-License-Identifier: GPL-2.0-only
//! Somebody leaves in the middle of a switch: the last device of the group, or the module. Only on a kernel with hold
//! points.
//!
//! Grace periods are those of the whole machine: a straggler of the oracle holds up a tighten of another group.

use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{bail, ensure, Context as _, Result};

use super::stragglers::{attach, leave, let_go, Tighten};
use super::{load_live, write_type};
use crate::guest::bench::Bench;
use crate::guest::oracle::{Oracle, Point};
use crate::guest::{modules, pci};

/// Long enough to come to where the next one is to wait.
const A_WHILE: Duration = Duration::from_secs(1);

/// The only device of a group is removed while a tighten of the group waits for a straggler.
pub fn last_device(bench: &Bench) -> Result<()> {
    rounds(bench, "last-device-leaves", device_leaves)
}

/// The module is unloaded in the middle of a tighten, while the last device of the group is about to leave, and somebody
/// writes the group's type. To the kernel's own store that is fatal: it looks at the group's domain, waits for the mutex
/// behind the one who removes the device, and follows a pointer that is NULL by then.
pub fn module(bench: &Bench) -> Result<()> {
    rounds(bench, "module-leaves", module_leaves)
}

fn rounds(bench: &Bench, name: &str, part: fn(&Oracle) -> Result<String>) -> Result<()> {
    let oracle = attach()?;
    for round in 0..bench.of(3, 5) {
        let result = let_go(&oracle, || part(&oracle));
        bench.check(name, result.with_context(|| format!("round {round}")));
    }
    leave(&oracle)
}

fn device_leaves(oracle: &Oracle) -> Result<String> {
    let tighten = begin(oracle, pci::group(pci::DISK_TWO)?)?;
    let removal = remove();
    std::thread::sleep(A_WHILE);
    ensure!(
        !removal.is_finished(),
        "the device left in the middle of the switch"
    );
    end(oracle, tighten, removal)
}

fn module_leaves(oracle: &Oracle) -> Result<String> {
    let group = pci::group(pci::DISK_TWO)?;
    // A driver would wait for the mutex earlier, when it is unbound.
    let unbind = pci::folder(pci::DISK_TWO).join("driver/unbind");
    std::fs::write(&unbind, pci::DISK_TWO)
        .with_context(|| format!("cannot write to {}", unbind.display()))?;
    let tighten = begin(oracle, group)?;
    let unload = std::thread::spawn(|| modules::unload(modules::LIVE));
    std::thread::sleep(A_WHILE);
    let path = format!("/sys/module/{}/initstate", modules::LIVE);
    let state = std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    ensure!(
        state.trim() == "going",
        "the module is {state}, not on its way out"
    );
    let removal = remove();
    std::thread::sleep(A_WHILE);
    let writer = std::thread::spawn(move || pci::write_type(group, "DMA-FQ"));
    std::thread::sleep(A_WHILE);
    ensure!(!unload.is_finished(), "the module left a switch behind");
    let told = end(oracle, tighten, removal)?;
    // Whatever it is told, it is told something.
    let answer = match writer.join() {
        Ok(answer) => answer.err().and_then(|error| error.raw_os_error()),
        Err(_) => bail!("the writer panicked"),
    };
    match unload.join() {
        Ok(unloaded) => unloaded?,
        Err(_) => bail!("the one who unloads panicked"),
    }
    load_live()?;
    Ok(format!("{told}; the writer got {answer:?}"))
}

/// A tighten of the group that waits.
fn begin(oracle: &Oracle, group: u32) -> Result<Tighten> {
    write_type(group, "DMA-FQ")?;
    oracle.hold(0, Point::PageTableChanged, 1)?;
    let tighten = Tighten::begin(group);
    tighten.expect_waiting()?;
    Ok(tighten)
}

fn remove() -> JoinHandle<std::io::Result<()>> {
    std::thread::spawn(|| std::fs::write(pci::folder(pci::DISK_TWO).join("remove"), "1"))
}

/// Lets everybody go on, and finds the disk again.
fn end(
    oracle: &Oracle,
    tighten: Tighten,
    removal: JoinHandle<std::io::Result<()>>,
) -> Result<String> {
    oracle.release(0)?;
    tighten.finish()?;
    match removal.join() {
        Ok(answer) => answer.context("the device cannot be removed")?,
        Err(_) => bail!("the remover panicked"),
    }
    ensure!(
        pci::group(pci::DISK_TWO).is_err(),
        "the device is still in a group"
    );
    oracle.returned(0)?;
    oracle.fire()?;
    std::fs::write("/sys/bus/pci/rescan", "1").context("cannot rescan")?;
    let name = pci::block_device(pci::DISK_TWO)?;
    let group = pci::group(pci::DISK_TWO)?;
    Ok(format!("{name} is back in group {group}"))
}
