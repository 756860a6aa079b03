// SPDX-License-Identifier: GPL-2.0-only
//! One direct reader that does not give up: it finds out for how long a disk answered nobody, even when the disk went and came.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{bail, ensure, Result};

use super::load::{open, Page, BLOCK};
use super::pci;
use super::random::Random;

/// Blocks it reads from, at the start of the disk.
const BLOCKS: u64 = 8192;

/// The reader.
#[derive(Debug)]
pub struct Prober {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<Seen>>,
}

/// What it saw.
#[derive(Clone, Copy, Debug, Default)]
pub struct Seen {
    /// I/Os done.
    pub done: u64,
    /// I/Os that failed, opening the disk anew included.
    pub failed: u64,
    /// The longest time between the ends of two I/Os that were done.
    pub longest_gap: Duration,
}

impl Prober {
    /// Reads from the disk at `address` until [`Prober::finish`].
    ///
    /// # Errors
    /// When there is no such disk.
    pub fn start(address: &'static str) -> Result<Self> {
        let disk = find(address)?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || probe(address, disk, &stopped));
        Ok(Self { stop, thread })
    }

    /// Ends it.
    ///
    /// # Errors
    /// When the disk did not come back, or nothing was read.
    pub fn finish(self) -> Result<Seen> {
        self.stop.store(true, Ordering::Relaxed);
        match self.thread.join() {
            Ok(seen) => seen,
            Err(_) => bail!("the prober panicked"),
        }
    }
}

fn find(address: &str) -> Result<File> {
    open(&format!("/dev/{}", pci::block_device(address)?))
}

fn probe(address: &str, mut disk: File, stop: &AtomicBool) -> Result<Seen> {
    let mut random = Random::new(7);
    let mut page = Page::new();
    let mut seen = Seen::default();
    let mut last = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        let at = random.below(BLOCKS) * BLOCK as u64;
        if disk.read_exact_at(page.get(), at).is_err() {
            seen.failed += 1;
            // It waits until the disk is there; then the driver may still be busy with it.
            match find(address) {
                Ok(found) => disk = found,
                Err(_) => seen.failed += 1,
            }
            continue;
        }
        let now = Instant::now();
        seen.longest_gap = seen.longest_gap.max(now.duration_since(last));
        last = now;
        seen.done += 1;
    }
    ensure!(seen.done > 0, "nothing was read from {address}");
    Ok(seen)
}
