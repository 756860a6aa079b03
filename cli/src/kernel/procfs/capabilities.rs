// SPDX-License-Identifier: GPL-2.0-only
//! The capabilities that changing a group's type needs: both of them (`iommu_group_store_type` in
//! `drivers/iommu/iommu.c`).

/// Bit numbers in `CapEff` (`include/uapi/linux/capability.h`), and their names.
const NEEDED: [(u32, &str); 2] = [(21, "CAP_SYS_ADMIN"), (17, "CAP_SYS_RAWIO")];

/// Which of the needed capabilities the process has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities {
    effective: u64,
}

impl Capabilities {
    /// Parses the effective set, the `CapEff` line of `/proc/self/status`.
    #[must_use]
    pub fn from_effective(effective: u64) -> Self {
        Self { effective }
    }

    /// The names of the needed capabilities that the process lacks.
    #[must_use]
    pub fn missing(self) -> Vec<&'static str> {
        let has = |bit: u32| self.effective & (1 << bit) != 0;
        let missing = NEEDED.iter().filter(|(bit, _)| !has(*bit));
        missing.map(|(_, name)| *name).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_are_needed() {
        let missing = |bits| Capabilities::from_effective(bits).missing();
        assert!(missing(0x1ff_ffff_ffff).is_empty());
        assert_eq!(missing(1 << 21), ["CAP_SYS_RAWIO"]);
        assert_eq!(missing(1 << 17), ["CAP_SYS_ADMIN"]);
        assert_eq!(missing(0), ["CAP_SYS_ADMIN", "CAP_SYS_RAWIO"]);
    }
}
