// SPDX-License-Identifier: GPL-2.0-only
//! Figures that come from virtual machines: every kind whose name begins with `bench` is there for them.

use std::time::Duration;

use anyhow::{Context as _, Result};

use super::samples::Samples;
use crate::host::vm::machines::{all, Kind};
use crate::host::vm::qemu::{Accelerator, Clock};
use crate::host::vm::runner;
use crate::report::Report;

/// A virtual machine that figures come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Booted {
    /// Which kind.
    pub kind: String,
    /// Its kernel.
    pub kernel: String,
    /// How long it ran.
    pub took: Duration,
    /// What its time was.
    pub clock: Clock,
}

/// The kinds that send figures.
pub fn kinds() -> Vec<&'static Kind> {
    let is_one = |kind: &&Kind| kind.name == "bench" || kind.name.starts_with("bench-");
    all().filter(is_one).collect()
}

/// Boots a machine of this kind and takes its figures; what went wrong there is added to `troubles`.
///
/// # Errors
/// When it cannot be run at all, or sends what is no figure.
pub fn measure(kind: &Kind, samples: &mut Samples, troubles: &mut Vec<String>) -> Result<Booted> {
    let (toolchain, finished) = runner::run_whole(kind)?;
    for scenario in kind.scenarios {
        if let Some(failure) = finished.failure(scenario) {
            troubles.push(format!("machine `{}`: {}", kind.name, failure.trim_end()));
        }
    }
    take(&finished.report, samples)?;
    Ok(Booted {
        kind: kind.name.to_owned(),
        kernel: toolchain.kernel.release.clone(),
        took: finished.took,
        clock: match Accelerator::from_environment(kind.arch) {
            Accelerator::Tcg => kind.clock,
            Accelerator::Kvm => Clock::Host,
        },
    })
}

/// Takes the figures of all scenarios of a report.
///
/// # Errors
/// When one is no figure.
pub fn take(report: &Report, samples: &mut Samples) -> Result<()> {
    for section in &report.sections {
        samples
            .add_facts(section)
            .with_context(|| format!("scenario `{}`", section.name))?;
    }
    Ok(())
}
