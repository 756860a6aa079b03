// SPDX-License-Identifier: GPL-2.0-only
//! A policy: the rules of all its files, in order.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

use crate::any_of::given;
use crate::{RouteLimit, Rule, Unmatched};

/// One file of a policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(test, schemars(title = "A policy of iommuctl"))]
#[serde(
    deny_unknown_fields,
    expecting = "a policy, which begins with `version: 1`"
)]
pub struct PolicyFile {
    /// The version of this format: 1.
    #[cfg_attr(test, schemars(range(min = 1, max = 1)))]
    #[serde(deserialize_with = "known_version")]
    pub version: u32,
    /// What holds where no rule says otherwise.
    #[serde(default, skip_serializing_if = "Defaults::is_empty")]
    pub defaults: Defaults,
    /// The rules. The first that matches a device decides for it.
    #[serde(default)]
    pub rules: Vec<Rule>,
}

/// What holds where no rule says otherwise. Of several files, the last that sets a key counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, expecting = "`unmatched` and `route`")]
pub struct Defaults {
    /// What a device no rule matches is to have. It is keep, unless said otherwise.
    #[serde(
        default,
        deserialize_with = "given",
        skip_serializing_if = "Option::is_none"
    )]
    pub unmatched: Option<Unmatched>,
    /// The most disruptive route the policy may take by itself. It is live, unless said otherwise.
    #[serde(
        default,
        deserialize_with = "given",
        skip_serializing_if = "Option::is_none"
    )]
    pub route: Option<RouteLimit>,
}

impl Defaults {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// The only version of the format there is.
pub const VERSION: u32 = 1;

/// What may stand behind `version:`.
#[derive(Deserialize)]
#[serde(untagged, expecting = "expected `version: 1`")]
enum Version {
    Number(u32),
    Text(String),
}

pub(crate) fn known_version<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    match Version::deserialize(deserializer)? {
        Version::Number(VERSION) => Ok(VERSION),
        Version::Text(text) if text == VERSION.to_string() => Err(D::Error::custom(format!(
            "write `version: {VERSION}`, without quotes"
        ))),
        Version::Text(_) => Err(D::Error::custom(format!("expected `version: {VERSION}`"))),
        Version::Number(other) => Err(D::Error::custom(format!(
            "version {other} of the format is not known: this iommuctl reads version {VERSION}"
        ))),
    }
}

/// A rule, and the file it is from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourcedRule {
    /// The rule.
    pub rule: Rule,
    /// The name of its file, as people find it.
    pub file: String,
}

/// The rules of all files, in order, and what holds without them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// The rules, by priority.
    pub rules: Vec<SourcedRule>,
    /// What becomes of a device no rule matches.
    pub unmatched: Unmatched,
    /// The route limit of a rule that has none.
    pub route: RouteLimit,
}

impl Policy {
    /// Puts together files in the order in which they are read: their names, and what is in them.
    #[must_use]
    pub fn from_files(files: Vec<(String, PolicyFile)>) -> Self {
        let mut policy = Self::default();
        for (name, file) in files {
            policy.unmatched = file.defaults.unmatched.unwrap_or(policy.unmatched);
            policy.route = file.defaults.route.unwrap_or(policy.route);
            policy
                .rules
                .extend(file.rules.into_iter().map(|rule| SourcedRule {
                    rule,
                    file: name.clone(),
                }));
        }
        policy
    }

    /// The most disruptive route the rule with this index may take.
    #[must_use]
    pub fn route_of(&self, rule: usize) -> RouteLimit {
        let own = self.rules.get(rule).and_then(|r| r.rule.route);
        own.unwrap_or(self.route)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_defaults_the_last_counts_each_by_itself() {
        let file = |unmatched, route| PolicyFile {
            version: VERSION,
            defaults: Defaults { unmatched, route },
            rules: Vec::new(),
        };
        let policy = Policy::from_files(vec![
            ("10-a.yaml".into(), file(Some(Unmatched::Dma), None)),
            ("20-b.yaml".into(), file(None, Some(RouteLimit::Rebind))),
        ]);
        assert_eq!(policy.unmatched, Unmatched::Dma);
        assert_eq!(policy.route, RouteLimit::Rebind);
    }
}
