//! The same seed gives the same run.

use std::collections::BTreeSet;

use conun_sim::{named, run};

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
