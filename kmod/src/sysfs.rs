// SPDX-License-Identifier: GPL-2.0-only

//! `/sys/kernel/iommu_live/`: one value per file, read-only.

use crate::{drivers, report};
use core::{
    cell::UnsafeCell,
    ffi::{c_void, CStr},
    ptr::{null, NonNull},
};
use kernel::prelude::*;
use kernel::{bindings, ffi::c_char};

// Only pointers to the structures with those are passed on; kernels with lockdep have no empty
// ones.
#[allow(
    improper_ctypes,
    reason = "structures of the kernel that are empty in C"
)]
extern "C" {
    /// From `helpers.c`, NUL-terminated.
    static iommu_live_version: c_char;
    /// `attribute` is a `struct kobj_attribute`. bindgen's name of the member depends on the
    /// kernel: since 7.3 it is in an anonymous union.
    fn iommu_live_set_show(attribute: *mut c_void, show: Show);
}

type Show = unsafe extern "C" fn(
    *mut bindings::kobject,
    *mut bindings::kobj_attribute,
    *mut c_char,
) -> isize;

const COUNTERS: usize = report::COUNTERS.len();
const VERSION: usize = COUNTERS;
const DRIVERS: usize = COUNTERS + 1;
const FILES: usize = COUNTERS + 2;

/// The attributes of the directory.
///
/// # Invariants
///
/// Written by [`Directory::create`] alone, before sysfs knows them, and there is one directory.
struct Files {
    attributes: UnsafeCell<[bindings::kobj_attribute; FILES]>,
}

// SAFETY: By the type invariant nobody reads while they are written; their pointers are to static
// strings and to a function.
unsafe impl Sync for Files {}

impl Files {
    fn attribute(&self, index: usize) -> *mut bindings::kobj_attribute {
        let first: *mut bindings::kobj_attribute = self.attributes.get().cast();
        first.wrapping_add(index)
    }
}

#[expect(clippy::disallowed_methods, reason = "as_char_ptr() is not const")]
const fn attribute(name: &'static CStr) -> bindings::kobj_attribute {
    // SAFETY: All fields are integers or pointers that may be null.
    let mut attribute: bindings::kobj_attribute = unsafe { core::mem::zeroed() };
    attribute.attr.name = name.as_ptr().cast();
    attribute.attr.mode = 0o444;
    attribute
}

static FILES_TABLE: Files = Files {
    attributes: UnsafeCell::new({
        let mut attributes = [const { attribute(c"") }; FILES];
        let mut index = 0;
        while index < COUNTERS {
            attributes[index] = attribute(report::COUNTERS[index].name);
            index += 1;
        }
        attributes[VERSION] = attribute(c"version");
        attributes[DRIVERS] = attribute(c"drivers");
        attributes
    }),
};

/// Shows any of the files.
///
/// # Safety
///
/// Called as `kobj_attribute::show` for an attribute of [`FILES_TABLE`]; `buf` is a page.
unsafe extern "C" fn show(
    _kobject: *mut bindings::kobject,
    attr: *mut bindings::kobj_attribute,
    buf: *mut c_char,
) -> isize {
    let Some(index) = (0..FILES).find(|index| FILES_TABLE.attribute(*index) == attr) else {
        return 0;
    };
    let written = if let Some(counter) = report::COUNTERS.get(index) {
        // SAFETY: `buf` is a page, the format matches the argument.
        unsafe { bindings::sysfs_emit(buf, c"%llu\n".as_char_ptr(), counter.get()) }
    } else if index == VERSION {
        // SAFETY: As above.
        unsafe {
            let version: *const c_char = &raw const iommu_live_version;
            bindings::sysfs_emit(buf, c"%s\n".as_char_ptr(), version)
        }
    } else {
        let mut at = 0;
        for driver in drivers::ALL {
            let separator = if at == 0 { c"%.*s" } else { c" %.*s" };
            // SAFETY: `at` is within the page; the format takes a length and a pointer.
            at += unsafe {
                bindings::sysfs_emit_at(
                    buf,
                    at,
                    separator.as_char_ptr(),
                    driver.name.len() as i32,
                    driver.name.as_ptr(),
                )
            };
        }
        // SAFETY: As above.
        at + unsafe { bindings::sysfs_emit_at(buf, at, c"\n".as_char_ptr()) }
    };
    written as isize
}

/// The directory, removed with its files when dropped.
///
/// # Invariants
///
/// The kobject is registered and the reference is ours.
pub(crate) struct Directory(NonNull<bindings::kobject>);

// SAFETY: A kobject may be put from any thread.
unsafe impl Send for Directory {}
// SAFETY: Nothing is done through a shared reference.
unsafe impl Sync for Directory {}

impl Directory {
    /// Makes `/sys/kernel/iommu_live` and its files.
    ///
    /// # Errors
    ///
    /// `ENOMEM`, or what sysfs answers.
    pub(crate) fn create() -> Result<Self> {
        // SAFETY: `kernel_kobj` is `/sys/kernel`.
        let kobject = unsafe {
            bindings::kobject_create_and_add(c"iommu_live".as_char_ptr(), bindings::kernel_kobj)
        };
        // INVARIANT: Just made.
        let directory = Self(NonNull::new(kobject).ok_or(ENOMEM)?);
        let mut list: [*const bindings::attribute; FILES + 1] = [null(); FILES + 1];
        for (index, slot) in list.iter_mut().take(FILES).enumerate() {
            let attribute = FILES_TABLE.attribute(index);
            // SAFETY: An element of the table. sysfs does not know it yet, so nobody else reads or
            // writes it.
            unsafe {
                iommu_live_set_show(attribute.cast(), show);
                *slot = &raw const (*attribute).attr;
            }
        }
        // SAFETY: The kobject is registered by the type invariant; the list ends with NULL and its
        // attributes are static. sysfs does not keep the list.
        let error = unsafe { bindings::sysfs_create_files(directory.0.as_ptr(), list.as_ptr()) };
        if error != 0 {
            return Err(Error::from_errno(error));
        }
        Ok(directory)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        // SAFETY: Ours by the type invariant. Deleting removes the files and waits for their
        // readers, so `show` is not running when the module goes, whoever else may still hold
        // the kobject.
        unsafe {
            bindings::kobject_del(self.0.as_ptr());
            bindings::kobject_put(self.0.as_ptr());
        }
    }
}
