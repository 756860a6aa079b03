// SPDX-License-Identifier: GPL-2.0-only

//! `/sys/kernel/iommu_live/`: one value per file, read-only.

use crate::{
    audit, counters, drivers,
    ffi::{iommu_live_set_show, iommu_live_version},
    registry,
};
use core::{
    cell::UnsafeCell,
    ffi::CStr,
    ptr::{null, NonNull},
};
use kernel::prelude::*;
use kernel::{bindings, ffi::c_char};

const COUNTERS: usize = counters::COUNTERS.len();
const VERSION: usize = COUNTERS;
const DRIVERS: usize = COUNTERS + 1;
const CLEANUPS: usize = COUNTERS + 2;
const AUDIT: usize = COUNTERS + 3;
const FILES: usize = COUNTERS + 4;

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
            attributes[index] = attribute(counters::COUNTERS[index].name);
            index += 1;
        }
        attributes[VERSION] = attribute(c"version");
        attributes[DRIVERS] = attribute(c"drivers");
        attributes[CLEANUPS] = attribute(c"cleanups");
        attributes[AUDIT] = attribute(c"audit");
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
    let written = if let Some(counter) = counters::COUNTERS.get(index) {
        // SAFETY: `buf` is a page, the format matches the argument.
        unsafe { bindings::sysfs_emit(buf, c"%llu\n".as_char_ptr(), counter.get()) }
    } else if index == VERSION {
        // SAFETY: As above.
        unsafe {
            let version: *const c_char = &raw const iommu_live_version;
            bindings::sysfs_emit(buf, c"%s\n".as_char_ptr(), version)
        }
    } else if index == CLEANUPS {
        // SAFETY: `buf` is a page.
        unsafe { show_cleanups(buf) }
    } else if index == AUDIT {
        // SAFETY: As above.
        unsafe { bindings::sysfs_emit(buf, c"%s\n".as_char_ptr(), audit::word().as_char_ptr()) }
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

/// A line for each group whose switch is being cleaned up; if there is not room for all, how many
/// there are more.
///
/// # Safety
///
/// `buf` is a page.
unsafe fn show_cleanups(buf: *mut c_char) -> i32 {
    /// More than the longest line has, and the one that says how many are missing.
    const ROOM: usize = 192;
    let (mut at, mut missing, mut index) = (0i32, 0u32, 0);
    while let Some(cleanup) = registry::at(index) {
        index += 1;
        if !cleanup.is_active() {
            continue;
        }
        if at as usize > bindings::PAGE_SIZE - ROOM {
            missing += 1;
            continue;
        }
        let line = cleanup.show();
        // SAFETY: `at` is within the page; the format matches the arguments.
        at += unsafe {
            bindings::sysfs_emit_at(
                buf,
                at,
                c"group=%d step=%.*s strict_since_ns=%lld late_comers=%llu collected=%llu \
                  given_up=%llu\n"
                    .as_char_ptr(),
                line.group,
                line.step.len() as i32,
                line.step.as_ptr(),
                line.strict_since_ns,
                line.late_comers,
                line.collected,
                line.given_up,
            )
        };
    }
    if missing > 0 {
        // SAFETY: As above.
        at += unsafe { bindings::sysfs_emit_at(buf, at, c"more=%u\n".as_char_ptr(), missing) };
    }
    at
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
                iommu_live_set_show(attribute, show);
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
