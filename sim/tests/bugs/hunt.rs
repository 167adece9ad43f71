//! Runs of one scenario after the other, until one shows that something is wrong.

use std::{collections::BTreeMap, ops::ControlFlow, path::Path};

use conun_sim::{LIBRARY, Run, Scenario, Violation, judge, named, run_all};
use serde::{Deserialize, Serialize};

use crate::Result;

/// Seeds of a scenario that are played together: what it expects is judged over so many, as in the test of the library.
const BLOCK: u64 = 2;

/// Blocks of each scenario that comes first, before the others have their turn.
const FIRST_BLOCKS: u64 = 6;

/// Something wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Finding {
    /// Runs that it took, this one included.
    pub(crate) runs: u64,
    pub(crate) scenario: String,
    /// The seed, or all those over which an expectation was missed.
    pub(crate) seeds: Vec<u64>,
    pub(crate) invariant: String,
    pub(crate) what: String,
}

/// What a hunt tells as it goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Event {
    /// So many runs are over.
    Runs(u64),
    Found(Finding),
}

/// Says how fast the simulator is, and takes long for it.
const NOT_PLAYED: &str = "large";

/// Blocks in the order in which they are played: scenario and first seed.
fn order(first: &[String]) -> impl Iterator<Item = (String, u64)> {
    let others = LIBRARY.iter().map(|(name, _)| (*name).to_owned());
    let others = others.filter(|name| name != NOT_PLAYED && !first.contains(name));
    let (first, others): (Vec<_>, Vec<_>) = (first.to_vec(), others.collect());
    let all: Vec<_> = first.iter().chain(&others).cloned().collect();
    let early = (0..FIRST_BLOCKS).flat_map(move |_| first.clone());
    let mut next = BTreeMap::<String, u64>::new();
    early.chain(others).chain((0..).flat_map(move |_| all.clone())).map(move |name| {
        let block = next.entry(name.clone()).or_default();
        *block += 1;
        (name, 1 + (*block - 1) * BLOCK)
    })
}

fn scenario(name: &str, artifacts: Option<&Path>) -> Result<Scenario> {
    let found = named(name).ok_or_else(|| format!("there is no scenario {name}"))?;
    let mut scenario = found.map_err(|error| error.to_string())?;
    scenario.chain.artifacts = artifacts.map(Path::to_owned);
    Ok(scenario)
}

/// Plays up to `most` runs, those before `from` left out, on the contracts in `artifacts` if given. `tell` says whether to go on.
pub(crate) fn hunt(
    first: &[String],
    artifacts: Option<&Path>,
    from: u64,
    most: u64,
    tell: &mut impl FnMut(Event) -> ControlFlow<()>,
) -> Result<()> {
    let mut runs = 0;
    for (name, seed) in order(first) {
        if runs >= most {
            break;
        }
        if runs >= from {
            let (scenario, seeds) = (scenario(&name, artifacts)?, (seed..seed + BLOCK).collect::<Vec<_>>());
            for (runs_before, seeds, violation) in faults(&scenario, &seeds) {
                let runs = (runs + runs_before).min(most);
                let (invariant, what) = (format!("{:?}", violation.invariant), violation.what);
                let finding = Finding { runs, scenario: name.clone(), seeds, invariant, what };
                if tell(Event::Found(finding)).is_break() {
                    return Ok(());
                }
            }
            if tell(Event::Runs(runs + BLOCK)).is_break() {
                return Ok(());
            }
        }
        runs += BLOCK;
    }
    Ok(())
}

/// What is wrong with runs: after how many of them, under which seeds.
fn faults(scenario: &Scenario, seeds: &[u64]) -> Vec<(u64, Vec<u64>, Violation)> {
    let results = run_all(scenario, seeds, |_| {});
    let mut faults = Vec::new();
    let mut runs: Vec<Run> = Vec::new();
    for (number, (seed, result)) in (1..).zip(seeds.iter().zip(results)) {
        match result {
            Ok(run) => runs.push(run),
            Err(violation) => faults.push((number, vec![*seed], violation)),
        }
    }
    if faults.is_empty()
        && let Err(violation) = judge(scenario, &runs)
    {
        faults.push((seeds.len() as u64, seeds.to_vec(), violation));
    }
    faults
}

/// Whether this very program, with its own contracts, has nothing to show for it there.
pub(crate) fn is_new(finding: &Finding) -> Result<bool> {
    Ok(faults(&scenario(&finding.scenario, None)?, &finding.seeds).is_empty())
}

/// The scenario of a finding made smaller in up to `runs` runs, as a file. Panics if that is not smaller, or if it breaks without the bug, too.
pub(crate) fn shrunk(finding: &Finding, artifacts: &Path, runs: u32) -> Result<String> {
    let whole = scenario(&finding.scenario, Some(artifacts))?;
    let violation = conun_sim::run(&whole, finding.seeds[0]).err().ok_or("it broke under this seed a moment ago")?;
    let mut shrunk = conun_sim::shrink(&whole, &violation, runs).ok_or("it broke under this seed a moment ago")?;
    let count = |scenario: &Scenario| {
        let providers: u32 = scenario.providers.iter().map(|group| group.count).sum();
        providers + scenario.requesters.iter().map(|group| group.count).sum::<u32>()
    };
    assert!(count(&shrunk.scenario) < count(&whole), "{:#?}", shrunk.scenario);
    assert_eq!(shrunk.violation.invariant, violation.invariant);
    // What is kept is to hold from now on.
    shrunk.scenario.chain.artifacts = None;
    let text = shrunk.file(&finding.scenario);
    let kept = Scenario::parse(&text, "kept", "kept").map_err(|error| error.to_string())?;
    assert_eq!(kept.seed, Some(finding.seeds[0]));
    conun_sim::run(&kept, finding.seeds[0]).map_err(|violation| format!("without the bug: {violation}"))?;
    Ok(text)
}

/// What a hunt's program writes and reads, a line each.
impl Event {
    pub(crate) fn line(&self) -> String {
        serde_json::to_string(self).expect("it has no maps")
    }

    pub(crate) fn parse(line: &str) -> Option<Self> {
        serde_json::from_str(line).ok()
    }
}
