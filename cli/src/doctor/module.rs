// SPDX-License-Identifier: GPL-2.0-only
//! The `iommu_live` module: whether it is installed, is loaded, and is one and the same.

use super::finding::{Finding, Id};
use super::installed::{Installed, FILE, LOADED};
use super::machine::{errno_of, why, Machine};
use super::support::{install, Support, PACKAGE};
use super::{audited, systemd};

/// The unit that loads the module at boot, and unloads it when it is stopped.
const UNIT: &str = "iommu-live.service";

/// Our version. The module from the same source has the same one.
const OURS: &str = env!("CARGO_PKG_VERSION");

/// Whether the module is installed for the running kernel. Nothing, if there is no package that would have built it, and
/// none if it cannot be built.
pub fn built(machine: &Machine<'_>, support: Support) -> Option<Finding> {
    let installed = match &machine.installed {
        Ok(installed) => installed,
        Err(error) => {
            let why = why(errno_of(error), error);
            return Some(Finding::unknown(Id::ModuleBuilt, why));
        }
    };
    let release = machine.release.as_deref()?;
    match installed {
        Some(Installed { path, listed: true }) => {
            Some(Finding::ok(Id::ModuleBuilt, machine.root.display(path)))
        }
        Some(Installed { path, .. }) => {
            let path = machine.root.display(path);
            let text = format!("{path} is there, and modprobe does not know of it");
            let finding = Finding::bad(Id::ModuleBuilt, text);
            Some(finding.fix(format!("depmod {release}")))
        }
        None if matches!(support, Support::Yes | Support::Unknown) => {
            let text = format!("the module is not built for {release}");
            let finding = Finding::bad(Id::ModuleBuilt, text);
            Some(finding.fix(format!("dkms autoinstall -k {release}")))
        }
        None if machine.is_loaded() => {
            let text = "loaded, but not installed: it is gone after the next boot";
            let place = format!("/lib/modules/{release}/updates/{FILE}");
            let finding = Finding::note(Id::ModuleBuilt, text)
                .fix(format!("install -D -m 644 {FILE} {place}"))
                .fix(format!("depmod {release}"));
            Some(finding)
        }
        None => None,
    }
}

/// Whether the module is loaded; nothing if there is none to be loaded.
pub fn loaded(machine: &Machine<'_>) -> Option<Finding> {
    if machine.is_loaded() {
        let drivers = machine.live.as_ref().map(|live| live.drivers.join(", "));
        let text = match drivers.filter(|d| !d.is_empty()) {
            Some(drivers) => format!("loaded, for {drivers}"),
            None => "loaded".to_owned(),
        };
        return Some(Finding::ok(Id::ModuleLoaded, text));
    }
    let installed = machine.module_file()?;
    if !machine.has_groups() {
        let text = "not loaded: there is no IOMMU for it";
        return Some(Finding::note(Id::ModuleLoaded, text));
    }
    if audited::is_refused(machine) {
        // The finding of `audited` has the advice.
        let text = "built, but not loaded: it refuses this kernel";
        return Some(Finding::bad(Id::ModuleLoaded, text));
    }
    let finding = Finding::bad(Id::ModuleLoaded, "built, but not loaded");
    if !systemd::runs(machine) || !systemd::is_installed(machine, UNIT) {
        return Some(finding.fix("modprobe iommu_live"));
    }
    let load = match systemd::state(machine, UNIT).as_deref() {
        _ if systemd::is_masked(machine, UNIT) || !is_for_unit(&installed.path) => {
            "modprobe iommu_live"
        }
        // The module was unloaded without the unit, which is still active: starting it has no effect.
        Some("active") => "systemctl restart iommu-live",
        _ => "systemctl start iommu-live",
    };
    let status = "systemctl status iommu-live";
    Some(finding.fix(load).fix(status))
}

/// Whether the unit loads the module from `path`: its conditions name these folders, and none below them.
fn is_for_unit(path: &str) -> bool {
    let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
    ["/updates/dkms", "/extra", "/updates"]
        .iter()
        .any(|place| folder.ends_with(place))
}

/// What tells one build of the module from another: `MODULE_VERSION`, and a hash of its source.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Build {
    version: Option<String>,
    srcversion: Option<String>,
}

/// The difference between builds that should be the same.
#[derive(Debug, PartialEq, Eq)]
enum Mismatch {
    /// The loaded and the installed one are of these versions.
    Versions(String, String),
    /// They are of the same version, and of another source.
    Sources(String),
    /// The loaded one is of this version, and `iommuctl` of another.
    Ours(String),
}

