// SPDX-License-Identifier: GPL-2.0-only
//! The output of `policy plan` and `policy apply`: one row for each group that is not as it should be, or was changed.

use std::io::{self, Write};

use iommuctl_policy::{OnFailure, Route};

use super::apply::ApplyReport;
use super::source::{no_policy, rules};
use crate::change::outcome::Outcome;
use crate::change::policy::PolicyResult;
use crate::commands::common::result_table::{self, devices, interruptions, outcome};
use crate::terminal::style;
use crate::terminal::table::Table;

/// Writes it; with `all`, the groups that are as they should be, too.
pub fn write(w: &mut dyn Write, report: &ApplyReport, all: bool) -> io::Result<()> {
    if report.switched_off {
        return writeln!(
            w,
            "iommuctl.policy=off is on the kernel command line: nothing is applied."
        );
    }
    if report.files.is_empty() {
        return no_policy(w);
    }
    let same = |r: &&PolicyResult| r.result.outcome == Outcome::Unchanged;
    let shown: Vec<_> = report.results.iter().filter(|r| all || !same(r)).collect();
    if !shown.is_empty() {
        table(w, &shown)?;
        interruptions(w, shown.iter().map(|r| &r.result))?;
    }
    let same = report.results.iter().filter(same).count();
    match (same, shown.is_empty()) {
        (0, true) => writeln!(w, "The policy wants nothing of any group here."),
        (same, true) => writeln!(w, "Nothing to do: {} as the policy wants.", groups(same)),
        (0, false) => Ok(()),
        (_, false) if all => Ok(()),
        (same, false) => writeln!(w, "{} as the policy wants.", groups(same)),
    }
}

fn groups(count: usize) -> String {
    match count {
        1 => "1 group is".to_owned(),
        count => format!("{count} groups are"),
    }
}

fn table(w: &mut dyn Write, results: &[&PolicyResult]) -> io::Result<()> {
    let mut table = Table::new(["GROUP", "WAS", "IS", "ROUTE", "RESULT", "RULE", "DEVICES"]);
    for policy in results {
        let result = &policy.result;
        let (was, is) = (result.old_type.as_ref(), result.new_type.as_ref());
        table.row([
            (result.group.to_string(), style::PLAIN),
            (style::type_text(was).to_owned(), style::of_type(was)),
            (style::type_text(is).to_owned(), style::of_type(is)),
            route(policy),
            outcome(result, policy.wanted),
            (rules(&policy.rules), style::PLAIN),
            (devices(result), style::PLAIN),
        ]);
    }
    table.write(w)
}

/// The route, and whether it interrupts the devices.
fn route(policy: &PolicyResult) -> (String, anstyle::Style) {
    match policy.result.route {
        None => ("-".to_owned(), style::PLAIN),
        Some(Route::Rebind) => ("rebind (interrupts)".to_owned(), style::WARN),
        Some(route) => (route.to_string(), style::PLAIN),
    }
}

/// What a group could not be, and why, in one line.
pub fn complaint(policy: &PolicyResult) -> String {
    let because = match policy.rules.as_slice() {
        [] => "the defaults".to_owned(),
        rules => {
            let names: Vec<String> = rules.iter().map(|r| format!("`{}`", r.name)).collect();
            names.join(" and ")
        }
    };
    let kind = match policy.on_failure {
        OnFailure::Warn => " (a warning only, as the rule says)",
        OnFailure::Fail => "",
    };
    let message = policy.result.message.as_deref().unwrap_or("failed");
    format!(
        "group {}: {because} asked for {}: {message}{kind}",
        policy.result.group, policy.wanted
    )
}

/// The advice for all of `results`, each line once.
pub fn advice<'a>(results: impl Iterator<Item = &'a PolicyResult>) -> Vec<&'a str> {
    result_table::advice(results.map(|r| &r.result))
}
