// SPDX-License-Identifier: GPL-2.0-only
//! The second half of a rebind: binds every device to the driver it had.

use std::time::Duration;

use nix::errno::Errno;

use super::account::{End, Trouble};
use super::engine::Rebind;
use super::machine::{Bound, Machine, WriteError};
use super::plan::{Step, Subject, Write};

impl<M: Machine> Rebind<'_, M> {
    /// Binds every device to its driver. Continues after failures, and returns the first.
    pub(super) fn bring_back(&mut self) -> Result<(), Trouble> {
        let mut first = Ok(());
        for (n, subject) in self.plan.subjects.iter().enumerate() {
            if self.progress.get(n).is_some_and(|p| p.stuck) {
                continue;
            }
            if let Err(trouble) = self.bring_back_one(n, subject) {
                self.note(trouble.message.clone());
                first = first.and(Err(trouble));
            }
        }
        first
    }

    fn bring_back_one(&mut self, n: usize, subject: &Subject) -> Result<(), Trouble> {
        let end = self.machine.now().saturating_add(self.timeout);
        match self.machine.bound(subject) {
            Bound::To(driver) if driver == subject.driver => {}
            Bound::To(other) if self.was_given_away(subject) => {
                // Leave the device alone: somebody has changed driver_override since then, and so chosen another driver.
                self.note(format!(
                    "{} is bound to {other} by somebody else's choice",
                    subject.name
                ));
                if let Some(progress) = self.progress.get_mut(n) {
                    progress.given_away = true;
                }
                return Ok(());
            }
            Bound::To(other) => {
                self.evict(subject, &other);
                self.bind(n, subject, end)?;
            }
            Bound::Nothing => self.bind(n, subject, end)?,
            Bound::Gone => {
                self.note(format!("{} is gone", subject.name));
                return Ok(());
            }
        }
        self.wait_until_back(subject, end)?;
        self.is_back(n);
        self.release(n, subject);
        Ok(())
    }

    fn is_back(&mut self, n: usize) {
        let now = self.machine.now();
        if let Some(progress) = self.progress.get_mut(n) {
            progress.back.get_or_insert(now);
        }
    }

    /// Whether we had reserved the device by its `driver_override`, and somebody has changed that.
    fn was_given_away(&mut self, subject: &Subject) -> bool {
        let named = self.machine.driver_override(subject);
        subject.is_reserved() && named.as_ref() != Some(&subject.driver)
    }

    /// Unbinds a device from a driver that has taken it. The later bind shows whether that worked.
    fn evict(&mut self, subject: &Subject, other: &str) {
        let write = Write {
            path: subject.attribute_of(other, "unbind"),
            text: subject.name.clone(),
        };
        if self.write(write).is_err() {
            self.note(format!("{other} does not let go of {}", subject.name));
        }
    }

    fn bind(&mut self, n: usize, subject: &Subject, end: Duration) -> Result<(), Trouble> {
        let mut result = self.step_back(Step::Bind(n));
        if let (Err(_), Bound::To(other)) = (&result, self.machine.bound(subject)) {
            if other != subject.driver {
                self.evict(subject, &other);
                result = self.step_back(Step::Bind(n));
            }
        }
        loop {
            match (self.machine.bound(subject), &result) {
                (Bound::To(driver), _) if driver == subject.driver => return Ok(()),
                (Bound::Gone, _) => return Ok(()),
                // Wait: the driver has deferred its probe until another one is ready, and the kernel will retry.
                (Bound::Nothing, Err(WriteError::Errno(Errno::EAGAIN)))
                    if self.machine.now() < end =>
                {
                    self.machine.pause();
                }
                (_, Err(error)) => {
                    let error = error.clone();
                    return Err(self.trouble(n, "bind", &subject.name, &error));
                }
                (_, Ok(())) => {
                    let message = format!(
                        "the kernel bound {}, and says that it is not bound to {}",
                        subject.name, subject.driver
                    );
                    return Err(Trouble::new(End::Failed, message));
                }
            }
        }
    }

    /// Waits until the device offers what it did before.
    fn wait_until_back(&mut self, subject: &Subject, end: Duration) -> Result<(), Trouble> {
        loop {
            let offers = self.machine.offers(subject);
            if offers.covers(subject.offers) || self.machine.bound(subject) == Bound::Gone {
                return Ok(());
            }
            if self.machine.now() >= end {
                let message = format!(
                    "{} is bound to {} again, but of its {} block devices and {} network interfaces only {} and {} have \
                     come back in {} s",
                    subject.name,
                    subject.driver,
                    subject.offers.blocks,
                    subject.offers.interfaces,
                    offers.blocks,
                    offers.interfaces,
                    self.timeout.as_secs_f64()
                );
                return Err(Trouble::new(End::Failed, message));
            }
            self.machine.pause();
        }
    }

    /// Clears `driver_override` again, if it is as we left it. A failure is only noted, and undoes nothing: the
    /// `driver_override` then names the driver that the device has.
    fn release(&mut self, n: usize, subject: &Subject) {
        let ours = subject.is_reserved()
            && self.machine.driver_override(subject).as_ref() == Some(&subject.driver);
        if !ours {
            return;
        }
        if let Err(error) = self.step_back(Step::Release(n)) {
            let verb = "clear the driver_override of";
            let trouble = self.trouble(n, verb, &subject.name, &error);
            self.note(trouble.message);
        }
    }
}
