// SPDX-License-Identifier: GPL-2.0-only
//! `make test`: every check there is, cheap ones first, with cargo's own summary of the end-to-end suites last.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use anyhow::{bail, Context as _, Result};

use super::litmus;
use super::loads;
use crate::host::build::arch::Arch;
use crate::host::build::cache::Cache;
use crate::host::build::command;
use crate::host::build::debug_kernel::Watch;
use crate::host::build::progress::{heading, say, seconds, step};
use crate::host::build::toolchain::{Flavour, Toolchain};
use crate::host::build::userspace::checkout;
use crate::host::packages::deb;

/// The advisory database is fetched from there.
const ADVISORIES: &str = "https://github.com/rustsec/advisory-db";

/// One part of the run; gets the checkout.
type Part = fn(&Path) -> Result<()>;

/// What fails fastest: no root, no virtual machine, and no network but for crates that are not there yet.
const QUICK: [(&str, Part); 4] = [
    ("Format", format),
    ("Lints", lints),
    ("Unit and command-line tests", |checkout| {
        cargo(checkout, &["test", "--workspace"])
    }),
    ("Documentation", documentation),
];

/// What else there is before the virtual machines.
const SLOW: [(&str, Part); 5] = [
    ("Kernel, tools and module", |_| {
        let toolchain = Toolchain::ensure()?;
        toolchain.lint_module()?;
        toolchain.module().map(|_| ())
    }),
    ("Memory model", litmus::run),
    ("Reads in the kernel's code", |_| loads::run()),
    ("Packages", debian),
    ("Licences and sources of dependencies", licences),
];

/// Runs the quick checks; the first failure ends it.
///
/// # Errors
/// When one cannot be run at all. A check that fails is the exit code.
pub fn check() -> Result<ExitCode> {
    let passed = in_turn(&checkout()?, &QUICK, QUICK.len());
    Ok(exit_code(passed))
}

/// Checks the module's Rust, and describes it for editors.
///
/// # Errors
/// As [`check`].
pub fn kmod_check() -> Result<ExitCode> {
    let parts: [(&str, Part); 3] = [
        ("Format", format_module),
        ("Lints", |_| Toolchain::ensure()?.lint_module()),
        ("rust-project.json", |_| {
            let project = Toolchain::ensure()?.describe_module()?;
            say(&format!("   {}", project.display()));
            Ok(())
        }),
    ];
    let passed = in_turn(&checkout()?, &parts, parts.len());
    Ok(exit_code(passed))
}

/// Runs everything; the first failure ends it.
///
/// # Errors
/// As [`check`].
pub fn run(full: bool) -> Result<ExitCode> {
    let checkout = checkout()?;
    let parts = [&QUICK[..], &SLOW[..]].concat();
    // The machines come after them.
    let steps = parts.len() + 1;
    if !in_turn(&checkout, &parts, steps) {
        return Ok(ExitCode::FAILURE);
    }
    heading(&format!("{steps}/{steps} End to end, in virtual machines"));
    if full {
        for watch in Watch::SOMETHING {
            Toolchain::of(Arch::X86_64, Flavour::Debug(watch))?;
        }
        std::env::set_var("IOMMUCTL_FULL", "1");
    }
    // Its output is passed on as it is, and comes last: the last line is cargo's summary.
    let mut test = vec!["test", "-p", "iommuctl-tests", "--test", "e2e"];
    if full {
        test.extend(["--", "--include-ignored"]);
    }
    Ok(exit_code(cargo(&checkout, &test).is_ok()))
}

/// Runs parts one after the other, and says how long each took. Whether all passed; the first failure ends it, and is said.
fn in_turn(checkout: &Path, parts: &[(&str, Part)], steps: usize) -> bool {
    let begin = Instant::now();
    let mut times = Vec::with_capacity(parts.len());
    for (number, (name, part)) in parts.iter().enumerate() {
        heading(&format!("{}/{steps} {name}", number + 1));
        let start = Instant::now();
        if let Err(error) = part(checkout) {
            say(&format!("testbed: {name}: {error:#}"));
            return false;
        }
        times.push(format!("{name} {}", seconds(start.elapsed())));
    }
    let all = seconds(begin.elapsed());
    say(&format!("\npassed in {all}: {}", times.join(", ")));
    true
}

