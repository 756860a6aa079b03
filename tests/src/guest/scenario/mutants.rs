// SPDX-License-Identifier: GPL-2.0-only
//! What notices a module with a mistake. With the module as it is, `let-go-after` and `let-go-meanwhile` are green; `tripwire` wants
//! an invariant to be broken.

use std::time::{Duration, Instant};

use anyhow::{bail, ensure, Context as _, Result};
use nix::errno::Errno;

use super::reports::counter;
use super::stragglers::{attach, fresh, held, leave, let_go, while_lazy};
use super::{disk, finish, load_live, write_type, Scenarios};
use crate::guest::bench::Bench;
use crate::guest::kernel_log::KernelLog;
use crate::guest::live;
use crate::guest::load::Load;
use crate::guest::oracle::{Oracle, Point, Sight};
use crate::guest::{modules, pci};

/// The scenarios of this file.
pub const SCENARIOS: Scenarios = &[
    ("let-go-after", after),
    ("let-go-meanwhile", meanwhile),
    ("tripwire", tripwire),
];

/// Tasks held at once.
const HELD: usize = 20;

/// Tasks that are let go after the tighten: many together, and one after another. The first tighten of all is that which is looked at: a
/// mutant may not survive another one.
fn after(bench: &Bench) -> Result<()> {
    let oracle = attach()?;
    bench.check("lazy-stragglers-are-reached", while_lazy(&oracle));
    let sight = let_go(&oracle, || held(&oracle, Point::Entered, HELD));
    bench.check("nobody-is-stale", sight);
    bench.check("each-is-collected", let_go(&oracle, || one_by_one(&oracle)));
    leave(&oracle)
}

/// Late comers, each collected before the next one comes.
pub(super) fn one_by_one(oracle: &Oracle) -> Result<String> {
    const BATCHES: usize = 8;
    fresh(oracle)?;
    for batch in 0..BATCHES {
        oracle.hold(batch, Point::Entered, 1)?;
    }
    write_type(oracle.group, "DMA")?;
    for batch in 0..BATCHES {
        let before = counter("collected")?;
        oracle.touch(batch)?;
        oracle.let_go(batch)?;
        let begin = Instant::now();
        while counter("collected")? == before {
            ensure!(
                begin.elapsed() < Duration::from_secs(5),
                "what late comer {batch} left was not collected"
            );
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    let sight = oracle.result()?.of(BATCHES)?.expect_none()?;
    live::cleaned_up()?;
    Ok(sight.to_string())
}

/// Tasks that are let go in the middle of a tighten.
fn meanwhile(bench: &Bench) -> Result<()> {
    let oracle = attach()?;
    bench.check("lazy-stragglers-are-reached", while_lazy(&oracle));
    bench.check(
        "nobody-is-stale",
        let_go(&oracle, || in_the_middle(&oracle)),
    );
    leave(&oracle)
}

fn in_the_middle(oracle: &Oracle) -> Result<Sight> {
    oracle.hold(0, Point::Entered, HELD)?;
    let group = oracle.group;
    let tighten = std::thread::spawn(move || pci::write_type(group, "DMA"));
    std::thread::sleep(Duration::from_millis(300));
    oracle.touch(0)?;
    oracle.release(0)?;
    match tighten.join() {
        Ok(answer) => answer.context("the tighten failed")?,
        Err(_) => bail!("the writer panicked"),
    }
    oracle.returned(0)?;
    oracle.fire()?.of(HELD)?.expect_none()
}

/// An invariant is seen broken: this is said once, nothing is switched any more, and everything else goes on.
fn tripwire(bench: &Bench) -> Result<()> {
    load_live()?;
    let oracle = Oracle::attach()?;
    let (lazy, device) = disk()?;
    let load = Load::start(&device)?;
    let mut log = KernelLog::from_now()?;
    let group = oracle.group;
    bench.check("trips", let_go(&oracle, || trip(&oracle)));
    bench.check("is-said-once", said_once(&mut log));
    bench.check(
        "is-shown",
        live::expect_step(group, "tripped").map(|shown| format!("{shown:?}")),
    );
    for (name, group) in [("this-group-fails", group), ("another-group-fails", lazy)] {
        bench.check(name, fails(group));
    }
    let answer = modules::unload_now(modules::LIVE);
    bench.check(
        "module-stays",
        match answer {
            Err(Errno::EWOULDBLOCK) => Ok("EWOULDBLOCK"),
            other => Err(anyhow::anyhow!("the unload: {other:?}")),
        },
    );
    bench.check("stays-strict", pci::expect_type(group, "DMA"));
    bench.check(
        "device-reaches-nothing",
        oracle.probe(200).and_then(Sight::expect_none),
    );
    finish(bench, load);
    Ok(())
}

fn trip(oracle: &Oracle) -> Result<String> {
    oracle.hold(0, Point::Entered, 1)?;
    pci::write_type(oracle.group, "DMA").context("the tighten failed")?;
    std::thread::sleep(Duration::from_secs(1));
    oracle.touch(0)?;
    // Whether this one is stale is not for here: where grace periods are left out, it may be.
    oracle.let_go(0)?;
    let begin = Instant::now();
    while counter("tripped")? != 1 {
        ensure!(begin.elapsed() < Duration::from_secs(60), "nothing tripped");
        std::thread::sleep(Duration::from_millis(10));
    }
    // What is done then is done under the group's mutex.
    std::thread::sleep(Duration::from_millis(500));
    Ok(format!("after {:?}", begin.elapsed()))
}

fn said_once(log: &mut KernelLog) -> Result<String> {
    let lines = log.read()?;
    let said: Vec<_> = lines
        .into_iter()
        .filter(|(_, text)| text.contains("an invariant is broken"))
        .collect();
    match said.as_slice() {
        [(_, line)] => Ok(line.clone()),
        other => bail!("it was said {} times", other.len()),
    }
}

fn fails(group: u32) -> Result<&'static str> {
    let before = pci::type_of(group)?;
    for wanted in ["DMA", "DMA-FQ"] {
        let answer = pci::write_type(group, wanted);
        let errno = answer.as_ref().err().and_then(std::io::Error::raw_os_error);
        ensure!(
            errno == Some(Errno::EIO as i32),
            "writing {wanted}: {answer:?}"
        );
    }
    pci::expect_type(group, &before)?;
    Ok("EIO")
}
