//! A scenario that breaks an invariant, made small: fewer groups, agents, jobs and faults, a shorter time and simpler values, as long as the
//! same invariant still breaks.
//!
//! It works on the scenario as a TOML table, so that every key is a part that can be left out or made simpler, and leaves the search to
//! proptest: each part is a [`ValueTree`], and all of them together are one.

use std::{cell::RefCell, fmt::Write as _};

use proptest::{
    num::u64::BinarySearch,
    strategy::ValueTree,
    test_runner::{Config, TestCaseError, TestRunner},
};
use toml::{Table, Value};

use crate::{Invariant, Scenario, Violation, run};

/// What a scenario was shrunk to.
#[derive(Clone, Debug)]
pub struct Shrunk {
    /// It; its seed is in it.
    pub scenario: Scenario,
    /// What breaks.
    pub violation: Violation,
    /// Runs that it took.
    pub runs: u32,
}

/// Keys from the top; an element of an array of groups by its group's name.
type Path = Vec<String>;

/// Distributions, and arrivals, that a plain value can stand in for.
const DRAWN: [&str; 5] = ["uniform", "exponential", "log-normal", "pareto", "choice"];

/// Shrinks a scenario whose run under the violation's seed broke an invariant, in up to `runs` runs. `None` if that does not break it
/// again, or is an expectation of several runs.
pub fn shrink(scenario: &Scenario, violation: &Violation, runs: u32) -> Option<Shrunk> {
    if violation.invariant == Invariant::Expected {
        return None;
    }
    let seed = violation.seed;
    let fails = |scenario: &Scenario| run(scenario, seed).err().filter(|found| found.invariant == violation.invariant);
    let (mut scenario, violation, runs) = shrink_while(scenario, runs, fails)?;
    scenario.seed = Some(seed);
    Some(Shrunk { scenario, violation, runs })
}

/// The smallest scenario that `fails` in up to `most` calls, what it fails with, and how many calls that took.
fn shrink_while<T>(
    scenario: &Scenario,
    most: u32,
    fails: impl Fn(&Scenario) -> Option<T>,
) -> Option<(Scenario, T, u32)> {
    let calls = RefCell::new(0);
    let best = RefCell::new(None);
    let test = |table: Table| {
        if *calls.borrow() >= most {
            return Ok(());
        }
        let Some(scenario) = parsed(&table) else { return Ok(()) };
        *calls.borrow_mut() += 1;
        match fails(&scenario) {
            Some(failure) => {
                *best.borrow_mut() = Some((scenario, failure));
                Err(TestCaseError::fail("it still breaks"))
            }
            None => Ok(()),
        }
    };
    let mut current = Table::try_from(scenario).ok()?;
    loop {
        let config = Config { failure_persistence: None, ..Config::default() };
        let _ = TestRunner::new(config).run_one(ScenarioTree::new(&current), test);
        let next = best.borrow().as_ref().and_then(|(found, _)| Table::try_from(found).ok())?;
        // Once one part is gone another may go, too.
        if next == current || *calls.borrow() >= most {
            break;
        }
        current = next;
    }
    let calls = *calls.borrow();
    best.into_inner().map(|(scenario, failure)| (scenario, failure, calls))
}

fn parsed(table: &Table) -> Option<Scenario> {
    let text = toml::to_string(table).ok()?;
    Scenario::parse(&text, "shrunk", "what was shrunk").ok()
}

/// One way to make a scenario simpler.
#[derive(Clone, Debug)]
enum Part {
    /// Another value, or none at all, instead of what is there.
    Swap { to: Option<Value>, tried: bool, on: bool },
    /// A smaller number.
    Number(BinarySearch),
}

/// A scenario and all ways to make it simpler, tried one after the other.
#[derive(Debug)]
struct ScenarioTree {
    table: Table,
    parts: Vec<(Path, Part)>,
    at: usize,
}

impl ScenarioTree {
    fn new(table: &Table) -> Self {
        let mut paths = Vec::new();
        list(&mut paths, &Vec::new(), &Value::Table(table.clone()));
        // What is large goes first.
        paths.sort_by_key(|(path, value)| (path.len(), std::cmp::Reverse(weight(value))));
        let (mut parts, mut numbers) = (Vec::new(), Vec::new());
        for (path, value) in paths {
            let mut without = table.clone();
            put(&mut without, &path, None);
            // What is left out is as it is by default: that may be more.
            if let Some(left) = parsed(&without)
                && Table::try_from(&left).is_ok_and(|left| size(&left) < size(table))
            {
                parts.push((path.clone(), Part::Swap { to: None, tried: false, on: false }));
            }
            if let Some(simple) = simpler(&value) {
                parts.push((path.clone(), Part::Swap { to: Some(simple), tried: false, on: false }));
            }
            if let Some(number) = number(&value) {
                numbers.push((path, Part::Number(BinarySearch::new(number))));
            }
        }
        parts.extend(numbers);
        Self { table: table.clone(), parts, at: 0 }
    }
}

