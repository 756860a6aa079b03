// SPDX-License-Identifier: GPL-2.0-only
//! Switches beside loads that leave a task in the middle of an unmap, or never sleep: each is strict at once.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt as _;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{bail, ensure, Context as _, Result};

use super::reports::counter;
use super::soak::Memory;
use super::stragglers::read_at_once;
use super::{disk, load_live, write_type, Scenarios};
use crate::guest::bench::Bench;
use crate::guest::live::{self, LateComers};
use crate::guest::load::Load;
use crate::guest::oracle::Oracle;
use crate::guest::polled::{self, Way};
use crate::guest::scheduler::{self, Policy};
use crate::guest::{echo, modules, pci};

/// The scenarios of this file.
pub const SCENARIOS: Scenarios = &[
    ("loads", loads),
    ("late-comers", late_comers),
    ("many-trips", many_trips),
];

/// A part of a load.
#[derive(Clone, Copy, Debug)]
enum Part {
    /// So many readers through io_uring.
    Readers(Way, u64),
    /// So many loops of user space.
    Busy(u64),
    /// A thread in the kernel that never sleeps, as those of vhost.
    Sleepless,
    /// Data through a network card and back.
    Network,
    /// Two readers and a writer, by interrupts.
    Interrupts,
}

use Part::{Busy, Interrupts, Network, Readers, Sleepless};

const LOADS: [(&str, &[Part]); 7] = [
    ("interrupts", &[Interrupts]),
    ("sqpoll", &[Readers(Way::Submitted, 1)]),
    ("sqpoll-polled", &[Readers(Way::SubmittedAndPolled, 1)]),
    (
        "polled-beside-busy-loops",
        &[Readers(Way::Polled, 3), Busy(4)],
    ),
    ("sleepless", &[Sleepless, Interrupts]),
    ("network", &[Network]),
    (
        "all-at-once",
        &[
            Interrupts,
            Readers(Way::Submitted, 1),
            Readers(Way::SubmittedAndPolled, 1),
            Readers(Way::Polled, 2),
            Busy(2),
            Sleepless,
            Network,
        ],
    ),
];

/// Nothing takes longer to be strict, whatever runs beside it, under emulation on a busy host; in nanoseconds. Who waits for a task
/// that never sleeps takes as long as the load runs.
const STRICT: u64 = 2_000_000_000;
/// The same for half of them.
const USUALLY_STRICT: u64 = 50_000_000;

/// Switches of the disk's group, and the card's, beside each load.
fn loads(bench: &Bench) -> Result<()> {
    load_live()?;
    let oracle = Oracle::attach()?;
    let (group, device) = disk()?;
    polled::prepare(&device)?;
    let card = pci::group(pci::NETWORK)?;
    for (name, parts) in LOADS {
        let group = if parts.iter().any(|part| matches!(part, Network)) && parts.len() == 1 {
            card
        } else {
            group
        };
        let beside = beside(&oracle, &device, parts, || {
            switches(bench, name, group, bench.of(60, 600))
        });
        bench.check(name, beside);
        write_type(group, "DMA-FQ")?;
    }
    bench.check(
        "all-is-cleaned-up",
        live::cleaned_up().map(|()| "at the end"),
    );
    modules::unload(modules::LIVE)
}

