// SPDX-License-Identifier: GPL-2.0-only
//! A PCI id database that is made up, and as long as the real one: what reading that costs must not depend on whether the
//! host has one.

use std::fmt::Write as _;

use super::trees::MODELS;

/// Sizes of the database, as that of 2026 has them.
const VENDORS: u32 = 2400;
const MODELS_OF_A_VENDOR: u32 = 9;

/// A database in the format of pci.ids(5), as long as the real one.
pub fn database() -> String {
    let mut text = String::from("# Made up.\n");
    // A String takes all that is written to it.
    let mut line = |line: std::fmt::Arguments<'_>| {
        let _ = writeln!(text, "{line}");
    };
    let known = |vendor: u32| {
        MODELS
            .iter()
            .filter(move |(v, ..)| *v == format!("0x{vendor:04x}"))
    };
    let named = MODELS
        .iter()
        .filter_map(|(vendor, ..)| u32::from_str_radix(vendor.trim_start_matches("0x"), 16).ok());
    let mut vendors: Vec<u32> = (0..VENDORS).map(|n| 16 + 27 * n).chain(named).collect();
    vendors.sort_unstable();
    vendors.dedup();
    for vendor in vendors {
        line(format_args!(
            "{vendor:04x}  Manufacturer Number {vendor} Corporation"
        ));
        for (_, device, ..) in known(vendor) {
            line(format_args!("\t{}  A Well-Known Adapter", &device[2..]));
        }
        for model in 0..MODELS_OF_A_VENDOR {
            line(format_args!(
                "\t{:04x}  Controller of the Series {model}",
                0x0100 + 16 * model
            ));
            line(format_args!(
                "\t\t{vendor:04x} {model:04x}  Board {model} with Two Ports"
            ));
        }
    }
    for class in 0..20 {
        line(format_args!("C {class:02x}  Class number {class}"));
        for sub in 0..8 {
            line(format_args!("\t{sub:02x}  Subclass {sub}"));
            line(format_args!("\t\t02  Programming interface"));
        }
    }
    text
}
