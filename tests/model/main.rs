// SPDX-License-Identifier: GPL-2.0-only
//! Model checks of `kmod/src/protocol.rs`, the very file the module is built from: every interleaving of a tighten
//! with unmaps, the flush timer, a relax, a second writer and the end of the domain, and of the module's exit with
//! writers.
//!
//! What this does not see: the ordering of page table and device accesses, and address dependencies. The litmus tests
//! have those.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../../kmod/src/protocol.rs"]
mod protocol;

mod domain;
mod exit;
mod ghost;
mod grace;
mod mutation;
mod scenario;

use std::fmt::Write as _;
use std::process::Command;

use mutation::{Mutation, Names};
use scenario::Scenario;

/// Tells the process that explores which scenario it is about, and how the protocol is mutated.
const ORDERS: &str = "MODEL_ORDERS";

/// How often a task may be interrupted in one run where it could go on; `all` is no limit.
const PREEMPTIONS: &str = "MODEL_PREEMPTIONS";

/// With more tasks than this, each of them is interrupted this often at most: one more takes hours.
const FEW: usize = 4;
const DEEP: usize = 2;

/// Runs one scenario in every order; the property that broke, if one did.
///
/// In a process of its own: loom cannot unwind out of a model in which locks are held.
fn explore(scenario: &Scenario, mutation: Mutation) -> Result<(), String> {
    let orders = format!("{}\n{mutation}", scenario.name);
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "--ignored", "--nocapture", "exploring_process"])
        .env(ORDERS, orders)
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
    let mutation: Mutation = mutation.parse().unwrap();
    let all = scenario::TIGHTEN.iter().chain(&scenario::SERVE);
    let mut all = all.chain(&scenario::EXIT);
    let scenario = all.find(|scenario| scenario.name == name).unwrap();
    let run = scenario.run;
    let mut model = loom::model::Builder::new();
    model.max_branches = 10_000;
    model.preemption_bound = match std::env::var(PREEMPTIONS).as_deref() {
        Ok("all") => None,
        Ok(number) => Some(number.parse().unwrap()),
        Err(_) => Some(3),
    };
    if scenario.tasks > FEW {
        let bound = model.preemption_bound.unwrap_or(DEEP);
        model.preemption_bound = Some(bound.min(DEEP));
    }
    model.check(move || run(mutation));
}

/// Mutants of the tighten that no property can tell from the shipped order, and why that is so.
const EQUIVALENT: [(Mutation, &str); 3] = [
    (
        Mutation::Swap(5),
        "strict_from_here changes nothing, it says that step 5 is done and takes the time",
    ),
    (
        Mutation::Swap(8),
        "behind step 8 every unmap samples strict, so none looks at the rings, whichever entry it takes",
    ),
    (
        Mutation::Swap(9),
        "the type is read under the group's mutex, which the switch holds, and no unmap reads it",
    ),
];

/// Mutants of who switches for a writer, likewise.
const EQUIVALENT_SERVE: [(Mutation, &str); 2] = [
    (
        Mutation::Swap(1),
        "the turn has another share, that of the writer who waits for the answer",
    ),
    (
        Mutation::Swap(3),
        "what is finished waits for unmaps only, so the group is merely kept for longer",
    ),
];

/// Mutants of the exit, likewise.
const EQUIVALENT_EXIT: [(Mutation, &str); 1] = [(
    Mutation::Swap(2),
    "behind step 2 nobody sends a worker any more, and those there are have left the group's mutex",
)];

/// Runs every mutant of one protocol. What came of it, as lines of the table.
fn mutants(
    title: &str,
    steps: &[&str],
    scenarios: &[Scenario],
    equivalent: &[(Mutation, &str)],
) -> String {
    let mut table = format!("{title}\n");
    // Between the two functions of the tighten; the others have fewer steps.
    let seam = Mutation::Swap(mutation::FINISH - 1);
    for mutation in Mutation::all(steps.len()).filter(|one| *one != seam) {
        let broken = scenarios.iter().find_map(|scenario| {
            let property = explore(scenario, mutation).err()?;
            Some(format!("caught in \"{}\": {property}", scenario.name))
        });
        let name = mutation.describe(steps);
        let argument = equivalent.iter().find(|(mutant, _)| *mutant == mutation);
        let verdict = match (broken, argument) {
            (Some(broken), None) => broken,
            (None, Some((_, why))) => format!("equivalent: {why}"),
            (Some(broken), Some(_)) => panic!("said to be equivalent: {name}: {broken}"),
            (None, None) => panic!("survives, and nothing says why it may: {name}"),
        };
        writeln!(table, "{name}\n    {verdict}").unwrap();
    }
    table
}

fn holds(scenarios: &[Scenario]) {
    for scenario in scenarios {
        assert_eq!(
            explore(scenario, Mutation::None),
            Ok(()),
            "{}",
            scenario.name
        );
    }
}

#[test]
fn tighten_holds() {
    holds(&scenario::TIGHTEN);
}

#[test]
fn serve_holds() {
    holds(&scenario::SERVE);
}

#[test]
fn exit_holds() {
    holds(&scenario::EXIT);
}

#[test]
fn steps_are_those_of_the_shipped_file() {
    let mut names = Names::default();
    protocol::tighten(&mut names);
    assert_eq!(names.0.len(), mutation::FINISH);
    protocol::finish(&mut names);
    assert_eq!(names.0, mutation::TIGHTEN);
    let mut names = Names::default();
    protocol::serve(&mut names);
    assert_eq!(names.0, mutation::SERVE);
    let mut names = Names::default();
    protocol::leave(&mut names);
    assert_eq!(names.0, mutation::EXIT);
}

/// The table is in the repository, so that a change of what is caught is seen. `UPDATE_EXPECTED=1` rewrites it.
#[test]
fn every_mutant_is_caught_or_equivalent() {
    let tighten = mutants(
        "Tighten",
        &mutation::TIGHTEN,
        &scenario::TIGHTEN,
        &EQUIVALENT,
    );
    let serve = mutants(
        "Serve",
        &mutation::SERVE,
        &scenario::SERVE,
        &EQUIVALENT_SERVE,
    );
    let exit = mutants("Exit", &mutation::EXIT, &scenario::EXIT, &EQUIVALENT_EXIT);
    let found = format!("{tighten}\n{serve}\n{exit}");
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/model/mutants.txt");
    if std::env::var_os("UPDATE_EXPECTED").is_some() {
        std::fs::write(file, &found).unwrap();
    }
    assert_eq!(found, std::fs::read_to_string(file).unwrap());
}
