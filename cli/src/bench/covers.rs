// SPDX-License-Identifier: GPL-2.0-only
//! Which unmaps are lazy, by the version of the kernel alone.
//!
//! Up to Linux 7.2 a lazy group queues every unmap. From 7.3 on, `dma_iova_destroy()` invalidates the IOTLB before it returns,
//! whatever the type (`drivers/iommu/dma-iommu.c`): a driver that maps all segments of a request as one range of addresses, as
//! NVMe does, is strict for these. What is mapped segment by segment, or has only one, is queued as before.

use serde::Serialize;

/// Which unmaps wait in the flush queue of a lazy group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Covers {
    /// All of them.
    Every,
    /// All but those of several segments that were mapped as one range.
    NotRanges,
}

impl Covers {
    /// On the kernel with this release, such as `7.3.4+deb13-amd64`; `None` if it does not begin with a version.
    #[must_use]
    pub fn of(release: &str) -> Option<Self> {
        let mut numbers = release.split(|c: char| !c.is_ascii_digit());
        let mut next = || numbers.next()?.parse::<u32>().ok();
        let version = (next()?, next()?);
        Some(match version >= (7, 3) {
            true => Self::NotRanges,
            false => Self::Every,
        })
    }

    /// In a sentence.
    #[must_use]
    pub fn words(covers: Option<Self>) -> &'static str {
        match covers {
            Some(Self::Every) => "On this kernel lazy covers every unmap, of one segment and of several.",
            Some(Self::NotRanges) => {
                "On this kernel lazy covers unmaps of one segment: a request of several that its driver maps as one range, as \
                 NVMe does, is strict in DMA-FQ as well."
            }
            None => {
                "Lazy covers unmaps of one segment; of several that a driver maps as one range, as NVMe does, only before \
                 Linux 7.3."
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_depends_on_the_version() {
        for (release, covers) in [
            ("7.3.4+deb13-amd64", Some(Covers::NotRanges)),
            ("7.3-rc1", Some(Covers::NotRanges)),
            ("8.0.0", Some(Covers::NotRanges)),
            ("7.2.11", Some(Covers::Every)),
            ("6.12.48-arm64", Some(Covers::Every)),
            ("7", None),
            ("next-20261130", None),
            ("", None),
        ] {
            assert_eq!(Covers::of(release), covers, "{release}");
        }
    }
}
