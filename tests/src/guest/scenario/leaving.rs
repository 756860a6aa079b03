// SPDX-License-Identifier: GPL-2.0-only
//! Somebody leaves while a switch is cleaned up: the last device of the group, or the module.
//!
//! Grace periods are those of the whole machine: a straggler of the oracle holds up the clean-up of another group.

use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{bail, ensure, Context as _, Result};
use nix::errno::Errno;

use super::stragglers::{at_once, attach, leave, let_go, tighten};
use super::{load_live, write_type, Scenarios};
use crate::guest::bench::Bench;
use crate::guest::oracle::{Oracle, Point};
use crate::guest::{live, modules, pci};

/// The scenarios of this file.
pub const SCENARIOS: Scenarios = &[
    ("last-device-leaves", last_device),
    ("module-leaves", module),
];

/// The only device of a group is removed while the group's switch is cleaned up: it does not wait.
fn last_device(bench: &Bench) -> Result<()> {
    rounds(bench, "last-device-leaves", device_leaves)
}

/// Somebody wants to unload the module while a switch is cleaned up, and is refused, while the last device of the group leaves, and
/// somebody writes the group's type. To the kernel's own store that may be fatal: it looks at the group's domain, waits for the mutex
/// behind the one who removes the device, and follows a pointer that is NULL by then. So the writer is done before the module may go;
/// and then it goes.
fn module(bench: &Bench) -> Result<()> {
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
    let group = begin(oracle)?;
    let (_, took) = at_once("the removal", || {
        remove().context("cannot remove the device")
    })?;
    ensure!(
        pci::group(pci::DISK_TWO).is_err(),
        "the device is still in a group"
    );
    // It keeps the module, and what may still be reached.
    ensure!(
        live::cleanups()?.iter().any(|one| one.group == group),
        "the clean-up ended while a task was in the middle of an unmap"
    );
    let told = found_again()?;
    end(oracle)?;
    Ok(format!("{told}; it left within {} ms", took.as_millis()))
}

fn module_leaves(oracle: &Oracle) -> Result<String> {
    let group = begin(oracle)?;
    // A driver would wait for the mutex earlier, when it is unbound.
    let unbind = pci::folder(pci::DISK_TWO).join("driver/unbind");
    std::fs::write(&unbind, pci::DISK_TWO)
        .with_context(|| format!("cannot write to {}", unbind.display()))?;
    refused(group)?;
    let writer: JoinHandle<std::io::Result<()>> = std::thread::spawn(move || {
        for _ in 0..200 {
            pci::write_type(group, "DMA-FQ")?;
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    });
    let unload = std::thread::spawn(|| modules::unload(modules::LIVE));
    let removal = std::thread::spawn(remove);
    let answer = |who: &str, thread: JoinHandle<std::io::Result<()>>| match thread.join() {
        Ok(answer) => Ok(answer),
        Err(_) => bail!("{who} panicked"),
    };
    answer("the remover", removal)?.context("cannot remove the device")?;
    // Whatever it is told, it is told something.
    let written = answer("the writer", writer)?;
    ensure!(!unload.is_finished(), "the module left a clean-up behind");
    end(oracle)?;
    match unload.join() {
        Ok(unloaded) => unloaded?,
        Err(_) => bail!("the one who unloads panicked"),
    }
    load_live()?;
    let told = found_again()?;
    let written = written.err().and_then(|error| error.raw_os_error());
    Ok(format!("{told}; the writer got {written:?}"))
}

/// The module is not unloaded, and says for which group it stays.
pub(super) fn refused(group: u32) -> Result<String> {
    let answer = modules::unload_now(modules::LIVE);
    ensure!(
        answer == Err(Errno::EWOULDBLOCK),
        "the unload during a clean-up: {answer:?}"
    );
    let list = live::cleanups()?;
    let found = list.iter().find(|one| one.group == group);
    let found = found.with_context(|| format!("nothing tells of group {group}: {list:?}"))?;
    Ok(format!("EWOULDBLOCK, because of {found:?}"))
}

/// The second disk's group, strict, with a clean-up that waits.
fn begin(oracle: &Oracle) -> Result<u32> {
    let group = pci::group(pci::DISK_TWO)?;
    write_type(group, "DMA-FQ")?;
    oracle.hold(0, Point::Entered, 1)?;
    tighten(group)?;
    Ok(group)
}

fn remove() -> std::io::Result<()> {
    std::fs::write(pci::folder(pci::DISK_TWO).join("remove"), "1")
}

/// Finds the disk again.
fn found_again() -> Result<String> {
    std::fs::write("/sys/bus/pci/rescan", "1").context("cannot rescan")?;
    let name = pci::block_device(pci::DISK_TWO)?;
    let group = pci::group(pci::DISK_TWO)?;
    Ok(format!("{name} is back in group {group}"))
}

/// Lets everybody go on.
fn end(oracle: &Oracle) -> Result<()> {
    oracle.release(0)?;
    oracle.returned(0)?;
    oracle.fire().map(|_| ())
}
