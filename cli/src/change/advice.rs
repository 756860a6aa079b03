// SPDX-License-Identifier: GPL-2.0-only
//! Explains failures, and advises what would work instead, from raw errnos and facts alone.
//!
//! Uses errnos and not `std::io::ErrorKind`: the standard library maps EPERM and EACCES to one kind, and the kernel means
//! different things by them.

use iommuctl_policy::{DomainType, Group, TypeRequest};
use nix::errno::Errno;

use crate::kernel::procfs::Capabilities;

/// The requirement for the `type` attribute.
pub const NEEDS_TYPE_FILE: &str =
    "the type can be read and changed from Linux 5.11 on; this kernel is older, or the file could not be read";

/// The message for a group that no longer exists.
pub const VANISHED: &str = "it has vanished: its devices were removed";

/// How a failed write counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureKind {
    /// The kernel or the module forbids it.
    Refused,
    /// It failed.
    Failed,
}

/// The explanation of a failed write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// How it counts.
    pub kind: FailureKind,
    /// What happened.
    pub message: String,
    /// What would work instead, one line each.
    pub advice: Vec<String>,
}

/// The facts at the time of the failed write.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// The group, as it was just before the write.
    pub group: &'a Group,
    /// The requested type.
    pub request: TypeRequest,
    /// Whether the module is loaded.
    pub module: bool,
    /// The capabilities of the process; `None` if they are not known.
    pub capabilities: Option<Capabilities>,
}

/// The devices and drivers that keep the kernel from replacing the group's domain, such as `0000:01:00.0 (nvme)`.
#[must_use]
pub fn holders(group: &Group) -> String {
    let named = group.holders().map(|d| {
        format!(
            "{} ({})",
            d.name,
            d.driver.as_deref().unwrap_or("no driver")
        )
    });
    let named: Vec<String> = named.collect();
    if named.is_empty() {
        "no driver".to_owned()
    } else {
        named.join(", ")
    }
}

/// The hint that an interruption is not necessary.
pub const WORKS_LIVE: &str =
    "this change works without an interruption: leave out `--route rebind`";

/// The reason against the rebind that [`ways_to`] would advise.
#[must_use]
pub fn no_rebind(why: &str) -> String {
    format!("`set-mode --route rebind` would be refused as well: {why}")
}

/// Whether `line` advises a rebind.
#[must_use]
pub fn is_about_rebind(line: &str) -> bool {
    line == REBIND
}

/// The advice to rebind.
const REBIND: &str = "`set-mode --route rebind`, or `route: rebind` in a policy's rule, unbinds the drivers named above, \
                      writes the type and binds them again: it interrupts the devices, and is refused while something on \
                      them is in use";

const LOAD_MODULE: &str = "`modprobe iommu_live` makes this change live, then repeat the command";

/// The reason why a loaded module did not make the change.
const NOT_ON_THE_LIST: &str = "iommu_live is loaded and left this group to the kernel: its IOMMU driver is none of those that \
                               `iommuctl status` shows for the module";

/// The ways to change a group with bound drivers from `current` to `request`, one line each. `module`: whether it is loaded.
#[must_use]
pub fn ways_to(current: &DomainType, request: TypeRequest, module: bool) -> Vec<String> {
    let mut ways = Vec::new();
    if *current == DomainType::DmaFq && request == TypeRequest::Dma {
        let way = if module { NOT_ON_THE_LIST } else { LOAD_MODULE };
        ways.push(way.to_owned());
    }
    ways.push(REBIND.to_owned());
    let boot = match request {
        TypeRequest::Dma => Some("iommu.passthrough=0 iommu.strict=1"),
        TypeRequest::DmaFq => Some("iommu.passthrough=0 iommu.strict=0"),
        TypeRequest::Identity => Some("iommu.passthrough=1"),
        TypeRequest::Auto => None,
    };
    if let Some(parameters) = boot {
        ways.push(format!(
            "reboot with {parameters} on the kernel command line (every group then starts as {request}, unless its \
             devices or its IOMMU driver need another type)"
        ));
    }
    ways
}

