// SPDX-License-Identifier: GPL-2.0-only
//! Whether both types can be measured. Pure: facts in, a decision out.
//!
//! A bench is no reason to take a risk, so it is more careful than `set-mode`: it goes nowhere that it cannot come back from, and
//! whoever wants a group strict (a lockdown, the policy) is heeded, even where `set-mode` would do what it is told.

use iommuctl_policy::{Group, TypeRequest};
use serde::Serialize;

use super::disk_of::{Refusal, RefusalReason};
use crate::bench::mode::Mode;
use crate::change::route::{self, decide, Allowed, Decision};

/// The flag that overrides [`Reason::Policy`], and nothing else.
pub const FLAG: &str = "--allow-against-policy";

/// What is known about the group and the machine.
#[derive(Clone, Debug)]
pub struct Facts<'a> {
    /// The group, as it is now.
    pub group: &'a Group,
    /// Whether `iommu_live` is loaded.
    pub module: bool,
    /// Whether it says that it can tighten what is behind the IOMMUs of this group.
    pub covered: bool,
    /// The lockdown.
    pub lockdown: Lockdown,
    /// The policy.
    pub policy: Policy,
}

/// What is known of a lockdown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lockdown {
    /// None is in force.
    None,
    /// One is.
    InForce,
    /// It cannot be told, for this reason.
    Unknown(String),
}

/// What the policy says about the group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Policy {
    /// Nothing against its being lazy; or the user overrides that.
    Permits,
    /// It is to be strict, because of these rules; none if the defaults say so.
    Strict(Vec<String>),
    /// It cannot be told, for this reason.
    Unknown(String),
}

/// Why only the present type is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// A device of it can be plugged in from outside.
    External,
    /// Without the module, nothing makes it strict while its devices are in use.
    NoModule,
    /// The module does not say that it can make this one strict.
    NotCovered,
    /// A lockdown is in force.
    Lockdown,
    /// The policy wants it strict.
    Policy,
    /// The kernel did not make the first change.
    Kernel,
}

/// Why, in words, and what would help.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Why {
    /// For programs.
    pub reason: Reason,
    /// For people.
    pub message: String,
    /// What would help, one line each.
    pub advice: Vec<String>,
}

impl Why {
    /// Nothing helps, as far as is known.
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

/// The type that the group has, and why the other cannot be measured, if it cannot.
pub type Scope = (Mode, Option<Why>);

/// What can be measured.
///
/// # Errors
///
/// [`Refusal`], if the group has neither of the two types: then there is nothing to compare, and no way from one to the other that
/// interrupts nothing.
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

/// What keeps the other type from being measured.
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
    // To begin with strict and be told later that it does not go back would leave the group lazy. The other way about, the first
    // change shows it, and nothing is lost.
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

/// What `set-mode` would say against making the group `mode`, if it had the other type.
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
