// SPDX-License-Identifier: GPL-2.0-only
//! Model checks of `kmod/src/protocol.rs`, the very file the module is built from: every interleaving of a tighten and of
//! what is cleaned up behind it with unmaps that come late, the flush timer, relaxes, other writers, devices that join and the
//! end of the domain; and of the module's exit with writers.
//!
//! What this does not see: the ordering of page table and device accesses, and address dependencies. The litmus tests
//! have those. `MODEL_TRACE=1` shows the run in which a property broke.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../../kmod/src/protocol.rs"]
mod protocol;

mod domain;
mod exit;
mod ghost;
mod grace;
mod mutation;
mod scenario;
mod switch;
mod tripped;

use std::fmt::Write as _;
use std::process::Command;

use mutation::{Line, Mutation, Names};
use scenario::Scenario;

/// Tells the process that explores which scenario it is about, and how the protocol is mutated.
const ORDERS: &str = "MODEL_ORDERS";

/// How often a task may be interrupted in one run where it could go on, in place of what the scenario says; `all` is no
/// limit. Mutants are looked at as deeply as the scenario says.
const PREEMPTIONS: &str = "MODEL_PREEMPTIONS";

/// How deep to look, if that is not as [`PREEMPTIONS`] says.
enum Depth {
    /// As it says, or as the scenario does.
    Asked,
    /// As the scenario says.
    Full,
    /// One interruption less, where nothing is expected.
    Less,
}

/// Runs one scenario in every order; the property that broke, if one did.
///
/// In a process of its own: loom cannot unwind out of a model in which locks are held.
fn explore(scenario: &Scenario, mutation: Mutation, depth: &Depth) -> Result<(), String> {
    let bound = match depth {
        Depth::Asked => std::env::var(PREEMPTIONS).ok(),
        Depth::Full => None,
        Depth::Less => Some((scenario.depth - 1).to_string()),
    };
    let bound = bound.unwrap_or_else(|| scenario.depth.to_string());
    let orders = format!("{}\n{mutation}", scenario.name);
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "--ignored", "--nocapture", "exploring_process"])
        .env(ORDERS, orders)
        .env(PREEMPTIONS, bound)
        .output()
        .unwrap();
    if output.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output.stderr);
    let property = text
        .lines()
        .find_map(|line| line.strip_prefix(ghost::BROKEN));
    // What the one who explores says when no task can go on.
    let stuck = text.contains("deadlock; threads");
    let property = property.or(stuck.then_some(ghost::property::STUCK));
    Err(property.map_or_else(|| format!("{}\n{text}", output.status), str::to_owned))
}

#[test]
#[ignore = "the other half of `explore`"]
fn exploring_process() {
    let orders = std::env::var(ORDERS).unwrap();
    let (name, mutation) = orders.split_once('\n').unwrap();
    let all = Mutation::all().into_iter().chain([Mutation::None]);
    let mutation = all.into_iter().find(|one| one.to_string() == mutation);
    let mutation = mutation.unwrap();
    let mut all = scenario::DOMAIN.iter().chain(&scenario::EXIT);
    let scenario = all.find(|scenario| scenario.name == name).unwrap();
    let run = scenario.run;
    let mut model = loom::model::Builder::new();
    model.max_branches = 10_000;
    model.preemption_bound = match std::env::var(PREEMPTIONS).as_deref() {
        Ok("all") => None,
        Ok(number) => Some(number.parse().unwrap()),
        Err(error) => panic!("{error}"),
    };
    model.check(move || run(mutation));
    ghost::check_tripwires();
    if mutation == Mutation::None {
        let expected = Line::ALL.into_iter().filter(|line| scenario.takes(*line));
        assert_eq!(*mutation::TAKEN.lock().unwrap(), expected.collect());
    }
}

/// Mutants that no property can tell from the shipped order, and why that is so.
const EQUIVALENT: [(Mutation, &str); 19] = [
    (
        Mutation::Swap(Line::Tighten, 0),
        "the entry is published before any ring is armed, and what is queued until then keeps its ring from being armed",
    ),
    (
        Mutation::Swap(Line::Tighten, 1),
        "a ring is armed only if it is empty; one that is not is flushed before the next pass",
    ),
    (Mutation::Drop(Line::Tighten, 3), TIMER_TOO_MUCH),
    (Mutation::Swap(Line::Tighten, 3), UNDER_THE_MUTEX),
    (Mutation::Swap(Line::Tighten, 4), UNDER_THE_MUTEX),
    (Mutation::Swap(Line::RelaxArmed, 2), UNDER_THE_MUTEX),
    (Mutation::Swap(Line::RelaxArmed, 3), UNDER_THE_MUTEX),
    (Mutation::Swap(Line::RelaxCleared, 2), UNDER_THE_MUTEX),
    (Mutation::Swap(Line::RelaxCleared, 3), UNDER_THE_MUTEX),
    (Mutation::Swap(Line::SettleRequeued, 0), UNDER_THE_MUTEX),
    (Mutation::Swap(Line::SettleRequeued, 1), UNDER_THE_MUTEX),
    (Mutation::Swap(Line::SettleGoneCleared, 0), UNDER_THE_MUTEX),
    (
        Mutation::Swap(Line::GoOnArmed, 1),
        "the timer follows fq_domain, which is set until step 4, and finds nothing in either kind of ring",
    ),
    (Mutation::Swap(Line::GoOnArmed, 3), UNDER_THE_MUTEX),
    (Mutation::Drop(Line::GoOnCleared, 0), TRIPWIRE),
    (Mutation::Swap(Line::GoOnCleared, 0), TRIPWIRE),
    (
        Mutation::Swap(Line::GoOnCleared, 1),
        "behind the second grace period nobody samples \"queued\", so none looks at the rings, whichever entry it takes",
    ),
    (Mutation::Swap(Line::GoOnCleared, 2), UNDER_THE_MUTEX),
    (
        Mutation::Swap(Line::Leave, 0),
        "when the exit begins nobody sends a cleaner any more",
    ),
];

