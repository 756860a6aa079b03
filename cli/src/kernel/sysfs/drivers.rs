// SPDX-License-Identifier: GPL-2.0-only
//! Drivers and what binds them: `bus/BUS/drivers/DRIVER` and the `driver_override` of a device
//! (`Documentation/driver-api/driver-model/binding.rst`, `drivers/base/bus.c`, `driver_set_override` in
//! `drivers/base/driver.c`).

use super::Sysfs;
use crate::sys::kernfs::KernFsError;

/// The text of an unset `driver_override`: a null pointer, as the kernel prints it.
const NO_OVERRIDE: &str = "(null)";

impl Sysfs {
    /// The driver of the device in the directory `path`; `None` if none is bound to it.
    pub fn driver(&self, path: &str) -> Result<Option<String>, KernFsError> {
        self.kernfs.link_name(&format!("{path}/driver"))
    }

    /// The directory of the device `name` on `bus`; `None` if it does not exist.
    pub fn device_path(&self, bus: &str, name: &str) -> Result<Option<String>, KernFsError> {
        self.kernfs.link(&format!("bus/{bus}/devices/{name}"))
    }

    /// Whether a driver can be unbound and bound through sysfs; `.suppress_bind_attrs` removes both attributes.
    pub fn has_bind_files(&self, bus: &str, driver: &str) -> Result<bool, KernFsError> {
        let names = self.kernfs.names(&format!("bus/{bus}/drivers/{driver}"))?;
        let names = names.unwrap_or_default();
        let has = |wanted: &str| names.iter().any(|name| name == wanted);
        Ok(has("unbind") && has("bind"))
    }

    /// The module of a driver; `None` if it is built in.
    pub fn driver_module(&self, bus: &str, driver: &str) -> Result<Option<String>, KernFsError> {
        self.kernfs
            .link_name(&format!("bus/{bus}/drivers/{driver}/module"))
    }

    /// The `driver_override` of the device in the directory `path`: the outer `None` if its bus has no such attribute, the
    /// inner one if it is unset.
    pub fn driver_override(&self, path: &str) -> Result<Option<Option<String>>, KernFsError> {
        let names = self.kernfs.names(path)?.unwrap_or_default();
        if !names.iter().any(|name| name == "driver_override") {
            return Ok(None);
        }
        let text = self.kernfs.text(&format!("{path}/driver_override"))?;
        Ok(Some(text.filter(|t| t != NO_OVERRIDE)))
    }
}
