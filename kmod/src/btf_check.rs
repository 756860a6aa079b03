// SPDX-License-Identifier: GPL-2.0-only

//! Is the running kernel the one `layout` was generated from?
//!
//! `vermagic` compares release strings and a few options; private structures can differ under
//! the same release. The running kernel's own BTF cannot. It is found in the kernel itself, not
//! through a path, which a chroot or a mount could point elsewhere.

use crate::{kernfs::Node, layout, symbol};
use core::ffi::c_void;
use kernel::bindings;
use kernel::prelude::*;

/// The BTF of the running kernel: what `/sys/kernel/btf/vmlinux` shows
/// (`kernel/bpf/sysfs_btf.c`).
fn running_btf() -> Option<&'static [u8]> {
    let attribute = Node::in_sys_kernel(c"btf")?
        .child(c"vmlinux")?
        .attribute(c"vmlinux")?;
    // SAFETY: Files under `/sys/kernel/btf` are binary attributes; that of `vmlinux` is static.
    let attribute = unsafe { attribute.cast::<bindings::bin_attribute>().as_ref() };
    // Its read function says that `private` and `size` are memory and its length.
    let read = attribute.read?;
    if !symbol::is(read as *const c_void, "sysfs_bin_attr_simple_read")
        || attribute.private.is_null()
    {
        return None;
    }
    // SAFETY: The kernel's BTF, constant memory of its image, from `__start_BTF` to `__stop_BTF`.
    Some(unsafe { core::slice::from_raw_parts(attribute.private.cast(), attribute.size) })
}

/// 64-bit FNV-1a, as `layoutgen` computes it.
fn hash(data: &[u8]) -> u64 {
    data.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// Refuses a kernel other than the one this was built for.
///
/// # Errors
///
/// `ENOEXEC`, with the reason in the kernel log.
pub(crate) fn check() -> Result {
    let Some(btf) = running_btf() else {
        pr_err!("this kernel has no BTF to check its layouts by\n");
        return Err(ENOEXEC);
    };
    let (length, hash) = (btf.len() as u64, hash(btf));
    if (length, hash) != (layout::BTF_LEN, layout::BTF_HASH) {
        pr_err!(
            "built for another kernel (BTF {:#x} of {} bytes, running {:#x} of {}): build it for this one\n",
            layout::BTF_HASH,
            layout::BTF_LEN,
            hash,
            length
        );
        return Err(ENOEXEC);
    }
    Ok(())
}
