//! Entering the registry, and taking the earnings out.

use std::path::Path;

use alloy::{
    primitives::{Address, TxHash, U256},
    providers::{DynProvider, Provider},
    signers::local::PrivateKeySigner,
};
use conun_bindings::{
    Contracts,
    abi::{Deployment, Escrow, ProviderRegistry},
};
use serde::Serialize;

use super::{Error, ProviderConfig};
use crate::{
    chain::{self, Sender},
    funds::{Funds, permit},
    net::{Node, NodeConfig},
};

/// Seconds of block time in which a registration's permit must be mined.
const PERMIT_SECONDS: u64 = 3_600;

/// What registering came to.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Registration {
    /// The hot account.
    pub account: Address,
    /// Where earnings go.
    pub payout: Address,
    /// Stake, token wei.
    pub stake: U256,
    /// The transaction; none if the account was registered already and only its folder was missing.
    pub transaction: Option<TxHash>,
}

/// A provider that signs for `signer`.
pub(crate) async fn connect(url: &str, signer: &PrivateKeySigner) -> Result<DynProvider, Error> {
    Ok(chain::endpoint::writer(url, signer.clone()).await.map_err(chain::Error::from)?)
}

impl From<alloy::contract::Error> for Error {
    fn from(error: alloy::contract::Error) -> Self {
        Self::Chain(error.into())
    }
}

/// Registers `signer` with `stake` token wei, in one transaction, and writes its data folder. Everything that can be checked is
/// checked before anything is sent.
///
/// # Errors
/// If the folder is a provider's already, the stake is too small, funds are missing, or the chain fails.
pub async fn register(
    folder: &Path,
    config: &ProviderConfig,
    signer: &PrivateKeySigner,
    payout: Address,
    stake: Option<U256>,
) -> Result<Registration, Error> {
    let provider = connect(&config.rpc_url, signer).await?;
    let contracts = &config.contracts;
    let account = signer.address();
    let registry = ProviderRegistry::new(contracts.providers, &provider);
    let known = registry.providerOf(account).call().await?;
    let registered = known.payout != Address::ZERO;
    if ProviderConfig::file(folder).exists() {
        let taken = Error::FolderTaken(folder.to_owned());
        return Err(if registered { Error::AlreadyRegistered(account) } else { taken });
    }
    if registered {
        // Its folder was lost, or is elsewhere: a new one, whose endpoint the agent publishes when it starts.
        config.write(folder)?;
        let staked = Escrow::new(contracts.escrow, &provider).balanceOf(account).call().await?.stake;
        return Ok(Registration { account, payout: known.payout, stake: U256::from(staked), transaction: None });
    }
    let settings = Deployment::new(contracts.deployment, &provider).settings().call().await?;
    let least = U256::from(settings.minStake);
    // Ten times the least, so that several leases fit.
    let stake = stake.unwrap_or(least * U256::from(10));
    if stake < least {
        return Err(Error::StakeTooSmall { given: stake, least });
    }
    let funds = Funds::read(&provider, contracts, account).await?;
    if funds.ether.is_zero() {
        return Err(Error::NoEther(account));
    }
    if funds.total() < stake {
        return Err(Error::TooFewTokens { account, have: funds.total(), need: stake });
    }
    let node =
        Node::start(NodeConfig { data_dir: folder.to_owned(), bind: config.listen, network: config.network.clone() })
            .await?;
    let contact = node.contact();
    node.shutdown().await;
    config.write(folder)?;
    let deadline = now(&provider).await? + U256::from(PERMIT_SECONDS);
    let (v, r, s) = permit(&provider, contracts, signer, stake, deadline).await?;
    let permit = ProviderRegistry::Permit { value: stake, deadline, v, r, s };
    let contact = ProviderRegistry::Contact { endpoint: contact.endpoint.into(), hint: contact.hint_text() };
    let call = registry.register(payout, contact, stake, permit).into_transaction_request();
    let receipt = Sender::new(provider.clone(), account).send("register", call).await?;
    Ok(Registration { account, payout, stake, transaction: Some(receipt.transaction_hash) })
}

/// Whether `account` is registered as a provider.
///
/// # Errors
/// If the chain fails.
pub async fn is_registered(provider: &DynProvider, contracts: &Contracts, account: Address) -> Result<bool, Error> {
    let registry = ProviderRegistry::new(contracts.providers, provider);
    Ok(registry.providerOf(account).call().await?.payout != Address::ZERO)
}

