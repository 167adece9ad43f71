//! Reports: one HTML page that needs no network, and rows for a table.

mod page;
mod plot;

use std::fmt::Write as _;

use crate::{GroupBooks, Run, Scenario, Violation};
pub use page::{Bar, Page};
use plot::Point;

/// Standard errors on either side of a mean that hold 95 % of a normal distribution.
const Z: f64 = 1.96;

/// Mean, and half of the 95 % interval around it.
pub fn interval(values: &[f64]) -> (f64, f64) {
    let n = values.len() as f64;
    if values.is_empty() {
        return (0.0, 0.0);
    }
    let mean = values.iter().sum::<f64>() / n;
    if values.len() == 1 {
        return (mean, 0.0);
    }
    let variance = values.iter().map(|value| (value - mean) * (value - mean)).sum::<f64>() / (n - 1.0);
    (mean, Z * libm::sqrt(variance / n))
}

/// The 95 % interval (Wilson, 1927) of a share of which `part` of `all` were seen.
pub fn share_interval(part: u64, all: u64) -> (f64, f64) {
    if all == 0 {
        return (0.0, 1.0);
    }
    let (n, p) = (all as f64, part as f64 / all as f64);
    let scale = 1.0 + Z * Z / n;
    let centre = (p + Z * Z / (2.0 * n)) / scale;
    let half = Z / scale * libm::sqrt(p * (1.0 - p) / n + Z * Z / (4.0 * n * n));
    (if part == 0 { 0.0 } else { centre - half }, if part == all { 1.0 } else { centre + half })
}

/// One row for each group of each run, with a heading.
pub fn csv(runs: &[Run]) -> String {
    let mut text = String::from(
        "seed,group,kind,agents,gain_tokens,cost_tokens,gas_ether,gigafuel,executions,busy_seconds,batches,settled,judged,wrong,results,redundancy_of_run,utilisation_of_run,tokens_a_gigafuel_of_run\n",
    );
    for run in runs {
        let figures = &run.figures;
        for group in &figures.groups {
            let name = if group.name.contains([',', '"', '\n']) {
                format!("\"{}\"", group.name.replace('"', "\"\""))
            } else {
                group.name.clone()
            };
            let _ = writeln!(
                text,
                "{},{name},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{}",
                run.seed,
                group.kind,
                group.count,
                group.gain,
                group.cost,
                group.gas_ether,
                group.gigafuel,
                group.executions,
                group.busy_seconds,
                group.batches,
                group.settled,
                group.judged,
                group.wrong,
                group.results,
                figures.redundancy,
                figures.utilisation,
                figures.cost_per_gigafuel,
            );
        }
    }
    text
}

/// Values of a figure in all runs.
fn all(runs: &[Run], of: impl Fn(&Run) -> f64) -> Vec<f64> {
    runs.iter().map(of).collect()
}

/// Sum of a group's figure over all runs.
fn total(runs: &[Run], at: usize, of: impl Fn(&GroupBooks) -> u64) -> u64 {
    runs.iter().map(|run| of(&run.figures.groups[at])).sum()
}

/// The whole page.
pub fn html(scenario: &Scenario, runs: &[Run], violations: &[&Violation]) -> String {
    let mut page = Page::new(&scenario.name);
    page.say(&scenario.about);
    if !scenario.stages.is_empty() {
        page.say(format_args!("Stages {}.", scenario.stages.join(", ")));
    }
    verdict(&mut page, runs, violations);
    if !runs.is_empty() {
        summary(&mut page, runs);
        incomes(&mut page, scenario, runs);
        errors(&mut page, scenario, runs);
        makespans(&mut page, runs);
        gas(&mut page, runs);
    }
    page.heading("The scenario");
    page.lines(toml::to_string(scenario).unwrap_or_default());
    page.finish()
}

fn verdict(page: &mut Page, runs: &[Run], violations: &[&Violation]) {
    if violations.is_empty() {
        page.judge(
            true,
            format_args!("No invariant broke in {} runs, and what the scenario expects came of them.", runs.len()),
        );
    }
    for violation in violations {
        page.judge(false, violation);
        page.lines(violation.trace.join("\n"));
    }
}

