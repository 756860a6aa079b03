// SPDX-License-Identifier: GPL-2.0-only
//! The rebind route: unbind the drivers of a group, write its type, and bind the same drivers again.
//!
//! [`plan`] says what will be done, as a value; [`survey`] makes that value from sysfs. [`engine`] does it in an order in
//! which nothing is left unbound, whatever goes wrong, and knows the kernel only as a [`machine`]; [`real_machine`] is the real
//! one. Each step is written into a [`journal`] before it is taken, from which `iommuctl recover` brings back what a
//! killed process left.
//!
//! While a device is without a driver, its `driver_override` names the driver it had. So no other driver can take it
//! meanwhile, and whoever asks the kernel to probe it, be it udev, a rescan or a module that is loaded, brings back the
//! right one. What `driver_override` said before is put back at the end.

pub mod account;
pub mod engine;
pub mod journal;
pub mod journal_format;
pub mod kill_point;
pub mod machine;
pub mod plan;
pub mod real_machine;
pub mod survey;

mod bring_back;
#[cfg(test)]
mod fake;
pub mod group;
#[cfg(test)]
mod tests;
mod unbind;