/// Does `work` beside a load, which must run before, meanwhile and after, and fail nowhere.
fn beside<T: Send + std::fmt::Display>(
    oracle: &Oracle,
    device: &str,
    parts: &[Part],
    work: impl FnOnce() -> Result<T>,
) -> Result<String> {
    let stop = AtomicBool::new(false);
    let done = AtomicU64::new(0);
    let running = AtomicU64::new(0);
    std::thread::scope(|scope| {
        let mut tasks = Vec::new();
        let mut disk = None;
        let begun = parts.iter().try_for_each(|part| -> Result<()> {
            let (stop, done, running) = (&stop, &done, &running);
            match *part {
                Readers(way, count) => {
                    for seed in 1..=count {
                        tasks.push(scope.spawn(move || {
                            running.fetch_add(1, Ordering::Relaxed);
                            let reads = polled::read(device, way, seed, stop)?;
                            done.fetch_add(reads, Ordering::Relaxed);
                            ensure!(reads > 0, "{way:?} read nothing");
                            Ok(())
                        }));
                    }
                }
                Busy(count) => {
                    for _ in 0..count {
                        tasks.push(scope.spawn(move || {
                            running.fetch_add(1, Ordering::Relaxed);
                            while !stop.load(Ordering::Relaxed) {
                                std::hint::spin_loop();
                            }
                            Ok(())
                        }));
                    }
                }
                Network => tasks.push(scope.spawn(move || {
                    running.fetch_add(1, Ordering::Relaxed);
                    while !stop.load(Ordering::Relaxed) {
                        echo::NETWORK.check()?;
                        done.fetch_add(1, Ordering::Relaxed);
                    }
                    Ok(())
                })),
                Sleepless => oracle.spin(1)?,
                Interrupts => disk = Some(Load::start(device)?),
            }
            Ok(())
        });
        while running.load(Ordering::Relaxed) < tasks.len() as u64 {
            std::thread::sleep(Duration::from_millis(1));
        }
        std::thread::sleep(Duration::from_millis(200));
        let result = begun.and_then(|()| work());
        stop.store(true, Ordering::Relaxed);
        let ended: Vec<Result<()>> = tasks
            .into_iter()
            .map(|task| match task.join() {
                Ok(ended) => ended,
                Err(_) => bail!("a part of the load panicked"),
            })
            .collect();
        oracle.spin(0)?;
        if let Some(load) = disk {
            done.fetch_add(load.finish()?.done, Ordering::Relaxed);
        }
        let told = result?;
        ended.into_iter().collect::<Result<()>>()?;
        Ok(format!(
            "{told}; {} I/Os beside it, all as they should be",
            done.load(Ordering::Relaxed)
        ))
    })
}

/// Round trips of a group: each is strict soon, and who reads the type is answered at once.
fn switches(bench: &Bench, name: &str, group: u32, rounds: usize) -> Result<String> {
    let before = LateComers::so_far()?;
    let mut times = Vec::with_capacity(rounds);
    for round in bench.rounds(rounds) {
        write_type(group, "DMA-FQ").with_context(|| format!("round {round}"))?;
        write_type(group, "DMA").with_context(|| format!("round {round}"))?;
        times.push(counter("last_strict_ns")?);
        if round % 20 == 0 {
            read_at_once(group).with_context(|| format!("round {round}"))?;
        }
    }
    times.sort_unstable();
    let median = times.get(rounds / 2).copied().unwrap_or_default();
    let longest = times.last().copied().unwrap_or_default();
    let late = counter("late_comers")? - before.came;
    bench.fact(
        &format!("{name}-strict-us"),
        format!("{} (at most {})", median / 1000, longest / 1000),
    );
    bench.fact(&format!("{name}-late-comers"), late);
    ensure!(
        longest < STRICT && median < USUALLY_STRICT,
        "strict after {median} ns, at most {longest} ns"
    );
    Ok(format!(
        "{rounds} round trips, strict after {} us, at most {} us",
        median / 1000,
        longest / 1000
    ))
}

/// Nobody is held, and still somebody comes late now and then: beside tasks that unmap and are preempted often.
fn late_comers(bench: &Bench) -> Result<()> {
    load_live()?;
    let oracle = Oracle::attach()?;
    let (group, device) = disk()?;
    polled::prepare(&device)?;
    let most = bench.of(150, 1500);
    let parts = [Readers(Way::Polled, 8), Busy(4)];
    let seen = beside(&oracle, &device, &parts, || {
        let before = counter("late_comers")?;
        for round in bench.rounds(most) {
            write_type(group, "DMA-FQ")?;
            write_type(group, "DMA")?;
            // A moment for them to come.
            std::thread::sleep(Duration::from_millis(2));
            let late = counter("late_comers")? - before;
            if late > 0 {
                bench.fact("late-comers", format!("{late} in {} switches", round + 1));
                return Ok(format!("{late} in {} switches", round + 1));
            }
        }
        bench.fact("late-comers", format!("none in {most} switches"));
        // How often they come is for the scheduler to say.
        ensure!(!bench.full, "no late comer in {most} switches");
        Ok(format!("none in {most} switches"))
    });
    bench.check("somebody-comes-late", seen);
    write_type(group, "DMA-FQ")?;
    live::cleaned_up()?;
    let all = LateComers::default().since();
    bench.check("all-are-accounted-for", all.map(|all| format!("{all:?}")));
    modules::unload(modules::LIVE)
}