fn mismatch(loaded: &Build, installed: &Build, ours: &str) -> Option<Mismatch> {
    let differ = |a: &Option<String>, b: &Option<String>| match (a, b) {
        (Some(a), Some(b)) if a != b => Some((a.clone(), b.clone())),
        _ => None,
    };
    if let Some((loaded, installed)) = differ(&loaded.version, &installed.version) {
        return Some(Mismatch::Versions(loaded, installed));
    }
    if differ(&loaded.srcversion, &installed.srcversion).is_some() {
        let version = loaded.version.clone();
        return Some(Mismatch::Sources(
            version.unwrap_or_else(|| "unknown".to_owned()),
        ));
    }
    let version = loaded.version.as_ref()?;
    (version != ours).then(|| Mismatch::Ours(version.clone()))
}

/// Whether the loaded module is the installed one, and belongs to this `iommuctl`; nothing if none is loaded.
pub fn matches(machine: &Machine<'_>) -> Option<Finding> {
    if !machine.is_loaded() {
        return None;
    }
    let kernfs = machine.context.sysfs.kernfs();
    let attribute = |name: &str| kernfs.text(&format!("{LOADED}/{name}")).ok().flatten();
    let live = machine.live.as_ref().and_then(|live| live.version.clone());
    let loaded = Build {
        version: live.or_else(|| attribute("version")),
        srcversion: attribute("srcversion"),
    };
    let installed = match machine.module_file() {
        Some(installed) => {
            let file = machine.path(&installed.path);
            Build {
                version: machine.modinfo("version", &file),
                srcversion: machine.modinfo("srcversion", &file),
            }
        }
        None => Build::default(),
    };
    let reload = "rmmod iommu_live && modprobe iommu_live";
    let bad = |text: String| Finding::bad(Id::ModuleMatches, text);
    Some(match mismatch(&loaded, &installed, OURS) {
        Some(Mismatch::Versions(loaded, installed)) => {
            bad(format!("{loaded} is loaded, {installed} is installed")).fix(reload)
        }
        Some(Mismatch::Sources(version)) => {
            let text = format!("another build of {version} is loaded than is installed");
            bad(text).fix(reload)
        }
        Some(Mismatch::Ours(version)) => {
            let fix = install(machine, &["iommuctl", PACKAGE]);
            bad(format!("{version} is loaded, and iommuctl is {OURS}")).fix(fix)
        }
        None => match (&loaded.version, &installed.version) {
            (None, _) => Finding::unknown(Id::ModuleMatches, "the module does not say its version"),
            (Some(version), Some(_)) => Finding::ok(
                Id::ModuleMatches,
                format!("{version} is loaded and installed, as is iommuctl"),
            ),
            (Some(version), None) if machine.module_file().is_some() => Finding::unknown(
                Id::ModuleMatches,
                format!("{version} is loaded, and modinfo does not say what is installed"),
            ),
            (Some(version), None) => Finding::ok(
                Id::ModuleMatches,
                format!("{version} is loaded, as is iommuctl"),
            ),
        },
    })
}

/// Whether a check of the module's assumptions has failed; nothing if the module does not report it.
pub fn tripped(machine: &Machine<'_>) -> Option<Finding> {
    let id = Id::ModuleTripped;
    Some(match machine.live.as_ref()?.tripped()? {
        false => Finding::ok(id, "nothing that the module relies on was found broken"),
        true => {
            let text = "something that the module relies on was not so: it switches nothing until the next boot, groups that \
                        it has switched stay strict, and their unmaps slower";
            Finding::bad(id, text)
                .fix("journalctl -k -b | grep -A 40 iommu_live, for a report of what was seen")
                .fix("systemctl reboot")
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unit_loads_what_is_where_its_conditions_look() {
        let case = |path: &str| is_for_unit(&format!("lib/modules/7.3/{path}"));
        assert!(case("updates/dkms/iommu_live.ko.xz"));
        assert!(case("extra/iommu_live.ko"));
        assert!(case("updates/iommu_live.ko"));
        assert!(!case("extra/iommu-live/iommu_live.ko"));
    }

    #[test]
    fn builds_are_told_apart() {
        let build = |version: &str, srcversion: &str| {
            let known = |text: &str| (!text.is_empty()).then(|| text.to_owned());
            Build {
                version: known(version),
                srcversion: known(srcversion),
            }
        };
        let case = |loaded: &Build, installed: &Build| mismatch(loaded, installed, "1");
        assert_eq!(case(&build("1", "A"), &build("1", "A")), None);
        assert_eq!(
            case(&build("1", "A"), &build("2", "B")),
            Some(Mismatch::Versions("1".to_owned(), "2".to_owned()))
        );
        assert_eq!(
            case(&build("1", "A"), &build("1", "B")),
            Some(Mismatch::Sources("1".to_owned()))
        );
        assert_eq!(
            case(&build("2", "A"), &build("2", "")),
            Some(Mismatch::Ours("2".to_owned()))
        );
        // What is not known is not another one.
        assert_eq!(case(&build("1", ""), &build("", "B")), None);
        assert_eq!(case(&build("", ""), &build("2", "B")), None);
    }
}
