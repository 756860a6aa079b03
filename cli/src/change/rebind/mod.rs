// SPDX-License-Identifier: GPL-2.0-only
//! The rebind route: unbind the drivers of a group, write its type, and bind the same drivers again.
//!
//! [`plan`] describes the steps as a value, which [`survey`] makes from sysfs. [`engine`] executes it in an order that leaves
//! no device unbound, whatever fails, through the interface of a [`machine`]; [`real_machine`] is the running kernel. Each step
//! is written into a [`journal`] before it is taken, from which `iommuctl recover` restores the devices after a crash.
//!
//! While a device is unbound, its `driver_override` names the driver it had. So no other driver can take it, and any probe by
//! the kernel, caused by udev, a rescan or the loading of a module, binds the right one. The former `driver_override` is
//! restored at the end.

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
