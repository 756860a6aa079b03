// SPDX-License-Identifier: GPL-2.0-only
//! Which devices a rule is about.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::any_of::{given, AnyOf};
use crate::{AddressPattern, ClassFilter, Device, Glob, Name, PciId, Removable};

/// What must be true of a device. Every key that is given must hold; of a list, any one.
///
/// On a bus other than PCI, and where firmware or kernel do not say, a device lacks a property, and a key that asks for
/// it does not hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(
    deny_unknown_fields,
    expecting = "keys and values, such as { class: nvme }"
)]
pub struct Match {
    /// Its PCI address, or a pattern (`*` any text, `?` one character). Addresses can change when cards are added or moved.
    #[serde(
        default,
        deserialize_with = "given",
        skip_serializing_if = "Option::is_none"
    )]
    pub address: Option<AnyOf<AddressPattern>>,
    /// Its PCI vendor id, hexadecimal in quotes.
    #[serde(
        default,
        deserialize_with = "given",
        skip_serializing_if = "Option::is_none"
    )]
    pub vendor: Option<AnyOf<PciId>>,
    /// Its PCI device id, hexadecimal in quotes.
    #[serde(
        default,
        deserialize_with = "given",
        skip_serializing_if = "Option::is_none"
    )]
    pub device: Option<AnyOf<PciId>>,
    /// Its PCI subsystem vendor id, hexadecimal in quotes.
    #[serde(
        default,
        deserialize_with = "given",
        skip_serializing_if = "Option::is_none"
    )]
    pub subsystem_vendor: Option<AnyOf<PciId>>,
    /// Its PCI subsystem device id, hexadecimal in quotes.
    #[serde(
        default,
        deserialize_with = "given",
        skip_serializing_if = "Option::is_none"
    )]
    pub subsystem_device: Option<AnyOf<PciId>>,
    /// Its PCI class: a name, or the first two, four or six hexadecimal digits in quotes.
    #[serde(
        default,
        deserialize_with = "given",
        skip_serializing_if = "Option::is_none"
    )]
    pub class: Option<AnyOf<ClassFilter>>,
    /// The driver bound to it. Before a driver is bound, as at boot, this does not hold: better match what the device is.
    #[serde(
        default,
        deserialize_with = "given",
        skip_serializing_if = "Option::is_none"
    )]
    pub driver: Option<AnyOf<Name>>,
    /// The bus it is on: pci, platform, …
    #[serde(
        default,
        deserialize_with = "given",
        skip_serializing_if = "Option::is_none"
    )]
    pub bus: Option<AnyOf<Name>>,
    /// Whether it can be plugged in from outside, which is also when the kernel does not trust it.
    #[serde(
        default,
        deserialize_with = "given",
        skip_serializing_if = "Option::is_none"
    )]
    pub external: Option<bool>,
    /// What the kernel says about removing it.
    #[serde(
        default,
        deserialize_with = "given",
        skip_serializing_if = "Option::is_none"
    )]
    pub removable: Option<AnyOf<Removable>>,
    /// The NUMA node it is nearest to.
    #[serde(
        default,
        deserialize_with = "given",
        skip_serializing_if = "Option::is_none"
    )]
    pub numa_node: Option<AnyOf<u32>>,
    /// What firmware calls it: a pattern for its ACPI path, or for its path in the device tree.
    #[serde(
        default,
        deserialize_with = "given",
        skip_serializing_if = "Option::is_none"
    )]
    pub firmware: Option<AnyOf<Glob>>,
    /// A pattern for what modules are looked up by, as in modules.alias.
    #[serde(
        default,
        deserialize_with = "given",
        skip_serializing_if = "Option::is_none"
    )]
    pub modalias: Option<AnyOf<Glob>>,
}

/// The first key that does not hold for a device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Mismatch {
    /// The key.
    pub key: &'static str,
    /// What the rule asks for.
    pub wanted: String,
    /// What the device has; `None` if it has no such property.
    pub found: Option<String>,
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key, wanted, found } = self;
        match found {
            Some(found) => write!(f, "its {key} is {found}, and the rule asks for {wanted}"),
            None => write!(f, "it has no {key}, and the rule asks for {wanted}"),
        }
    }
}

