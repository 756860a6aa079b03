// SPDX-License-Identifier: GPL-2.0-only
//! What is claimed about speed, and whether the figures say so.
//!
//! A claim is about a ratio of two medians, since times alone say little about another machine. It holds if the whole
//! interval of that ratio is on its side, and fails if the whole interval is on the other. What is in between, or has too
//! few rounds, is not known; and what was not measured is never taken for good.

use super::samples::Samples;
use super::stats::Ratio;

/// With fewer rounds than this, an interval says nothing.
const ROUNDS: usize = 5;
/// Two things cost the same if the interval has 1.00 in it and is no wider than this …
const WIDTH: f64 = 0.10;
/// … and clearly not the same if all of it is farther than this from 1.00.
const APART: f64 = 0.02;

/// What a case of a measurement is called: `measurement:case`.
type Key = (&'static str, &'static str);

/// What is said of a ratio.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Bound {
    /// It is at most this.
    AtMost(f64),
    /// It is at least this.
    AtLeast(f64),
    /// It is 1.00, as far as can be told.
    Same,
    /// There is no ratio: every value is 0.
    Never,
}

impl Bound {
    /// As in the table of claims.
    pub fn text(self) -> String {
        match self {
            Self::AtMost(limit) => format!("≤ {limit}"),
            Self::AtLeast(limit) => format!("≥ {limit}"),
            Self::Same => "= 1.00".to_owned(),
            Self::Never => "= 0".to_owned(),
        }
    }
}

/// Whether a claim is true here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is.
    Holds,
    /// It is clearly not.
    Fails,
    /// The figures do not say.
    CannotTell,
    /// There are none.
    NotMeasured,
}

impl Verdict {
    /// In words.
    pub fn text(self) -> &'static str {
        match self {
            Self::Holds => "holds",
            Self::Fails => "does not hold",
            Self::CannotTell => "cannot tell",
            Self::NotMeasured => "not measured",
        }
    }
}

/// A claim, and what came of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Judged {
    /// The claim.
    pub says: String,
    /// What it is about.
    pub top: String,
    /// What that is held against; nothing where nothing may be.
    pub bottom: Option<String>,
    /// What is said of the ratio.
    pub bound: Bound,
    /// The ratio, if there is one.
    pub ratio: Option<Ratio>,
    /// What to say in place of a ratio, or beside it.
    pub remark: Option<String>,
    /// Whether it is true.
    pub verdict: Verdict,
}

/// The claims, but for those about the way of an unmap, which have more cases.
const CLAIMS: [(&str, Key, Option<Key>, Bound); 11] = [
    (
        "The longest wait of an I/O in a live tighten is at most a hundredth of that in a rebind",
        ("gap", "live-tighten"),
        Some(("gap", "rebind")),
        Bound::AtMost(0.01),
    ),
    (
        "… and at most twice that without any switch",
        ("gap", "live-tighten"),
        Some(("gap", "none")),
        Bound::AtMost(2.0),
    ),
    (
        "No I/O fails in a live tighten",
        ("failed-count", "live-tighten"),
        None,
        Bound::Never,
    ),
    (
        "No I/O fails in a live relax",
        ("failed-count", "live-relax"),
        None,
        Bound::Never,
    ),
    (
        "A live tighten is strict in at most a hundredth of the time that a rebind takes until then",
        ("to-strict", "live"),
        Some(("to-strict", "rebind")),
        Bound::AtMost(0.01),
    ),
    (
        // The IOMMU of a virtual machine that counts instructions for a clock answers in no time: these are instructions.
        "A live tighten is strict within 40 times the instructions of a bare flush of the same domain",
        ("to-strict", "idle"),
        Some(("flush", "bare")),
        Bound::AtMost(40.0),
    ),
    (
        "`set-mode` of 64 groups takes at most twice the time of one",
        ("set-mode", "64"),
        Some(("set-mode", "1")),
        Bound::AtMost(2.0),
    ),
    (
        "`list` of 10,000 groups takes at most 11 times as long as of 1,000",
        ("list", "10000"),
        Some(("list", "1000")),
        Bound::AtMost(11.0),
    ),
    (
        "`status` likewise",
        ("status", "10000"),
        Some(("status", "1000")),
        Bound::AtMost(11.0),
    ),
    (
        "`policy plan` likewise",
        ("policy-plan", "10000"),
        Some(("policy-plan", "1000")),
        Bound::AtMost(11.0),
    ),
    (
        "The usual shell loop takes at least 10 times as long as `list`, for 10,000 groups",
        ("shell-loop", "10000"),
        Some(("list", "10000")),
        Bound::AtLeast(10.0),
    ),
];