const TIMER_TOO_MUCH: &str =
    "the timer flushes what is flushed already, and its flushes are taken for late comers'";
const UNDER_THE_MUTEX: &str =
    "one of the two is only looked at under the group's mutex, which is held over both";
const TRIPWIRE: &str = "it is a tripwire: in no model is there anything in the rings by then";

/// What the table said of this mutant when it was made: where it was caught.
fn caught_in(mutation: Mutation) -> Option<&'static str> {
    let table = include_str!("mutants.txt");
    let rest = table
        .split_once(&format!("{mutation}\n    caught in \""))?
        .1;
    rest.split_once('"').map(|(name, _)| name)
}

/// Runs one mutant. What came of it, as lines of the table.
fn verdict(mutation: Mutation, update: bool) -> String {
    let argument = EQUIVALENT.iter().find(|(mutant, _)| *mutant == mutation);
    let short = std::env::var_os(PREEMPTIONS).is_none();
    let depth = match argument {
        Some(_) if short => Depth::Less,
        _ => Depth::Full,
    };
    let scenarios: &[Scenario] = match mutation.leaves() {
        true => &scenario::EXIT,
        false => &scenario::DOMAIN,
    };
    let concerned = |one: &&Scenario| mutation.line().is_none_or(|line| one.takes(line));
    // The one that caught it before goes first.
    let hint = caught_in(mutation).filter(|_| !update);
    let mut scenarios: Vec<_> = scenarios.iter().filter(concerned).collect();
    scenarios.sort_by_key(|one| hint != Some(one.name));
    let broken = scenarios.iter().find_map(|scenario| {
        let property = explore(scenario, mutation, &depth).err()?;
        Some(format!("caught in \"{}\": {property}", scenario.name))
    });
    match (broken, argument) {
        (Some(broken), None) => broken,
        (None, Some((_, why))) => format!("equivalent: {why}"),
        (Some(broken), Some(_)) => panic!("said to be equivalent: {mutation}: {broken}"),
        (None, None) => panic!("survives, and nothing says why it may: {mutation}"),
    }
}

fn holds(scenarios: &[Scenario]) {
    for scenario in scenarios {
        let found = explore(scenario, Mutation::None, &Depth::Asked);
        assert_eq!(found, Ok(()), "{}", scenario.name);
    }
}

#[test]
fn switch_holds() {
    holds(&scenario::DOMAIN);
}

#[test]
fn exit_holds() {
    holds(&scenario::EXIT);
}

#[test]
fn steps_are_those_of_the_shipped_file() {
    for line in Line::ALL {
        let mut names = Names::of(line);
        match line {
            Line::Tighten => assert!(protocol::tighten(&mut names)),
            Line::RelaxArmed | Line::RelaxCleared => protocol::relax(&mut names),
            Line::SettleRequeued | Line::SettleGoneArmed | Line::SettleGoneCleared => {
                protocol::settle(&mut names);
            }
            Line::GoOnArmed | Line::GoOnCleared => {
                protocol::go_on(&mut names, 0);
            }
            Line::Leave => protocol::leave(&mut names),
        }
        assert_eq!(*names.names.borrow(), line.steps(), "{}", line.title());
    }
}

/// The table is in the repository, so that a change of what is caught is seen. `UPDATE_EXPECTED=1` rewrites it.
#[test]
fn every_mutant_is_caught_or_equivalent() {
    let update = std::env::var_os("UPDATE_EXPECTED").is_some();
    let mut found = String::new();
    for mutation in Mutation::all() {
        writeln!(found, "{mutation}\n    {}", verdict(mutation, update)).unwrap();
    }
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/model/mutants.txt");
    if update {
        std::fs::write(file, &found).unwrap();
    }
    assert_eq!(found, std::fs::read_to_string(file).unwrap());
}