/// Whether one key holds: `Ok` if it is not given or holds, else what is wrong. The text is only made when asked for.
fn holds<T: fmt::Display, V>(
    key: &'static str,
    wanted: Option<&T>,
    found: Option<V>,
    test: impl FnOnce(&T, &V) -> bool,
    show: impl FnOnce(V) -> String,
    explain: bool,
) -> Result<(), Option<Mismatch>> {
    let Some(wanted) = wanted else {
        return Ok(());
    };
    if found.as_ref().is_some_and(|found| test(wanted, found)) {
        return Ok(());
    }
    Err(explain.then(|| Mismatch {
        key,
        wanted: wanted.to_string(),
        found: found.map(show),
    }))
}

fn yes_or_no(value: bool) -> String {
    if value { "true" } else { "false" }.to_owned()
}

impl Match {
    /// Whether no key is given.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether it holds for `device`.
    #[must_use]
    pub fn matches(&self, device: &Device) -> bool {
        self.test(device, false).is_ok()
    }

    /// The first key that does not hold for `device`; `None` if it matches.
    #[must_use]
    pub fn mismatch(&self, device: &Device) -> Option<Mismatch> {
        self.test(device, true).err().flatten()
    }

    /// Whether it singles out kinds of devices, so that it can mean one that does no DMA of its own. A rule about a
    /// vendor, a bus or a NUMA node means the devices that work there, and not the bridges before them.
    #[must_use]
    pub fn names_bridges(&self) -> bool {
        let exact = |a: &AnyOf<AddressPattern>| a.all(|a| matches!(a, AddressPattern::Exact(_)));
        self.address.as_ref().is_some_and(exact)
            || self.device.is_some()
            || self.class.is_some()
            || self.driver.is_some()
            || self.firmware.is_some()
            || self.modalias.is_some()
    }

    /// Every key in turn, in the order of the struct, cheap or not: all are cheap.
    fn test(&self, device: &Device, explain: bool) -> Result<(), Option<Mismatch>> {
        // Every key by its name, so that a new one cannot be forgotten: its rule would match too much.
        let Self {
            address,
            vendor,
            device: device_id,
            subsystem_vendor,
            subsystem_device,
            class,
            driver,
            bus,
            external,
            removable,
            numa_node,
            firmware,
            modalias,
        } = self;
        let id = |key, wanted: &Option<AnyOf<PciId>>, found: Option<PciId>| {
            let equal = |w: &AnyOf<PciId>, f: &PciId| w.any(|id| id == f);
            holds(
                key,
                wanted.as_ref(),
                found,
                equal,
                |f| f.to_string(),
                explain,
            )
        };
        let name = |key, wanted: &Option<AnyOf<Name>>, found: &Option<String>| {
            let equal = |w: &AnyOf<Name>, f: &&str| w.any(|n| n.as_str() == *f);
            let found = found.as_deref();
            holds(key, wanted.as_ref(), found, equal, str::to_owned, explain)
        };
        let like = |key, wanted: &Option<AnyOf<Glob>>, found: &Option<String>| {
            let like = |w: &AnyOf<Glob>, f: &&str| w.any(|g| g.matches(f));
            let found = found.as_deref();
            holds(key, wanted.as_ref(), found, like, str::to_owned, explain)
        };
        let at = |w: &AnyOf<AddressPattern>, f: &crate::PciAddress| {
            w.any(|pattern| pattern.matches(*f, &device.name))
        };
        holds(
            "address",
            address.as_ref(),
            device.address,
            at,
            |f| f.to_string(),
            explain,
        )?;
        id("vendor", vendor, device.vendor)?;
        id("device", device_id, device.device)?;
        id(
            "subsystem_vendor",
            subsystem_vendor,
            device.subsystem_vendor,
        )?;
        id(
            "subsystem_device",
            subsystem_device,
            device.subsystem_device,
        )?;
        holds(
            "class",
            class.as_ref(),
            device.class,
            |w, f| w.any(|class| class.matches(*f)),
            |f| f.to_string(),
            explain,
        )?;
        name("driver", driver, &device.driver)?;
        name("bus", bus, &device.bus)?;
        holds(
            "external",
            external.as_ref(),
            Some(device.is_external()),
            |w, f| w == f,
            yes_or_no,
            explain,
        )?;
        holds(
            "removable",
            removable.as_ref(),
            device.removable,
            |w, f| w.any(|r| r == f),
            |f| f.to_string(),
            explain,
        )?;
        holds(
            "numa_node",
            numa_node.as_ref(),
            device.numa_node,
            |w, f| w.any(|n| n == f),
            |f| f.to_string(),
            explain,
        )?;
        like("firmware", firmware, &device.firmware)?;
        like("modalias", modalias, &device.modalias)
    }
}
