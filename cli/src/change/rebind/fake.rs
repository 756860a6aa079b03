// SPDX-License-Identifier: GPL-2.0-only
//! A kernel for the tests of the engine: it follows the rules of the real one, fails where it is told to, and can have
//! the process die between any two things it does.

use std::collections::BTreeMap;
use std::time::Duration;

use iommuctl_policy::{DomainType, GroupId, TypeRequest};
use nix::errno::Errno;

use super::machine::{Bound, Machine, WriteError};
use super::plan::{Offers, Override, Plan, Step, Subject, Write};

/// A device bound to `driver`, with one disk.
pub fn subject(name: &str, driver: &str) -> Subject {
    Subject {
        name: name.to_owned(),
        path: format!("devices/pci0000:00/{name}"),
        bus: "pci".to_owned(),
        driver: driver.to_owned(),
        module: Some(driver.to_owned()),
        driver_override: Override::Empty,
        offers: Offers {
            blocks: 1,
            interfaces: 0,
        },
    }
}

/// A rebind of NVMe disks in group 7.
pub fn plan(names: &[&str], old: &str, request: &str) -> Plan {
    let subjects = names.iter().map(|name| subject(name, "nvme")).collect();
    let request: TypeRequest = request.parse().unwrap();
    Plan::new(GroupId(7), request, &DomainType::from_kernel(old), subjects)
}

/// The state of a device: `None` if it is gone.
type State = Option<(Option<String>, Option<String>)>;

/// The kernel.
#[derive(Clone, Debug)]
pub struct Fake {
    pub domain_type: String,
    /// Driver and `driver_override`, by the name of the device.
    pub devices: BTreeMap<String, State>,
    /// What was recorded.
    pub records: Vec<Step>,
    /// Every write that was tried.
    pub writes: Vec<Write>,
    /// Things left until the process dies.
    pub life: Option<usize>,
    /// How the write with this number (from 0) ends, without an effect.
    pub fails: BTreeMap<usize, WriteError>,
    /// Devices that no driver takes again.
    pub lost: Vec<String>,
    /// The type is accepted, and stays what it was.
    pub ignores_type: bool,
    /// Types with which no device can be bound.
    pub unusable: Vec<String>,
    /// The user wants to stop from this write on.
    pub stop_at: Option<usize>,
    /// Disks come back only after this many looks.
    pub slow: usize,
    /// Which driver grabs a device that is unbound.
    pub grabber: Option<String>,
    clock: u64,
}

impl Fake {
    /// The kernel before `plan` is done.
    pub fn new(plan: &Plan) -> Self {
        let device = |s: &Subject| (s.name.clone(), Some((Some(s.driver.clone()), None)));
        Self {
            domain_type: plan.old_type.clone(),
            devices: plan.subjects.iter().map(device).collect(),
            records: Vec::new(),
            writes: Vec::new(),
            life: None,
            fails: BTreeMap::new(),
            lost: Vec::new(),
            ignores_type: false,
            unusable: Vec::new(),
            stop_at: None,
            slow: 0,
            grabber: None,
            clock: 0,
        }
    }

    /// Whether the process still lives; each call costs some of its life.
    fn lives(&mut self) -> bool {
        match &mut self.life {
            Some(0) => false,
            Some(left) => {
                *left -= 1;
                true
            }
            None => true,
        }
    }

    /// Every device has the driver of `plan`, and no `driver_override`.
    pub fn is_whole(&self, plan: &Plan) -> bool {
        plan.subjects
            .iter()
            .all(|s| match self.devices.get(&s.name) {
                Some(Some((driver, over))) => driver.as_ref() == Some(&s.driver) && over.is_none(),
                Some(None) | None => true,
            })
    }

    fn effect(&mut self, write: &Write) -> Result<(), WriteError> {
        let errno = |errno| Err(WriteError::Errno(errno));
        let parts: Vec<&str> = write.path.split('/').collect();
        match parts.as_slice() {
            ["kernel", "iommu_groups", _, "type"] => {
                let bound = |s: &State| s.as_ref().is_some_and(|(driver, _)| driver.is_some());
                if self.devices.values().any(bound) {
                    return errno(Errno::EPERM);
                }
                if self.ignores_type {
                    return Ok(());
                }
                self.domain_type = match write.text.as_str() {
                    "auto" => "DMA-FQ".to_owned(),
                    text => text.to_owned(),
                };
                Ok(())
            }
            [.., name, "driver_override"] => match self.devices.get_mut(*name) {
                Some(Some((_, over))) => {
                    *over = Some(write.text.clone()).filter(|t| !t.is_empty());
                    Ok(())
                }
                _ => errno(Errno::ENOENT),
            },
            ["bus", _, "drivers", driver, "unbind"] => match self.devices.get_mut(&write.text) {
                Some(Some((bound, over))) if bound.as_deref() == Some(*driver) => {
                    let grabs = over.is_none().then(|| self.grabber.clone()).flatten();
                    *bound = grabs.filter(|g| g != driver);
                    Ok(())
                }
                _ => errno(Errno::ENODEV),
            },
            ["bus", _, "drivers", driver, "bind"] => match self.devices.get_mut(&write.text) {
                Some(Some((Some(_), _))) => errno(Errno::EBUSY),
                Some(Some((bound, over))) => {
                    if over.as_deref().is_some_and(|o| o != *driver)
                        || self.unusable.contains(&self.domain_type)
                        || self.lost.contains(&write.text)
                    {
                        return errno(Errno::ENODEV);
                    }
                    *bound = Some((*driver).to_owned());
                    Ok(())
                }
                _ => errno(Errno::ENODEV),
            },
            other => panic!("no such attribute: {other:?}"),
        }
    }
}

impl Machine for Fake {
    fn record(&mut self, step: Step) -> Result<(), String> {
        if self.lives() {
            self.records.push(step);
        }
        Ok(())
    }

    fn write(&mut self, write: &Write) -> Result<(), WriteError> {
        if !self.lives() {
            return Err(WriteError::Broken("dead".to_owned()));
        }
        let number = self.writes.len();
        self.writes.push(write.clone());
        match self.fails.get(&number) {
            Some(error) => Err(error.clone()),
            None => self.effect(write),
        }
    }

    fn bound(&mut self, subject: &Subject) -> Bound {
        match self.devices.get(&subject.name) {
            Some(Some((Some(driver), _))) => Bound::To(driver.clone()),
            Some(Some((None, _))) => Bound::Nothing,
            Some(None) | None => Bound::Gone,
        }
    }

    fn driver_override(&mut self, subject: &Subject) -> Option<String> {
        let device = self.devices.get(&subject.name)?.as_ref()?;
        device.1.clone()
    }

    fn offers(&mut self, subject: &Subject) -> Offers {
        if self.slow > 0 {
            self.slow -= 1;
            return Offers::default();
        }
        match self.bound(subject) {
            Bound::To(_) => subject.offers,
            Bound::Nothing | Bound::Gone => Offers::default(),
        }
    }

    fn domain_type(&mut self) -> Option<DomainType> {
        Some(DomainType::from_kernel(&self.domain_type))
    }

    fn stop(&mut self) -> Option<String> {
        let now = self.stop_at.is_some_and(|at| self.writes.len() >= at);
        now.then(|| "stopped".to_owned())
    }

    fn now(&mut self) -> Duration {
        self.clock += 1;
        Duration::from_millis(self.clock)
    }

    fn pause(&mut self) {
        self.clock += 20;
    }
}
