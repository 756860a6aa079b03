// SPDX-License-Identifier: GPL-2.0-only
//! `iommuctl bench`: what is measured, and that the group has its own type afterwards, whatever was killed.

use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{ensure, Context as _, Result};
use nix::sys::signal::{kill, Signal};
use nix::unistd::Pid;
use serde_json::Value;

use super::{disk, finish, load_live, write_type, Scenarios};
use crate::guest::bench::Bench;
use crate::guest::load::Load;
use crate::guest::{cli, modules, pci};

/// The scenarios of this file.
pub const SCENARIOS: Scenarios = &[
    ("bench-device", with_module),
    ("bench-device-without-module", without_module),
];

/// Each type from the other.
const BOTH: [(&str, &str); 2] = [("DMA-FQ", "DMA"), ("DMA", "DMA-FQ")];
/// Within this the type is to be back: the guard notices at once, and a tighten takes a second or two.
const SOON: Duration = Duration::from_secs(15);

/// With the module: both types are measured, and the first comes back, though the bench, its guard, or both are killed.
fn with_module(bench: &Bench) -> Result<()> {
    load_live()?;
    let (group, device) = disk()?;
    let second = pci::group(pci::DISK_TWO)?;
    let before = [group, second].map(pci::type_of);
    let load = Load::start(&device)?;
    for (original, other) in BOTH {
        let name = |what: &str| format!("{what}-from-{original}");
        write_type(group, original)?;
        bench.check(&name("measured"), measured(bench, group, &device, original));
        write_type(group, original)?;
        bench.check(
            &name("bench-killed"),
            bench_killed(group, &device, original, other),
        );
        write_type(group, original)?;
        bench.check(
            &name("guard-killed"),
            guard_killed(group, &device, original, other),
        );
        write_type(group, original)?;
        bench.check(
            &name("both-killed"),
            both_killed(group, &device, original, other),
        );
        write_type(group, original)?;
        bench.check(&name("stopped"), stopped(group, &device, original, other));
    }
    bench.check("who-waits-comes-first", who_waits(group, &device));
    finish(bench, load);
    bench.check("network-is-refused", network());
    bench.check("lockdown-is-heeded", locked_down(group, &device));
    // What comes next begins as this did.
    for (group, found) in [group, second].into_iter().zip(before) {
        write_type(group, &found?)?;
    }
    Ok(())
}

/// Without the module: the present type only.
fn without_module(bench: &Bench) -> Result<()> {
    ensure!(!modules::loaded(modules::LIVE), "the module is loaded");
    let (group, device) = disk()?;
    let present = pci::type_of(group)?;
    bench.check("present-type-only", present_only(group, &device, &present));
    bench.check("network-is-refused", network());
    Ok(())
}

fn measured(bench: &Bench, group: u32, device: &str, original: &str) -> Result<String> {
    let said = cli::iommuctl(&format!("--json bench --seconds 8 {device}"))?.ended(0)?;
    pci::expect_type(group, original)?;
    let found = said.json()?;
    ensure!(
        found["type"] == original && found["original_type"] == original,
        "{}",
        said.all()
    );
    let measurements = found["measurements"]
        .as_array()
        .context("no measurements")?;
    ensure!(measurements.len() == 8, "{}", said.all());
    for one in measurements {
        let is_some = |key: &str| one[key].as_f64().is_some_and(|value| value > 0.0);
        for key in [
            "reads",
            "reads_per_second",
            "median_us",
            "p99_us",
            "cpu_us_per_read",
        ] {
            ensure!(is_some(key), "{key}: {one}");
        }
    }
    for one in found["comparisons"].as_array().into_iter().flatten() {
        let depth = &one["queue_depth"];
        bench.fact(
            &format!("lazy-against-strict-{original}-{depth}"),
            &one["reads_per_second"],
        );
    }
    journal_is_gone(group)?;
    Ok(found["recommendation"]["text"].to_string())
}

fn start(device: &str) -> Result<Child> {
    let mut command = Command::new(cli::PROGRAM);
    command.args(["bench", "--seconds", "120", device]);
    // As a shell does, so that a signal to the group does not reach the test.
    command.process_group(0);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command.spawn().context("cannot start the bench")
}

