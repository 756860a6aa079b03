// SPDX-License-Identifier: GPL-2.0-only
//! Examines this machine: the findings, and how to fix what is wrong.
//!
//! One function for each [`Id`](finding::Id), from the [`Machine`] to findings. Nothing here changes anything, and neither do the
//! programs that are run ([`subprocess`](crate::sys::subprocess)). What cannot be looked at is [`Level::Unknown`]. What does not
//! apply, such as the signature of a module that is not there, is left out.

mod audit;
mod audited;
mod finding;
mod initramfs;
mod installed;
mod iommu;
mod machine;
mod module;
mod policy;
mod signing;
mod state;
mod support;
mod systemd;

pub use finding::{Finding, Level};
pub use machine::Machine;

/// Makes all findings.
#[must_use]
pub fn look(machine: &Machine<'_>) -> Vec<Finding> {
    let support = support::support(machine);
    let enforcement = signing::Enforcement::of(machine);
    let mut findings = vec![iommu::iommu(machine)];
    findings.extend(iommu::default_type(machine));
    findings.extend(support.finding.clone());
    findings.extend(module::built(machine, support.answer));
    findings.push(signing::secure_boot(&enforcement));
    findings.extend(signing::signed(machine, &enforcement));
    findings.extend(audited::audited(machine));
    findings.extend(module::loaded(machine));
    findings.extend(module::matches(machine));
    findings.extend(module::tripped(machine));
    findings.extend(policy::policy(machine));
    findings.extend(policy::at_boot(machine));
    findings.extend(initramfs::initramfs(machine));
    findings.extend(audit::audit(machine));
    findings.push(state::recover(machine));
    findings.push(state::lockdown(machine));
    findings
}
