// SPDX-License-Identifier: GPL-2.0-only
//! Process 1: makes the machine usable, runs the scenarios the kernel command line names, powers off.

use std::fs::OpenOptions;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context as _, Result};
use nix::mount::{mount, MsFlags};
use nix::sys::reboot::{reboot, RebootMode};

use super::bench::Bench;
use super::kernel_log::KernelLog;
use super::{live, modules, oracle, pci, scenario};
use crate::report::Line;

const MOUNTS: [(&str, &str, Option<&str>); 7] = [
    ("devtmpfs", "/dev", None),
    ("proc", "/proc", None),
    ("sysfs", "/sys", None),
    ("debugfs", "/sys/kernel/debug", None),
    ("cgroup2", "/sys/fs/cgroup", None),
    ("tmpfs", "/tmp", None),
    // As systemd has it: only root makes anything there.
    ("tmpfs", "/run", Some("mode=0755")),
];
/// The second serial line: reports only.
const REPORT: &str = if cfg!(target_arch = "aarch64") {
    "/dev/ttyAMA1"
} else {
    "/dev/ttyS1"
};

/// Runs everything; never returns on a real machine.
pub fn main() {
    if std::process::id() != 1 {
        // Somebody started it outside: it would reboot their machine.
        return;
    }
    if let Err(error) = prepare().and_then(|bench| run(&bench)) {
        // Into the console log, by way of the kernel's.
        let _ = std::fs::write("/dev/kmsg", format!("iommuctl guest: {error:#}"));
    }
    // The machine's end is the host's sign to look at the report.
    let _ = reboot(RebootMode::RB_POWER_OFF);
}

fn prepare() -> Result<Bench> {
    for (kind, folder, options) in MOUNTS {
        mount(Some(kind), folder, Some(kind), MsFlags::empty(), options)
            .with_context(|| format!("cannot mount {kind} at {folder}"))?;
    }
    std::env::set_var("PATH", "/bin");
    let out = OpenOptions::new()
        .write(true)
        .open(REPORT)
        .with_context(|| format!("cannot open {REPORT}"))?;
    Ok(Bench::new(out, word("iommuctl.full").is_some()))
}

fn run(bench: &Bench) -> Result<()> {
    let names = word("iommuctl.scenario").context("the command line has no iommuctl.scenario=")?;
    let ready = drivers();
    for name in names.split(',') {
        bench.send(&Line::Scenario(name.to_owned()));
        if let Err(error) = &ready {
            bench.check("drivers", Err::<&str, _>(anyhow::anyhow!("{error:#}")));
            continue;
        }
        let begin = Instant::now();
        one(bench, name);
        bench.fact("seconds", format!("{:.1}", begin.elapsed().as_secs_f64()));
        bench.send(&Line::End(name.to_owned()));
    }
    bench.send(&Line::Done);
    Ok(())
}

/// Loads the drivers of the machine's devices, the network's after the oracle's card is reserved.
fn drivers() -> Result<()> {
    oracle::reserve()?;
    modules::load_stock("boot", "")?;
    // Kernels for the cloud have no such driver.
    if Path::new("/lib/modules/e1000.ko").exists() {
        modules::load_stock("demand", "e1000")?;
    }
    pci::block_device(pci::DISK)?;
    pci::block_device(pci::DISK_TWO)?;
    Ok(())
}

/// Runs one scenario; meanwhile the kernel's log must stay clean, and the module must hold nobody up.
fn one(bench: &Bench, name: &str) {
    let mut log = match KernelLog::from_now() {
        Ok(log) => log,
        Err(error) => {
            bench.check("kernel-log", Err::<&str, _>(error));
            return;
        }
    };
    match scenario::find(name) {
        Some(work) => {
            if let Err(error) = work(bench) {
                bench.check("completed", Err::<&str, _>(error));
            }
        }
        None => {
            bench.check(
                "known",
                Err::<&str, _>(anyhow::anyhow!("no scenario is called {name}")),
            );
        }
    }
    bench.check("module-is-sound", live::expect_sound());
    bench.check("kernel-log", log.expect_clean());
}

/// The value of a word of the kernel command line.
pub(super) fn word(name: &str) -> Option<String> {
    let line = std::fs::read_to_string(Path::new("/proc/cmdline")).ok()?;
    let words = line
        .split_whitespace()
        .filter_map(|word| word.split_once('='));
    words
        .into_iter()
        .find(|(key, _)| *key == name)
        .map(|(_, value)| value.to_owned())
}
