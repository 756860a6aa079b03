// SPDX-License-Identifier: GPL-2.0-only

//! The hash that tells one kernel from another.

/// 64-bit FNV-1a. It tells one build or text from another; it is no protection against an
/// attacker, who would need root to get here.
pub(crate) fn fnv1a(data: &[u8]) -> u64 {
    data.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}
