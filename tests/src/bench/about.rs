// SPDX-License-Identifier: GPL-2.0-only
//! Which machine the figures are from, and when.

use std::fs;
use std::path::Path;
use std::process::Command;

use jiff::Timestamp;

use super::machines::Booted;
use crate::host::build::arch::Arch;
use crate::host::vm::qemu::{Accelerator, Clock};

/// What must be known beside the figures.
#[derive(Clone, Debug, PartialEq)]
pub struct About {
    /// When it was begun.
    pub when: Timestamp,
    /// Which source was measured; `None` if that is not in git.
    pub source: Option<String>,
    /// The model of the processor.
    pub processor: String,
    /// How many processors there are.
    pub processors: usize,
    /// The kernel of the host.
    pub kernel: String,
    /// How many tasks wanted to run, on average of the last minute, when it was begun.
    pub load: Option<f64>,
    /// Whether the virtual machines' processor is emulated.
    pub emulated: bool,
    /// The virtual machines that ran.
    pub booted: Vec<Booted>,
}

impl About {
    /// This machine, now.
    pub fn this_machine(checkout: &Path) -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let load = read("/proc/loadavg");
        Self {
            when: Timestamp::now(),
            source: source(checkout),
            processor: processor(&read("/proc/cpuinfo")),
            processors: std::thread::available_parallelism().map_or(1, usize::from),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            load: load.split(' ').next().and_then(|word| word.parse().ok()),
            emulated: Accelerator::from_environment(Arch::X86_64) == Accelerator::Tcg,
            booted: Vec::new(),
        }
    }

    /// What to think of absolute times.
    pub fn caution(&self) -> &'static str {
        match self.emulated {
            true => {
                "The virtual machines' processor, devices and IOMMU are emulated: their times only illustrate. \
                 The ratios are what is claimed."
            }
            false => {
                "The virtual machines' devices and IOMMU are emulated: their times only illustrate. The ratios are what \
                 is claimed."
            }
        }
    }

    /// All of it, as pairs of a name and a text.
    pub fn lines(&self) -> Vec<(&'static str, String)> {
        let when = self.when.strftime("%Y-%m-%d %H:%M UTC").to_string();
        let source = self.source.clone();
        let cores = match self.processors {
            1 => "1 processor".to_owned(),
            more => format!("{more} processors"),
        };
        let load = self
            .load
            .map_or("not known".to_owned(), |l| format!("{l:.2}"));
        let vm = if self.emulated { "emulated" } else { "KVM" };
        let mut lines = vec![
            ("when", when),
            ("source", source.unwrap_or_else(|| "not in git".to_owned())),
            ("processor", format!("{}, {cores}", self.processor)),
            ("kernel", self.kernel.clone()),
            ("load at start", load),
            ("virtual machines", vm.to_owned()),
        ];
        for booted in &self.booted {
            let took = booted.took.as_secs();
            let clock = match booted.clock {
                Clock::Host => "",
                Clock::Instructions => {
                    "; its clock: a nanosecond for each instruction, and none for what devices do"
                }
            };
            let (kind, kernel) = (&booted.kind, &booted.kernel);
            let text = format!("{kind}, kernel {kernel}, ran {took} s{clock}");
            lines.push(("machine", text));
        }
        lines
    }
}

fn processor(cpuinfo: &str) -> String {
    let value = |key: &str| {
        let line = cpuinfo.lines().find(|line| line.starts_with(key))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    };
    // Arm has numbers only.
    let found =
        value("model name").or_else(|| value("CPU part").map(|part| format!("part {part}")));
    found.unwrap_or_else(|| std::env::consts::ARCH.to_owned())
}

fn source(checkout: &Path) -> Option<String> {
    let mut git = Command::new("git");
    git.current_dir(checkout)
        .args(["describe", "--always", "--dirty", "--tags"]);
    let output = git.output().ok().filter(|output| output.status.success())?;
    let text = String::from_utf8(output.stdout).ok()?;
    Some(format!("{} ({})", env!("CARGO_PKG_VERSION"), text.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_processor_is_named() {
        let intel = "processor\t: 0\nmodel name\t: Some CPU @ 2.00GHz\n";
        assert_eq!(processor(intel), "Some CPU @ 2.00GHz");
        assert_eq!(processor("CPU part\t: 0xd0c\n"), "part 0xd0c");
        assert_eq!(processor(""), std::env::consts::ARCH);
    }
}
