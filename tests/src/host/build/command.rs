// SPDX-License-Identifier: GPL-2.0-only
//! Running other programs, with everything they print kept in one log file per step.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{bail, Context as _, Result};

/// How many lines of a log are shown when a step fails.
const SHOWN: usize = 15;

/// The log file of one step.
#[derive(Debug)]
pub struct Log {
    path: PathBuf,
}

impl Log {
    /// Starts an empty log at `path`.
    ///
    /// # Errors
    /// When the file cannot be created.
    pub fn create(path: PathBuf) -> Result<Self> {
        File::create(&path).with_context(|| format!("cannot create the log {}", path.display()))?;
        Ok(Self { path })
    }

    /// Where the log is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn open(&self, command: &Command) -> Result<File> {
        let mut file = OpenOptions::new()
            .append(true)
            .create(true)
            .open(&self.path)
            .with_context(|| format!("cannot write the log {}", self.path.display()))?;
        writeln!(file, "+ {command:?}")
            .with_context(|| format!("cannot write the log {}", self.path.display()))?;
        Ok(file)
    }

    /// Runs `command`; all it prints goes into the log.
    ///
    /// # Errors
    /// When it cannot be started, or does not end with status 0: the message has the log's path and last lines.
    pub fn run(&self, command: &mut Command) -> Result<()> {
        let file = self.open(command)?;
        let other = file
            .try_clone()
            .context("cannot share the log between two streams")?;
        let name = name(command);
        let status = command
            .stdin(Stdio::null())
            .stdout(file)
            .stderr(other)
            .status()
            .with_context(|| format!("cannot start {name}"))?;
        if status.success() {
            return Ok(());
        }
        bail!(
            "{name} failed ({status}); log: {}\n{}",
            self.path.display(),
            self.tail()
        );
    }

    /// Runs `command` and returns what it printed on standard output; the rest goes into the log.
    ///
    /// # Errors
    /// As [`Log::run`].
    pub fn capture(&self, command: &mut Command) -> Result<String> {
        let file = self.open(command)?;
        let name = name(command);
        let output = command
            .stdin(Stdio::null())
            .stderr(file)
            .output()
            .with_context(|| format!("cannot start {name}"))?;
        if !output.status.success() {
            bail!(
                "{name} failed ({}); log: {}\n{}",
                output.status,
                self.path.display(),
                self.tail()
            );
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// The last lines of the log, indented.
    pub fn tail(&self) -> String {
        let text = std::fs::read(&self.path).unwrap_or_default();
        let text = String::from_utf8_lossy(&text).into_owned();
        let lines: Vec<&str> = text.lines().collect();
        let from = lines.len().saturating_sub(SHOWN);
        lines[from..]
            .iter()
            .map(|line| format!("    | {line}\n"))
            .collect()
    }
}

/// The program that does the work and its arguments, for error messages, without what it takes to get into the root
/// and shortened: the log has all of it.
fn name(command: &Command) -> String {
    let words: Vec<String> = std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    let inside = words
        .iter()
        .position(|word| word == crate::host::build::chroot::LAST_WORD);
    let (words, place) = match inside {
        Some(last) => (&words[last + 1..], " in the cache's root"),
        None => (&words[..], ""),
    };
    let mut text = words.join(" ");
    if text.chars().count() > 160 {
        text = text.chars().take(157).collect::<String>() + "...";
    }
    format!("`{text}`{place}")
}

/// A command that runs as root: as it is when we are root, else through `sudo`.
pub fn as_root(program: &str) -> Command {
    if nix::unistd::geteuid().is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("sudo");
    command.arg("--").arg(program);
    command
}

/// The cargo that runs us, else the one in `PATH`.
pub fn cargo() -> Command {
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

/// `-jN` for make: as many jobs as there are processors.
pub fn jobs() -> String {
    let processors = std::thread::available_parallelism();
    format!("-j{}", processors.map_or(2, usize::from))
}

/// Whether a program is in `PATH` (or in the folders for administrators' programs, which users often lack there).
pub fn in_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let admin = ["/usr/sbin", "/sbin", "/usr/local/sbin"].map(PathBuf::from);
    std::env::split_paths(&path)
        .chain(admin)
        .any(|folder| folder.join(program).is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_names_the_program_the_log_and_the_last_lines() {
        let folder = tempfile::tempdir().unwrap();
        let log = Log::create(folder.path().join("step.log")).unwrap();
        let error = log
            .run(Command::new("sh").args(["-c", "echo it broke; exit 3"]))
            .unwrap_err();
        let text = error.to_string();
        assert!(
            text.contains("`sh -c echo it broke; exit 3` failed (exit status: 3)"),
            "{text}"
        );
        assert!(
            text.contains("step.log") && text.contains("| it broke"),
            "{text}"
        );
    }

    #[test]
    fn a_missing_program_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let log = Log::create(folder.path().join("step.log")).unwrap();
        let error = log
            .run(&mut Command::new("no-such-program-here"))
            .unwrap_err();
        assert!(error
            .to_string()
            .contains("cannot start `no-such-program-here`"));
    }
}
