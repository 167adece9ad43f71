//! The market in one process and one thread, under one seed: the deployed bytecode on revm, agents that run the real core, and a
//! clock, a network and machines that are not there.
//!
//! A [`Scenario`] says who takes part, what goes wrong and what has to come of it; [`run`] plays it once. The same scenario and seed
//! give the same [`Run::trace`] on every machine. After every block the invariants are checked; in the end every job has to end, and
//! everybody takes out what is theirs.
//!
//! # What is real
//!
//! Contracts, `core::Core`, the index and the follower that keeps it (through re-orgs and endpoints that lie), the drafts of
//! transactions, result trees, manifests, lots, draws and votes.
//!
//! # What is not
//!
//! Tasks, unless a scenario says `real-vm`: their results are functions of their numbers. The sender waits on a wall clock, so that there is a model of it here; the
//! requester has no pure core, so that there is another one that makes the same calls. Journals are maps.
//!
//! # Example
//!
//! ```
//! let scenario = r#"
//!     seconds = 600
//!     [[requesters]]
//!     name = "one"
//!     arrivals = { at = [10] }
//!     [[providers]]
//!     name = "three"
//!     count = 3
//! "#;
//! let scenario = conun_sim::Scenario::parse(scenario, "example", "example.toml").unwrap();
//! let run = conun_sim::run(&scenario, 1).unwrap();
//! assert_eq!((run.figures.jobs, run.figures.settled), (1, 4));
//! assert_eq!(run.trace, conun_sim::run(&scenario, 1).unwrap().trace);
//! ```

mod agent;
mod bent;
mod books;
mod ending;
mod error;
mod faults;
mod invariants;
mod keeper;
mod library;
mod machine;
mod node;
mod orders;
mod providing;
mod queue;
mod random;
pub mod report;
mod requesting;
pub mod scenario;
mod sending;
mod shrink;
pub mod sweep;
mod theft;
mod trace;
mod truth;
pub mod vote;
mod world;

use std::{
    collections::BTreeMap,
    panic::AssertUnwindSafe,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use alloy::primitives::B256;
use serde::Serialize;

pub use books::{Figures, GroupBooks};
pub use error::{Invariant, Violation};
pub use library::{LIBRARY, named};
pub use orders::{Orders, permute};
pub use random::Distribution;
pub use scenario::{Scenario, ScenarioError};
pub use shrink::{Shrunk, shrink};

/// What one run came to.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Run {
    /// Its seed.
    pub seed: u64,
    /// Hash over everything that happened.
    pub trace: B256,
    /// How much that was.
    pub steps: u64,
    /// Virtual seconds.
    pub seconds: u64,
    /// What was measured.
    pub figures: Figures,
}

/// Plays a scenario under a seed.
///
/// # Errors
/// The first invariant that breaks. A panic, of the agent's core for example, is one, too.
pub fn run(scenario: &Scenario, seed: u64) -> Result<Run, Violation> {
    play(scenario, seed, false).0
}

/// The same, with every step in words besides.
pub fn run_traced(scenario: &Scenario, seed: u64) -> (Result<Run, Violation>, String) {
    play(scenario, seed, true)
}

fn play(scenario: &Scenario, seed: u64, traced: bool) -> (Result<Run, Violation>, String) {
    let mut world = match caught(seed, || Ok(world::World::new(scenario, seed))) {
        Ok(world) => world,
        Err(violation) => return (Err(violation), String::new()),
    };
    if traced {
        world.trace.keep();
    }
    // What goes wrong here is meant to: nobody is to be warned of each re-org.
    let quiet = tracing::subscriber::NoSubscriber::new();
    let figures = tracing::subscriber::with_default(quiet, || caught(seed, || world.run())).map_err(|mut violation| {
        if violation.invariant == Invariant::Panics {
            (violation.step, violation.trace) = (world.trace.steps(), world.trace.about(&[]));
        }
        violation
    });
    let (trace, steps, seconds) = (world.trace.hash(), world.trace.steps(), world.now / 1_000);
    (figures.map(|figures| Run { seed, trace, steps, seconds, figures }), world.trace.take())
}

/// A panic, as the violation that it is.
fn caught<T>(seed: u64, code: impl FnOnce() -> Result<T, Violation>) -> Result<T, Violation> {
    // What it leaves behind is looked at for its trace, and thrown away.
    std::panic::catch_unwind(AssertUnwindSafe(code)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
        let what = format!("it panicked: {}", text.unwrap_or("without a word"));
        Err(Violation { invariant: Invariant::Panics, seed, step: 0, what, trace: Vec::new() })
    })
}

/// Plays a scenario under `seeds`, several at once on as many threads as there are processors, each run on one. `done` hears of each
/// as it ends; the answer is in the order of the seeds.
pub fn run_all(
    scenario: &Scenario,
    seeds: &[u64],
    done: impl Fn(&Result<Run, Violation>) + Sync,
) -> Vec<Result<Run, Violation>> {
    at_once(seeds, |seed| {
        let result = run(scenario, *seed);
        done(&result);
        result
    })
}

