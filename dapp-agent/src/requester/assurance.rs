//! How a requester wants its results assured: the `[assurance]` table of a job file.

use conun_bindings::{
    Rules,
    abi::{JobRegistry::Job, ReplicaRegistry::Assurance},
    replicas::{CERTAIN, can_be_believed, limit_of_audits},
};
use serde::{Deserialize, Serialize};

use super::promise::{LEAST_ERROR, MOST_ERROR};

/// Most executions of a batch.
const MOST_REPLICAS: u8 = 15;

/// Least seconds to reveal.
const LEAST_REVEAL: u32 = 60;

/// Most seconds between the post and the begin of its lot.
pub(super) const LATEST_LOT: u32 = 600;

/// What two newcomers that agree exceed.
pub(super) const DEFAULT_TARGET: f64 = 0.94;

/// The `[assurance]` table of a job file. Without one each batch is executed once, and its result checked by nobody but the requester.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct AssuranceFile {
    /// Most results that may be wrong, as a share: 0.001, 0.0001, 0.000001. It sets `replicas`, `limit`, `target`, `audit-share` and `min-checks` by the
    /// records that providers have when the job is posted ([`super::promise`]), and goes with none of them.
    #[serde(default)]
    pub max_error: Option<f64>,
    /// Executions of each batch that are asked for at first; default 1.
    #[serde(default = "one")]
    pub replicas: u8,
    /// Most executions of a batch; default: so many that newcomers who are right outvote `replicas` newcomers who agree on a lie, or
    /// `replicas` where there is neither vote nor audit.
    #[serde(default)]
    pub limit: Option<u8>,
    /// Probability of being right, below 1, that a result must exceed; default 0.94, which two newcomers that agree do.
    #[serde(default = "target")]
    pub target: f64,
    /// Share of the batches that are executed once more than `replicas` says, drawn by lot; default [`DEFAULT_AUDIT_SHARE`] of votes
    /// whose limit is as high as its default, else 0.
    #[serde(default)]
    pub audit_share: Option<f64>,
    /// Checks that a provider must have passed; default 0.
    #[serde(default)]
    pub min_checks: u32,
    /// Seconds in which the lot lets one provider after the other lease; default a tenth of `lease-seconds`.
    #[serde(default)]
    pub widen_seconds: Option<u32>,
    /// Seconds to show what was committed to; default 120.
    #[serde(default = "reveal_seconds")]
    pub reveal_seconds: u32,
    /// Seconds in which the post has to be mined; then the lot begins. Default 30.
    #[serde(default = "post_seconds")]
    pub post_seconds: u32,
}

fn one() -> u8 {
    1
}
fn target() -> f64 {
    DEFAULT_TARGET
}
fn reveal_seconds() -> u32 {
    120
}
fn post_seconds() -> u32 {
    30
}

/// Of jobs with votes: who holds all votes of a batch is found by nothing else.
pub(super) const DEFAULT_AUDIT_SHARE: f64 = 0.05;

/// The share of bad providers that limits are made for.
const FAULTY_BPS: u16 = 2_000;

impl AssuranceFile {
    /// The terms as the contract takes them, for a job with leases of that many seconds.
    ///
    /// # Errors
    /// What is wrong, and what to do about it.
    pub(super) fn assurance(&self, lease_seconds: u32) -> Result<Assurance, String> {
        if let Some(error) = self.max_error {
            return self.of_newcomers(error)?.assurance(lease_seconds);
        }
        if !(0.5..1.0).contains(&self.target) {
            return Err(format!("target {} must be from 0.5 to below 1", self.target));
        }
        let target = (self.target * f64::from(CERTAIN)).round() as u32;
        let enough = limit_of_audits(self.replicas, target, FAULTY_BPS);
        let has_room = self.replicas > 1 && self.replicas < enough && self.limit.is_none_or(|limit| limit >= enough);
        let share = self.audit_share.unwrap_or(if has_room { DEFAULT_AUDIT_SHARE } else { 0.0 });
        if !(0.0..=1.0).contains(&share) {
            return Err("audit-share must be from 0 to 1: 0.1 has a tenth of the batches executed once more".to_owned());
        }
        let audit_bps = (share * 10_000.0).round() as u16;
        let is_audited = audit_bps != 0;
        let limit = self.limit.unwrap_or_else(|| match (self.replicas, is_audited) {
            (1, false) => 1,
            (_, false) => self.replicas.saturating_add(2).min(MOST_REPLICAS),
            (_, true) => enough,
        });
        if self.replicas == 0 || limit < self.replicas || limit > MOST_REPLICAS {
            return Err(format!(
                "replicas {} must be from 1 to limit {limit}, which is at most {MOST_REPLICAS}",
                self.replicas
            ));
        }
        if self.replicas == 1 && limit > 1 && !is_audited {
            return Err("a limit above 1 with one replica needs an audit-share: who else would come second?".to_owned());
        }
        if is_audited && (limit < enough || limit == self.replicas) {
            return Err(format!(
                "an audit-share needs a limit of at least {enough} here: with less a lie that an audit finds stays undecided, and costs its \
                 provider nothing; raise limit, or lower replicas or target"
            ));
        }
        if self.reveal_seconds < LEAST_REVEAL {
            return Err(format!("reveal-seconds must be at least {LEAST_REVEAL}"));
        }
        if self.min_checks >= 1 << 20 {
            return Err("min-checks must be below 1048576".to_owned());
        }
        let votes = limit > 1;
        let widen = self.widen_seconds.unwrap_or((lease_seconds / 10).max(1));
        if votes && !(1..=lease_seconds).contains(&widen) {
            return Err(format!("widen-seconds {widen} must be from 1 to lease-seconds ({lease_seconds})"));
        }
        if self.post_seconds > LATEST_LOT {
            return Err(format!("post-seconds must be at most {LATEST_LOT}"));
        }
        Ok(Assurance {
            replicas: self.replicas,
            limit,
            target: if votes { target } else { 0 },
            auditBps: audit_bps,
            minChecks: self.min_checks,
            widenSeconds: if votes { widen } else { 0 },
            revealSeconds: self.reveal_seconds,
        })
    }
}

