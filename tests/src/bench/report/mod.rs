// SPDX-License-Identifier: GPL-2.0-only
//! What was found, written down three times: for a terminal, for programs, and as a page to look at.

pub mod axis;
pub mod html;
pub mod json;
pub mod plot;
pub mod text;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::about::About;
use super::claims::{Judged, Verdict};
use super::samples::Samples;

/// Everything there is to report.
#[derive(Clone, Debug)]
pub struct Findings {
    /// Where and when.
    pub about: About,
    /// The claims, and what came of them.
    pub claims: Vec<Judged>,
    /// The figures.
    pub samples: Samples,
    /// What went wrong while they were taken.
    pub troubles: Vec<String>,
}

impl Findings {
    /// How many claims came out like this.
    fn count(&self, verdict: Verdict) -> usize {
        let same = |judged: &&Judged| judged.verdict == verdict;
        self.claims.iter().filter(same).count()
    }

    /// It all in one sentence.
    fn headline(&self) -> String {
        let holds = self.count(Verdict::Holds);
        let mut parts = vec![format!("{holds} of {} claims hold", self.claims.len())];
        for verdict in [Verdict::Fails, Verdict::CannotTell, Verdict::NotMeasured] {
            let words = match (verdict, self.count(verdict)) {
                (_, 0) => continue,
                (Verdict::Fails, 1) => "1 does not".to_owned(),
                (Verdict::Fails, n) => format!("{n} do not"),
                (Verdict::CannotTell, n) => format!("{n} cannot be told"),
                (_, 1) => "1 was not measured".to_owned(),
                (_, n) => format!("{n} were not measured"),
            };
            parts.push(words);
        }
        parts.join(", ")
    }
}

/// Writes all three into `folder`, and returns their paths.
///
/// # Errors
/// When one cannot be written.
pub fn write(findings: &Findings, folder: &Path) -> Result<Vec<PathBuf>> {
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let texts = [
        ("report.txt", text::page(findings)),
        ("report.json", json::page(findings)),
        ("report.html", html::page(findings)),
    ];
    let write = |(name, text): (&str, String)| {
        let path = folder.join(name);
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(path)
    };
    texts.into_iter().map(write).collect()
}

#[cfg(test)]
pub(super) mod tests {
    use std::time::Duration;

    use jiff::Timestamp;

    use super::*;
    use crate::bench::claims::judge;
    use crate::bench::machines::{take, Booted};
    use crate::host::vm::qemu::Clock;
    use crate::report::Report;

    /// What two machines could have sent, and a command line beside it.
    const RECORDED: &str = include_str!("../recorded.report");

    pub fn findings() -> Findings {
        let mut samples = Samples::default();
        take(&Report::parse(RECORDED), &mut samples).unwrap();
        Findings {
            about: About {
                when: Timestamp::from_second(1_790_000_000).unwrap(),
                source: Some("0.1.0 (abc123)".to_owned()),
                processor: "A <fast> CPU".to_owned(),
                processors: 2,
                kernel: "6.12.1".to_owned(),
                load: Some(0.25),
                emulated: true,
                booted: vec![Booted {
                    kind: "bench".to_owned(),
                    kernel: "7.3.4".to_owned(),
                    took: Duration::from_secs(77),
                    clock: Clock::Instructions,
                }],
            },
            claims: judge(&samples),
            samples,
            troubles: vec!["machine `bench-many`: it <broke>".to_owned()],
        }
    }

    #[test]
    fn all_three_are_written() {
        let folder = tempfile::tempdir().unwrap();
        let paths = write(&findings(), &folder.path().join("bench")).unwrap();
        assert_eq!(paths.len(), 3);
        for path in paths {
            assert!(fs::metadata(path).unwrap().len() > 1000);
        }
    }

    #[test]
    fn the_headline_counts() {
        let headline = findings().headline();
        assert_eq!(
            headline,
            "7 of 17 claims hold, 2 do not, 1 cannot be told, 7 were not measured"
        );
    }
}
