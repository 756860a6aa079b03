// SPDX-License-Identifier: GPL-2.0-only

//! Finds sysfs files inside the kernel, where no mount namespace or chroot can put others in
//! their place.

use core::{
    ffi::{c_void, CStr},
    ptr::{null, NonNull},
};
use kernel::bindings;
use kernel::prelude::*;

const KERNFS_FILE: u16 = 0x0002;

/// A kernfs node.
///
/// # Invariants
///
/// The node is referenced.
pub(crate) struct Node(NonNull<bindings::kernfs_node>);

impl Node {
    /// The child `name` of `/sys/kernel`.
    pub(crate) fn in_sys_kernel(name: &CStr) -> Option<Self> {
        // SAFETY: `kernel_kobj` is `/sys/kernel`, a directory as long as the kernel runs.
        unsafe { Self::find((*bindings::kernel_kobj).sd, name) }
    }

    /// The child `name` of this directory; `None` for a file.
    pub(crate) fn child(&self, name: &CStr) -> Option<Self> {
        // SAFETY: Referenced by the type invariant.
        unsafe { Self::find(self.0.as_ptr(), name) }
    }

    /// # Safety
    ///
    /// `parent` stays for the call.
    unsafe fn find(parent: *mut bindings::kernfs_node, name: &CStr) -> Option<Self> {
        const KERNFS_DIR: u16 = 0x0001;
        // SAFETY: The node stays by this function's requirements, and the name is a
        // NUL-terminated string. Other bits of `flags` change, those of the type do not.
        let node = unsafe {
            if (&raw const (*parent).flags).read_volatile() & KERNFS_DIR == 0 {
                return None;
            }
            bindings::kernfs_find_and_get_ns(parent, name.as_char_ptr(), null())
        };
        // INVARIANT: Returned referenced.
        NonNull::new(node).map(Self)
    }

    /// What sysfs keeps with a file: its `struct attribute`, or the `struct bin_attribute` that
    /// begins with one. `None` if this is not a file, or the attribute is not called `name`.
    pub(crate) fn attribute(&self, name: &CStr) -> Option<NonNull<c_void>> {
        let node = self.0.as_ptr();
        // SAFETY: Referenced by the type invariant. Other bits of `flags` change, those of the
        // type do not, and neither does `priv`.
        let (flags, attribute) =
            unsafe { ((&raw const (*node).flags).read_volatile(), (*node).priv_) };
        if flags & KERNFS_FILE == 0 {
            return None;
        }
        let attribute = NonNull::new(attribute)?;
        // SAFETY: `priv` of a sysfs file points to its attribute, whose name is a static string.
        let found = unsafe {
            let name = attribute.cast::<bindings::attribute>().as_ref().name;
            CStr::from_char_ptr(name)
        };
        (found == name).then_some(attribute)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // SAFETY: Referenced by the type invariant.
        unsafe { bindings::kernfs_put(self.0.as_ptr()) };
    }
}
