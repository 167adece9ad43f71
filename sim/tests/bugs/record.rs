//! What was found, in a file that a later run goes on from, and as a table.

use std::{collections::BTreeMap, fmt::Write as _, fs::File, io::Write as _, path::Path};

use serde::{Deserialize, Serialize};

use crate::{MOST_RUNS, Result, bug::Bug, hunt::Finding};

/// What came of the search for a bug.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Outcome {
    Found(Finding),
    /// Nothing in so many runs: of as many as there may be it is missed.
    NotIn(u64),
}

/// A line of the file.
#[derive(Debug, Serialize, Deserialize)]
struct Line {
    bug: String,
    /// Of the patch: another one is another bug.
    hash: String,
    outcome: Outcome,
}

/// All that is known.
#[derive(Debug, Default)]
pub(crate) struct Record {
    known: BTreeMap<String, (String, Outcome)>,
    file: Option<File>,
}

fn hash(bug: &Bug) -> String {
    blake3::hash(bug.text.as_bytes()).to_hex()[..16].to_owned()
}

impl Record {
    pub(crate) fn open(path: Option<&Path>) -> Result<Self> {
        let mut record = Self::default();
        let Some(path) = path else { return Ok(record) };
        let text = std::fs::read_to_string(path).unwrap_or_default();
        for line in text.lines().filter_map(|line| serde_json::from_str::<Line>(line).ok()) {
            record.known.insert(line.bug, (line.hash, line.outcome));
        }
        let file = File::options().create(true).append(true).open(path);
        record.file = Some(file.map_err(|error| format!("{}: {error}", path.display()))?);
        Ok(record)
    }

    pub(crate) fn of(&self, bug: &Bug) -> Option<&Outcome> {
        self.known.get(&bug.name).filter(|(known, _)| *known == hash(bug)).map(|(_, outcome)| outcome)
    }

    pub(crate) fn note(&mut self, bug: &Bug, outcome: Outcome) -> Result<()> {
        let line = Line { bug: bug.name.clone(), hash: hash(bug), outcome: outcome.clone() };
        if let Some(file) = &mut self.file {
            let text = serde_json::to_string(&line).map_err(|error| error.to_string())?;
            writeln!(file, "{text}").map_err(|error| error.to_string())?;
        }
        self.known.insert(line.bug, (line.hash, outcome));
        Ok(())
    }

    /// The table of all bugs, and a sentence about them.
    pub(crate) fn table(&self, bugs: &[Bug]) -> String {
        let mut table =
            "| bug | part | what breaks | runs needed | found in | by |\n|---|---|---|---|---|---|\n".to_owned();
        let mut found = 0;
        for bug in bugs {
            let (runs, place, by) = match self.of(bug) {
                Some(Outcome::Found(finding)) => {
                    found += 1;
                    let seeds: Vec<_> = finding.seeds.iter().map(u64::to_string).collect();
                    let place = format!("`{}` {}", finding.scenario, seeds.join(", "));
                    (finding.runs.to_string(), place, finding.invariant.clone())
                }
                Some(Outcome::NotIn(runs)) if *runs >= MOST_RUNS => {
                    ("**missed**".to_owned(), String::new(), String::new())
                }
                Some(Outcome::NotIn(runs)) => (format!("not in the first {runs}"), String::new(), String::new()),
                None => ("not looked for".to_owned(), String::new(), String::new()),
            };
            let Bug { name, part, what, .. } = bug;
            let _ =
                writeln!(table, "| [{name}](../sim/bugs/{name}.patch) | {part} | {what} | {runs} | {place} | {by} |");
        }
        let _ = writeln!(table, "\n{found} of {} found.", bugs.len());
        table
    }
}
