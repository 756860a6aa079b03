// SPDX-License-Identifier: GPL-2.0-only
//! Everything the program says goes through here.

use std::fmt::Display;
use std::io::{self, IsTerminal, Stderr, Stdout, Write};

use anstream::adapter::strip_bytes;
use anstream::{AutoStream, ColorChoice};
use clap::ValueEnum;
use nix::errno::Errno;
use serde::Serialize;

use super::style;
use crate::exit::{Exit, Failure};

/// The version of every JSON document. It changes when a document changes in a way that breaks its readers.
const VERSION: u32 = 1;

/// A JSON document: its version, and what it says.
#[derive(Serialize)]
struct Document<'a, T: Serialize> {
    version: u32,
    #[serde(flatten)]
    body: &'a T,
}

#[derive(Serialize)]
struct ErrorBody<'a> {
    error: ErrorReport<'a>,
}

#[derive(Serialize)]
struct ErrorReport<'a> {
    message: &'a str,
    advice: &'a [String],
    exit_code: u8,
}

/// Standard output and standard error, as the user wants them.
pub struct Output {
    json: bool,
    quiet: bool,
    /// Whether nobody reads what is written any more.
    closed: bool,
    stdout: Stdout,
    /// Whether standard output gets no colours.
    plain: bool,
    stderr: AutoStream<Stderr>,
}

impl Output {
    /// With `json` documents in place of text, or, if `quiet`, errors only.
    pub fn new(json: bool, quiet: bool, color: Color) -> Self {
        let choice = match color {
            Color::Auto => ColorChoice::Auto,
            Color::Always => ColorChoice::Always,
            Color::Never => ColorChoice::Never,
        };
        let stdout = io::stdout();
        let plain = match choice {
            ColorChoice::Auto => AutoStream::choice(&stdout) == ColorChoice::Never,
            other => other == ColorChoice::Never,
        };
        Self {
            json,
            quiet,
            closed: false,
            stdout,
            plain,
            stderr: AutoStream::new(io::stderr(), choice),
        }
    }

    /// Whether a program reads what is written.
    pub fn is_json(&self) -> bool {
        self.json
    }

    /// Whether only errors are to be written.
    pub fn is_quiet(&self) -> bool {
        self.quiet
    }

    /// Whether nobody reads standard output any more: what goes on without end can end then.
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// Whether progress is welcome: to a person who looks on.
    pub fn wants_progress(&self) -> bool {
        !self.json && !self.quiet && io::stderr().is_terminal()
    }

    /// Writes a report: as JSON, or for people with `human`.
    pub fn report<T: Serialize>(
        &mut self,
        report: &T,
        human: impl FnOnce(&mut dyn Write, &T) -> io::Result<()>,
    ) -> anyhow::Result<()> {
        if self.json {
            self.document(report)?;
        } else if !self.quiet {
            let mut text = Vec::new();
            human(&mut text, report)?;
            self.raw(&text)?;
        }
        Ok(())
    }

    fn document<T: Serialize>(&mut self, body: &T) -> anyhow::Result<()> {
        let version = VERSION;
        let mut text = serde_json::to_vec_pretty(&Document { version, body })?;
        text.push(b'\n');
        // Nothing to strip: in JSON an escape is written as text.
        self.put(&text)
    }

    /// Writes to standard output. That nobody reads any more (`iommuctl list | head -1`) is no error.
    pub fn raw(&mut self, text: &[u8]) -> anyhow::Result<()> {
        // All of it at once: taken apart by colours, each line would be a write of its own.
        match self.plain {
            true => self.put(&strip_bytes(text).into_vec()),
            false => self.put(text),
        }
    }

    fn put(&mut self, text: &[u8]) -> anyhow::Result<()> {
        let mut stdout = self.stdout.lock();
        let written = stdout.write_all(text).and_then(|()| stdout.flush());
        match written {
            Err(error) if error.raw_os_error() == Some(Errno::EPIPE as i32) => {
                self.closed = true;
                Ok(())
            }
            other => Ok(other?),
        }
    }

    /// One warning on standard error for each of `texts`.
    pub fn warn_all(&mut self, texts: impl IntoIterator<Item = impl Display>) {
        for text in texts {
            self.warn(&text.to_string());
        }
    }

    /// One line on standard error about what is not wrong here, but may not be what was meant.
    pub fn warn(&mut self, text: &str) {
        let style = style::WARN;
        self.complain(&format!("{style}warning:{style:#} {text}"));
    }

    /// Says what ended the command, and returns how the program is to end.
    pub fn failure(&mut self, failure: &Failure) -> Exit {
        if self.json {
            let error = ErrorReport {
                message: &failure.message,
                advice: &failure.advice,
                exit_code: failure.exit.code(),
            };
            // If this cannot be written either, the exit code still says it.
            let _ = self.document(&ErrorBody { error });
        }
        self.complain(&failure.message);
        for line in &failure.advice {
            self.hint(line);
        }
        failure.exit
    }

    /// One line on standard error, after the program's name.
    pub fn complain(&mut self, text: &str) {
        // There is nowhere left to report a failure of standard error.
        let _ = writeln!(self.stderr, "iommuctl: {text}");
    }

    /// One line on standard error that is no complaint; not for those who want errors only.
    pub fn remark(&mut self, text: &str) {
        if !self.quiet {
            self.complain(text);
        }
    }

    /// One line of advice on standard error, below a complaint.
    pub fn hint(&mut self, text: &str) {
        let _ = writeln!(self.stderr, "  - {text}");
    }
}

/// When to use colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Color {
    /// On a terminal, unless NO_COLOR is set.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}
