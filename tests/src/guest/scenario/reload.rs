// SPDX-License-Identifier: GPL-2.0-only
//! Loading and unloading the module while the machine works.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{ensure, Context as _, Result};
use nix::errno::Errno;

use super::{disk, finish, load_live, write_type, Scenarios};
use crate::guest::bench::Bench;
use crate::guest::load::Load;
use crate::guest::modules::{self, LIVE};
use crate::guest::pci;
use crate::guest::random::Random;

/// The scenarios of this file.
pub const SCENARIOS: Scenarios = &[
    ("reload", reload),
    ("reload-while-switching", while_switching),
    ("unload-keeps-types", keeps_types),
    ("other-kernel", other_kernel),
    ("unaudited-kernel", unaudited_kernel),
];

/// In and out, with a tighten and a relax in between.
fn reload(bench: &Bench) -> Result<()> {
    let (group, device) = disk()?;
    let load = Load::start(&device)?;
    let rounds = bench.of(10, 60);
    for _ in bench.rounds(rounds) {
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

/// The distribution's own kernel is the one that was audited. One with hold points is not: the module is refused there, unless
/// it is told to go on, and says so then.
fn unaudited_kernel(bench: &Bench) -> Result<()> {
    let path = modules::ours(LIVE);
    let release = "/proc/sys/kernel/osrelease";
    let release =
        std::fs::read_to_string(release).with_context(|| format!("cannot read {release}"))?;
    let wanted = if release.contains("-iommuctl-") {
        let answer = modules::load_with(path.as_ref(), c"allow_unaudited=0");
        refused(bench, &answer, Errno::EOPNOTSUPP);
        "override"
    } else {
        "audited"
    };
    load_live()?;
    let attribute = "/sys/kernel/iommu_live/audit";
    let word =
        std::fs::read_to_string(attribute).with_context(|| format!("cannot read {attribute}"))?;
    ensure!(
        word.trim() == wanted,
        "{attribute} reads {word:?}, not {wanted}"
    );
    bench.check("audit", Ok::<_, anyhow::Error>(wanted));
    modules::unload(LIVE)
}

/// Two writers switch while the module comes and goes. They pause now and then for as long as a clean-up takes: each switch keeps the
/// module, so that nobody could unload it else.
fn while_switching(bench: &Bench) -> Result<()> {
    let (group, device) = disk()?;
    let load = Load::start(&device)?;
    let stop = AtomicBool::new(false);
    let switched = AtomicU64::new(0);
    let rounds = bench.of(15, 60);
    let result = std::thread::scope(|scope| {
        let writers: Vec<_> = (1..=2)
            .map(|seed| {
                let (stop, switched) = (&stop, &switched);
                scope.spawn(move || write_always(group, seed, stop, switched))
            })
            .collect();
        let result = come_and_go(bench, rounds);
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
        result.map(|refused| format!("{rounds} times; {refused} times it was in use")),
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
fn write_always(group: u32, seed: u64, stop: &AtomicBool, switched: &AtomicU64) -> Result<()> {
    let mut random = Random::new(seed);
    while !stop.load(Ordering::Relaxed) {
        // Most pauses are short, so that switches also meet the module on its way out and in.
        let pause = match random.below(8) {
            0 => random.below(800_000),
            _ => random.below(20_000),
        };
        std::thread::sleep(Duration::from_micros(pause));
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

/// Both writers pause for long enough at the same time well before that.
const GETS_THROUGH: Duration = Duration::from_secs(120);

/// In and out, as soon as it may go; how often it was refused.
fn come_and_go(bench: &Bench, rounds: usize) -> Result<u64> {
    let mut refused = 0;
    for _ in bench.rounds(rounds) {
        load_live()?;
        std::thread::sleep(Duration::from_millis(20));
        let begin = Instant::now();
        // Refused while it is in use, and never otherwise: whatever else comes is passed on.
        while let Err(errno) = modules::unload_now(LIVE) {
            ensure!(errno == Errno::EWOULDBLOCK, "the unload: {errno}");
            ensure!(begin.elapsed() < GETS_THROUGH, "the module stays in use");
            refused += 1;
            std::thread::sleep(Duration::from_millis(2));
        }
    }
    Ok(refused)
}

/// A group that was tightened stays so when the module leaves, and can be relaxed by the kernel itself.
fn keeps_types(bench: &Bench) -> Result<()> {
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

/// A module that was built for a kernel with other types is refused. What it was built for is the hash of that kernel's
/// BTF, so one that has another hash in it stands for all of them. On arm64 the hash is in pieces, in several instructions, and
/// cannot be altered so.
fn other_kernel(bench: &Bench) -> Result<()> {
    let types =
        std::fs::read("/sys/kernel/btf/vmlinux").context("cannot read this kernel's BTF")?;
    let hash = types.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let mut module = std::fs::read(modules::ours(LIVE)).context("cannot read the module")?;
    let wanted = hash.to_le_bytes();
    let places: Vec<_> = (0..module.len() - wanted.len())
        .filter(|at| module[*at..].starts_with(&wanted))
        .collect();
    ensure!(
        !places.is_empty(),
        "the module has no hash of this kernel's BTF in it"
    );
    for at in places {
        module[at] ^= 1;
    }
    let altered = "/tmp/altered.ko";
    std::fs::write(altered, module).with_context(|| format!("cannot write {altered}"))?;
    refused(bench, &modules::load(altered.as_ref()), Errno::ENOEXEC);
    load_live()?;
    modules::unload(LIVE)
}

/// The kernel refused to load the module with this errno, and it is not there.
fn refused(bench: &Bench, answer: &Result<()>, wanted: Errno) {
    let error = answer.as_ref().err();
    let errno = error.and_then(|error| error.downcast_ref::<Errno>());
    bench.check(
        "refused",
        match errno {
            Some(errno) if *errno == wanted => Ok(format!("{wanted:?}")),
            _ => Err(anyhow::anyhow!("expected {wanted:?}, got {answer:?}")),
        },
    );
    bench.check("not-loaded", absent());
}

fn absent() -> Result<&'static str> {
    ensure!(!modules::loaded(LIVE), "{LIVE} is loaded");
    Ok("no trace of it")
}
