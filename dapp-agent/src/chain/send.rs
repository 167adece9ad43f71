//! One transaction at a time: estimated before it is sent, followed until it is mined, paid more for when it hangs.

use std::{
    collections::BTreeMap,
    future::IntoFuture,
    sync::{Arc, Mutex as StdMutex, PoisonError},
    time::{Duration, Instant},
};

use alloy::{
    network::TransactionBuilder,
    primitives::{Address, TxHash, U256},
    providers::{DynProvider, Provider},
    rpc::types::{TransactionReceipt, TransactionRequest},
    transports::{RpcError, TransportErrorKind},
};
use conun_bindings::revert::{self, Revert};
use serde::Serialize;
use tokio::sync::Mutex;

use super::outbox::{Outbox, Sent};
use crate::store::{self, Journal};

/// A transaction that is not mined after this long is sent again for more.
const STALL: Duration = Duration::from_secs(60);

/// How long a receipt may come after its nonce counts as used: a busy node, or several behind one address, tell them at different times.
const RECEIPT_LAG: Duration = Duration::from_secs(3);

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
    /// Somebody else's transaction has used its nonce.
    #[error(
        "the nonce {nonce} of {account} was used by another program while this one tried to {kind}: let one program alone use a key"
    )]
    Overtaken {
        /// What was tried.
        kind: &'static str,
        /// The account.
        account: Address,
        /// The nonce.
        nonce: u64,
    },
    /// Gas costs more than may be paid.
    #[error("gas costs {price} wei, and `max-fee-gwei` allows {most}: nothing was sent to {kind}; it is tried again")]
    FeeTooHigh {
        /// What was tried.
        kind: &'static str,
        /// Wei for a gas now.
        price: u128,
        /// Most wei for a gas.
        most: u128,
    },
    /// What is to be sent cannot be noted.
    #[error("nothing was sent, since it could not be noted: {0}")]
    Journal(#[from] store::Error),
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

/// Sends for one account. Clones share the queue: at most one transaction of the account is under way, and as long as its nonce is
/// not used, nothing else goes out under it: neither after a restart, nor after a re-org that gave the nonce back.
#[derive(Clone, Debug)]
pub struct Sender {
    provider: DynProvider,
    account: Address,
    max_fee: Option<u128>,
    /// A transaction that is not mined after this long is sent again for more.
    stall: Duration,
    /// [`RECEIPT_LAG`].
    receipt_lag: Duration,
    turn: Arc<Mutex<Outbox>>,
    under_way: Arc<StdMutex<Option<&'static str>>>,
    gas: Arc<StdMutex<BTreeMap<&'static str, GasUse>>>,
}

/// Says what is under way for as long as it lives.
struct UnderWay<'a>(&'a StdMutex<Option<&'static str>>);

impl<'a> UnderWay<'a> {
    fn new(place: &'a StdMutex<Option<&'static str>>, kind: &'static str) -> Self {
        *place.lock().unwrap_or_else(PoisonError::into_inner) = Some(kind);
        Self(place)
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

/// What became of a transaction.
enum Fate {
    /// It is in a block.
    Mined(Box<TransactionReceipt>),
    /// Its nonce is used, by one of its own attempts before a restart or by somebody else.
    Used,
}

impl Sender {
    /// `provider` holds the wallet of `account`. What is under way is remembered as long as this lives.
    pub fn new(provider: DynProvider, account: Address) -> Self {
        Self {
            provider,
            account,
            max_fee: None,
            stall: STALL,
            receipt_lag: RECEIPT_LAG,
            turn: Arc::default(),
            under_way: Arc::default(),
            gas: Arc::default(),
        }
    }

    /// The same with what is under way kept in a journal.
    ///
    /// # Errors
    /// If the journal fails.
    pub fn with_journal(self, journal: Arc<Journal>) -> Result<Self, store::Error> {
        Ok(Self { turn: Arc::new(Mutex::new(Outbox::open(journal)?)), ..self })
    }

    /// The same, but nothing is sent for more than `max_fee` wei a gas.
    pub fn with_max_fee(self, max_fee: Option<u128>) -> Self {
        Self { max_fee, ..self }
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

    /// What kind of transaction is being sent or waited for, if one is.
    pub fn under_way(&self) -> Option<&'static str> {
        *self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Transactions of the account that wait to be mined as far as the endpoint knows, and how many of them are this sender's
    /// (at most one).
    ///
    /// # Errors
    /// If the endpoint fails or does not answer.
    pub async fn waiting(&self) -> Result<(u64, u64), SendError> {
        let (mined, known) = (self.used_nonces().await?, self.known_nonces().await?);
        Ok((known.saturating_sub(mined), u64::from(self.turn.try_lock().is_err())))
    }

    /// Fails unless the account can pay for `gas` at twice today's price.
    ///
    /// # Errors
    /// [`SendError::NoGas`], or if the endpoint fails.
    pub async fn require_ether(&self, kind: &'static str, gas: u64) -> Result<(), SendError> {
        let price = ask(self.provider.get_gas_price()).await??;
        let need = U256::from(price) * U256::from(gas) * U256::from(2);
        let have = ask(self.provider.get_balance(self.account)).await??;
        if have < need {
            let reason = format!("it has {have} wei, and {need} are needed for this and what follows from it");
            return Err(SendError::NoGas { kind, account: self.account, reason });
        }
        Ok(())
    }

    /// Nonces that the chain has used.
    async fn used_nonces(&self) -> Result<u64, SendError> {
        Ok(ask(self.provider.get_transaction_count(self.account)).await??)
    }

    /// Those, and those that wait at the endpoint without a gap.
    async fn known_nonces(&self) -> Result<u64, SendError> {
        Ok(ask(self.provider.get_transaction_count(self.account).pending()).await??)
    }

    fn count(&self, kind: &'static str, gas: u64) {
        let mut used = self.gas.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = used.entry(kind).or_default();
        entry.transactions += 1;
        entry.gas += gas;
    }

    /// Sends `request` when its turn comes and waits until it is mined. Fees start at what the endpoint suggests and rise at
    /// most [`MAX_BUMPS`] times. What was sent before and may be under way comes first.
    ///
    /// # Errors
    /// If the contract refuses it, gas cannot be paid for, the endpoint fails, or it is never mined.
    ///
    /// # Cancel safety
    /// A transaction may be under way when the future is dropped; the next call carries it on.
    pub async fn send(&self, kind: &'static str, request: TransactionRequest) -> Result<TransactionReceipt, SendError> {
        let mut outbox = self.turn.lock().await;
        let _under_way = UnderWay::new(&self.under_way, kind);
        let mut nonce = self.used_nonces().await?;
        while let Some(sent) = outbox.first_from(nonce) {
            nonce = sent.nonce + 1;
            self.resume(&mut outbox, sent).await?;
        }
        let request = request.with_from(self.account);
        let estimate = ask(self.provider.estimate_gas(request.clone())).await?;
        let estimate = estimate.map_err(|error| self.refusal(kind, error))?;
        let fees = ask(self.provider.estimate_eip1559_fees()).await??;
        let (mut fee, mut tip) = (fees.max_fee_per_gas, fees.max_priority_fee_per_gas);
        if let Some(most) = self.max_fee {
            let price = ask(self.provider.get_gas_price()).await??;
            if price > most {
                return Err(SendError::FeeTooHigh { kind, price, most });
            }
            (fee, tip) = (fee.min(most), tip.min(most));
        }
        // Transactions of the account that others sent wait before it.
        let nonce = self.used_nonces().await?.max(self.known_nonces().await?);
        let request = request.with_nonce(nonce).with_gas_limit(estimate + estimate * GAS_MARGIN_PERCENT / 100);
        let sent = Sent { kind: kind.to_owned(), nonce, request, fee, tip };
        match self.carry(&mut outbox, kind, sent, false).await? {
            Fate::Mined(receipt) => {
                let (hash, gas, ok) = (receipt.transaction_hash, receipt.gas_used, receipt.status());
                self.count(kind, gas);
                tracing::info!(target: "conun::chain", kind, %hash, gas, ok, "mined");
                if ok { Ok(*receipt) } else { Err(SendError::Failed { kind, hash }) }
            }
            Fate::Used => Err(SendError::Overtaken { kind, account: self.account, nonce }),
        }
    }

    /// Carries on what was sent before a restart, a re-org, or the last attempt to get it mined.
    async fn resume(&self, outbox: &mut Outbox, sent: Sent) -> Result<(), SendError> {
        let known = self.known_nonces().await? > sent.nonce;
        // Above a gap, or refused by now, it is of no use any more, if the endpoint does not have it.
        let possible = self.used_nonces().await? == sent.nonce;
        let refused = match ask(self.provider.estimate_gas(sent.request.clone())).await? {
            Ok(_) => false,
            Err(error) => matches!(self.refusal("resume", error), SendError::Refused { .. }),
        };
        if !known && (!possible || refused) {
            tracing::info!(target: "conun::chain", kind = sent.kind, nonce = sent.nonce, "was never mined, and is not sent again");
            outbox.forget(sent.nonce)?;
            return Ok(());
        }
        tracing::info!(target: "conun::chain", kind = sent.kind, nonce = sent.nonce, "is carried on");
        if let Fate::Mined(receipt) = self.carry(outbox, "resume", sent, true).await? {
            self.count("resume", receipt.gas_used);
        }
        Ok(())
    }

    /// Sends it, again and again for more, until its nonce is used. `again`: it may have been sent before.
    async fn carry(
        &self,
        outbox: &mut Outbox,
        kind: &'static str,
        mut sent: Sent,
        again: bool,
    ) -> Result<Fate, SendError> {
        let mut hashes = Vec::new();
        for _ in 0..=MAX_BUMPS {
            outbox.keep(sent.clone())?;
            let request = sent.request.clone().with_max_fee_per_gas(sent.fee).with_max_priority_fee_per_gas(sent.tip);
            match ask(self.provider.send_transaction(request)).await? {
                Ok(pending) => hashes.push(*pending.tx_hash()),
                Err(error) if is_known(&error) => {}
                // Whether it has arrived will be seen by the next call.
                Err(error) if hashes.is_empty() && !error.is_error_resp() => return Err(error.into()),
                // Another one waits under this nonce, from before a restart or of another program: this one takes its place.
                Err(error) if is_underpriced(&error) && self.raise(&mut sent) => continue,
                // Nothing is under way, and nothing was before.
                Err(error) if hashes.is_empty() && !again && !is_nonce_used(&error) => {
                    outbox.forget(sent.nonce)?;
                    return Err(self.refusal(kind, error));
                }
                // One of those sent before may have been mined meanwhile.
                Err(error) => tracing::debug!(target: "conun::chain", %error, kind, "not accepted"),
            }
            if let Some(fate) = self.fate(outbox, &hashes, sent.nonce).await {
                return Ok(fate);
            }
            if !self.raise(&mut sent) {
                break;
            }
        }
        Err(SendError::Stuck { kind, hash: hashes.last().copied().unwrap_or_default() })
    }

    /// Raises the fees for the next attempt, unless they would be more than what may be paid.
    fn raise(&self, sent: &mut Sent) -> bool {
        // At least one wei more, whatever the percentage of little.
        let more = |fee: u128| fee + (fee * BUMP_PERCENT / 100).max(1);
        let (fee, tip) = (more(sent.fee), more(sent.tip));
        if self.max_fee.is_some_and(|most| fee > most) {
            return false;
        }
        (sent.fee, sent.tip) = (fee, tip);
        true
    }

    /// What became of it, if anything did before it is time to pay more. An endpoint that fails meanwhile is asked again: the
    /// transaction is under way all the same.
    async fn fate(&self, outbox: &Outbox, hashes: &[TxHash], nonce: u64) -> Option<Fate> {
        let start = Instant::now();
        let mut pause = Duration::from_millis(20);
        // Since when the nonce has been used without a receipt.
        let mut missing = None;
        while start.elapsed() < self.stall {
            // In this order: a nonce that was used before is one whose receipt should be there by now.
            let next = self.used_nonces().await.unwrap_or(nonce);
            let used = next > nonce;
            self.fill_gap(outbox, next, nonce).await;
            let mut unknown = false;
            for hash in hashes {
                match ask(self.provider.get_transaction_receipt(*hash)).await {
                    Ok(Ok(Some(receipt))) => return Some(Fate::Mined(Box::new(receipt))),
                    Ok(Ok(None)) => {}
                    _ => unknown = true,
                }
            }
            if !used || unknown {
                missing = None;
            } else if missing.get_or_insert_with(Instant::now).elapsed() >= self.receipt_lag {
                return Some(Fate::Used);
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(2));
        }
        None
    }

    /// A re-org may have given back nonces from `next` on, of transactions that no node remembers: they go out again, since nothing
    /// above a gap is ever mined.
    async fn fill_gap(&self, outbox: &Outbox, next: u64, nonce: u64) {
        let Some(sent) = outbox.first_from(next).filter(|sent| sent.nonce == next && next < nonce) else { return };
        if self.known_nonces().await.is_ok_and(|known| known == next) {
            tracing::info!(target: "conun::chain", kind = sent.kind, nonce = next, "was taken back, and is sent again");
            let request = sent.request.with_max_fee_per_gas(sent.fee).with_max_priority_fee_per_gas(sent.tip);
            // It is looked at again soon.
            let _ = ask(self.provider.send_transaction(request)).await;
        }
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

/// Whether the endpoint has the very same transaction already.
fn is_known(error: &RpcError<TransportErrorKind>) -> bool {
    says(error, &["already known", "already imported", "known transaction"])
}

/// Whether the nonce is used.
fn is_nonce_used(error: &RpcError<TransportErrorKind>) -> bool {
    says(error, &["nonce too low", "nonce is too low"])
}

/// Nodes have words for this, no codes.
fn says(error: &RpcError<TransportErrorKind>, words: &[&str]) -> bool {
    let message = error.as_error_resp().map(|payload| payload.message.to_lowercase()).unwrap_or_default();
    words.iter().any(|word| message.contains(word))
}

/// Whether another transaction under the same nonce pays as much.
fn is_underpriced(error: &RpcError<TransportErrorKind>) -> bool {
    says(error, &["underpriced"])
}

/// An endpoint's answer, if it comes in time.
async fn ask<T>(request: impl IntoFuture<Output = T>) -> Result<T, SendError> {
    tokio::time::timeout(REQUEST_TIMEOUT, request.into_future()).await.map_err(|_| SendError::NoAnswer)
}

#[cfg(test)]
mod tests;