/// What the registry has of `account`, and what the Escrow holds of its.
async fn registered(
    provider: &DynProvider,
    contracts: &Contracts,
    account: Address,
) -> Result<(ProviderRegistry::Provider, Escrow::Balance), Error> {
    let known = ProviderRegistry::new(contracts.providers, provider).providerOf(account).call().await?;
    if known.payout == Address::ZERO {
        return Err(Error::NotRegistered(account));
    }
    Ok((known, Escrow::new(contracts.escrow, provider).balanceOf(account).call().await?))
}

/// Block time.
pub(crate) async fn now(provider: &DynProvider) -> Result<U256, Error> {
    let block = provider.get_block(alloy::eips::BlockId::latest()).await.map_err(chain::Error::from)?;
    Ok(U256::from(block.ok_or(chain::Error::NoHead)?.header.timestamp))
}

/// What withdrawing came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Withdrawal {
    /// What went to the payout address, token wei.
    pub amount: U256,
    /// Part of it that was stake, token wei: the registration is over then.
    pub stake: U256,
    /// The transaction; none if there was nothing.
    pub transaction: Option<TxHash>,
}

/// Sends a provider's earnings from the Escrow to its payout address; once an exit is due and nothing is locked, the stake as well
/// (into the payout address's Escrow balance), which ends the registration. Nothing is sent if there is nothing.
///
/// # Errors
/// If the account is not registered, or the chain fails.
pub async fn withdraw(url: &str, contracts: &Contracts, signer: &PrivateKeySigner) -> Result<Withdrawal, Error> {
    let (provider, account) = (connect(url, signer).await?, signer.address());
    let (known, held) = registered(&provider, contracts, account).await?;
    let registry = ProviderRegistry::new(contracts.providers, &provider);
    let earned = U256::from(held.earned);
    let exit_at: u64 = known.exitAt.into();
    let leaves = exit_at != 0 && now(&provider).await? >= U256::from(exit_at) && held.held.is_zero();
    let stake = if leaves { U256::from(held.stake) } else { U256::ZERO };
    let (amount, call) = match (leaves, earned.is_zero()) {
        (true, _) => (earned + stake, registry.exit().into_transaction_request()),
        (false, false) => (earned, registry.withdraw(account).into_transaction_request()),
        (false, true) => return Ok(Withdrawal { amount: U256::ZERO, stake, transaction: None }),
    };
    let kind = if leaves { "exit" } else { "withdraw" };
    let receipt = Sender::new(provider.clone(), account).send(kind, call).await?;
    Ok(Withdrawal { amount, stake, transaction: Some(receipt.transaction_hash) })
}

/// A provider that has asked to leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Leaving {
    /// Block time from which its stake can be had, UNIX seconds; 0 if it stays.
    pub exit_at: u64,
    /// Stake that leases and windows still lock, token wei.
    pub locked: U256,
    /// The transaction; none if it had asked before.
    pub transaction: Option<TxHash>,
}

/// Asks for the end of a registration: no new leases from now on; [`withdraw`] takes the stake out when the exit is due.
///
/// # Errors
/// If the account is not registered, or the chain fails.
pub async fn request_exit(url: &str, contracts: &Contracts, signer: &PrivateKeySigner) -> Result<Leaving, Error> {
    leaving(url, contracts, signer, true).await
}

/// Takes the request to leave back.
///
/// # Errors
/// As [`request_exit`].
pub async fn cancel_exit(url: &str, contracts: &Contracts, signer: &PrivateKeySigner) -> Result<Leaving, Error> {
    leaving(url, contracts, signer, false).await
}

async fn leaving(url: &str, contracts: &Contracts, signer: &PrivateKeySigner, leave: bool) -> Result<Leaving, Error> {
    let (provider, account) = (connect(url, signer).await?, signer.address());
    let (known, held) = registered(&provider, contracts, account).await?;
    let (registry, locked) = (ProviderRegistry::new(contracts.providers, &provider), U256::from(held.held));
    if leave != (known.exitAt == 0) {
        return Ok(Leaving { exit_at: known.exitAt.into(), locked, transaction: None });
    }
    let (kind, call) = if leave {
        ("exit request", registry.requestExit().into_transaction_request())
    } else {
        ("exit cancellation", registry.cancelExit().into_transaction_request())
    };
    let receipt = Sender::new(provider.clone(), account).send(kind, call).await?;
    let exit_at = registry.providerOf(account).call().await?.exitAt.into();
    Ok(Leaving { exit_at, locked, transaction: Some(receipt.transaction_hash) })
}