impl AssuranceFile {
    /// What a promise comes to as long as nobody has a record.
    fn of_newcomers(&self, error: f64) -> Result<Self, String> {
        if !(LEAST_ERROR..=MOST_ERROR).contains(&error) {
            return Err(format!(
                "max-error must be from {LEAST_ERROR} to {MOST_ERROR}: 0.0001 is one result in ten thousand"
            ));
        }
        let plain = (self.replicas, self.limit, self.audit_share, self.min_checks) == (one(), None, None, 0);
        if !plain || self.target != target() {
            return Err(
                "max-error sets replicas, limit, target, audit-share and min-checks: leave it or them out".to_owned()
            );
        }
        let (replicas, audit_share) = (2, Some(DEFAULT_AUDIT_SHARE));
        Ok(Self { max_error: None, replicas, audit_share, target: 1.0 - error, ..self.clone() })
    }
}

/// What a deployment has against the terms.
///
/// # Errors
/// What is wrong, and what to do about it.
pub(super) fn check(job: &Job, assurance: &Assurance, rules: &Rules, cap: u64) -> Result<(), String> {
    if assurance.limit > 1 && !can_be_believed(assurance, rules) {
        return Err(format!(
            "{} newcomers that agree would not reach target {}: raise limit, or lower target",
            assurance.limit,
            f64::from(assurance.target) / f64::from(CERTAIN)
        ));
    }
    let round = 2 * u64::from(job.leaseSeconds) + u64::from(assurance.revealSeconds);
    // An audit may find nobody.
    let rounds = u64::from(assurance.limit) + u64::from(assurance.auditBps != 0);
    let most = rounds * round + u64::from(job.windowSeconds);
    if most > cap {
        return Err(format!(
            "{rounds} rounds (limit, and one more with an audit-share) of 2 x lease-seconds + reveal-seconds, and window-seconds, are {most}, \
             at most {cap} is allowed on this deployment: lower one of them"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Assurance, String> {
        let file: AssuranceFile = toml::from_str(text).map_err(|error| error.to_string())?;
        file.assurance(100)
    }

    #[test]
    fn defaults_fit_each_other() {
        let three = parse("replicas = 3").unwrap();
        assert_eq!((three.limit, three.auditBps, three.target, three.widenSeconds), (8, 500, 940_000_000, 10));
        let plain = parse("replicas = 3\naudit-share = 0").unwrap();
        assert_eq!((plain.limit, plain.auditBps), (5, 0));
        for full in ["replicas = 3\nlimit = 7", "replicas = 15"] {
            assert_eq!(parse(full).unwrap().auditBps, 0, "no room for audits that find anything");
        }
        let audited = parse("audit-share = 0.25").unwrap();
        assert_eq!((audited.replicas, audited.limit, audited.auditBps), (1, 5, 2_500));
        let both = parse("replicas = 2\naudit-share = 0.1").unwrap();
        assert_eq!((both.replicas, both.limit, both.auditBps), (2, 7, 1_000));
        let promise = parse("max-error = 0.001").unwrap();
        assert_eq!((promise.replicas, promise.limit, promise.target, promise.auditBps), (2, 10, 999_000_000, 500));
        let records = parse("min-checks = 5").unwrap();
        assert_eq!((records.limit, records.target, records.widenSeconds), (1, 0, 0));
    }

    #[test]
    fn what_the_contract_would_refuse_is_said_in_words() {
        for (text, words) in [
            ("replicas = 0", "must be from 1 to limit"),
            ("replicas = 16", "at most 15"),
            ("replicas = 3\nlimit = 2", "must be from 1 to limit 2"),
            ("limit = 2", "needs an audit-share"),
            ("audit-share = 0.1\nlimit = 4", "a limit of at least 5"),
            ("audit-share = 0.1\nreplicas = 2\nlimit = 6", "a limit of at least 7"),
            ("replicas = 15\naudit-share = 0.1", "a limit of at least 15"),
            ("audit-share = 1.5", "from 0 to 1"),
            ("audit-share = nan", "from 0 to 1"),
            ("replicas = 2\ntarget = 0.4", "from 0.5"),
            ("replicas = 2\ntarget = 1.0", "below 1"),
            ("replicas = 2\nwiden-seconds = 101", "from 1 to lease-seconds (100)"),
            ("replicas = 2\nwiden-seconds = 0", "from 1 to lease-seconds (100)"),
            ("replicas = 2\nreveal-seconds = 59", "at least 60"),
            ("replicas = 2\npost-seconds = 601", "at most 600"),
            ("min-checks = 1048576", "below 1048576"),
            ("max-error = 0", "from 0.000001 to 0.05"),
            ("max-error = 0.001\nreplicas = 3", "leave it or them out"),
            ("max-error = 0.001\ntarget = 0.9", "leave it or them out"),
            ("replica = 2", "unknown field"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(words), "{text}: {error}");
        }
    }
}