/// A great many round trips beside these loads, one after another, and some of them to the end of the clean-up: memory is what it was,
/// and nothing that was unmapped is reached.
fn many_trips(bench: &Bench) -> Result<()> {
    load_live()?;
    let oracle = Oracle::attach()?;
    let (group, device) = disk()?;
    polled::prepare(&device)?;
    let segments = bench.of(1_500, 100_000) / (GROUPS * TRIPS);
    echo::NETWORK.check()?;
    segment(bench, &oracle, &device, group, 0)?;
    let before = Memory::now()?;
    let (late, ended) = (LateComers::so_far()?, counter("cleaned_up")?);
    let done = bench.rounds(segments).try_for_each(|number| {
        segment(bench, &oracle, &device, group, number).with_context(|| format!("segment {number}"))
    });
    bench.check(
        "round-trips",
        done.map(|()| {
            let (trips, whole) = (segments * GROUPS * TRIPS, segments * GROUPS);
            format!("{trips}, {whole} of them until nothing was left to clean up")
        }),
    );
    let ended = counter("cleaned_up")? - ended;
    bench.check(
        "cleaned-up",
        if ended >= (segments * GROUPS) as u64 {
            Ok(format!("{ended} times"))
        } else {
            Err(anyhow::anyhow!("only {ended} times"))
        },
    );
    let late = late.since();
    bench.check(
        "late-comers-are-accounted-for",
        late.map(|late| format!("{late:?}")),
    );
    bench.check("memory-is-what-it-was", before.compare(&Memory::now()?));
    modules::unload(modules::LIVE)
}

/// Groups that are switched beside one load, the disk's and the oracle's, and how often each.
const GROUPS: usize = 2;
const TRIPS: usize = 50;

/// Round trips of both groups beside one of the loads; the last of each is waited for until nothing is left to clean up.
fn segment(bench: &Bench, oracle: &Oracle, device: &str, group: u32, number: usize) -> Result<()> {
    let (_, parts) = LOADS[number % LOADS.len()];
    let groups = [group, oracle.group];
    let trips = || {
        // Opened once: with checks, to open a file takes longer than to switch.
        let files = groups.map(|of| OpenOptions::new().write(true).open(pci::type_file(of)));
        let [one, other] = files;
        let files = [one?, other?];
        for trip in 0..TRIPS - 1 {
            for wanted in ["DMA-FQ", "DMA"] {
                for file in &files {
                    file.write_all_at(wanted.as_bytes(), 0)
                        .with_context(|| format!("writing {wanted}"))?;
                }
            }
            if trip % 7 == 0 {
                for of in groups {
                    pci::expect_type(of, "DMA")?;
                }
                oracle.probe(5)?.expect_none()?;
            }
        }
        Ok("")
    };
    beside(oracle, device, parts, || {
        // A writer that goes first preempts the load's tasks, now and then in the middle of an unmap. One in eight takes turns with
        // them, which is slow; seven loads, so each sees both.
        let first = number % 8 != 0;
        if first {
            scheduler::set_policy(0, Policy::RoundRobin(1))?;
        }
        let done = trips();
        scheduler::set_policy(0, Policy::Common)?;
        done
    })?;
    let before = counter("cleaned_up")?;
    let begin = Instant::now();
    for of in groups {
        write_type(of, "DMA-FQ")?;
        write_type(of, "DMA")?;
    }
    live::cleaned_up()?;
    let ended = counter("cleaned_up")? - before;
    ensure!(ended >= GROUPS as u64, "only {ended} clean-ups ended");
    oracle.probe(5)?.expect_none()?;
    if begin.elapsed() > Duration::from_secs(5) {
        bench.say(format!("a clean-up took {:?}", begin.elapsed()));
    }
    Ok(())
}
