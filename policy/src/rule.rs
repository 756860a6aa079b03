// SPDX-License-Identifier: GPL-2.0-only
//! One rule of a policy.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::any_of::given;
use crate::{Goal, Match};

/// The most disruptive way that may be taken without being told again.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum RouteLimit {
    /// Only ways that keep the devices working.
    #[default]
    Live,
    /// The same; what those cannot do is meant to wait for another kernel command line and a reboot.
    Boot,
    /// If need be, unbind the drivers of the group, change the type, and bind them again. This interrupts the devices, and
    /// is refused while something on them is in use.
    Rebind,
}

impl fmt::Display for RouteLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Live => "live",
            Self::Boot => "boot",
            Self::Rebind => "rebind",
        })
    }
}

/// What it means when a rule does not get what it wants.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum OnFailure {
    /// It is reported, and the command succeeds.
    Warn,
    /// It is reported, and the command fails.
    #[default]
    Fail,
}

fn is_false(value: &bool) -> bool {
    !value
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// A rule: which devices, and what they are to have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(
    deny_unknown_fields,
    expecting = "a rule, which has a `name`, a `match` and a `type`"
)]
pub struct Rule {
    /// What it is called, in messages and reports.
    pub name: String,
    /// Which devices it is about. The first rule that matches a device decides for it.
    #[serde(rename = "match")]
    pub matches: Match,
    /// The type their group is to have.
    #[serde(rename = "type")]
    pub goal: Goal,
    /// The most disruptive route it may take by itself; without it, what `defaults` say.
    #[serde(
        default,
        deserialize_with = "given",
        skip_serializing_if = "Option::is_none"
    )]
    pub route: Option<RouteLimit>,
    /// What it means when it does not get what it wants.
    #[serde(default, skip_serializing_if = "is_default")]
    pub on_failure: OnFailure,
    /// Whether it overrides the rule that an external device is never relaxed. Needs a reason.
    #[serde(default, skip_serializing_if = "is_false")]
    pub force: bool,
    /// Why; for whoever reads it later.
    #[serde(
        default,
        deserialize_with = "given",
        skip_serializing_if = "Option::is_none"
    )]
    pub reason: Option<String>,
}

/// The longest text of a person's own words, in characters.
const MAX_TEXT_LENGTH: usize = 200;

impl Rule {
    /// What is wrong with it beyond its shape, in words.
    pub(crate) fn problem(&self) -> Option<String> {
        if let Some(problem) = text_problem("name", &self.name) {
            return Some(problem);
        }
        if let Some(problem) = self.reason.as_ref().and_then(|r| text_problem("reason", r)) {
            return Some(problem);
        }
        if self.matches.is_empty() {
            let problem =
                "an empty match would match every device; say what the rest is to have with \
                           `unmatched` under `defaults`";
            return Some(problem.to_owned());
        }
        if self.force && self.reason.is_none() {
            return Some("`force` needs a `reason`: a text that says why".to_owned());
        }
        None
    }
}

fn text_problem(key: &str, text: &str) -> Option<String> {
    if text.trim().is_empty() {
        Some(format!("`{key}` is empty"))
    } else if text.chars().count() > MAX_TEXT_LENGTH {
        Some(format!(
            "`{key}` is longer than {MAX_TEXT_LENGTH} characters"
        ))
    } else if text.chars().any(is_unprintable) {
        // It is shown on terminals.
        Some(format!("`{key}` has control characters in it"))
    } else {
        None
    }
}

/// Whether a character has no place in a line of text: control characters, and those that turn its direction.
pub(crate) fn is_unprintable(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}
