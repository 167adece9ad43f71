//! Every scenario that comes along, under a few seeds: no invariant breaks, and what it expects comes of it.

use conun_sim::{LIBRARY, judge, named, run};

/// Seeds of each: more of them take a command of their own.
const SEEDS: std::ops::RangeInclusive<u64> = 1..=3;

#[test]
fn no_scenario_breaks_an_invariant() {
    let mut broken = String::new();
    for (name, _) in LIBRARY {
        let scenario = named(name).unwrap().unwrap();
        let mut runs = Vec::new();
        for seed in SEEDS {
            match run(&scenario, seed) {
                Ok(run) => runs.push(run),
                Err(violation) => broken += &format!("{name}: {violation}\n{}\n", violation.trace.join("\n")),
            }
        }
        if let Err(violation) = judge(&scenario, &runs) {
            broken += &format!("{name}: {violation}\n");
        }
    }
    assert!(broken.is_empty(), "{broken}");
}

#[test]
fn the_library_is_the_folder() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = files.map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned()).collect();
    files.sort();
    let names: Vec<_> = LIBRARY.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(names, files);
    for (name, _) in LIBRARY {
        let scenario = named(name).unwrap().unwrap_or_else(|error| panic!("{error}"));
        assert!(!scenario.about.is_empty(), "{name} does not say what it shows");
    }
}
