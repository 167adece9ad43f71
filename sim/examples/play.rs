//! Plays a scenario file under some seeds: `play FILE FIRST COUNT`.
#![allow(clippy::disallowed_macros, missing_docs)]
fn main() {
    let mut args = std::env::args().skip(1);
    let path = args.next().unwrap();
    let first: u64 = args.next().map_or(1, |text| text.parse().unwrap());
    let count: u64 = args.next().map_or(1, |text| text.parse().unwrap());
    let scenario = conun_sim::Scenario::read(path.as_ref()).unwrap_or_else(|error| panic!("{error}"));
    let mut runs = Vec::new();
    for seed in first..first + count {
        let start = std::time::Instant::now();
        match conun_sim::run(&scenario, seed) {
            Ok(run) => {
                let f = &run.figures;
                println!(
                    "seed {seed} {} steps {} in {:.2?}: jobs {} batches {} settled {} unpaid {} wrong {} results {} tx {} failed {} refused {} races {} events {} reorgs {} virtual {}",
                    &run.trace.to_string()[..10],
                    run.steps,
                    start.elapsed(),
                    f.jobs,
                    f.batches,
                    f.settled,
                    f.unpaid,
                    f.wrong,
                    f.results,
                    f.transactions,
                    f.failed_transactions,
                    f.refused,
                    f.lost_races,
                    f.events,
                    f.reorgs,
                    run.seconds
                );
                for group in &f.groups {
                    println!(
                        "    {} {} gain {:.2} cost {:.2} executions {}",
                        group.name, group.count, group.gain, group.cost, group.executions
                    );
                }
                runs.push(run);
            }
            Err(violation) => {
                println!("seed {seed} in {:.2?}: {violation}", start.elapsed());
                for line in &violation.trace {
                    println!("    {line}");
                }
            }
        }
    }
    if let Err(violation) = conun_sim::judge(&scenario, &runs) {
        println!("{violation}");
    }
}
