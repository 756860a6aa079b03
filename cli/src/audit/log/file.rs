// SPDX-License-Identifier: GPL-2.0-only
//! The log: `/var/log/iommuctl/audit.jsonl`, and the rotated files `audit.jsonl.1` and so on. One process at a time appends to
//! it, and syncs it before it reports success.
//!
//! While there is no `/var/log` (in the initramfs, or before it is mounted), events are spooled in `/run/iommuctl`, which
//! survives the switch to the root file system; the next process that appends to the log moves them there.

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;

use super::chain::{Body, Key, Note, Tip};
use super::head::Head;
use super::json_file::{Kept as _, StateError};
use super::tail::Tail;
use crate::sys::error::{errno, OsError};
use crate::sys::ofd_lock::try_lock;
use crate::sys::private_dir::{PrivateDir, PrivateDirError};

/// The file that is appended to.
pub const NAME: &str = "audit.jsonl";
/// The lock file: only the process that has it locked may write.
pub const LOCK: &str = "audit.lock";
/// The spool in `/run/iommuctl`.
pub const SPOOL: &str = "audit-spool.jsonl";
/// How long to wait for the lock of the log. Appending takes milliseconds.
const LOCK_TIMEOUT: Duration = Duration::from_secs(10);
/// The size limit of the spool, which is in memory and is read whole. A machine with thousands of groups has some megabytes in
/// the initramfs.
const SPOOL_LIMIT: u64 = 64 * 1024 * 1024;

