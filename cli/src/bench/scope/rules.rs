// SPDX-License-Identifier: GPL-2.0-only
//! Decides from facts whether both types can be measured.
//!
//! A bench is no reason to take a risk, so it is more careful than `set-mode`: it never makes a change it cannot undo, and
//! respects anyone who requires a group to be strict (a lockdown, the policy), even where `set-mode` would obey the user.

use iommuctl_policy::{Group, TypeRequest};
use serde::Serialize;

use super::disk_of::{Refusal, RefusalReason};
use crate::bench::mode::Mode;
use crate::change::route::{self, decide, Allowed, Decision};

/// The flag that overrides [`Reason::Policy`], and nothing else.
pub const FLAG: &str = "--allow-against-policy";

/// The facts about the group and the machine.
#[derive(Clone, Debug)]
pub struct Facts<'a> {
    /// The group, as it is now.
    pub group: &'a Group,
    /// Whether `iommu_live` is loaded.
    pub module: bool,
    /// Whether the module reports that it can tighten groups behind the IOMMUs of this one.
    pub covered: bool,
    /// The lockdown.
    pub lockdown: Lockdown,
    /// The policy.
    pub policy: Policy,
}

/// The state of the lockdown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lockdown {
    /// None is in force.
    None,
    /// One is.
    InForce,
    /// It cannot be read, for this reason.
    Unknown(String),
}

/// The requirement of the policy for the group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Policy {
    /// It permits lazy; or the user overrides it.
    Permits,
    /// It requires strict, because of these rules; none if the defaults require it.
    Strict(Vec<String>),
    /// It cannot be read, for this reason.
    Unknown(String),
}

/// The reason why only the present type is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// A device of the group can be plugged in from outside.
    External,
    /// The module is not loaded, so a group whose devices are in use cannot be made strict.
    NoModule,
    /// The module does not report that it can make this group strict.
    NotCovered,
    /// A lockdown is in force.
    Lockdown,
    /// The policy requires strict.
    Policy,
    /// The kernel refused the first change.
    Kernel,
}

/// The reason with a message, and what would help.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Why {
    /// The reason, for programs.
    pub reason: Reason,
    /// The message, for people.
    pub message: String,
    /// What would help, one line each.
    pub advice: Vec<String>,
}

impl Why {
    /// A reason without advice.
    #[must_use]
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self {
            reason,
            message: message.into(),
            advice: Vec::new(),
        }
    }

    fn but(mut self, advice: impl Into<String>) -> Self {
        self.advice.push(advice.into());
        self
    }
}

/// The present type, and the reason why the other one cannot be measured, if any.
pub type Scope = (Mode, Option<Why>);

/// Decides which types can be measured.
///
/// # Errors
///
/// [`Refusal`], if the group has neither of the two types: there is nothing to compare then, and no way between the types
/// without an interruption.
pub fn scope(facts: &Facts<'_>) -> Result<Scope, Refusal> {
    let now = facts.group.domain_type.as_ref();
    match now.and_then(Mode::of) {
        Some(mode) => Ok((mode, obstacle(facts, mode))),
        None => Err(Refusal {
            reason: RefusalReason::Type,
            message: format!(
                "the type of group {} is {}, and what is compared is DMA and DMA-FQ, which cannot be reached from it \
                 without an interruption",
                facts.group.id,
                now.map_or("unknown", |t| t.as_str())
            ),
            advice: vec![format!(
                "`iommuctl set-mode --route rebind --dry-run {} DMA` says what a change would take",
                facts.group.id
            )],
        }),
    }
}

