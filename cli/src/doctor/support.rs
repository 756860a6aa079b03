// SPDX-License-Identifier: GPL-2.0-only
//! Whether the module can be built for the running kernel, according to the package that builds it.

use std::time::Duration;

use super::finding::{Finding, Id};
use super::machine::{errno_of, why, Machine};
use crate::sys::subprocess::{self, Completed};
use crate::sys::trusted::TrustError;

/// The program of the package that builds the module, which tells whether that works for a kernel.
const CAN_BUILD: (&str, &str) = ("usr/lib/iommu-live", "can-build");
/// The time limit of that program.
const PROGRAM_TIMEOUT: Duration = Duration::from_secs(10);
/// The package.
pub const PACKAGE: &str = "iommu-live-dkms";

/// Whether the module can be built for the running kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Support {
    /// It can.
    Yes,
    /// It cannot.
    No,
    /// The package is installed, and does not tell.
    Unknown,
    /// The package is not installed.
    NoPackage,
}

/// Whether the module can be built, with the finding about it.
pub struct Supported {
    /// Whether it can be built.
    pub answer: Support,
    /// The finding; `None` if the package is missing, and the module is loaded or installed without it.
    pub finding: Option<Finding>,
}

/// Runs the program of the package that builds the module.
pub fn support(machine: &Machine<'_>) -> Supported {
    let says = |answer, finding| Supported {
        answer,
        finding: Some(finding),
    };
    let unknown = |why: String| says(Support::Unknown, Finding::unknown(Id::ModuleSupport, why));
    let (folder, name) = CAN_BUILD;
    let program = match machine.root.dir(folder) {
        Ok(Some(folder)) => folder.program(name),
        Ok(None) => Ok(None),
        Err(error) => Err(error),
    };
    let program = match program {
        Ok(Some(program)) => program,
        Ok(None) => return no_package(machine),
        Err(error @ TrustError::Os(_)) => return unknown(why(errno_of(&error), &error)),
        // Do not run it: whoever can write it would become root.
        Err(error) => {
            let finding = Finding::bad(Id::ModuleSupport, error.to_string());
            let path = machine.root.display(folder);
            let fix = format!("chown -R root:root {path} && chmod -R go-w {path}");
            return says(Support::Unknown, finding.fix(fix));
        }
    };
    if !machine.root.runs_programs() {
        return unknown(format!("{name} is not run below another root"));
    }
    let Some(release) = &machine.release else {
        return unknown("the kernel does not say its release".to_owned());
    };
    match subprocess::run(&program, &[release.as_str()], PROGRAM_TIMEOUT) {
        Ok(completed) => judge_support(&completed, release),
        Err(error) => unknown(error.to_string()),
    }
}

/// What `can-build` means: it ends with 0 for yes and with 1 for no, its first line is a sentence, and the second may be
/// `fix: ` and a command.
fn judge_support(completed: &Completed, release: &str) -> Supported {
    let mut lines = completed.text.lines().map(str::trim);
    let sentence = lines.next().unwrap_or_default();
    let sentence = sentence.trim_end_matches('.');
    let or = |text: String| match sentence {
        "" => text,
        sentence => sentence.to_owned(),
    };
    let (support, finding) = match completed.code {
        0 => {
            let text = or(format!("the module can be built for {release}"));
            (Support::Yes, Finding::ok(Id::ModuleSupport, text))
        }
        1 => {
            let text = or(format!("the module cannot be built for {release}"));
            let fix = lines.find_map(|l| l.strip_prefix("fix: "));
            let finding = Finding::bad(Id::ModuleSupport, text);
            (Support::No, finding.fixes(fix.map(str::to_owned)))
        }
        code => {
            let why = format!("{} ended with {code}", CAN_BUILD.1);
            let finding = Finding::unknown(Id::ModuleSupport, why);
            (Support::Unknown, finding)
        }
    };
    Supported {
        answer: support,
        finding: Some(finding),
    }
}

fn no_package(machine: &Machine<'_>) -> Supported {
    let by_hand = machine.is_loaded() || machine.module_file().is_some();
    let text = format!("{PACKAGE} is not installed: only the module changes DMA-FQ to DMA live");
    let fix = install(machine, &[PACKAGE]);
    Supported {
        answer: Support::NoPackage,
        finding: (!by_hand).then(|| Finding::note(Id::ModuleSupport, text).fix(fix)),
    }
}

/// How the distribution installs `packages`.
pub fn install(machine: &Machine<'_>, packages: &[&str]) -> String {
    let managers = [
        ("usr/bin/apt", "apt install"),
        ("usr/bin/dnf", "dnf install"),
        ("usr/bin/zypper", "zypper install"),
    ];
    let packages = packages.join(" ");
    let mut here = managers.iter().filter(|(p, _)| machine.root.has_program(p));
    match here.next() {
        Some((_, install)) => format!("{install} {packages}"),
        None => format!("install {packages}, or build the module by hand"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::*;

    #[test]
    fn answer_of_the_package_is_passed_on() {
        let judged = |code, text: &str| {
            let text = text.to_owned();
            let supported = judge_support(&Completed { code, text }, "7.3");
            let finding = supported.finding.unwrap();
            (
                supported.answer,
                finding.level,
                finding.text,
                finding.fix.join("; "),
            )
        };
        let text = |text: &str| text.to_owned();
        assert_eq!(
            judged(0, ""),
            (
                Support::Yes,
                Level::Ok,
                text("the module can be built for 7.3"),
                text("")
            )
        );
        assert_eq!(
            judged(1, "There is no BTF.\nfix: apt install linux-image-amd64\n"),
            (
                Support::No,
                Level::Bad,
                text("There is no BTF"),
                text("apt install linux-image-amd64")
            )
        );
        assert_eq!(judged(1, "no\nsomething else\n").3, "");
        let (answer, level, why, _) = judged(2, "fix: rm -rf /");
        assert_eq!((answer, level), (Support::Unknown, Level::Unknown));
        assert_eq!(why, "not known: can-build ended with 2");
    }
}
