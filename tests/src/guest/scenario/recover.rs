// SPDX-License-Identifier: GPL-2.0-only
//! Rebinds that are killed, stopped or disputed, and what `iommuctl recover` makes of it.

use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{bail, ensure, Context as _, Result};
use nix::sys::signal::{kill, Signal};
use nix::unistd::Pid;

use super::rebind::{rebind, works};
use super::Scenarios;
use crate::guest::bench::Bench;
use crate::guest::cli;
use crate::guest::pci::{self, PAIR_CARD, PAIR_DISK};
use crate::guest::random::Random;

/// The scenarios of this file.
pub const SCENARIOS: Scenarios = &[
    ("rebind-killed", killed),
    ("rebind-killed-at-random", killed_at_random),
    ("rebind-stopped", stopped),
    ("rebind-waits-its-turn", waits_its_turn),
];

/// Both devices of the group, with their drivers.
const PAIR: [(&str, &str); 2] = [(PAIR_DISK, "nvme"), (PAIR_CARD, "e1000")];
/// Where journals are.
const RUN: &str = "/run/iommuctl";

/// The type that is not `now`.
fn other(now: &str) -> &'static str {
    match now {
        "identity" => "DMA-FQ",
        _ => "identity",
    }
}

/// Everything is as it should be after `recover`: drivers, type, `driver_override`, journal.
fn is_whole(old: &str, new: &str) -> Result<String> {
    for (device, driver) in PAIR {
        let found = pci::driver(device);
        ensure!(
            found.as_deref() == Some(driver),
            "{device} is bound to {found:?}"
        );
        let over = std::fs::read_to_string(pci::folder(device).join("driver_override"))
            .with_context(|| format!("cannot read the driver_override of {device}"))?;
        ensure!(
            over.trim() == "(null)",
            "{device}: driver_override is {over}"
        );
    }
    let now = pci::type_of(pci::group(PAIR_DISK)?)?;
    ensure!(now == old || now == new, "neither {old} nor {new}: {now}");
    ensure!(
        journals()?.is_empty(),
        "journals are left: {:?}",
        journals()?
    );
    pci::block_device(PAIR_DISK)?;
    pci::interface(PAIR_CARD)?;
    Ok(now)
}

fn journals() -> Result<Vec<String>> {
    let Ok(entries) = std::fs::read_dir(RUN) else {
        return Ok(Vec::new());
    };
    let names = entries
        .flatten()
        .map(|e| e.file_name().to_string_lossy().into_owned());
    Ok(names.filter(|name| name.starts_with("rebind-")).collect())
}

/// The last step in the journal, for the report.
fn last_step() -> String {
    let name = journals().ok().and_then(|list| list.first().cloned());
    let text = name.and_then(|n| std::fs::read_to_string(format!("{RUN}/{n}")).ok());
    match text.as_deref().map(|t| t.lines().last().unwrap_or("")) {
        None => "no journal".to_owned(),
        Some(line) if line.len() > 60 => "the plan".to_owned(),
        Some(line) => format!("`{line}`"),
    }
}

/// Killed at every point there is: before, in the middle of and after each record, and after each step.
fn killed(bench: &Bench) -> Result<()> {
    let mut points = 0;
    for point in 1..200 {
        let old = pci::type_of(pci::group(PAIR_DISK)?)?;
        let new = other(&old);
        let (died, last) = die_at(&format!("set-mode --route rebind {PAIR_DISK} {new}"), point)?;
        if !died {
            break;
        }
        points = point;
        let unbound = PAIR
            .iter()
            .filter(|(d, _)| pci::driver(d).is_none())
            .count();
        let recovered = cli::iommuctl("recover").and_then(|said| said.ended(0));
        let whole = recovered
            .and_then(|said| is_whole(&old, new).map_err(|error| error.context(said.all())));
        let told = whole.map(|now| format!("after {last}, {unbound} unbound; then {now}"));
        if !bench.check(&format!("killed-at-{point:02}"), told) {
            bail!("the machine is not whole, and the rest would only repeat that");
        }
    }
    bench.fact("points", points);
    bench.check("every-step-was-met", enough(points));
    bench.check("recover-killed", recover_killed());
    bench.check("nothing-to-recover", nothing_left());
    bench.check("still-works", works(PAIR_DISK).and(works(PAIR_CARD)));
    Ok(())
}

/// Nine steps with four points each, and those around them.
fn enough(points: u32) -> Result<String> {
    ensure!(points == 3 + 9 * 4 + 2, "{points} points");
    Ok(format!("{points} points"))
}

/// Whether the command killed itself at `point`, and what was last in the journal.
fn die_at(line: &str, point: u32) -> Result<(bool, String)> {
    let mut command = Command::new(cli::PROGRAM);
    command
        .args(line.split_whitespace())
        .arg("--die-at")
        .arg(point.to_string());
    let output = command.output().context("cannot start iommuctl")?;
    let died = output.status.signal() == Some(Signal::SIGKILL as i32);
    if !died {
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(
            output.status.success(),
            "point {point}: {}: {said}",
            output.status
        );
    }
    Ok((died, last_step()))
}

/// `recover` itself is killed at every point of its own, each time after a rebind that was killed when both devices were
/// unbound and the type was written.
fn recover_killed() -> Result<String> {
    for point in 1..50 {
        let old = pci::type_of(pci::group(PAIR_DISK)?)?;
        let new = other(&old);
        let written = 3 + 4 * 5;
        let line = format!("set-mode --route rebind {PAIR_DISK} {new}");
        let (died, _) = die_at(&line, written)?;
        ensure!(died, "it was not killed");
        let unbound = PAIR.iter().all(|(d, _)| pci::driver(d).is_none());
        ensure!(unbound, "a device is bound after {}", last_step());
        let (died, _) = die_at("recover", point)?;
        cli::iommuctl("recover")?.ended(0)?;
        is_whole(new, new).with_context(|| format!("recover killed at {point}"))?;
        if !died {
            return Ok(format!("{} points", point - 1));
        }
    }
    bail!("recover has more points than there are")
}

