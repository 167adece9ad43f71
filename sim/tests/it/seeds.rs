//! Seed after seed of one market with faults and cheats of every kind. `scripts/long seeds` goes on where this ends.

use conun_sim::{Run, Violation, named, run_all};

/// Kinds of faults that the scenario stages.
const FAULTS: [&str; 10] = [
    "censorship",
    "crash",
    "fee spike",
    "full disk",
    "lie",
    "lost transaction",
    "lost write",
    "partition",
    "re-org",
    "sleep",
];

fn number(name: &str, usual: u64) -> u64 {
    std::env::var(name).map_or(usual, |text| text.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

#[test]
fn no_seed_breaks_an_invariant() {
    let (first, count) = (number("SEEDS_FIRST", 1), number("SEEDS_COUNT", 200));
    let scenario = named("seeds").unwrap().unwrap();
    let seeds: Vec<_> = (first..first + count).collect();
    let tell = |result: &Result<Run, Violation>| match result {
        Ok(run) => eprintln!("seed {}: in order", run.seed),
        Err(violation) => eprintln!("seed {}: {violation}", violation.seed),
    };
    let results = run_all(&scenario, &seeds, tell);
    let broken: Vec<_> = results.iter().filter_map(|result| result.as_ref().err()).collect();
    let texts: Vec<_> = broken.iter().map(|violation| format!("{violation}\n{}", violation.trace.join("\n"))).collect();
    assert!(broken.is_empty(), "{}", texts.join("\n"));
    // It was the market that it says it is.
    let figures: Vec<_> = results.iter().flatten().map(|run| &run.figures).collect();
    let sum = |of: fn(&conun_sim::Figures) -> u64| figures.iter().map(|figures| of(figures)).sum::<u64>();
    assert_eq!(scenario.providers.iter().map(|group| group.count).sum::<u32>(), 20);
    assert!(sum(|figures| figures.jobs) >= 195 * count, "{} jobs a run", sum(|figures| figures.jobs) / count);
    assert!(2 * sum(|figures| figures.settled) > sum(|figures| figures.batches));
    for kind in FAULTS {
        let times: u64 = figures.iter().filter_map(|figures| figures.faults.get(kind)).sum();
        assert!(times > 0, "no {kind} under any seed");
    }
}
