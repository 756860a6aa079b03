// SPDX-License-Identifier: GPL-2.0-only
//! `/sys/kernel/iommu_live`: the `iommu_live` module, when it is loaded. A directory of files with one value each.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{Problems, Sysfs};

const MODULE: &str = "kernel/iommu_live";

/// The module and what it has done since it was loaded.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Module {
    /// Its version.
    pub version: Option<String>,
    /// The IOMMU drivers whose domains it can switch.
    pub drivers: Vec<String>,
    /// Every counter it has, by name. Which there are is the module's business; a name that ends in `_ns` counts
    /// nanoseconds.
    pub counters: BTreeMap<String, u64>,
}

impl Sysfs {
    /// Whether the module is loaded.
    #[must_use]
    pub fn has_module(&self) -> bool {
        self.tree.is_directory(MODULE)
    }

    /// The module; `None` if it is not loaded.
    pub fn module(&self, problems: &mut Problems) -> Option<Module> {
        let names = problems.note(self.tree.names(MODULE))?;
        let mut module = Module::default();
        for name in names {
            let Some(text) = problems.note(self.tree.text(&format!("{MODULE}/{name}"))) else {
                continue;
            };
            match name.as_str() {
                "version" => module.version = Some(text),
                "drivers" => {
                    module.drivers = text.split_whitespace().map(str::to_owned).collect();
                }
                // Files of a later module that hold something other than a number are not counters.
                _ => {
                    if let Ok(value) = text.parse() {
                        module.counters.insert(name, value);
                    }
                }
            }
        }
        Some(module)
    }
}
