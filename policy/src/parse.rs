// SPDX-License-Identifier: GPL-2.0-only
//! From YAML to a [`PolicyFile`], and back. YAML is known nowhere else.
//!
//! An error says where it is: line, column, and the name of the rule. The place comes from the YAML library, the rule
//! from the path to the value that was refused. What can only be judged of a rule as a whole is checked afterwards, and
//! the place of that rule is looked up when it is needed.

use std::collections::HashSet;
use std::fmt;
use std::marker::PhantomData;

use serde::de::{DeserializeSeed, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_path_to_error::Segment;

use crate::rule::is_unprintable;
use crate::suggest::nearest;
use crate::{AuditSettings, PolicyFile, Rule};

/// The text is not a policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseError {
    /// The line, from 1; `None` if the error has no place.
    pub line: Option<usize>,
    /// The column, from 1, in characters.
    pub column: Option<usize>,
    /// The name of the rule it is in.
    pub rule: Option<String>,
    /// What is wrong, in one line without control characters.
    pub message: String,
}

impl std::error::Error for ParseError {}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let (Some(line), Some(column)) = (self.line, self.column) {
            write!(f, "{line}:{column}: ")?;
        }
        if let Some(rule) = &self.rule {
            write!(f, "rule `{rule}`: ")?;
        }
        f.write_str(&self.message)
    }
}

/// Reads one file of a policy.
///
/// # Errors
///
/// [`ParseError`], for the first thing that is wrong.
pub fn parse(text: &str) -> Result<PolicyFile, ParseError> {
    // Some editors begin a file with a byte order mark, which the library takes for a document.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let deserializer = serde_yaml::Deserializer::from_str(text);
    let file: PolicyFile = match serde_path_to_error::deserialize(deserializer) {
        Ok(file) => file,
        Err(error) => return Err(explain(text, error)),
    };
    let mut names = HashSet::new();
    for (index, rule) in file.rules.iter().enumerate() {
        let twice = !names.insert(rule.name.as_str());
        if let Some(message) = problem(rule, twice) {
            return Err(of_rule(text, index, message));
        }
    }
    Ok(file)
}

/// Reads the settings of the audit.
///
/// # Errors
///
/// [`ParseError`], for the first thing that is wrong.
pub fn parse_audit_settings(text: &str) -> Result<AuditSettings, ParseError> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let deserializer = serde_yaml::Deserializer::from_str(text);
    serde_path_to_error::deserialize(deserializer).map_err(|error| explain(text, error))
}

/// As many as anybody repairs at once. Each is looked up in the text by itself.
const MAX_ERRORS: usize = 20;

/// All that can be found wrong with a text that [`parse`] does not take, in the order of the lines: one thing for each rule,
/// and one for what is not a rule. Of a text that is not YAML, or has a key twice, that is the first thing only.
#[must_use]
pub fn errors(text: &str) -> Vec<ParseError> {
    let Err(first) = parse(text) else {
        return Vec::new();
    };
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut all = vec![first];
    let mut add = |error: ParseError| {
        if all.len() < MAX_ERRORS && !all.contains(&error) {
            all.push(error);
        }
    };
    let Ok(mut value) = serde_yaml::from_str::<serde_yaml::Value>(text) else {
        return all;
    };
    let rules = value.get_mut("rules").map(std::mem::take);
    let rules = match rules {
        Some(serde_yaml::Value::Sequence(rules)) => rules,
        _ => Vec::new(),
    };
    let mut names = HashSet::new();
    for (index, rule) in rules.into_iter().enumerate() {
        match Rule::deserialize(rule) {
            Ok(rule) => {
                let twice = !names.insert(rule.name.as_str().to_owned());
                if let Some(message) = problem(&rule, twice) {
                    add(of_rule(text, index, message));
                }
            }
            Err(_) => add(in_rule(text, index)),
        }
    }
    // What is left are the keys that are not about rules. They were looked at already, unless a rule came first.
    if let Some(rules) = value.get_mut("rules") {
        *rules = serde_yaml::Value::Sequence(Vec::new());
    }
    if let (Err(error), true) = (
        serde_yaml::from_value::<PolicyFile>(value),
        all.iter().all(|e| e.rule.is_some()),
    ) {
        all.push(ParseError {
            line: None,
            column: None,
            rule: None,
            message: message(&error),
        });
    }
    // What has no place comes last.
    all.sort_by_key(|e| (e.line.is_none(), e.line, e.column));
    all
}

