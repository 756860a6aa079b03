// SPDX-License-Identifier: GPL-2.0-only
//! Policies and what is to come of them.

use std::fs;
use std::path::{Path, PathBuf};

use iommuctl_policy::{errors, evaluate, parse, plan, Decision, Policy, RuleName, Step, Wish};

use crate::machine::machine;

fn here(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// The YAML files of a folder, sorted.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap();
    let mut files: Vec<PathBuf> = entries.map(|e| e.unwrap().path()).collect();
    files.retain(|f| f.extension().is_some_and(|e| e == "yaml"));
    files.sort();
    assert!(!files.is_empty(), "{}", folder.display());
    files
}

/// Compares, or rewrites what is expected.
fn compare(path: &Path, found: &str) {
    if std::env::var_os("UPDATE_EXPECTED").is_some() {
        fs::write(path, found).unwrap();
        return;
    }
    let expected = fs::read_to_string(path).unwrap_or_default();
    assert!(
        expected == found,
        "{} is not as expected.\n--- expected\n{expected}\n--- found\n{found}",
        path.display()
    );
}

/// What comes of `policy` on the machine, a few lines for each group it says something about.
fn outcome(policy: &Policy) -> String {
    let inventory = machine();
    let decisions = evaluate(policy, &inventory);
    let mut text = String::new();
    for (decision, planned) in decisions.iter().zip(plan(&decisions, &inventory)) {
        let is_silent = |wish: &Wish| wish.rule().is_none() && wish.request().is_none();
        if decision.votes.iter().all(|vote| is_silent(&vote.wish)) {
            assert_eq!(planned.step, Step::Leave);
            continue;
        }
        let current = planned.current.map(|t| t.to_string()).unwrap_or_default();
        let step = match planned.step {
            Step::Leave => "stays".to_owned(),
            Step::Satisfied { .. } => "has what it should".to_owned(),
            Step::Hold { request } => format!("stays, and does not become {request}"),
            Step::Change { request, force } => {
                let how = if force { " by force" } else { "" };
                let Decision { route, .. } = decision;
                format!(
                    "becomes {request}{how} (at most {route}, else {:?})",
                    decision.on_failure
                )
            }
            Step::Forbidden { request, external } => {
                format!("must not become {request}: {}", external.join(", "))
            }
        };
        text.push_str(&format!("group {} ({current}) {step}\n", decision.group));
        for vote in &decision.votes {
            let wish = match &vote.wish {
                Wish::Rule { index, goal } => {
                    let rule = RuleName::of(policy, *index).unwrap();
                    format!("{goal}, by {}", rule.name)
                }
                Wish::Unmatched { goal } => format!("{goal}, by default"),
                Wish::NotAsked => "not asked".to_owned(),
            };
            text.push_str(&format!("  {}: {wish}\n", vote.device));
        }
    }
    text
}

#[test]
fn good_policies_have_the_outcome_they_should() {
    for path in files(&here("tests/corpus/good")) {
        let text = fs::read_to_string(&path).unwrap();
        let file = parse(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let policy = Policy::from_files(vec![("policy.yaml".to_owned(), file)]);
        compare(&path.with_extension("expected"), &outcome(&policy));
    }
}

#[test]
fn worked_policies_of_the_manual_have_the_outcome_they_should() {
    for path in files(&here("../packaging/examples")) {
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains("# yaml-language-server: $schema="));
        let file = parse(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let policy = Policy::from_files(vec![("policy.yaml".to_owned(), file)]);
        let expected = here("tests/corpus/examples").join(path.file_name().unwrap());
        compare(&expected.with_extension("expected"), &outcome(&policy));
    }
}

/// The blocks of a manual page that are shown as they are.
fn shown(page: &str) -> Vec<String> {
    let blocks = page.split(".EX\n").skip(1);
    let plain = |block: &str| {
        let block = block.split(".EE\n").next().unwrap();
        block
            .replace("\\-", "-")
            .replace("\\(aq", "'")
            .replace("\\e", "\\")
    };
    blocks.map(plain).collect()
}

#[test]
fn the_manual_shows_the_worked_policies_as_they_are() {
    let page = fs::read_to_string(here("../packaging/man/iommuctl-policy.5")).unwrap();
    let shown = shown(&page);
    let examples = files(&here("../packaging/examples"));
    for path in &examples {
        let text = fs::read_to_string(path).unwrap();
        // Without the licence, the line for editors, and the empty line after it.
        let lines: String = text.lines().skip(3).map(|l| format!("{l}\n")).collect();
        assert!(
            shown.contains(&lines),
            "{} is not in the manual",
            path.display()
        );
    }
    assert_eq!(examples.len() + 1, shown.len());
}

#[test]
fn bad_policies_are_refused_with_the_place_and_the_rule() {
    for path in files(&here("tests/corpus/bad")) {
        let text = fs::read_to_string(&path).unwrap();
        let error = match parse(&text) {
            Err(error) => error.to_string(),
            Ok(_) => panic!("{} was accepted", path.display()),
        };
        assert!(!error.contains(char::is_control), "{error:?}");
        let all: String = errors(&text).iter().map(|e| format!("{e}\n")).collect();
        assert!(all.contains(&error), "{error} is not among\n{all}");
        compare(&path.with_extension("expected"), &all);
    }
}

#[test]
fn what_is_written_is_read_again() {
    for folder in ["tests/corpus/good", "../packaging/examples"] {
        for path in files(&here(folder)) {
            let file = parse(&fs::read_to_string(&path).unwrap()).unwrap();
            let again = parse(&iommuctl_policy::write(&file).unwrap()).unwrap();
            assert_eq!(again, file, "{}", path.display());
        }
    }
}

/// The keys of a match, as the schema has them, are all tried together, and are all in the manual page.
#[test]
fn every_key_of_a_match_is_tried_and_documented() {
    let read = |path: &str| fs::read_to_string(here(path)).unwrap();
    let schema: serde_json::Value = serde_json::from_str(&read("schema/policy.json")).unwrap();
    let keys = schema["$defs"]["Match"]["properties"].as_object().unwrap();
    assert!(!keys.is_empty());
    let tried = read("tests/corpus/good/every-key.yaml");
    let page = read("../packaging/man/iommuctl-policy.5");
    for key in keys.keys() {
        assert!(tried.contains(&format!("\n      {key}: ")), "{key}");
        // Its paragraph begins with its name, or with a list of names.
        let begins = |line: &str| {
            line.starts_with(".B") && line.split([' ', ',', '"']).any(|word| word == key)
        };
        let documented = page
            .lines()
            .zip(page.lines().skip(1))
            .any(|(before, line)| before == ".TP" && begins(line));
        assert!(documented, "{key} is not in iommuctl-policy(5)");
    }
}
