// SPDX-License-Identifier: GPL-2.0-only
//! Texts made of the corpus, torn apart and put together again.

use std::fs;
use std::path::Path;

use crate::random::Random;

/// Words that mean something to YAML, or to a policy, or to a terminal.
const WORDS: [&str; 52] = [
    "version: 1\n",
    "rules:\n",
    "defaults:",
    "- ",
    "name:",
    "match:",
    "type:",
    "DMA",
    "DMA-FQ",
    "identity",
    "keep",
    "route: rebind",
    "on_failure: warn",
    "force: true",
    "reason: because",
    "external: true",
    "class:",
    "vendor:",
    "address:",
    "numa_node:",
    "firmware:",
    "modalias:",
    "\"8086\"",
    "8086",
    "10e1",
    "0x",
    "nvme",
    "*",
    "?",
    "&a ",
    "*a",
    "<<: *a",
    "{",
    "}",
    "[",
    "]",
    ",",
    ": ",
    "\n",
    "\n  ",
    "\t",
    "|",
    ">",
    "---\n",
    "...\n",
    "!!str ",
    "!x ",
    "~",
    "null",
    "\u{1b}[2J",
    "\u{202e}",
    "\u{feff}",
];

/// The longest text, in bytes. Errors that take time to find grow with it.
const LONGEST: usize = 16 * 1024;

/// The policies of the tests, good and bad.
pub struct Corpus(Vec<String>);

impl Corpus {
    pub fn load() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let mut texts = Vec::new();
        for folder in [
            "policy/tests/corpus/good",
            "policy/tests/corpus/bad",
            "packaging/examples",
        ] {
            let entries = fs::read_dir(root.join(folder)).unwrap();
            let mut paths: Vec<_> = entries.map(|e| e.unwrap().path()).collect();
            paths.sort();
            paths.retain(|p| p.extension().is_some_and(|e| e == "yaml"));
            texts.extend(paths.iter().map(|p| fs::read_to_string(p).unwrap()));
        }
        Self(texts)
    }

    fn any(&self, random: &mut Random) -> &str {
        &self.0[random.below(self.0.len())]
    }

    /// A text.
    pub fn text(&self, random: &mut Random) -> String {
        let mut text = self.any(random).as_bytes().to_vec();
        for _ in 0..random.below(6) {
            self.change(random, &mut text);
            text.truncate(LONGEST);
        }
        String::from_utf8_lossy(&text).into_owned()
    }

    fn change(&self, random: &mut Random, text: &mut Vec<u8>) {
        let at = random.below(text.len() + 1);
        let end = at + random.below(text.len() - at + 1);
        match random.below(9) {
            // A word, here or in place of something.
            0 => insert(text, at, random.pick(&WORDS).as_bytes()),
            1 => {
                let short = end.min(at + 12);
                text.splice(at..short, random.pick(&WORDS).bytes());
            }
            // A byte of whatever kind.
            2 => {
                let byte = u8::try_from(random.below(256)).unwrap();
                insert(text, at, &[byte]);
            }
            3 => drop(text.drain(at..end)),
            // Something twice, or many times.
            4 => {
                let piece = text[at..end.min(at + 400)].repeat(random.below(30));
                insert(text, at, &piece);
            }
            // A line of another policy.
            5 | 6 => {
                let lines: Vec<&str> = self.any(random).lines().collect();
                let line = lines.get(random.below(lines.len().max(1))).unwrap_or(&"");
                let starts = text[..at].iter().rposition(|b| *b == b'\n');
                insert(
                    text,
                    starts.map_or(0, |n| n + 1),
                    format!("{line}\n").as_bytes(),
                );
            }
            // One line less, or two that change places.
            7 => {
                let mut lines: Vec<Vec<u8>> =
                    text.split(|b| *b == b'\n').map(<[u8]>::to_vec).collect();
                let (a, b) = (random.below(lines.len()), random.below(lines.len()));
                lines.swap(a, b);
                if random.one_in(2) {
                    lines.remove(a);
                }
                *text = lines.join(&b'\n');
            }
            // Deep nesting.
            _ => insert(
                text,
                at,
                random
                    .pick(&["[", "{a: ", "- ", "? "])
                    .repeat(random.below(600))
                    .as_bytes(),
            ),
        }
    }
}

fn insert(text: &mut Vec<u8>, at: usize, piece: &[u8]) {
    text.splice(at..at, piece.iter().copied());
}