/// Waits until the group has a type; how long that took.
fn becomes(group: u32, wanted: &str, limit: Duration) -> Result<Duration> {
    let begin = Instant::now();
    loop {
        let found = pci::type_of(group)?;
        if found == wanted {
            return Ok(begin.elapsed());
        }
        ensure!(
            begin.elapsed() < limit,
            "group {group} still reads {found}, not {wanted}"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A bench in the middle of measuring the other type.
fn under_way(group: u32, device: &str, other: &str) -> Result<Child> {
    let child = start(device)?;
    becomes(group, other, Duration::from_secs(60))?;
    std::thread::sleep(Duration::from_millis(300));
    pci::expect_type(group, other)?;
    Ok(child)
}

fn signal(pid: u32, signal: Signal) -> Result<()> {
    let pid = Pid::from_raw(i32::try_from(pid)?);
    kill(pid, signal).with_context(|| format!("cannot send {signal}"))
}

fn journal(group: u32) -> String {
    format!("/run/iommuctl/bench-{group}")
}

/// The guard, which the journal names.
fn guard(group: u32) -> Result<u32> {
    let path = journal(group);
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    let journal: Value = serde_json::from_str(&text).context("the journal is no JSON")?;
    let number = journal["guard"].as_u64().context("it names no guard")?;
    Ok(u32::try_from(number)?)
}

fn journal_is_gone(group: u32) -> Result<()> {
    let begin = Instant::now();
    while std::path::Path::new(&journal(group)).exists() {
        ensure!(begin.elapsed() < SOON, "the journal is left");
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// How a bench ended that is to fail and say why.
fn failed(output: &Output, words: &str) -> Result<()> {
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.code() == Some(1),
        "it ended with {}: {said}",
        output.status
    );
    ensure!(
        said.contains(words),
        "`{words}` is not in what it said: {said}"
    );
    Ok(())
}

fn bench_killed(group: u32, device: &str, original: &str, other: &str) -> Result<String> {
    let mut child = under_way(group, device, other)?;
    signal(child.id(), Signal::SIGKILL)?;
    child.wait().context("cannot wait")?;
    let took = becomes(group, original, SOON)?;
    journal_is_gone(group)?;
    Ok(format!("{original} again after {took:?}"))
}

fn guard_killed(group: u32, device: &str, original: &str, other: &str) -> Result<String> {
    let child = under_way(group, device, other)?;
    signal(guard(group)?, Signal::SIGKILL)?;
    let output = child.wait_with_output().context("cannot wait")?;
    failed(&output, &format!("it is {original} again"))?;
    journal_is_gone(group)?;
    pci::expect_type(group, original)
}

/// Nobody is left; `recover` does it.
fn both_killed(group: u32, device: &str, original: &str, other: &str) -> Result<String> {
    let mut child = under_way(group, device, other)?;
    let guard = guard(group)?;
    // So that neither can do anything when the other is gone.
    signal(child.id(), Signal::SIGSTOP)?;
    signal(guard, Signal::SIGKILL)?;
    signal(child.id(), Signal::SIGKILL)?;
    child.wait().context("cannot wait")?;
    std::thread::sleep(Duration::from_secs(3));
    pci::expect_type(group, other).context("with nobody left to put it back")?;
    let said = cli::iommuctl("recover")?
        .ended(0)?
        .mentions(&["again, as before the bench"])?;
    pci::expect_type(group, original)?;
    journal_is_gone(group)?;
    Ok(said.out.lines().last().unwrap_or_default().to_owned())
}

fn stopped(group: u32, device: &str, original: &str, other: &str) -> Result<String> {
    let child = under_way(group, device, other)?;
    let pid = Pid::from_raw(i32::try_from(child.id())?);
    // To the whole group, as Ctrl-C does.
    kill(Pid::from_raw(-pid.as_raw()), Signal::SIGINT).context("cannot send SIGINT")?;
    let output = child.wait_with_output().context("cannot wait")?;
    failed(&output, "stopped by SIGINT")?;
    journal_is_gone(group)?;
    pci::expect_type(group, original)
}

fn who_waits(group: u32, device: &str) -> Result<String> {
    write_type(group, "DMA")?;
    let child = under_way(group, device, "DMA-FQ")?;
    let begin = Instant::now();
    cli::iommuctl(&format!("set-mode {} DMA", pci::DISK_TWO))?.ended(0)?;
    let waited = begin.elapsed();
    let output = child.wait_with_output().context("cannot wait")?;
    failed(&output, "comes first")?;
    pci::expect_type(group, "DMA")?;
    Ok(format!("it waited {waited:?}"))
}

fn network() -> Result<String> {
    let group = pci::group(pci::NETWORK)?;
    let before = pci::type_of(group)?;
    let said = cli::iommuctl(&format!("--json bench {}", pci::NETWORK))?.ended(3)?;
    let reason = &said.json()?["refusal"]["reason"];
    ensure!(reason == "network", "{reason}");
    pci::expect_type(group, &before)
}

fn locked_down(group: u32, device: &str) -> Result<String> {
    // What is unbound or of the oracle may not become strict, which is no concern here.
    cli::iommuctl("lockdown")?;
    let said = cli::iommuctl(&format!("--json bench --seconds 5 {device}"))?.ended(4)?;
    let reason = said.json()?["not_compared"]["reason"].to_string();
    cli::iommuctl("release")?;
    ensure!(reason.contains("lockdown"), "{reason}");
    pci::expect_type(group, "DMA")
}

fn present_only(group: u32, device: &str, present: &str) -> Result<String> {
    let said = cli::iommuctl(&format!("--json bench --seconds 5 {device}"))?.ended(4)?;
    let found = said.json()?;
    ensure!(
        found["not_compared"]["reason"] == "no-module",
        "{}",
        said.all()
    );
    let measurements = found["measurements"]
        .as_array()
        .context("no measurements")?;
    ensure!(measurements.len() == 4, "{}", said.all());
    let is_present = |one: &Value| one["type"] == present;
    ensure!(measurements.iter().all(is_present), "{}", said.all());
    pci::expect_type(group, present)
}
