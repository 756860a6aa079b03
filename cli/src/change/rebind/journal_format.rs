// SPDX-License-Identifier: GPL-2.0-only
//! The format of the lines of a journal, without any access to files.

use serde::{Deserialize, Serialize};

use super::plan::{Override, Plan, Step, Subject};

/// The version of the format. A program that finds another one leaves the journal alone.
pub const VERSION: u32 = 1;

/// The first line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Begin {
    /// [`VERSION`].
    pub version: u32,
    /// The plan.
    pub plan: Plan,
}

/// Every other line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// The step that is taken next.
    pub step: Step,
}

/// The content of a journal.
#[derive(Debug)]
pub struct Parsed {
    /// The plan; `None` if its line is torn.
    pub plan: Option<Plan>,
    /// The last step.
    pub last: Option<Step>,
    /// The length of the complete lines, in bytes.
    pub length: u64,
}

/// The reason why a journal is not accepted.
#[derive(Debug)]
pub enum Wrong {
    /// It has this version.
    Version(u64),
    /// Its first line is damaged: this program never writes such content.
    Text(String),
}

/// Parses a journal.
///
/// # Errors
///
/// [`Wrong`], if its first line is complete and not accepted.
pub fn parse(bytes: &[u8]) -> Result<Parsed, Wrong> {
    // The bytes after the last newline are a torn line.
    let mut lines = bytes.split_inclusive(|b| *b == b'\n');
    let mut lines = lines.by_ref().take_while(|l| l.ends_with(b"\n"));
    let damaged = |error: serde_json::Error| Wrong::Text(error.to_string());
    let mut plan = None;
    let mut whole = 0;
    if let Some(line) = lines.next() {
        whole += line.len();
        let begin: serde_json::Value = serde_json::from_slice(line).map_err(damaged)?;
        match begin.get("version").and_then(serde_json::Value::as_u64) {
            Some(version) if version != u64::from(VERSION) => return Err(Wrong::Version(version)),
            _ => {}
        }
        let begin: Begin = serde_json::from_value(begin).map_err(damaged)?;
        check(&begin.plan).map_err(|what| Wrong::Text(format!("{what} is not plain")))?;
        plan = Some(begin.plan);
    }
    let mut last = None;
    for line in lines {
        // Ignore a damaged line after the plan: recovery needs only the plan.
        let Ok(record) = serde_json::from_slice::<Record>(line) else {
            break;
        };
        whole += line.len();
        last = Some(record.step);
    }
    Ok(Parsed {
        plan,
        last,
        length: u64::try_from(whole).unwrap_or(0),
    })
}

/// Whether every part of the plan that goes into a path is a plain name, or a path of plain names.
fn check(plan: &Plan) -> Result<(), &'static str> {
    let path = |text: &str| text.split('/').all(is_plain);
    for subject in &plan.subjects {
        let Subject {
            driver_override, ..
        } = subject;
        let over = match driver_override {
            Override::Driver(name) => is_plain(name),
            Override::None | Override::Empty => true,
        };
        let parts = [
            (is_plain(&subject.name), "a device"),
            (path(&subject.path), "a path"),
            (is_plain(&subject.bus), "a bus"),
            (is_plain(&subject.driver), "a driver"),
            (over, "a driver_override"),
        ];
        if let Some((_, what)) = parts.iter().find(|(good, _)| !good) {
            return Err(what);
        }
    }
    Ok(())
}

/// Whether `name` can be one component of a path in sysfs.
#[must_use]
pub fn is_plain(name: &str) -> bool {
    let printable = |b: u8| matches!(b, b' '..=b'~') && b != b'/';
    !name.is_empty() && name != "." && name != ".." && name.bytes().all(printable)
}
