// SPDX-License-Identifier: GPL-2.0-only
//! A device in the hands of a user-space driver, by way of `vfio-pci`.

use std::fs::{File, OpenOptions};
use std::os::fd::AsRawFd as _;

use anyhow::{Context as _, Result};
use nix::libc::c_int;

use super::{modules, pci};

/// `include/uapi/linux/vfio.h`: `VFIO_TYPE1v2_IOMMU`.
const TYPE1_V2: c_int = 3;

mod ioctl {
    use nix::libc::c_int;
    use nix::{ioctl_write_int_bad, ioctl_write_ptr_bad, request_code_none};

    ioctl_write_int_bad!(
        /// `VFIO_SET_IOMMU`
        set_iommu,
        request_code_none!(b';', 102)
    );
    ioctl_write_ptr_bad!(
        /// `VFIO_GROUP_SET_CONTAINER`
        set_container,
        request_code_none!(b';', 104),
        c_int
    );
}

/// Gives the device at `address` to `vfio-pci`.
///
/// # Errors
/// When it does not let go of its driver, or `vfio-pci` does not take it.
pub fn bind(address: &str) -> Result<()> {
    modules::load_stock("demand", "vfio_iommu_type1")?;
    modules::load_stock("demand", "vfio_pci")?;
    pci::rebind(address, "vfio-pci")
}

/// Gives it back to the driver it belongs to.
///
/// # Errors
/// When that driver does not take it.
pub fn unbind(address: &str) -> Result<()> {
    pci::rebind(address, "")
}

/// A group that user space owns: its devices are in a domain of user space until this is dropped.
#[derive(Debug)]
pub struct Owned {
    /// Leaves the container before that is closed.
    _group: File,
    _container: File,
}

impl Owned {
    /// Takes the group.
    ///
    /// # Errors
    /// When the kernel does not give it.
    pub fn take(group: u32) -> Result<Self> {
        let open = |path: String| {
            let file = OpenOptions::new().read(true).write(true).open(&path);
            file.with_context(|| format!("cannot open {path}"))
        };
        let container = open("/dev/vfio/vfio".into())?;
        let group = open(format!("/dev/vfio/{group}"))?;
        let number = container.as_raw_fd();
        // SAFETY: the group's descriptor is open, and the kernel reads one int from where the pointer leads.
        #[expect(unsafe_code, reason = "an ioctl")]
        unsafe { ioctl::set_container(group.as_raw_fd(), &number) }
            .context("the group does not go into the container")?;
        // SAFETY: the container's descriptor is open, and the argument is a number.
        #[expect(unsafe_code, reason = "an ioctl")]
        unsafe { ioctl::set_iommu(container.as_raw_fd(), TYPE1_V2) }
            .context("the container takes no IOMMU")?;
        Ok(Self {
            _group: group,
            _container: container,
        })
    }
}
