// SPDX-License-Identifier: GPL-2.0-only
//! The kinds of machines the suites run on: which kernel, which devices, and which scenarios they run.

use anyhow::{Context as _, Result};

use crate::host::build::arch::Arch;
use crate::host::build::debug_kernel::Watch;
use crate::host::build::toolchain::Flavour;
use crate::host::vm::matrix::CELLS;
use crate::host::vm::qemu::{Clock, Iommu};

/// Devices that only some machines have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extra {
    /// None.
    Nothing,
    /// A card behind a root port that the firmware calls external.
    External,
    /// A disk and a network card in one group.
    Pair,
    /// A disk that keeps translations of its own.
    Translating,
    /// Twenty-two more disks, each in a group of its own.
    Disks,
    /// Sixty-four, behind ports.
    ManyDisks,
    /// A hundred and twenty-eight, behind ports: with the ports, that many groups twice.
    MostDisks,
}

/// What runs all scenarios of a machine, each as a test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Suite {
    /// `make test`.
    Test,
    /// `make test-full` alone: it takes long, or needs a kernel that is built or fetched for it.
    TestFull,
    /// Neither: something else looks at what they say.
    Neither,
}

/// A kind of machine.
#[derive(Debug)]
pub struct Kind {
    /// Its name.
    pub name: &'static str,
    /// What it is for, in a few words.
    pub purpose: &'static str,
    /// What runs it.
    pub suite: Suite,
    /// What it runs on.
    pub arch: Arch,
    /// Which kernel it boots.
    pub flavour: Flavour,
    /// Which IOMMU it has.
    pub iommu: Iommu,
    /// How many processors.
    pub processors: u8,
    /// What its time is.
    pub clock: Clock,
    /// Whether `iommu_live.ko` is on board (the scenarios load it).
    pub with_module: bool,
    /// Words of the kernel command line.
    pub command_line: &'static [&'static str],
    /// What it has beside the devices that every machine has.
    pub extra: Extra,
    /// Scenarios, in the order they run.
    pub scenarios: &'static [&'static str],
}

const LAZY: &[&str] = &["intel_iommu=on", "iommu.strict=0"];
/// With each slab cache counted by itself, and room for the faults of the oracle in a hundred thousand round trips.
const MANY: &[&str] = &[
    "intel_iommu=on",
    "iommu.strict=0",
    "slab_nomerge",
    "log_buf_len=16M",
];

/// With queues that can be polled, and each slab cache counted by itself.
const POLLED: &[&str] = &[
    "intel_iommu=on",
    "iommu.strict=0",
    "nvme.poll_queues=2",
    "slab_nomerge",
    "log_buf_len=16M",
];

/// The same, and ports are nothing but bridges: what else they can do takes minutes to set up for sixty-four.
const MANY_PORTS: &[&str] = &[
    "intel_iommu=on",
    "iommu.strict=0",
    "slab_nomerge",
    "pcie_ports=compat",
];

/// What most machines have in common.
pub const ORDINARY: Kind = Kind {
    name: "",
    purpose: "",
    suite: Suite::Test,
    arch: Arch::X86_64,
    flavour: Flavour::Stock,
    iommu: Iommu::Intel(""),
    processors: 2,
    clock: Clock::Host,
    with_module: true,
    command_line: LAZY,
    extra: Extra::Nothing,
    scenarios: &[],
};

/// What machines of arm64 have in common.
pub const ARM: Kind = Kind {
    suite: Suite::TestFull,
    arch: Arch::Arm64,
    // Both stages, as most hardware has it: the kernel takes the first.
    iommu: Iommu::Smmu3(",stage=nested"),
    command_line: &["iommu.strict=0"],
    ..ORDINARY
};

