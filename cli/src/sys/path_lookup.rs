// SPDX-License-Identifier: GPL-2.0-only
//! Looks up a program the way execvp(3) does before it is run, so that nothing is prepared for a program that is missing.

use std::env;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::unistd::{access, AccessFlags};

use crate::exit::{Exit, Failure};

/// The directories that are searched if `PATH` is not set.
const DEFAULT_PATH: &str = "/bin:/usr/bin";
/// The exit code of env(1), timeout(1) and shells for a program that is not found.
const NOT_FOUND: Exit = Exit::Command(127);
/// The exit code of the same programs for a program that cannot be run.
const CANNOT_RUN: Exit = Exit::Command(126);

/// Checks that `program` exists, in `PATH` unless its name has a slash, and is executable.
///
/// # Errors
///
/// [`Failure`], with the exit code that shells give.
pub fn check(program: &OsStr) -> Result<(), Failure> {
    let path = env::var_os("PATH").unwrap_or_else(|| OsString::from(DEFAULT_PATH));
    check_in(program, &path)
}

fn check_in(program: &OsStr, path: &OsStr) -> Result<(), Failure> {
    let candidates: Vec<PathBuf> = if program.as_bytes().contains(&b'/') {
        vec![PathBuf::from(program)]
    } else if program.is_empty() {
        Vec::new()
    } else {
        env::split_paths(path).map(|d| d.join(program)).collect()
    };
    let mut why = Errno::ENOENT;
    for candidate in candidates {
        match runnable(&candidate) {
            Ok(()) => return Ok(()),
            Err(Errno::ENOENT | Errno::ENOTDIR) => {}
            Err(errno) => why = errno,
        }
    }
    Err(failure(program, &why.into()))
}

fn runnable(path: &Path) -> nix::Result<()> {
    access(path, AccessFlags::X_OK)?;
    if path.is_dir() {
        return Err(Errno::EISDIR);
    }
    Ok(())
}

/// The failure for a `program` that was not run, with its exit code.
#[must_use]
pub fn failure(program: &OsStr, error: &io::Error) -> Failure {
    let exit = match error.kind() {
        io::ErrorKind::NotFound => NOT_FOUND,
        _ => CANNOT_RUN,
    };
    let errno = error.raw_os_error().map(Errno::from_raw);
    let why = errno.map_or_else(|| error.to_string(), |errno| errno.desc().to_owned());
    let program = program.to_string_lossy();
    Failure::new(exit, format!("Failed to run {program}: {why}"))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_program_is_found_as_execvp_finds_it() {
        let dir = tempfile::tempdir().unwrap();
        for (name, mode) in [("first/tool", 0o644), ("second/tool", 0o755)] {
            let file = dir.path().join(name);
            fs::create_dir(file.parent().unwrap()).unwrap();
            fs::write(&file, "").unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
        }
        let [first, second, none] = ["first", "second", "none"].map(|n| dir.path().join(n));
        let code = |program: &OsStr, path: &[&PathBuf]| {
            let path = env::join_paths(path).unwrap();
            check_in(program, &path).map_err(|failure| failure.exit.code())
        };
        let tool = OsStr::new("tool");
        assert_eq!(code(tool, &[&none, &first, &second]), Ok(()));
        assert_eq!(code(tool, &[&first, &none]), Err(126));
        assert_eq!(code(tool, &[&none]), Err(127));
        assert_eq!(code(OsStr::new(""), &[&second]), Err(127));
        assert_eq!(code(second.join("tool").as_os_str(), &[&none]), Ok(()));
        assert_eq!(code(second.as_os_str(), &[&none]), Err(126));
    }
}
