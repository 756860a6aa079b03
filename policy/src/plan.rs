// SPDX-License-Identifier: GPL-2.0-only
//! What is to be done about each group, from what a policy wants and what there is.
//!
//! Which route a change takes is not decided here: that depends on the kernel.

use serde::Serialize;

use crate::{Decision, DomainType, GroupId, Inventory, Strictness, TypeRequest};

/// What is to be done about a group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "do")]
pub enum Step {
    /// Nothing: the policy wants nothing of it.
    Leave,
    /// Nothing: it has what the policy wants.
    Satisfied {
        /// What that is.
        request: TypeRequest,
    },
    /// Nothing: another device of the group wants something laxer, but a rule wants it kept as it is.
    Hold {
        /// What is not done.
        request: TypeRequest,
    },
    /// Change it.
    Change {
        /// To this.
        request: TypeRequest,
        /// Whether a rule overrides the safety rule about external devices.
        force: bool,
    },
    /// Nothing, although the policy wants it: a safety rule is against it.
    Forbidden {
        /// What is not done.
        request: TypeRequest,
        /// The external devices it would be done to.
        external: Vec<String>,
    },
}

/// A group and what is to be done about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Planned {
    /// The group.
    pub group: GroupId,
    /// The type it has.
    pub current: Option<DomainType>,
    /// What is to be done.
    pub step: Step,
}

/// What is to be done so that the groups in `state` become what `decisions` say. One for each decision whose group is
/// there, in their order.
#[must_use]
pub fn plan(decisions: &[Decision], state: &Inventory) -> Vec<Planned> {
    let planned = decisions.iter().filter_map(|decision| {
        let group = state.group(decision.group)?;
        Some(Planned {
            group: decision.group,
            current: group.domain_type.clone(),
            step: step(
                decision,
                group.domain_type.as_ref(),
                group.external().next().is_some(),
            ),
        })
    });
    planned.collect()
}

fn step(decision: &Decision, current: Option<&DomainType>, external: bool) -> Step {
    let Some(request) = decision.request else {
        return Step::Leave;
    };
    if request.result().as_ref() == current {
        return Step::Satisfied { request };
    }
    // A type that cannot be compared counts as strict: better a change too few than protection lost.
    let now = current.and_then(Strictness::of_type);
    let laxer = now.is_none_or(|now| Strictness::of_request(request) < Some(now));
    if laxer && decision.never_laxer {
        return Step::Hold { request };
    }
    if laxer && request != TypeRequest::Dma && !decision.unforced.is_empty() {
        let external = decision.unforced.clone();
        return Step::Forbidden { request, external };
    }
    let force = external && laxer && request != TypeRequest::Dma;
    Step::Change { request, force }
}
