// SPDX-License-Identifier: GPL-2.0-only
//! The documents: links between them lead somewhere, and the README stays short.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::fs;
use std::path::PathBuf;

use iommuctl_tests::host::build::userspace::checkout;

/// What somebody with ten minutes reads.
const MAX_README_WORDS: usize = 1500;

/// Every Markdown file of the repository.
fn documents() -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![checkout().unwrap()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            let (path, name) = (entry.path(), entry.file_name());
            let is_ours = name != "target" && !name.to_string_lossy().starts_with('.');
            if entry.file_type().unwrap().is_dir() && is_ours {
                folders.push(path);
            } else if path.extension().is_some_and(|end| end == "md") {
                found.push(path);
            }
        }
    }
    assert!(found.len() > 5, "{found:?}");
    found
}

/// The targets of the links in `text`, but for those into the Internet.
fn links(text: &str) -> Vec<&str> {
    let targets = text.split("](").skip(1);
    let targets = targets.filter_map(|rest| rest.split_once(')').map(|(target, _)| target));
    targets
        .filter(|target| !target.contains("://") && !target.contains(char::is_whitespace))
        .collect()
}

/// The anchors of the headings in `text`, as GitHub and others make them.
fn anchors(text: &str) -> Vec<String> {
    let headings = text.lines().filter(|line| line.starts_with('#'));
    headings
        .map(|line| {
            let kept = |c: char| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_');
            let text = line.trim_start_matches('#').trim().to_lowercase();
            text.chars()
                .filter(|c| kept(*c))
                .map(|c| if c == ' ' { '-' } else { c })
                .collect()
        })
        .collect()
}

#[test]
fn every_link_leads_somewhere() {
    let mut count = 0;
    for document in documents() {
        let text = fs::read_to_string(&document).unwrap();
        for link in links(&text) {
            count += 1;
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = match file {
                "" => document.clone(),
                _ => document.parent().unwrap().join(file),
            };
            let from = document.display();
            assert!(target.exists(), "{from} links to {link}");
            let known = || anchors(&fs::read_to_string(&target).unwrap());
            assert!(
                anchor.is_empty() || known().iter().any(|one| one == anchor),
                "{from} links to {link}, and there are: {:?}",
                known()
            );
        }
    }
    assert!(count > 20, "only {count} links");
}

#[test]
fn the_readme_is_short() {
    let text = fs::read_to_string(checkout().unwrap().join("README.md")).unwrap();
    let words = text.split_whitespace().count();
    assert!(words <= MAX_README_WORDS, "README.md has {words} words");
}
