// SPDX-License-Identifier: GPL-2.0-only
//! The order of the rooms: a room of `src/` uses only those below it, and no files use each other in a circle.

#![expect(
    clippy::panic,
    clippy::unwrap_used,
    reason = "helpers of tests fail as tests do"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// From top to bottom.
const ROOMS: [&str; 13] = [
    "cli", "commands", "recovery", "bench", "doctor", "change", "audit", "state", "config",
    "kernel", "terminal", "sys", "exit",
];

/// A module: the names on the way to it.
type Module = Vec<String>;

/// What each module uses, without what is for tests alone.
fn graph() -> BTreeMap<Module, BTreeSet<Module>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    find(&root, &mut files);
    let texts: BTreeMap<Module, String> = files
        .iter()
        .map(|file| (module(file.strip_prefix(&root).unwrap()), file))
        .filter(|(module, _)| module.iter().all(|n| n != "main" && !n.starts_with("test")))
        .map(|(module, file)| (module, code(&fs::read_to_string(file).unwrap())))
        .collect();
    let uses = |(module, text): (&Module, &String)| {
        let found = paths(text, module).into_iter();
        // The longest module that a path begins with; the rest of it are items.
        let used = found.filter_map(|path| {
            let lengths = (1..=path.len()).rev();
            let mut begins = lengths.map(|n| path[..n].to_vec());
            begins.find(|begin| texts.contains_key(begin))
        });
        // What a module re-exports of its own children is no use of them.
        let used = used.filter(|used| used != module && !used.starts_with(module));
        (module.clone(), used.collect())
    };
    texts.iter().map(uses).collect()
}

fn find(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            find(&path, files);
        } else if path.extension().is_some_and(|e| e == "rs") {
            files.push(path);
        }
    }
}

fn module(file: &Path) -> Module {
    let path = file.with_extension("");
    let names = path.iter().map(|n| n.to_str().unwrap().to_owned());
    names.filter(|n| n != "mod" && n != "lib").collect()
}

/// `text` without comments, and without the tests at its end.
fn code(text: &str) -> String {
    let text = text.split("\n#[cfg(test)]\nmod tests").next().unwrap();
    let lines = text.lines().map(|line| line.split("//").next().unwrap());
    lines.collect::<Vec<_>>().join("\n")
}

/// The paths in `text` that begin with `crate` or `super`, from the root; those in braces each for itself.
fn paths(text: &str, module: &Module) -> Vec<Module> {
    let mut found = Vec::new();
    for (start, word) in [("crate::", false), ("super::", true)]
        .iter()
        .flat_map(|(start, up)| text.match_indices(start).map(move |(at, _)| (at, *up)))
    {
        let before = text[..start].chars().next_back();
        if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':' || c == '$') {
            continue;
        }
        let above = &module[..module.len().saturating_sub(1)];
        let from = if word { above.to_vec() } else { Vec::new() };
        follow(&text[start + "crate::".len()..], from, &mut found);
    }
    found
}

/// Follows the path that `text` begins with, below `from`.
fn follow(text: &str, mut from: Module, found: &mut Vec<Module>) {
    let text = text.trim_start();
    if let Some(group) = text.strip_prefix('{') {
        for part in parts(group) {
            follow(part, from.clone(), found);
        }
        return;
    }
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_');
    let (name, rest) = text.split_at(end.unwrap_or(text.len()));
    match name {
        "super" => drop(from.pop()),
        "self" | "" => {}
        name => from.push(name.to_owned()),
    }
    match rest.strip_prefix("::") {
        Some(rest) => follow(rest, from, found),
        None => found.push(from),
    }
}

/// What stands between the commas of a group, up to the brace that closes it.
fn parts(group: &str) -> Vec<&str> {
    let (mut parts, mut depth, mut begin) = (Vec::new(), 0, 0);
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => {
                parts.push(&group[begin..at]);
                break;
            }
            '}' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(&group[begin..at]);
                begin = at + 1;
            }
            _ => {}
        }
    }
    parts.retain(|part| !part.trim().is_empty());
    parts
}

/// The place of a module's room, from the top.
fn rank(module: &Module) -> usize {
    let room = module.first().map_or("cli", String::as_str);
    let place = ROOMS.iter().position(|r| *r == room);
    place.unwrap_or_else(|| panic!("{room} is not in the order of the rooms"))
}

#[test]
fn a_room_uses_only_what_is_below_it() {
    let mut upwards = Vec::new();
    for (module, uses) in graph().iter().filter(|(module, _)| !module.is_empty()) {
        let above = uses.iter().filter(|used| rank(used) < rank(module));
        upwards.extend(above.map(|used| format!("{} uses {}", module.join("::"), used.join("::"))));
    }
    assert!(upwards.is_empty(), "upwards:\n{}", upwards.join("\n"));
}

#[test]
fn no_files_use_each_other_in_a_circle() {
    let mut left = graph();
    // What uses nothing that is left is in no circle.
    loop {
        let ends: Vec<Module> = left
            .iter()
            .filter(|(_, uses)| !uses.iter().any(|used| left.contains_key(used)))
            .map(|(module, _)| module.clone())
            .collect();
        if ends.is_empty() {
            break;
        }
        for module in ends {
            left.remove(&module);
        }
    }
    // Nor is what is used by nothing that is left.
    loop {
        let used: BTreeSet<Module> = left.values().flatten().cloned().collect();
        let before = left.len();
        left.retain(|module, _| used.contains(module));
        if left.len() == before {
            break;
        }
    }
    let names: Vec<String> = left
        .iter()
        .map(|(module, uses)| {
            let uses = uses.iter().filter(|used| left.contains_key(*used));
            let uses: Vec<String> = uses.map(|used| used.join("::")).collect();
            format!("{} uses {}", module.join("::"), uses.join(", "))
        })
        .collect();
    assert!(names.is_empty(), "in circles:\n{}", names.join("\n"));
}

#[test]
fn paths_are_found_in_every_form() {
    let module = vec!["bench".to_owned(), "guard".to_owned()];
    let text = "use crate::a::{b::{C, D}, self};\nuse super::x::Y;\nlet z = crate::e::f();";
    let found = paths(text, &module);
    let found: Vec<String> = found.iter().map(|path| path.join("::")).collect();
    assert_eq!(found, ["a::b::C", "a::b::D", "a", "e::f", "bench::x::Y"]);
}
