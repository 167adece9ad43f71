//! The scenarios that come with the simulator.

use crate::{Scenario, ScenarioError};

macro_rules! library {
    ($($name:literal),* $(,)?) => {
        /// Name and text of each scenario that comes along, in alphabetical order.
        pub const LIBRARY: &[(&str, &str)] = &[$(($name, include_str!(concat!("../scenarios/", $name, ".toml")))),*];
    };
}

library![
    "brief",
    "censorship",
    "chance",
    "colluding",
    "colluding-apart",
    "confirmations",
    "copying",
    "crashes",
    "crashes-long",
    "dispute-spam",
    "everything",
    "fee-spikes",
    "full-disks",
    "large",
    "late",
    "lazy-arbiter",
    "lazy-audits",
    "lazy-votes",
    "lossy-network",
    "market",
    "never-revealing",
    "non-paying",
    "odd-blocks",
    "partitions",
    "reorgs-deep",
    "reorgs-shallow",
    "reorgs-votes",
    "restarts",
    "ring",
    "rpc-alone",
    "rpc-forged",
    "rpc-missing",
    "rpc-refusing",
    "rpc-stale",
    "rpc-twice",
    "seeds",
    "silent-arbiter",
    "sleep",
    "sleepers",
    "squatting",
    "stolen-keys",
    "storm",
    "stragglers",
    "vanishing",
    "withheld-inputs",
    "withheld-outputs",
];

/// The scenario of that name, if one comes along.
///
/// # Errors
/// If its file is no scenario.
pub fn named(name: &str) -> Option<Result<Scenario, ScenarioError>> {
    let (name, text) = LIBRARY.iter().find(|(known, _)| *known == name)?;
    Some(Scenario::parse(text, name, &format!("scenarios/{name}.toml")))
}
