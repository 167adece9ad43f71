//! The same seed gives the same run.

use std::{collections::BTreeSet, fmt::Write as _};

use conun_sim::{Scenario, named, run, run_all};

/// Seeds that are played twice.
const SEEDS: u64 = 100;

/// Of so many of them the traces are kept, from other times and machines.
const KEPT: usize = 10;

#[test]
fn a_seed_gives_one_trace_here_and_everywhere_and_another_seed_another() {
    let scenario = named("brief").unwrap().unwrap();
    let twice: Vec<_> = (1..=SEEDS).flat_map(|seed| [seed, seed]).collect();
    let runs = run_all(&scenario, &twice, |_| {});
    let mut traces = BTreeSet::new();
    let mut text = String::from("# The traces of the scenario brief by seed; UPDATE_VECTORS=1 writes them anew.\n");
    for pair in runs.chunks(2) {
        let [first, second] = pair else { panic!("each is played twice") };
        let first = first.as_ref().unwrap_or_else(|error| panic!("{error}\n{}", error.trace.join("\n")));
        let second = second.as_ref().unwrap();
        assert_eq!((first.trace, first.steps), (second.trace, second.steps), "seed {}", first.seed);
        let figures = |run: &conun_sim::Run| serde_json::to_string(&run.figures).unwrap();
        assert_eq!(figures(first), figures(second), "seed {}", first.seed);
        traces.insert(first.trace);
        if traces.len() <= KEPT {
            writeln!(text, "{} {}", first.seed, first.trace).unwrap();
        }
    }
    assert_eq!(traces.len() as u64, SEEDS);
    let kept = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds/traces.txt");
    if std::env::var_os("UPDATE_VECTORS").is_some() {
        std::fs::write(&kept, &text).unwrap();
    }
    let kept = std::fs::read_to_string(kept).unwrap();
    assert_eq!(
        kept, text,
        "another machine gave other traces; if contracts, core or simulator have changed since, UPDATE_VECTORS=1 writes them anew"
    );
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
