//! One transaction at a time: estimated before it is sent, followed until it is mined, paid more for when it hangs.

use std::{
    collections::BTreeMap,
    future::IntoFuture,
    sync::{Arc, Mutex as StdMutex, PoisonError},
    time::{Duration, Instant},
};

use alloy::{
    network::TransactionBuilder,
    primitives::{Address, TxHash},
    providers::{DynProvider, Provider},
    rpc::types::{TransactionReceipt, TransactionRequest},
    transports::{RpcError, TransportErrorKind},
};
use conun_bindings::revert::{self, Revert};
use serde::Serialize;
use tokio::sync::Mutex;

/// A transaction that is not mined after this long is sent again for more.
const STALL: Duration = Duration::from_secs(60);

/// An endpoint that does not answer within this time has failed.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(20);

/// Fees go up by this many percent then; nodes want at least 10.
const BUMP_PERCENT: u128 = 25;

/// How often fees go up before the sender gives up waiting.
const MAX_BUMPS: u32 = 6;

/// Gas limit over the estimate, percent: other transactions may come between.
const GAS_MARGIN_PERCENT: u64 = 25;

/// Gas of one kind of transaction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct GasUse {
    /// Transactions.
    pub transactions: u64,
    /// Gas of all together.
    pub gas: u64,
}

/// Why a transaction came to nothing.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// The contract refuses it; nothing was sent.
    #[error("the contract refuses to {kind}: {reason}")]
    Refused {
        /// What was tried.
        kind: &'static str,
        /// The contract's error with its values.
        reason: String,
        /// The error itself, if it is one of ours.
        revert: Option<Box<Revert>>,
    },
    /// It was mined and failed: something came between estimate and block.
    #[error("transaction {hash} ({kind}) failed in its block")]
    Failed {
        /// What was tried.
        kind: &'static str,
        /// The transaction.
        hash: TxHash,
    },
    /// The account cannot pay for gas.
    #[error(
        "{account} has too little ether to {kind} ({reason}): send it some with `conun account send {account} 0.1 --ether`"
    )]
    NoGas {
        /// What was tried.
        kind: &'static str,
        /// The account.
        account: Address,
        /// The node's words.
        reason: String,
    },
    /// It does not get mined.
    #[error("transaction {hash} ({kind}) is still not mined after raising its fee {MAX_BUMPS} times")]
    Stuck {
        /// What was tried.
        kind: &'static str,
        /// The last transaction sent.
        hash: TxHash,
    },
    /// The endpoint does not answer.
    #[error("the RPC endpoint did not answer within {REQUEST_TIMEOUT:?}")]
    NoAnswer,
    /// The endpoint failed.
    #[error("the RPC endpoint failed: {0}")]
    Rpc(#[from] RpcError<TransportErrorKind>),
}

impl SendError {
    /// Whether somebody else was simply faster or the state has moved on.
    pub fn is_lost_race(&self) -> bool {
        use conun_bindings::abi::{
            Disputes::DisputesErrors as D, JobRegistry::JobRegistryErrors as J,
            ReplicaRegistry::ReplicaRegistryErrors as R,
        };
        let revert = match self {
            Self::Failed { .. } => return true,
            Self::Refused { revert: Some(revert), .. } => &**revert,
            _ => return false,
        };
        match revert {
            Revert::Jobs(error) => matches!(
                error,
                J::WrongState(_)
                    | J::NotHolder(_)
                    | J::NotYetActive(_)
                    | J::WindowOpen(_)
                    | J::LeaseRunning(_)
                    | J::JobIsCancelled(_)
            ),
            Revert::Replicas(error) => matches!(
                error,
                R::WrongState(_)
                    | R::WrongReplicaState(_)
                    | R::NotDrawnYet(_)
                    | R::BlockToCome(_)
                    | R::NoFreeSlot(_)
                    | R::NoBackupNeeded(_)
                    | R::SlotTaken(_)
                    | R::NotYetActive(_)
                    | R::TooEarly(_)
                    | R::TooLate(_)
                    | R::WrongVotes(_)
                    | R::LeasesToExpire(_)
            ),
            Revert::Disputes(error) => {
                matches!(error, D::WrongCaseState(_) | D::WrongResult(_) | D::TooEarly(_) | D::TooLate(_))
            }
            _ => false,
        }
    }
}

/// Sends for one account. Clones share the queue: at most one transaction of the account is under way.
#[derive(Clone, Debug)]
pub struct Sender {
    provider: DynProvider,
    account: Address,
    turn: Arc<Mutex<()>>,
    gas: Arc<StdMutex<BTreeMap<&'static str, GasUse>>>,
}

impl Sender {
    /// `provider` holds the wallet of `account`.
    pub fn new(provider: DynProvider, account: Address) -> Self {
        Self { provider, account, turn: Arc::default(), gas: Arc::default() }
    }

    /// The account that signs.
    pub fn account(&self) -> Address {
        self.account
    }

    /// The provider it sends through.
    pub fn provider(&self) -> &DynProvider {
        &self.provider
    }