/// The reason why the other type cannot be measured, if any.
fn obstacle(facts: &Facts<'_>, mode: Mode) -> Option<Why> {
    if let Some(refusal) = refusal(facts, Mode::Lazy) {
        let why = Why::new(Reason::External, refusal.reason);
        return Some(refusal.advice.into_iter().fold(why, Why::but));
    }
    if refusal(facts, Mode::Strict).is_some() {
        let text = match mode {
            Mode::Strict => "making it lazy could not be undone without an interruption",
            Mode::Lazy => "it cannot be made strict without an interruption",
        };
        let why = Why::new(Reason::NoModule, format!("{text}: that takes iommu_live"));
        return Some(why.but(
            "load the module (`modprobe iommu_live`; `iommuctl doctor` says whether it is there)",
        ));
    }
    // Check this only for a group that is strict now: a failure to tighten it again would leave it lazy. For a lazy group, the
    // first change shows the failure, and nothing is lost.
    if mode == Mode::Strict && !facts.covered {
        let text = "iommu_live does not say that it makes groups behind this IOMMU strict, so making it lazy might not be undone";
        let why = Why::new(Reason::NotCovered, text);
        return Some(
            why.but("`iommuctl status` shows the IOMMUs, and those that the module knows"),
        );
    }
    match &facts.lockdown {
        Lockdown::None => {}
        Lockdown::InForce => {
            let text = "a lockdown is in force, and no bench makes anything lazy meanwhile";
            return Some(Why::new(Reason::Lockdown, text).but("`iommuctl release` ends it"));
        }
        Lockdown::Unknown(why) => {
            let text = format!("whether a lockdown is in force cannot be told: {why}");
            return Some(Why::new(Reason::Lockdown, text));
        }
    }
    let text = match &facts.policy {
        Policy::Permits => return None,
        Policy::Strict(rules) if rules.is_empty() => "the policy wants it strict".to_owned(),
        Policy::Strict(rules) => format!("the policy wants it strict: {}", rules.join(", ")),
        Policy::Unknown(why) => format!("what the policy wants cannot be told: {why}"),
    };
    let mut why = Why::new(Reason::Policy, text);
    if matches!(facts.policy, Policy::Unknown(_)) {
        why = why.but("correct the file; `iommuctl policy check` says what is wrong with it");
    }
    let advice = format!("{FLAG} makes it lazy all the same, for as long as it is measured");
    Some(why.but(advice))
}

/// The reason for which `set-mode` would refuse to make the group `mode`, if it had the other type.
fn refusal(facts: &Facts<'_>, mode: Mode) -> Option<route::Refusal> {
    let group = Group {
        domain_type: Some(mode.other().domain_type()),
        ..facts.group.clone()
    };
    let request: TypeRequest = mode.request();
    match decide(&group, request, facts.module, Allowed::Live) {
        Decision::Go { .. } => None,
        Decision::Refuse(refusal) => Some(refusal),
    }
}

#[cfg(test)]
mod tests {
    use iommuctl_policy::Removable;

    use super::*;
    use crate::testing::group;

    fn facts(group: &Group) -> Facts<'_> {
        Facts {
            group,
            module: true,
            covered: true,
            lockdown: Lockdown::None,
            policy: Policy::Permits,
        }
    }

    fn nvme(domain_type: &str) -> Group {
        group(3, domain_type, &[("0000:01:00.0", Some("nvme"))])
    }

    fn reason(facts: &Facts<'_>) -> Option<Reason> {
        scope(facts).unwrap().1.map(|why| why.reason)
    }

    #[test]
    fn both_from_both() {
        for (name, mode) in [("DMA", Mode::Strict), ("DMA-FQ", Mode::Lazy)] {
            let group = nvme(name);
            assert_eq!(scope(&facts(&group)), Ok((mode, None)));
        }
    }

    #[test]
    fn nothing_that_could_not_be_undone() {
        for name in ["DMA", "DMA-FQ"] {
            let group = nvme(name);
            let stock = Facts {
                module: false,
                ..facts(&group)
            };
            assert_eq!(reason(&stock), Some(Reason::NoModule), "{name}");
        }
        let group = nvme("DMA");
        let unknown = Facts {
            covered: false,
            ..facts(&group)
        };
        assert_eq!(reason(&unknown), Some(Reason::NotCovered));
        let group = nvme("DMA-FQ");
        let unknown = Facts {
            covered: false,
            ..facts(&group)
        };
        assert_eq!(reason(&unknown), None);
        for name in ["identity", "blocked", "unmanaged"] {
            let group = nvme(name);
            let refusal = scope(&facts(&group)).unwrap_err();
            assert_eq!(refusal.reason, RefusalReason::Type);
            assert!(refusal.message.contains(name));
        }
    }

    #[test]
    fn whoever_wants_it_strict_is_heeded_from_either_type() {
        for name in ["DMA", "DMA-FQ"] {
            let mut group = nvme(name);
            for lockdown in [Lockdown::InForce, Lockdown::Unknown("x".to_owned())] {
                let facts = Facts {
                    lockdown,
                    ..facts(&group)
                };
                assert_eq!(reason(&facts), Some(Reason::Lockdown));
            }
            for policy in [
                Policy::Strict(Vec::new()),
                Policy::Strict(vec!["disks".to_owned()]),
                Policy::Unknown("x".to_owned()),
            ] {
                let facts = Facts {
                    policy,
                    ..facts(&group)
                };
                let why = scope(&facts).unwrap().1.unwrap();
                assert_eq!(why.reason, Reason::Policy);
                assert!(why.advice.last().unwrap().contains(FLAG));
            }
            group.devices[0].removable = Some(Removable::Removable);
            assert_eq!(reason(&facts(&group)), Some(Reason::External));
        }
    }
}
