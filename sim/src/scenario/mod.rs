//! What a run is made of, as a TOML file says it. What is left out has a default; what is not known is refused.

mod parts;

use std::{collections::BTreeSet, path::Path};

use conun_bindings::deploy::OtherCode;
use serde::{Deserialize, Serialize};

pub use parts::{
    Arbiter, Arrivals, AssuranceTerms, Censorship, ChainTerms, Expectations, FeeSpikes, JobTerms, Lie, Lies,
    MachineTerms, NetworkTerms, ProviderStrategy, ProviderTerms, Reorgs, RequesterStrategy, RequesterTerms, Spells,
};

/// A whole scenario.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Scenario {
    /// Its name, for reports; the file's name by default.
    #[serde(default)]
    pub name: String,
    /// What it shows, in a sentence.
    #[serde(default)]
    pub about: String,
    /// Seed under which it is played where nobody says another; default 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// Faults and attacks that it stages, by the numbers of `docs/simulator.md`.
    #[serde(default)]
    pub stages: Vec<String>,
    /// Seconds in which jobs arrive and faults happen; default an hour.
    #[serde(default = "hour")]
    pub seconds: u64,
    /// Most seconds after that for everything to end by itself, before anybody calls what anybody may; default six hours.
    #[serde(default = "six_hours")]
    pub ending_seconds: u64,
    /// Whether tasks are those of a real program, executed by the real engine; default no: their results are made up.
    #[serde(default)]
    pub real_vm: bool,
    /// The chain and its faults.
    #[serde(default)]
    pub chain: ChainTerms,
    /// The network and its faults.
    #[serde(default)]
    pub network: NetworkTerms,
    /// Who has work.
    pub requesters: Vec<RequesterTerms>,
    /// Who does it.
    pub providers: Vec<ProviderTerms>,
    /// What has to come of it, besides that no invariant breaks.
    #[serde(default)]
    pub expect: Expectations,
}

fn hour() -> u64 {
    3_600
}

fn six_hours() -> u64 {
    6 * 3_600
}

/// Why a scenario cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ScenarioError {
    /// The file cannot be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// It is no scenario.
    #[error("{path} is no scenario: {source}")]
    Form {
        /// The file.
        path: String,
        /// Where and why.
        source: Box<toml::de::Error>,
    },
    /// A value makes no sense.
    #[error("{path}: {reason}")]
    Value {
        /// The file.
        path: String,
        /// Which, and what would.
        reason: String,
    },
}

impl Scenario {
    /// Reads a scenario from a file.
    ///
    /// # Errors
    /// If it cannot be read, or is none.
    pub fn read(path: &Path) -> Result<Self, ScenarioError> {
        let shown = path.display().to_string();
        let text =
            std::fs::read_to_string(path).map_err(|source| ScenarioError::Read { path: shown.clone(), source })?;
        let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        Self::parse(&text, &stem, &shown)
    }

    /// Reads a scenario from `text`; `name` is its name if it does not say one, `path` where it comes from.
    ///
    /// # Errors
    /// If it is none.
    pub fn parse(text: &str, name: &str, path: &str) -> Result<Self, ScenarioError> {
        let mut scenario: Self = toml::from_str(text)
            .map_err(|source| ScenarioError::Form { path: path.to_owned(), source: Box::new(source) })?;
        if scenario.name.is_empty() {
            name.clone_into(&mut scenario.name);
        }
        scenario.check().map_err(|reason| ScenarioError::Value { path: path.to_owned(), reason })?;
        Ok(scenario)
    }

    fn check(&self) -> Result<(), String> {
        if self.requesters.is_empty() || self.providers.is_empty() {
            return Err("a scenario has at least one [[requesters]] and one [[providers]]".to_owned());
        }
        let mut names = BTreeSet::new();
        let groups =
            self.requesters.iter().map(|group| &group.name).chain(self.providers.iter().map(|group| &group.name));
        for name in groups {
            if name.is_empty() || !names.insert(name) {
                return Err(format!("each group has a name of its own, \"{name}\" is empty or there twice"));
            }
        }
        for (share, what) in self.shares() {
            if !(0.0..=1.0).contains(&share) {
                return Err(format!("{what} is a share: from 0 to 1, not {share}"));
            }
        }
        let pairs = self.expect.worse_off.iter().flat_map(|(worse, better)| [worse, better]);
        let alone = [&self.expect.losing, &self.expect.earning, &self.expect.unharmed];
        let together = self.expect.losing_together.iter().flatten().chain(self.expect.loss_at_most.keys());
        for group in alone.into_iter().flatten().chain(pairs).chain(together) {
            if !names.contains(group) {
                return Err(format!("expect: there is no group \"{group}\""));
            }
        }
        if let Some(folder) = &self.chain.artifacts {
            OtherCode::read(folder).map_err(|reason| format!("chain.artifacts: {reason}"))?;
        }
        if self.requesters.iter().any(|group| group.job.assurance.is_none() && group.job.window_seconds == 0) {
            return Err("window-seconds is at least 1".to_owned());
        }
        Ok(())
    }

    /// Everything that is a share, with its name.
    fn shares(&self) -> Vec<(f64, &'static str)> {
        let mut shares = vec![(self.network.loss, "network.loss")];
        shares.extend(self.chain.reorgs.iter().map(|reorgs| (reorgs.lost, "chain.reorgs.lost")));
        shares.extend(self.chain.censorship.iter().map(|censorship| (censorship.share, "chain.censorship.share")));
        shares.extend(
            self.chain
                .lies
                .iter()
                .flat_map(|lies| [(lies.share, "chain.lies.share"), (lies.chance, "chain.lies.chance")]),
        );
        shares.extend(self.network.partitions.iter().map(|spells| (spells.share, "network.partitions.share")));
        for group in &self.requesters {
            shares.push((group.check_share, "check-share"));
            shares.extend(group.job.assurance.iter().map(|terms| (terms.audit_share, "audit-share")));
        }
        for group in &self.providers {
            shares.push((group.machine.unsynced, "machine.unsynced"));
            match group.strategy {
                ProviderStrategy::Lazy { share } => shares.push((share, "strategy.lazy.share")),
                ProviderStrategy::Colluding { rate, agreement } => {
                    shares.extend([(rate, "strategy.colluding.rate"), (agreement, "strategy.colluding.agreement")]);
                }
                ProviderStrategy::NeverRevealing { rate } => shares.push((rate, "strategy.never-revealing.rate")),
                _ => {}
            }
        }
        shares
    }
}

#[cfg(test)]
mod tests;
