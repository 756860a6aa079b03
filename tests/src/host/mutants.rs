// SPDX-License-Identifier: GPL-2.0-only
//! Mutants: the module with one step left out or done wrongly, and the scenarios that must notice.
//!
//! What is different is in `tests/mutants/NAME.patch`; it is applied to a copy of the module's source, which has nothing in it for
//! tests.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{bail, ensure, Context as _, Result};

use crate::host::build::kbuild;
use crate::host::build::progress::{say, seconds};
use crate::host::build::toolchain::Toolchain;
use crate::host::build::userspace::checkout;
use crate::host::vm::machines::kind;
use crate::host::vm::runner::{self, Finished};
use crate::report::Section;

/// The kind of machine they run on.
const MACHINE: &str = "mutants";
/// The folder of the module's source.
const SOURCE: &str = "kmod";

/// The module with a mistake.
#[derive(Debug)]
pub struct Mutant {
    /// Its name, and that of its patch.
    pub name: &'static str,
    /// What runs.
    pub scenario: &'static str,
    /// What must go red, and how: the name of a check, and words of what it says.
    pub red: &'static [(&'static str, &'static str)],
    /// Whether other checks may go red with it.
    pub others: bool,
}

/// A mutant after which a device reaches memory that it must not.
const fn stale(name: &'static str, scenario: &'static str) -> Mutant {
    Mutant {
        name,
        scenario,
        red: &[("nobody-is-stale", "STALE DMA")],
        others: true,
    }
}

/// A mutant that breaks an invariant, and is stopped: everything else is as it should be.
const fn tripped(name: &'static str) -> Mutant {
    Mutant {
        name,
        scenario: "tripwire",
        red: &[
            ("module-is-sound", "tripped reads 1"),
            ("kernel-log", "an invariant is broken"),
        ],
        others: false,
    }
}

/// Every mutant.
pub static MUTANTS: [Mutant; 10] = [
    stale("not-armed", "let-go-after"),
    stale("one-ring-not-armed", "let-go-after"),
    stale("armed-though-not-empty", "let-go-meanwhile"),
    stale("collected-by-disarming", "let-go-after"),
    Mutant {
        name: "never-collected",
        scenario: "let-go-after",
        red: &[("each-is-collected", "was not collected")],
        others: true,
    },
    Mutant {
        name: "cleared-while-armed",
        scenario: "let-go-after",
        red: &[("", "NULL pointer dereference")],
        others: true,
    },
    tripped("no-grace-period"),
    tripped("ring-tampered-with"),
    tripped("entry-left-behind"),
    tripped("label-changed"),
];

impl Mutant {
    /// The mutant with this name.
    ///
    /// # Errors
    /// When there is none: the message lists those there are.
    pub fn find(name: &str) -> Result<&'static Self> {
        let names: Vec<_> = MUTANTS.iter().map(|mutant| mutant.name).collect();
        let found = MUTANTS.iter().find(|mutant| mutant.name == name);
        found.with_context(|| {
            format!(
                "no mutant is called `{name}`; there are: {}",
                names.join(", ")
            )
        })
    }

    /// Puts its source into the folder `target`, which is there.
    ///
    /// # Errors
    /// When its patch does not fit the module.
    pub fn write(&self, target: &Path) -> Result<()> {
        let checkout = checkout()?;
        let source = checkout.join(SOURCE);
        let mut files = Vec::new();
        kbuild::list(&source, &mut files)?;
        let patch = self.patch(&checkout)?;
        let mut changed = 0;
        for file in files {
            let name = file.strip_prefix(&source).unwrap_or(&file);
            let copy = target.join(name);
            let folder = copy.parent().unwrap_or(target);
            std::fs::create_dir_all(folder)
                .with_context(|| format!("cannot make {}", folder.display()))?;
            let hunks: Vec<_> = patch.iter().filter(|hunk| hunk.file == name).collect();
            if hunks.is_empty() {
                std::fs::copy(&file, &copy)
                    .with_context(|| format!("cannot copy {}", file.display()))?;
                continue;
            }
            let mut text = std::fs::read_to_string(&file)
                .with_context(|| format!("cannot read {}", file.display()))?;
            for hunk in &hunks {
                text = hunk
                    .apply(&text)
                    .with_context(|| format!("{} in {}", self.name, name.display()))?;
            }
            changed += hunks.len();
            std::fs::write(&copy, text)
                .with_context(|| format!("cannot write {}", copy.display()))?;
        }
        ensure!(
            changed == patch.len(),
            "{}: the patch is for a file that is not there",
            self.name
        );
        Ok(())
    }

    fn patch(&self, checkout: &Path) -> Result<Vec<Hunk>> {
        let path = checkout
            .join("tests/mutants")
            .join(format!("{}.patch", self.name));
        let text = std::fs::read_to_string(&path)
            .with_context(|| format!("cannot read {}", path.display()))?;
        parse(&text).with_context(|| format!("in {}", path.display()))
    }

    /// Runs it, and tells what it shows: nothing if that is what it should.
    ///
    /// # Errors
    /// When it does not build, or its machine broke.
    pub fn survives(&'static self) -> Result<Option<String>> {
        let kind = kind(MACHINE)?;
        let toolchain = Toolchain::of(kind.arch, kind.flavour)?;
        let boot = toolchain.boot_mutant(self)?;
        say(&format!("   booting {} for {}", kind.name, self.name));
        let scenarios = [self.scenario.to_owned()];
        let finished = runner::run(kind, &toolchain, &boot, &scenarios, &mut |_| {})?;
        say(&format!("   {} ran {}", self.name, seconds(finished.took)));
        Ok(self.judge(&finished))
    }

    fn judge(&self, finished: &Finished) -> Option<String> {
        let section = finished.report.section(self.scenario);
        let failed = section.map(failed).unwrap_or_default();
        let cut_short = finished.cut_short.clone().unwrap_or_default();
        let wanted = |check: &str, text: &str| {
            self.red
                .iter()
                .any(|(name, words)| (name.is_empty() || *name == check) && text.contains(words))
        };
        let seen = |name: &str, words: &str| {
            let by_a_check = failed
                .iter()
                .any(|(check, text)| (name.is_empty() || check == name) && text.contains(words));
            by_a_check || name.is_empty() && cut_short.contains(words)
        };
        let missing: Vec<_> = self
            .red
            .iter()
            .filter(|(name, words)| !seen(name, words))
            .collect();
        let surprise = failed
            .iter()
            .find(|(check, text)| !self.others && !wanted(check, text));
        if missing.is_empty() && surprise.is_none() {
            return None;
        }
        Some(format!(
            "mutant `{}`: nothing said {missing:?}, {surprise:?} was not to go red; failed: {failed:?} {cut_short}; console log: {}",
            self.name,
            finished.console.display()
        ))
    }
}

