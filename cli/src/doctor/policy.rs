// SPDX-License-Identifier: GPL-2.0-only
//! The policy: whether it is valid, whether the machine is as it wants, and whether it is applied at boot.

use super::finding::{Finding, Id};
use super::machine::{errno_of, why, Differs, Machine};
use super::systemd;
use crate::config::policy_files::{LoadError, Status};
use crate::kernel::procfs::PolicyWord;

/// Applies the policy at boot.
const UNIT: &str = "iommuctl-policy.service";

/// Whether there is a policy, it is valid, and the machine is as it wants.
pub fn policy(machine: &Machine<'_>) -> Vec<Finding> {
    let loaded = match &machine.policy {
        Ok(loaded) => loaded,
        Err(errors) => return vec![wrong(errors)],
    };
    if loaded.files.is_empty() {
        let text = "there is none: every group stays as the kernel starts it";
        let finding = Finding::note(Id::Policy, text)
            .fix("mkdir -p /etc/iommuctl/policy.d")
            .fix("iommuctl policy generate > /etc/iommuctl/policy.d/50-site.yaml");
        return vec![finding];
    }
    let rules = |status: &Status| match status {
        Status::Used { rules } => Some(*rules),
        _ => None,
    };
    let used: Vec<usize> = loaded
        .files
        .iter()
        .filter_map(|f| rules(&f.status))
        .collect();
    let (files, rules) = (used.len(), used.iter().sum::<usize>());
    let valid = format!("valid; files: {files}, rules: {rules}");
    if !machine.has_groups() {
        return vec![Finding::ok(Id::Policy, valid)];
    }
    let in_force = matches!(machine.lockdown, Ok(Some(_)));
    vec![compliance(&machine.differing(), in_force, &valid)]
}

fn wrong(errors: &[LoadError]) -> Finding {
    let Some(first) = errors.first() else {
        return Finding::unknown(Id::Policy, "it cannot be read");
    };
    if let LoadError::Trust(error) = first {
        if let Some(errno) = errno_of(error) {
            return Finding::unknown(Id::Policy, why(Some(errno), error));
        }
    }
    let more = match errors.len() {
        1 => String::new(),
        n => format!(" (and {} more)", n - 1),
    };
    let text = format!("not valid, and not applied: {first}{more}");
    Finding::bad(Id::Policy, text).fix("iommuctl policy check")
}

/// Whether the machine is as the policy wants. A lockdown makes groups stricter than that, and is meant to.
fn compliance(differing: &[Differs], lockdown: bool, valid: &str) -> Finding {
    let groups = |laxer: bool| -> Vec<String> {
        let these = differing.iter().filter(|d| !laxer || !d.laxer);
        these.map(|d| d.group.to_string()).collect()
    };
    // During a lockdown, only what is laxer than wanted is wrong.
    let wrong = groups(lockdown);
    if !wrong.is_empty() {
        let text = format!("groups not as it wants: {}", wrong.join(", "));
        return Finding::bad(Id::Policy, text)
            .fix("iommuctl policy plan")
            .fix("iommuctl policy apply");
    }
    match differing.len() {
        0 => Finding::ok(Id::Policy, format!("{valid}; every group is as it wants")),
        n => {
            let text = format!("{valid}; a lockdown keeps {n} groups stricter than it wants");
            Finding::note(Id::Policy, text)
        }
    }
}

/// Whether the policy is applied at boot; nothing without a policy, or without systemd.
pub fn at_boot(machine: &Machine<'_>) -> Option<Finding> {
    if !machine.has_policy() || !systemd::runs(machine) {
        return None;
    }
    let note = |text: String| Some(Finding::note(Id::PolicyAtBoot, text));
    match machine.context.proc.policy_word() {
        Ok(PolicyWord::Off) => {
            return note(
                "iommuctl.policy=off is on the kernel command line: not applied".to_owned(),
            )
        }
        Ok(PolicyWord::Path(path)) => {
            let path = path.display();
            return note(format!(
                "the kernel command line says iommuctl.policy={path}: that one was applied"
            ));
        }
        Ok(PolicyWord::Absent | PolicyWord::Unknown(_)) => {}
        Err(error) => {
            let why = why(error.errno(), &error);
            return Some(Finding::unknown(Id::PolicyAtBoot, why));
        }
    }
    let bad = |text: &str| Finding::bad(Id::PolicyAtBoot, text);
    if !systemd::is_installed(machine, UNIT) {
        return note(format!("{UNIT} is not installed: not applied at boot"));
    }
    if systemd::is_masked(machine, UNIT) {
        let finding = Finding::note(Id::PolicyAtBoot, format!("{UNIT} is masked: not applied"));
        return Some(finding.fix("systemctl unmask iommuctl-policy"));
    }
    if !systemd::is_enabled(machine, UNIT) {
        let finding = bad("iommuctl-policy.service is not enabled");
        return Some(finding.fix("systemctl enable iommuctl-policy"));
    }
    Some(match systemd::state(machine, UNIT).as_deref() {
        Some("failed") => bad("iommuctl-policy.service failed in this boot")
            .fix("journalctl -b -u iommuctl-policy"),
        // It stays active once it has run, and without groups it does not run at all.
        Some("inactive") if machine.has_groups() => {
            let text = format!("{UNIT} is enabled, but has not run in this boot, or was stopped");
            Finding::note(Id::PolicyAtBoot, text).fix("systemctl start iommuctl-policy")
        }
        Some(_) => Finding::ok(Id::PolicyAtBoot, format!("{UNIT} is enabled")),
        None => Finding::unknown(
            Id::PolicyAtBoot,
            format!("{UNIT} is enabled, and systemctl does not say how it is"),
        ),
    })
}

#[cfg(test)]
mod tests {
    use iommuctl_policy::GroupId;

    use super::super::finding::Level;
    use super::*;

    #[test]
    fn a_lockdown_excuses_what_is_stricter_and_nothing_else() {
        let differs = |group, laxer| Differs {
            group: GroupId(group),
            laxer,
        };
        // Whether what is wanted is laxer than what is.
        let (stricter_now, laxer_now) = (differs(3, true), differs(5, false));
        let judged = |differing: &[Differs], lockdown| {
            let finding = compliance(differing, lockdown, "valid");
            (finding.level, finding.text)
        };
        assert_eq!(judged(&[], false).0, Level::Ok);
        assert_eq!(judged(&[stricter_now], false).0, Level::Bad);
        assert_eq!(judged(&[stricter_now], true).0, Level::Note);
        let (level, text) = judged(&[stricter_now, laxer_now], true);
        assert_eq!(level, Level::Bad);
        assert!(text.ends_with(": 5"), "{text}");
    }
}
