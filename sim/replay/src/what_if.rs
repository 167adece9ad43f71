//! The same range with some transactions left out or added.

use std::path::Path;

use alloy::{
    network::TransactionResponse,
    primitives::{Address, B256, Bytes},
    providers::DynProvider,
    rpc::types::Transaction,
};
use conun_bindings::{Contracts, revert};
use revm::primitives::hardfork::SpecId;
use serde::{Deserialize, Serialize};

use crate::{
    Error, Ledger, Recording,
    report::{Replay, function},
};

/// What is to be different.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Changes {
    /// Transactions that are left out: those to which all of what an entry says applies.
    #[serde(default)]
    pub skip: Vec<Skip>,
    /// Calls that are added, each after the block's own transactions; they cost nothing.
    #[serde(default)]
    pub send: Vec<Send>,
}

/// Which transactions are left out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Skip {
    /// From this block on; from the first one without it.
    #[serde(default)]
    pub from_block: u64,
    /// Of this sender.
    pub from: Option<Address>,
    /// That call this: `JobRegistry.submit`.
    pub function: Option<String>,
    /// This one.
    pub transaction: Option<B256>,
}

/// A call that is added.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Send {
    /// In which block.
    pub block: u64,
    /// Who calls.
    pub from: Address,
    /// Whom.
    pub to: Address,
    /// ABI-encoded call.
    pub data: Bytes,
}

/// A transaction that fared otherwise than on the chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Changed {
    /// In which block.
    pub block: u64,
    /// Which; none for one that was added.
    pub transaction: Option<B256>,
    /// What it calls, if it is CONUN's.
    pub function: Option<String>,
    /// What became of it: left out, failed and why, succeeded.
    pub outcome: String,
}

/// What became of the changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Outcome {
    /// Transactions that fared otherwise.
    pub changed: Vec<Changed>,
    /// Invariants that broke, with their block.
    pub broken: Vec<crate::Difference>,
    /// The books with the changes.
    pub ledger: Ledger,
}

impl Changes {
    /// Reads a TOML file.
    ///
    /// # Errors
    /// If it cannot be read or has other keys than these.
    pub fn load(path: &Path) -> Result<Self, Error> {
        let failed = |reason: String| Error::File { path: path.to_owned(), reason };
        let text = std::fs::read_to_string(path).map_err(|error| failed(error.to_string()))?;
        toml::from_str(&text).map_err(|error| failed(error.to_string()))
    }

    fn skips(&self, contracts: &Contracts, block: u64, tx: &Transaction) -> bool {
        self.skip.iter().any(|skip| {
            block >= skip.from_block
                && skip.from.is_none_or(|from| tx.from() == from)
                && skip.transaction.is_none_or(|hash| tx.tx_hash() == hash)
                && skip.function.as_ref().is_none_or(|wanted| function(contracts, tx).as_ref() == Some(wanted))
        })
    }
}

/// Replays a recording with `changes`. What it looks at and the recording lacks is read from `endpoint`, and kept in the recording.
///
/// # Errors
/// As [`crate::replay`].
pub fn what_if(
    recording: &mut Recording,
    endpoint: Option<DynProvider>,
    spec: SpecId,
    changes: &Changes,
) -> Result<Outcome, Error> {
    let contracts = recording.contracts;
    let mut replay = Replay::new(recording, endpoint, spec, true)?;
    let (mut changed, mut broken) = (Vec::new(), Vec::new());
    for recorded in &recording.blocks {
        let number = recorded.block.header.number;
        let mut added = Vec::new();
        let (done, found) = replay.block(
            recorded,
            |tx| !changes.skips(&contracts, number, tx),
            |chain, header| {
                for send in changes.send.iter().filter(|send| send.block == number) {
                    added.push(chain.send(header, send.from, send.to, send.data.clone())?);
                }
                Ok(added.clone())
            },
        )?;
        let said = |success: bool, output: &Bytes| match success {
            true => "succeeds".to_owned(),
            false => format!("fails: {}", revert::describe(output)),
        };
        let transactions = recorded.block.transactions.as_transactions().unwrap_or_default();
        for ((tx, receipt), done) in transactions.iter().zip(&recorded.receipts).zip(&done) {
            let outcome = match done {
                None => "left out".to_owned(),
                Some(done) if done.success != receipt.status() => said(done.success, &done.output),
                Some(_) => continue,
            };
            let function = function(&contracts, tx);
            changed.push(Changed { block: number, transaction: Some(tx.tx_hash()), function, outcome });
        }
        for done in added {
            let outcome = said(done.success, &done.output);
            changed.push(Changed { block: number, transaction: None, function: None, outcome });
        }
        broken.extend(found.into_iter().map(|what| crate::Difference { block: number, transaction: None, what }));
    }
    let (before, ledger) = replay.close();
    recording.before = before.into_known();
    Ok(Outcome { changed, broken, ledger })
}
