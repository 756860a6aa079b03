// SPDX-License-Identifier: GPL-2.0-only
//! `/sys/kernel/iommu_live/cleanups`: switches that the module is still completing after it has returned to their writers.
//!
//! One line for each group: `group=12 step=armed strict_since_ns=123456789 late_comers=2 collected=2 given_up=0`. Where they do
//! not fit into the file, the last line is `more=N`.

use std::fmt;
use std::num::ParseIntError;
use std::str::FromStr;

use iommuctl_policy::GroupId;
use serde::{Serialize, Serializer};

/// The progress of the module with a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// The group is strict. The module waits for the tasks that may be in the middle of an unmap.
    Armed,
    /// The module waits for the last tasks that may still take the group for lazy.
    Cleared,
    /// Only a copy of a table is left, which is freed next.
    Restored,
    /// A step of a later module.
    Other(String),
}

impl Step {
    /// The text that the module uses.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Armed => "armed",
            Self::Cleared => "cleared",
            Self::Restored => "restored",
            Self::Other(name) => name,
        }
    }
}

impl From<&str> for Step {
    fn from(name: &str) -> Self {
        let known = [Self::Armed, Self::Cleared, Self::Restored];
        let found = known.into_iter().find(|step| step.as_str() == name);
        found.unwrap_or_else(|| Self::Other(name.to_owned()))
    }
}

impl Serialize for Step {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// One group that is being cleaned up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Cleanup {
    /// Its number.
    pub group: GroupId,
    /// Its progress.
    pub step: Step,
    /// When it became strict, by `CLOCK_BOOTTIME`; `None` if it was made lazy again meanwhile.
    pub strict_since_ns: Option<u64>,
    /// How many unmaps reached the flush queue after the group was strict. Each has flushed for itself.
    pub late_comers: u64,
    /// How many of their ranges were freed.
    pub collected: u64,
    /// How many of their ranges are lost until the domain is freed.
    pub given_up: u64,
}

/// A line does not describe a clean-up.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseCleanupError {
    /// A word is not of the form `key=value`.
    #[error("`{0}` is not of the form key=value")]
    NotAPair(String),
    /// A value is not a number.
    #[error("{0} is not a number")]
    NotANumber(&'static str),
    /// A value is missing.
    #[error("{0} is missing")]
    Missing(&'static str),
    /// A value occurs twice.
    #[error("{0} is there twice")]
    Twice(&'static str),
}

/// The known keys of a line. Others are ignored.
#[derive(Default)]
struct Fields<'a> {
    group: Option<&'a str>,
    step: Option<&'a str>,
    strict_since_ns: Option<&'a str>,
    late_comers: Option<&'a str>,
    collected: Option<&'a str>,
    given_up: Option<&'a str>,
}

impl<'a> Fields<'a> {
    fn of(line: &'a str) -> Result<Self, ParseCleanupError> {
        let mut fields = Self::default();
        for word in line.split_ascii_whitespace() {
            let Some((key, value)) = word.split_once('=') else {
                return Err(ParseCleanupError::NotAPair(word.to_owned()));
            };
            let (name, field) = match key {
                "group" => ("group", &mut fields.group),
                "step" => ("step", &mut fields.step),
                "strict_since_ns" => ("strict_since_ns", &mut fields.strict_since_ns),
                "late_comers" => ("late_comers", &mut fields.late_comers),
                "collected" => ("collected", &mut fields.collected),
                "given_up" => ("given_up", &mut fields.given_up),
                _ => continue,
            };
            if field.replace(value).is_some() {
                return Err(ParseCleanupError::Twice(name));
            }
        }
        Ok(fields)
    }
}

fn present<'a>(value: Option<&'a str>, name: &'static str) -> Result<&'a str, ParseCleanupError> {
    value.ok_or(ParseCleanupError::Missing(name))
}

fn number<T: FromStr<Err = ParseIntError>>(
    value: Option<&str>,
    name: &'static str,
) -> Result<T, ParseCleanupError> {
    let text = present(value, name)?;
    text.parse()
        .map_err(|_| ParseCleanupError::NotANumber(name))
}

impl FromStr for Cleanup {
    type Err = ParseCleanupError;

    fn from_str(line: &str) -> Result<Self, Self::Err> {
        let fields = Fields::of(line)?;
        let since: u64 = number(fields.strict_since_ns, "strict_since_ns")?;
        Ok(Self {
            group: GroupId(number(fields.group, "group")?),
            step: present(fields.step, "step")?.into(),
            strict_since_ns: (since != 0).then_some(since),
            late_comers: number(fields.late_comers, "late_comers")?,
            collected: number(fields.collected, "collected")?,
            given_up: number(fields.given_up, "given_up")?,
        })
    }
}

/// The clean-ups in progress.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Cleanups {
    /// The groups.
    pub groups: Vec<Cleanup>,
    /// How many more there are than the file has room for.
    pub more: u64,
}

