// SPDX-License-Identifier: GPL-2.0-only
//! The output of `policy explain`: first the answer, then how it came about, in sentences.

use std::io::{self, Write};

use iommuctl_policy::{Goal, MemberWish, Route, Step, Trial, Wish};

use super::explain::ExplainReport;
use crate::change::outcome::Outcome;
use crate::terminal::style;

/// Writes it.
pub fn write(w: &mut dyn Write, report: &ExplainReport) -> io::Result<()> {
    let head = style::HEADING;
    writeln!(w, "{head}{}{head:#}", answer(report))?;
    writeln!(w)?;
    tried(w, report)?;
    if report.members.len() > 1 {
        writeln!(w)?;
        members(w, report)?;
    }
    if let Some(text) = outlook(report) {
        writeln!(w)?;
        writeln!(w, "{text}")?;
    }
    Ok(())
}

/// What the group is to be, and because of whom, in one sentence.
fn answer(report: &ExplainReport) -> String {
    let (device, group) = (&report.device, report.group);
    let is = style::type_text(report.domain_type.as_ref());
    let Some(wanted) = report.wanted else {
        return format!(
            "{device} is in group {group}, which stays {is}: the policy wants nothing of it."
        );
    };
    let asked = report.members.iter().find(|m| m.device == *device);
    let others: Vec<&str> = report
        .members
        .iter()
        .filter(|m| m.decides && m.device != *device)
        .map(|m| m.device.as_str())
        .collect();
    let why = match asked {
        Some(member) if member.decides => match &member.rule {
            Some(rule) => format!("the rule \"{}\" says so", rule.name),
            None => "no rule matches it, and the defaults say so".to_owned(),
        },
        _ => format!("{} in the same group wants it", list(&others)),
    };
    format!("{device} is in group {group}, which is to be {wanted}: {why}.")
}

/// The rules, up to the one that decided.
fn tried(w: &mut dyn Write, report: &ExplainReport) -> io::Result<()> {
    let name = match &report.description {
        Some(description) => format!("{} ({description})", report.device),
        None => report.device.clone(),
    };
    match (report.rules, report.tried.is_empty()) {
        (0, _) => writeln!(w, "The policy has no rules.")?,
        (rules, _) => {
            let rules = if rules == 1 { "rule was" } else { "rules were" };
            writeln!(w, "For {name}, these {rules} tried in turn:")?;
        }
    }
    let mut decided = false;
    for (number, tried) in (1..).zip(&report.tried) {
        let verdict = match &tried.trial {
            Trial::Decided { goal } => {
                decided = true;
                format!("it matches, and {}", wants(*goal))
            }
            Trial::NoMatch(mismatch) => format!("no match: {mismatch}"),
            Trial::NotNamed => {
                "it would match, but the device does no DMA of its own, and the rule does not name it"
                    .to_owned()
            }
        };
        writeln!(
            w,
            "  {number}. \"{}\" ({}): {verdict}.",
            tried.rule.name, tried.rule.file
        )?;
    }
    let left = report.rules.saturating_sub(report.tried.len());
    if decided && left > 0 {
        let rest = match left {
            1 => "the one after it was not tried".to_owned(),
            left => format!("the {left} after it were not tried"),
        };
        writeln!(w, "  The first that matches decides; {rest}.")?;
    }
    if !decided && report.rules > 0 {
        writeln!(w, "  None of them decides for it.")?;
    }
    Ok(())
}

fn wants(goal: Goal) -> String {
    match goal {
        Goal::Keep => "wants it kept as it is".to_owned(),
        goal => format!("wants {goal}"),
    }
}

/// What each device of the group wants, and who wins.
fn members(w: &mut dyn Write, report: &ExplainReport) -> io::Result<()> {
    let agree = if report.conflict {
        "they do not agree"
    } else {
        "none of them is against it"
    };
    writeln!(
        w,
        "A type belongs to the whole group. Group {} has {} devices, and {agree}:",
        report.group,
        report.members.len()
    )?;
    for member in &report.members {
        let driver = member.driver.as_deref().unwrap_or("no driver");
        writeln!(w, "  {} ({driver}) {}.", member.device, wish(member))?;
    }
    if report.conflict {
        let winners = report.members.iter().filter(|m| m.decides);
        let winners: Vec<&str> = winners.map(|m| m.device.as_str()).collect();
        let others = report
            .members
            .iter()
            .filter(|m| !m.decides && m.wish.request().is_some());
        let others: Vec<&str> = others.map(|m| m.device.as_str()).collect();
        if let (Some(wanted), false) = (report.wanted, others.is_empty()) {
            writeln!(
                w,
                "The strictest wish counts, which is that of {}; {} {} {wanted} with it.",
                list(&winners),
                list(&others),
                if others.len() == 1 {
                    "becomes"
                } else {
                    "become"
                }
            )?;
        }
    }
    Ok(())
}

fn wish(member: &MemberWish) -> String {
    let reason = match &member.reason {
        Some(reason) => format!(" (\"{reason}\")"),
        None => String::new(),
    };
    match (&member.wish, &member.rule) {
        (Wish::Rule { goal, .. }, Some(rule)) => {
            format!("{}, by the rule \"{}\"{reason}", wants(*goal), rule.name)
        }
        (Wish::Rule { goal, .. }, None) => wants(*goal),
        (Wish::Unmatched { goal: Goal::Keep }, _) => {
            "is matched by no rule, and has no wish".to_owned()
        }
        (Wish::Unmatched { goal }, _) => {
            format!("is matched by no rule, and the defaults want {goal}")
        }
        (Wish::NotAsked, _) => {
            "is not asked: it does no DMA of its own, and no rule names it".to_owned()
        }
    }
}

/// What `policy apply` would do now.
fn outlook(report: &ExplainReport) -> Option<String> {
    let is = style::type_text(report.domain_type.as_ref());
    let outlook = report.outlook.as_ref()?;
    let result = &outlook.result;
    let message = result.message.as_deref().unwrap_or_default();
    Some(match (&report.step, result.outcome) {
        (Step::Satisfied { request }, _) => format!("It is {request} already."),
        (Step::Hold { .. }, _) => format!("It is {is}, and stays so: {message}."),
        (_, Outcome::Planned) => {
            let route = result.route.map(|r| r.to_string()).unwrap_or_default();
            let interrupts = match result.route {
                Some(Route::Rebind) => ", and its devices are gone for a moment",
                _ => "",
            };
            format!(
                "It is {is} now. `iommuctl policy apply` would make it {} by the {route} route: {message}{interrupts}.",
                outlook.wanted
            )
        }
        _ => {
            let mut text = format!(
                "It is {is} now, and `iommuctl policy apply` would not make it {}: {message}.",
                outlook.wanted
            );
            for line in &result.advice {
                text.push_str(&format!("\n  - {line}"));
            }
            text
        }
    })
}

/// "a", "a and b", "a, b and c".
fn list(names: &[&str]) -> String {
    match names {
        [] => "nobody".to_owned(),
        [one] => (*one).to_owned(),
        [first @ .., end] => format!("{} and {end}", first.join(", ")),
    }
}
