// SPDX-License-Identifier: GPL-2.0-only
//! The kernel's own benchmark of maps: `kernel/dma/map_benchmark.c`, `include/uapi/linux/map_benchmark.h`.

use std::fs::{File, OpenOptions};
use std::os::fd::AsRawFd as _;
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::oracle::Cost;
use super::pci;

const FILE: &str = "/sys/kernel/debug/dma_map_benchmark";
const DRIVER: &str = "dma_map_benchmark";

/// Pages in one map. The kernel tells tenths of a microsecond: of a single page, that is too coarse.
const PAGES: u32 = 64;
/// `DMA_MAP_BIDIRECTIONAL`
const BOTH_WAYS: u32 = 0;
/// Bits of an address that a device has.
const BITS: u32 = 32;
/// `NUMA_NO_NODE`
const ANYWHERE: i32 = -1;

/// `struct map_benchmark`.
#[repr(C)]
struct Parameters {
    average_map: u64,
    map_deviation: u64,
    average_unmap: u64,
    unmap_deviation: u64,
    threads: u32,
    seconds: u32,
    node: i32,
    bits: u32,
    direction: u32,
    transfer: u32,
    pages: u32,
    mode: u8,
    later: [u8; 75],
}

mod ioctl {
    nix::ioctl_readwrite!(
        /// `DMA_MAP_BENCHMARK`
        run,
        b'd',
        1,
        super::Parameters
    );
}

/// The benchmark, which has a device.
#[derive(Debug)]
pub struct MapBenchmark(File);

impl MapBenchmark {
    /// Gives the device at `address` to the benchmark.
    ///
    /// # Errors
    /// When the kernel has none, or the device does not change hands.
    pub fn attach(address: &str) -> Result<Self> {
        pci::rebind(address, DRIVER)?;
        let file = OpenOptions::new().read(true).write(true).open(FILE);
        file.map(Self)
            .with_context(|| format!("cannot open {FILE}"))
    }

    /// Maps and unmaps some pages at a time, for so long and in one thread: what that costs, on average.
    ///
    /// # Errors
    /// When a map fails.
    pub fn cost(&self, time: Duration) -> Result<Cost> {
        let mut parameters = Parameters {
            average_map: 0,
            map_deviation: 0,
            average_unmap: 0,
            unmap_deviation: 0,
            threads: 1,
            seconds: u32::try_from(time.as_secs()).context("that is too long")?,
            node: ANYWHERE,
            bits: BITS,
            direction: BOTH_WAYS,
            transfer: 0,
            pages: PAGES,
            mode: 0,
            later: [0; 75],
        };
        // SAFETY: the descriptor is open, and of this file; the kernel reads and writes one `struct map_benchmark`, which is what
        // the pointer leads to: the size is part of the request.
        #[expect(unsafe_code, reason = "an ioctl")]
        unsafe { ioctl::run(self.0.as_raw_fd(), &mut parameters) }
            .context("the benchmark did not run")?;
        let nanoseconds = |tenths: u64| tenths * 100;
        Ok(Cost {
            map: nanoseconds(parameters.average_map),
            unmap: nanoseconds(parameters.average_unmap),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_s_structure_has_this_size() {
        assert_eq!(size_of::<Parameters>(), 136);
    }
}