impl ValueTree for ScenarioTree {
    type Value = Table;

    fn current(&self) -> Table {
        let mut table = self.table.clone();
        for (path, part) in &self.parts {
            match part {
                Part::Swap { on: false, .. } => {}
                Part::Swap { to, .. } => put(&mut table, path, to.clone()),
                Part::Number(search) => {
                    if let Some(value) = get(&table, path) {
                        let number = match value {
                            Value::Float(_) => Value::Float(search.current() as f64),
                            _ => Value::Integer(search.current().try_into().unwrap_or(i64::MAX)),
                        };
                        if self::number(value).is_some_and(|before| before != search.current()) {
                            put(&mut table, path, Some(number));
                        }
                    }
                }
            }
        }
        table
    }

    fn simplify(&mut self) -> bool {
        let table = self.current();
        while let Some((path, part)) = self.parts.get_mut(self.at) {
            // It may be gone with what it was in.
            let is_there = get(&table, path).is_some();
            let simplified = match part {
                Part::Swap { tried, on, .. } => {
                    is_there && !std::mem::replace(tried, true) && {
                        *on = true;
                        true
                    }
                }
                Part::Number(search) => is_there && search.simplify(),
            };
            if simplified {
                return true;
            }
            self.at += 1;
        }
        false
    }

    fn complicate(&mut self) -> bool {
        match self.parts.get_mut(self.at) {
            Some((_, Part::Swap { on, .. })) => {
                *on = false;
                self.at += 1;
                true
            }
            Some((_, Part::Number(search))) => {
                if !search.complicate() {
                    self.at += 1;
                }
                true
            }
            None => false,
        }
    }
}

/// Everything below `value`, with its path.
fn list(paths: &mut Vec<(Path, Value)>, path: &Path, value: &Value) {
    let mut add = |key: &str, value: &Value| {
        let path: Path = path.iter().cloned().chain([key.to_owned()]).collect();
        paths.push((path.clone(), value.clone()));
        list(paths, &path, value);
    };
    match value {
        Value::Table(table) => table.iter().filter(|(key, _)| *key != "name").for_each(|(key, value)| add(key, value)),
        Value::Array(values) => values.iter().for_each(|value| {
            if let Some(name) = value.get("name").and_then(Value::as_str) {
                add(name, value);
            }
        }),
        _ => {}
    }
}

/// How much there is to a scenario: keys and values, then how large the numbers are.
fn size(table: &Table) -> (usize, u64) {
    fn sum(value: &Value) -> u64 {
        match value {
            Value::Table(table) => table.values().map(sum).fold(0, u64::saturating_add),
            Value::Array(values) => values.iter().map(sum).fold(0, u64::saturating_add),
            value => number(value).unwrap_or_default(),
        }
    }
    let value = Value::Table(table.clone());
    (weight(&value), sum(&value))
}

/// How much there is to a value.
fn weight(value: &Value) -> usize {
    match value {
        Value::Table(table) => 1 + table.values().map(weight).sum::<usize>(),
        Value::Array(values) => 1 + values.iter().map(weight).sum::<usize>(),
        _ => 1,
    }
}

/// A plain value that can stand in for a distribution or for arrivals by chance.
fn simpler(value: &Value) -> Option<Value> {
    let table = value.as_table().filter(|table| table.len() == 1)?;
    let (key, inner) = table.iter().next()?;
    if key == "poisson-per-hour" {
        return Some(Value::Table(Table::from_iter([("at".to_owned(), Value::Array(vec![Value::Float(60.0)]))])));
    }
    let is_drawn = DRAWN.contains(&key.as_str());
    let first = match inner {
        Value::Array(values) => values.first()?,
        Value::Table(table) => table.values().find(|value| number(value).is_some())?,
        plain => plain,
    };
    is_drawn.then(|| first.clone())
}

/// A number that can be made smaller.
fn number(value: &Value) -> Option<u64> {
    match value {
        Value::Integer(number) => u64::try_from(*number).ok().filter(|number| *number > 1),
        Value::Float(number) if *number >= 2.0 && *number <= 1e15 => Some(*number as u64),
        _ => None,
    }
}

