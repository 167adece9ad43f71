//! What differs between what the chain says and what its blocks lead to.

use std::fmt;

use alloy::primitives::{Address, B256, U256};
use serde::Serialize;

/// Something that is not as the chain says, or breaks an invariant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Difference {
    /// In which block.
    pub block: u64,
    /// In which transaction, if it is about one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub transaction: Option<B256>,
    /// What.
    #[serde(flatten)]
    pub what: What,
}

/// What differs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", tag = "what")]
pub enum What {
    /// Whether a transaction succeeded.
    Status {
        /// By its receipt.
        chain: bool,
        /// In the replay.
        replay: bool,
    },
    /// Its gas.
    Gas {
        /// By its receipt.
        chain: u64,
        /// In the replay.
        replay: u64,
    },
    /// Its logs; they differ from the one with this number on.
    Logs {
        /// Number of the first that differs, from 0.
        first: usize,
    },
    /// A slot of a contract after the block.
    Slot {
        /// Whose.
        contract: Address,
        /// Which.
        slot: U256,
        /// By the endpoint.
        chain: U256,
        /// In the replay.
        replay: U256,
    },
    /// An invariant of CONUN is broken, on the chain as in the replay.
    Invariant {
        /// Its number in the protocol's list: I1 conservation, I2 paid once.
        name: &'static str,
        /// How.
        text: String,
    },
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "block {}", self.block)?;
        if let Some(hash) = self.transaction {
            write!(f, ", transaction {hash}")?;
        }
        let outcome = |success: bool| if success { "succeeded" } else { "failed" };
        match &self.what {
            What::Status { chain, replay } => {
                write!(f, ": by its receipt it {}, replayed it {}", outcome(*chain), outcome(*replay))
            }
            What::Gas { chain, replay } => write!(f, ": {chain} gas by its receipt, {replay} replayed"),
            What::Logs { first } => write!(f, ": log {first} of its receipt is not what it emits"),
            What::Slot { contract, slot, chain, replay } => {
                write!(f, ": slot {slot:#x} of {contract} is {chain:#x} by the endpoint, {replay:#x} replayed")
            }
            What::Invariant { name, text } => write!(f, ": {name} is broken: {text}"),
        }
    }
}
