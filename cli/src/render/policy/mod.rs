// SPDX-License-Identifier: GPL-2.0-only
//! What the commands about policies say.

pub mod apply;
pub mod check;
pub mod diff;
pub mod explain;

use iommuctl_policy::RuleName;

/// The rules that decided, in one cell.
fn rules(rules: &[RuleName]) -> String {
    match rules {
        [] => "(defaults)".to_owned(),
        rules => {
            let names: Vec<&str> = rules.iter().map(|r| r.name.as_str()).collect();
            names.join("; ")
        }
    }
}
