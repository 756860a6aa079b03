// SPDX-License-Identifier: GPL-2.0-only
//! The files of the policy: which exist, which count, and what policy they make together.

use std::collections::BTreeMap;
use std::path::Path;

use iommuctl_policy::{errors, parse, ParseError, Policy, PolicyFile};
use serde::Serialize;

use crate::exit::{Exit, Failure};
use crate::sys::error::{errno, OsError};
use crate::sys::trusted::{read_untrusted, Content, Root, TrustError};

/// The directories of policies, the one with the highest priority first.
pub const FOLDERS: [&str; 4] = [
    "etc/iommuctl/policy.d",
    "run/iommuctl/policy.d",
    "usr/local/lib/iommuctl/policy.d",
    "usr/lib/iommuctl/policy.d",
];

/// The role of a file in the policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "status")]
pub enum Status {
    /// It is part of the policy.
    Used {
        /// How many rules it has.
        rules: usize,
    },
    /// It is a link to `/dev/null`, which masks all files of its name.
    Masks,
    /// It is overridden by a file of the same name in a directory of higher priority.
    Replaced {
        /// The file that overrides it.
        by: String,
    },
    /// It is ignored: it is in a directory of policies, but its name is not that of a policy.
    Ignored,
}

/// A file of the policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FileReport {
    /// Its path.
    pub path: String,
    /// Its role.
    #[serde(flatten)]
    pub status: Status,
}

/// The policy, and its files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Loaded {
    /// The policy.
    pub policy: Policy,
    /// The files, in the order in which they are read; the ones that a file overrides follow it.
    pub files: Vec<FileReport>,
}

/// A file is not a valid policy, or is not trusted.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// It cannot be read, or somebody else can write it.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// Its content is not a valid policy.
    #[error("{path}:{error}", error = space_if_placeless(.error))]
    Parse {
        /// The file.
        path: String,
        /// The position, and the error.
        error: ParseError,
    },
}

/// Use the format of editors and compilers, `file:3:5: …`; without a position there is a space after the first colon.
fn space_if_placeless(error: &ParseError) -> String {
    match error.line {
        Some(_) => error.to_string(),
        None => format!(" {error}"),
    }
}

fn parsed(path: String, text: &str) -> Result<(String, PolicyFile), Vec<LoadError>> {
    let in_file = |error| LoadError::Parse {
        path: path.clone(),
        error,
    };
    match parse(text) {
        Ok(file) => Ok((path, file)),
        Err(_) => Err(errors(text).into_iter().map(in_file).collect()),
    }
}

/// Whether `name` is that of a policy. Editors hide their own files with a leading dot.
fn is_policy(name: &str) -> bool {
    name.ends_with(".yaml") && !name.starts_with('.')
}

/// Whether `name` is that of a file that looks like a policy and is ignored.
fn is_ignored(name: &str) -> bool {
    !name.ends_with(".yaml") && !name.starts_with('.')
}

/// The files in the system's directories below `root` that are ignored because of their names. A directory that cannot be
/// listed contributes none: [`load`] reports its error.
#[must_use]
pub fn ignored(root: &Root) -> Vec<FileReport> {
    let mut ignored = Vec::new();
    for folder in FOLDERS.iter().filter_map(|f| root.dir(f).ok().flatten()) {
        let names = folder.names().unwrap_or_default();
        let names = names.iter().filter(|name| is_ignored(name));
        ignored.extend(names.map(|name| FileReport {
            path: folder.display(name),
            status: Status::Ignored,
        }));
    }
    ignored
}

/// The ignored files in the directory at `path`, whoever can write it; none if it is a file.
#[must_use]
pub fn ignored_in(path: &Path) -> Vec<FileReport> {
    let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
    let named = entries.filter(|e| e.file_name().to_str().is_some_and(is_ignored));
    let mut ignored: Vec<_> = named
        .map(|entry| FileReport {
            path: entry.path().display().to_string(),
            status: Status::Ignored,
        })
        .collect();
    ignored.sort_by(|a, b| a.path.cmp(&b.path));
    ignored
}

/// Loads the policy of the system below `root`.
///
/// # Errors
///
/// All errors, in the order of the files; no part of the policy is to be applied then.
pub fn load(root: &Root) -> Result<Loaded, Vec<LoadError>> {
    let mut errors = Vec::new();
    let mut folders = Vec::new();
    let mut by_name: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for path in FOLDERS {
        let found = root.dir(path).and_then(|folder| match folder {
            Some(folder) => Ok(Some((folder.names()?, folder))),
            None => Ok(None),
        });
        match found {
            Ok(None) => {}
            Ok(Some((names, folder))) => {
                for name in names.into_iter().filter(|n| is_policy(n)) {
                    by_name.entry(name).or_default().push(folders.len());
                }
                folders.push(folder);
            }
            Err(error) => errors.push(error.into()),
        }
    }
    let mut loaded = Loaded::default();
    let mut files = Vec::new();
    for (name, places) in by_name {
        let mut places = places.into_iter().filter_map(|index| folders.get(index));
        let Some(first) = places.next() else {
            continue;
        };
        let path = first.display(&name);
        let status = match first.read(&name) {
            Ok(Content::Text(text)) => match parsed(path.clone(), &text) {
                Ok((path, file)) => {
                    let rules = file.rules.len();
                    files.push((path, file));
                    Status::Used { rules }
                }
                Err(wrong) => {
                    errors.extend(wrong);
                    continue;
                }
            },
            Ok(Content::Masked) => Status::Masks,
            // The file was removed since the directory was listed.
            Ok(Content::Absent) => continue,
            Err(error) => {
                errors.push(error.into());
                continue;
            }
        };
        loaded.files.push(FileReport {
            path: path.clone(),
            status,
        });
        loaded.files.extend(places.map(|folder| FileReport {
            path: folder.display(&name),
            status: Status::Replaced { by: path.clone() },
        }));
    }
    if errors.is_empty() {
        loaded.policy = Policy::from_files(files);
        Ok(loaded)
    } else {
        Err(errors)
    }
}

