// SPDX-License-Identifier: GPL-2.0-only
//! The plan of a rebind, as a value: the devices, and the writes in their order.

use iommuctl_policy::{DomainType, GroupId, TypeRequest};
use serde::{Deserialize, Serialize};

/// The number of objects that a device offers, by which it is known to be complete again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Offers {
    /// Block devices below it, disks and partitions.
    pub blocks: usize,
    /// Network interfaces below it, those of this network namespace.
    pub interfaces: usize,
}

impl Offers {
    /// Whether there are at least as many as in `wanted`.
    #[must_use]
    pub fn covers(self, wanted: Self) -> bool {
        self.blocks >= wanted.blocks && self.interfaces >= wanted.interfaces
    }
}

/// The `driver_override` of a device before the rebind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Override {
    /// Its bus has no such attribute.
    None,
    /// It named no driver.
    Empty,
    /// It named this driver.
    Driver(String),
}

/// A device that is unbound for a moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Subject {
    /// Its name on its bus, such as `0000:00:03.0`.
    pub name: String,
    /// Its directory, relative to the root of sysfs.
    pub path: String,
    /// Its bus.
    pub bus: String,
    /// The driver it has, and is bound to again.
    pub driver: String,
    /// The module of that driver; `None` if it is built in.
    pub module: Option<String>,
    /// Its `driver_override`.
    pub driver_override: Override,
    /// What it offers while it is bound.
    pub offers: Offers,
}

impl Subject {
    /// Whether `driver_override` is set while it is unbound, and cleared afterwards.
    #[must_use]
    pub fn is_reserved(&self) -> bool {
        self.driver_override == Override::Empty
    }

    /// The attribute `unbind` or `bind` of `driver`, relative to the root of sysfs.
    #[must_use]
    pub fn attribute_of(&self, driver: &str, attribute: &str) -> String {
        format!("bus/{}/drivers/{driver}/{attribute}", self.bus)
    }
}

/// One write to an attribute.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Write {
    /// The attribute, relative to the root of sysfs.
    pub path: String,
    /// The text, without the newline.
    pub text: String,
}

/// A step, which is recorded before it is taken. Numbers are indices of [`Plan::subjects`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    /// Set `driver_override` to the device's own driver.
    Reserve(usize),
    /// Unbind the device.
    Unbind(usize),
    /// Write the type.
    Type,
    /// Write the old type again.
    Restore,
    /// Bind the device to its driver.
    Bind(usize),
    /// Clear `driver_override` again.
    Release(usize),
}

/// The steps of a rebind, and everything `recover` needs to know.
///
/// # Invariants
///
/// `subjects` are in the order in which they are bound: parents before their children. They are unbound in the reverse order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// The group's number.
    pub group: u32,
    /// The requested type, as the kernel accepts it.
    pub request: String,
    /// The former type, as the kernel showed it.
    pub old_type: String,
    /// The devices that are unbound.
    pub subjects: Vec<Subject>,
}

impl Plan {
    /// Makes the plan for `subjects`, in any order.
    #[must_use]
    pub fn new(
        group: GroupId,
        request: TypeRequest,
        old_type: &DomainType,
        mut subjects: Vec<Subject>,
    ) -> Self {
        // INVARIANT: a device's path has more components than its parent's; functions of one slot are sorted by number.
        subjects.sort_by_key(|s| (s.path.split('/').count(), s.name.clone()));
        Self {
            group: group.0,
            request: request.as_str().to_owned(),
            old_type: old_type.as_str().to_owned(),
            subjects,
        }
    }

    /// The steps, if all goes well.
    #[must_use]
    pub fn steps(&self) -> Vec<Step> {
        let mut steps = Vec::new();
        let all = 0..self.subjects.len();
        let reserved = |n: usize| self.subjects.get(n).is_some_and(Subject::is_reserved);
        for n in all.clone().rev() {
            steps.extend(reserved(n).then_some(Step::Reserve(n)));
            steps.push(Step::Unbind(n));
        }
        steps.push(Step::Type);
        for n in all {
            steps.push(Step::Bind(n));
            steps.extend(reserved(n).then_some(Step::Release(n)));
        }
        steps
    }

