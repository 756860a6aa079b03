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

/// Longer than every name that is asked for.
const MAX_NAME: usize = 64;

/// The kernel function or object that begins at an address.
///
/// # Invariants
///
/// `name` and `module` are the first bytes of their arrays; no `module` means the kernel itself.
pub(crate) struct Symbol {
    name: ([u8; MAX_NAME], usize),
    module: Option<([u8; MAX_NAME], usize)>,
}

impl Symbol {
    /// `None` if nothing begins there, or if its name is longer than every name that is asked for.
    ///
    /// Not inlined: the kernel's buffer is a good part of its stack.
    #[inline(never)]
    pub(crate) fn at(address: *const c_void) -> Option<Self> {
        if address.is_null() {
            return None;
        }
        let mut buffer = [0u8; LEN];
        // SAFETY: `sprint_symbol` writes a NUL-terminated string of at most `KSYM_SYMBOL_LEN` bytes,
        // for any address; the buffer is longer.
        unsafe { bindings::sprint_symbol(buffer.as_mut_ptr(), address as usize) };
        // "name+0x0/0x120", with " [module]" behind it for a module's function.
        let text = buffer.split(|&byte| byte == 0).next()?;
        let mut parts = text.split(|&byte| byte == b'[' || byte == b']');
        let mut place = parts.next()?.split(|&byte| byte == b'+');
        let (name, offset) = (place.next()?, place.next()?);
        if !offset.starts_with(b"0x0/") {
            return None;
        }
        let module = match parts.next() {
            Some(module) => Some(short(module)?),
            None => None,
        };
        // INVARIANT: By `short`.
        Some(Self {
            name: short(name)?,
            module,
        })
    }

    /// Whether it is the kernel's own function or object `name`.
    ///
    /// A function that the compiler cloned (`name.isra.0`) or that lives in a module is not `name`.
    pub(crate) fn is(&self, name: &str) -> bool {
        self.module.is_none() && is_text(&self.name, name)
    }

    /// The same, where `module` may be built in or not.
    pub(crate) fn is_of(&self, name: &str, module: &str) -> bool {
        let home = self.module.as_ref();
        is_text(&self.name, name) && home.is_none_or(|home| is_text(home, module))
    }
}

/// Whether `address` is the start of the kernel's own function or object `name`.
pub(crate) fn is(address: *const c_void, name: &str) -> bool {
    Symbol::at(address).is_some_and(|symbol| symbol.is(name))
}

fn short(text: &[u8]) -> Option<([u8; MAX_NAME], usize)> {
    let mut array = [0; MAX_NAME];
    array.get_mut(..text.len())?.copy_from_slice(text);
    Some((array, text.len()))
}

fn is_text(text: &([u8; MAX_NAME], usize), wanted: &str) -> bool {
    text.0.get(..text.1) == Some(wanted.as_bytes())
}
