//! `conun sim`: a whole market in this process, under a seed.

mod vote;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    time::Instant,
};

use alloy::primitives::B256;
use clap::{Args, Subcommand};
use conun_sim::{
    LIBRARY, Run, Scenario, Violation,
    sweep::{self, Axis, Pays, Row, Stop},
};
use eyre::{WrapErr as _, ensure};
use serde::Serialize;

use super::replay::Fork;
use crate::{
    context::Context,
    exit::Ending,
    output::{self, Table},
};

#[derive(Debug, Subcommand)]
pub(crate) enum SimCommand {
    /// Play a scenario, check the invariants after every block, and end it: every job ends, everybody takes out what is theirs.
    Run(RunArgs),
    /// Play a scenario with other values in it, in all combinations, and say where cheating stops paying.
    Sweep(SweepArgs),
    /// Play several scenarios, and put what comes of them side by side.
    Compare(CompareArgs),
    /// Print how often votes believe what is wrong, what that costs, and whether cheating pays: a model of millions of jobs.
    Vote(vote::VoteArgs),
    /// Show what a transaction of a real chain did: calls, events and storage by their names.
    Trace {
        /// Its hash.
        transaction: B256,
        /// Hard fork whose rules its block follows.
        #[arg(long, value_name = "FORK", value_enum, default_value_t = Fork::Osaka)]
        rules: Fork,
    },
    /// List the scenarios that come along.
    List,
    /// Print a scenario that comes along, to begin one's own with.
    Show {
        /// Its name.
        name: String,
    },
}

#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// A scenario's file, or the name of one that comes along (see `conun sim list`).
    scenario: String,
    /// Play it under this seed; by default under the one that the scenario says, or 1.
    #[arg(long, value_name = "SEED")]
    seed: Option<u64>,
    /// Play it under as many seeds, from that one on.
    #[arg(long, value_name = "N")]
    seeds: Option<u64>,
    /// Execute tasks: those of a real program (examples/hello), in the real engine. Without it results are made up.
    #[arg(long)]
    real_vm: bool,
    /// Write every step in words to this file.
    #[arg(long, value_name = "FILE", conflicts_with = "seeds")]
    trace: Option<PathBuf>,
    /// Write a page with plots, that needs no network, to this file.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Write a row for each group of each run to this file.
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,
    /// Runs in which a scenario that breaks an invariant is made smaller; 0: it is left as it is.
    #[arg(long, value_name = "N", default_value_t = 100)]
    shrink_runs: u32,
    /// Folder into which the smaller scenario is written; sim/seeds of the repository is where tests play it again.
    #[arg(long, value_name = "FOLDER", default_value = ".")]
    keep: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct SweepArgs {
    /// A scenario's file, or the name of one that comes along.
    scenario: String,
    /// A key of the scenario and its values: chain.min-stake=50,100 or requesters.careful.job.price=0.1,0.2. May be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE,...", required = true, value_parser = Axis::parse)]
    axes: Vec<Axis>,
    /// Seeds for each combination, from 1 on.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..))]
    seeds: u64,
}

#[derive(Debug, Args)]
pub(crate) struct CompareArgs {
    /// Scenarios' files, or names of some that come along.
    #[arg(required = true)]
    scenarios: Vec<String>,
    /// Seeds for each, from 1 on.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..))]
    seeds: u64,
}

/// What came of all runs.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Report<'a> {
    scenario: &'a Scenario,
    runs: Vec<&'a Run>,
    violations: Vec<&'a Violation>,
    /// Commands that play each violation again.
    replay: Vec<String>,
}