impl Cleanups {
    /// Parses `text`. Returns the numbers of the lines that cannot be parsed too, each with the reason.
    pub(super) fn read(text: &str) -> (Self, Vec<(usize, ParseCleanupError)>) {
        let mut cleanups = Self::default();
        let mut wrong = Vec::new();
        for (number, line) in (1..).zip(text.lines()) {
            if line.trim().is_empty() {
                continue;
            }
            match more(line).unwrap_or_else(|| line.parse().map(Line::Group)) {
                Ok(Line::Group(cleanup)) => cleanups.groups.push(cleanup),
                Ok(Line::More(count)) => cleanups.more = cleanups.more.saturating_add(count),
                Err(why) => wrong.push((number, why)),
            }
        }
        (cleanups, wrong)
    }

    /// How many groups are being cleaned up.
    #[must_use]
    pub fn count(&self) -> u64 {
        let shown = u64::try_from(self.groups.len()).unwrap_or(u64::MAX);
        shown.saturating_add(self.more)
    }
}

enum Line {
    Group(Cleanup),
    More(u64),
}

/// Parses `line` as the last line, `more=N`.
fn more(line: &str) -> Option<Result<Line, ParseCleanupError>> {
    let count = line.trim().strip_prefix("more=")?;
    let count = count.parse().map(Line::More);
    Some(count.map_err(|_| ParseCleanupError::NotANumber("more")))
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str =
        "group=12 step=armed strict_since_ns=123456789 late_comers=2 collected=1 given_up=1";

    fn wrong(line: &str) -> ParseCleanupError {
        line.parse::<Cleanup>().unwrap_err()
    }

    #[test]
    fn a_line_is_read_whole() {
        let cleanup: Cleanup = LINE.parse().unwrap();
        assert_eq!(cleanup.group, GroupId(12));
        assert_eq!(cleanup.step, Step::Armed);
        assert_eq!(cleanup.strict_since_ns, Some(123_456_789));
        assert_eq!((cleanup.late_comers, cleanup.collected), (2, 1));
        assert_eq!(cleanup.given_up, 1);
        // Lazy again: strict since never.
        let relaxed = LINE
            .replace("=123456789", "=0")
            .replace("armed", "restored");
        let relaxed: Cleanup = relaxed.parse().unwrap();
        assert_eq!(relaxed.strict_since_ns, None);
        assert_eq!(relaxed.step, Step::Restored);
    }

    #[test]
    fn what_a_later_module_says_is_left_alone() {
        let later = LINE.replace("armed", "resting");
        let cleanup: Cleanup = format!("cpu=any {later} color=red").parse().unwrap();
        assert_eq!(cleanup.step, Step::Other("resting".to_owned()));
        assert_eq!(cleanup.group, GroupId(12));
    }

    #[test]
    fn what_is_wrong_is_named() {
        use ParseCleanupError as E;
        assert_eq!(wrong("group=12 armed"), E::NotAPair("armed".to_owned()));
        assert_eq!(
            wrong(&LINE.replace("given_up=1", "")),
            E::Missing("given_up")
        );
        assert_eq!(
            wrong(&LINE.replace("given_up=1", "given_up=-1")),
            E::NotANumber("given_up")
        );
        assert_eq!(
            wrong(&LINE.replace("12", "99999999999")),
            E::NotANumber("group")
        );
        assert_eq!(wrong(&format!("{LINE} step=armed")), E::Twice("step"));
    }

    #[test]
    fn a_line_that_is_wrong_does_not_hide_the_others() {
        let other = LINE.replace("12", "13");
        let (found, wrong) = Cleanups::read(&format!("{LINE}\nnonsense\n\n{other}\nmore=7\n"));
        let groups: Vec<u32> = found.groups.iter().map(|c| c.group.0).collect();
        assert_eq!((groups.as_slice(), found.more), ([12, 13].as_slice(), 7));
        assert_eq!(found.count(), 9);
        assert_eq!(
            wrong,
            [(2, ParseCleanupError::NotAPair("nonsense".to_owned()))]
        );
        let (found, wrong) = Cleanups::read("more=many");
        assert_eq!(found.count(), 0);
        assert_eq!(wrong, [(1, ParseCleanupError::NotANumber("more"))]);
        assert_eq!(Cleanups::read(""), (Cleanups::default(), Vec::new()));
    }
}