/// Every kind of machine, but for those of the matrix.
pub static KINDS: [Kind; 31] = [
    Kind {
        name: "plain",
        purpose: "a stock kernel without the module",
        with_module: false,
        scenarios: &[
            "inventory",
            "targets",
            "without-module",
            "bench-device-without-module",
            "policy-without-module",
            "policy-rebind",
            "oracle-stock",
            "errors",
        ],
        ..ORDINARY
    },
    Kind {
        name: "module",
        purpose: "a stock kernel with the module",
        scenarios: &[
            "switch",
            "raw-write",
            "several",
            "reports",
            "denied",
            "two-writers",
            "bench-device",
            "policy",
            "lockdown",
            "oracle-live",
            "round-trips",
        ],
        ..ORDINARY
    },
    Kind {
        name: "audit",
        purpose: "a stock kernel with the module, and somebody who records",
        scenarios: &[
            "audit-who",
            "audit-found",
            "audit-unrecorded",
            "audit-flood",
        ],
        ..ORDINARY
    },
    Kind {
        name: "reload",
        purpose: "the module loaded and unloaded under load",
        scenarios: &[
            "other-kernel",
            "unaudited-kernel",
            "reload",
            "reload-while-switching",
            "unload-keeps-types",
        ],
        ..ORDINARY
    },
    Kind {
        name: "strict",
        purpose: "a stock kernel that starts strict",
        with_module: false,
        command_line: &["intel_iommu=on", "iommu.strict=1"],
        scenarios: &["oracle-strict-boot"],
        ..ORDINARY
    },
    Kind {
        name: "off",
        purpose: "a kernel told to leave the IOMMU off",
        with_module: false,
        command_line: &["intel_iommu=off"],
        scenarios: &["no-iommu"],
        ..ORDINARY
    },
    Kind {
        name: "external",
        purpose: "a card behind a port the firmware calls external",
        extra: Extra::External,
        scenarios: &["untrusted", "policy-external"],
        ..ORDINARY
    },
    Kind {
        name: "faults",
        purpose: "a stock kernel that changes under the module",
        scenarios: &[
            "processors-go",
            "driver-goes",
            "device-goes",
            "function-reset",
            "crowd",
            "vfio-takes",
            "suspends",
        ],
        ..ORDINARY
    },
    Kind {
        name: "held",
        purpose: "a stock kernel, tasks held in the middle of an unmap",
        command_line: MANY,
        scenarios: &[
            "stragglers",
            "across-each-wait",
            "last-device-leaves",
            "module-leaves",
            "late-soak",
        ],
        ..ORDINARY
    },
    Kind {
        name: "mutants",
        purpose: "a stock kernel, and what would notice a module with a mistake",
        // One that crashes the kernel is not to be waited for.
        command_line: &["intel_iommu=on", "iommu.strict=0", "oops=panic", "panic=-1"],
        scenarios: &["let-go-after", "let-go-meanwhile"],
        ..ORDINARY
    },
    Kind {
        name: "loads",
        purpose: "a stock kernel, loads that never sleep, and events while switches are cleaned up",
        command_line: POLLED,
        scenarios: &["loads", "while-cleaning-up", "late-comers"],
        ..ORDINARY
    },
    Kind {
        name: "many",
        purpose: "a stock kernel with twenty-four disks",
        command_line: MANY,
        extra: Extra::Disks,
        scenarios: &["soak"],
        ..ORDINARY
    },
    Kind {
        name: "together",
        purpose: "a stock kernel with the module, and sixty-four disks to switch at once",
        command_line: MANY_PORTS,
        extra: Extra::ManyDisks,
        scenarios: &["together"],
        ..ORDINARY
    },
    Kind {
        name: "rebind",
        purpose: "a stock kernel without the module, drivers unbound and bound again",
        with_module: false,
        extra: Extra::Pair,
        scenarios: &[
            "rebind-orders",
            "rebind-in-use",
            "rebind-killed",
            "rebind-killed-at-random",
            "rebind-stopped",
            "rebind-waits-its-turn",
            "rebind-cycles",
        ],
        ..ORDINARY
    },
    Kind {
        name: "rebind-many",
        purpose: "a stock kernel without the module, and sixty-four disks to rebind",
        with_module: false,
        command_line: MANY_PORTS,
        extra: Extra::ManyDisks,
        scenarios: &["rebind-many"],
        ..ORDINARY
    },
    Kind {
        name: "stragglers",
        purpose: "a kernel with checks and hold points, tasks held in the middle of an unmap",
        suite: Suite::TestFull,
        flavour: Flavour::Debug(Watch::Checks),
        scenarios: &[
            "stragglers",
            "across-each-wait",
            "starved",
            "final-flush",
            "last-device-leaves",
            "module-leaves",
        ],
        ..ORDINARY
    },
    Kind {
        name: "kept",
        purpose: "a kernel with checks and hold points, an IOMMU whose domains are redirected by their own operations",
        suite: Suite::TestFull,
        flavour: Flavour::Debug(Watch::Checks),
        iommu: Iommu::Virtio,
        scenarios: &[
            "stragglers",
            "across-each-wait",
            "final-flush",
            "module-leaves",
            "switch",
            "oracle-live",
            "reload-while-switching",
            "driver-goes",
            "device-goes",
            "crowd",
            "leaks",
        ],
        ..ORDINARY
    },
    Kind {
        name: "checks",
        purpose: "a kernel with checks",
        suite: Suite::TestFull,
        flavour: Flavour::Debug(Watch::Checks),
        scenarios: &[
            "switch",
            "several",
            "reports",
            "denied",
            "two-writers",
            "oracle-live",
            "other-kernel",
            "unaudited-kernel",
            "reload",
            "reload-while-switching",
            "unload-keeps-types",
            "processors-go",
            "driver-goes",
            "device-goes",
            "function-reset",
            "crowd",
            "vfio-takes",
            "suspends",
            "no-memory",
            "leaks",
        ],
        ..ORDINARY
    },
    Kind {
        name: "concerns",
        purpose: "a kernel with checks and hold points, and the five concerns of 2021",
        suite: Suite::TestFull,
        flavour: Flavour::Debug(Watch::Checks),
        scenarios: &[
            "flag-without-queue",
            "barrier-while-deferred",
            "race-with-itself",
            "no-memory",
            "mode-not-atomic",
        ],
        ..ORDINARY
    },
    Kind {
        name: "tasks",
        purpose: "a kernel with checks, disks whose unmaps are done by tasks",
        suite: Suite::TestFull,
        flavour: Flavour::Debug(Watch::Checks),
        command_line: &[
            "intel_iommu=on",
            "iommu.strict=0",
            "nvme.poll_queues=2",
            "nvme.use_threaded_interrupts=1",
        ],
        scenarios: &["polled", "threaded"],
        ..ORDINARY
    },
    Kind {
        name: "trips",
        purpose: "a kernel with checks, a great many round trips beside loads that never sleep",
        suite: Suite::TestFull,
        flavour: Flavour::Debug(Watch::Checks),
        command_line: POLLED,
        scenarios: &["loads", "while-cleaning-up", "late-soak", "many-trips"],
        ..ORDINARY
    },
    Kind {
        name: "soak",
        purpose: "a kernel with checks, and twenty-four disks",
        suite: Suite::TestFull,
        flavour: Flavour::Debug(Watch::Checks),
        command_line: MANY,
        extra: Extra::Disks,
        scenarios: &["soak", "leaks"],
        ..ORDINARY
    },
    Kind {
        name: "races",
        purpose: "a kernel that watches for data races",
        suite: Suite::TestFull,
        flavour: Flavour::Debug(Watch::Races),
        scenarios: &[
            "switch",
            "oracle-live",
            "reload-while-switching",
            "processors-go",
            "driver-goes",
            "device-goes",
            "crowd",
        ],
        ..ORDINARY
    },
    Kind {
        name: "realtime",
        purpose: "a kernel with checks, whose spin locks sleep",
        suite: Suite::TestFull,
        flavour: Flavour::Debug(Watch::Realtime),
        scenarios: &[
            "asleep-at-the-ring",
            "stragglers",
            "across-each-wait",
            "final-flush",
            "switch",
            "several",
            "two-writers",
            "oracle-live",
            "reload-while-switching",
            "processors-go",
            "driver-goes",
            "device-goes",
            "crowd",
            "leaks",
        ],
        ..ORDINARY
    },
    Kind {
        name: "arm",
        purpose: "a stock arm64 kernel without the module",
        with_module: false,
        scenarios: &["inventory", "without-module", "oracle-stock", "errors"],
        ..ARM
    },
    Kind {
        name: "arm-strict",
        purpose: "a stock arm64 kernel that starts as Debian has it: strict",
        with_module: false,
        command_line: &[],
        scenarios: &["oracle-strict-boot"],
        ..ARM
    },
    Kind {
        name: "arm-module",
        purpose: "a stock arm64 kernel with the module, and all that is not about one architecture",
        scenarios: &[
            "raw-write",
            "several",
            "reports",
            "denied",
            "two-writers",
            "policy",
            "lockdown",
            "reload-while-switching",
            "unload-keeps-types",
            "processors-go",
            "driver-goes",
            "device-goes",
            "crowd",
        ],
        ..ARM
    },
    Kind {
        name: "bench",
        purpose: "figures: what a switch costs those who use a disk, and what it costs a map",
        suite: Suite::Neither,
        // The writer is in the reader's way, if it is in anybody's.
        processors: 1,
        clock: Clock::Instructions,
        scenarios: &["figures-strict", "figures-gaps", "figures-costs"],
        ..ORDINARY
    },
    Kind {
        name: "bench-kernel",
        purpose: "figures: what the kernel's own benchmark says of maps, which the distribution's kernel has not got",
        suite: Suite::Neither,
        flavour: Flavour::Debug(Watch::Nothing),
        processors: 1,
        clock: Clock::Instructions,
        scenarios: &["figures-kernel-map"],
        ..ORDINARY
    },
    Kind {
        name: "bench-many",
        purpose: "figures: what two hundred and fifty-six groups cost",
        suite: Suite::Neither,
        clock: Clock::Instructions,
        command_line: MANY_PORTS,
        extra: Extra::MostDisks,
        scenarios: &["figures-many"],
        ..ORDINARY
    },
    Kind {
        name: "demo",
        purpose: "the demo",
        suite: Suite::Neither,
        scenarios: &["demo"],
        ..ORDINARY
    },
];

impl Kind {
    /// All that it runs.
    pub fn all_scenarios(&self) -> Vec<String> {
        let names = self.scenarios.iter();
        names.map(|name| (*name).to_owned()).collect()
    }
}

/// Every kind of machine.
pub fn all() -> impl Iterator<Item = &'static Kind> {
    KINDS.iter().chain(CELLS.iter().map(|cell| &cell.machine))
}

/// The kind with this name.
///
/// # Errors
/// When there is none: the message lists those there are.
pub fn kind(name: &str) -> Result<&'static Kind> {
    let names: Vec<_> = all().map(|kind| kind.name).collect();
    let found = all().find(|kind| kind.name == name);
    found.with_context(|| {
        format!(
            "no machine is called `{name}`; there are: {}",
            names.join(", ")
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_different_and_lead_to_their_kind() {
        for one in all() {
            assert!(std::ptr::eq(
                kind(one.name).unwrap(),
                kind(one.name).unwrap()
            ));
            assert_eq!(all().filter(|other| other.name == one.name).count(), 1);
        }
        assert!(kind("none")
            .unwrap_err()
            .to_string()
            .contains("plain, module"));
    }
}
