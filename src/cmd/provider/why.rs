//! `conun provider why`: what became of each job seen.

use std::process::ExitCode;

use alloy::primitives::U256;
use clap::Args;
use conun_agent::{
    core::{SkipReason, Worth},
    provider,
};
use eyre::eyre;
use serde_json::{Map, Value};

use super::FolderArgs;
use crate::{
    context::Context,
    output::{self, Table, short, tokens},
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
    let mut table = Table::new(["job", "verdict", "held", "standing", "paid", "lost", "CON a second", "why"]);
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
            worth(&verdict["worth"]),
            if taken { reason(&verdict["rest"]) } else { reason(verdict) },
        ]);
    }
    if table.is_empty() {
        return "no job was seen yet".to_owned();
    }
    let mut text = table.to_string();
    for verdict in known.values() {
        let told = |field: &str, tell: &dyn Fn(&Value) -> String| {
            verdict[field].as_array().into_iter().flatten().map(tell).map(|line| line + "\n").collect::<String>()
        };
        text += &told("disputes", &|value| dispute(value, 0));
        text += &told("losses", &loss);
    }
    text
}

fn wei(value: &Value) -> String {
    serde_json::from_value::<U256>(value.clone()).map(tokens).unwrap_or_default()
}

/// What is said against a result, as a person reads it; `now` is the block time, if it is known.
pub(super) fn dispute(value: &Value, now: u64) -> String {
    let about = format!("job {} batch {}", short(value["job"].as_str().unwrap_or_default()), value["batch"]);
    let time = |field: &str| {
        let at = value[field].as_u64().unwrap_or_default();
        match at.checked_sub(now).filter(|_| now != 0) {
            Some(left) => format!("block time {at} (in {left} s)"),
            None => format!("block time {at}"),
        }
    };
    let task = &value["task"];
    let claim = match value["claim"].as_str() {
        Some("wrong") => format!("task {task} is wrong, says {}", value["by"].as_str().unwrap_or("somebody")),
        _ => format!("the output of task {task} is demanded"),
    };
    let state = match value["state"].as_str().unwrap_or_default() {
        "open" if value["claim"] == "wrong" => format!("the arbiter may rule until {}", time("deadline")),
        "open" => format!("it is to be answered until {}", time("deadline")),
        "upheld" => "the arbiter agrees: the stake and the record are lost".to_owned(),
        "dismissed" => "the arbiter does not agree".to_owned(),
        "answered" => "it was answered".to_owned(),
        "lapsed" if value["claim"] == "wrong" => "nobody ruled in time: it counts as never said".to_owned(),
        _ => "it was not answered in time".to_owned(),
    };
    format!(
        "{about} is frozen: {claim}; {state}; at risk {} CON; it goes on at {}",
        wei(&value["atRisk"]),
        time("goesOnAt")
    )
}

/// Stake that was lost, and for what, as a person reads it.
pub(super) fn loss(value: &Value) -> String {
    let why = match value["reason"].as_str().unwrap_or_default() {
        "expired" => "its lease ran out before a result was there",
        "notRevealed" => "the result that was committed to was not shown before the time for it was over",
        "wrong" => "its result was wrong, by the vote or the arbiter",
        "withheld" => "an output that was demanded was not shown in time",
        "rejected" => "the requester refused to pay, and lost as much",
        other => other,
    };
    let job = short(value["job"].as_str().unwrap_or_default());
    format!("lost {} CON by job {job} batch {}: {why}", wei(&value["amount"]), value["batch"])
}

/// A skip reason as a person reads it: its name in JSON, and a sentence.
pub(super) fn reason(value: &Value) -> String {
    let name = value["reason"].as_str().unwrap_or_default();
    match serde_json::from_value::<SkipReason>(value.clone()) {
        Ok(reason) => format!("{name}: {reason}"),
        // Written by an agent of another version.
        Err(_) => name.to_owned(),
    }
}

/// What a job brings a second, CON, if it is among those that leases are chosen from.
fn worth(value: &Value) -> String {
    let wei = |field: &str| serde_json::from_value::<U256>(value[field].clone()).ok();
    let (Some(payment), Some(gas), Some(risk)) = (wei("payment"), wei("gas"), wei("risk")) else {
        return String::new();
    };
    let worth = Worth { payment, gas, risk, millis: value["millis"].as_u64().unwrap_or_default() };
    let wei = worth.per_second();
    let sign = if wei < 0 { "-" } else { "" };
    format!("{sign}{}", tokens(U256::from(wei.unsigned_abs())))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_reason_is_a_word_for_scripts_and_a_sentence_for_people() {
        let told = |value: Value| reason(&value);
        let price = "price: it pays less than `min-price` in provider.toml asks for";
        assert_eq!(told(json!({ "verdict": "skipped", "reason": "price", "worth": {} })), price);
        let unread = "notDrawnYet: the lot lets this provider lease later: the block that decides is to come";
        assert_eq!(told(json!({ "reason": "notDrawnYet", "opensAt": 0 })), unread);
        assert!(told(json!({ "reason": "notDrawnYet", "opensAt": 17 })).ends_with("from block time 17 on"));
        assert!(told(json!({ "reason": "refused", "text": "not WASI" })).ends_with("refused: not WASI"));
        assert!(told(json!({ "reason": "record", "have": 1, "need": 3 })).contains("passed 3 checks"));
        assert_eq!(told(json!({ "reason": "ofTomorrow" })), "ofTomorrow");
        assert_eq!(told(json!(null)), "");
    }

    #[test]
    fn what_a_job_brings_is_what_is_left_of_its_payment_a_second() {
        let con = |amount: u64| U256::from(amount) * U256::from(1_000_000_000_000_000_000u64);
        let value = |payment, gas, risk| json!({ "payment": payment, "gas": gas, "risk": risk, "millis": 2_000 });
        assert_eq!(worth(&value(con(9), con(2), con(1))), tokens(con(3)));
        assert_eq!(worth(&value(con(1), con(9), con(0))), format!("-{}", tokens(con(4))));
        assert_eq!(worth(&json!(null)), "");
    }
}
