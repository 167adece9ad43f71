//! Every scenario that comes along, under a few seeds: no invariant breaks, and what it expects comes of it.

use conun_sim::{LIBRARY, judge, named, run_all};

/// Seeds of each: more of them take a command of their own.
const SEEDS: [u64; 2] = [1, 2];

#[test]
fn no_scenario_breaks_an_invariant_and_all_expectations_are_met() {
    let mut broken = String::new();
    for (name, _) in LIBRARY {
        let mut scenario = named(name).unwrap().unwrap();
        if *name == "large" {
            shrink(&mut scenario);
        }
        let results = run_all(&scenario, &SEEDS, |_| {});
        for violation in results.iter().filter_map(|result| result.as_ref().err()) {
            broken += &format!("{name}: {violation}\n{}\n", violation.trace.join("\n"));
        }
        let runs: Vec<_> = results.into_iter().flatten().collect();
        if let Err(violation) = judge(&scenario, &runs) {
            broken += &format!("{name}: {violation}\n");
        }
    }
    assert!(broken.is_empty(), "{broken}");
}

/// A tenth of a tenth of the work.
fn shrink(scenario: &mut conun_sim::Scenario) {
    scenario.seconds /= 10;
    scenario.requesters.iter_mut().for_each(|group| group.count = group.count.div_ceil(10));
    scenario.providers.iter_mut().for_each(|group| group.count = group.count.div_ceil(10));
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
