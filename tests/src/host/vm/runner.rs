// SPDX-License-Identifier: GPL-2.0-only
//! Starting a virtual machine, watching it, and telling a machine that broke from a test that failed.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use nix::fcntl::{Flock, FlockArg};

use crate::guest::kernel_log::is_fault;
use crate::host::build::progress::{say, seconds};
use crate::host::build::toolchain::{Boot, Toolchain};
use crate::host::vm::machines::{kind, Kind};
use crate::host::vm::qemu::Machine;
use crate::report::{Line, Report};

/// How often a machine that broke is started again.
const ATTEMPTS: u32 = 3;
/// A machine that says nothing for so long hangs; emulation on a busy host is slow, so this is generous.
const SILENCE: Duration = Duration::from_secs(180);
/// The same until its first word, for the kernel's log: a kernel that boots is never silent for long.
const BOOT: Duration = Duration::from_secs(120);
/// A kernel that keeps complaining does not boot either.
const LONGEST_BOOT: Duration = Duration::from_secs(600);
const POLL: Duration = Duration::from_millis(50);

/// How one start of a virtual machine ended.
#[derive(Debug)]
pub enum VmOutcome {
    /// Our process 1 ran there: what it reported counts, good or bad, complete or not.
    Finished(Finished),
    /// The machine itself broke before anything of ours ran, or QEMU died: this says nothing about what is tested.
    Broke(String),
}

/// A machine whose scenarios ran.
#[derive(Debug)]
pub struct Finished {
    /// What the guest reported.
    pub report: Report,
    /// Why it stopped early, when it did.
    pub cut_short: Option<String>,
    /// The log of the kernel; kept only when something failed.
    pub console: PathBuf,
    /// How long the machine ran.
    pub took: Duration,
}

impl Finished {
    /// Whether everything that ran was good, and all of it ran.
    pub fn good(&self) -> bool {
        let sections = &self.report.sections;
        self.cut_short.is_none()
            && self.report.done
            && sections.iter().all(|section| section.failures().is_empty())
    }

    /// What went wrong in one scenario, as text for people; nothing when it went well.
    pub fn failure(&self, scenario: &str) -> Option<String> {
        let mut failures = match self.report.section(scenario) {
            Some(section) => section.failures(),
            None => vec!["the scenario never started".to_owned()],
        };
        if failures.is_empty() {
            return None;
        }
        failures.extend(self.cut_short.clone());
        let list: String = failures
            .iter()
            .map(|failure| format!("  - {failure}\n"))
            .collect();
        Some(format!(
            "scenario `{scenario}` failed:\n{list}  console log: {}\n",
            self.console.display()
        ))
    }
}

/// Runs `scenarios` on a machine of this kind, starting it again when it broke. `listen` gets every line of the
/// report as it comes.
///
/// # Errors
/// When QEMU cannot be started, or the machine broke every time.
pub fn run(
    kind: &Kind,
    toolchain: &Toolchain,
    boot: &Boot,
    scenarios: &[String],
    listen: &mut dyn FnMut(&Line),
) -> Result<Finished> {
    let mut last = String::new();
    for attempt in 1..=ATTEMPTS {
        match start(kind, toolchain, boot, scenarios, listen)? {
            VmOutcome::Finished(finished) => return Ok(finished),
            VmOutcome::Broke(reason) => {
                say(&format!(
                    "   the virtual machine broke (attempt {attempt} of {ATTEMPTS}): {reason}"
                ));
                last = reason;
            }
        }
    }
    anyhow::bail!(
        "the virtual machine `{}` broke {ATTEMPTS} times; the last time: {last}",
        kind.name
    )
}

/// Makes what a machine of this kind needs, and runs all its scenarios.
///
/// # Errors
/// When something cannot be made; and as [`run`].
pub fn run_whole(kind: &Kind) -> Result<(Toolchain, Finished)> {
    let toolchain = Toolchain::of(kind.arch, kind.flavour)?;
    let boot = toolchain.boot(kind.with_module)?;
    say(&format!("   booting {}: {}", kind.name, kind.purpose));
    let finished = run(kind, &toolchain, &boot, &kind.all_scenarios(), &mut |_| {})?;
    Ok((toolchain, finished))
}

fn start(
    kind: &Kind,
    toolchain: &Toolchain,
    boot: &Boot,
    scenarios: &[String],
    listen: &mut dyn FnMut(&Line),
) -> Result<VmOutcome> {
    let _turn = turn(toolchain)?;
    let folder = tempfile::Builder::new()
        .prefix(&format!("{}-", kind.name))
        .tempdir_in(toolchain.cache.join("run"))
        .context("cannot make a folder for the virtual machine")?;
    let machine = kind.describe(toolchain, boot, folder.path(), scenarios)?;
    let outcome = once(toolchain, &machine, folder.path(), listen)?;
    if !matches!(&outcome, VmOutcome::Finished(finished) if finished.good()) {
        for name in ["disk0.img", "disk1.img"] {
            // Big and of no use.
            let _ = std::fs::remove_file(folder.path().join(name));
        }
        let _kept = folder.keep();
    }
    Ok(outcome)
}

