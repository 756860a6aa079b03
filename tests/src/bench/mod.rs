// SPDX-License-Identifier: GPL-2.0-only
//! `make bench`: how fast it is, as ratios within one run, and whether the claims about that hold here.
//!
//! Figures come from two places. [`scale`] runs `iommuctl` on machines made of files ([`trees`]); [`machines`] boots virtual
//! machines, whose scenarios send theirs as facts ([`samples`]). [`claims`] judges them with the help of [`stats`], and
//! [`report`] writes it all down. `benches/main.rs` is the program, and has nothing of its own, so that everything here is
//! tested like the rest of the library.

pub mod about;
pub mod claims;
pub mod machines;
pub mod pci_ids;
pub mod report;
pub mod samples;
pub mod scale;
pub mod stats;
pub mod trees;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{bail, Context as _, Result};
use clap::Parser;

use crate::host::build::cache::Cache;
use crate::host::build::progress::heading;
use crate::host::build::userspace::checkout;
use crate::report::Report;
use about::About;
use claims::Verdict;
use report::Findings;
use samples::Samples;

/// How the part that needs no virtual machine is called.
const SCALE: &str = "scale";

/// Measures, and says whether what is claimed about speed holds here.
#[derive(Debug, Parser)]
#[command(name = "bench")]
pub struct Arguments {
    /// Parts to run, or nothing for all: `scale`, or the name of a machine
    parts: Vec<String>,
    /// Take the figures of virtual machines from this report of a guest, in place of booting any
    #[arg(long, value_name = "FILE")]
    recorded: Option<PathBuf>,
    /// Only start this command, and print how much memory it took
    #[arg(long, hide = true, num_args = 1.., allow_hyphen_values = true, value_name = "COMMAND")]
    peak_of: Vec<String>,
    /// What cargo says to every benchmark
    #[arg(long, hide = true)]
    bench: bool,
}

/// Measures what `arguments` ask for. The exit code says whether a claim clearly fails, or something could not be measured
/// that was to be.
///
/// # Errors
/// When the report cannot be written.
pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    let mut out = std::io::stdout();
    if !arguments.peak_of.is_empty() {
        writeln!(out, "{}", scale::peak_of(&arguments.peak_of)?)?;
        return Ok(ExitCode::SUCCESS);
    }
    let findings = measure(arguments)?;
    let cache = Cache::open()?;
    let paths = report::write(&findings, &cache.join("out/bench"))?;
    let text = report::text::page(&findings);
    write!(out, "{text}").context("cannot write to standard output")?;
    for path in paths {
        writeln!(out, "{}", path.display()).context("cannot write to standard output")?;
    }
    let failed = |judged: &claims::Judged| judged.verdict == Verdict::Fails;
    match findings.troubles.is_empty() && !findings.claims.iter().any(failed) {
        true => Ok(ExitCode::SUCCESS),
        false => Ok(ExitCode::FAILURE),
    }
}

fn measure(arguments: &Arguments) -> Result<Findings> {
    let checkout = checkout()?;
    let kinds = machines::kinds();
    for part in &arguments.parts {
        if part != SCALE && !kinds.iter().any(|kind| kind.name == part) {
            let names: Vec<_> = kinds.iter().map(|kind| kind.name).collect();
            let names = names.join(" ");
            bail!("no part is called `{part}`; there are: {SCALE} {names}");
        }
    }
    let parts = &arguments.parts;
    let wanted = |part: &str| parts.is_empty() || parts.iter().any(|p| p == part);
    let mut about = About::this_machine(&checkout);
    let mut samples = Samples::default();
    // One part that breaks does not take the others along; it is in the report, and in the exit code.
    let mut troubles = Vec::new();
    if wanted(SCALE) {
        heading("The command line on many groups");
        if let Err(error) = command_line(&checkout, &mut samples) {
            troubles.push(format!("{SCALE}: {error:#}"));
        }
    }
    if let Some(path) = &arguments.recorded {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read {}", path.display()))?;
        machines::take(&Report::parse(&text), &mut samples)?;
    } else {
        for kind in kinds.into_iter().filter(|kind| wanted(kind.name)) {
            heading(&format!("Machine {}", kind.name));
            match machines::measure(kind, &mut samples, &mut troubles) {
                Ok(booted) => about.booted.push(booted),
                Err(error) => troubles.push(format!("machine `{}`: {error:#}", kind.name)),
            }
        }
    }
    Ok(Findings {
        about,
        claims: claims::judge(&samples),
        samples,
        troubles,
    })
}

/// The part that needs no virtual machine.
fn command_line(checkout: &Path, samples: &mut Samples) -> Result<()> {
    let cache = Cache::open()?;
    let iommuctl = scale::build(checkout, &cache.log("bench")?)?;
    let folder = tempfile::Builder::new()
        .prefix("trees-")
        .tempdir_in(cache.join("run"))
        .context("cannot make a folder for machines made of files")?;
    scale::measure(&iommuctl, folder.path(), samples)
}
