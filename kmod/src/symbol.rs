// SPDX-License-Identifier: GPL-2.0-only

//! Names of kernel functions by address.
//!
//! `iommu_live` acts on private kernel code; before it does, it makes sure that the function
//! behind a pointer is the one it was written against.

use core::ffi::c_void;
use kernel::bindings;

/// Room for a name, and the offset, size, module and build id that `sprint_symbol()` may add:
/// more than `KSYM_SYMBOL_LEN`.
const LEN: usize = bindings::KSYM_NAME_LEN as usize + 256;

/// Whether `address` is exactly the start of the kernel's own function or object `name`.
///
/// A function that the compiler cloned (`name.isra.0`) or that lives in a module is not `name`.
pub(crate) fn is(address: *const c_void, name: &str) -> bool {
    is_in(address, name, None)
}

/// The same, where `module` may be built in or not.
pub(crate) fn is_of(address: *const c_void, name: &str, module: &str) -> bool {
    is_in(address, name, None) || is_in(address, name, Some(module))
}

fn is_in(address: *const c_void, name: &str, module: Option<&str>) -> bool {
    if address.is_null() {
        return false;
    }
    let mut buffer = [0u8; LEN];
    // SAFETY: `sprint_symbol` writes a NUL-terminated string of at most `KSYM_SYMBOL_LEN` bytes,
    // for any address; the buffer is longer.
    unsafe { bindings::sprint_symbol(buffer.as_mut_ptr(), address as usize) };
    let length = buffer.iter().position(|&b| b == 0).unwrap_or(0);
    let text = buffer.get(..length).unwrap_or(&[]);
    // "name+0x0/0x120", with " [module]" behind it for a module's function.
    let Some(rest) = text.strip_prefix(name.as_bytes()) else {
        return false;
    };
    let mut parts = rest.split(|&b| b == b'[' || b == b']');
    let at_start = parts
        .next()
        .is_some_and(|place| place.starts_with(b"+0x0/"));
    at_start && parts.next() == module.map(str::as_bytes)
}