/// Starts `machine` and watches it to its end.
fn once(
    toolchain: &Toolchain,
    machine: &Machine,
    folder: &Path,
    listen: &mut dyn FnMut(&Line),
) -> Result<VmOutcome> {
    let errors = folder.join("qemu.log");
    let begin = Instant::now();
    let running = Running::launch(toolchain, machine, &errors)?;
    let seen = watch(running, machine, listen)?;
    Ok(judge(seen, &machine.console, &errors, begin.elapsed()))
}

/// Runs a machine that is described already, starting it again when it broke.
///
/// # Errors
/// As [`run`].
pub fn run_machine(
    toolchain: &Toolchain,
    machine: &Machine,
    folder: &Path,
    name: &str,
    listen: &mut dyn FnMut(&Line),
) -> Result<Finished> {
    let _turn = turn(toolchain)?;
    let mut last = String::new();
    for attempt in 1..=ATTEMPTS {
        match once(toolchain, machine, folder, listen)? {
            VmOutcome::Finished(finished) => return Ok(finished),
            VmOutcome::Broke(reason) => {
                say(&format!(
                    "   the virtual machine broke (attempt {attempt} of {ATTEMPTS}): {reason}"
                ));
                last = reason;
            }
        }
    }
    anyhow::bail!("the virtual machine for `{name}` broke {ATTEMPTS} times; the last time: {last}")
}

/// Virtual machines of different runs take turns: two at once on a small host would spoil each other's times.
pub(in crate::host) fn turn(toolchain: &Toolchain) -> Result<Flock<File>> {
    let path = toolchain.cache.join("run/turn");
    let file = File::create(&path).with_context(|| format!("cannot make {}", path.display()))?;
    let locked = Flock::lock(file, FlockArg::LockExclusive);
    locked
        .map_err(|(_, errno)| errno)
        .with_context(|| format!("cannot lock {}", path.display()))
}

/// QEMU, which must not outlive us.
#[derive(Debug)]
pub(in crate::host) struct Running(Child);

impl Running {
    /// Starts `machine`; what QEMU says goes to `errors`.
    pub(in crate::host) fn launch(
        toolchain: &Toolchain,
        machine: &Machine,
        errors: &Path,
    ) -> Result<Self> {
        let log =
            File::create(errors).with_context(|| format!("cannot make {}", errors.display()))?;
        let emulator = machine.arch.emulator();
        let qemu = toolchain.root.tool(emulator);
        // It goes with the thread that starts it, which waits for it below, however this process ends.
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", "KILL", "--"])
            .arg(qemu.get_program())
            .args(qemu.get_args());
        command.args(machine.arguments(&toolchain.root.outside("/usr/share")));
        command
            .stdin(Stdio::null())
            .stderr(log.try_clone().context("cannot share a log")?)
            .stdout(log);
        let child = command.spawn();
        Ok(Self(child.with_context(|| {
            format!("cannot start {emulator} of the cache's root")
        })?))
    }