/// The exit code of a run.
pub fn exit_code(passed: bool) -> ExitCode {
    match passed {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

/// One of the tests, optimised.
fn released(test: &str) -> Result<Command> {
    let mut command = command::cargo();
    command.current_dir(checkout()?);
    command.args(["test", "--release", "-p", "iommuctl-tests", "--test", test]);
    Ok(command)
}

/// Runs the model checks with more interruptions than the unit tests have time for.
///
/// # Errors
/// When they cannot be run, or a property is broken.
pub fn model() -> Result<ExitCode> {
    let mut command = released("model")?;
    if std::env::var_os("MODEL_PREEMPTIONS").is_none() {
        command.env("MODEL_PREEMPTIONS", "4");
    }
    finish(&mut command, "cargo test --test model").map(|()| ExitCode::SUCCESS)
}

/// Fuzzes the policy, from a seed that no run had before.
///
/// # Errors
/// When it cannot be run, or finds something.
pub fn fuzz() -> Result<ExitCode> {
    let mut command = released("fuzz")?;
    command.args(["--", "--nocapture"]);
    if std::env::var_os("FUZZ_SECONDS").is_none() {
        command.env("FUZZ_SECONDS", "60");
    }
    if std::env::var_os("FUZZ_SEED").is_none() {
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
        // Millions of runs a minute do not reach the seeds of the next.
        command.env("FUZZ_SEED", (now.as_secs() << 24).to_string());
    }
    finish(&mut command, "cargo test --test fuzz").map(|()| ExitCode::SUCCESS)
}

/// Measures, with all that is needed made before.
///
/// # Errors
/// When something that is needed cannot be made.
pub fn bench(parts: &[String]) -> Result<ExitCode> {
    let mut command = command::cargo();
    command.current_dir(checkout()?);
    command.args([
        "bench",
        "-q",
        "-p",
        "iommuctl-tests",
        "--bench",
        "bench",
        "--",
    ]);
    let status = command
        .args(parts)
        .status()
        .context("cannot start `cargo bench`")?;
    Ok(exit_code(status.success()))
}

fn cargo(checkout: &Path, arguments: &[&str]) -> Result<()> {
    finish(
        command::cargo().current_dir(checkout).args(arguments),
        &format!("cargo {}", arguments.join(" ")),
    )
}

fn finish(command: &mut Command, line: &str) -> Result<()> {
    let status = command
        .status()
        .with_context(|| format!("cannot start `{line}`"))?;
    if !status.success() {
        bail!("`{line}` failed ({status})");
    }
    Ok(())
}

fn format(checkout: &Path) -> Result<()> {
    cargo(checkout, &["fmt", "--all", "--check"])?;
    format_module(checkout)
}

/// The module is not cargo's, and is formatted as the kernel's Rust is.
fn format_module(checkout: &Path) -> Result<()> {
    let roots = [
        "kmod/src/iommu_live.rs",
        "kmod/layoutgen/layoutgen.rs",
        "kmod/auditgen/auditgen.rs",
    ];
    let mut rustfmt = Command::new("rustfmt");
    rustfmt
        .current_dir(checkout)
        .args(["--check", "--config-path", "kmod/.rustfmt.toml"])
        .args(roots);
    finish(&mut rustfmt, "rustfmt --check on kmod")
}

fn lints(checkout: &Path) -> Result<()> {
    cargo(
        checkout,
        &[
            "clippy",
            "--workspace",
            "--all-targets",
            "--",
            "-D",
            "warnings",
        ],
    )?;
    // Not among "all": it is only built when it is named.
    cargo(
        checkout,
        &[
            "clippy",
            "-p",
            "iommuctl-tests",
            "--test",
            "e2e",
            "--",
            "-D",
            "warnings",
        ],
    )
}

fn documentation(checkout: &Path) -> Result<()> {
    let mut command = command::cargo();
    command.current_dir(checkout).args([
        "doc",
        "--workspace",
        "--no-deps",
        "--document-private-items",
    ]);
    finish(command.env("RUSTDOCFLAGS", "-D warnings"), "cargo doc")
}

/// The packages are built, and every script is looked at.
fn debian(checkout: &Path) -> Result<()> {
    let cache = Cache::open()?;
    let _lock = cache.lock()?;
    deb::Packages::ensure(&cache)?;
    step("looking at the scripts with shellcheck", || {
        deb::check_scripts(&cache, checkout)
    })
}

/// A tool of cargo's, installed into the cache when it is not there.
///
/// # Errors
/// When it does not build: the message has the log's path.
pub fn cargo_tool(cache: &Cache, name: &str) -> Result<PathBuf> {
    let program = cache.join("tools/bin").join(name);
    if !program.exists() {
        let title = format!("installing {name} into the cache (some minutes, once)");
        step(&title, || {
            let log = cache.log(name)?;
            let mut install = command::cargo();
            install
                .args(["install", "--locked", "--debug", name, "--root"])
                .arg(cache.join("tools"));
            // Built beside the rest of the cache: the checkout's target folder is for the checkout.
            log.run(install.env("CARGO_TARGET_DIR", cache.join("tools/target")))
        })?;
    }
    Ok(program)
}

/// `cargo deny`.
fn licences(checkout: &Path) -> Result<()> {
    let program = cargo_tool(&Cache::open()?, "cargo-deny")?;
    let deny = |what: &[&str]| {
        let mut command = Command::new(&program);
        finish(
            command.current_dir(checkout).arg("check").args(what),
            &format!("cargo deny check {}", what.join(" ")),
        )
    };
    deny(&["licenses", "bans", "sources"])?;
    if !reachable(ADVISORIES) {
        say(&format!(
            "   {ADVISORIES} does not answer: advisories are not checked this time"
        ));
        return Ok(());
    }
    deny(&["advisories"])
}

fn reachable(repository: &str) -> bool {
    let mut git = Command::new("git");
    let quick = [
        "-c",
        "http.lowSpeedLimit=1000",
        "-c",
        "http.lowSpeedTime=10",
    ];
    let output = git
        .args(quick)
        .args(["ls-remote", repository, "HEAD"])
        .env("GIT_TERMINAL_PROMPT", "0")
        .output();
    output.is_ok_and(|output| output.status.success())
}
