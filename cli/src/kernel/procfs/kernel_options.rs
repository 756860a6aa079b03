// SPDX-License-Identifier: GPL-2.0-only
//! The kernel's options for IOMMUs: from its command line (`Documentation/admin-guide/kernel-parameters.txt`) and its build
//! configuration (`drivers/iommu/Kconfig`).

use std::fs::File;
use std::io::Read;
use std::path::PathBuf;

use flate2::read::GzDecoder;
use iommuctl_policy::DomainType;

use super::{Proc, LARGE_FILE_LIMIT};
use crate::sys::kernfs::KernFsError;

/// The parameters that affect IOMMU groups and their types.
const PARAMETERS: [&str; 6] = [
    "iommu",
    "iommu.passthrough",
    "iommu.strict",
    "intel_iommu",
    "amd_iommu",
    "iommu.forcedac",
];

/// The bit of `/proc/sys/kernel/tainted` that is set once a live patch was applied, and stays
/// (`Documentation/admin-guide/tainted-kernels.rst`).
const LIVEPATCHED: u64 = 1 << 15;

/// The kernel, as far as IOMMUs are concerned.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kernel {
    /// Its release, as `uname -r` says it.
    pub release: Option<String>,
    /// The parameters on its command line that have to do with IOMMUs, in their order.
    pub parameters: Vec<String>,
    /// The default type it requests; `None` if neither command line nor configuration sets one.
    pub default: Option<KernelDefault>,
    /// The build option for the default type; `None` if its configuration is not readable.
    pub built_in: Option<String>,
    /// The vendor of the processor, as in `/proc/cpuinfo`; only x86 has it.
    pub cpu_vendor: Option<String>,
    /// Whether a hypervisor says that this is a virtual machine; only x86 has it.
    pub virtual_machine: bool,
    /// Whether its code was patched since it was booted.
    pub livepatched: bool,
}

/// The type that a group starts with, unless the IOMMU driver or a device requires another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelDefault {
    /// The type.
    pub domain_type: DomainType,
    /// The parameter or the configuration option that sets it.
    pub source: String,
}

impl Proc {
    /// Reads everything in [`Kernel`]. Whatever cannot be read is left out.
    #[must_use]
    pub fn kernel(&self) -> Kernel {
        let text = |path| self.tree.text(path).ok().flatten();
        let release = text("sys/kernel/osrelease");
        let parameters = parameters(&text("cmdline").unwrap_or_default());
        let config = self.kernel_config(release.as_deref());
        let cpuinfo = self.tree.bytes("cpuinfo", LARGE_FILE_LIMIT).ok().flatten();
        let cpuinfo = String::from_utf8_lossy(&cpuinfo.unwrap_or_default()).into_owned();
        let flags = cpu_line(&cpuinfo, "flags").unwrap_or_default();
        Kernel {
            default: default_type(&parameters, config.as_deref()),
            built_in: config
                .as_deref()
                .and_then(built_in_type)
                .map(|(_, option)| option.to_owned()),
            cpu_vendor: cpu_line(&cpuinfo, "vendor_id").map(str::to_owned),
            virtual_machine: flags.split_ascii_whitespace().any(|f| f == "hypervisor"),
            livepatched: text("sys/kernel/tainted")
                .and_then(|tainted| tainted.parse::<u64>().ok())
                .is_some_and(|tainted| tainted & LIVEPATCHED != 0),
            release,
            parameters,
        }
    }

    /// The command line of the running kernel.
    pub fn command_line(&self) -> Result<String, KernFsError> {
        Ok(self.tree.text("cmdline")?.unwrap_or_default())
    }

    /// The configuration the kernel was built with; `None` if it is not readable.
    #[must_use]
    pub fn configuration(&self) -> Option<String> {
        let release = self.tree.text("sys/kernel/osrelease").ok().flatten();
        self.kernel_config(release.as_deref())
    }

    /// The configuration the kernel was built with, from `/proc/config.gz` or `/boot/config-RELEASE`.
    fn kernel_config(&self, release: Option<&str>) -> Option<String> {
        let mut config = String::new();
        let limit = u64::try_from(LARGE_FILE_LIMIT).ok()?;
        if let Some(bytes) = self.tree.bytes("config.gz", LARGE_FILE_LIMIT).ok()? {
            let mut unpacked = GzDecoder::new(bytes.as_slice()).take(limit);
            unpacked.read_to_string(&mut config).ok()?;
            return Some(config);
        }
        // Skip /boot for a test tree: it belongs to the running system.
        let release = release.filter(|r| self.real && !r.contains('/'))?;
        let path = PathBuf::from("/boot").join(format!("config-{release}"));
        let mut file = File::open(path).ok()?.take(limit);
        file.read_to_string(&mut config).ok()?;
        Some(config)
    }
}

/// The value of `name` in `/proc/cpuinfo`, for the first processor.
fn cpu_line<'a>(cpuinfo: &'a str, name: &str) -> Option<&'a str> {
    let mut fields = cpuinfo.lines().filter_map(|line| line.split_once(':'));
    let (_, value) = fields.find(|(field, _)| field.trim() == name)?;
    Some(value.trim())
}

