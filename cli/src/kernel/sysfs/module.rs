// SPDX-License-Identifier: GPL-2.0-only
//! `/sys/kernel/iommu_live`: the `iommu_live` module, when it is loaded. A directory of files with one value each.

use std::collections::BTreeMap;

use iommuctl_policy::Group;
use serde::Serialize;

use super::cleanups::Cleanups;
use super::{Problems, Sysfs};
use crate::sys::kernfs::KernFsError;

const MODULE: &str = "kernel/iommu_live";
/// The file that lists the switches the module is still completing.
const CLEANUPS: &str = "cleanups";
/// The file that reads 1 once a check of the module's assumptions has failed.
pub const TRIPPED: &str = "tripped";

/// The module and its statistics since it was loaded.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Module {
    /// Its version.
    pub version: Option<String>,
    /// The IOMMU drivers whose domains it can switch.
    pub drivers: Vec<String>,
    /// Its counters, by name. The module decides which there are; a name that ends in `_ns` counts nanoseconds.
    pub counters: BTreeMap<String, u64>,
    /// The switches it is completing; `None` if it does not report them.
    pub cleanups: Option<Cleanups>,
    /// How the kernel's functions were compared with the audited ones: `audited`, `series` or `override`; `None` if the module
    /// does not report it.
    pub audit: Option<String>,
}

impl Module {
    /// Whether it has stopped switching, since a check of its assumptions failed; `None` if it does not report it.
    #[must_use]
    pub fn tripped(&self) -> Option<bool> {
        self.counters.get(TRIPPED).map(|value| *value != 0)
    }
}

impl Sysfs {
    /// Whether the module is loaded.
    #[must_use]
    pub fn has_module(&self) -> bool {
        self.kernfs.is_directory(MODULE)
    }

    /// Whether the module reports that it can switch the devices behind the IOMMUs that serve `group`. A device that no IOMMU
    /// lists counts as not covered.
    #[must_use]
    pub fn is_covered(&self, group: &Group) -> bool {
        let mut problems = Problems::default();
        let Some(module) = self.module(&mut problems) else {
            return false;
        };
        let mut devices = group.devices.iter().peekable();
        devices.peek().is_some()
            && devices.all(|device| {
                let driver = self.iommu_driver_of(&device.name, &mut problems);
                driver.is_some_and(|found| module.drivers.iter().any(|d| is_same_driver(d, &found)))
            })
    }

    /// The module; `None` if it is not loaded.
    pub fn module(&self, problems: &mut Problems) -> Option<Module> {
        let names = problems.note(self.kernfs.names(MODULE))?;
        let mut module = Module::default();
        for name in names {
            let path = format!("{MODULE}/{name}");
            let text = problems.note(self.kernfs.text(&path));
            if name == CLEANUPS {
                // The file is empty if no switch is being completed.
                let text = text.unwrap_or_default();
                module.cleanups = Some(self.cleanups(&path, &text, problems));
                continue;
            }
            let Some(text) = text else {
                continue;
            };
            match name.as_str() {
                "audit" => module.audit = Some(text),
                "version" => module.version = Some(text),
                "drivers" => {
                    module.drivers = text.split_whitespace().map(str::to_owned).collect();
                }
                // Skip a file of a later module that is not a number: it is not a counter.
                _ => {
                    if let Ok(value) = text.parse() {
                        module.counters.insert(name, value);
                    }
                }
            }
        }
        Some(module)
    }

    /// Reads the clean-ups in the file at `path`. A line that cannot be parsed does not hide the others.
    fn cleanups(&self, path: &str, text: &str, problems: &mut Problems) -> Cleanups {
        let (cleanups, wrong) = Cleanups::read(text);
        for (line, why) in wrong {
            let path = self.kernfs.display(path);
            let why = why.to_string();
            problems.note::<()>(Err(KernFsError::Line { path, line, why }));
        }
        cleanups
    }
}

/// Whether the module's name of an IOMMU driver matches the name in sysfs: `virtio` is `virtio_iommu` there.
fn is_same_driver(known: &str, found: &str) -> bool {
    let rest = found.strip_prefix(known);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('_'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drivers_of_iommus_have_two_names() {
        assert!(is_same_driver("intel", "intel"));
        assert!(is_same_driver("virtio", "virtio_iommu"));
        assert!(!is_same_driver("arm-smmu", "arm-smmu-v3"));
        assert!(!is_same_driver("amd", "intel"));
    }
}
