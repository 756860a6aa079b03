// SPDX-License-Identifier: GPL-2.0-only
//! What a rebind needs from the world: little enough that a test can stand in for it.

use std::time::Duration;

use iommuctl_policy::DomainType;
use nix::errno::Errno;

use super::plan::{Offers, Step, Subject, Write};

/// The driver of a device, now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bound {
    /// It is bound to this one.
    To(String),
    /// It is there, and no driver is bound to it.
    Nothing,
    /// It is not there (any more).
    Gone,
}

/// A write that did not work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WriteError {
    /// The kernel answered with this errno.
    Errno(Errno),
    /// The kernel was not done in time, and still works on it.
    StillWorking,
    /// It could not be tried, or nobody learned what came of it.
    Broken(String),
}

/// The world. Every method looks anew: anything may have changed since the last.
pub trait Machine {
    /// Makes sure that `step` will be known of after this process was killed.
    ///
    /// # Errors
    ///
    /// Why that is not sure; then the step must not be taken.
    fn record(&mut self, step: Step) -> Result<(), String>;

    /// Makes one write.
    fn write(&mut self, write: &Write) -> Result<(), WriteError>;

    /// The driver of a device.
    fn bound(&mut self, subject: &Subject) -> Bound;

    /// What the `driver_override` of a device names.
    fn driver_override(&mut self, subject: &Subject) -> Option<String>;

    /// What a device offers.
    fn offers(&mut self, subject: &Subject) -> Offers;

    /// The type of the group; `None` if it cannot be read, or the devices are no longer in it.
    fn domain_type(&mut self) -> Option<DomainType>;

    /// Why the user wants to stop, if so.
    fn stop(&mut self) -> Option<String>;

    /// Time since some moment.
    fn now(&mut self) -> Duration;

    /// Lets a little time pass.
    fn pause(&mut self);
}
