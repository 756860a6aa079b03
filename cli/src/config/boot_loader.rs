// SPDX-License-Identifier: GPL-2.0-only
//! The kernel command line of the next boot, changed through the distribution's own helper.
//!
//! | loader | what is changed | what makes it take effect |
//! | --- | --- | --- |
//! | GRUB with `update-grub` (Debian and its family) | a file in `/etc/default/grub.d` | `update-grub` |
//! | whatever `grubby` manages (Fedora and its family) | every entry | `grubby --update-kernel=ALL` |
//! | `kernel-install` (systemd-boot, unified images) | `/etc/kernel/cmdline` | `kernel-install add-all` |
//!
//! Our parameters come last, and the kernel uses the last value of each parameter. They follow a marker, `iommuctl.defaults=`,
//! by which they are found again: no other state is needed, and `/proc/cmdline` shows who added them. The kernel ignores
//! parameters of modules that it does not have.

use std::fmt;

use clap::ValueEnum;

use crate::sys::trusted::{Content, Root, TrustError};

/// What groups start as, unless a device or the IOMMU driver needs something else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum BootDefault {
    /// DMA: translated and strict (iommu.passthrough=0 iommu.strict=1)
    Strict,
    /// DMA-FQ: translated and lazy (iommu.passthrough=0 iommu.strict=0)
    Lazy,
    /// identity: not translated, no protection (iommu.passthrough=1)
    Passthrough,
}

/// The marker before our parameters.
const MARK: &str = "iommuctl.defaults";
/// Our file for GRUB, and its directory.
const GRUB_FOLDER: &str = "etc/default/grub.d";
const GRUB_FILE: &str = "zz-iommuctl.cfg";
/// The file for `kernel-install`, and its directory.
const KERNEL_FOLDER: &str = "etc/kernel";
const KERNEL_FILE: &str = "cmdline";

/// The helper that writes the command line into the boot loader's configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Loader {
    /// `update-grub`, with a directory of files that GRUB's scripts read.
    Grub,
    /// `grubby`.
    Grubby,
    /// `kernel-install`, which reads `/etc/kernel/cmdline`; the field is its present content.
    KernelInstall(String),
}

impl Loader {
    /// The program of the helper, relative to the root.
    fn program(&self) -> &'static str {
        match self {
            Self::Grub => "usr/sbin/update-grub",
            Self::Grubby => "usr/sbin/grubby",
            Self::KernelInstall(_) => "usr/bin/kernel-install",
        }
    }

    /// The helper that manages the system below `root`; `None` if there is none.
    ///
    /// # Errors
    ///
    /// [`TrustError`], if one of its files cannot be read, or others can write it.
    pub fn find(root: &Root) -> Result<Option<Self>, TrustError> {
        if root.has_program(Self::Grubby.program()) {
            return Ok(Some(Self::Grubby));
        }
        if root.has_program(Self::Grub.program()) && root.dir(GRUB_FOLDER)?.is_some() {
            return Ok(Some(Self::Grub));
        }
        let by_kernel_install = Self::KernelInstall(String::new());
        if let Some(folder) = root.dir(KERNEL_FOLDER)? {
            if let (Content::Text(text), true) = (
                folder.read(KERNEL_FILE)?,
                root.has_program(by_kernel_install.program()),
            ) {
                return Ok(Some(Self::KernelInstall(text)));
            }
        }
        Ok(None)
    }
}

impl fmt::Display for Loader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Grub => "update-grub",
            Self::Grubby => "grubby",
            Self::KernelInstall(_) => "kernel-install",
        })
    }
}

/// The parameters that `defaults set` added to the next command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Added {
    /// These parameters.
    Words(String),
    /// No parameters.
    Nothing,
    /// Not known here: only the helper can tell.
    Unknown,
}

impl Loader {
    /// The parameters for the next boot, according to our own files. With grubby there are none.
    ///
    /// # Errors
    ///
    /// [`TrustError`], if a file cannot be read, or others can write it.
    pub fn added(&self, root: &Root) -> Result<Added, TrustError> {
        let text = match self {
            Self::Grubby => return Ok(Added::Unknown),
            Self::KernelInstall(line) => Some(line.clone()),
            Self::Grub => match root.dir(GRUB_FOLDER)? {
                Some(folder) => match folder.read(GRUB_FILE)? {
                    Content::Text(text) => Some(text),
                    Content::Masked | Content::Absent => None,
                },
                None => None,
            },
        };
        Ok(match text.as_deref().and_then(ours) {
            Some(words) => Added::Words(words),
            // Count a file of ours that somebody has edited: it is to be removed as well.
            None if text.is_some() && *self == Self::Grub => Added::Unknown,
            None => Added::Nothing,
        })
    }
}

/// Our parameters in a command line or in GRUB's file, without the marker.
fn ours(text: &str) -> Option<String> {
    let (_, rest) = text.split_once(&format!("{MARK}="))?;
    let words = rest.split_ascii_whitespace().skip(1);
    let words = words.map(|w| w.trim_matches('"'));
    let names = ["iommu.passthrough=", "iommu.strict="];
    let words: Vec<&str> = words
        .take_while(|w| names.iter().any(|name| w.starts_with(name)))
        .collect();
    Some(words.join(" "))
}

