// SPDX-License-Identifier: GPL-2.0-only
//! Whether there is an IOMMU, and what groups start as.

use std::env::consts::ARCH;

use iommuctl_policy::DomainType;

use super::finding::{Finding, Id};
use super::machine::{why, Machine};
use crate::config::boot_loader::Loader;
use crate::kernel::enable_iommu::switched_off;
use crate::kernel::procfs::Kernel;
use crate::kernel::sysfs::{by_driver, Problems};

/// Where the kernel shows the tables of the firmware (`Documentation/ABI/testing/sysfs-firmware-acpi`). Their names are for
/// everybody to see.
const TABLES: &str = "firmware/acpi/tables";

/// Why there is no IOMMU, as far as can be told.
#[derive(Debug, PartialEq, Eq)]
enum Off<'a> {
    /// This word on the kernel command line switches it off.
    Word(&'a str),
    /// The firmware describes none.
    NoTable(&'static [&'static str]),
    /// The kernel was built without this option.
    NotBuilt(&'static str),
    /// The kernel leaves it off unless this word is on its command line.
    NotAsked(&'static str),
    /// Something else.
    Unknown,
}

/// Whether an IOMMU is on, and if not, why not.
pub fn iommu(machine: &Machine<'_>) -> Finding {
    let groups = match &machine.inventory {
        Ok(inventory) => inventory.groups().len(),
        Err(error) => return Finding::unknown(Id::Iommu, why(error.errno(), error)),
    };
    let sysfs = &machine.context.sysfs;
    if groups > 0 {
        let found = by_driver(&sysfs.iommus(&mut Problems::default()));
        return Finding::ok(Id::Iommu, format!("on: {groups} groups; {found}"));
    }
    let tables = sysfs.kernfs().names(TABLES).ok().flatten();
    let config = machine.context.proc.configuration();
    let off = why_off(&machine.kernel, tables.as_deref(), config.as_deref(), ARCH);
    explain(machine, &off)
}

/// The tables in which firmware describes IOMMUs (`drivers/iommu/intel/dmar.c`, `drivers/iommu/amd/init.c`,
/// `drivers/acpi/arm64/iort.c`, `drivers/acpi/viot.c`); none where it may do so in another way.
fn tables_of(architecture: &str) -> &'static [&'static str] {
    match architecture {
        "x86_64" | "x86" => &["DMAR", "IVRS", "VIOT"],
        "aarch64" => &["IORT", "VIOT"],
        _ => &[],
    }
}

fn why_off<'a>(
    kernel: &'a Kernel,
    tables: Option<&[String]>,
    config: Option<&str>,
    architecture: &str,
) -> Off<'a> {
    if let Some(word) = switched_off(kernel) {
        return Off::Word(word);
    }
    let wanted = tables_of(architecture);
    let Some(tables) = tables.filter(|_| !wanted.is_empty()) else {
        return Off::Unknown;
    };
    let has = |name: &str| tables.iter().any(|t| t == name);
    if !wanted.iter().any(|name| has(name)) {
        return Off::NoTable(wanted);
    }
    let Some(config) = config else {
        return Off::Unknown;
    };
    let built = |option: &str| config.lines().any(|l| l.strip_suffix("=y") == Some(option));
    if has("DMAR") {
        let is_on = |word: &String| {
            let value = word.strip_prefix("intel_iommu=").unwrap_or_default();
            value.split(',').any(|v| v == "on")
        };
        let asked = kernel.parameters.iter().any(is_on);
        if !built("CONFIG_INTEL_IOMMU") {
            return Off::NotBuilt("CONFIG_INTEL_IOMMU");
        }
        if !built("CONFIG_INTEL_IOMMU_DEFAULT_ON") && !asked {
            return Off::NotAsked("intel_iommu=on");
        }
    }
    if has("IVRS") && !built("CONFIG_AMD_IOMMU") {
        return Off::NotBuilt("CONFIG_AMD_IOMMU");
    }
    Off::Unknown
}

fn explain(machine: &Machine<'_>, off: &Off<'_>) -> Finding {
    let bad = |text: String| Finding::bad(Id::Iommu, text);
    let loader = Loader::find(&machine.root).ok().flatten();
    match off {
        Off::Word(word) => bad(format!("off: {word} is on the kernel command line"))
            .fixes(command_line(loader.as_ref(), &Change::Remove(word))),
        Off::NotAsked(word) => bad(format!("off: the kernel leaves it off without {word}"))
            .fixes(command_line(loader.as_ref(), &Change::Add(word))),
        Off::NotBuilt(option) => bad(format!("off: the kernel was built without {option}"))
            .fix(format!("boot a kernel that has {option}=y")),
        Off::NoTable(tables) => {
            let text = format!("none: firmware has no table of one ({})", tables.join(", "));
            bad(text).fix(in_firmware(&machine.kernel))
        }
        Off::Unknown => bad("none, or it is off; why is not known".to_owned())
            .fixes(machine.context.how_to_enable_iommu()),
    }
}

/// Where the switch is that makes firmware describe an IOMMU.
fn in_firmware(kernel: &Kernel) -> &'static str {
    match kernel.cpu_vendor.as_deref() {
        _ if kernel.virtual_machine => {
            "have the hypervisor give this virtual machine an IOMMU (QEMU: -device intel-iommu)"
        }
        Some("GenuineIntel") => "switch VT-d on in the firmware setup",
        Some("AuthenticAMD" | "HygonGenuine") => "switch AMD-Vi (IOMMU) on in the firmware setup",
        _ => "switch the IOMMU on in the firmware setup",
    }
}

