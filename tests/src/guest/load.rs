// SPDX-License-Identifier: GPL-2.0-only
//! Work for the disks: direct readers, and a writer that knows what it wrote.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Instant;

use anyhow::{bail, Context as _, Result};
use nix::libc::O_DIRECT;

use super::random::Random;

/// One I/O: a single page, which goes through the part of the kernel that queues unmaps.
pub(super) const BLOCK: usize = 4096;
/// Blocks the readers read from, at the start of the disk.
const READ_BLOCKS: u64 = 8192;
/// Blocks the writer owns, after those.
const WRITE_BLOCKS: u64 = 2048;

/// What the workers count together.
#[derive(Debug, Default)]
struct Counters {
    stop: AtomicBool,
    done: AtomicU64,
    errors: AtomicU64,
    wrong: AtomicU64,
    longest_gap: AtomicU64,
}

/// Readers and a writer at work.
#[derive(Debug)]
pub struct Load {
    counters: Arc<Counters>,
    workers: Vec<JoinHandle<Result<()>>>,
}

/// What they did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Figures {
    /// I/Os completed.
    pub done: u64,
    /// I/Os that failed.
    pub errors: u64,
    /// Blocks that did not hold what was written to them.
    pub wrong: u64,
    /// The longest time that any one worker waited for one I/O, in nanoseconds.
    pub longest_gap: u64,
}

impl Load {
    /// Starts two readers and one writer on the disk `device`, such as `/dev/nvme0n1`.
    ///
    /// # Errors
    /// When the disk cannot be opened.
    pub fn start(device: &str) -> Result<Self> {
        let counters = Arc::new(Counters::default());
        let mut workers = Vec::new();
        for seed in 1..=2 {
            let (disk, counters) = (open(device)?, counters.clone());
            workers.push(std::thread::spawn(move || read(&disk, &counters, seed)));
        }
        let (disk, shared) = (open(device)?, counters.clone());
        workers.push(std::thread::spawn(move || write(&disk, &shared)));
        Ok(Self { counters, workers })
    }

    /// What was done so far; the longest gap starts anew.
    pub fn lap(&self) -> Figures {
        Figures {
            done: self.counters.done.load(Ordering::Relaxed),
            errors: self.counters.errors.load(Ordering::Relaxed),
            wrong: self.counters.wrong.load(Ordering::Relaxed),
            longest_gap: self.counters.longest_gap.swap(0, Ordering::Relaxed),
        }
    }

    /// Stops the workers; the writer reads back everything it ever wrote.
    ///
    /// # Errors
    /// When an I/O failed, a block is wrong, a worker broke, or nothing was done at all.
    pub fn finish(self) -> Result<Figures> {
        self.counters.stop.store(true, Ordering::Relaxed);
        let counters = self.counters.clone();
        for worker in self.workers {
            match worker.join() {
                Ok(result) => result?,
                Err(_) => bail!("a worker panicked"),
            }
        }
        let figures = Self {
            counters,
            workers: Vec::new(),
        }
        .lap();
        if figures.errors + figures.wrong > 0 || figures.done == 0 {
            bail!(
                "{} I/Os, {} failed, {} blocks wrong",
                figures.done,
                figures.errors,
                figures.wrong
            );
        }
        Ok(figures)
    }
}

pub(super) fn open(device: &str) -> Result<File> {
    let open = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(O_DIRECT)
        .open(device);
    open.with_context(|| format!("cannot open {device} for direct I/O"))
}

/// A block at an address that direct I/O accepts.
pub(super) struct Page {
    bytes: Vec<u8>,
    from: usize,
}

impl Page {
    pub(super) fn new() -> Self {
        let bytes = vec![0; 2 * BLOCK];
        let from = bytes.as_ptr().align_offset(BLOCK);
        Self { bytes, from }
    }

    pub(super) fn get(&mut self) -> &mut [u8] {
        &mut self.bytes[self.from..self.from + BLOCK]
    }
}

impl Counters {
    /// Does one I/O and counts it; whether it worked.
    fn count(&self, work: impl FnOnce() -> std::io::Result<()>) -> bool {
        let begin = Instant::now();
        let result = work();
        let gap = begin.elapsed().as_nanos() as u64;
        self.longest_gap.fetch_max(gap, Ordering::Relaxed);
        match result {
            Ok(()) => self.done.fetch_add(1, Ordering::Relaxed),
            Err(_) => self.errors.fetch_add(1, Ordering::Relaxed),
        };
        result.is_ok()
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

fn read(disk: &File, counters: &Counters, seed: u64) -> Result<()> {
    let mut random = Random::new(seed);
    let mut page = Page::new();
    while !counters.stopped() {
        let at = random.below(READ_BLOCKS) * BLOCK as u64;
        counters.count(|| disk.read_exact_at(page.get(), at));
    }
    Ok(())
}

/// Writes blocks in random order, and reads some back: each has its number, a version, and a pattern made of both.
fn write(disk: &File, counters: &Counters) -> Result<()> {
    let mut random = Random::new(99);
    let mut versions = vec![0_u64; WRITE_BLOCKS as usize];
    let mut page = Page::new();
    let place = |block: u64| (READ_BLOCKS + block) * BLOCK as u64;
    let look = |block: u64, version: u64, page: &mut Page| {
        if counters.count(|| disk.read_exact_at(page.get(), place(block)))
            && !holds(page.get(), block, version)
        {
            counters.wrong.fetch_add(1, Ordering::Relaxed);
        }
    };
    let mut version = 0;
    while !counters.stopped() {
        let block = random.below(WRITE_BLOCKS);
        version += 1;
        fill(page.get(), block, version);
        if counters.count(|| disk.write_all_at(page.get(), place(block))) {
            versions[block as usize] = version;
        }
        let other = random.below(WRITE_BLOCKS);
        if versions[other as usize] > 0 {
            look(other, versions[other as usize], &mut page);
        }
    }
    for (block, version) in versions
        .iter()
        .enumerate()
        .filter(|(_, version)| **version > 0)
    {
        look(block as u64, *version, &mut page);
    }
    Ok(())
}

pub(super) fn fill(page: &mut [u8], block: u64, version: u64) {
    let mut random = Random::new(block ^ version.rotate_left(32));
    let (head, rest) = page.split_at_mut(16);
    head[..8].copy_from_slice(&block.to_le_bytes());
    head[8..].copy_from_slice(&version.to_le_bytes());
    for chunk in rest.chunks_exact_mut(8) {
        chunk.copy_from_slice(&random.number().to_le_bytes());
    }
}

pub(super) fn holds(page: &[u8], block: u64, version: u64) -> bool {
    let mut expected = vec![0; page.len()];
    fill(&mut expected, block, version);
    page == expected
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_of_another_version_or_place_is_noticed() {
        let mut page = vec![0; BLOCK];
        fill(&mut page, 7, 3);
        assert!(holds(&page, 7, 3));
        assert!(!holds(&page, 7, 2) && !holds(&page, 8, 3));
        page[BLOCK - 1] ^= 1;
        assert!(!holds(&page, 7, 3));
    }

    #[test]
    fn pages_are_aligned() {
        assert_eq!(Page::new().get().as_ptr().align_offset(BLOCK), 0);
    }
}
