//! `conun sim vote`: tables about votes.

use std::{fmt::Write as _, path::PathBuf, process::ExitCode};

use clap::{Args, ValueEnum};
use conun_sim::{
    at_once,
    report::interval,
    vote::tables::{self, Policy, Row},
};
use eyre::WrapErr as _;
use serde::Serialize;

use crate::{
    context::Context,
    output::{self, Table},
};

/// Times that each known run is repeated: their sampling error is known to a few per cent then.
const REPEATS: u64 = 12;

#[derive(Debug, Args)]
pub(crate) struct VoteArgs {
    /// Print these tables only. May be repeated.
    #[arg(long = "table", value_name = "TABLE", value_enum)]
    tables: Vec<Which>,
    /// Seeds of each row, from 1 on.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..))]
    seeds: u64,
    /// Jobs that each row counts at least; promises of 1e-6 take four times as many.
    #[arg(long, value_name = "N", default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1..))]
    jobs: u64,
    /// Write every figure to this file, one a row.
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Which {
    /// What is known of other policies, and what this model finds for them.
    Known,
    /// What the protocol's own rule promises, and what comes of it where a fifth collude.
    Rule,
    /// The same where they are honest until it is worth it.
    Sleepers,
    /// What cheats gain and honest providers do.
    Incomes,
    /// Slow machines, and backups.
    Stragglers,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    known: Vec<KnownRow>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    rule: Vec<VoteRow>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    sleepers: Vec<VoteRow>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    incomes: Vec<VoteRow>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    stragglers: Vec<StragglerRow>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct KnownRow {
    name: String,
    jobs: u64,
    known_error: f64,
    error: f64,
    error_at_most: f64,
    known_redundancy: f64,
    redundancy: f64,
    /// Distance of the known figures, in sampling errors.
    error_off: f64,
    redundancy_off: f64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct VoteRow {
    name: String,
    jobs: u64,
    wrong: u64,
    error: f64,
    /// With 95 % confidence.
    error_at_most: f64,
    redundancy: f64,
    /// Share of the jobs of which no result was believed.
    undecided: f64,
    error_target: Option<f64>,
    redundancy_target: Option<f64>,
    is_met: Option<bool>,
    /// Tokens for a thousand jobs a provider, and half of the 95 % interval.
    honest_gain: (f64, f64),
    cheat_gain: (f64, f64),
    /// How much less cheats gain, likewise.
    cheat_loss: (f64, f64),
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct StragglerRow {
    name: String,
    /// Makespan over that of machines that are busy to the last.
    with_backups: f64,
    without: f64,
    /// Work that did not count, with backups, as a share of what did.
    extra: f64,
    is_met: Option<bool>,
}

pub(crate) fn run(context: &Context, args: &VoteArgs) -> eyre::Result<ExitCode> {
    let wants = |which| args.tables.is_empty() || args.tables.contains(&which);
    let if_wanted = |which, rows: fn() -> Vec<Row>| if wants(which) { measure(&rows(), args) } else { Vec::new() };
    let report = Report {
        known: if wants(Which::Known) { known() } else { Vec::new() },
        rule: if_wanted(Which::Rule, tables::rule),
        sleepers: if_wanted(Which::Sleepers, tables::sleepers),
        incomes: if_wanted(Which::Incomes, tables::incomes),
        stragglers: if wants(Which::Stragglers) { stragglers(args.seeds) } else { Vec::new() },
    };
    if let Some(path) = &args.csv {
        std::fs::write(path, csv(&report)?).wrap_err_with(|| format!("cannot write {}", path.display()))?;
        output::note(format_args!("the figures are in {}", path.display()));
    }
    output::result(context.json(), &report, text)?;
    Ok(ExitCode::SUCCESS)
}

fn known() -> Vec<KnownRow> {
    at_once(&tables::known(), |row| {
        let found = row.measure(REPEATS);
        let population = row.population;
        let policy = match row.policy {
            Policy::Votes { quorum } => format!("{quorum} equal votes"),
            Policy::Boinc => "BOINC, adaptive".to_owned(),
            Policy::Credibility { epsilon, spot_checks } => format!("credibility, {epsilon:.0e}, q {spot_checks}"),
        };
        let sleep = if population.sleep > 0 { format!(" asleep for {}", population.sleep) } else { String::new() };
        let again = if population.whitewash { " and back" } else { "" };
        KnownRow {
            name: format!(
                "{}, f {} s {} c {}{sleep}{again}: {policy}",
                row.table, population.faulty, population.wrong, population.agreement
            ),
            jobs: found.counts.accepted,
            known_error: row.error,
            error: found.error.0,
            error_at_most: found.counts.error_at_most(),
            known_redundancy: row.redundancy,
            redundancy: found.redundancy.0,
            error_off: (row.error - found.error.0) / found.error.1,
            redundancy_off: (row.redundancy - found.redundancy.0) / found.redundancy.1,
        }
    })
}

fn measure(rows: &[Row], args: &VoteArgs) -> Vec<VoteRow> {
    at_once(rows, |row| {
        let measured = row.setting.measure(args.seeds, args.jobs * row.times);
        let counts = measured.counts;
        let limited = row.target.map(|target| target.redundancy).filter(|limit| limit.is_finite());
        VoteRow {
            name: row.name.clone(),
            jobs: counts.accepted,
            wrong: counts.wrong,
            error: counts.error(),
            error_at_most: counts.error_at_most(),
            redundancy: counts.redundancy(),
            undecided: counts.undecided as f64 / counts.posted.max(1) as f64,
            error_target: row.target.map(|target| target.error),
            redundancy_target: limited,
            is_met: row.target.map(|target| target.is_met(&counts)),
            honest_gain: interval(&measured.honest),
            cheat_gain: interval(&measured.others),
            cheat_loss: measured.loss(),
        }
    })
}

fn stragglers(seeds: u64) -> Vec<StragglerRow> {
    let mut rows = at_once(&tables::ragged(), |ragged| {
        let (with, without) = ragged.measure(seeds);
        let (makespan, bare) = (with.makespan / with.ideal, without.makespan / without.ideal);
        StragglerRow {
            name: format!(
                "{} batches a machine, leases of {} batch times, backups deliver after {}",
                ragged.batches, ragged.lease, ragged.delay
            ),
            with_backups: makespan,
            without: bare,
            extra: with.extra,
            is_met: Some(makespan <= tables::MOST_MAKESPAN && with.extra <= tables::MOST_EXTRA),
        }
    });
    let (with, without) = tables::map_reduce(seeds);
    rows.push(StragglerRow {
        name: format!(
            "MapReduce's sort: {:.0} % less time with backups, 31 % in the paper",
            100.0 * (1.0 - with.makespan / without.makespan)
        ),
        with_backups: with.makespan / with.ideal,
        without: without.makespan / without.ideal,
        extra: with.extra,
        is_met: None,
    });
    rows
}

/// A figure a row: table, row, figure, value.
fn csv(report: &Report) -> eyre::Result<String> {
    let mut text = String::from("table,row,figure,value\n");
    let serde_json::Value::Object(all) = serde_json::to_value(report)? else { return Ok(text) };
    for (table, rows) in all {
        for row in rows.as_array().into_iter().flatten() {
            let name = row["name"].as_str().unwrap_or_default();
            for (figure, value) in row.as_object().into_iter().flatten().filter(|(figure, _)| *figure != "name") {
                let mut line = |figure: &str, value: &serde_json::Value| {
                    let _ = writeln!(text, "{table},\"{name}\",{figure},{value}");
                };
                match value {
                    serde_json::Value::Null => {}
                    serde_json::Value::Array(pair) => {
                        line(figure, &pair[0]);
                        line(&format!("{figure}HalfInterval"), &pair[1]);
                    }
                    value => line(figure, value),
                }
            }
        }
    }
    Ok(text)
}

fn text(report: &Report) -> String {
    let mut text = String::new();
    if !report.known.is_empty() {
        let mut table =
            Table::new(["known policies", "jobs", "error", "known", "off", "results a job", "known", "off"]);
        for row in &report.known {
            table.row([
                row.name.clone(),
                row.jobs.to_string(),
                small(row.error),
                small(row.known_error),
                format!("{:+.1} se", row.error_off),
                format!("{:.3}", row.redundancy),
                format!("{:.3}", row.known_redundancy),
                format!("{:+.1} se", row.redundancy_off),
            ]);
        }
        text += &format!("{table}\n");
    }
    for (name, rows) in [("what is promised", &report.rule), ("honest until it is worth it", &report.sleepers)] {
        if rows.is_empty() {
            continue;
        }
        let mut table =
            Table::new([name, "jobs", "wrong", "error", "at most (95 %)", "results a job", "undecided", "target", ""]);
        for row in rows {
            let target = match (row.error_target, row.redundancy_target) {
                (Some(error), Some(redundancy)) => format!("{error:.0e} at {redundancy}"),
                (Some(error), None) => format!("{error:.0e}"),
                _ => String::new(),
            };
            table.row([
                row.name.clone(),
                row.jobs.to_string(),
                row.wrong.to_string(),
                small(row.error),
                small(row.error_at_most),
                format!("{:.3}", row.redundancy),
                format!("{:.3} %", 100.0 * row.undecided),
                target,
                verdict(row.is_met),
            ]);
        }
        text += &format!("{table}\n");
    }
    if !report.incomes.is_empty() {
        let mut table = Table::new([
            "who cheats, and under what (gains in tokens for 1,000 jobs a provider)",
            "error",
            "honest",
            "cheat",
            "cheat's loss",
            "does it pay?",
        ]);
        for row in &report.incomes {
            let (loss, half) = row.cheat_loss;
            let pays = match loss {
                loss if loss > half => "no",
                loss if loss < -half => "yes",
                _ => "as much as honesty",
            };
            let gain = |(gain, half): (f64, f64)| format!("{gain:.1} ± {half:.1}");
            table.row([
                row.name.clone(),
                small(row.error),
                gain(row.honest_gain),
                gain(row.cheat_gain),
                gain(row.cheat_loss),
                pays.to_owned(),
            ]);
        }
        text += &format!("{table}\n");
    }
    if !report.stragglers.is_empty() {
        let mut table =
            Table::new(["a tenth ten times slower", "makespan / ideal", "without backups", "extra work", ""]);
        for row in &report.stragglers {
            table.row([
                row.name.clone(),
                format!("{:.3}", row.with_backups),
                format!("{:.3}", row.without),
                format!("{:.1} %", 100.0 * row.extra),
                verdict(row.is_met),
            ]);
        }
        text += &table.to_string();
    }
    text
}

fn small(share: f64) -> String {
    if share == 0.0 { "0".to_owned() } else { format!("{share:.1e}") }
}

fn verdict(is_met: Option<bool>) -> String {
    match is_met {
        None => String::new(),
        Some(true) => "met".to_owned(),
        Some(false) => "missed".to_owned(),
    }
}
