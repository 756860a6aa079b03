// SPDX-License-Identifier: GPL-2.0-only
//! The interface between a rebind and the kernel, small enough for a fake in tests.

use std::time::Duration;

use iommuctl_policy::DomainType;
use nix::errno::Errno;

use super::plan::{Offers, Step, Subject, Write};

/// The current driver of a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bound {
    /// It is bound to this one.
    To(String),
    /// The device exists, and no driver is bound to it.
    Nothing,
    /// The device does not exist.
    Gone,
}

/// A failed write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WriteError {
    /// The kernel returned this errno.
    Errno(Errno),
    /// The write timed out, and the kernel still works on it.
    StillWorking,
    /// The write could not be tried, or its result is not known.
    Broken(String),
}

/// The kernel. Every method reads the current state: anything may have changed since the last call.
pub trait Machine {
    /// Records `step`, so that it is known even after this process is killed.
    ///
    /// # Errors
    ///
    /// The reason why the record may be lost; the step must not be taken then.
    fn record(&mut self, step: Step) -> Result<(), String>;

    /// Makes one write.
    fn write(&mut self, write: &Write) -> Result<(), WriteError>;

    /// The driver of a device.
    fn bound(&mut self, subject: &Subject) -> Bound;

    /// The driver in the `driver_override` of a device.
    fn driver_override(&mut self, subject: &Subject) -> Option<String>;

    /// Counts what a device offers.
    fn offers(&mut self, subject: &Subject) -> Offers;

    /// The type of the group; `None` if it cannot be read, or the devices are no longer in it.
    fn domain_type(&mut self) -> Option<DomainType>;

    /// The reason to stop, if the user wants to.
    fn stop(&mut self) -> Option<String>;

    /// The time since an arbitrary moment.
    fn now(&mut self) -> Duration;

    /// Sleeps for a short time.
    fn pause(&mut self);
}
