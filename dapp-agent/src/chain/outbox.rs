//! What was sent under the latest nonces, durable before it is sent: as long as a nonce is not used, nothing else goes out under it.

use std::{collections::VecDeque, sync::Arc};

use alloy::rpc::types::TransactionRequest;
use serde::{Deserialize, Serialize};

use crate::store::{self, Journal};

/// Nonces that are remembered: a re-org may give back transactions that were mined.
const REMEMBERED: usize = 64;

/// A transaction that may be under way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Sent {
    /// What it does.
    pub(crate) kind: String,
    /// Its nonce.
    pub(crate) nonce: u64,
    /// What it is, with its gas limit but without fees.
    pub(crate) request: TransactionRequest,
    /// Most wei for a gas at the last attempt.
    pub(crate) fee: u128,
    /// Most wei for a gas for who builds the block, at the last attempt.
    pub(crate) tip: u128,
}

/// Transactions that are late at a loss: they hand in or show what the journal has had for long, so that there is only one such
/// transaction. While the journal cannot be written they go out all the same, noted in memory.
const DUE: [&str; 5] = ["submit", "commit", "reveal", "answer", "release"];

/// The latest transactions, oldest first.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    sent: VecDeque<Sent>,
    journal: Option<Arc<Journal>>,
    /// The journal may have something that was never sent, since it failed while that was noted: only it knows what goes next.
    doubtful: bool,
}

impl Outbox {
    /// With what was sent before a restart.
    pub(super) fn open(journal: Arc<Journal>) -> Result<Self, store::Error> {
        Ok(Self { sent: journal.sent()?.into(), journal: Some(journal), doubtful: false })
    }

    /// The first transaction under `nonce` or a later one.
    pub(super) fn first_from(&self, nonce: u64) -> Option<Sent> {
        self.sent.iter().find(|sent| sent.nonce >= nonce).cloned()
    }

    /// Notes an attempt, in place of earlier ones under the same nonce. Only then may it be sent.
    pub(super) fn keep(&mut self, sent: Sent) -> Result<(), store::Error> {
        let due = DUE.contains(&&*sent.kind);
        self.change(due, |list| {
            list.retain(|other| other.nonce != sent.nonce);
            let at = list.partition_point(|other| other.nonce < sent.nonce);
            list.insert(at, sent);
            while list.len() > REMEMBERED {
                list.pop_front();
            }
        })
    }

    /// Forgets a transaction that no node can have.
    pub(super) fn forget(&mut self, nonce: u64) -> Result<(), store::Error> {
        self.change(false, |list| list.retain(|other| other.nonce != nonce))
    }

    fn change(&mut self, due: bool, change: impl FnOnce(&mut VecDeque<Sent>)) -> Result<(), store::Error> {
        let mut next = self.sent.clone();
        change(&mut next);
        if let Some(journal) = &self.journal {
            match journal.keep_sent(next.make_contiguous()) {
                Ok(()) => self.doubtful = false,
                Err(error) if due && !self.doubtful => {
                    tracing::warn!(target: "conun::chain", %error, "goes out unnoted, since it is due");
                }
                Err(error) => {
                    self.doubtful = true;
                    return Err(error);
                }
            }
        }
        self.sent = next;
        Ok(())
    }
}
