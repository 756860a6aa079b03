// SPDX-License-Identifier: GPL-2.0-only

//! `/sys/kernel/iommu_live/`: one value per file, read-only.

use crate::{drivers, report};
use core::{
    ffi::CStr,
    ptr::{null, NonNull},
};
use kernel::prelude::*;
use kernel::{bindings, ffi::c_char};

extern "C" {
    /// From `helpers.c`, NUL-terminated.
    static iommu_live_version: c_char;
}

const COUNTERS: usize = report::COUNTERS.len();
const VERSION: usize = COUNTERS;
const DRIVERS: usize = COUNTERS + 1;
const FILES: usize = COUNTERS + 2;

/// The attributes of the directory, and the NULL-ended list sysfs wants.
struct Files {
    attributes: [bindings::kobj_attribute; FILES],
}

// SAFETY: The attributes are never written to; their pointers are to static strings.
unsafe impl Sync for Files {}

#[expect(clippy::disallowed_methods, reason = "as_char_ptr() is not const")]
const fn attribute(name: &'static CStr) -> bindings::kobj_attribute {
    // SAFETY: All fields are integers or pointers that may be null.
    let mut attribute: bindings::kobj_attribute = unsafe { core::mem::zeroed() };
    attribute.attr.name = name.as_ptr().cast();
    attribute.attr.mode = 0o444;
    attribute.__bindgen_anon_1 = bindings::kobj_attribute__bindgen_ty_1 { show: Some(show) };
    attribute
}

static FILES_TABLE: Files = Files {
    attributes: {
        let mut attributes = [const { attribute(c"") }; FILES];
        let mut index = 0;
        while index < COUNTERS {
            attributes[index] = attribute(report::COUNTERS[index].name);
            index += 1;
        }
        attributes[VERSION] = attribute(c"version");
        attributes[DRIVERS] = attribute(c"drivers");
        attributes
    },
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
    let Some(index) = FILES_TABLE
        .attributes
        .iter()
        .position(|known| core::ptr::eq(known, attr.cast_const()))
    else {
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
        for (slot, attribute) in list.iter_mut().zip(&FILES_TABLE.attributes) {
            *slot = &raw const attribute.attr;
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
