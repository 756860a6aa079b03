// SPDX-License-Identifier: GPL-2.0-only
//! The first half of a rebind: unbinds the drivers, and writes the type.

use iommuctl_policy::TypeRequest;

use super::account::{End, Trouble};
use super::engine::Rebind;
use super::machine::{Bound, Machine, WriteError};
use super::plan::{Step, Subject};

impl<M: Machine> Rebind<'_, M> {
    /// Unbinds every device, in the reverse order of binding.
    pub(super) fn take_apart(&mut self, may_stop: bool) -> Result<(), Trouble> {
        for (n, subject) in self.plan.subjects.iter().enumerate().rev() {
            if may_stop {
                self.look_for_stop()?;
            }
            match self.machine.bound(subject) {
                Bound::To(driver) if driver == subject.driver => self.unbind(n, subject)?,
                Bound::To(other) => {
                    let message = format!("{} is bound to {other} by now", subject.name);
                    return Err(Trouble::new(End::Failed, message));
                }
                // Continue: somebody removed or unbound the device on purpose, and the kernel checks whether the type can be
                // changed.
                Bound::Nothing | Bound::Gone => {}
            }
        }
        Ok(())
    }

    fn look_for_stop(&mut self) -> Result<(), Trouble> {
        match self.machine.stop() {
            Some(why) => Err(Trouble::new(End::Stopped, why)),
            None => Ok(()),
        }
    }

    fn unbind(&mut self, n: usize, subject: &Subject) -> Result<(), Trouble> {
        let name = &subject.name;
        if subject.is_reserved() {
            let reserved = self.step(Step::Reserve(n));
            reserved.map_err(|e| self.trouble(n, "set the driver_override of", name, &e))?;
        }
        let began = self.machine.now();
        if let Some(progress) = self.progress.get_mut(n) {
            progress.began.get_or_insert(began);
            progress.back = None;
        }
        if let Err(error) = self.step(Step::Unbind(n)) {
            let trouble = self.trouble(n, "unbind", name, &error);
            // Check the state again: the kernel returns ENODEV for a device that was unbound meanwhile, too.
            let done = error != WriteError::StillWorking
                && !matches!(self.machine.bound(subject), Bound::To(_));
            if !done {
                return Err(trouble);
            }
        }
        match self.machine.bound(subject) {
            Bound::To(driver) => Err(Trouble::new(
                End::Failed,
                format!("the kernel unbound {name}, and says that it is bound to {driver}"),
            )),
            Bound::Nothing | Bound::Gone => Ok(()),
        }
    }

    /// Writes the type, and reads it back to check.
    pub(super) fn change(&mut self) -> Result<(), Trouble> {
        self.look_for_stop()?;
        let request = &self.plan.request;
        if let Err(error) = self.step(Step::Type) {
            return Err(self.type_trouble(request, &error));
        }
        let now = self.machine.domain_type();
        match (&now, self.plan.wanted()) {
            (Some(now), Some(wanted)) if *now == wanted => Ok(()),
            // Accept any type for `auto`: the kernel chooses it.
            (Some(_), None) => Ok(()),
            (Some(now), Some(_)) => Err(Trouble::new(
                End::Failed,
                format!(
                    "the kernel accepted {request}, but says afterwards that the type is {now}"
                ),
            )),
            (None, _) => Err(Trouble::new(
                End::Failed,
                "the group vanished right after the write".to_owned(),
            )),
        }
    }

    /// Writes the old type again, if the group has another one.
    pub(super) fn restore(&mut self) -> Result<(), Trouble> {
        if self.type_is_stuck {
            return Ok(());
        }
        let old = &self.plan.old_type;
        match self.machine.domain_type() {
            Some(now) if now.as_str() != old => {}
            _ => return Ok(()),
        }
        if old.parse::<TypeRequest>().is_err() {
            let message = format!("the old type, {old}, is none that can be written");
            return Err(Trouble::new(End::Failed, message));
        }
        self.take_apart(false)?;
        if let Err(error) = self.step_back(Step::Restore) {
            return Err(self.type_trouble(old, &error));
        }
        match self.machine.domain_type() {
            Some(now) if now.as_str() == old => Ok(()),
            _ => Err(Trouble::new(
                End::Failed,
                format!("the old type, {old}, did not come back"),
            )),
        }
    }
}
