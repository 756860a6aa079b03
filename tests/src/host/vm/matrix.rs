// SPDX-License-Identifier: GPL-2.0-only
//! The matrix: the IOMMUs and kernels that the module is for, those it refuses, and what was not run.
//!
//! Each cell is a machine, which `make test-full` runs, and some of them `make test`. kmod/README.md has the table that [`table`] makes of them.

use crate::host::build::arch::Arch;
use crate::host::build::debug_kernel::Watch;
use crate::host::build::toolchain::Flavour;
use crate::host::vm::machines::{Extra, Kind, Suite, ARM, ORDINARY};
use crate::host::vm::qemu::Iommu;

/// What becomes of a switch there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Both ways, live.
    Live,
    /// The module does not do it there, for this reason; the kernel's own behaviour stays.
    Refused(&'static str),
}

/// One IOMMU on one kernel.
#[derive(Debug)]
pub struct Cell {
    /// The IOMMU, as people call it.
    pub iommu: &'static str,
    /// What becomes of a switch.
    pub verdict: Verdict,
    /// Where that was seen.
    pub machine: Kind,
}

impl Cell {
    /// Where the module works: both ways under load, the oracle, load and unload, and many round trips.
    const fn live(iommu: &'static str, name: &'static str, machine: Kind) -> Self {
        Self::new(
            iommu,
            Verdict::Live,
            Kind {
                name,
                scenarios: &["switch", "oracle-live", "reload", "round-trips"],
                ..machine
            },
        )
    }

    /// Where it does not.
    const fn refused(
        iommu: &'static str,
        name: &'static str,
        why: &'static str,
        machine: Kind,
    ) -> Self {
        Self::new(
            iommu,
            Verdict::Refused(why),
            Kind {
                name,
                scenarios: &["not-live"],
                ..machine
            },
        )
    }

    /// Whether both are in one row of the table.
    fn is_beside(&self, other: &Self) -> bool {
        let row = |cell: &Self| {
            let machine = &cell.machine;
            (cell.iommu, cell.verdict, machine.arch, machine.flavour)
        };
        row(self) == row(other)
    }

    const fn new(iommu: &'static str, verdict: Verdict, machine: Kind) -> Self {
        Self {
            iommu,
            verdict,
            machine: Kind {
                purpose: iommu,
                suite: Suite::TestFull,
                ..machine
            },
        }
    }

    /// The same, which `make test` runs, too: it needs no other kernel, and takes another way than all else.
    const fn in_every_test(self) -> Self {
        Self {
            machine: Kind {
                suite: Suite::Test,
                ..self.machine
            },
            ..self
        }
    }
}

