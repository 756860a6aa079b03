// SPDX-License-Identifier: GPL-2.0-only
//! One machine that has something of everything.

use iommuctl_policy::{Device, DomainType, Group, GroupId, Inventory, Removable};

/// A PCI device: address, vendor and device, class, driver, where it is.
fn pci(address: &str, ids: (&str, &str), class: &str, driver: Option<&str>) -> Device {
    Device {
        name: address.to_owned(),
        path: format!("devices/pci0000:00/{address}"),
        bus: Some("pci".to_owned()),
        address: address.parse().ok(),
        vendor: ids.0.parse().ok(),
        device: ids.1.parse().ok(),
        subsystem_vendor: ids.0.parse().ok(),
        subsystem_device: "a801".parse().ok(),
        class: class.parse().ok(),
        driver: driver.map(str::to_owned),
        removable: Some(Removable::Fixed),
        numa_node: Some(0),
        firmware: Some(format!(r"\_SB_.PC00.D{}", &address[8..10])),
        modalias: Some(format!(
            "pci:v0000{}d0000{}sv0000sd0000bc00",
            ids.0.to_uppercase(),
            ids.1.to_uppercase()
        )),
    }
}

fn external(mut device: Device) -> Device {
    device.removable = Some(Removable::Removable);
    device
}

fn group(id: u32, domain_type: &str, devices: Vec<Device>) -> Group {
    Group {
        id: GroupId(id),
        name: None,
        domain_type: Some(DomainType::from_kernel(domain_type)),
        devices,
    }
}

/// The machine.
pub fn machine() -> Inventory {
    let platform = Device {
        bus: Some("platform".to_owned()),
        address: None,
        vendor: None,
        device: None,
        subsystem_vendor: None,
        subsystem_device: None,
        class: None,
        removable: None,
        numa_node: None,
        modalias: None,
        name: "fd5d0000.ethernet".to_owned(),
        firmware: Some("/soc/ethernet@fd5d0000".to_owned()),
        ..pci("0000:00:00.0", ("8086", "0000"), "020000", Some("stmmac"))
    };
    Inventory::new(vec![
        group(
            0,
            "DMA-FQ",
            vec![pci("0000:00:00.0", ("8086", "9a14"), "060000", None)],
        ),
        group(
            1,
            "DMA-FQ",
            vec![pci(
                "0000:01:00.0",
                ("144d", "a808"),
                "010802",
                Some("nvme"),
            )],
        ),
        group(
            2,
            "DMA",
            vec![pci(
                "0000:02:00.0",
                ("8086", "2723"),
                "028000",
                Some("iwlwifi"),
            )],
        ),
        group(
            3,
            "DMA-FQ",
            vec![
                pci("0000:00:1f.0", ("8086", "a082"), "060100", None),
                pci(
                    "0000:00:1f.3",
                    ("8086", "a0c8"),
                    "040300",
                    Some("snd_hda_intel"),
                ),
                pci(
                    "0000:00:1f.4",
                    ("8086", "a0a3"),
                    "0c0500",
                    Some("i801_smbus"),
                ),
                pci("0000:00:1f.6", ("8086", "15fb"), "020000", Some("e1000e")),
            ],
        ),
        group(
            4,
            "DMA",
            vec![external(pci(
                "0000:04:00.0",
                ("144d", "a80a"),
                "010802",
                Some("nvme"),
            ))],
        ),
        group(
            5,
            "DMA",
            vec![
                external(pci(
                    "0000:05:00.0",
                    ("8086", "15ea"),
                    "060400",
                    Some("pcieport"),
                )),
                external(pci("0000:06:00.0", ("8086", "15f3"), "020000", Some("igc"))),
                external(pci(
                    "0000:06:00.1",
                    ("1b21", "2142"),
                    "0c0330",
                    Some("xhci_hcd"),
                )),
            ],
        ),
        group(
            6,
            "DMA-FQ",
            vec![pci("0000:07:00.0", ("10ee", "9038"), "0b4000", None)],
        ),
        group(
            7,
            "DMA-FQ",
            vec![
                pci("0000:08:00.0", ("10de", "2204"), "030000", Some("vfio-pci")),
                pci("0000:08:00.1", ("10de", "1aef"), "040300", Some("vfio-pci")),
            ],
        ),
        group(
            8,
            "DMA-FQ",
            vec![
                pci("0000:03:00.0", ("8086", "1572"), "020000", Some("i40e")),
                pci("0000:03:00.1", ("8086", "1572"), "020000", Some("i40e")),
            ],
        ),
        group(
            9,
            "identity",
            vec![pci(
                "0000:09:00.0",
                ("1000", "005d"),
                "010400",
                Some("megaraid_sas"),
            )],
        ),
        group(10, "DMA", vec![platform]),
        group(
            11,
            "DMA",
            vec![
                pci("0000:0a:00.0", ("8086", "1572"), "020000", Some("i40e")),
                pci("0000:0a:00.1", ("8086", "2723"), "028000", Some("iwlwifi")),
            ],
        ),
        group(12, "DMA", Vec::new()),
        group(
            13,
            "DMA-FQ",
            vec![pci("0000:0b:00.0", ("1a03", "2000"), "030000", Some("ast"))],
        ),
    ])
}