/// Loads the policy in the file or directory at `path`, whoever can write it: for commands that change nothing.
pub fn look(path: &Path) -> Result<Loaded, Vec<LoadError>> {
    let paths = if path.is_dir() {
        let listed = std::fs::read_dir(path).map_err(|e| vec![listing(path, &e).into()])?;
        let mut paths = Vec::new();
        for entry in listed {
            let entry = entry.map_err(|e| vec![listing(path, &e).into()])?;
            if entry.file_name().to_str().is_some_and(is_policy) {
                paths.push(entry.path());
            }
        }
        paths.sort();
        paths
    } else {
        vec![path.to_owned()]
    };
    let texts = paths
        .iter()
        .map(|path| Ok((path.display().to_string(), read_untrusted(path)?)));
    gather(texts)
}

fn listing(path: &Path, error: &std::io::Error) -> TrustError {
    TrustError::Os(OsError {
        verb: "list",
        path: path.display().to_string(),
        errno: errno(error),
    })
}

/// Loads the policy in the file or directory at `path`, below `root`, if only root can write it.
pub fn load_from(root: &Root, path: &Path) -> Result<Loaded, Vec<LoadError>> {
    let text = path.to_string_lossy();
    let text = text.trim_matches('/');
    let (folder, name) = text.rsplit_once('/').unwrap_or((".", text));
    let one = |error: TrustError| vec![error.into()];
    // The path names a directory of policies, or a file in a directory.
    let (folder, names) = match root.dir(text) {
        Ok(Some(folder)) => {
            let names = folder.names().map_err(one)?;
            (folder, names.into_iter().filter(|n| is_policy(n)).collect())
        }
        Ok(None) => return Err(one(absent(root, text))),
        Err(TrustError::Os(OsError {
            errno: nix::errno::Errno::ENOTDIR,
            ..
        })) => match root.dir(folder).map_err(one)? {
            Some(folder) => (folder, vec![name.to_owned()]),
            None => return Err(one(absent(root, folder))),
        },
        Err(error) => return Err(one(error)),
    };
    let texts = names.iter().filter_map(|name| match folder.read(name) {
        Ok(Content::Text(text)) => Some(Ok((folder.display(name), text))),
        Ok(Content::Masked) => None,
        Ok(Content::Absent) => Some(Err(absent(root, text).into())),
        Err(error) => Some(Err(error.into())),
    });
    gather(texts)
}

/// The reason why `policy apply` would refuse the file or directory at `path`, which other commands accept; `None` if it would
/// not.
#[must_use]
pub fn distrust(path: &Path) -> Option<LoadError> {
    let path = std::path::absolute(path).ok()?;
    let root = Root::open(None).ok()?;
    let errors = load_from(&root, &path).err()?;
    errors
        .into_iter()
        .find(|error| matches!(error, LoadError::Trust(_)))
}

fn absent(root: &Root, path: &str) -> TrustError {
    TrustError::Os(OsError {
        verb: "open",
        path: root.display(path),
        errno: nix::errno::Errno::ENOENT,
    })
}

/// Parses texts in their order, and merges them.
fn gather(
    texts: impl Iterator<Item = Result<(String, String), LoadError>>,
) -> Result<Loaded, Vec<LoadError>> {
    let mut errors = Vec::new();
    let mut loaded = Loaded::default();
    let mut files = Vec::new();
    for text in texts {
        let text = text.map_err(|error| vec![error]);
        match text.and_then(|(path, text)| parsed(path, &text)) {
            Ok((path, file)) => {
                loaded.files.push(FileReport {
                    path: path.clone(),
                    status: Status::Used {
                        rules: file.rules.len(),
                    },
                });
                files.push((path, file));
            }
            Err(wrong) => errors.extend(wrong),
        }
    }
    if errors.is_empty() {
        loaded.policy = Policy::from_files(files);
        Ok(loaded)
    } else {
        Err(errors)
    }
}

/// The failure for a policy that cannot be used, with all errors at once.
pub fn wrong(errors: &[LoadError]) -> anyhow::Error {
    let whole = "nothing was changed: a policy counts whole or not at all";
    let lines: Vec<String> = errors.iter().map(ToString::to_string).collect();
    let failure = match lines.as_slice() {
        [one] => Failure::new(Exit::Failed, one).with_advice(vec![whole.to_owned()]),
        many => Failure::new(
            Exit::Failed,
            format!("{} errors in the policy; {whole}", many.len()),
        )
        .with_advice(lines),
    };
    failure.into()
}
