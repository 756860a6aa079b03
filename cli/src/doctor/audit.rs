// SPDX-License-Identifier: GPL-2.0-only
//! Whether changes are recorded, and the log is intact.

use super::finding::{Finding, Id};
use super::machine::{errno_of, why, Machine};
use super::systemd;
use crate::audit::log::file::{LogError, Places, Snapshot, LOCK, NAME};
use crate::audit::log::json_file::StateError;
use crate::audit::log::verify::{verify, Verdict};
use crate::audit::settings::{self, SettingsError};
use crate::sys::error::OsError;

/// The unit that records the changes of others.
const UNIT: &str = "iommuctl-audit.service";

/// What is wrong with the audit, one finding each; one good one if nothing is.
pub fn audit(machine: &Machine<'_>) -> Vec<Finding> {
    let settings = settings::log(machine.context.root.as_deref()).err();
    let mut findings: Vec<Finding> = settings.as_ref().map(unusable).into_iter().collect();
    let mut good = String::new();
    match log(machine) {
        Ok(None) => good = "there is no log yet".to_owned(),
        Ok(Some(verdict)) if verdict.is_intact() => {
            good = format!("the log is intact; records: {}", verdict.records);
        }
        Ok(Some(_)) => {
            let text = "the log is not as it was written";
            findings.push(Finding::bad(Id::Audit, text).fix("iommuctl audit verify"));
        }
        Err(why) => findings.push(Finding::unknown(Id::Audit, why)),
    }
    // Settings and log may be unknown for the same reason.
    findings.dedup();
    findings.extend(recorder(machine));
    if findings.is_empty() {
        findings.push(Finding::ok(Id::Audit, good));
    }
    findings
}

fn unusable(error: &SettingsError) -> Finding {
    match error {
        SettingsError::Trust(trust) if errno_of(trust).is_some() => {
            Finding::unknown(Id::Audit, why(errno_of(trust), trust))
        }
        error => {
            let text = format!("its settings cannot be used, so nothing is changed: {error}");
            Finding::bad(Id::Audit, text).fix("man 5 iommuctl-audit")
        }
    }
}

/// The finding about the log; `None` if there is none yet.
fn log(machine: &Machine<'_>) -> Result<Option<Verdict>, String> {
    // Do not create a log by looking for it.
    match std::fs::metadata(machine.path("var/log/iommuctl").join(NAME)) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        _ => {}
    }
    // Report a missing lock file: reading the log would create it, and nothing is created here.
    let lock = "var/log/iommuctl/".to_owned() + LOCK;
    if !machine.exists(&lock) {
        return Err(format!("there is no {}", machine.root.display(&lock)));
    }
    let because = |error: LogError| why(errno_of_log(&error), &error);
    let places = Places::new(machine.context.root.as_deref());
    let Some(snapshot) = Snapshot::take(&places).map_err(because)? else {
        return Ok(None);
    };
    let key = settings::key(&machine.root).map_err(|error| match &error {
        SettingsError::Trust(trust) => why(errno_of(trust), trust),
        error => error.to_string(),
    })?;
    verify(snapshot, key.as_ref()).map(Some).map_err(because)
}

fn errno_of_log(error: &LogError) -> Option<nix::errno::Errno> {
    match error {
        LogError::Run(error) | LogError::Head(StateError::Run(error)) => error.errno(),
        LogError::Os(OsError { errno, .. }) => Some(*errno),
        _ => None,
    }
}

/// What is wrong with the recorder; nothing if it runs, or is not to run here.
fn recorder(machine: &Machine<'_>) -> Option<Finding> {
    if !systemd::runs(machine) || !machine.has_groups() {
        return None;
    }
    if !systemd::is_installed(machine, UNIT) {
        let text = "what others than iommuctl change is not recorded: no iommuctl-audit.service";
        return Some(Finding::note(Id::Audit, text));
    }
    if systemd::is_masked(machine, UNIT) {
        let text = "the recorder is masked: what others change is not recorded";
        let finding = Finding::note(Id::Audit, text);
        return Some(finding.fix("systemctl unmask iommuctl-audit"));
    }
    match systemd::state(machine, UNIT).as_deref() {
        Some("active" | "activating" | "reloading") => None,
        Some("failed") => Some(
            Finding::bad(Id::Audit, "the recorder failed").fix("journalctl -b -u iommuctl-audit"),
        ),
        Some(_) => {
            let text = "the recorder does not run";
            let finding = Finding::bad(Id::Audit, text);
            Some(finding.fix("systemctl enable --now iommuctl-audit"))
        }
        None => Some(Finding::unknown(
            Id::Audit,
            "systemctl does not say whether the recorder runs",
        )),
    }
}