/// Explains why opening or writing the `type` attribute failed with `errno`.
#[must_use]
pub fn explain(errno: Errno, facts: &Facts<'_>) -> Explanation {
    let failed = |message: String, advice: Vec<String>| Explanation {
        kind: FailureKind::Failed,
        message,
        advice,
    };
    match errno {
        Errno::EACCES => not_permitted(facts.capabilities),
        Errno::EPERM | Errno::EBUSY => in_use(errno, facts),
        Errno::EOPNOTSUPP if facts.module => Explanation {
            kind: FailureKind::Refused,
            message: format!(
                "iommu_live does not switch this group to {} live: its IOMMU driver is not on the module's list, or \
                 cannot defer flushes",
                facts.request
            ),
            advice: vec![
                "`iommuctl status` shows which IOMMU drivers the module handles".to_owned(),
                "the kernel log has the reason".to_owned(),
            ],
        },
        Errno::EINVAL => failed(
            format!(
                "the kernel rejected {}: it does not know the type (DMA-FQ needs Linux 5.15), the group has no default \
                 domain, or a device or IOMMU driver in it needs another type",
                facts.request
            ),
            vec!["the kernel log has the reason".to_owned()],
        ),
        Errno::EIO if facts.module => failed(
            "iommu_live has stopped switching: something that it relies on was not so".to_owned(),
            vec![
                "`iommuctl doctor` says what that means; until the next boot no group is switched live".to_owned(),
                "the kernel log has what was seen: report it".to_owned(),
            ],
        ),
        Errno::ENOENT | Errno::ENODEV => failed(
            VANISHED.to_owned(),
            vec!["`iommuctl list` shows the groups there are now".to_owned()],
        ),
        Errno::EROFS => failed(
            "sysfs is mounted read-only, as it is in most containers".to_owned(),
            vec!["run iommuctl outside the container".to_owned()],
        ),
        Errno::ENOMEM => failed("the kernel had no memory for it".to_owned(), Vec::new()),
        other => failed(
            format!("the kernel answered: {} ({other:?})", other.desc()),
            vec!["the kernel log may have the reason".to_owned()],
        ),
    }
}

/// Explains EACCES: the kernel requires two capabilities, and the file mode requires root.
#[must_use]
pub fn not_permitted(capabilities: Option<Capabilities>) -> Explanation {
    let missing = capabilities.map(Capabilities::missing).unwrap_or_default();
    let message = match missing.as_slice() {
        [] => "not permitted, although no capability is missing: the kernel asks for CAP_SYS_ADMIN and \
               CAP_SYS_RAWIO, and a security module may deny either"
            .to_owned(),
        [one] => format!("not permitted: {one} is missing (the kernel asks for both CAP_SYS_ADMIN and CAP_SYS_RAWIO)"),
        _ => "not permitted: changing a type takes root (CAP_SYS_ADMIN and CAP_SYS_RAWIO)".to_owned(),
    };
    let advice = if missing.len() > 1 {
        "run it as root, for example with sudo"
    } else {
        "in a container or a service, add the capability; under lockdown or SELinux, see the audit log"
    };
    Explanation {
        kind: FailureKind::Failed,
        message,
        advice: vec![advice.to_owned()],
    }
}