fn nothing_left() -> Result<String> {
    Ok(cli::iommuctl("recover")?
        .ended(0)?
        .mentions(&["nothing"])?
        .out)
}

/// Killed from outside, at moments that nobody chose: also while the kernel is at work on a write.
fn killed_at_random(bench: &Bench) -> Result<()> {
    let rounds = bench.of(20, 300);
    let mut random = Random::new(7);
    let mut hit = 0;
    for round in 0..rounds {
        let old = pci::type_of(pci::group(PAIR_DISK)?)?;
        let new = other(&old);
        let mut child = start(&format!("set-mode --route rebind {PAIR_DISK} {new}"))?;
        std::thread::sleep(Duration::from_millis(random.below(900)));
        child.kill().context("cannot kill")?;
        let status = child.wait().context("cannot wait")?;
        hit += usize::from(!status.success());
        // At once: a write that the kernel is still at keeps the lock.
        let said = cli::iommuctl("recover")?.ended(0)?;
        is_whole(&old, new).with_context(|| format!("round {round}: {}", said.all()))?;
    }
    bench.fact("killed", hit);
    ensure!(
        hit > rounds / 3,
        "only {hit} of {rounds} were still running"
    );
    bench.check(
        "killed-at-random",
        Ok(format!("{hit} of {rounds} killed on the way")),
    );
    bench.check("still-works", works(PAIR_DISK).and(works(PAIR_CARD)));
    Ok(())
}

fn start(line: &str) -> Result<Child> {
    let mut command = Command::new(cli::PROGRAM);
    command.args(line.split_whitespace());
    // As a shell does, so that a signal to the group does not reach the test.
    command.process_group(0);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
        .spawn()
        .with_context(|| format!("cannot start {} {line}", cli::PROGRAM))
}

/// Told to stop, it finishes the device at hand, leaves everything whole, and says so.
fn stopped(bench: &Bench) -> Result<()> {
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        bench.check(&format!("{signal}"), stopped_by(bench, signal));
    }
    Ok(())
}

fn stopped_by(bench: &Bench, signal: Signal) -> Result<String> {
    let mut random = Random::new(signal as u64);
    let rounds = bench.of(10, 100);
    let mut stopped = 0;
    for round in 0..rounds {
        let old = pci::type_of(pci::group(PAIR_DISK)?)?;
        let new = other(&old);
        let child = start(&format!("set-mode --route rebind {PAIR_DISK} {new}"))?;
        let pid = Pid::from_raw(i32::try_from(child.id())?);
        // From the moment the journal is there, signals are held back.
        let begin = Instant::now();
        while journals()?.is_empty() && begin.elapsed() < Duration::from_secs(5) {
            std::thread::sleep(Duration::from_millis(1));
        }
        std::thread::sleep(Duration::from_millis(random.below(300)));
        // To the whole group, as Ctrl-C does; it may have ended by itself.
        let _ = kill(Pid::from_raw(-pid.as_raw()), signal);
        let output = child.wait_with_output().context("cannot wait")?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let code = output.status.code();
        ensure!(
            matches!(code, Some(0 | 1)),
            "round {round}: it ended with {}: {said}",
            output.status
        );
        if code == Some(1) {
            ensure!(
                said.contains(&format!("stopped by {signal}")),
                "round {round}: {said}"
            );
            ensure!(
                said.contains("the type is what it was"),
                "round {round}: {said}"
            );
            stopped += 1;
        }
        let now = is_whole(&old, new).with_context(|| format!("round {round}: {said}"))?;
        ensure!(
            now == if code == Some(1) { old.as_str() } else { new },
            "round {round}: {now}"
        );
    }
    ensure!(stopped > 0, "none of {rounds} was stopped on the way");
    Ok(format!(
        "{stopped} of {rounds} stopped, the others were past it"
    ))
}

/// Two at once: the second waits, and says for whom; or it gives up, and says so too.
fn waits_its_turn(bench: &Bench) -> Result<()> {
    let old = pci::type_of(pci::group(PAIR_DISK)?)?;
    let new = other(&old);
    let first = start(&format!("set-mode --route rebind {PAIR_DISK} {new}"))?;
    let begin = Instant::now();
    while journals()?.is_empty() && begin.elapsed() < Duration::from_secs(5) {
        std::thread::sleep(Duration::from_millis(1));
    }
    let line = format!("--lock-timeout 0 --route rebind {} identity", pci::DISK_TWO);
    let impatient = cli::iommuctl(&format!("set-mode {line}"));
    let second = cli::iommuctl(&format!("set-mode --route rebind {PAIR_DISK} {old}"));
    let output = first.wait_with_output().context("cannot wait")?;
    let pid = "set-mode --route rebind";
    bench.check(
        "who-does-not-wait-is-told-why",
        impatient.and_then(|s| s.ended(1)?.mentions(&["another iommuctl", pid, "process"])),
    );
    bench.check(
        "who-waits-is-told-for-whom",
        second.and_then(|s| s.ended(0)?.mentions(&["waiting for another iommuctl", pid])),
    );
    ensure!(output.status.success(), "the first one failed: {output:?}");
    bench.check("one-after-the-other", is_whole(&old, &old));
    rebind(PAIR_DISK, "DMA-FQ")?;
    Ok(())
}
