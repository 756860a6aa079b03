// SPDX-License-Identifier: GPL-2.0-only
//! Exit codes. They are part of the interface, and the help text and the man page show this table.

use std::process::ExitCode;

/// How the program ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Everything asked for was done, or was so already.
    Done,
    /// It failed.
    Failed,
    /// The command line makes no sense. (clap ends the program with the same code.)
    Usage,
    /// A safety rule, the kernel or the module refused it; nothing was changed.
    Refused,
    /// Some of it was done, some was not.
    Partly,
    /// As the command that was run ended.
    Command(u8),
}

impl Exit {
    /// The number the calling program sees.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Refused => 3,
            Self::Partly => 4,
            Self::Command(code) => code,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// The table for `--help` and the man pages.
pub const HELP: &str = "\
Exit codes:
  0  done, or already so
  1  failed: nothing found for a target, no IOMMU, not permitted, a write failed or took too long
  2  usage: the command line makes no sense
  3  refused: a safety rule, the kernel or the module did not allow it
  4  partly done: some groups were switched, others were not";

/// A runtime failure that ends the command with a particular exit code.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// The code to end with.
    pub exit: Exit,
    /// What went wrong.
    pub message: String,
    /// What would work instead, one line each.
    pub advice: Vec<String>,
}

impl Failure {
    /// A failure that ends with `exit`, without advice.
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self {
            exit,
            message: message.into(),
            advice: Vec::new(),
        }
    }

    /// The same failure with `advice`.
    #[must_use]
    pub fn with_advice(mut self, advice: Vec<String>) -> Self {
        self.advice = advice;
        self
    }
}