/// What is there anyway, and hides what a claim is about where it is too much itself. Where time is the host's, an emulated disk
/// waits for its turn at the processor longer than any switch lasts.
const FLOORS: [(Key, Key); 1] = [(("gap", "rebind"), ("gap", "none"))];

/// What may not cost more because the module is loaded.
const HOT: [(&str, &str); 4] = [
    ("map", "A map costs the same with the module loaded"),
    ("unmap", "An unmap costs the same with the module loaded"),
    (
        "kernel-map",
        "The kernel's own benchmark of maps says the same",
    ),
    (
        "kernel-unmap",
        "The kernel's own benchmark of unmaps says the same",
    ),
];

/// Judges every claim.
pub fn judge(samples: &Samples) -> Vec<Judged> {
    let mut all: Vec<Judged> = CLAIMS
        .iter()
        .map(|(says, top, bottom, bound)| {
            let name = |(measurement, case): &Key| (*measurement, (*case).to_owned());
            let about = |top| one(samples, says, name(top), bottom.as_ref().map(name), *bound);
            let mut judged = about(top);
            let floor = FLOORS
                .iter()
                .find(|(held, _)| Some(held) == bottom.as_ref());
            if let (Verdict::Fails, Some((_, floor))) = (judged.verdict, floor) {
                let without = about(floor);
                if let (Verdict::Fails, Some(ratio)) = (without.verdict, without.ratio) {
                    judged.verdict = Verdict::CannotTell;
                    judged.remark = Some(format!(
                        "{} is {:.3} of it already",
                        without.top, ratio.ratio
                    ));
                }
            }
            judged
        })
        .collect();
    for (measurement, says) in HOT {
        let kinds: Vec<&str> = ["", "-strict", "-lazy"]
            .into_iter()
            .filter(|kind| {
                samples
                    .values(measurement, &format!("loaded{kind}"))
                    .is_some()
            })
            .collect();
        // One that was not measured is in the table, too.
        let kinds = if kinds.is_empty() { vec![""] } else { kinds };
        for kind in kinds {
            let says = match kind.strip_prefix('-') {
                Some(kind) => format!("{says}, in a {kind} group"),
                None => says.to_owned(),
            };
            let case = |name: &str| (measurement, format!("{name}{kind}"));
            all.push(one(
                samples,
                &says,
                case("loaded"),
                Some(case("absent")),
                Bound::Same,
            ));
        }
    }
    all
}

fn one(
    samples: &Samples,
    says: &str,
    top: (&str, String),
    bottom: Option<(&str, String)>,
    bound: Bound,
) -> Judged {
    let values = |(measurement, case): &(&str, String)| samples.values(measurement, case);
    let (ratio, remark, verdict) = match (values(&top), bottom.as_ref().map(values)) {
        (None, _) | (_, Some(None)) => (None, None, Verdict::NotMeasured),
        (Some(top), None) => {
            let (remark, verdict) = never(top);
            (None, Some(remark), verdict)
        }
        (Some(top), Some(Some(bottom))) => compare(top, bottom, bound),
    };
    let name = |(measurement, case): (&str, String)| format!("{measurement}:{case}");
    Judged {
        says: says.to_owned(),
        top: name(top),
        bottom: bottom.map(name),
        bound,
        ratio,
        remark,
        verdict,
    }
}

fn never(values: &[u64]) -> (String, Verdict) {
    let (bad, rounds) = (values.iter().filter(|v| **v > 0).count(), values.len());
    match bad {
        0 => (format!("0 in {rounds} rounds"), Verdict::Holds),
        bad => (format!("some in {bad} of {rounds} rounds"), Verdict::Fails),
    }
}

fn compare(top: &[u64], bottom: &[u64], bound: Bound) -> (Option<Ratio>, Option<String>, Verdict) {
    let Some(ratio) = Ratio::of(top, bottom) else {
        let why = "what it is held against is 0".to_owned();
        return (None, Some(why), Verdict::CannotTell);
    };
    let rounds = top.len().min(bottom.len());
    if rounds < ROUNDS {
        let why = format!("{rounds} rounds are too few");
        return (Some(ratio), Some(why), Verdict::CannotTell);
    }
    let Ratio { low, high, .. } = ratio;
    let (holds, fails) = match bound {
        Bound::AtMost(limit) => (high <= limit, low > limit),
        Bound::AtLeast(limit) => (low >= limit, high < limit),
        Bound::Same => (
            low <= 1.0 && 1.0 <= high && high - low <= WIDTH,
            low > 1.0 + APART || high < 1.0 - APART,
        ),
        Bound::Never => (high <= 0.0, low > 0.0),
    };
    let verdict = match (holds, fails) {
        (true, _) => Verdict::Holds,
        (_, true) => Verdict::Fails,
        _ => Verdict::CannotTell,
    };
    (Some(ratio), None, verdict)
}

#[cfg(test)]
mod tests;