/// One step of a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Replace a file.
    Write {
        /// Its directory, relative to the root.
        folder: &'static str,
        /// Its name.
        name: &'static str,
        /// Its new content.
        text: String,
    },
    /// Remove a file.
    Remove {
        /// Its directory, relative to the root.
        folder: &'static str,
        /// Its name.
        name: &'static str,
    },
    /// Run a program.
    Run {
        /// The program, relative to the root.
        program: &'static str,
        /// Its arguments.
        arguments: Vec<String>,
    },
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Write { folder, name, text } => {
                write!(f, "write /{folder}/{name}:")?;
                text.lines().try_for_each(|line| write!(f, "\n    {line}"))
            }
            Self::Remove { folder, name } => write!(f, "remove /{folder}/{name}"),
            Self::Run { program, arguments } => {
                write!(f, "run /{program}")?;
                arguments.iter().try_for_each(|word| write!(f, " {word}"))
            }
        }
    }
}

/// The kernel parameters for `wanted`.
#[must_use]
pub fn words(wanted: BootDefault) -> &'static str {
    match wanted {
        BootDefault::Strict => "iommu.passthrough=0 iommu.strict=1",
        BootDefault::Lazy => "iommu.passthrough=0 iommu.strict=0",
        BootDefault::Passthrough => "iommu.passthrough=1",
    }
}

fn marked(wanted: BootDefault) -> String {
    let name = match wanted {
        BootDefault::Strict => "strict",
        BootDefault::Lazy => "lazy",
        BootDefault::Passthrough => "passthrough",
    };
    format!("{MARK}={name} {}", words(wanted))
}

/// The steps that make groups start as `wanted`, or, with `None`, undo an earlier change.
#[must_use]
pub fn change(loader: &Loader, wanted: Option<BootDefault>) -> Vec<Action> {
    let run = |arguments: &[&str]| Action::Run {
        program: loader.program(),
        arguments: arguments.iter().map(|a| (*a).to_owned()).collect(),
    };
    match (loader, wanted) {
        (Loader::Grub, Some(wanted)) => vec![
            Action::Write {
                folder: GRUB_FOLDER,
                name: GRUB_FILE,
                text: grub(&marked(wanted)),
            },
            run(&[]),
        ],
        (Loader::Grub, None) => vec![
            Action::Remove {
                folder: GRUB_FOLDER,
                name: GRUB_FILE,
            },
            run(&[]),
        ],
        (Loader::Grubby, Some(wanted)) => vec![run(&[
            "--update-kernel=ALL",
            &format!("--args={}", marked(wanted)),
        ])],
        (Loader::Grubby, None) => vec![run(&[
            "--update-kernel=ALL",
            &format!("--remove-args={MARK} iommu.passthrough iommu.strict"),
        ])],
        (Loader::KernelInstall(now), wanted) => {
            let mut line = without_ours(now);
            if let Some(wanted) = wanted {
                line = format!("{line} {}", marked(wanted));
            }
            vec![
                Action::Write {
                    folder: KERNEL_FOLDER,
                    name: KERNEL_FILE,
                    text: format!("{}\n", line.trim()),
                },
                run(&["add-all"]),
            ]
        }
    }
}

/// The content of GRUB's file. GRUB appends the second variable after the first, and leaves it out of recovery entries.
fn grub(words: &str) -> String {
    format!(
        "# Made by `iommuctl defaults set`; `iommuctl defaults undo` removes it.\n\
         GRUB_CMDLINE_LINUX=\"$GRUB_CMDLINE_LINUX {words}\"\n\
         GRUB_CMDLINE_LINUX_DEFAULT=\"$GRUB_CMDLINE_LINUX_DEFAULT {words}\"\n"
    )
}

/// `line` without our marker and the parameters that follow it.
fn without_ours(line: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    let mut ours = false;
    for word in line.split_ascii_whitespace() {
        let name = word.split('=').next().unwrap_or_default();
        ours = name == MARK || (ours && matches!(name, "iommu.passthrough" | "iommu.strict"));
        if !ours {
            kept.push(word);
        }
    }
    kept.join(" ")
}

/// The parameters on `cmdline` that affect the defaults and are not ours.
#[must_use]
pub fn others(cmdline: &str) -> Vec<String> {
    let kept = without_ours(cmdline);
    let names = ["iommu.passthrough=", "iommu.strict="];
    let of_interest = |w: &&str| names.iter().any(|name| w.starts_with(name));
    let words = kept.split_ascii_whitespace().filter(of_interest);
    words.map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strict_means_strict_and_not_merely_translated() {
        assert!(words(BootDefault::Strict).contains("iommu.strict=1"));
        assert!(words(BootDefault::Strict).contains("iommu.passthrough=0"));
    }

    #[test]
    fn undo_of_set_is_nothing() {
        for before in ["root=/dev/sda1 ro", "quiet iommu.strict=0 iommu=pt", ""] {
            let mut line = before.to_owned();
            for wanted in [BootDefault::Strict, BootDefault::Passthrough] {
                let loader = Loader::KernelInstall(format!("{line}\n"));
                let Action::Write { text, .. } = &change(&loader, Some(wanted))[0] else {
                    panic!("nothing is written");
                };
                assert_eq!(text.matches(MARK).count(), 1, "{text}");
                line = text.trim().to_owned();
            }
            let loader = Loader::KernelInstall(line);
            let Action::Write { text, .. } = &change(&loader, None)[0] else {
                panic!("nothing is written");
            };
            assert_eq!(text.trim(), before);
        }
    }

    #[test]
    fn our_words_are_not_others() {
        let line =
            "quiet iommu.strict=0 iommuctl.defaults=strict iommu.passthrough=0 iommu.strict=1";
        assert_eq!(others(line), ["iommu.strict=0"]);
    }
}