/// What is wrong with a rule as a whole.
fn problem(rule: &Rule, twice: bool) -> Option<String> {
    rule.problem()
        .or_else(|| twice.then(|| "there is a rule of this name before it".to_owned()))
}

/// Writes a file of a policy; what is the default is left out.
///
/// # Errors
///
/// In words, if the YAML library cannot write it.
pub fn write(file: &PolicyFile) -> Result<String, String> {
    serde_yaml::to_string(file).map_err(|e| e.to_string())
}

/// An error about rule number `index` as a whole.
fn of_rule(text: &str, index: usize, message: String) -> ParseError {
    let place = find_rule(text, index);
    ParseError {
        line: place.line,
        column: place.column,
        rule: place.name,
        message,
    }
}

/// What the libraries say, as people need it.
fn explain(text: &str, error: serde_path_to_error::Error<serde_yaml::Error>) -> ParseError {
    let index = rule_index(error.path());
    let error = error.into_inner();
    let (line, column) = error.location().map(|l| (l.line(), l.column())).unzip();
    let place = index
        .map(|index| find_rule(text, index))
        .unwrap_or_default();
    ParseError {
        line: line.or(place.line),
        column: column.or(place.column),
        rule: place.name,
        message: match line {
            Some(line) if is_indented_by_tab(text, line) && is_of_scanner(&error) => {
                "a tab: YAML is indented with spaces".to_owned()
            }
            _ => message(&error),
        },
    }
}

/// Whether the indentation of line number `line`, from 1, has a tab in it.
fn is_indented_by_tab(text: &str, line: usize) -> bool {
    let line = text.lines().nth(line.saturating_sub(1)).unwrap_or_default();
    let indentation = line.chars().take_while(|c| c.is_whitespace());
    indentation.into_iter().any(|c| c == '\t')
}

/// Whether the text is not YAML at all, so that the library could not even say what is there.
fn is_of_scanner(error: &serde_yaml::Error) -> bool {
    let text = error.to_string();
    ["while scanning", "while parsing"]
        .iter()
        .any(|words| text.contains(words))
}

/// The number of the rule that a path such as `rules[2].match.class` leads into.
fn rule_index(path: &serde_path_to_error::Path) -> Option<usize> {
    let mut segments = path.iter();
    match (segments.next(), segments.next()) {
        (Some(Segment::Map { key }), Some(Segment::Seq { index })) if key == "rules" => {
            Some(*index)
        }
        _ => None,
    }
}

/// The text of `error` without the place, which is said in its own words, and with the word that was most likely meant.
fn message(error: &serde_yaml::Error) -> String {
    let mut text = error.to_string();
    if let Some(place) = error.location() {
        let behind = format!(" at line {} column {}", place.line(), place.column());
        text = text.replace(&behind, "");
    }
    // The library puts the path before its message, such as `rules[2].match: `.
    if let Some((path, rest)) = text.split_once(": ") {
        let is_path = ["rules", "defaults", "version", "rotate", "require"]
            .iter()
            .any(|key| path.starts_with(key));
        if is_path && !path.contains(' ') {
            text = rest.to_owned();
        }
    }
    let text: String = text
        .chars()
        .map(|c| if is_unprintable(c) { '?' } else { c })
        .collect();
    let meant = suggestion(&text).map(|meant| format!(" (did you mean `{meant}`?)"));
    let mut text = text + &meant.unwrap_or_default();
    for (theirs, ours) in WORDS {
        text = text.replace(theirs, ours);
    }
    text
}

