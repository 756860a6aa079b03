// SPDX-License-Identifier: GPL-2.0-only

//! Is the running kernel's code the code that was audited?
//!
//! The switch relies on what private functions of the kernel do, not only on where they keep their
//! fields ([`crate::btf_check`]). `audited.txt` has the hashes of those that were read, by kernel
//! series; `auditgen` compares the source of the kernel that this is built for, where the source
//! is to be had. What came out is built in.
//!
//! That source and running kernel belong together is for whoever gives the source to the build
//! (packages of one version); that the running kernel is the one this was built for is checked.

use core::ffi::CStr;
use kernel::bindings;
use kernel::prelude::*;

include!("audit_generated.rs");

extern "C" {
    fn iommu_live_unaudited_allowed() -> bool;
    fn iommu_live_kernel_is_livepatched() -> bool;
}

/// What is known of the kernel that this was built for.
#[allow(dead_code, reason = "one of them is made, by auditgen")]
#[derive(Clone, Copy, PartialEq, Eq)]
enum Level {
    /// What was audited is in its source as it was.
    Audited,
    /// Its series was audited; its source was not compared.
    Series,
    /// Its series was audited, and its source differs.
    Different,
    /// Its series was not audited.
    Unknown,
}

/// The same for `modinfo`: `audit=WORD: SENTENCE`.
#[used]
#[link_section = ".modinfo"]
static IN_MODINFO: [u8; INFORMATION.len()] = INFORMATION;

/// What `/sys/kernel/iommu_live/audit` reads.
pub(crate) fn word() -> &'static CStr {
    match LEVEL {
        Level::Audited => c"audited",
        Level::Series => c"series",
        // It would not have been loaded otherwise.
        Level::Different | Level::Unknown => c"override",
    }
}

/// Whether the kernel's code is what it was when it was built; why not, if it is not. Asked before
/// each switch: a patch can come at any time.
///
/// # Errors
///
/// The reason, for the kernel log.
pub(crate) fn may_switch() -> Result<(), &'static str> {
    // SAFETY: It looks at a word of the kernel's.
    if unsafe { iommu_live_kernel_is_livepatched() } {
        return Err("this kernel was livepatched: its code is not what it was built with");
    }
    Ok(())
}

/// What those get who are refused.
pub(crate) fn refused() -> Error {
    // The `kernel` crate of 7.2 has no name for it.
    Error::from_errno(-(bindings::EOPNOTSUPP as i32))
}

/// Refuses a kernel whose code was not audited, unless the administrator said otherwise, and one
/// that was livepatched. Says what it relies on.
///
/// # Errors
///
/// `EOPNOTSUPP`, with the reason in the kernel log.
pub(crate) fn check() -> Result {
    if let Err(reason) = may_switch() {
        pr_err!("{}\n", reason);
        return Err(refused());
    }
    match LEVEL {
        Level::Audited => pr_info!("{}\n", SENTENCE),
        Level::Series => pr_notice!("{}\n", SENTENCE),
        // SAFETY: It looks at the module's parameter.
        Level::Different | Level::Unknown if unsafe { iommu_live_unaudited_allowed() } => {
            pr_warn!(
                "{}; it switches all the same, as allow_unaudited=1 says\n",
                SENTENCE
            );
        }
        Level::Different | Level::Unknown => {
            pr_err!(
                "{}; to switch all the same, load it with allow_unaudited=1\n",
                SENTENCE
            );
            return Err(refused());
        }
    }
    Ok(())
}