    /// How QEMU ended; nothing while it runs.
    pub(in crate::host) fn ended(&mut self) -> Result<Option<ExitStatus>> {
        self.0.try_wait().context("cannot ask how QEMU is")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only when it is gone already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What was seen while the machine ran.
struct Seen {
    report: Report,
    /// How QEMU ended; nothing when we ended it.
    exit: Option<ExitStatus>,
}

fn watch(mut running: Running, machine: &Machine, listen: &mut dyn FnMut(&Line)) -> Result<Seen> {
    let mut tail = Tail::default();
    let begin = Instant::now();
    let mut quiet_since = begin;
    let mut logged = 0;
    loop {
        let ended = running.ended()?;
        let lines = tail.read(&machine.report)?;
        let length = std::fs::metadata(&machine.console).map_or(0, |file| file.len());
        let boots = tail.text.is_empty() && length > logged && begin.elapsed() < LONGEST_BOOT;
        logged = length;
        if !lines.is_empty() || boots {
            quiet_since = Instant::now();
        }
        for line in lines.iter().filter_map(|line| Line::parse(line)) {
            listen(&line);
        }
        let patience = if tail.text.is_empty() { BOOT } else { SILENCE };
        if ended.is_some() || quiet_since.elapsed() > patience {
            return Ok(Seen {
                report: Report::parse(&tail.text),
                exit: ended,
            });
        }
        std::thread::sleep(POLL);
    }
}

/// The end of a file that grows.
#[derive(Default)]
struct Tail {
    text: String,
    bytes: Vec<u8>,
    position: u64,
}

impl Tail {
    /// The complete lines that were added since the last time.
    fn read(&mut self, path: &Path) -> Result<Vec<String>> {
        let Ok(mut file) = File::open(path) else {
            return Ok(Vec::new());
        };
        file.seek(SeekFrom::Start(self.position))
            .with_context(|| format!("cannot seek in {}", path.display()))?;
        let read = file
            .read_to_end(&mut self.bytes)
            .with_context(|| format!("cannot read {}", path.display()))?;
        self.position += read as u64;
        let Some(end) = self.bytes.iter().rposition(|byte| *byte == b'\n') else {
            return Ok(Vec::new());
        };
        let complete: Vec<u8> = self.bytes.drain(..=end).collect();
        let text = String::from_utf8_lossy(&complete).into_owned();
        self.text.push_str(&text);
        Ok(text.lines().map(str::to_owned).collect())
    }
}

fn judge(seen: Seen, console: &Path, errors: &Path, took: Duration) -> VmOutcome {
    let qemu = std::fs::read_to_string(errors).unwrap_or_default();
    if let Some(status) = seen.exit.filter(|status| !status.success()) {
        return VmOutcome::Broke(format!(
            "QEMU ended with {status}: {}; log: {}",
            qemu.trim(),
            errors.display()
        ));
    }
    let kernel = std::fs::read(console).unwrap_or_default();
    let trouble = trouble(&String::from_utf8_lossy(&kernel));
    if seen.report.sections.is_empty() && !seen.report.done {
        let how = if seen.exit.is_some() { "ended" } else { "hung" };
        return VmOutcome::Broke(format!(
            "it {how} before our process 1 ran{trouble}; console: {}",
            console.display()
        ));
    }
    let cut_short = match (seen.report.done, seen.exit) {
        (true, _) => None,
        (false, Some(_)) => Some(format!("the machine ended in the middle{trouble}")),
        (false, None) => Some(format!(
            "the machine said nothing for {}, and was ended{trouble}",
            seconds(SILENCE)
        )),
    };
    VmOutcome::Finished(Finished {
        report: seen.report,
        cut_short,
        console: console.to_owned(),
        took,
    })
}

/// The lines of a console log that say what went wrong in the kernel.
fn trouble(console: &str) -> String {
    let signs = [
        "Kernel panic",
        "BUG:",
        "Oops",
        "WARNING:",
        "general protection",
        "RIP:",
        "lockup",
    ];
    let bad = console
        .lines()
        .filter(|line| signs.iter().any(|sign| line.contains(sign)) || is_fault(line));
    let lines: String = bad
        .take(8)
        .map(|line| format!("\n    | {}", line.trim()))
        .collect();
    if lines.is_empty() {
        return lines;
    }
    format!("; the kernel said:{lines}\n   ")
}

/// Boots one machine and prints all that it reports: for work on the suites.
///
/// # Errors
/// As [`run`].
pub fn try_out(machine: &str, scenarios: &[String]) -> Result<ExitCode> {
    let kind = kind(machine)?;
    let toolchain = Toolchain::of(kind.arch, kind.flavour)?;
    let boot = toolchain.boot(kind.with_module)?;
    let default = kind.all_scenarios();
    let scenarios = if scenarios.is_empty() {
        &default
    } else {
        scenarios
    };
    let finished = run(kind, &toolchain, &boot, scenarios, &mut |line| {
        say(&format!("   | {line}"))
    })?;
    let failures: Vec<_> = scenarios
        .iter()
        .filter_map(|name| finished.failure(name))
        .collect();
    say(&failures.join(""));
    say(&format!("   {} ran {}", kind.name, seconds(finished.took)));
    Ok(if failures.is_empty() && finished.good() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(report: &str, code: i32) -> Seen {
        let exit = Command::new("sh")
            .arg("-c")
            .arg(format!("exit {code}"))
            .status()
            .unwrap();
        Seen {
            report: Report::parse(report),
            exit: Some(exit),
        }
    }

    fn verdict(seen: Seen) -> VmOutcome {
        judge(
            seen,
            Path::new("/nonexistent/console"),
            Path::new("/nonexistent/qemu"),
            Duration::ZERO,
        )
    }

    #[test]
    fn a_machine_that_never_ran_us_broke() {
        assert!(matches!(verdict(seen("", 0)), VmOutcome::Broke(_)));
    }

    #[test]
    fn qemu_dying_is_not_a_failed_test() {
        assert!(matches!(
            verdict(seen("scenario a\n", 1)),
            VmOutcome::Broke(_)
        ));
    }

    #[test]
    fn a_crash_in_a_scenario_is_a_failed_test() {
        let VmOutcome::Finished(finished) = verdict(seen("scenario a\ncheck x ok\n", 0)) else {
            panic!("the scenario had started");
        };
        assert!(!finished.good());
        let text = finished.failure("a").unwrap();
        assert!(
            text.contains("last check: x") && text.contains("ended in the middle"),
            "{text}"
        );
    }

    #[test]
    fn a_complete_report_is_good() {
        let report = "scenario a\ncheck x ok fine\nend a\ndone\n";
        let VmOutcome::Finished(finished) = verdict(seen(report, 0)) else {
            panic!("it was complete");
        };
        assert!(finished.good() && finished.failure("a").is_none());
    }
}
