// SPDX-License-Identifier: GPL-2.0-only
//! The state of systemd units: installed, enabled, active (systemd.unit(5), systemctl(1)).

use std::fs;

use super::machine::Machine;

const SYSTEMCTL: [&str; 2] = ["usr/bin/systemctl", "bin/systemctl"];
/// The directory that exists while systemd runs (sd_booted(3)).
const RUNS: &str = "run/systemd/system";
/// The directories of units, the one with the highest priority first.
const FOLDERS: [&str; 5] = [
    "etc/systemd/system",
    "run/systemd/system",
    "usr/local/lib/systemd/system",
    "usr/lib/systemd/system",
    "lib/systemd/system",
];

/// Whether systemd runs the machine.
pub fn runs(machine: &Machine<'_>) -> bool {
    machine.exists(RUNS)
}

/// Whether there is a unit of this name.
pub fn is_installed(machine: &Machine<'_>, unit: &str) -> bool {
    let mut places = FOLDERS.iter().map(|folder| format!("{folder}/{unit}"));
    places.any(|path| machine.exists(&path))
}

/// Whether `systemctl mask` keeps it from being started: the first file of its name is a link to `/dev/null`.
pub fn is_masked(machine: &Machine<'_>, unit: &str) -> bool {
    let mut places = FOLDERS.iter().map(|folder| format!("{folder}/{unit}"));
    let first = places.find(|path| machine.exists(path));
    let target = first.and_then(|path| fs::read_link(machine.path(&path)).ok());
    target.is_some_and(|target| target.as_os_str() == "/dev/null")
}

/// Whether a target wants it at boot.
pub fn is_enabled(machine: &Machine<'_>, unit: &str) -> bool {
    let entries = FOLDERS.iter().flat_map(|folder| {
        let listed = fs::read_dir(machine.path(folder));
        listed.into_iter().flatten().flatten()
    });
    let mut wants = entries.filter(|entry| {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        name.ends_with(".wants") || name.ends_with(".requires")
    });
    wants.any(|folder| folder.path().join(unit).symlink_metadata().is_ok())
}

/// The state of the unit, in systemd's words: `active`, `inactive`, `failed`, and others; `None` if systemctl(1) cannot be run.
pub fn state(machine: &Machine<'_>, unit: &str) -> Option<String> {
    let completed = machine.run(&SYSTEMCTL, &["is-active", unit])?.ok()?;
    let word = completed.text.lines().next()?.trim();
    (!word.is_empty()).then(|| word.to_owned())
}
