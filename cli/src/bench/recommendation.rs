// SPDX-License-Identifier: GPL-2.0-only
//! The conclusion from the figures in a sentence, and the next steps, from values alone.
//!
//! A difference is only claimed where "no difference" is outside the limits ([`stats`](super::measure::stats)).

use iommuctl_policy::PciAddress;
use serde::Serialize;

use super::difference::{largest, Change};
use super::measure::figures::Comparison;
use super::measure::stats::CONFIDENCE;
use super::mode::Mode;

/// If the gain of lazy could still be larger than this, the measurement is inconclusive.
const MAX_UNCERTAIN_GAIN: f64 = 0.10;

/// A limit beyond this is not reported: it only shows how much the figures vary.
const MAX_SPREAD: f64 = 1.0;

/// The conclusion.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Lazy gains nothing here, or too little.
    Strict,
    /// Lazy gains something here; whether it is worth its price is the user's decision.
    Lazy,
    /// Lazy gains here and loses there, or the figures vary too much.
    Unclear,
}

/// The recommendation.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Recommendation {
    /// The verdict, for programs.
    pub verdict: Verdict,
    /// The sentence, for people.
    pub text: String,
    /// The confidence of every limit that is named, in percent.
    pub confidence_percent: u32,
    /// The next steps, one line each.
    pub next: Vec<String>,
    /// A policy that keeps the recommended type; `None` if there is none to keep, or a policy cannot name the device.
    pub policy: Option<String>,
}

/// The subject of the advice.
#[derive(Clone, Debug)]
pub struct About<'a> {
    /// The disk, as it is typed on the command line.
    pub target: &'a str,
    /// Its name, for a rule.
    pub name: &'a str,
    /// The PCI device it belongs to.
    pub address: Option<PciAddress>,
    /// The type that it has.
    pub original: Mode,
}

/// The recommendation after `comparisons`, and those of `large` reads.
#[must_use]
pub fn recommend(
    comparisons: &[Comparison],
    large: &[Comparison],
    about: &About<'_>,
) -> Recommendation {
    let changes = Change::all(comparisons, false).chain(Change::all(large, true));
    let changes: Vec<Change> = changes.collect();
    let gains = largest(&changes, Change::is_gain);
    let losses = largest(&changes, Change::is_loss);
    let any = |wanted: &dyn Fn(&Change) -> bool| changes.iter().any(wanted);
    let worth = any(&|c| c.is_gain() && c.is_large());
    let costs = any(&|c| c.is_loss() && c.is_large());
    let sure = format!("with {CONFIDENCE} % confidence");
    let (verdict, text) = match (worth, costs) {
        (true, false) => (
            Verdict::Lazy,
            format!(
                "Lazy is worth something here, {sure}: {}.",
                gains.join(", ")
            ),
        ),
        (true, true) => (
            Verdict::Unclear,
            format!(
                "It depends on the load, {sure}: lazy means {}, but {}.",
                gains.join(", "),
                losses.join(", ")
            ),
        ),
        (false, _) if !losses.is_empty() => (
            Verdict::Strict,
            format!(
                "Lazy is worth nothing here, {sure}: it means {}.",
                losses.join(", ")
            ),
        ),
        (false, _) if !gains.is_empty() => (
            Verdict::Strict,
            format!("Lazy is worth little here, {sure}: {}.", gains.join(", ")),
        ),
        (false, _) => no_difference(&changes, &sure),
    };
    Recommendation {
        verdict,
        text,
        confidence_percent: CONFIDENCE,
        next: next(verdict, about),
        policy: policy(verdict, about),
    }
}

/// The conclusion without a significant difference: it depends on how large a difference is still possible.
fn no_difference(changes: &[Change], sure: &str) -> (Verdict, String) {
    let reads = changes.iter().filter(|c| !c.cpu);
    let most = reads.map(|c| c.gain.high - 1.0).max_by(f64::total_cmp);
    match most {
        Some(most) if most <= MAX_UNCERTAIN_GAIN => (
            Verdict::Strict,
            format!(
                "No difference was found: {sure}, lazy is worth {:.1} % more reads in a second at most.",
                most * 100.0
            ),
        ),
        Some(most) if most > MAX_SPREAD => (
            Verdict::Unclear,
            "No difference was found, and the figures vary so much that they say nothing.".to_owned(),
        ),
        Some(most) => (
            Verdict::Unclear,
            format!(
                "No difference was found, but the figures vary too much to say that there is none: lazy could be worth up \
                 to {:.0} % more reads in a second.",
                most * 100.0
            ),
        ),
        None => (
            Verdict::Unclear,
            "The disk was too slow, or too little was read, to compare the types.".to_owned(),
        ),
    }
}

fn next(verdict: Verdict, about: &About<'_>) -> Vec<String> {
    let set = |mode: Mode| format!("`iommuctl set-mode {} {mode}`", about.target);
    match (verdict, about.original) {
        (Verdict::Strict, Mode::Strict) => {
            vec!["nothing: it is strict, and costs next to nothing so".to_owned()]
        }
        (Verdict::Strict, Mode::Lazy) => vec![format!(
            "{} protects memory that was taken back from the device",
            set(Mode::Strict)
        )],
        (Verdict::Lazy, Mode::Strict) => vec![format!(
            "{} if that is worth more than protection from this device, until the next boot",
            set(Mode::Lazy)
        )],
        (Verdict::Lazy, Mode::Lazy) => vec![format!(
            "nothing, if that is worth more than protection from this device; if not, {}",
            set(Mode::Strict)
        )],
        (Verdict::Unclear, _) => vec![format!(
            "`iommuctl bench --seconds 120 {}`, when the machine has less else to do",
            about.target
        )],
    }
}

