// SPDX-License-Identifier: GPL-2.0-only
//! Reading from a disk: random blocks, past the page cache, so many at a time.
//!
//! One thread for each read that is under way: what a submission queue of the kernel would save is the same in both types, and
//! what is compared is what the IOMMU costs.

use std::io;
use std::os::unix::fs::FileExt as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::histogram::Histogram;
use super::schedule::Load;
use crate::bench::disk::{Disk, DiskError, READ_TIMEOUT};
use crate::bench::guard::parent::HEARTBEAT_INTERVAL;

/// What is left out at the beginning of each slot: threads start, and the flush queue is flushed once more after it begins to fill
/// (every 10 ms).
const WARM_UP: Duration = Duration::from_millis(20);
/// Enough for a thread that only reads.
const STACK_SIZE: usize = 128 * 1024;

/// What one slot counted.
#[derive(Debug, Default)]
pub struct Counted {
    /// How long each read took that ended within it.
    pub reads: Histogram,
    /// How long all processors were busy, if `clock` said.
    pub busy: Option<Duration>,
}

/// Why a slot was not brought to its end.
#[derive(Debug)]
pub enum Cut<E> {
    /// The disk.
    Disk(DiskError),
    /// Whoever was asked meanwhile wants it to stop.
    Told(E),
}

impl Disk {
    /// Reads `load` for `span`, after a moment that does not count. `seed` says which blocks: another one each
    /// time, or the disk's own cache would answer. `clock` says how long all processors were busy so far; `ask` is called about ten
    /// times a second, and ends it with an error.
    pub fn read<E>(
        &self,
        load: Load,
        span: Duration,
        seed: u64,
        clock: impl Fn() -> Option<Duration>,
        mut ask: impl FnMut() -> Result<(), E>,
    ) -> Result<Counted, Cut<E>> {
        let stop = Arc::new(AtomicBool::new(false));
        // Whatever ends this, the threads are told. They are not waited for: one that the kernel does not let go, because the disk
        // does not answer, must not keep anybody from putting the type back.
        let _told = Told(Arc::clone(&stop));
        let begin = Instant::now() + WARM_UP;
        let window = Window {
            begin,
            end: begin + span,
        };
        let (sender, receiver) = mpsc::channel();
        let (size, pieces) = self.pieces(load);
        for n in 0..load.depth {
            let reader = Reader {
                disk: self.clone(),
                size,
                pieces,
                state: seed ^ (n as u64 + 1).wrapping_mul(0x2545_f491_4f6c_dd1d),
                window,
                stop: Arc::clone(&stop),
            };
            let sender = sender.clone();
            let thread = std::thread::Builder::new().stack_size(STACK_SIZE);
            let started = thread.spawn(move || {
                // Nobody may be there any more to hear it.
                let _ = sender.send(reader.run());
            });
            started.map_err(|e| Cut::Disk(self.failed("start reading", &e)))?;
        }
        drop(sender);
        let mut wait_until = |moment: Instant| loop {
            let left = moment.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            std::thread::sleep(left.min(HEARTBEAT_INTERVAL));
            ask().map_err(Cut::Told)?;
        };
        wait_until(window.begin)?;
        let before = clock();
        wait_until(window.end)?;
        let after = clock();
        let mut counted = Counted {
            reads: Histogram::default(),
            busy: before.zip(after).map(|(b, a)| a.saturating_sub(b)),
        };
        loop {
            match receiver.recv_timeout(HEARTBEAT_INTERVAL) {
                Ok(Ok(reads)) => counted.reads.merge(&reads),
                Ok(Err(error)) => return Err(Cut::Disk(self.failed("read from", &error))),
                Err(RecvTimeoutError::Disconnected) => return Ok(counted),
                Err(RecvTimeoutError::Timeout) if window.end.elapsed() > READ_TIMEOUT => {
                    return Err(Cut::Disk(self.silent()));
                }
                Err(RecvTimeoutError::Timeout) => ask().map_err(Cut::Told)?,
            }
        }
    }
}

/// Tells the threads to end when it goes.
struct Told(Arc<AtomicBool>);

impl Drop for Told {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// What counts.
#[derive(Clone, Copy)]
struct Window {
    begin: Instant,
    end: Instant,
}

/// One read after the other.
struct Reader {
    disk: Disk,
    /// How many bytes a read has, and how many places there are for it.
    size: u64,
    pieces: u64,
    state: u64,
    window: Window,
    stop: Arc<AtomicBool>,
}

impl Reader {
    fn run(mut self) -> io::Result<Histogram> {
        let size = usize::try_from(self.size).unwrap_or(usize::MAX);
        // Where direct I/O may put it: at a multiple of its size.
        let mut bytes = vec![0; 2 * size];
        let from = bytes.as_ptr().align_offset(size).min(size);
        let mut reads = Histogram::default();
        let mut now = Instant::now();
        while now < self.window.end && !self.stop.load(Ordering::Relaxed) {
            let at = self.next() * self.size;
            let piece = bytes.get_mut(from..from + size).unwrap_or_default();
            self.disk.file.read_exact_at(piece, at)?;
            let begin = std::mem::replace(&mut now, Instant::now());
            if begin >= self.window.begin && now <= self.window.end {
                let took = now.duration_since(begin).as_nanos();
                reads.add(u64::try_from(took).unwrap_or(u64::MAX));
            }
        }
        Ok(reads)
    }

    /// The number of the next piece: evenly spread, and another order in each thread (a Weyl sequence, and a mix of its bits).
    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
        mixed = (mixed ^ (mixed >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
        mixed ^= mixed >> 32;
        // The upper half of the product: evenly spread, without a division.
        let piece = (u128::from(mixed) * u128::from(self.pieces)) >> 64;
        u64::try_from(piece).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::disk::tests::disk;

    fn small(depth: usize) -> Load {
        let large = false;
        Load { large, depth }
    }

    #[test]
    fn reads_are_counted_and_stay_within_the_disk() {
        let (_file, disk) = disk(40 * 4096 + 100);
        let disk = disk.unwrap();
        let large = Load {
            large: true,
            depth: 4,
        };
        assert_eq!(disk.pieces(small(4)), (4096, 40));
        assert_eq!(disk.pieces(large), (128 * 1024, 1));
        for load in [small(4), large] {
            let clock = || Some(Duration::from_secs(1));
            let counted = disk.read(load, Duration::from_millis(300), 7, clock, || {
                Ok::<(), ()>(())
            });
            let counted = counted.unwrap();
            assert!(counted.reads.total() > 3, "{load:?}");
            assert_eq!(counted.busy, Some(Duration::ZERO));
        }
    }

    #[test]
    fn it_ends_when_it_is_told_to() {
        let (_file, disk) = disk(8 * 4096);
        let begin = Instant::now();
        let long = Duration::from_secs(60);
        let cut = disk
            .unwrap()
            .read(small(2), long, 7, || None, || Err("enough"));
        assert!(matches!(cut, Err(Cut::Told("enough"))));
        assert!(begin.elapsed() < Duration::from_secs(5));
    }

    #[test]
    fn a_read_that_fails_ends_it() {
        let (file, disk) = disk(64 * 4096);
        let disk = disk.unwrap();
        // Shorter than it was: most reads are beyond the end.
        std::fs::write(file.path(), "").unwrap();
        let span = Duration::from_secs(5);
        let cut = disk.read(small(2), span, 7, || None, || Ok::<(), ()>(()));
        assert!(matches!(cut, Err(Cut::Disk(DiskError::Os(_)))));
    }
}