fn summary(page: &mut Page, runs: &[Run]) {
    let sum = |of: fn(&Run) -> u64| runs.iter().map(of).sum::<u64>().to_string();
    let mean = |of: fn(&Run) -> f64| interval(&all(runs, of));
    let (redundancy, utilisation) = (mean(|run| run.figures.redundancy), mean(|run| run.figures.utilisation));
    let cost = mean(|run| run.figures.cost_per_gigafuel);
    page.heading("All runs together");
    page.table(
        [
            "runs",
            "jobs",
            "batches",
            "paid",
            "wrong",
            "results a paid batch",
            "utilisation",
            "tokens a gigafuel that was paid",
        ],
        [[
            runs.len().to_string(),
            sum(|run| run.figures.jobs),
            sum(|run| run.figures.batches),
            sum(|run| run.figures.settled),
            sum(|run| run.figures.wrong),
            format!("{:.3} ± {:.3}", redundancy.0, redundancy.1),
            format!("{:.1} % ± {:.1}", 100.0 * utilisation.0, 100.0 * utilisation.1),
            format!("{:.4} ± {:.4}", cost.0, cost.1),
        ]],
    );
    page.plot(&plot::columns("Results for each paid batch, run by run", &all(runs, |run| run.figures.redundancy)));
    page.plot(&plot::columns("Utilisation of all workers, run by run", &all(runs, |run| run.figures.utilisation)));
    page.plot(&plot::columns(
        "Tokens a gigafuel that was paid, run by run",
        &all(runs, |run| run.figures.cost_per_gigafuel),
    ));
}

/// What one agent of each group of providers gains a run, honest or not.
fn incomes(page: &mut Page, scenario: &Scenario, runs: &[Run]) {
    let first = scenario.requesters.len();
    let bars = scenario.providers.iter().enumerate().map(|(at, terms)| {
        let each = |run: &Run| {
            let group = &run.figures.groups[first + at];
            (group.gain - group.cost) / f64::from(group.count.max(1))
        };
        let (mean, half) = interval(&all(runs, each));
        let strategy = format!("{:?}", terms.strategy);
        let kind = strategy.split_once(' ').map_or(strategy.as_str(), |(kind, _)| kind);
        Bar { name: format!("{} ({kind})", terms.name), value: mean, half, marked: kind != "Honest" }
    });
    page.heading("Income");
    page.say("Tokens that one agent gains in a run, what executing costs it counted; the line is the 95 % interval of the mean.");
    page.bars(&bars.collect::<Vec<_>>(), "Income");
}

/// How many wrong results were paid, against what was asked for.
fn errors(page: &mut Page, scenario: &Scenario, runs: &[Run]) {
    let points = scenario.requesters.iter().enumerate().filter_map(|(at, terms)| {
        let assurance = terms.job.assurance.as_ref()?;
        let (wrong, judged) = (total(runs, at, |group| group.wrong), total(runs, at, |group| group.judged));
        let (low, high) = share_interval(wrong, judged);
        let seen = if judged == 0 { 0.0 } else { wrong as f64 / judged as f64 };
        Some(Point {
            name: format!("{}: {wrong} of {judged}", terms.name),
            x: 1.0 - assurance.target,
            y: seen,
            low,
            high,
        })
    });
    let points: Vec<_> = points.collect();
    if !points.is_empty() {
        page.heading("Errors");
        page.say("Share of paid results that are wrong, with its 95 % interval, against the doubt that the job allows (1 - target). On the line both are equal.");
        page.plot(&plot::against(&points));
    }
}

fn makespans(page: &mut Page, runs: &[Run]) {
    let mut times: Vec<_> = runs.iter().flat_map(|run| run.figures.makespans.iter().copied()).collect();
    times.sort_by(f64::total_cmp);
    if !times.is_empty() {
        page.heading("Makespan");
        page.say(
            "Share of the jobs that were paid as a whole within so many seconds of their arrival, windows included.",
        );
        page.plot(&plot::distribution(&times));
    }
}

fn gas(page: &mut Page, runs: &[Run]) {
    let mut kinds = std::collections::BTreeMap::<_, (u64, u64)>::new();
    for (kind, (count, gas)) in runs.iter().flat_map(|run| &run.figures.gas) {
        let entry = kinds.entry(*kind).or_default();
        *entry = (entry.0 + count, entry.1 + gas);
    }
    let bars = kinds.iter().map(|(kind, (count, gas))| Bar {
        name: format!("{kind} ({count})"),
        value: *gas as f64 / (*count).max(1) as f64,
        half: 0.0,
        marked: false,
    });
    page.heading("Gas");
    page.say("Mean gas of a transaction of each kind, and how many there were.");
    page.bars(&bars.collect::<Vec<_>>(), "Gas");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_are_those_of_the_books() {
        assert_eq!(interval(&[]), (0.0, 0.0));
        assert_eq!(interval(&[3.0]), (3.0, 0.0));
        let (mean, half) = interval(&[1.0, 2.0, 3.0, 4.0]);
        assert!((mean - 2.5).abs() < 1e-12 && (half - 1.96 * (5.0f64 / 3.0 / 4.0).sqrt()).abs() < 1e-12);
        // Wilson's for 0 of 10 and 5 of 10: 0 to 0.2775, 0.2366 to 0.7634.
        let (low, high) = share_interval(0, 10);
        assert!(low == 0.0 && (high - 0.2775).abs() < 1e-3, "{high}");
        let (low, high) = share_interval(5, 10);
        assert!((low - 0.2366).abs() < 1e-3 && (high - 0.7634).abs() < 1e-3, "{low} {high}");
    }
}
