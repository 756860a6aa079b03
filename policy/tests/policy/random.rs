// SPDX-License-Identifier: GPL-2.0-only
//! Policies and machines made at random, from a few words each, so that they meet often.

use iommuctl_policy::{Device, DomainType, Group, GroupId, Inventory, Removable};

/// A generator of numbers (SplitMix64): the same seed gives the same numbers everywhere.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Below `limit`, which is not 0.
    pub fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(limit).unwrap()).unwrap()
    }

    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }

    pub fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }
}

const VENDORS: [&str; 3] = ["8086", "144d", "10ee"];
/// Two of them look like numbers to YAML.
const DEVICES: [&str; 4] = ["1572", "a808", "10e1", "0e10"];
const CLASSES: [&str; 6] = ["010802", "020000", "060400", "040300", "050000", "0c0500"];
const DRIVERS: [&str; 4] = ["nvme", "i40e", "vfio-pci", "pcieport"];
const TYPES: [&str; 4] = ["DMA", "DMA-FQ", "identity", "unknown"];

/// A device; `number` makes its name its own.
pub fn device(random: &mut Random, number: usize) -> Device {
    let address = format!(
        "{:04x}:{:02x}:{:02x}.0",
        number >> 13,
        (number >> 5) & 0xff,
        number & 0x1f
    );
    let is_pci = !random.one_in(8);
    let removable = [None, Some(Removable::Fixed), Some(Removable::Removable)];
    Device {
        path: format!("devices/{address}"),
        bus: Some(if is_pci { "pci" } else { "platform" }.to_owned()),
        address: address.parse().ok().filter(|_| is_pci),
        vendor: random.pick(&VENDORS).parse().ok().filter(|_| is_pci),
        device: random.pick(&DEVICES).parse().ok().filter(|_| is_pci),
        subsystem_vendor: None,
        subsystem_device: None,
        class: random.pick(&CLASSES).parse().ok().filter(|_| is_pci),
        driver: (!random.one_in(3)).then(|| random.pick(&DRIVERS).to_owned()),
        removable: random.pick(&removable),
        numa_node: Some(u32::try_from(random.below(2)).unwrap()),
        firmware: random.one_in(2).then(|| format!("/soc/{number}")),
        modalias: None,
        name: address,
    }
}

/// A machine with this many groups.
pub fn inventory(random: &mut Random, groups: usize) -> Inventory {
    let mut number = 0;
    let group = |id: usize| {
        let devices = (0..random.below(4)).map(|_| {
            number += 1;
            device(random, number)
        });
        Group {
            id: GroupId(u32::try_from(id).unwrap()),
            name: None,
            devices: devices.collect(),
            domain_type: Some(DomainType::from_kernel(random.pick(&TYPES))),
        }
    };
    Inventory::new((0..groups).map(group).collect())
}

/// The text of one rule.
pub fn rule(random: &mut Random, number: usize, goal: &str) -> String {
    let key = match random.below(9) {
        0 => format!("vendor: \"{}\"", random.pick(&VENDORS)),
        1 => format!("device: \"{}\"", random.pick(&DEVICES)),
        2 => format!(
            "class: \"{}\"",
            &random.pick(&CLASSES)[..2 + 2 * random.below(3)]
        ),
        3 => format!("driver: {}", random.pick(&DRIVERS)),
        4 => format!("external: {}", random.one_in(2)),
        5 => format!("numa_node: {}", random.below(2)),
        6 => format!("bus: {}", random.pick(&["pci", "platform"])),
        7 => format!("address: \"0000:00:{:02x}.0\"", random.below(32)),
        _ => format!("firmware: \"/soc/{}*\"", random.below(10)),
    };
    let extra = match random.below(8) {
        0 => ", route: rebind",
        1 => ", on_failure: warn",
        2 => ", force: true, reason: because",
        _ => "",
    };
    format!("  - {{ name: rule {number}, match: {{ {key} }}, type: {goal}{extra} }}\n")
}

/// The text of a policy with at most `most` rules.
pub fn policy(random: &mut Random, most: usize) -> String {
    let unmatched = random.pick(&["keep", "DMA", "DMA-FQ"]);
    let mut text = format!("version: 1\ndefaults: {{ unmatched: {unmatched} }}\nrules:\n");
    let count = random.below(most) + 1;
    for number in 1..=count {
        let goal = random.pick(&["DMA", "DMA-FQ", "identity", "keep"]);
        text.push_str(&rule(random, number, goal));
    }
    text
}