/// Words of the libraries, which speak to programmers, and ours.
const WORDS: [(&str, &str); 7] = [
    ("unknown field", "unknown key"),
    ("unknown variant", "unknown value"),
    ("missing field", "missing key"),
    ("duplicate field", "this key is there twice:"),
    ("invalid type: unit value", "there is no value here"),
    ("expected a boolean", "expected true or false"),
    (
        "deserializing from YAML containing more than one document is not supported",
        "there is more than one document in this file",
    ),
];

/// From "unknown field `typ`, expected one of `name`, `type`": `type`.
fn suggestion(text: &str) -> Option<&str> {
    if !text.starts_with("unknown field") && !text.starts_with("unknown variant") {
        return None;
    }
    let mut quoted = text.split('`').skip(1).step_by(2);
    let typed = quoted.next()?;
    let words: Vec<&str> = quoted.collect();
    let token = typed_type(typed).filter(|token| words.contains(token));
    token.or_else(|| nearest(typed, words))
}

/// The type people mean by a word of their own, such as lazy.
fn typed_type(word: &str) -> Option<&'static str> {
    let request = word.parse::<crate::TypeRequest>();
    let meant = request.as_ref().ok().copied();
    let meant = meant.or_else(|| request.err().and_then(|e| e.suggestion));
    meant.map(crate::TypeRequest::as_str)
}

/// Where a rule is, and what it is called.
#[derive(Default)]
struct Place {
    line: Option<usize>,
    column: Option<usize>,
    name: Option<String>,
}

/// Finds rule number `index` in a text that is YAML, but perhaps no policy.
fn find_rule(text: &str, index: usize) -> Place {
    let mut name = None;
    // Found fails on purpose at the rule that is looked for: a place is only known of an error.
    let error = at_rule(text, index, Found(&mut name));
    let place = error.and_then(|e| e.location());
    let (line, column) = place.map(|l| (l.line(), l.column())).unzip();
    let name = name.map(|n: String| {
        n.chars()
            .map(|c| if is_unprintable(c) { '?' } else { c })
            .take(80)
            .collect()
    });
    Place { line, column, name }
}

/// An error in rule number `index`, which does not deserialize.
fn in_rule(text: &str, index: usize) -> ParseError {
    let place = find_rule(text, index);
    let error = at_rule(text, index, PhantomData::<Rule>);
    let location = error.as_ref().and_then(serde_yaml::Error::location);
    let (line, column) = location.map(|l| (l.line(), l.column())).unzip();
    ParseError {
        line: line.or(place.line),
        column: column.or(place.column),
        rule: place.name,
        message: error.map_or("it is no rule".to_owned(), |e| message(&e)),
    }
}

/// The error of `seed` at rule number `index`.
fn at_rule<S>(text: &str, index: usize, seed: S) -> Option<serde_yaml::Error>
where
    S: for<'de> DeserializeSeed<'de>,
{
    let finder = Finder { index, seed };
    let found = finder.deserialize(serde_yaml::Deserializer::from_str(text));
    found.err()
}

/// Walks to one rule, and gives it to `seed`.
struct Finder<S> {
    index: usize,
    seed: S,
}

impl<'de, S: DeserializeSeed<'de>> DeserializeSeed<'de> for Finder<S> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de, S: DeserializeSeed<'de>> Visitor<'de> for Finder<S> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a policy")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<String>()? {
            if key == "rules" {
                return map.next_value_seed(Rules(self));
            }
            map.next_value::<IgnoredAny>()?;
        }
        Ok(())
    }
}

struct Rules<S>(Finder<S>);

impl<'de, S: DeserializeSeed<'de>> DeserializeSeed<'de> for Rules<S> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de, S: DeserializeSeed<'de>> Visitor<'de> for Rules<S> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("rules")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        for _ in 0..self.0.index {
            list.next_element::<IgnoredAny>()?;
        }
        list.next_element_seed(self.0.seed).map(|_| ())
    }
}

/// Takes the name of a rule, and fails there.
struct Found<'a>(&'a mut Option<String>);

impl<'de> DeserializeSeed<'de> for Found<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Found<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a rule")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<String>()? {
            if key == "name" {
                *self.0 = map.next_value().ok();
                break;
            }
            map.next_value::<IgnoredAny>()?;
        }
        Err(A::Error::custom("here"))
    }
}
