// SPDX-License-Identifier: GPL-2.0-only
//! What the commands about policies say.

pub mod check;
pub mod diff;

use std::io::{self, Write};

use iommuctl_policy::RuleName;

use crate::config::policy_files::FOLDERS;

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