    /// The attribute with the type of the group.
    #[must_use]
    pub fn type_path(&self) -> String {
        format!("kernel/iommu_groups/{}/type", self.group)
    }

    /// The write that `step` makes; `None` if the plan has no such device.
    #[must_use]
    pub fn write(&self, step: Step) -> Option<Write> {
        let of_type = |text: &str| Write {
            path: self.type_path(),
            text: text.to_owned(),
        };
        let driver = |n: usize, attribute: &str| {
            let subject = self.subjects.get(n)?;
            let path = subject.attribute_of(&subject.driver, attribute);
            let text = subject.name.clone();
            Some(Write { path, text })
        };
        let driver_override = |n: usize, set: bool| {
            let subject = self.subjects.get(n)?;
            let path = format!("{}/driver_override", subject.path);
            let text = if set { &subject.driver } else { "" };
            let text = text.to_owned();
            Some(Write { path, text })
        };
        match step {
            Step::Reserve(n) => driver_override(n, true),
            Step::Unbind(n) => driver(n, "unbind"),
            Step::Type => Some(of_type(&self.request)),
            Step::Restore => Some(of_type(&self.old_type)),
            Step::Bind(n) => driver(n, "bind"),
            Step::Release(n) => driver_override(n, false),
        }
    }

    /// The writes, if all goes well.
    #[must_use]
    pub fn writes(&self) -> Vec<Write> {
        let steps = self.steps().into_iter();
        steps.filter_map(|step| self.write(step)).collect()
    }

    /// The type the group is to have; `None` if the kernel chooses it.
    #[must_use]
    pub fn wanted(&self) -> Option<DomainType> {
        let request: TypeRequest = self.request.parse().ok()?;
        request.result()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::change::rebind::fake::{plan, subject};

    #[test]
    fn every_write_in_its_order() {
        let plan = plan(&["0000:02:01.0", "0000:02:00.0"], "DMA-FQ", "identity");
        let shown = plan.writes().into_iter();
        let shown: Vec<String> = shown.map(|w| format!("{} > {}", w.text, w.path)).collect();
        let device = |n| format!("devices/pci0000:00/0000:02:0{n}.0/driver_override");
        let expected = [
            format!("nvme > {}", device(1)),
            "0000:02:01.0 > bus/pci/drivers/nvme/unbind".to_owned(),
            format!("nvme > {}", device(0)),
            "0000:02:00.0 > bus/pci/drivers/nvme/unbind".to_owned(),
            "identity > kernel/iommu_groups/7/type".to_owned(),
            "0000:02:00.0 > bus/pci/drivers/nvme/bind".to_owned(),
            format!(" > {}", device(0)),
            "0000:02:01.0 > bus/pci/drivers/nvme/bind".to_owned(),
            format!(" > {}", device(1)),
        ];
        assert_eq!(shown, expected);
    }

    #[test]
    fn what_is_overridden_already_stays_so() {
        let mut one = subject("0000:02:00.0", "nvme");
        one.driver_override = Override::Driver("nvme".to_owned());
        let plan = Plan {
            subjects: vec![one],
            ..plan(&[], "DMA", "auto")
        };
        assert_eq!(plan.steps(), [Step::Unbind(0), Step::Type, Step::Bind(0)]);
        assert_eq!(plan.wanted(), None);
    }

    #[test]
    fn what_others_hang_from_is_bound_first() {
        let mut deep = subject("0000:01:00.0", "nvme");
        deep.path = "devices/pci0000:00/0000:00:02.0/0000:01:00.0".to_owned();
        let flat = subject("0000:09:00.0", "xhci_hcd");
        let old = DomainType::Dma;
        let plan = Plan::new(GroupId(1), TypeRequest::Identity, &old, vec![deep, flat]);
        assert_eq!(plan.subjects[0].name, "0000:09:00.0");
    }
}
