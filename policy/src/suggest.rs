// SPDX-License-Identifier: GPL-2.0-only
//! The word that was most likely meant.

/// Words people use for keys of a policy, and the keys.
const SYNONYMS: [(&str, &str); 14] = [
    ("bdf", "address"),
    ("default", "defaults"),
    ("device_id", "device"),
    ("domain", "type"),
    ("mode", "type"),
    ("module", "driver"),
    ("node", "numa_node"),
    ("numa", "numa_node"),
    ("pci", "address"),
    ("policy", "rules"),
    ("slot", "address"),
    ("trusted", "external"),
    ("untrusted", "external"),
    ("vendor_id", "vendor"),
];

/// How alike two words must be, from 0 (nothing in common) to 1 (the same).
const MIN_SIMILARITY: f64 = 0.75;

/// The one of `words` that is most like `typed`, if one is like it at all.
#[must_use]
pub(crate) fn nearest<'a>(
    typed: &str,
    words: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let typed = typed.to_ascii_lowercase().replace('-', "_");
    let synonym = SYNONYMS.iter().find(|(word, _)| *word == typed);
    let mut best = None;
    let mut best_score = MIN_SIMILARITY;
    for word in words {
        if synonym.is_some_and(|(_, key)| *key == word) {
            return Some(word);
        }
        let plain = word.to_ascii_lowercase().replace('-', "_");
        let score = strsim::jaro_winkler(&typed, &plain);
        if score > best_score {
            best_score = score;
            best = Some(word);
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn typing_errors_and_synonyms() {
        let keys = ["address", "vendor", "driver", "external", "numa_node"];
        for (typed, meant) in [
            ("vendr", Some("vendor")),
            ("Vendor", Some("vendor")),
            ("numa-node", Some("numa_node")),
            ("untrusted", Some("external")),
            ("pci", Some("address")),
            ("colour", None),
            ("", None),
        ] {
            assert_eq!(nearest(typed, keys), meant, "{typed}");
        }
    }
}