/// The words of `cmdline` that set one of [`PARAMETERS`].
fn parameters(cmdline: &str) -> Vec<String> {
    let wanted = |word: &&str| PARAMETERS.contains(&word.split('=').next().unwrap_or_default());
    let words = cmdline.split_ascii_whitespace().filter(wanted);
    words.map(str::to_owned).collect()
}

/// Parses a boolean like `kstrtobool` in `lib/kstrtox.c`.
fn boolean(text: &str) -> Option<bool> {
    let lower = text.to_ascii_lowercase();
    if lower.starts_with(['y', 't', '1']) || lower.starts_with("on") {
        Some(true)
    } else if lower.starts_with(['n', 'f', '0']) || lower.starts_with("of") {
        Some(false)
    } else {
        None
    }
}

/// The default type and its source, from the settings for passthrough and strictness. Of several parameters for one setting,
/// the last wins.
fn default_type(parameters: &[String], config: Option<&str>) -> Option<KernelDefault> {
    let mut passthrough = None;
    let mut strict = None;
    for word in parameters {
        let (name, value) = word.split_once('=').unwrap_or((word, ""));
        let options: Vec<&str> = value.split(',').collect();
        match name {
            "iommu.passthrough" => passthrough = boolean(value).map(|b| (b, word)).or(passthrough),
            "iommu.strict" => strict = boolean(value).map(|b| (b, word)).or(strict),
            // x86 only, but no other architecture gives these words another meaning.
            "iommu" if options.contains(&"pt") => passthrough = Some((true, word)),
            "iommu" if options.contains(&"nopt") => passthrough = Some((false, word)),
            "intel_iommu" if options.contains(&"strict") => strict = Some((true, word)),
            "amd_iommu" if options.contains(&"fullflush") => strict = Some((true, word)),
            _ => {}
        }
    }
    let built = config.and_then(built_in_type);
    let says = |domain_type, source: &str| {
        let source = source.to_owned();
        Some(KernelDefault {
            domain_type,
            source,
        })
    };
    let built_passthrough = matches!(&built, Some((DomainType::Identity, _)));
    match (passthrough, strict, built) {
        (Some((true, word)), _, _) => says(DomainType::Identity, word),
        (None, _, Some((DomainType::Identity, option))) => says(DomainType::Identity, option),
        (_, Some((true, word)), _) => says(DomainType::Dma, word),
        (_, Some((false, word)), _) => says(DomainType::DmaFq, word),
        // Passthrough is the build default and was switched off: translated, and lazy unless set otherwise.
        (Some((false, word)), None, _) if built_passthrough => says(DomainType::DmaFq, word),
        (_, None, Some((domain_type, option))) => says(domain_type, option),
        (_, None, None) => None,
    }
}

/// The default that was chosen when the kernel was built (`drivers/iommu/Kconfig`), and the option that says so.
fn built_in_type(config: &str) -> Option<(DomainType, &'static str)> {
    let options = [
        (DomainType::Identity, "CONFIG_IOMMU_DEFAULT_PASSTHROUGH=y"),
        (DomainType::Dma, "CONFIG_IOMMU_DEFAULT_DMA_STRICT=y"),
        (DomainType::DmaFq, "CONFIG_IOMMU_DEFAULT_DMA_LAZY=y"),
    ];
    options
        .into_iter()
        .find(|(_, option)| config.lines().any(|line| line == *option))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAZY: &str = "CONFIG_X=y\nCONFIG_IOMMU_DEFAULT_DMA_LAZY=y\n";
    const PASSTHROUGH: &str = "CONFIG_IOMMU_DEFAULT_PASSTHROUGH=y\n";

    fn decided(cmdline: &str, config: Option<&str>) -> Option<(DomainType, String)> {
        default_type(&parameters(cmdline), config).map(|d| (d.domain_type, d.source))
    }

    #[test]
    fn command_line_wins_over_configuration() {
        let case = |cmdline, config, wanted: DomainType, source: &str| {
            assert_eq!(decided(cmdline, config), Some((wanted, source.to_owned())));
        };
        case(
            "quiet",
            Some(LAZY),
            DomainType::DmaFq,
            "CONFIG_IOMMU_DEFAULT_DMA_LAZY=y",
        );
        case(
            "iommu.strict=1",
            Some(LAZY),
            DomainType::Dma,
            "iommu.strict=1",
        );
        case(
            "iommu.strict=1 iommu.strict=0",
            None,
            DomainType::DmaFq,
            "iommu.strict=0",
        );
        case(
            "intel_iommu=on,strict",
            Some(LAZY),
            DomainType::Dma,
            "intel_iommu=on,strict",
        );
        case(
            "iommu=pt iommu.strict=1",
            None,
            DomainType::Identity,
            "iommu=pt",
        );
        case(
            "iommu.passthrough=off",
            Some(PASSTHROUGH),
            DomainType::DmaFq,
            "iommu.passthrough=off",
        );
        assert_eq!(decided("quiet iommu.strict=perhaps", None), None);
    }

    #[test]
    fn only_iommu_parameters_are_shown() {
        let found = parameters("BOOT_IMAGE=/vmlinuz root=/dev/sda1 intel_iommu=on iommufd.x=1");
        assert_eq!(found, ["intel_iommu=on"]);
    }
}
