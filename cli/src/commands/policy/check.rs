// SPDX-License-Identifier: GPL-2.0-only
//! `iommuctl policy check`: whether the files are right, without looking at the machine.

use serde::Serialize;

use super::wrong;
use crate::cli::{CheckArgs, Global};
use crate::config::policy_files::{self, FileReport};
use crate::exit::Exit;
use crate::render;
use crate::sys::trusted::Root;
use crate::terminal::output::Output;

/// What `policy check` found.
#[derive(Debug, Serialize)]
pub struct CheckReport {
    pub files: Vec<FileReport>,
    pub rules: usize,
}

/// Runs the command.
pub fn run(args: &CheckArgs, global: &Global, output: &mut Output) -> anyhow::Result<Exit> {
    let mut report = CheckReport {
        files: Vec::new(),
        rules: 0,
    };
    let mut errors = Vec::new();
    let (results, ignored) = if args.files.is_empty() {
        let root = Root::open(global.root.as_deref())?;
        (
            vec![policy_files::load(&root)],
            policy_files::ignored(&root),
        )
    } else {
        let files = args.files.iter();
        let ignored = files.clone().flat_map(|f| policy_files::ignored_in(f));
        (
            files.clone().map(|f| policy_files::look(f)).collect(),
            ignored.collect(),
        )
    };
    for result in results {
        match result {
            Ok(loaded) => {
                report.rules += loaded.policy.rules.len();
                report.files.extend(loaded.files);
            }
            Err(wrong) => errors.extend(wrong),
        }
    }
    if !errors.is_empty() {
        return Err(wrong(&errors));
    }
    report.files.extend(ignored);
    output.report(&report, |w, r| render::policy::check::write(w, r))?;
    Ok(Exit::Done)
}
