// SPDX-License-Identifier: GPL-2.0-only

//! The list of what was read, and how a kernel's source compares with it.

use crate::hash::fnv1a;
use crate::source::File;
use std::fmt::{self, Display, Write};

/// Reads a file of the kernel's source tree, by its path in there.
pub(crate) type Read<'a> = &'a dyn Fn(&str) -> Result<String, String>;

/// Something that was read: a function, a structure, a macro.
#[derive(Debug, PartialEq, Eq)]
struct Entry {
    file: String,
    /// The architecture whose kernels have it, as the kernel's source calls it; all, if none.
    arch: Option<String>,
    what: String,
    /// The hashes of all texts of it that were read.
    hashes: Vec<u64>,
}

impl Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.what.strip_prefix('*') {
            Some(name) => write!(f, "the use of {name} in {}", self.file),
            None => write!(f, "{} of {}", self.what, self.file),
        }
    }
}

/// A kernel series that was read.
#[derive(Debug, PartialEq, Eq)]
struct Series {
    name: String,
    entries: Vec<Entry>,
}

/// The list.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct List(Vec<Series>);

/// What is known of a kernel.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Level {
    /// Everything on the list is in its source as it was read.
    Audited,
    /// Its series is on the list; its source was not compared.
    Series,
    /// Something on the list is not in its source as it was read. The first of them, and how many
    /// more.
    Different(String, usize),
    /// Its series is not on the list.
    Unknown,
}

impl List {
    /// Reads the list: lines `series NAME`, `file PATH [ARCH]`, and `HASH WHAT`; `#` begins a
    /// comment.
    ///
    /// # Errors
    ///
    /// Names the line that is none of these, or stands where it cannot.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut list: Vec<Series> = Vec::new();
        let mut file = None;
        for (number, line) in text.lines().enumerate() {
            let line = line.split('#').next().unwrap_or_default().trim();
            let wrong = |why: &str| format!("line {}: {why}", number + 1);
            let Some((first, rest)) = line.split_once(' ') else {
                match line {
                    "" => continue,
                    _ => return Err(wrong("one word alone")),
                }
            };
            let rest = rest.trim();
            match first {
                "series" => {
                    if list.iter().any(|series| series.name == rest) {
                        return Err(wrong("this series is there already"));
                    }
                    file = None;
                    list.push(Series {
                        name: rest.into(),
                        entries: Vec::new(),
                    });
                }
                "file" => {
                    let mut words = rest.split_whitespace();
                    file = words.next().map(|path| (path, words.next()));
                }
                _ => {
                    let series = list.last_mut().ok_or_else(|| wrong("before any series"))?;
                    let file = file.ok_or_else(|| wrong("before any file"))?;
                    let is_hash = first.len() == 16 && first.bytes().all(|b| b.is_ascii_hexdigit());
                    let hash = is_hash
                        .then(|| u64::from_str_radix(first, 16).ok())
                        .flatten();
                    let hash = hash.ok_or_else(|| wrong("not a hash of 16 digits"))?;
                    series.add(file, rest, hash);
                }
            }
        }
        match list.iter().find(|series| series.entries.is_empty()) {
            Some(series) => Err(format!("series {} has nothing", series.name)),
            None if list.is_empty() => Err("there is no series".into()),
            None => Ok(Self(list)),
        }
    }

    fn series(&self, name: &str) -> Option<&Series> {
        self.0.iter().find(|series| series.name == name)
    }

    /// What is known of a kernel of `series` for `arch`, by its source where that is there.
    pub(crate) fn compare(&self, series: &str, arch: &str, source: Option<Read<'_>>) -> Level {
        let Some(series) = self.series(series) else {
            return Level::Unknown;
        };
        let Some(read) = source else {
            return Level::Series;
        };
        let mut different = series
            .hashes(read)
            .filter(|(entry, _)| entry.arch.as_deref().is_none_or(|of| of == arch))
            .filter_map(|(entry, found)| match found {
                Ok(hash) if entry.hashes.contains(&hash) => None,
                Ok(_) => Some(entry.to_string()),
                Err(why) => Some(why),
            });
        match different.next() {
            Some(first) => Level::Different(first, different.count()),
            None => Level::Audited,
        }
    }

    /// The part of the list for another series, with the hashes that a source tree has. It asks for
    /// what the last series on the list asks for.
    ///
    /// # Errors
    ///
    /// Something is not in the tree.
    pub(crate) fn list(&self, series: &str, read: Read<'_>) -> Result<String, String> {
        let mut out = format!("series {series}\n");
        let mut file = "";
        let template = self.series(series).or(self.0.last());
        for (entry, found) in template.iter().flat_map(|series| series.hashes(read)) {
            if entry.file != file {
                file = &entry.file;
                let arch = entry.arch.iter().map(|arch| format!(" {arch}"));
                let _ = writeln!(out, "file {file}{}", arch.collect::<String>());
            }
            let _ = writeln!(out, "{:016x} {}", found?, entry.what);
        }
        Ok(out)
    }

    /// The files that are asked for, each once.
    pub(crate) fn files(&self) -> Vec<&str> {
        let entries = self.0.iter().flat_map(|series| &series.entries);
        let mut files: Vec<&str> = entries.map(|entry| entry.file.as_str()).collect();
        files.sort_unstable();
        files.dedup();
        files
    }
}

impl Series {
    fn add(&mut self, (file, arch): (&str, Option<&str>), what: &str, hash: u64) {
        let same = |entry: &&mut Entry| entry.file == file && entry.what == what;
        match self.entries.iter_mut().find(same) {
            Some(entry) => entry.hashes.push(hash),
            None => self.entries.push(Entry {
                file: file.into(),
                arch: arch.map(str::to_owned),
                what: what.into(),
                hashes: vec![hash],
            }),
        }
    }

    /// Each entry, and its hash in a source tree; an error says that it is not there.
    fn hashes<'a>(
        &'a self,
        read: Read<'a>,
    ) -> impl Iterator<Item = (&'a Entry, Result<u64, String>)> + 'a {
        let mut last: Option<(&str, Result<File, String>)> = None;
        self.entries.iter().map(move |entry| {
            let path = entry.file.as_str();
            if last.as_ref().is_none_or(|(file, _)| *file != path) {
                let parsed = read(path).and_then(|text| File::parse(&text));
                last = Some((path, parsed.map_err(|why| format!("{path}: {why}"))));
            }
            let hash = match &last {
                Some((_, Ok(file))) => file
                    .text(&entry.what)
                    .map(|text| fnv1a(text.as_bytes()))
                    .ok_or_else(|| format!("{entry}, which it does not have")),
                Some((_, Err(why))) => Err(why.clone()),
                None => Err(path.to_owned()),
            };
            (entry, hash)
        })
    }
}