const fn intel(options: &'static str, command_line: &'static [&'static str]) -> Kind {
    Kind {
        iommu: Iommu::Intel(options),
        command_line,
        ..ORDINARY
    }
}

const fn processors(processors: u8) -> Kind {
    Kind {
        processors,
        ..ORDINARY
    }
}

const fn kernel(flavour: Flavour) -> Kind {
    Kind {
        flavour,
        ..ORDINARY
    }
}

const fn other(iommu: Iommu, flavour: Flavour) -> Kind {
    Kind {
        iommu,
        command_line: LAZY,
        ..kernel(flavour)
    }
}

const fn arm(flavour: Flavour) -> Kind {
    Kind { flavour, ..ARM }
}

const LAZY: &[&str] = &["iommu.strict=0"];
/// Scalable mode is off unless it is asked for.
const SCALABLE: &[&str] = &["intel_iommu=on,sm_on", "iommu.strict=0"];

/// Every cell.
pub static CELLS: [Cell; 25] = [
    Cell::live("Intel VT-d, legacy mode", "intel-legacy", ORDINARY),
    Cell::live(
        "Intel VT-d, caching mode",
        "intel-caching",
        intel(",caching-mode=on", ORDINARY.command_line),
    ),
    Cell::live(
        "Intel VT-d, scalable mode, second stage",
        "intel-second-stage",
        intel(",scalable-mode=on", SCALABLE),
    ),
    Cell::live(
        "Intel VT-d, scalable mode, first stage",
        "intel-first-stage",
        intel(",scalable-mode=on,fsts=on", SCALABLE),
    ),
    Cell::new(
        "Intel VT-d, a disk with translations of its own (ATS)",
        Verdict::Live,
        Kind {
            name: "intel-ats",
            extra: Extra::Translating,
            // What is seen in every cell, and that disk.
            scenarios: &[
                "switch",
                "oracle-live",
                "reload",
                "round-trips",
                "device-iotlb",
            ],
            ..intel(",device-iotlb=on", ORDINARY.command_line)
        },
    ),
    Cell::live("Intel VT-d, legacy mode", "intel-one", processors(1)),
    Cell::live("Intel VT-d, legacy mode", "intel-eight", processors(8)),
    Cell::live("Intel VT-d, legacy mode", "intel-64", processors(64)),
    Cell::live(
        "Intel VT-d, legacy mode",
        "intel-rt",
        kernel(Flavour::Variant("rt")),
    ),
    Cell::live(
        "Intel VT-d, legacy mode",
        "intel-cloud",
        kernel(Flavour::Variant("cloud")),
    ),
    Cell::live(
        "Intel VT-d, legacy mode",
        "intel-previous",
        kernel(Flavour::Previous),
    ),
    Cell::live(
        "Intel VT-d, legacy mode",
        "intel-testing",
        kernel(Flavour::Testing),
    ),
    Cell::new(
        "Intel VT-d, legacy mode",
        Verdict::Refused("Debian builds it without Rust, so the module cannot be built for it"),
        Kind {
            name: "intel-stable",
            with_module: false,
            scenarios: &["inventory", "without-module", "policy-without-module"],
            ..kernel(Flavour::Stable)
        },
    ),
    Cell::live(
        "Intel VT-d, legacy mode, with one flush queue for all processors",
        "intel-one-queue",
        Kind {
            command_line: &["intel_iommu=on", "iommu.strict=0", "iommu_dma_one_queue=1"],
            ..kernel(Flavour::Debug(Watch::Checks))
        },
    ),
    Cell::live("AMD-Vi", "amd", other(Iommu::Amd, Flavour::Stock)).in_every_test(),
    Cell::live(
        "AMD-Vi",
        "amd-rt",
        other(Iommu::Amd, Flavour::Variant("rt")),
    ),
    Cell::live(
        "AMD-Vi",
        "amd-previous",
        other(Iommu::Amd, Flavour::Previous),
    ),
    Cell::live(
        "virtio-iommu",
        "virtio",
        other(Iommu::Virtio, Flavour::Stock),
    )
    .in_every_test(),
    Cell::live(
        "virtio-iommu",
        "virtio-previous",
        other(Iommu::Virtio, Flavour::Previous),
    ),
    Cell::refused(
        "virtio-iommu",
        "virtio-rt",
        "its unmap entry takes locks that sleep there",
        other(Iommu::Virtio, Flavour::Variant("rt")),
    ),
    Cell::live("Arm SMMUv3, first stage", "smmu", ARM),
    Cell::live(
        "Arm SMMUv3, second stage",
        "smmu-second-stage",
        Kind {
            iommu: Iommu::Smmu3(",stage=2"),
            ..ARM
        },
    ),
    Cell::live(
        "Arm SMMUv3, first stage",
        "smmu-16k",
        arm(Flavour::Variant("16k")),
    ),
    Cell::live(
        "Arm SMMUv3, first stage",
        "smmu-cloud",
        arm(Flavour::Variant("cloud")),
    ),
    Cell::refused(
        "Arm SMMUv3, first stage",
        "smmu-rt",
        "with ATS, an unmap takes a lock that sleeps there",
        arm(Flavour::Variant("rt")),
    ),
];

/// What has no cell, and why.
pub const UNTRIED: [(&str, &str); 3] = [
    (
        "what a device that keeps translations of its own (ATS) reaches after a tighten",
        "the oracle's card does not; such a disk is switched under load",
    ),
    (
        "AMD-Vi, version 2 of the page table",
        "the emulated IOMMU has only version 1",
    ),
    ("other distributions' kernels, real hardware", "not run yet"),
];

/// The table of all cells, and what has none, as kmod/README.md has them.
pub fn table() -> String {
    let mut lines = vec![
        "| IOMMU | kernel | processors | live switch |".to_owned(),
        "| --- | --- | --- | --- |".to_owned(),
    ];
    let mut rest: Vec<&Cell> = CELLS.iter().collect();
    while let Some(first) = rest.first().copied() {
        let (row, others): (Vec<&Cell>, Vec<&Cell>) =
            rest.into_iter().partition(|cell| cell.is_beside(first));
        let processors: Vec<_> = row
            .iter()
            .map(|cell| cell.machine.processors.to_string())
            .collect();
        let verdict = match first.verdict {
            Verdict::Live => "yes".to_owned(),
            Verdict::Refused(why) => format!("no: {why}"),
        };
        let kernel = match first.machine.flavour {
            Flavour::Stock => "Debian backports".to_owned(),
            Flavour::Variant(name) => format!("the same, `{name}`"),
            Flavour::Previous => "the series before".to_owned(),
            Flavour::Stable => "Debian stable".to_owned(),
            Flavour::Testing => "Debian testing, its own compilers".to_owned(),
            Flavour::Debug(_) => "one of ours, with checks, where it is asked for".to_owned(),
        };
        let kernel = match first.machine.arch {
            Arch::X86_64 => kernel,
            other => format!("{kernel}, {}", other.debian()),
        };
        lines.push(format!(
            "| {} | {kernel} | {} | {verdict} |",
            first.iommu,
            processors.join(", ")
        ));
        rest = others;
    }
    lines.push("\nNot run:\n".to_owned());
    lines.extend(UNTRIED.iter().map(|(what, why)| format!("- {what}: {why}")));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEGIN: &str = "<!-- from tests/src/host/vm/matrix.rs; UPDATE_EXPECTED=1 cargo test -p iommuctl-tests matrix -->\n";
    const END: &str = "<!-- end -->";

    #[test]
    fn the_readme_has_the_table() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../kmod/README.md");
        let text = std::fs::read_to_string(path).unwrap();
        let (before, rest) = text.split_once(BEGIN).unwrap();
        let (_, after) = rest.split_once(END).unwrap();
        let wanted = format!("{before}{BEGIN}\n{}\n\n{END}{after}", table());
        if std::env::var_os("UPDATE_EXPECTED").is_some() {
            std::fs::write(path, wanted).unwrap();
        } else {
            assert!(
                text == wanted,
                "kmod/README.md has another table: set UPDATE_EXPECTED=1 to write it there"
            );
        }
    }

    #[test]
    fn a_row_has_all_its_machines() {
        let table = table();
        assert!(
            table.contains("| Intel VT-d, legacy mode | Debian backports | 2, 1, 8, 64 | yes |"),
            "{table}"
        );
        assert!(
            table.contains("| virtio-iommu | the same, `rt` | 2 | no: "),
            "{table}"
        );
    }
}
