// SPDX-License-Identifier: GPL-2.0-only
//! What `iommuctl` costs on machines of many groups, beside the loop that people type.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{ensure, Context as _, Result};
use nix::sys::resource::{getrusage, UsageWho};

use super::samples::Samples;
use super::trees::Tree;
use crate::host::build::command::{self, Log};
use crate::host::build::progress::step;

/// How many groups the machines have.
const SIZES: [usize; 3] = [10, 1000, 10_000];
/// Rounds; in each, everything runs once.
const ROUNDS: usize = 15;
/// The loop takes so long on the largest machine that it is only run in each third round.
const SELDOM: usize = 3;
/// Rounds that look at memory: it hardly differs.
const MEMORY_ROUNDS: usize = 3;

/// The commands, by the name of the measurement.
const COMMANDS: [(&str, &[&str]); 6] = [
    ("list", &["list"]),
    ("list-json", &["list", "--json"]),
    ("status", &["status"]),
    ("status-json", &["status", "--json"]),
    ("policy-plan", &["policy", "plan"]),
    ("policy-plan-json", &["policy", "plan", "--json"]),
];

/// The usual loop, kindly: one process for each type and one for each device, where people have `lspci`, which takes longer.
const LOOP: &str = r#"
for group in "$1"/kernel/iommu_groups/*; do
    echo "Group ${group##*/}: $(cat "$group/type")"
    for device in "$group"/devices/*; do
        echo "    $(basename "$device")"
    done
done
"#;

/// The word that has this program start another one and say how much memory that took.
pub const PEAK_OF: &str = "--peak-of";

/// Measures everything on machines that are made in `folder`.
///
/// # Errors
/// When a machine cannot be made, or a command does not do what it is for.
pub fn measure(iommuctl: &Path, folder: &Path, samples: &mut Samples) -> Result<()> {
    let mut trees = Vec::new();
    for groups in SIZES {
        let tree = step(&format!("making a machine of {groups} groups"), || {
            let folder = folder.join(groups.to_string());
            std::fs::create_dir(&folder)
                .with_context(|| format!("cannot make {}", folder.display()))?;
            Tree::make(&folder, groups)
        })?;
        // Reads everything once, so that nothing comes from a disk later.
        check(iommuctl, &tree)?;
        trees.push(tree);
    }
    step(&format!("measuring iommuctl, {ROUNDS} rounds"), || {
        for round in 0..ROUNDS {
            for tree in &trees {
                self::round(iommuctl, tree, round, samples)?;
            }
        }
        Ok(())
    })
}

/// One round on one machine.
fn round(iommuctl: &Path, tree: &Tree, round: usize, samples: &mut Samples) -> Result<()> {
    let case = tree.groups.to_string();
    for (name, words) in COMMANDS {
        samples.add(name, &case, [time(&mut command(iommuctl, tree, words))?]);
        if round < MEMORY_ROUNDS {
            let bytes = peak(&command(iommuctl, tree, words))?;
            samples.add(&format!("{name}-bytes"), &case, [bytes]);
        }
    }
    if tree.groups < 10_000 || round % SELDOM == 0 {
        samples.add("shell-loop", &case, [time(&mut shell_loop(tree))?]);
    }
    Ok(())
}

fn command(iommuctl: &Path, tree: &Tree, words: &[&str]) -> Command {
    let mut command = Command::new(iommuctl);
    command.arg("--sysfs-root").arg(tree.sysfs());
    command.arg("--root").arg(tree.root());
    command.arg("--pci-ids").arg(tree.database());
    command.args(words);
    if words.contains(&"plan") {
        command.arg("--policy").arg(tree.policy());
    }
    command.stdin(Stdio::null());
    command
}

fn shell_loop(tree: &Tree) -> Command {
    let mut shell = Command::new("sh");
    shell.args(["-c", LOOP, "loop"]).arg(tree.sysfs());
    shell.stdin(Stdio::null());
    shell
}

/// Whether the commands, and the loop, find all that is there.
fn check(iommuctl: &Path, tree: &Tree) -> Result<()> {
    let lines = |command: &mut Command| -> Result<usize> {
        let output = command.output().context("cannot run a command")?;
        let text = String::from_utf8_lossy(&output.stdout);
        ensure!(
            output.status.success(),
            "{command:?} ended with {}: {}",
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        );
        Ok(text.lines().count())
    };
    let listed = lines(&mut command(iommuctl, tree, &["list"]))?;
    let (devices, groups) = (tree.devices(), tree.groups);
    ensure!(
        listed == devices + 1,
        "`list` has {listed} lines for {devices} devices"
    );
    for (_, words) in COMMANDS {
        let said = lines(&mut command(iommuctl, tree, words))?;
        ensure!(said > 1, "`{}` said nothing", words.join(" "));
    }
    if groups <= 1000 {
        let looped = lines(&mut shell_loop(tree))?;
        ensure!(
            looped == groups + devices,
            "the loop has {looped} lines for {groups} groups and {devices} devices"
        );
    }
    Ok(())
}

/// How long `command` takes, in nanoseconds.
fn time(command: &mut Command) -> Result<u64> {
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let begin = Instant::now();
    let status = command.status();
    let took = begin.elapsed();
    let status = status.with_context(|| format!("cannot start {command:?}"))?;
    ensure!(status.success(), "{command:?} ended with {status}");
    Ok(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX))
}

/// How much memory `command` had at most, in bytes. Only the parent of a process is told, and of all its children at once,
/// so it gets a parent of its own.
fn peak(command: &Command) -> Result<u64> {
    let this = std::env::current_exe().context("cannot find this program")?;
    let mut parent = Command::new(this);
    parent.arg(PEAK_OF).arg(command.get_program());
    parent.args(command.get_args());
    for (name, value) in command.get_envs() {
        if let Some(value) = value {
            parent.env(name, value);
        }
    }
    let output = parent.output().context("cannot start this program again")?;
    let text = String::from_utf8_lossy(&output.stdout);
    text.trim().parse().with_context(|| {
        let said = String::from_utf8_lossy(&output.stderr);
        format!("no figure for the memory of {command:?}: {}", said.trim())
    })
}

/// In that parent: runs a command, and returns its memory in bytes.
///
/// # Errors
/// When it cannot be run.
pub fn peak_of(words: &[String]) -> Result<u64> {
    let (program, arguments) = words.split_first().context("no command is named")?;
    let mut command = Command::new(program);
    command.args(arguments).stdout(Stdio::null());
    let status = command
        .status()
        .with_context(|| format!("cannot start {program}"))?;
    ensure!(status.success(), "{program} ended with {status}");
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).context("cannot ask for the memory")?;
    let kilobytes = u64::try_from(usage.max_rss()).context("a negative amount of memory")?;
    Ok(kilobytes * 1024)
}

/// Builds the program as it is shipped.
///
/// # Errors
/// When it does not compile.
pub fn build(checkout: &Path, log: &Log) -> Result<PathBuf> {
    step("building iommuctl", || {
        let mut cargo = command::cargo();
        cargo.current_dir(checkout);
        log.run(cargo.args(["build", "--release", "-p", "iommuctl"]))
    })?;
    Ok(crate::host::build::userspace::target_folder(checkout).join("release/iommuctl"))
}