/// What is to be done about a word on the kernel command line.
enum Change<'a> {
    Add(&'a str),
    Remove(&'a str),
}

/// How the word comes onto the kernel command line or off it, here.
fn command_line(loader: Option<&Loader>, change: &Change<'_>) -> Vec<String> {
    let by_hand = |place: &str| match change {
        Change::Add(word) => format!("add {word} to {place}"),
        Change::Remove(word) => format!("take {word} out of {place}"),
    };
    let mut steps = match loader {
        Some(Loader::Grubby) => {
            let (option, word) = match change {
                Change::Add(word) => ("args", word),
                Change::Remove(word) => ("remove-args", word),
            };
            vec![format!("grubby --update-kernel=ALL --{option}={word}")]
        }
        Some(Loader::Grub) => vec![
            by_hand("GRUB_CMDLINE_LINUX in /etc/default/grub"),
            "update-grub".to_owned(),
        ],
        Some(Loader::KernelInstall(_)) => vec![
            by_hand("/etc/kernel/cmdline"),
            "kernel-install add-all".to_owned(),
        ],
        None => vec![by_hand("the kernel command line")],
    };
    steps.push("reboot".to_owned());
    steps
}

/// What groups start as, and why; nothing if there are none.
pub fn default_type(machine: &Machine<'_>) -> Option<Finding> {
    if !machine.has_groups() {
        return None;
    }
    let Some(default) = &machine.kernel.default else {
        let why = "no parameter says, and the kernel's configuration is not readable";
        return Some(Finding::unknown(Id::Default, why));
    };
    let mut text = format!(
        "groups start as {}, because of {}",
        default.domain_type, default.source
    );
    if machine.context.sysfs.platform_opt_in() == Some(true) {
        text += "; firmware asks for protection from external devices";
    }
    Some(match default.domain_type {
        DomainType::Identity => Finding::note(Id::Default, text + ": nothing is translated")
            .fix("iommuctl defaults set lazy"),
        _ => Finding::ok(Id::Default, text),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kernel(words: &[&str]) -> Kernel {
        Kernel {
            parameters: words.iter().map(|w| (*w).to_owned()).collect(),
            ..Kernel::default()
        }
    }

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|n| (*n).to_owned()).collect()
    }

    #[test]
    fn what_can_be_told_is_told_in_the_order_of_its_effect() {
        let on = "CONFIG_INTEL_IOMMU=y\nCONFIG_INTEL_IOMMU_DEFAULT_ON=y\nCONFIG_AMD_IOMMU=y\n";
        let lazy = "CONFIG_INTEL_IOMMU=y\n# CONFIG_INTEL_IOMMU_DEFAULT_ON is not set\n";
        let none = "CONFIG_X86=y\n";
        let case = |words: &[&str], tables: &[&str], config: Option<&str>, wanted: &Off<'_>| {
            let kernel = kernel(words);
            let tables = names(tables);
            let found = why_off(&kernel, Some(&tables), config, "x86_64");
            assert_eq!(&found, wanted, "{words:?} {tables:?} {config:?}");
        };
        let off = Off::Word("intel_iommu=off");
        case(&["intel_iommu=off"], &[], Some(on), &off);
        case(&["iommu=soft,off"], &[], None, &Off::Word("iommu=soft,off"));
        let x86 = tables_of("x86_64");
        case(&[], &["FACP"], Some(on), &Off::NoTable(x86));
        let asked = Off::NotAsked("intel_iommu=on");
        case(&[], &["DMAR"], Some(lazy), &asked);
        case(&["intel_iommu=sm_on"], &["DMAR"], Some(lazy), &asked);
        case(&["intel_iommu=on"], &["DMAR"], Some(lazy), &Off::Unknown);
        let intel = Off::NotBuilt("CONFIG_INTEL_IOMMU");
        case(&[], &["DMAR"], Some(none), &intel);
        case(
            &[],
            &["IVRS"],
            Some(none),
            &Off::NotBuilt("CONFIG_AMD_IOMMU"),
        );
        case(&[], &["IVRS"], Some(on), &Off::Unknown);
        case(&[], &["DMAR"], None, &Off::Unknown);
        let kernel = kernel(&[]);
        let no_acpi = why_off(&kernel, None, Some(on), "x86_64");
        assert_eq!(no_acpi, Off::Unknown);
        let riscv = why_off(&kernel, Some(&names(&[])), None, "riscv64");
        assert_eq!(riscv, Off::Unknown);
    }

    #[test]
    fn the_loaders_helper_is_named() {
        let steps = |loader: Option<&Loader>, change| command_line(loader, &change).join("; ");
        assert_eq!(
            steps(Some(&Loader::Grubby), Change::Remove("iommu=off")),
            "grubby --update-kernel=ALL --remove-args=iommu=off; reboot"
        );
        assert_eq!(
            steps(Some(&Loader::Grub), Change::Add("intel_iommu=on")),
            "add intel_iommu=on to GRUB_CMDLINE_LINUX in /etc/default/grub; update-grub; reboot"
        );
        let install = Loader::KernelInstall(String::new());
        assert!(steps(Some(&install), Change::Add("x")).contains("kernel-install add-all"));
        assert!(steps(None, Change::Remove("x")).contains("take x out of the kernel command line"));
    }
}
