//! The same seed gives the same run.

use std::collections::BTreeSet;

use conun_sim::{Scenario, named, run};

#[test]
fn a_seed_is_one_run_and_another_seed_another() {
    let scenario = named("market").unwrap().unwrap();
    let mut traces = BTreeSet::new();
    for seed in 1..=4 {
        let (first, second) = (run(&scenario, seed).unwrap(), run(&scenario, seed).unwrap());
        assert_eq!((first.trace, first.steps), (second.trace, second.steps), "seed {seed}");
        traces.insert(first.trace);
    }
    assert_eq!(traces.len(), 4);
}

#[test]
fn what_once_broke_holds() {
    let text = include_str!("../../seeds/found.txt");
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let mut words = line.split_whitespace();
        let (name, seed) = (words.next().unwrap(), words.next().unwrap().parse().unwrap());
        let scenario = named(name).unwrap().unwrap();
        if let Err(violation) = run(&scenario, seed) {
            panic!("{line}: {violation}\n{}", violation.trace.join("\n"));
        }
    }
}

/// What was shrunk and kept: `conun sim run --keep sim/seeds`.
#[test]
fn what_was_shrunk_holds() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds");
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let files: Vec<_> = files.filter(|path| path.extension().is_some_and(|extension| extension == "toml")).collect();
    assert!(!files.is_empty());
    for path in files {
        let scenario = Scenario::read(&path).unwrap_or_else(|error| panic!("{error}"));
        let seed = scenario.seed.unwrap_or_else(|| panic!("{} says no seed", path.display()));
        if let Err(violation) = run(&scenario, seed) {
            panic!("{}: {violation}\n{}", path.display(), violation.trace.join("\n"));
        }
    }
}
