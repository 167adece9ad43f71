//! One transaction at a time: estimated before it is sent, followed until it is mined, paid more for when it hangs.

use std::{
    collections::BTreeMap,
    sync::Arc,
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
    /// The endpoint failed.
    #[error("the RPC endpoint failed: {0}")]
    Rpc(#[from] RpcError<TransportErrorKind>),
}

impl SendError {
    /// Whether somebody else was simply faster or the state has moved on.
    pub fn is_lost_race(&self) -> bool {
        use conun_bindings::abi::JobRegistry::JobRegistryErrors as E;
        match self {
            Self::Failed { .. } => true,
            Self::Refused { revert: Some(revert), .. } => match &**revert {
                Revert::Jobs(error) => {
                    matches!(
                        error,
                        E::WrongState(_)
                            | E::NotHolder(_)
                            | E::NotYetActive(_)
                            | E::WindowOpen(_)
                            | E::LeaseRunning(_)
                            | E::JobIsCancelled(_)
                    )
                }
                _ => false,
            },
            _ => false,
        }
    }
}

/// Sends for one account. Clones share the queue: at most one transaction of the account is under way.
#[derive(Clone, Debug)]
pub struct Sender {
    provider: DynProvider,
    account: Address,
    turn: Arc<Mutex<BTreeMap<&'static str, GasUse>>>,
}

impl Sender {
    /// `provider` holds the wallet of `account`.
    pub fn new(provider: DynProvider, account: Address) -> Self {
        Self { provider, account, turn: Arc::default() }
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
    pub async fn gas(&self) -> BTreeMap<&'static str, GasUse> {
        self.turn.lock().await.clone()
    }

    /// Sends `request` when its turn comes and waits until it is mined.
    ///
    /// # Errors
    /// If the contract refuses it, gas cannot be paid for, the endpoint fails, or it is never mined.
    ///
    /// # Cancel safety
    /// Not cancel safe: a transaction may be under way when the future is dropped.
    pub async fn send(&self, kind: &'static str, request: TransactionRequest) -> Result<TransactionReceipt, SendError> {
        let mut gas_use = self.turn.lock().await;
        let request = request.with_from(self.account);
        let estimate = self.provider.estimate_gas(request.clone()).await.map_err(|error| self.refusal(kind, error))?;
        let fees = self.provider.estimate_eip1559_fees().await?;
        let (mut fee, mut tip) = (fees.max_fee_per_gas, fees.max_priority_fee_per_gas);
        let nonce = self.provider.get_transaction_count(self.account).await?;
        let mut hashes = Vec::new();
        for _ in 0..=MAX_BUMPS {
            let request = request
                .clone()
                .with_nonce(nonce)
                .with_gas_limit(estimate + estimate * GAS_MARGIN_PERCENT / 100)
                .with_max_fee_per_gas(fee)
                .with_max_priority_fee_per_gas(tip);
            match self.provider.send_transaction(request).await {
                Ok(pending) => hashes.push(*pending.tx_hash()),
                // One of those sent before may have been mined meanwhile.
                Err(error) if hashes.is_empty() => return Err(self.refusal(kind, error)),
                Err(error) => tracing::debug!(target: "conun::chain", %error, kind, "replacement refused"),
            }
            if let Some(receipt) = self.mined(&hashes).await? {
                let entry = gas_use.entry(kind).or_default();
                entry.transactions += 1;
                entry.gas += receipt.gas_used;
                tracing::info!(target: "conun::chain", kind, hash = %receipt.transaction_hash, gas = receipt.gas_used, ok = receipt.status(), "mined");
                if receipt.status() {
                    return Ok(receipt);
                }
                return Err(SendError::Failed { kind, hash: receipt.transaction_hash });
            }
            fee += fee * BUMP_PERCENT / 100;
            tip += tip * BUMP_PERCENT / 100;
        }
        Err(SendError::Stuck { kind, hash: hashes.last().copied().unwrap_or_default() })
    }

    async fn mined(&self, hashes: &[TxHash]) -> Result<Option<TransactionReceipt>, SendError> {
        let start = Instant::now();
        let mut pause = Duration::from_millis(20);
        while start.elapsed() < STALL {
            for hash in hashes {
                if let Some(receipt) = self.provider.get_transaction_receipt(*hash).await? {
                    return Ok(Some(receipt));
                }
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(2));
        }
        Ok(None)
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