/// Explains EPERM and EBUSY: the kernel found the group empty or in use, or the module forbids the change.
fn in_use(errno: Errno, facts: &Facts<'_>) -> Explanation {
    let Facts { group, request, .. } = facts;
    let relax = group.domain_type == Some(DomainType::Dma) && *request == TypeRequest::DmaFq;
    let refused = |message: String, advice: Vec<String>| Explanation {
        kind: FailureKind::Refused,
        message,
        advice,
    };
    if facts.module && relax {
        return refused(
            "iommu_live does not relax this group: a device in it is untrusted".to_owned(),
            vec![
                "leave groups with external devices at DMA".to_owned(),
                "the kernel log has the reason".to_owned(),
            ],
        );
    }
    if group.devices.is_empty() {
        let message = "the group has no devices, and the kernel changes no empty group";
        return refused(message.to_owned(), Vec::new());
    }
    if group.holders().next().is_none() {
        return refused(
            format!(
                "the kernel says the group is in use ({errno:?}), although no driver of its own holds it: a virtual \
                 machine may have one of its devices open, or a driver was bound just now"
            ),
            vec!["stop what uses it, and repeat the command".to_owned()],
        );
    }
    let advice = match &group.domain_type {
        Some(current) => ways_to(current, *request, facts.module),
        None => vec!["the kernel log has the reason".to_owned()],
    };
    refused(
        format!(
            "the kernel refused: the group is in use by {}",
            holders(group)
        ),
        advice,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::group;

    fn explained(errno: Errno, current: &str, request: TypeRequest, module: bool) -> Explanation {
        let group = group(4, current, &[("0000:01:00.0", Some("nvme"))]);
        explain(
            errno,
            &Facts {
                group: &group,
                request,
                module,
                capabilities: Some(Capabilities::from_effective(u64::MAX)),
            },
        )
    }

    #[test]
    fn missing_capabilities_are_named() {
        let says = |bits| not_permitted(Some(Capabilities::from_effective(bits))).message;
        assert!(says(0).contains("takes root"));
        assert!(says(1 << 21).contains("CAP_SYS_RAWIO is missing"));
        assert!(says(1 << 17).contains("CAP_SYS_ADMIN is missing"));
        assert!(says(u64::MAX).contains("no capability is missing"));
    }

    #[test]
    fn eperm_without_the_module_names_driver_and_module() {
        let it = explained(Errno::EPERM, "DMA-FQ", TypeRequest::Dma, false);
        assert_eq!(it.kind, FailureKind::Refused);
        assert!(it.message.contains("0000:01:00.0 (nvme)"), "{}", it.message);
        assert!(it.advice.join("\n").contains("modprobe iommu_live"));
    }

    #[test]
    fn eperm_with_the_module_says_why_it_did_not_help() {
        let it = explained(Errno::EPERM, "DMA-FQ", TypeRequest::Dma, true);
        let advice = it.advice.join("\n");
        assert!(advice.contains("its IOMMU driver is none"), "{advice}");
        assert!(advice.contains("--route rebind") && !advice.contains("modprobe"));
    }

    #[test]
    fn eperm_from_the_module_on_relax_is_about_trust() {
        let it = explained(Errno::EPERM, "DMA", TypeRequest::DmaFq, true);
        assert_eq!(it.kind, FailureKind::Refused);
        assert!(it.message.contains("untrusted"));
        assert!(!it.advice.join("\n").contains("modprobe"));
    }

    #[test]
    fn each_errno_has_its_own_words() {
        let message = |errno| explained(errno, "DMA-FQ", TypeRequest::Dma, true).message;
        let all = [
            Errno::EACCES,
            Errno::EPERM,
            Errno::EOPNOTSUPP,
            Errno::EINVAL,
            Errno::ENODEV,
            Errno::EROFS,
            Errno::ENOMEM,
            Errno::EINTR,
        ];
        let messages: std::collections::BTreeSet<String> = all.map(message).into();
        assert_eq!(messages.len(), all.len());
        assert!(message(Errno::ENOENT).contains("vanished"));
        assert!(message(Errno::EINTR).contains("EINTR"));
        // The module answers so once it has tripped, and a stock kernel for a device that fails.
        assert!(message(Errno::EIO).contains("stopped switching"));
        let stock = explained(Errno::EIO, "DMA-FQ", TypeRequest::Dma, false);
        assert!(stock.message.contains("EIO"), "{}", stock.message);
    }
}
