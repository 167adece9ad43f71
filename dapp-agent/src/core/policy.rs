//! Which jobs a provider takes, and why it leaves the others.

use std::collections::BTreeSet;

use alloy::primitives::Address;
use conun_bindings::job;
use serde::{Deserialize, Serialize};

use crate::chain::JobEntry;

/// Which jobs a provider takes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Policy {
    /// Least price, token wei for 10^9 fuel; written as tokens, `"0.5"`, or `"1wei"`, which is the default.
    #[serde(with = "price")]
    pub min_price: u128,
    /// Most memory that a task may ask for, bytes; default 2 GiB.
    pub max_memory_bytes: u64,
    /// Most fuel that a task may ask for; default 10^13.
    pub max_fuel: u64,
    /// Categories taken; all if empty (default).
    pub categories: BTreeSet<u32>,
    /// Groups, member lists on the chain, to whose members' jobs the provider keeps; everybody's if empty (default).
    pub groups: BTreeSet<Address>,
    /// Requesters whose jobs are not taken; none by default.
    pub blocked: BTreeSet<Address>,
    /// Batches executed at once; default 1.
    pub workers: u32,
    /// Token wei that an ether is worth to the owner, so that gas can be held against payments; gas is left out of account without it.
    #[serde(with = "price::optional", skip_serializing_if = "Option::is_none")]
    pub tokens_per_ether: Option<u128>,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            min_price: 1,
            max_memory_bytes: 2 << 30,
            max_fuel: 10_000_000_000_000,
            categories: BTreeSet::new(),
            groups: BTreeSet::new(),
            blocked: BTreeSet::new(),
            workers: 1,
            tokens_per_ether: None,
        }
    }
}

/// A price as people write it.
mod price {
    use alloy::primitives::{U256, utils::format_ether};
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    use crate::parse_tokens;

    /// Below this, 10^-9 of a token, wei are easier to read.
    const SMALL: u128 = 1_000_000_000;

    pub(super) fn serialize<S: Serializer>(wei: &u128, serializer: S) -> Result<S::Ok, S::Error> {
        let text = if *wei < SMALL { format!("{wei}wei") } else { format_ether(*wei) };
        let plain = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
        serializer.serialize_str(plain)
    }

    /// One that need not be given.
    pub(super) mod optional {
        use serde::{Deserializer, Serializer};

        pub(in super::super) fn serialize<S: Serializer>(wei: &Option<u128>, serializer: S) -> Result<S::Ok, S::Error> {
            match wei {
                Some(wei) => super::serialize(wei, serializer),
                None => serializer.serialize_none(),
            }
        }

        pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(
            deserializer: D,
        ) -> Result<Option<u128>, D::Error> {
            super::deserialize(deserializer).map(Some)
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u128, D::Error> {
        let text = String::deserialize(deserializer)?;
        let wei = match text.strip_suffix("wei") {
            Some(wei) => wei.parse().ok(),
            None => parse_tokens(&text).and_then(|wei: U256| wei.try_into().ok()),
        };
        wei.ok_or_else(|| {
            D::Error::custom(format!("`{text}` is no price: write tokens as \"0.5\", or wei as \"1wei\""))
        })
    }
}

impl Policy {
    /// What speaks against a job at block time `now`, by its terms and its requester alone; `members` belong to one of the groups.
    pub fn objection(&self, entry: &JobEntry, now: u64, members: &BTreeSet<Address>) -> Option<SkipReason> {
        let JobEntry { job, spec, .. } = entry;
        if self.blocked.contains(&job.requester) {
            Some(SkipReason::Blocked)
        } else if !self.groups.is_empty() && !members.contains(&job.requester) {
            Some(SkipReason::Group)
        } else if job::price_at(job, now) < self.min_price {
            Some(SkipReason::Price)
        } else if spec.memoryLimit > self.max_memory_bytes {
            Some(SkipReason::Memory)
        } else if job.fuelLimit > self.max_fuel {
            Some(SkipReason::Fuel)
        } else if !self.categories.is_empty() && !self.categories.contains(&spec.category) {
            Some(SkipReason::Category)
        } else {
            None
        }
    }
}

/// Why a job is not worked on. Its name in JSON is what `provider why --json` and `status --json` show; as text it says what the owner
/// can change, where something can.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(tag = "reason", rename_all = "camelCase")]
#[non_exhaustive]
pub enum SkipReason {
    /// It pays too little.
    #[error("it pays less than `min-price` in provider.toml asks for")]
    Price,
    /// Its gas would cost more than it pays.
    #[error("it pays less than its gas costs now, going by `tokens-per-ether` in provider.toml")]
    Gas,
    /// Its tasks may need too much memory.
    #[error("a task of it may ask for more memory than `max-memory-bytes` in provider.toml allows")]
    Memory,
    /// Its tasks may burn too much fuel.
    #[error("a task of it may burn more fuel than `max-fuel` in provider.toml allows")]
    Fuel,
    /// Its category is not taken.
    #[error("its category is not among `categories` in provider.toml")]
    Category,
    /// Its requester is not welcome.
    #[error("its requester is among `blocked` in provider.toml")]
    Blocked,
    /// Its requester is not known to belong to a group that the provider keeps to.
    #[error("its requester is not known to be a member of any of `groups` in provider.toml")]
    Group,
    /// It asks for providers that passed more checks.
    #[error(
        "it asks for providers that passed {need} checks, this one has passed {have}: results that others confirm add to them"
    )]
    Record {
        /// Checks passed since the last wrong result.
        have: u32,
        /// Checks asked for.
        need: u32,
    },
    /// The lot lets this provider lease later.
    #[error("the lot lets this provider lease later{}", turn(*.opens_at))]
    NotDrawnYet {
        /// Block time, UNIX seconds; 0 while the lot's block is to come.
        #[serde(rename = "opensAt")]
        opens_at: u64,
    },
    /// Its turn has come; somebody else was faster so far, or the next transaction is for it.
    #[error("its turn has come: it is leased with one of the next transactions")]
    Waiting,
    /// Other jobs bring more a second.
    #[error("other jobs bring more a second: it comes after them")]
    OthersFirst,
    /// As much is held as is good for the workers.
    #[error("the workers have enough to do: a higher `workers` in provider.toml does more at once")]
    Busy,
    /// Nothing new is taken.
    #[error("nothing new is taken: `conun provider status` says for how long, `conun provider resume` ends a pause")]
    Paused,
    /// Nothing new is taken any more.
    #[error("draining: what is held is finished, nothing new is taken; `conun provider drain --off` ends that")]
    Draining,
    /// The registration ends.
    #[error("the provider has asked to leave: nothing new can be leased")]
    Exiting,
    /// The requester has cancelled what was open.
    #[error("its requester has cancelled it")]
    Cancelled,
    /// All of its batches are final, and this provider did none.
    #[error("it is over: others did it, or nobody")]
    Over,
    /// The free stake does not cover one batch.
    #[error("a batch of it locks more stake than is free: more is when windows end, or with a larger stake")]
    Stake,
    /// A batch takes longer here than a lease lasts.
    #[error("a batch of it takes {millis} ms here, longer than a lease lasts")]
    TooSlow {
        /// Mean time of a batch, milliseconds.
        millis: u64,
    },
    /// Its program or inputs cannot be used.
    #[error("its program or inputs were refused: {text}")]
    Refused {
        /// What is wrong.
        text: String,
    },
    /// Its program or inputs could not be fetched; tried again later.
    #[error("its program or inputs cannot be had, which is tried again later: {text}")]
    Unavailable {
        /// What happened.
        text: String,
    },
    /// A batch of it could not be executed here; tried again later.
    #[error("left alone for a while, since a batch of it could not be executed: {text}")]
    SetAside {
        /// What happened.
        text: String,
    },
    /// Several of its requester's jobs failed here; tried again later.
    #[error("its requester is left alone for a while, since {jobs} of its jobs failed here")]
    RequesterSetAside {
        /// Jobs that failed here and have not succeeded since.
        jobs: usize,
    },
    /// Jobs of several requesters failed here: it may be this computer; tried again later.
    #[error(
        "everything is left alone for a while, since jobs of {requesters} requesters failed here: see `conun doctor`"
    )]
    AllSetAside {
        /// Requesters whose jobs failed here.
        requesters: usize,
    },
    /// It is being fetched and checked.
    #[error("its program and inputs are being fetched and checked")]
    Checking,
    /// Nothing of it is free.
    #[error("no batch of it is free: others hold them, or have done them")]
    NothingFree,
}

fn turn(opens_at: u64) -> String {
    match opens_at {
        0 => ": the block that decides is to come".to_owned(),
        _ => format!(", from block time {opens_at} on"),
    }
}