/// The text of a file for `/etc/iommuctl/policy.d`.
fn policy(verdict: Verdict, about: &About<'_>) -> Option<String> {
    let (mode, word) = match verdict {
        Verdict::Strict => (Mode::Strict, "strict"),
        Verdict::Lazy => (Mode::Lazy, "lazy"),
        Verdict::Unclear => return None,
    };
    let address = about.address?;
    Some(format!(
        "version: 1\nrules:\n  - name: \"{} is {word}\"\n    match: {{ address: \"{address}\" }}\n    type: {mode}\n",
        about.name
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::measure::stats::Ratio;

    fn ratio(ratio: f64, low: f64, high: f64) -> Option<Ratio> {
        Some(Ratio { ratio, low, high })
    }

    fn at(depth: usize, reads: Option<Ratio>, cpu: Option<Ratio>) -> Comparison {
        Comparison {
            queue_depth: depth,
            reads_per_second: reads,
            cpu_per_read: cpu,
        }
    }

    fn about(original: Mode) -> About<'static> {
        About {
            target: "/dev/nvme0n1",
            name: "nvme0n1",
            address: "0000:01:00.0".parse().ok(),
            original,
        }
    }

    fn verdict(comparisons: &[Comparison]) -> (Verdict, String) {
        let found = recommend(comparisons, &[], &about(Mode::Lazy));
        (found.verdict, found.text)
    }

    #[test]
    fn no_difference_is_claimed_if_the_limits_include_it() {
        let vague = ratio(1.3, 0.9, 1.9);
        let (found, text) = verdict(&[at(1, vague, vague), at(4, ratio(1.0, 0.98, 1.02), None)]);
        assert_eq!(found, Verdict::Unclear);
        assert!(
            text.contains("No difference was found") && text.contains("90 %"),
            "{text}"
        );
        assert!(!text.contains("30"), "{text}");
        let (found, text) = verdict(&[at(1, ratio(1.01, 0.98, 1.04), vague)]);
        assert_eq!(found, Verdict::Strict);
        assert!(
            text.contains("4.0 % more reads in a second at most"),
            "{text}"
        );
        let (found, text) = verdict(&[at(1, ratio(0.6, 0.03, 10.9), None)]);
        assert_eq!(found, Verdict::Unclear);
        assert!(
            text.contains("say nothing") && !text.contains('%'),
            "{text}"
        );
        assert_eq!(verdict(&[at(1, None, None)]).0, Verdict::Unclear);
        assert_eq!(verdict(&[]).0, Verdict::Unclear);
    }

    #[test]
    fn lazy_pays_in_reads_or_in_processor_time() {
        let same = ratio(1.0, 0.99, 1.01);
        let (found, text) = verdict(&[
            at(1, same, same),
            at(16, ratio(1.12, 1.09, 1.152), same),
            at(64, ratio(1.05, 1.04, 1.06), ratio(0.8, 0.75, 0.85)),
        ]);
        assert_eq!(found, Verdict::Lazy);
        for words in [
            "95 % confidence",
            "12.0 % more reads in a second at queue depth 16 (9.0 % to 15.2 %)",
            "20.0 % less processor time for each read at queue depth 64 (15.0 % to 25.0 %)",
        ] {
            assert!(text.contains(words), "{words} is missing: {text}");
        }
        assert_eq!(
            verdict(&[at(4, same, ratio(0.8, 0.75, 0.85))]).0,
            Verdict::Lazy
        );
    }

    #[test]
    fn large_reads_are_named_as_such() {
        let same = [at(1, ratio(1.0, 0.99, 1.01), None)];
        let large = [at(16, ratio(1.2, 1.1, 1.3), None)];
        let found = recommend(&same, &large, &about(Mode::Lazy));
        assert_eq!(found.verdict, Verdict::Lazy);
        let words = "20.0 % more reads of 128 KiB in a second at queue depth 16";
        assert!(found.text.contains(words), "{}", found.text);
    }

    #[test]
    fn little_is_little_and_a_loss_is_none() {
        let (found, text) = verdict(&[at(1, ratio(1.01, 1.005, 1.015), None)]);
        assert_eq!(found, Verdict::Strict);
        assert!(text.contains("worth little"), "{text}");
        let (found, text) = verdict(&[at(1, ratio(0.9, 0.85, 0.95), None)]);
        assert_eq!(found, Verdict::Strict);
        assert!(text.contains("10.0 % fewer reads in a second"), "{text}");
        let (found, _) = verdict(&[at(1, ratio(1.2, 1.1, 1.3), ratio(1.2, 1.1, 1.3))]);
        assert_eq!(found, Verdict::Unclear);
    }

    #[test]
    fn the_policy_that_is_offered_is_one() {
        let lazy = [at(1, ratio(1.2, 1.1, 1.3), None)];
        for original in [Mode::Strict, Mode::Lazy] {
            let found = recommend(&lazy, &[], &about(original));
            let text = found.policy.unwrap();
            assert!(iommuctl_policy::parse(&text).is_ok(), "{text}");
            assert!(text.contains("type: DMA-FQ"));
            assert_eq!(found.next.len(), 1);
        }
        let nameless = About {
            address: None,
            ..about(Mode::Lazy)
        };
        assert_eq!(recommend(&lazy, &[], &nameless).policy, None);
    }
}