pub(crate) async fn run(context: &Context, command: SimCommand) -> eyre::Result<ExitCode> {
    match command {
        SimCommand::Run(args) => play(context, &args),
        SimCommand::Sweep(args) => {
            let points = sweep::grid(&read(&args.scenario)?, &args.axes)?;
            let scenarios = points.iter().map(|point| (setting(&point.set), point.scenario.clone())).collect();
            side_by_side(context, scenarios, args.seeds, |rows| sweep::stops(&points, rows))
        }
        SimCommand::Compare(args) => {
            let scenarios = args.scenarios.iter().map(|name| Ok((name.clone(), read(name)?)));
            side_by_side(context, scenarios.collect::<eyre::Result<_>>()?, args.seeds, |_| Vec::new())
        }
        SimCommand::Trace { transaction, rules } => {
            let (provider, chain_id) = context.reader().await?;
            let contracts = context.contracts(&provider, chain_id).await?;
            let trace = conun_replay::trace(&provider, contracts, transaction, rules.into()).await?;
            output::result(context.json(), &trace, ToString::to_string)?;
            Ok(ExitCode::SUCCESS)
        }
        SimCommand::Vote(args) => vote::run(context, &args),
        SimCommand::List => list(context),
        SimCommand::Show { name } => {
            let (_, text) = LIBRARY.iter().find(|(known, _)| *known == name).ok_or_else(|| unknown(&name))?;
            output::bytes(text.as_bytes())?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn unknown(name: &str) -> Ending {
    Ending::Usage(format!("there is no scenario {name}: give a file, or one of those that `conun sim list` shows"))
}

fn read(scenario: &str) -> eyre::Result<Scenario> {
    if Path::new(scenario).exists() {
        return Ok(Scenario::read(Path::new(scenario))?);
    }
    Ok(conun_sim::named(scenario).ok_or_else(|| unknown(scenario))??)
}

fn play(context: &Context, args: &RunArgs) -> eyre::Result<ExitCode> {
    let mut scenario = read(&args.scenario)?;
    scenario.real_vm |= args.real_vm;
    let first = args.seed.or(scenario.seed).unwrap_or(1);
    let seeds: Vec<_> = (first..).take(args.seeds.unwrap_or(1) as usize).collect();
    ensure!(!seeds.is_empty(), Ending::Usage("--seeds is at least 1".to_owned()));
    let start = Instant::now();
    let told = |result: &Result<Run, Violation>| match result {
        Ok(run) if seeds.len() > 1 => output::note(format_args!("seed {} is in order", run.seed)),
        Ok(_) => {}
        Err(violation) => output::note(violation),
    };
    let results = match &args.trace {
        None => run_all(&scenario, &seeds, told)?,
        Some(path) => {
            let (scenario, seed) = (&scenario, seeds[0]);
            let played = std::thread::scope(|scope| scope.spawn(|| conun_sim::run_traced(scenario, seed)).join());
            let (result, trace) = played.map_err(|_| eyre::eyre!("a bug: the run panicked"))?;
            std::fs::write(path, trace).wrap_err_with(|| format!("cannot write {}", path.display()))?;
            output::note(format_args!("the trace is in {}", path.display()));
            vec![result]
        }
    };
    let took = start.elapsed().as_secs_f64();
    let runs: Vec<_> = results.iter().filter_map(|result| result.as_ref().ok()).collect();
    let finished: Vec<_> = runs.iter().copied().cloned().collect();
    let expected = conun_sim::judge(&scenario, &finished).err();
    let violations: Vec<_> = results.iter().filter_map(|result| result.as_ref().err()).chain(&expected).collect();
    let real = if args.real_vm { " --real-vm" } else { "" };
    let again = |violation: &&Violation| match violation.invariant {
        conun_sim::Invariant::Expected => {
            format!("conun sim run {} --seed {first} --seeds {}{real}", args.scenario, seeds.len())
        }
        _ => format!("conun sim run {} --seed {}{real}", args.scenario, violation.seed),
    };
    let mut replay: Vec<_> = violations.iter().map(again).collect();
    if let Some(violation) = violations.first().filter(|_| args.shrink_runs > 0)
        && let Some(path) = shrink(&scenario, violation, args)?
    {
        replay[0] += &format!("\nor a smaller one: conun sim run {}", path.display());
    }
    if let Some(path) = &args.report {
        let page = conun_sim::report::html(&scenario, &finished, &violations);
        std::fs::write(path, page).wrap_err_with(|| format!("cannot write {}", path.display()))?;
        output::note(format_args!("the report is in {}", path.display()));
    }
    if let Some(path) = &args.csv {
        let rows = conun_sim::report::csv(&finished);
        std::fs::write(path, rows).wrap_err_with(|| format!("cannot write {}", path.display()))?;
        output::note(format_args!("the rows are in {}", path.display()));
    }
    let code = if violations.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    let report = Report { scenario: &scenario, runs, violations, replay };
    output::result(context.json(), &report, |report| text(report, took))?;
    Ok(code)
}

/// Makes a scenario that broke an invariant smaller. Returns where that is written.
fn shrink(scenario: &Scenario, violation: &Violation, args: &RunArgs) -> eyre::Result<Option<PathBuf>> {
    let path = args.keep.join(format!("{}-{:?}-{}.toml", scenario.name, violation.invariant, violation.seed));
    if path.exists() {
        output::note(format_args!(
            "not made smaller: {} is there already; move it away, or give another --keep",
            path.display()
        ));
        return Ok(None);
    }
    output::note(format_args!("looking for a smaller scenario in up to {} runs", args.shrink_runs));
    let runs = args.shrink_runs;
    let shrunk = std::thread::scope(|scope| scope.spawn(|| conun_sim::shrink(scenario, violation, runs)).join());
    let Some(shrunk) = shrunk.map_err(|_| eyre::eyre!("a bug: shrinking panicked"))? else { return Ok(None) };
    std::fs::write(&path, shrunk.file(&args.scenario)).wrap_err_with(|| format!("cannot write {}", path.display()))?;
    output::note(format_args!("after {} runs: {}", shrunk.runs, path.display()));
    Ok(Some(path))
}

/// What comes of several scenarios.
#[derive(Serialize)]
struct SideBySide {
    rows: Vec<Row>,
    /// From where on cheating does not pay.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    stops: Vec<Stop>,
}

/// Keys with their values.
fn setting(set: &[(String, toml::Value)]) -> String {
    set.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(" ")
}

/// Plays each scenario, and prints a row for it.
fn side_by_side(
    context: &Context,
    scenarios: Vec<(String, Scenario)>,
    seeds: u64,
    stops: impl FnOnce(&[Row]) -> Vec<Stop>,
) -> eyre::Result<ExitCode> {
    let seeds: Vec<_> = (1..=seeds).collect();
    let (mut rows, mut in_order) = (Vec::new(), true);
    for (what, scenario) in scenarios {
        let mut runs = Vec::new();
        for result in run_all(&scenario, &seeds, |_| {})? {
            match result {
                Ok(run) => runs.push(run),
                Err(violation) => {
                    in_order = false;
                    output::note(format_args!("{what}: {violation}"));
                }
            }
        }
        output::note(format_args!("{what}: {} runs", runs.len()));
        rows.push(sweep::row(what, &scenario, &runs));
    }
    let stops = stops(&rows);
    output::result(context.json(), &SideBySide { rows, stops }, |found| {
        let mut table = Table::new([
            "what",
            "runs",
            "paid",
            "wrong",
            "at most (95 %)",
            "results a paid batch",
            "CON a gigafuel",
            "median makespan, s",
        ]);
        let mut gains = Table::new(["what", "group", "gain of one agent a run, CON", "cheating pays"]);
        for row in &found.rows {
            table.row([
                row.what.clone(),
                row.runs.to_string(),
                format!("{:.1} %", 100.0 * row.settled),
                format!("{:.4}", row.wrong),
                format!("{:.4}", row.wrong_at_most),
                format!("{:.3}", row.redundancy),
                format!("{:.4}", row.cost),
                format!("{:.0}", row.makespan),
            ]);
            for gain in &row.gains {
                let pays = match gain.pays {
                    None => "",
                    Some(Pays::Yes) => "yes",
                    Some(Pays::No) => "no",
                    Some(Pays::Unclear) => "unclear: more seeds would tell",
                };
                let amount = format!("{:.3} ± {:.3}", gain.gain, gain.half);
                gains.row([row.what.clone(), gain.group.clone(), amount, pays.to_owned()]);
            }
        }
        let stop = |stop: &Stop| {
            let where_ =
                if stop.others.is_empty() { String::new() } else { format!(" with {}", setting(&stop.others)) };
            match &stop.from {
                Some(value) => format!("{}{where_}: cheating stops paying at {}={value}\n", stop.group, stop.key),
                None => format!("{}{where_}: cheating may still pay with the last value of {}\n", stop.group, stop.key),
            }
        };
        let stops: String = found.stops.iter().map(stop).collect();
        [table.to_string(), gains.to_string(), stops]
            .into_iter()
            .filter(|part| !part.is_empty())
            .collect::<Vec<_>>()
            .join("\n")
    })?;
    Ok(if in_order { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Plays on threads of its own: they wait for nothing that the command's runtime does.
fn run_all(
    scenario: &Scenario,
    seeds: &[u64],
    told: impl Fn(&Result<Run, Violation>) + Sync + Send,
) -> eyre::Result<Vec<Result<Run, Violation>>> {
    let results = std::thread::scope(|scope| scope.spawn(|| conun_sim::run_all(scenario, seeds, told)).join());
    results.map_err(|_| eyre::eyre!("a bug: a run panicked"))
}

fn list(context: &Context) -> eyre::Result<ExitCode> {
    #[derive(Serialize)]
    struct Entry {
        name: String,
        stages: Vec<String>,
        about: String,
    }
    let mut entries = Vec::new();
    for (name, _) in LIBRARY {
        let Scenario { name, stages, about, .. } = conun_sim::named(name).ok_or_else(|| unknown(name))??;
        entries.push(Entry { name, stages, about });
    }
    output::result(context.json(), &entries, |entries| {
        let mut table = Table::new(["scenario", "stages", "what it shows"]);
        for entry in entries {
            table.row([entry.name.clone(), entry.stages.join(" "), entry.about.clone()]);
        }
        table.to_string()
    })?;
    Ok(ExitCode::SUCCESS)
}

fn text(report: &Report<'_>, took: f64) -> String {
    let mut text = String::new();
    let runs = &report.runs;
    if !runs.is_empty() {
        let sum = |of: fn(&Run) -> u64| runs.iter().map(|run| of(run)).sum::<u64>();
        let (batches, settled) = (sum(|run| run.figures.batches), sum(|run| run.figures.settled));
        text += &format!(
            "{} runs of {} under seeds {} to {}: {} jobs, {batches} batches, {settled} of them paid, {} for wrong results; {:.2} results a paid batch\n",
            runs.len(),
            report.scenario.name,
            runs[0].seed,
            runs[runs.len() - 1].seed,
            sum(|run| run.figures.jobs),
            sum(|run| run.figures.wrong),
            sum(|run| run.figures.results) as f64 / settled.max(1) as f64,
        );
        let mut table = Table::new([
            "group",
            "agents",
            "gain a run, CON",
            "cost of execution",
            "gas, ether",
            "gigafuel",
            "batches executed",
        ]);
        for (at, group) in runs[0].figures.groups.iter().enumerate() {
            let mean = |of: fn(&conun_sim::GroupBooks) -> f64| {
                runs.iter().map(|run| of(&run.figures.groups[at])).sum::<f64>() / runs.len() as f64
            };
            table.row([
                group.name.clone(),
                group.count.to_string(),
                format!("{:.3}", mean(|group| group.gain)),
                format!("{:.3}", mean(|group| group.cost)),
                format!("{:.5}", mean(|group| group.gas_ether)),
                format!("{:.1}", mean(|group| group.gigafuel)),
                format!("{:.1}", mean(|group| group.executions as f64)),
            ]);
        }
        text += &table.to_string();
        let (events, blocks) = (sum(|run| run.figures.events), sum(|run| run.figures.blocks));
        text += &format!(
            "\n{} steps, {events} events of cores, {blocks} blocks, {} transactions, {} re-orgs in {took:.1} s: {:.0} batches a second\n",
            sum(|run| run.steps),
            sum(|run| run.figures.transactions),
            sum(|run| run.figures.reorgs),
            batches as f64 / took.max(1e-9),
        );
        if let [run] = runs[..] {
            text += &format!("trace {}\n", run.trace);
        }
    }
    for (violation, again) in report.violations.iter().zip(&report.replay) {
        text += &format!("\n{violation}\n");
        for line in &violation.trace {
            text += &format!("  {line}\n");
        }
        text += &format!("play it again: {again}\n");
    }
    text
}
