// SPDX-License-Identifier: GPL-2.0-only
//! What the terminal, or whoever reads, can show.

/// Whether what is written may be more than ASCII.
pub fn is_unicode() -> bool {
    is_utf8(|name| std::env::var(name).ok())
}

/// The same, from what `variable` says: the first of these variables that says something decides, as in locale(7).
fn is_utf8(variable: impl Fn(&str) -> Option<String>) -> bool {
    let names = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter();
    let mut values = names.filter_map(variable).filter(|v| !v.is_empty());
    let locale = values.next().unwrap_or_default().to_lowercase();
    locale.contains("utf-8") || locale.contains("utf8")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_variable_that_says_something_decides() {
        let locale = |all: &str, ctype: &str, lang: &str| {
            let values = [("LC_ALL", all), ("LC_CTYPE", ctype), ("LANG", lang)];
            let values = values.map(|(name, value)| (name.to_owned(), value.to_owned()));
            is_utf8(|name| {
                let mut found = values.iter().filter(|(n, _)| n == name);
                found.next().map(|(_, value)| value.clone())
            })
        };
        assert!(locale("", "", "de_AT.UTF-8"));
        assert!(locale("C.utf8", "C", "C"));
        assert!(!locale("C", "", "en_US.UTF-8"));
        assert!(!locale("", "", ""));
    }
}