/// The log cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// A directory or file cannot be used, or somebody else can write it.
    #[error(transparent)]
    Run(#[from] PrivateDirError),
    /// The head of the log cannot be read or written.
    #[error(transparent)]
    Head(#[from] StateError),
    /// A system call failed.
    #[error(transparent)]
    Os(#[from] OsError),
    /// Another process holds the lock for too long.
    #[error("another process has had {0} locked for {LOCK_TIMEOUT:?}")]
    Locked(String),
    /// The spool is full.
    #[error("{0} is full: there is no /var/log to take it in")]
    Full(String),
    /// An event cannot be serialized.
    #[error("an event cannot be written as JSON: {0}")]
    Json(#[from] serde_json::Error),
}

/// When a file is rotated, and how many are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rotation {
    /// The size in bytes from which a file is rotated.
    pub bytes: u64,
    /// How many rotated files are kept.
    pub keep: u32,
}

/// The directories of the log.
#[derive(Clone, Debug)]
pub struct Places {
    root: PathBuf,
}

impl Places {
    /// The directories below `root` (default `/`).
    #[must_use]
    pub fn new(root: Option<&Path>) -> Self {
        Self {
            root: root.unwrap_or(Path::new("/")).to_owned(),
        }
    }

    /// `/var/log`, in which the directory of the log is created.
    fn log(&self) -> PathBuf {
        self.root.join("var/log")
    }

    /// `/var/lib`, in which the directory for the state of the log is created.
    #[must_use]
    pub fn state(&self) -> PathBuf {
        self.root.join("var/lib")
    }

    fn run(&self) -> PathBuf {
        self.root.join("run")
    }

    /// The path of the log, for messages.
    #[must_use]
    pub fn display(&self) -> String {
        let path = self.log().join("iommuctl").join(NAME);
        path.display().to_string()
    }
}

/// The log, for appending.
#[derive(Debug)]
pub struct Log {
    places: Places,
    rotation: Rotation,
    key: Option<Key>,
    known: Option<Known>,
}

/// The state in which we left the log. While it is unchanged, nothing has to be read again.
#[derive(Clone, Debug)]
struct Known {
    inode: u64,
    length: u64,
    tip: Tip,
    head: Head,
}

/// The files of an open log, and the lock.
struct Open {
    folder: PrivateDir,
    state: PrivateDir,
    // Kept last, so that the lock is released after everything else is dropped.
    _lock: File,
}

impl Log {
    /// Returns a log that is opened at the first write.
    #[must_use]
    pub fn new(places: Places, rotation: Rotation, key: Option<Key>) -> Self {
        Self {
            places,
            rotation,
            key,
            known: None,
        }
    }

    /// Appends `bodies` after the spooled events, and syncs: all of them, or none.
    ///
    /// # Errors
    ///
    /// [`LogError`]; then none of them is in the log.
    pub fn append(&mut self, bodies: &[Body]) -> Result<(), LogError> {
        if !self.places.log().is_dir() {
            return self.spool(bodies);
        }
        let open = self.open()?;
        let run = PrivateDir::find(Some(&self.places.run()))?;
        let waiting = match &run {
            Some(run) => read_spool(run)?,
            None => Vec::new(),
        };
        let has_waited = !waiting.is_empty();
        let appended = self.append_to(&open, waiting.iter().chain(bodies));
        if appended.is_err() {
            self.known = None;
        }
        appended?;
        if let (true, Some(run)) = (has_waited, run) {
            run.remove(SPOOL)?;
        }
        Ok(())
    }

    fn append_to<'a>(
        &mut self,
        open: &Open,
        bodies: impl Iterator<Item = &'a Body>,
    ) -> Result<(), LogError> {
        let mut file = open.folder.open_to_append(NAME)?;
        let path = open.folder.display(NAME);
        let failed = |verb, error: &std::io::Error| {
            LogError::Os(OsError {
                verb,
                path: path.clone(),
                errno: errno(error),
            })
        };
        let stat = file.metadata().map_err(|e| failed("inspect", &e))?;
        let (mut length, mut text) = (stat.len(), Vec::new());
        let known = self.known.take();
        let known = known.filter(|k| k.inode == stat.ino() && k.length == length);
        let (mut tip, mut head) = match known {
            Some(known) => (known.tip, known.head),
            None => {
                let head = Head::read(&open.state)?;
                let end = Tail::of(&mut file).map_err(|e| failed("read", &e))?;
                if end.open {
                    text.push(b'\n');
                }
                // The process was interrupted right after a rotation: continue the chain of the previous file.
                let tip = match end.tip {
                    None if end.torn.is_none() => newest_full(&open.folder)?,
                    tip => tip,
                };
                let mut tip = tip.unwrap_or_default();
                let is_lost = head.is_none() && tip.seq > 0;
                let head = head.unwrap_or_default();
                // The head is ahead of the log. Leave the gap visible.
                if head.tip.seq > tip.seq {
                    tip = head.tip;
                }
                if let Some(torn) = end.torn {
                    if !torn.ends {
                        text.push(b'\n');
                    }
                    let (bytes, sha256) = (torn.bytes, torn.sha256);
                    tip.push(&Body::Note(Note::Torn { bytes, sha256 }), &mut text)?;
                }
                if is_lost {
                    tip.push(&Body::Note(Note::HeadLost), &mut text)?;
                }
                (tip, head)
            }
        };
        if length >= self.rotation.bytes && text.is_empty() {
            rotate(open, self.rotation.keep, &mut head)?;
            file = open.folder.open_to_append(NAME)?;
            length = 0;
            let dropped = head.dropped;
            tip.push(&Body::Note(Note::Rotated { dropped }), &mut text)?;
        }
        for body in bodies {
            if let Body::Event(event) = body {
                head.count(event);
            }
            tip.push(body, &mut text)?;
        }
        if let Some(key) = &self.key {
            let mac = key.anchor(tip.seq, tip.hash);
            tip.push(&Body::Note(Note::Anchor { mac }), &mut text)?;
        }
        let written = file.write_all(&text).and_then(|()| file.sync_data());
        if let Err(error) = written {
            // Most likely the disk is full. Truncate the incomplete lines; if that fails, the next append notes them as torn.
            let _ = file.set_len(length).and_then(|()| file.sync_data());
            return Err(failed("write", &error));
        }
        head.tip = tip;
        head.write(&open.state)?;
        let stat = file.metadata().map_err(|e| failed("inspect", &e))?;
        self.known = Some(Known {
            inode: stat.ino(),
            length: stat.len(),
            tip,
            head,
        });
        Ok(())
    }

    fn open(&self) -> Result<Open, LogError> {
        let folder = PrivateDir::make(Some(&self.places.log()))?;
        let state = PrivateDir::make(Some(&self.places.state()))?;
        let lock = lock(&folder)?;
        Ok(Open {
            folder,
            state,
            _lock: lock,
        })
    }

    /// Appends events to the spool.
    fn spool(&self, bodies: &[Body]) -> Result<(), LogError> {
        let run = PrivateDir::make(Some(&self.places.run()))?;
        let mut file = run.open_to_append(SPOOL)?;
        let length = file.metadata().map_or(0, |m| m.len());
        if length > SPOOL_LIMIT / 2 {
            return Err(LogError::Full(run.display(SPOOL)));
        }
        let mut text = Vec::new();
        for body in bodies {
            // Skip notes: they are about the log, which does not exist yet.
            if let Body::Event(event) = body {
                serde_json::to_writer(&mut text, event)?;
                text.push(b'\n');
            }
        }
        file.write_all(&text).map_err(|error| {
            LogError::Os(OsError {
                verb: "write",
                path: run.display(SPOOL),
                errno: errno(&error),
            })
        })
    }
}

/// Parses the spool. A line that is not an event is incomplete, because its writer was killed.
fn read_spool(run: &PrivateDir) -> Result<Vec<Body>, LogError> {
    let file = match run.open_to_read(SPOOL) {
        Err(error) if error.errno() == Some(Errno::ENOENT) => return Ok(Vec::new()),
        other => other?,
    };
    let mut bytes = Vec::new();
    let read = file.take(SPOOL_LIMIT).read_to_end(&mut bytes);
    read.map_err(|error| {
        LogError::Os(OsError {
            verb: "read",
            path: run.display(SPOOL),
            errno: errno(&error),
        })
    })?;
    let lines = bytes.split(|b| *b == b'\n');
    let events = lines.filter_map(|line| serde_json::from_slice(line).ok());
    Ok(events.map(Body::Event).collect())
}

/// Waits for the lock of the log.
fn lock(folder: &PrivateDir) -> Result<File, LogError> {
    let file = folder.open(LOCK)?;
    let begin = Instant::now();
    loop {
        let locked = try_lock(&file).map_err(|errno| {
            LogError::Os(OsError {
                verb: "lock",
                path: folder.display(LOCK),
                errno,
            })
        })?;
        if locked {
            return Ok(file);
        }
        if begin.elapsed() > LOCK_TIMEOUT {
            return Err(LogError::Locked(folder.display(LOCK)));
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// The numbers of the rotated files, from the newest (1).
pub(super) fn full_files(folder: &PrivateDir) -> Result<Vec<u32>, PrivateDirError> {
    let names = folder.names()?;
    let number = |name: &String| name.strip_prefix(NAME)?.strip_prefix('.')?.parse().ok();
    let mut numbers: Vec<u32> = names.iter().filter_map(number).collect();
    numbers.sort_unstable();
    Ok(numbers)
}

/// The name of rotated file `number`.
pub(super) fn full_file(number: u32) -> String {
    format!("{NAME}.{number}")
}

fn newest_full(folder: &PrivateDir) -> Result<Option<Tip>, LogError> {
    let Some(&newest) = full_files(folder)?.first() else {
        return Ok(None);
    };
    end_of(folder, newest)
}

fn end_of(folder: &PrivateDir, number: u32) -> Result<Option<Tip>, LogError> {
    let name = full_file(number);
    let mut file = folder.open_to_read(&name)?;
    let end = Tail::of(&mut file).map_err(|error| {
        LogError::Os(OsError {
            verb: "read",
            path: folder.display(&name),
            errno: errno(&error),
        })
    })?;
    Ok(end.tip)
}

/// Rotates the files. The head records what is dropped before it is removed: otherwise it would look like tampering.
fn rotate(open: &Open, keep: u32, head: &mut Head) -> Result<(), LogError> {
    let numbers = full_files(&open.folder)?;
    let too_many: Vec<u32> = numbers.iter().copied().filter(|n| *n >= keep).collect();
    if let Some(&newest) = too_many.first() {
        let end = end_of(&open.folder, newest)?;
        head.dropped = end.map_or(head.dropped, |tip| tip.seq.max(head.dropped));
        head.write(&open.state)?;
    }
    for number in &too_many {
        open.folder.remove(&full_file(*number))?;
    }
    for number in numbers.into_iter().rev().filter(|n| *n < keep) {
        open.folder
            .rename(&full_file(number), &full_file(number + 1))?;
    }
    if keep > 0 {
        open.folder.rename(NAME, &full_file(1))?;
    }
    Ok(())
}

/// The log at one moment, for reading.
#[derive(Debug)]
pub struct Snapshot {
    /// The files, the oldest first, each with its name and its length at that moment.
    pub files: Vec<(String, File, u64)>,
    /// The head, or why it is not known.
    pub head: Result<Head, String>,
}

impl Snapshot {
    /// Opens all files while nobody writes; `None` if there is no log.
    pub fn take(places: &Places) -> Result<Option<Self>, LogError> {
        let Some(folder) = PrivateDir::find(Some(&places.log()))? else {
            return Ok(None);
        };
        let _lock = lock(&folder)?;
        let mut names: Vec<String> = full_files(&folder)?
            .into_iter()
            .rev()
            .map(full_file)
            .collect();
        names.push(NAME.to_owned());
        let mut files = Vec::new();
        for name in names {
            let file = match folder.open_to_read(&name) {
                Err(error) if error.errno() == Some(Errno::ENOENT) => continue,
                other => other?,
            };
            let path = folder.display(&name);
            let length = file.metadata().map_err(|error| {
                LogError::Os(OsError {
                    verb: "inspect",
                    path: path.clone(),
                    errno: errno(&error),
                })
            })?;
            files.push((path, file, length.len()));
        }
        let head = match PrivateDir::find(Some(&places.state()))? {
            Some(state) => match Head::read(&state) {
                Ok(Some(head)) => Ok(head),
                Ok(None) => Err(format!("there is no {}", state.display(Head::NAME))),
                Err(error) => Err(error.to_string()),
            },
            None => {
                let path = places.state().join("iommuctl");
                Err(format!("there is no {}", path.display()))
            }
        };
        Ok((!files.is_empty() || head.is_ok()).then_some(Self { files, head }))
    }
}
