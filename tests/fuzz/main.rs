// SPDX-License-Identifier: GPL-2.0-only
//! Fuzzing of the policy: texts that nobody would write, and what must be true of them all the same.
//!
//! Everything comes from one number, the seed: the corpus of the policy's tests, torn apart and put together again with
//! words that mean something to YAML or to a policy. A finding is reported with its seed and its text, and found again with
//! `FUZZ_SEED=N`. There is no feedback from coverage, which would take a toolchain that distributions do not have.
//!
//! As a unit test each target runs for two seconds; `make fuzz` runs each for `FUZZ_SECONDS` (60), from another seed each
//! time.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "helpers of tests fail as tests do"
)]

mod mutate;
#[path = "../../policy/tests/policy/random.rs"]
mod random;

use std::panic::{catch_unwind, AssertUnwindSafe};
use std::time::{Duration, Instant};

use iommuctl_policy::{
    evaluate, explain, parse, plan, write, DomainType, Inventory, Policy, Step, Strictness,
};

use nix::time::{clock_gettime, ClockId};

use mutate::Corpus;
use random::Random;

/// No text of the length we make takes so long, in time of the processor: others may be busy on it, too.
const SLOW: Duration = Duration::from_secs(1);

/// The time this thread has had the processor.
fn busy() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)
        .unwrap()
        .into()
}

fn number(name: &str, otherwise: u64) -> u64 {
    let text = std::env::var(name).ok();
    text.map_or(otherwise, |t| t.parse().unwrap())
}

/// Runs `target` with one seed after the other until the time is over, and says how often that was.
fn fuzz(name: &str, target: impl Fn(&mut Random, &Corpus) -> (String, bool)) {
    let corpus = Corpus::load();
    let time = Duration::from_secs(number("FUZZ_SECONDS", 2));
    let first = number("FUZZ_SEED", 0);
    let begin = Instant::now();
    let (mut runs, mut accepted) = (0, 0);
    while begin.elapsed() < time {
        let seed = first + runs;
        let start = busy();
        let run = catch_unwind(AssertUnwindSafe(|| target(&mut Random::new(seed), &corpus)));
        let Ok((text, good)) = run else {
            panic!("{name}: FUZZ_SEED={seed} finds it again");
        };
        let took = busy() - start;
        assert!(
            took < SLOW,
            "{name}: FUZZ_SEED={seed} took {took:?}:\n{text}"
        );
        runs += 1;
        accepted += u64::from(good);
    }
    println!("{name}: {runs} executions from seed {first}, {accepted} of policies that are right, no finding");
    assert!(accepted > 0, "{name}: no text was a policy");
}

/// The text is refused in one line, or it is a policy that survives being written and read again.
#[test]
fn parser() {
    fuzz("parser", |random, corpus| {
        let text = corpus.text(random);
        let good = match parse(&text) {
            Ok(file) => {
                let again = write(&file).unwrap();
                assert_eq!(parse(&again).as_ref(), Ok(&file), "{text:?}");
                true
            }
            Err(error) => {
                let shown = error.to_string();
                assert!(!shown.contains(char::is_control), "{shown:?} of {text:?}");
                assert!(!error.message.is_empty(), "{text:?}");
                // YAML takes a carriage return for the end of a line, too.
                let lines = text.split(['\n', '\r']).count() + 1;
                assert!(
                    error.line.is_none_or(|l| l <= lines),
                    "{shown:?} of {text:?}"
                );
                false
            }
        };
        (text, good)
    });
}

/// A policy on a machine: everything is decided, nothing external is relaxed without force, nothing is left to do after
/// it was done, and every device can be explained.
#[test]
fn plans() {
    fuzz("plans", |random, corpus| {
        let text = match random.one_in(3) {
            true => random::policy(random, 12),
            false => corpus.text(random),
        };
        let Ok(file) = parse(&text) else {
            return (text, false);
        };
        let forced = file.rules.iter().any(|r| r.force);
        let policy = Policy::from_files(vec![("fuzz.yaml".to_owned(), file)]);
        let inventory = random::inventory(random, 8);
        let decisions = evaluate(&policy, &inventory);
        let planned = plan(&decisions, &inventory);
        assert_eq!(planned.len(), inventory.groups().len(), "{text:?}");
        let mut groups = inventory.groups().to_vec();
        for (group, planned) in groups.iter_mut().zip(&planned) {
            for device in &group.devices {
                assert!(explain(&policy, group, &device.name).is_some(), "{text:?}");
            }
            if let Step::Change { request, .. } = planned.step {
                let laxer = is_laxer(request.result(), group.domain_type.as_ref());
                let external = group.external().next().is_some();
                assert!(forced || !laxer || !external, "{group:?} with {text:?}");
                group.domain_type = request.result();
            }
        }
        let done = Inventory::new(groups);
        let left = plan(&evaluate(&policy, &done), &done);
        let changes = left.iter().any(|p| matches!(p.step, Step::Change { .. }));
        assert!(!changes, "{text:?}");
        (text, true)
    });
}

fn is_laxer(wanted: Option<DomainType>, now: Option<&DomainType>) -> bool {
    let strictness = |t: Option<&DomainType>| t.and_then(Strictness::of_type);
    strictness(wanted.as_ref()) < strictness(now)
}
