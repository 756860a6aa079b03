// SPDX-License-Identifier: GPL-2.0-only
//! The commands of `testbed`.

use std::path::Path;
use std::process::ExitCode;

use anyhow::{ensure, Context as _, Result};
use clap::{Parser, Subcommand};

use super::packages::{deb, package_lifecycle, rpm_and_arch, sbom};
use super::systems::{fleet, system};
use super::vm::runner;
use super::{checks, demo, litmus, loads, mutants};
use crate::host::build::cache::Cache;
use crate::host::build::command::as_root;
use crate::host::build::progress::{say, step};
use crate::host::build::toolchain::Toolchain;
use crate::host::build::userspace::checkout;

/// Makes stock kernels run in virtual machines, and runs the suites there.
#[derive(Debug, Parser)]
#[command(name = "testbed", version)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make everything that is kept between runs: a small Debian, its newest backported kernel, Rust metadata
    Setup,
    /// Build iommu_live.ko for that kernel
    Module,
    /// Build the Debian packages, and look at them with lintian
    Deb {
        /// Build them twice, and compare
        #[arg(long)]
        reproduce: bool,
    },
    /// Build the RPM packages, and look at them with rpmlint and beside Debian's
    Rpm,
    /// Build the packages for Arch Linux, and look at them beside Debian's
    Arch,
    /// List what is linked into iommuctl, as CycloneDX
    Sbom,
    /// Show the main job in a virtual machine, with a narrated transcript
    Demo,
    /// Format, lints, documentation, unit and command-line tests: without root, network and virtual machines
    Check,
    /// Format and lints of the module, and a rust-project.json for editors
    KmodCheck,
    /// What Check does, packages, then the end-to-end suites
    Test,
    /// The same, with the long forms of the suites
    TestFull,
    /// Check the order of the module's protocols in every interleaving, deeper than Test does
    Model,
    /// Check the memory ordering that the module relies on against the kernel's memory model
    Litmus,
    /// Check in the code of the distribution's kernels how they read what the module changes
    Loads,
    /// Fuzz the policy, FUZZ_SECONDS for each target
    Fuzz,
    /// Measure how fast it is, and write a report
    Bench {
        /// Parts to run, or nothing for all: `scale`, or the name of a machine
        parts: Vec<String>,
    },
    /// Boot a virtual machine and run the named scenarios, for work on the suites themselves
    Run {
        /// Machine to boot; a name that is none lists those there are
        machine: String,
        /// Scenarios, or nothing for all those of the machine
        scenarios: Vec<String>,
    },
    /// Build the module with a mistake in it, and see that the suites notice
    Mutant {
        /// Mutants, or nothing for all of them
        names: Vec<String>,
    },
    /// Boot a real Debian system from a disk, once for each scenario, and see what the policy does at boot
    System {
        /// Scenarios, or nothing for all of them
        scenarios: Vec<String>,
    },
    /// Install the Debian packages in a real system, upgrade its kernel and them, and remove them again
    Packaged,
    /// Boot two real Debian systems and have Ansible look after them
    Fleet,
    /// Remove the cache
    CleanCache,
}

/// Runs one command.
///
/// # Errors
/// When something that is needed is missing or broken. A failed check is no error: it is the exit code.
pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    match &arguments.command {
        Command::Setup => Toolchain::ensure().map(|_| ExitCode::SUCCESS),
        Command::Module => {
            let module = Toolchain::ensure()?.module()?;
            say(&format!("   ready: {}", module.display()));
            Ok(ExitCode::SUCCESS)
        }
        Command::Deb { reproduce: true } => locked(deb::reproduce),
        Command::Deb { reproduce: false } => {
            locked(|cache| deb::Packages::ensure(cache).map(|_| ()))
        }
        Command::Rpm => locked(rpm_and_arch::rpm),
        Command::Arch => locked(rpm_and_arch::arch),
        Command::Sbom => locked(sbom::make),
        Command::Demo => demo::run(),
        Command::Check => checks::check(),
        Command::KmodCheck => checks::kmod_check(),
        Command::Test => checks::run(false),
        Command::TestFull => checks::run(true),
        Command::Model => checks::model(),
        Command::Fuzz => checks::fuzz(),
        Command::Bench { parts } => checks::bench(parts),
        Command::Litmus => litmus::run(&checkout()?).map(|()| ExitCode::SUCCESS),
        Command::Loads => loads::run().map(|()| ExitCode::SUCCESS),
        Command::Run { machine, scenarios } => runner::try_out(machine, scenarios),
        Command::Mutant { names } => mutants::try_out(names),
        Command::System { scenarios } => system::try_out(scenarios).map(checks::exit_code),
        Command::Packaged => package_lifecycle::try_out().map(checks::exit_code),
        Command::Fleet => Ok(match fleet::run()? {
            None => {
                say("   all good");
                ExitCode::SUCCESS
            }
            Some(failure) => {
                say(&failure);
                ExitCode::FAILURE
            }
        }),
        Command::CleanCache => clean().map(|()| ExitCode::SUCCESS),
    }
}

/// Does something that needs the cache for itself.
fn locked(work: impl FnOnce(&Cache) -> Result<()>) -> Result<ExitCode> {
    let cache = Cache::open()?;
    let _lock = cache.lock()?;
    work(&cache).map(|()| ExitCode::SUCCESS)
}

fn clean() -> Result<()> {
    let Some(cache) = Cache::existing()? else {
        say("   there is no cache");
        return Ok(());
    };
    let _lock = cache.lock()?;
    let folder = cache.path();
    step(&format!("removing {}", folder.display()), || {
        // Nothing is mounted in there: every chroot has a mount namespace of its own, which ends with it. The mark
        // goes last, with the folder, so that an interrupted removal can be begun again.
        let entries = std::fs::read_dir(folder)
            .with_context(|| format!("cannot read {}", folder.display()))?;
        for entry in entries {
            let path = entry?.path();
            if !cache.is_mark(&path) {
                remove(&path)?;
            }
        }
        remove(folder)
    })
}

fn remove(path: &Path) -> Result<()> {
    let status = as_root("rm")
        .args(["-rf", "--one-file-system", "--"])
        .arg(path)
        .status()
        .context("cannot start rm")?;
    ensure!(status.success(), "cannot remove {}", path.display());
    Ok(())
}
