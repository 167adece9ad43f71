//! `conun provider why`: what became of each job seen.

use std::process::ExitCode;

use clap::Args;
use conun_agent::provider;
use eyre::eyre;
use serde_json::{Map, Value};

use super::FolderArgs;
use crate::{
    context::Context,
    output::{self, Table, short},
};

#[derive(Debug, Args)]
pub(crate) struct WhyArgs {
    /// Only jobs whose id begins like this.
    job: Option<String>,
    #[command(flatten)]
    folder: FolderArgs,
}

pub(super) fn why(context: &Context, args: WhyArgs) -> eyre::Result<ExitCode> {
    let folder = args.folder.folder(context)?;
    // Says so if the folder is no provider's.
    provider::ProviderConfig::read(&folder)?;
    let known = provider::read_verdicts(&folder)?.and_then(|known| match known {
        Value::Object(known) => Some(known),
        _ => None,
    });
    let Some(mut known) = known else {
        return Err(eyre!("this provider has never run: start it with `conun provider run`"));
    };
    if let Some(prefix) = &args.job {
        let prefix = prefix.strip_prefix("0x").unwrap_or(prefix).to_lowercase();
        known.retain(|job, _| job.trim_start_matches("0x").starts_with(&prefix));
        if known.is_empty() {
            return Err(eyre!(
                "no job that this provider has seen begins with {prefix}: `conun provider why` shows them all"
            ));
        }
    }
    output::result(context.json(), &known, table)?;
    Ok(ExitCode::SUCCESS)
}

fn table(known: &Map<String, Value>) -> String {
    let mut table = Table::new(["job", "verdict", "held", "standing", "paid", "lost", "why"]);
    for (job, verdict) in known {
        let taken = verdict["verdict"] == "taken";
        let count = |field: &str| verdict[field].as_u64().map(|count| count.to_string()).unwrap_or_default();
        table.row([
            short(job),
            if taken { "taken" } else { "skipped" }.to_owned(),
            count("held"),
            count("standing"),
            count("paid"),
            count("lost"),
            if taken { reason(&verdict["rest"]) } else { reason(verdict) },
        ]);
    }
    if table.is_empty() { "no job was seen yet".to_owned() } else { table.to_string() }
}

/// A skip reason as a person reads it: its name, and what goes with it.
pub(super) fn reason(value: &Value) -> String {
    let name = value["reason"].as_str().unwrap_or_default();
    let given = |field: &str| value[field].as_u64();
    let detail = match (value["text"].as_str(), given("opensAt"), given("need"), given("millis")) {
        (Some(text), ..) => text.to_owned(),
        (_, Some(0), ..) => "the block that decides is to come".to_owned(),
        (_, Some(opens_at), ..) => format!("from block time {opens_at} on"),
        (_, _, Some(need), _) => format!("{need} checks are asked for, {} passed", given("have").unwrap_or(0)),
        (.., Some(millis)) => format!("{millis} ms a batch"),
        _ => return name.to_owned(),
    };
    format!("{name}: {detail}")
}