fn step<'a>(value: &'a Value, key: &str) -> Option<&'a Value> {
    match value {
        Value::Table(table) => table.get(key),
        Value::Array(values) => values.iter().find(|value| value.get("name").and_then(Value::as_str) == Some(key)),
        _ => None,
    }
}

fn get<'a>(table: &'a Table, path: &Path) -> Option<&'a Value> {
    let (first, rest) = path.split_first()?;
    rest.iter().try_fold(table.get(first)?, |value, key| step(value, key))
}

/// Sets what is at `path`, or takes it away.
fn put(table: &mut Table, path: &[String], to: Option<Value>) {
    let Some((first, rest)) = path.split_first() else { return };
    if rest.is_empty() {
        match to {
            Some(value) => drop(table.insert(first.clone(), value)),
            None => drop(table.remove(first)),
        }
        return;
    }
    match table.get_mut(first) {
        Some(Value::Table(inner)) => put(inner, rest, to),
        Some(Value::Array(values)) => {
            let named = |value: &Value| value.get("name").and_then(Value::as_str) == Some(rest[0].as_str());
            match (rest.len(), to) {
                (1, None) => values.retain(|value| !named(value)),
                (_, to) => {
                    if let Some(inner) = values.iter_mut().filter(|value| named(value)).find_map(Value::as_table_mut) {
                        put(inner, &rest[1..], to);
                    }
                }
            }
        }
        _ => {}
    }
}

impl Shrunk {
    /// The scenario as a file: what is as it is by default is left out.
    pub fn file(&self, of: &str) -> String {
        let mut table = Table::try_from(&self.scenario).unwrap_or_default();
        table.remove("name");
        let mut paths = Vec::new();
        list(&mut paths, &Vec::new(), &Value::Table(table.clone()));
        // What lies deepest first: then what is around it may be as it is by default, too.
        paths.sort_by_key(|(path, _)| std::cmp::Reverse(path.len()));
        for (path, _) in paths {
            let mut without = table.clone();
            put(&mut without, &path, None);
            if parsed(&without) == parsed(&table) {
                table = without;
            }
        }
        let Violation { invariant, seed, what, .. } = &self.violation;
        let mut text = format!("# Shrunk from {of} under seed {seed}, where it broke {invariant}:\n");
        let _ = writeln!(text, "# {what}\n");
        text + &toml::to_string(&table).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{named, scenario::ProviderStrategy};

    /// Calls enough to try everything.
    const MANY: u32 = 2_000;

    #[test]
    fn what_does_not_matter_goes_and_what_does_stays_as_small_as_it_can() {
        let scenario = named("everything").unwrap().unwrap();
        // Breaks with five honest providers under re-orgs.
        let fails = |scenario: &Scenario| {
            let homes = scenario.providers.iter().find(|group| group.strategy == ProviderStrategy::Honest)?;
            (homes.count >= 5 && scenario.chain.reorgs.is_some() && scenario.seconds > 700).then_some(())
        };
        let (shrunk, (), calls) = shrink_while(&scenario, MANY, fails).unwrap();
        assert!(calls < MANY, "it does not end");
        assert_eq!((shrunk.requesters.len(), shrunk.providers.len()), (1, 1), "{shrunk:#?}");
        assert_eq!((shrunk.providers[0].count, shrunk.seconds), (5, 701));
        let chain = &shrunk.chain;
        assert!(
            chain.reorgs.is_some() && chain.fee_spikes.is_none() && chain.censorship.is_none() && chain.lies.is_none()
        );
        assert_eq!(shrunk.providers[0].machine, Default::default());
    }

    #[test]
    fn what_fails_no_more_is_not_shrunk_and_calls_are_counted() {
        let scenario = named("market").unwrap().unwrap();
        assert!(shrink_while(&scenario, MANY, |_| None::<()>).is_none());
        let (_, (), calls) = shrink_while(&scenario, 7, |_| Some(())).unwrap();
        assert_eq!(calls, 7);
    }

    #[test]
    fn the_file_is_short_and_is_the_scenario() {
        let mut scenario = named("market").unwrap().unwrap();
        scenario.seed = Some(3);
        let violation =
            Violation { invariant: Invariant::I1, seed: 3, step: 9, what: "gone".to_owned(), trace: Vec::new() };
        let shrunk = Shrunk { scenario: scenario.clone(), violation, runs: 1 };
        let text = shrunk.file("market");
        assert_eq!(Scenario::parse(&text, "market", "").unwrap(), scenario, "{text}");
        let whole = toml::to_string(&scenario).unwrap();
        assert!(text.len() < whole.len() / 2 && !text.contains("unsynced"), "{text}\nof\n{whole}");
    }
}
