// SPDX-License-Identifier: GPL-2.0-only
//! `iommuctl audit verify`: whether the log is as it was written.

use std::io::{self, Write};

use serde::Serialize;

use super::{places, snapshot};
use crate::audit::log::json_file::{Kept as _, StateError};
use crate::audit::log::last_verified::LastVerified;
use crate::audit::log::verify::{verify, LogFinding, Verdict};
use crate::audit::{clock, settings};
use crate::commands::common::args::Global;
use crate::exit::Exit;
use crate::sys::private_dir::PrivateDir;
use crate::terminal::output::Output;
use crate::terminal::style;

/// What `audit verify` found.
#[derive(Debug, Serialize)]
pub struct VerifyReport {
    pub intact: bool,
    #[serde(flatten)]
    pub verdict: Verdict,
    pub exit_code: u8,
}

/// Runs the command.
pub fn run(global: &Global, output: &mut Output) -> anyhow::Result<Exit> {
    let places = places(global);
    let key = settings::key(&global.roots.open_root()?)?;
    let verdict = verify(snapshot(&places)?, key.as_ref())?;
    let intact = verdict.is_intact();
    let exit = if intact { Exit::Done } else { Exit::Refused };
    let checked = LastVerified {
        time: clock::now(),
        intact,
        records: verdict.records,
    };
    let kept = PrivateDir::make(Some(&places.state())).map_err(StateError::from);
    if let Err(error) = kept.and_then(|folder| checked.write(&folder)) {
        output.warn(&format!("monitoring will not know of this: {error}"));
    }
    let report = VerifyReport {
        intact,
        verdict,
        exit_code: exit.code(),
    };
    output.report(&report, write)?;
    if !intact {
        output.complain(&format!("{} is not as it was written", places.display()));
    }
    Ok(exit)
}

/// Writes what was found.
pub fn write(w: &mut dyn Write, report: &VerifyReport) -> io::Result<()> {
    let verdict = &report.verdict;
    for finding in &verdict.findings {
        let bad = style::BAD;
        writeln!(w, "{bad}{}{bad:#}", sentence(finding))?;
    }
    if verdict.torn_at_the_end {
        writeln!(
            w,
            "the last record is torn, as by a power cut; the next one written will say so"
        )?;
    }
    if verdict.torn > 0 {
        writeln!(w, "{} torn records are accounted for", verdict.torn)?;
    }
    let range = format!(
        "{} records, {} to {}",
        verdict.records, verdict.first, verdict.last
    );
    let anchored = match verdict.anchored {
        Some(seq) => format!("; the key vouches for all up to {seq}"),
        None => String::new(),
    };
    let (word, style) = match report.intact {
        true => ("intact", style::GOOD),
        false => ("NOT INTACT", style::BAD),
    };
    writeln!(w, "{style}{word}{style:#}: {range}{anchored}")
}

fn sentence(finding: &LogFinding) -> String {
    let range = |from: u64, to: u64| match to - from {
        0 => format!("record {from} is"),
        _ => format!("records {from} to {to} are"),
    };
    match finding {
        LogFinding::Edited { seq } => format!("record {seq} was edited"),
        LogFinding::Removed { from, to } => format!("{} missing", range(*from, *to)),
        LogFinding::Moved { seq } => format!("record {seq} does not stand where it was written"),
        LogFinding::Repeated { seq } => format!("record {seq} is there again"),
        LogFinding::Foreign { after } => {
            format!("behind record {after} there is something that is no record")
        }
        LogFinding::Truncated { from, to } => {
            format!("{} missing at the end", range(*from, *to))
        }
        LogFinding::Replaced { seq } => {
            format!("record {seq} is not the one that was written: from somewhere on, the log is another")
        }
        LogFinding::NoHead { why } => format!("what is missing at the end cannot be known: {why}"),
        LogFinding::HeadLost { seq } => {
            format!("what is missing before record {seq} cannot be known: nothing told where the log had ended")
        }
        LogFinding::Forged { seq } => format!("the anchor behind record {seq} is not by the key"),
        LogFinding::NoAnchor => "there is a key, and no record is anchored with it".to_owned(),
        LogFinding::Later { seq } => {
            format!("record {seq} is of a later version, and is not judged")
        }
    }
}
