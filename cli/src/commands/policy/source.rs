// SPDX-License-Identifier: GPL-2.0-only
//! Which policy a command is about, and what all of them say about its files and rules.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use iommuctl_policy::RuleName;

use crate::commands::common::args::Global;
use crate::config::policy_files::{self, wrong, Loaded, FOLDERS};
use crate::terminal::output::Output;

/// Which policy.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Source {
    /// Use this file, or the *.yaml files of this directory, in place of the system's policy
    #[arg(long = "policy", value_name = "PATH")]
    pub path: Option<PathBuf>,
}

/// The policy for a command that only looks: of the system, or whatever file it is given.
pub fn look(source: &Source, global: &Global) -> anyhow::Result<Loaded> {
    let loaded = match &source.path {
        Some(path) => policy_files::look(path),
        None => policy_files::load(&global.roots.open_root()?),
    };
    loaded.map_err(|errors| wrong(&errors))
}

/// Says which files of the policy do not count because of their names: a rule that is not heeded protects nobody.
pub fn warn_of_ignored(
    source: &Source,
    global: &Global,
    output: &mut Output,
) -> anyhow::Result<()> {
    let ignored = match &source.path {
        Some(path) => policy_files::ignored_in(path),
        None => policy_files::ignored(&global.roots.open_root()?),
    };
    for file in ignored {
        output.warn(&format!(
            "{} is ignored: its name does not end in .yaml",
            file.path
        ));
    }
    Ok(())
}

/// Says why `policy apply` will not take a file that was found good by a command that only looks.
pub fn warn_of_distrust(path: &Path, output: &mut Output) {
    // What cannot be found is an error of the command itself.
    if !path.exists() {
        return;
    }
    if let Some(error) = policy_files::distrust(path) {
        output.warn(&format!("`policy apply` will not take this file: {error}"));
    }
}

/// Says that there is no policy, and where one would be.
pub fn no_policy(w: &mut dyn Write) -> io::Result<()> {
    writeln!(w, "There is no policy: every group stays as it is.")?;
    writeln!(
        w,
        "A policy is what *.yaml files say in /{}.",
        FOLDERS.join(", /")
    )
}

/// The rules that decided, in one cell.
pub fn rules(rules: &[RuleName]) -> String {
    match rules {
        [] => "(defaults)".to_owned(),
        rules => {
            let names: Vec<&str> = rules.iter().map(|r| r.name.as_str()).collect();
            names.join("; ")
        }
    }
}