/// Does the same work for each of some things, on as many threads as there are processors. The answer is in their order.
pub fn at_once<T: Sync, R: Send>(things: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let next = AtomicUsize::new(0);
    let results = Mutex::new(BTreeMap::new());
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(things.len());
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some((at, thing)) = things.iter().enumerate().nth(next.fetch_add(1, Ordering::Relaxed)) {
                    let result = work(thing);
                    results.lock().unwrap_or_else(PoisonError::into_inner).insert(at, result);
                }
            });
        }
    });
    results.into_inner().unwrap_or_else(PoisonError::into_inner).into_values().collect()
}

/// Whether all runs of a scenario together come to what it expects.
///
/// # Errors
/// The first expectation that is not met, under the seed of the first run.
pub fn judge(scenario: &Scenario, runs: &[Run]) -> Result<(), Violation> {
    let seed = runs.first().map_or(0, |run| run.seed);
    let missed =
        |what: String| Err(Violation { invariant: Invariant::Expected, seed, step: 0, what, trace: Vec::new() });
    let sum = |of: fn(&Figures) -> u64| runs.iter().map(|run| of(&run.figures)).sum::<u64>();
    let share = |part: u64, all: u64| if all == 0 { 0.0 } else { part as f64 / all as f64 };
    let gain = |name: &String| {
        let groups = runs.iter().flat_map(|run| &run.figures.groups).filter(|group| group.name == *name);
        groups.map(|group| group.gain - group.cost).sum::<f64>() / runs.len().max(1) as f64
    };
    let expect = &scenario.expect;
    for name in &expect.losing {
        if gain(name) >= 0.0 {
            return missed(format!("the group \"{name}\" gains {:.3} tokens a run instead of losing", gain(name)));
        }
    }
    for name in &expect.earning {
        if gain(name) <= 0.0 {
            return missed(format!("the group \"{name}\" loses {:.3} tokens a run instead of earning", -gain(name)));
        }
    }
    let each = |name: &String| {
        let groups = runs.iter().flat_map(|run| &run.figures.groups).find(|group| group.name == *name);
        gain(name) / f64::from(groups.map_or(1, |group| group.count.max(1)))
    };
    for (worse, better) in &expect.worse_off {
        if each(worse) >= each(better) {
            let (worse_gain, better_gain) = (each(worse), each(better));
            return missed(format!(
                "one of \"{worse}\" gains {worse_gain:.3} tokens a run, one of \"{better}\" no more than {better_gain:.3}"
            ));
        }
    }
    for names in &expect.losing_together {
        let gained: f64 = names.iter().map(&gain).sum();
        if gained >= 0.0 {
            return missed(format!("{names:?} together gain {gained:.3} tokens a run instead of losing"));
        }
    }
    for (name, most) in &expect.loss_at_most {
        let groups = runs.iter().flat_map(|run| &run.figures.groups).filter(|group| group.name == *name);
        let worst = groups.flat_map(|group| &group.each).copied().fold(0.0, f64::min);
        if -worst > *most {
            return missed(format!("one of \"{name}\" loses {:.3} tokens, more than {most}", -worst));
        }
    }
    for name in &expect.unharmed {
        let groups = runs.iter().flat_map(|run| &run.figures.groups).filter(|group| group.name == *name);
        let lost: f64 = groups.map(|group| group.stake_lost).sum();
        if lost > 0.0 {
            return missed(format!("the group \"{name}\" loses {lost:.3} tokens of stake, and nobody is to harm it"));
        }
    }
    // Who deals with itself does not care.
    let theirs: Vec<_> = expect.losing_together.iter().flatten().collect();
    let groups = || runs.iter().flat_map(|run| &run.figures.groups).filter(|group| !theirs.contains(&&group.name));
    let wrong = share(groups().map(|group| group.wrong).sum(), groups().map(|group| group.judged).sum());
    if let Some(most) = expect.wrong_share.filter(|most| wrong > *most) {
        return missed(format!("{wrong:.5} of the results that were paid are wrong, more than {most}"));
    }
    let settled = share(sum(|figures| figures.settled), sum(|figures| figures.batches));
    if let Some(least) = expect.settled_share.filter(|least| settled < *least) {
        return missed(format!("{settled:.3} of the batches were paid, less than {least}"));
    }
    if let Some(most) = expect.settled_share_most.filter(|most| settled > *most) {
        return missed(format!("{settled:.3} of the batches were paid, more than {most}"));
    }
    let vain = sum(|figures| figures.refused);
    let calls = vain + sum(|figures| figures.transactions);
    let vain = share(vain, calls);
    if let Some(most) = expect.vain_share.filter(|most| vain > *most) {
        return missed(format!("{vain:.3} of the calls were in vain, more than {most}"));
    }
    let foreseeable = share(sum(|figures| figures.foreseeable), calls);
    if let Some(most) = expect.foreseeable_share.filter(|most| foreseeable > *most) {
        return missed(format!(
            "{foreseeable:.3} of the calls were in vain, as the latest block told, more than {most}"
        ));
    }
    let unanswered = share(sum(|figures| figures.unanswered), sum(|figures| figures.demands));
    if let Some(most) = expect.unanswered_share.filter(|most| unanswered > *most) {
        return missed(format!("{unanswered:.3} of the demands were not answered, more than {most}"));
    }
    let left = share(sum(|figures| figures.left_over), sum(|figures| figures.batches));
    if let Some(most) = expect.left_share.filter(|most| left > *most) {
        return missed(format!("{left:.3} calls for each batch were left to others, more than {most}"));
    }
    Ok(())
}
