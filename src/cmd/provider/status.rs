//! `conun provider status`: what it is doing, has earned, and has at stake.

use std::{io::Write, process::ExitCode, time::Duration};

use alloy::primitives::{Address, U256};
use clap::Args;
use conun_agent::{provider, store::Journal};
use serde_json::{Value, json};

use super::{FolderArgs, config, why};
use crate::{
    context::Context,
    output::{self, Table, short, tokens},
};

/// Time between looks with `--watch`.
const WATCH: Duration = Duration::from_secs(1);

/// Reasons shown; `provider why` shows all.
const MOST_REASONS: usize = 10;

#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    #[command(flatten)]
    folder: FolderArgs,
    /// Show it anew each second, until Control-C; with --json a document a line.
    #[arg(long, short)]
    watch: bool,
}

pub(super) async fn status(context: &Context, args: StatusArgs) -> eyre::Result<ExitCode> {
    let folder = args.folder.folder(context)?;
    let config = config(context, &folder)?;
    let look = || -> eyre::Result<Value> {
        Ok(json!({
            "running": Journal::is_in_use(&folder),
            "paused": provider::is_paused(&folder),
            "draining": provider::is_draining(&folder),
            "disk": provider::disk_trouble(&folder),
            "account": config.account,
            "address": config.address,
            "rpcUrl": config.rpc_url,
            "last": provider::read_status(&folder)?,
        }))
    };
    if !args.watch {
        output::result(context.json(), &look()?, text)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut ticks = tokio::time::interval(WATCH);
    let mut stop = std::pin::pin!(crate::exit::signalled());
    loop {
        tokio::select! {
            () = &mut stop => return Ok(ExitCode::SUCCESS),
            _ = ticks.tick() => {}
        }
        let report = look()?;
        if context.json() {
            output::line(&report);
            continue;
        }
        let mut out = std::io::stdout().lock();
        // Clears the screen and goes to its top, where there is one.
        if std::io::IsTerminal::is_terminal(&out) {
            write!(out, "\x1b[2J\x1b[H")?;
        }
        writeln!(out, "{}", text(&report).trim_end())?;
        out.flush()?;
    }
}

/// Whether it runs, or exactly why it does nothing.
fn state(report: &Value) -> String {
    let last = &report["last"];
    if report["running"] != true {
        return "not running: start it with `conun provider run`".to_owned();
    }
    // What it wrote down last may be older than this.
    if let Some(trouble) = report["disk"].as_str().or(last["disk"].as_str()) {
        return format!("takes nothing new, hands in what is due: {trouble}; make room on the disk, or mend it");
    }
    if report["draining"] == true {
        return "draining: stops once no stake is locked".to_owned();
    }
    if report["paused"] == true {
        return "paused until `conun provider resume`".to_owned();
    }
    let guest = last["guest"]["text"].as_str().unwrap_or("running");
    if guest != "running" {
        return guest.to_owned();
    }
    let leases = last["leases"].as_array().map_or(0, Vec::len);
    let skipped = last["work"]["skipped"].as_array().map_or(0, Vec::len);
    match (leases, skipped) {
        (0, 0) => "idle: no job is open".to_owned(),
        (0, _) => "idle: none of the open jobs is taken, see below".to_owned(),
        _ => "working".to_owned(),
    }
}

fn text(report: &Value) -> String {
    let last = &report["last"];
    let state = state(report);
    if last.is_null() {
        return format!("{state}; it has never run");
    }
    let amount = |field: &str| {
        let wei: Option<U256> = serde_json::from_value(last[field].clone()).ok();
        wei.map(tokens).unwrap_or_default()
    };
    let mut table = Table::new(["state", &state]);
    let account: Option<Address> = serde_json::from_value(last["account"].clone()).ok();
    table.row(["provider".into(), account.unwrap_or_default().to_string()]);
    table.row(["last block".into(), format!("{}, {} s old when it was seen", last["block"], last["lagSeconds"])]);
    table.row(["peers connected".into(), format!("{}; {} heard of", last["peers"], last["heard"])]);
    table.row(["transaction under way".into(), last["pending"].as_str().unwrap_or("none").to_owned()]);
    let fuel = last["fuelPerSecond"].as_u64().unwrap_or_default() as f64 / 1e9;
    table.row(["fuel a second, last 10 min".into(), format!("{fuel:.3} x 10^9")]);
    table.row(["results in their window".into(), last["work"]["submitted"].to_string()]);
    table.row(["earned today, CON".into(), amount("earnedToday")]);
    table.row(["earned, CON".into(), format!("{} for {} tasks", amount("earned"), last["tasks"])]);
    table.row(["claimable, CON".into(), amount("claimable")]);
    table.row(["owed if results stand, CON".into(), amount("owed")]);
    table.row(["stake, CON".into(), format!("{}, of it at risk {}", amount("stake"), amount("locked"))]);
    let record = &last["record"];
    let record = format!(
        "{} checks passed, {} expired, {} wrong, {} withheld",
        record["checks"], record["expired"], record["failed"], record["withheld"]
    );
    table.row(["record".into(), record]);
    let mut text = table.to_string();
    let now = last["blockTime"].as_u64().unwrap_or_default();
    for lease in last["leases"].as_array().into_iter().flatten() {
        let left = lease["deadline"].as_u64().unwrap_or_default() as i64 - now as i64;
        let when = if left < 0 { format!("{} s late", -left) } else { format!("{left} s left") };
        let (job, batch) = (short(lease["job"].as_str().unwrap_or_default()), &lease["batch"]);
        text += &format!("job {job} batch {batch}: {}, {when}\n", lease["state"].as_str().unwrap_or_default());
    }
    for dispute in last["disputes"].as_array().into_iter().flatten() {
        text += &format!("{}\n", why::dispute(dispute, now));
    }
    for loss in last["losses"].as_array().into_iter().flatten() {
        text += &format!("{}\n", why::loss(loss));
    }
    let skipped: Vec<_> = last["work"]["skipped"].as_array().into_iter().flatten().collect();
    for pair in skipped.iter().take(MOST_REASONS) {
        text += &format!("skips job {}: {}\n", short(pair[0].as_str().unwrap_or_default()), why::reason(&pair[1]));
    }
    if skipped.len() > MOST_REASONS {
        text += &format!("and {} more: conun provider why\n", skipped.len() - MOST_REASONS);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_is_the_exact_reason() {
        let report = |running: bool, paused: bool, guest: &str, leases: usize, skipped: usize| {
            let (leases, skipped) = (vec![json!({}); leases], vec![json!(["0x", {}]); skipped]);
            json!({
                "running": running, "paused": paused, "draining": false,
                "last": { "guest": { "text": guest }, "leases": leases, "work": { "skipped": skipped } },
            })
        };
        for (report, words) in [
            (report(false, true, "running", 0, 0), "conun provider run"),
            (report(true, true, "running", 1, 0), "conun provider resume"),
            (report(true, false, "suspended: on battery", 1, 0), "suspended: on battery"),
            (report(true, false, "running", 0, 0), "no job is open"),
            (report(true, false, "running", 0, 2), "none of the open jobs"),
            (report(true, false, "running", 1, 2), "working"),
        ] {
            assert!(state(&report).contains(words), "{report}: {}", state(&report));
        }
        let mut full = report(true, false, "running", 1, 0);
        full["disk"] = "nothing can be kept in /data: No space left on device".into();
        assert!(
            state(&full).contains("takes nothing new") && state(&full).contains("No space left"),
            "{}",
            state(&full)
        );
    }
}