/// Runs these mutants, or all, and prints what they show that they should not.
///
/// # Errors
/// When one is not there, does not build, or its machine broke.
pub fn try_out(names: &[String]) -> Result<ExitCode> {
    let chosen = if names.is_empty() {
        MUTANTS.iter().collect()
    } else {
        let found = names.iter().map(|name| Mutant::find(name));
        found.collect::<Result<Vec<_>>>()?
    };
    let mut good = true;
    for mutant in chosen {
        match mutant.survives()? {
            None => say(&format!("   {} is noticed", mutant.name)),
            Some(failure) => {
                good = false;
                say(&failure);
            }
        }
    }
    Ok(if good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// The checks that failed, and what they said.
fn failed(section: &Section) -> Vec<(String, String)> {
    let checks = section.checks.iter().filter(|(_, good, _)| !good);
    checks
        .map(|(name, _, said)| (name.clone(), said.clone()))
        .collect()
}

/// What is to be replaced in a file, once.
#[derive(Debug, PartialEq, Eq)]
struct Hunk {
    file: PathBuf,
    old: String,
    new: String,
}

impl Hunk {
    fn apply(&self, text: &str) -> Result<String> {
        let places = text.matches(&self.old).count();
        ensure!(places == 1, "{places} places look like this:\n{}", self.old);
        Ok(text.replacen(&self.old, &self.new, 1))
    }
}

/// A patch as `diff -u` makes it. Where a hunk belongs is told by its lines alone: the module may change around it.
fn parse(text: &str) -> Result<Vec<Hunk>> {
    let mut hunks: Vec<Hunk> = Vec::new();
    let mut file = None;
    for line in text.lines() {
        if let Some(name) = line.strip_prefix("+++ b/") {
            let name = Path::new(name).strip_prefix(SOURCE);
            file = Some(name.context("a patch of something else")?.to_owned());
            continue;
        }
        if line.starts_with("--- ") {
            file = None;
            continue;
        }
        let Some(file) = &file else { continue };
        if line.starts_with("@@") {
            hunks.push(Hunk {
                file: file.clone(),
                old: String::new(),
                new: String::new(),
            });
            continue;
        }
        let hunk = hunks.last_mut().context("a line before the first hunk")?;
        let (sign, rest) = line.split_at_checked(1).unwrap_or((" ", ""));
        let (old, new) = match sign {
            " " => (true, true),
            "-" => (true, false),
            "+" => (false, true),
            _ => bail!("`{line}` is no line of a patch"),
        };
        for (wanted, text) in [(old, &mut hunk.old), (new, &mut hunk.new)] {
            if wanted {
                text.push_str(rest);
                text.push('\n');
            }
        }
    }
    ensure!(!hunks.is_empty(), "it changes nothing");
    Ok(hunks)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guest::scenario;

    #[test]
    fn each_fits_the_module_and_has_a_scenario() {
        for mutant in &MUTANTS {
            let folder = tempfile::tempdir().unwrap();
            mutant.write(folder.path()).unwrap();
            assert!(folder.path().join("Kbuild").exists());
            assert!(
                scenario::find(mutant.scenario).is_some(),
                "{}",
                mutant.scenario
            );
        }
        assert!(Mutant::find("none")
            .unwrap_err()
            .to_string()
            .contains("not-armed"));
    }

    #[test]
    fn a_hunk_that_fits_twice_or_never_is_refused() {
        let patch = "--- a/kmod/x\n+++ b/kmod/x\n@@ -1,2 +1,1 @@\n one\n-two\n";
        let hunks = parse(patch).unwrap();
        assert_eq!(hunks[0].apply("zero\none\ntwo\n").unwrap(), "zero\none\n");
        assert!(hunks[0].apply("one\ntwo\none\ntwo\n").is_err());
        assert!(hunks[0].apply("two\n").is_err());
        assert!(parse("nothing").is_err());
    }
}
