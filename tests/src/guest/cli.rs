// SPDX-License-Identifier: GPL-2.0-only
//! Running `iommuctl`, the way people do.

use std::fmt;
use std::process::{Command, Output};

use anyhow::{bail, Context as _, Result};
use serde_json::Value;

/// Where it is.
pub const PROGRAM: &str = "/bin/iommuctl";

/// What one run said.
#[derive(Clone, Debug)]
pub struct Said {
    /// The words it was given.
    pub line: String,
    /// Its exit code; -1 when a signal ended it.
    pub code: i32,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

/// Runs it with `arguments`, separated by spaces.
///
/// # Errors
/// When it cannot be started.
pub fn iommuctl(arguments: &str) -> Result<Said> {
    let mut command = Command::new(PROGRAM);
    said(command.args(arguments.split_whitespace()), arguments)
}

/// Runs a prepared command, which `line` describes.
///
/// # Errors
/// When it cannot be started.
pub fn said(command: &mut Command, line: &str) -> Result<Said> {
    let output: Output = command
        .output()
        .with_context(|| format!("cannot start {PROGRAM} {line}"))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
    Ok(Said {
        line: line.to_owned(),
        code: output.status.code().unwrap_or(-1),
        out: text(&output.stdout),
        err: text(&output.stderr),
    })
}

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.all())
    }
}

impl Said {
    /// All it said, for reports.
    pub fn all(&self) -> String {
        format!(
            "`iommuctl {}` ended with {}\nout: {}\nerr: {}",
            self.line, self.code, self.out, self.err
        )
    }

    /// Makes sure that it ended with `code`.
    ///
    /// # Errors
    /// When it did not.
    pub fn ended(self, code: i32) -> Result<Self> {
        if self.code != code {
            bail!("expected exit code {code}: {}", self.all());
        }
        Ok(self)
    }

    /// Makes sure that it said each of `words`, on either stream, in whatever case.
    ///
    /// # Errors
    /// When one is missing.
    pub fn mentions(self, words: &[&str]) -> Result<Self> {
        let text = format!("{}\n{}", self.out, self.err).to_lowercase();
        for word in words {
            if !text.contains(&word.to_lowercase()) {
                bail!("`{word}` is not in what it said: {}", self.all());
            }
        }
        Ok(self)
    }

    /// Standard output as JSON.
    ///
    /// # Errors
    /// When it is none, or has another version than 1.
    pub fn json(&self) -> Result<Value> {
        let value: Value =
            serde_json::from_str(&self.out).with_context(|| format!("no JSON: {}", self.all()))?;
        if value.get("version").and_then(Value::as_u64) != Some(1) {
            bail!("the document's version is not 1: {}", self.all());
        }
        Ok(value)
    }
}
