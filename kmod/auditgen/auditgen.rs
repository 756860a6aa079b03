// SPDX-License-Identifier: GPL-2.0-only

//! Writes `src/audit_generated.rs`: whether the target kernel's code is the code that was read when
//! the switch was argued for.
//!
//! Usage:
//!
//! * `auditgen check LIST RELEASE ARCH OUTPUT [TREE]` compares the source tree at `TREE`, or without one
//!   the kernel's series alone, with the list. It says what came out; only what is wrong with the
//!   list, or with the arguments, is an error.
//! * `auditgen list LIST SERIES TREE` prints the part of the list for a series, with the hashes of
//!   that tree. They are no more than hashes: put them on the list when the code was read.
//! * `auditgen files LIST` prints the files of the kernel's that are looked at.

mod emit;
#[path = "../layoutgen/hash.rs"]
mod hash;
mod list;
mod source;

use list::List;
use std::path::Path;
use std::process::ExitCode;

/// Reads a file of the source tree at `tree`.
fn read(tree: &str, file: &str) -> Result<String, String> {
    let bytes = std::fs::read(Path::new(tree).join(file)).map_err(|e| e.to_string())?;
    // Names of people in comments may be in any encoding.
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn run() -> Result<(), String> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let list = |path: &str| {
        let text = std::fs::read_to_string(path).map_err(|e| format!("cannot read {path}: {e}"))?;
        List::parse(&text).map_err(|e| format!("{path}: {e}"))
    };
    match args[..] {
        ["check", path, release, arch, output, ref tree @ ..] if tree.len() < 2 => {
            let series = emit::series(release);
            let tree = tree.first().copied();
            let reader = |file: &str| read(tree.unwrap_or_default(), file);
            let level = list(path)?.compare(&series, arch, tree.map(|_| &reader as list::Read<'_>));
            println!("iommu_live: {}.", level.sentence(&series));
            std::fs::write(output, emit::text(&level, &series))
                .map_err(|e| format!("cannot write {output}: {e}"))
        }
        ["list", path, series, tree] => {
            print!("{}", list(path)?.list(series, &|file| read(tree, file))?);
            Ok(())
        }
        ["files", path] => {
            for file in list(path)?.files() {
                println!("{file}");
            }
            Ok(())
        }
        _ => Err(
            "usage: auditgen check LIST RELEASE ARCH OUTPUT [TREE] | list LIST SERIES TREE | files LIST"
                .into(),
        ),
    }
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("auditgen: {message}");
            ExitCode::FAILURE
        }
    }
}