    /// Gas used so far, by kind.
    pub fn gas(&self) -> BTreeMap<&'static str, GasUse> {
        self.gas.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn count(&self, kind: &'static str, gas: u64) {
        let mut used = self.gas.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = used.entry(kind).or_default();
        entry.transactions += 1;
        entry.gas += gas;
    }

    /// Sends `request` when its turn comes and waits until it is mined. Fees start at what the endpoint suggests and rise at
    /// most [`MAX_BUMPS`] times.
    ///
    /// # Errors
    /// If the contract refuses it, gas cannot be paid for, the endpoint fails, or it is never mined.
    ///
    /// # Cancel safety
    /// Not cancel safe: a transaction may be under way when the future is dropped.
    pub async fn send(&self, kind: &'static str, request: TransactionRequest) -> Result<TransactionReceipt, SendError> {
        let _turn = self.turn.lock().await;
        let request = request.with_from(self.account);
        let estimate = ask(self.provider.estimate_gas(request.clone())).await?;
        let estimate = estimate.map_err(|error| self.refusal(kind, error))?;
        let fees = ask(self.provider.estimate_eip1559_fees()).await??;
        let (mut fee, mut tip) = (fees.max_fee_per_gas, fees.max_priority_fee_per_gas);
        let nonce = ask(self.provider.get_transaction_count(self.account)).await??;
        let mut hashes = Vec::new();
        for _ in 0..=MAX_BUMPS {
            let request = request
                .clone()
                .with_nonce(nonce)
                .with_gas_limit(estimate + estimate * GAS_MARGIN_PERCENT / 100)
                .with_max_fee_per_gas(fee)
                .with_max_priority_fee_per_gas(tip);
            // At least one wei more, whatever the percentage of little.
            fee += (fee * BUMP_PERCENT / 100).max(1);
            tip += (tip * BUMP_PERCENT / 100).max(1);
            match ask(self.provider.send_transaction(request)).await? {
                Ok(pending) => hashes.push(*pending.tx_hash()),
                // One from before a restart still waits under this nonce: this one takes its place.
                Err(error) if hashes.is_empty() && is_underpriced(&error) => continue,
                Err(error) if hashes.is_empty() => return Err(self.refusal(kind, error)),
                // One of those sent before may have been mined meanwhile.
                Err(error) => tracing::debug!(target: "conun::chain", %error, kind, "replacement refused"),
            }
            if let Some(receipt) = self.mined(&hashes).await {
                let (hash, gas, ok) = (receipt.transaction_hash, receipt.gas_used, receipt.status());
                self.count(kind, gas);
                tracing::info!(target: "conun::chain", kind, %hash, gas, ok, "mined");
                return if ok { Ok(receipt) } else { Err(SendError::Failed { kind, hash }) };
            }
        }
        Err(SendError::Stuck { kind, hash: hashes.last().copied().unwrap_or_default() })
    }

    /// The receipt of the first of `hashes` that is mined before it is time to pay more. An endpoint that fails meanwhile is
    /// asked again: the transaction is under way all the same.
    async fn mined(&self, hashes: &[TxHash]) -> Option<TransactionReceipt> {
        let start = Instant::now();
        let mut pause = Duration::from_millis(20);
        while start.elapsed() < STALL {
            for hash in hashes {
                match ask(self.provider.get_transaction_receipt(*hash)).await {
                    Ok(Ok(Some(receipt))) => return Some(receipt),
                    Ok(Ok(None)) => {}
                    Ok(Err(error)) => tracing::debug!(target: "conun::chain", %error, "no receipt"),
                    Err(error) => tracing::debug!(target: "conun::chain", %error, "no receipt"),
                }
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(2));
        }
        None
    }

    fn refusal(&self, kind: &'static str, error: RpcError<TransportErrorKind>) -> SendError {
        let Some(payload) = error.as_error_resp() else { return error.into() };
        if payload.message.contains("insufficient funds") || payload.message.contains("Insufficient funds") {
            return SendError::NoGas { kind, account: self.account, reason: payload.message.to_string() };
        }
        match payload.as_revert_data() {
            Some(data) => SendError::Refused {
                kind,
                reason: revert::describe(&data),
                revert: Revert::decode(&data).map(Box::new),
            },
            None if payload.code == 3 || payload.message.contains("revert") => {
                SendError::Refused { kind, reason: payload.message.to_string(), revert: None }
            }
            None => error.into(),
        }
    }
}

/// Whether another transaction under the same nonce pays as much.
fn is_underpriced(error: &RpcError<TransportErrorKind>) -> bool {
    error.as_error_resp().is_some_and(|payload| payload.message.contains("underpriced"))
}

/// An endpoint's answer, if it comes in time.
async fn ask<T>(request: impl IntoFuture<Output = T>) -> Result<T, SendError> {
    tokio::time::timeout(REQUEST_TIMEOUT, request.into_future()).await.map_err(|_| SendError::NoAnswer)
}
