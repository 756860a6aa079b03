// SPDX-License-Identifier: GPL-2.0-only
//! Loading and unloading the module while the machine works.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use anyhow::{ensure, Result};
use nix::errno::Errno;

use super::{disk, finish, load_live, write_type};
use crate::guest::bench::Bench;
use crate::guest::load::Load;
use crate::guest::modules::{self, LIVE};
use crate::guest::pci;

/// In and out, with a tighten and a relax in between.
pub fn reload(bench: &Bench) -> Result<()> {
    let (group, device) = disk()?;
    let load = Load::start(&device)?;
    let rounds = bench.of(10, 200);
    for _ in 0..rounds {
        load_live()?;
        write_type(group, "DMA")?;
        write_type(group, "DMA-FQ")?;
        modules::unload(LIVE)?;
        ensure!(
            !modules::loaded(LIVE),
            "{LIVE} is still there after it was unloaded"
        );
    }
    bench.check("reload", Ok::<_, anyhow::Error>(format!("{rounds} times")));
    bench.check("gone-for-good", gone(group));
    finish(bench, load);
    Ok(())
}

/// After the unload the kernel's own answer is back.
fn gone(group: u32) -> Result<String> {
    let answer = pci::write_type(group, "DMA");
    let errno = answer.err().and_then(|error| error.raw_os_error());
    ensure!(
        errno == Some(nix::libc::EPERM),
        "expected EPERM without the module, got {errno:?}"
    );
    Ok("EPERM".to_owned())
}

/// Two writers switch without a pause while the module comes and goes.
pub fn while_switching(bench: &Bench) -> Result<()> {
    let (group, device) = disk()?;
    let load = Load::start(&device)?;
    let stop = AtomicBool::new(false);
    let switched = AtomicU64::new(0);
    let rounds = bench.of(15, 300);
    let result = std::thread::scope(|scope| {
        let writers: Vec<_> = (0..2)
            .map(|_| scope.spawn(|| write_always(group, &stop, &switched)))
            .collect();
        let result = come_and_go(rounds);
        stop.store(true, Ordering::Relaxed);
        for writer in writers {
            match writer.join() {
                Ok(written) => written?,
                Err(_) => anyhow::bail!("a writer panicked"),
            }
        }
        result
    });
    bench.check(
        "come-and-go",
        result.map(|busy| format!("{rounds} times, {busy} unloads had to be tried again")),
    );
    let count = switched.load(Ordering::Relaxed);
    bench.fact("switches-meanwhile", count);
    bench.check("switched-meanwhile", some(count));
    finish(bench, load);
    load_live()?;
    bench.check("works-afterwards", write_type(group, "DMA"));
    write_type(group, "DMA-FQ")?;
    modules::unload(LIVE)
}

fn some(count: u64) -> Result<u64> {
    ensure!(count > 0, "no tighten got through");
    Ok(count)
}

/// Writes both types in turn; EPERM is the kernel's answer while the module is out, all else is a failure.
fn write_always(group: u32, stop: &AtomicBool, switched: &AtomicU64) -> Result<()> {
    while !stop.load(Ordering::Relaxed) {
        for wanted in ["DMA", "DMA-FQ"] {
            match pci::write_type(group, wanted) {
                Ok(()) if wanted == "DMA" => {
                    switched.fetch_add(1, Ordering::Relaxed);
                }
                Ok(()) => {}
                Err(error) if error.raw_os_error() == Some(nix::libc::EPERM) => {}
                Err(error) => anyhow::bail!("writing {wanted} to group {group}: {error}"),
            }
        }
    }
    Ok(())
}

fn come_and_go(rounds: usize) -> Result<usize> {
    let mut busy = 0;
    for _ in 0..rounds {
        load_live()?;
        std::thread::sleep(std::time::Duration::from_millis(20));
        while let Err(error) = modules::unload(LIVE) {
            // A write may hold a reference for its time.
            let again = matches!(
                error.downcast_ref::<Errno>(),
                Some(Errno::EAGAIN | Errno::EBUSY)
            );
            ensure!(again && busy < 100_000, "{error:#}");
            busy += 1;
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
    }
    Ok(busy)
}

/// A group that was tightened stays so when the module leaves, and can be relaxed by the kernel itself.
pub fn keeps_types(bench: &Bench) -> Result<()> {
    let (group, device) = disk()?;
    let load = Load::start(&device)?;
    load_live()?;
    write_type(group, "DMA")?;
    modules::unload(LIVE)?;
    bench.check("stays-strict", pci::expect_type(group, "DMA"));
    bench.check("relaxed-by-the-kernel", write_type(group, "DMA-FQ"));
    load_live()?;
    bench.check("tightened-again", write_type(group, "DMA"));
    bench.check("relaxed-again", write_type(group, "DMA-FQ"));
    finish(bench, load);
    modules::unload(LIVE)
}
