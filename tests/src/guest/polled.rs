// SPDX-License-Identifier: GPL-2.0-only
//! Direct reads through io_uring: polled for, so that the reading task itself completes them, and unmaps; or submitted by a thread of
//! the kernel that does not sleep while there is something to do; or both, so that this thread unmaps.

use std::fs::File;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::FileExt as _;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{ensure, Context as _, Result};
use io_uring::{opcode, types, IoUring};

use super::load::{fill, holds, open, Page, BLOCK};
use super::random::Random;

/// Who does what for these reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// The reading task polls for the disk's answers.
    Polled,
    /// A thread of the kernel submits (`IORING_SETUP_SQPOLL`), interrupts tell of answers.
    Submitted,
    /// A thread of the kernel submits and polls.
    SubmittedAndPolled,
}

/// Until a thread that submits would sleep if there were nothing to do, in milliseconds: for as long as reads go on it never does.
const IDLE: u32 = 10_000;
/// Reads on their way at once.
const DEPTH: usize = 8;
/// Blocks at the end of the disk, which no other load writes.
const BLOCKS: u64 = 256;

/// Puts known blocks on the last blocks of the disk `device`.
///
/// # Errors
/// When the disk cannot be written.
pub fn prepare(device: &str) -> Result<()> {
    let disk = open(device)?;
    let first = first(&disk)?;
    let mut page = Page::new();
    for block in 0..BLOCKS {
        fill(page.get(), block, 1);
        disk.write_all_at(page.get(), (first + block) * BLOCK as u64)
            .with_context(|| format!("cannot write block {block} of {device}"))?;
    }
    Ok(())
}

/// Reads these blocks until `stop`, and returns how many reads there were.
///
/// # Errors
/// When a read fails, a block is wrong, or the disk has no queues that can be polled.
pub fn read(device: &str, way: Way, seed: u64, stop: &AtomicBool) -> Result<u64> {
    let disk = open(device)?;
    let first = first(&disk)?;
    let mut builder = IoUring::builder();
    if way != Way::Submitted {
        builder.setup_iopoll();
    }
    if way != Way::Polled {
        builder.setup_sqpoll(IDLE);
    }
    let ring = builder.build(DEPTH as u32);
    let mut ring = ring.with_context(|| format!("the kernel makes no io_uring: {way:?}"))?;
    let mut random = Random::new(seed);
    let mut pages: Vec<Page> = (0..DEPTH).map(|_| Page::new()).collect();
    let mut done = 0;
    while !stop.load(Ordering::Relaxed) {
        let blocks: Vec<u64> = pages.iter().map(|_| random.below(BLOCKS)).collect();
        round(&mut ring, &disk, first, &blocks, &mut pages)
            .with_context(|| format!("reads of {device}: {way:?}"))?;
        for (block, page) in blocks.iter().zip(&mut pages) {
            ensure!(holds(page.get(), *block, 1), "block {block} is wrong");
        }
        done += DEPTH as u64;
    }
    Ok(done)
}

/// Reads one block into each page.
fn round(
    ring: &mut IoUring,
    disk: &File,
    first: u64,
    blocks: &[u64],
    pages: &mut [Page],
) -> Result<()> {
    for (block, page) in blocks.iter().zip(pages.iter_mut()) {
        let bytes = page.get();
        let read = opcode::Read::new(
            types::Fd(disk.as_raw_fd()),
            bytes.as_mut_ptr(),
            BLOCK as u32,
        );
        let entry = read.offset((first + block) * BLOCK as u64).build();
        #[expect(
            unsafe_code,
            reason = "the kernel writes to memory behind the compiler's back"
        )]
        // SAFETY: the file and the pages outlive this function, which returns only when every read that the kernel took
        // is complete; nobody looks at a page before that.
        unsafe { ring.submission().push(&entry) }.context("the submission queue is full")?;
    }
    let mut left = blocks.len();
    let mut failed = None;
    while left > 0 {
        // An error here leaves reads on their way into memory of ours, which then must stay.
        if let Err(error) = ring.submit_and_wait(left) {
            if error.raw_os_error() == Some(nix::libc::EINTR) {
                continue;
            }
            std::process::abort();
        }
        for entry in ring.completion() {
            left -= 1;
            if entry.result() != BLOCK as i32 {
                failed = Some(entry.result());
            }
        }
    }
    ensure!(failed.is_none(), "a read returned {failed:?}");
    Ok(())
}

fn first(disk: &File) -> Result<u64> {
    let mut disk = disk;
    let size = std::io::Seek::seek(&mut disk, std::io::SeekFrom::End(0));
    let size = size.context("cannot find the disk's size")?;
    (size / BLOCK as u64)
        .checked_sub(BLOCKS)
        .context("the disk is too small")
}
