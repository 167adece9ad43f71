//! What may keep this machine's provider from working.

use std::path::Path;

use alloy::{
    primitives::{Address, U256},
    providers::{DynProvider, Provider},
};
use conun_agent::{
    fabric,
    net::Relay,
    provider::{self, ProviderConfig},
    store::Journal,
};
use conun_bindings::{
    Contracts,
    abi::{ConunToken, Escrow},
};

use super::Checks;
use crate::output::tokens;

/// Gas of one batch's life from the provider's side, generously: lease, result, finalise.
const GAS_OF_A_BATCH: u64 = 300_000;

/// Batches that the account's ether should at least pay for.
const LEAST_BATCHES: u64 = 10;

/// A data folder with less room than this is a trouble soon, bytes.
const LEAST_ROOM: u64 = 1 << 30;

type Outcome = Result<((), String), String>;

/// All checks of the provider in `folder`; those of the chain only where it can be read.
pub(super) async fn check(
    checks: &mut Checks,
    folder: &Path,
    config: &ProviderConfig,
    endpoint: Option<(&DynProvider, &Contracts)>,
) {
    let running = Journal::is_in_use(folder);
    let state = if running { "running" } else { "not running: start it with `conun provider run`" };
    checks.note("provider", Ok(((), format!("{} ({state})", folder.display()))));
    checks.note("disk", disk(folder));
    checks.note("peers", peers(config, running).await);
    let Some((reader, contracts)) = endpoint else { return };
    if config.contracts != *contracts {
        let folder = folder.display();
        let text = format!("{folder} names other contracts than the deployment record: run `conun provider init` anew");
        checks.note::<()>("registration", Err(text));
        return;
    }
    let Some(account) = config.address else {
        checks.note("registration", Ok(((), "not known: the account's address is not in provider.toml".to_owned())));
        return;
    };
    checks.note("registration", registration(reader, contracts, account).await);
    checks.note("gas", gas(reader, account).await);
    checks.note("allowance", allowance(reader, contracts, account).await);
    checks.note("nonce", nonce(reader, account, running).await);
    if !config.policy.groups.is_empty() {
        checks.note("groups", groups(reader, config, account).await);
    }
}

fn disk(folder: &Path) -> Outcome {
    if let Some(trouble) = provider::disk_trouble(folder) {
        return Err(format!(
            "{trouble}: make room, or mend the disk; until then the agent takes nothing new and hands in what is due"
        ));
    }
    let room = fabric::free_bytes(folder).map_err(|error| format!("cannot look at {}: {error}", folder.display()))?;
    let text = format!("{} free for {}", bytesize::ByteSize(room), folder.display());
    if room < LEAST_ROOM {
        return Err(format!("{text}: make room, or move the folder and give --data-dir"));
    }
    Ok(((), text))
}

/// Whether peers can reach the agent here, as far as this machine can tell.
async fn peers(config: &ProviderConfig, running: bool) -> Outcome {
    let listen = config.listen;
    let reach = match (&config.network.relay, listen.ip().is_loopback()) {
        (Relay::N0, _) => "peers reach it directly or through public relays",
        (Relay::Own(_), _) => "peers reach it directly or, if they use it, too, through the relay in provider.toml",
        (Relay::None, true) => {
            "peers on this machine alone reach it: for others set `listen` in provider.toml to 0.0.0.0 and a port"
        }
        (Relay::None, false) => "peers reach it directly, if no router is between: else set `relay` in provider.toml",
    };
    if !running && let Err(error) = tokio::net::UdpSocket::bind(listen).await {
        return Err(format!("cannot listen on {listen} (UDP): {error}; choose another `listen` in provider.toml"));
    }
    Ok(((), format!("listens on {listen} (UDP); {reach}")))
}

async fn registration(reader: &DynProvider, contracts: &Contracts, account: Address) -> Outcome {
    let balance = Escrow::new(contracts.escrow, reader).balanceOf(account).call().await;
    let stake = U256::from(balance.map_err(|error| error.to_string())?.stake);
    match provider::is_registered(reader, contracts, account).await.map_err(|error| error.to_string())? {
        true => Ok(((), format!("provider {account}, {} CON at stake", tokens(stake)))),
        false => Err(format!("{account} is not registered: run `conun provider init`")),
    }
}

async fn groups(reader: &DynProvider, config: &ProviderConfig, account: Address) -> Outcome {
    for list in &config.policy.groups {
        provider::is_member(reader, *list, account).await?;
    }
    Ok(((), format!("{} lists say whose jobs are taken", config.policy.groups.len())))
}

async fn gas(reader: &DynProvider, account: Address) -> Outcome {
    let failed = |error: alloy::transports::TransportError| error.to_string();
    let ether = reader.get_balance(account).await.map_err(failed)?;
    let price = reader.get_gas_price().await.map_err(failed)?;
    let batches = ether / (U256::from(price) * U256::from(GAS_OF_A_BATCH)).max(U256::from(1));
    let text = format!("{} ETH pay for about {batches} batches at today's gas price", tokens(ether));
    if batches < U256::from(LEAST_BATCHES) {
        return Err(format!("{text}: send it some with `conun account send {account} 0.1 --ether`"));
    }
    Ok(((), text))
}

async fn allowance(reader: &DynProvider, contracts: &Contracts, account: Address) -> Outcome {
    let allowed = ConunToken::new(contracts.token, reader).allowance(account, contracts.escrow).call().await;
    let allowed = allowed.map_err(|error| error.to_string())?;
    Ok((
        (),
        format!("the Escrow may take {} CON of the account; none are needed, deposits carry permits", tokens(allowed)),
    ))
}

async fn nonce(reader: &DynProvider, account: Address, running: bool) -> Outcome {
    let failed = |error: alloy::transports::TransportError| error.to_string();
    let mined = reader.get_transaction_count(account).await.map_err(failed)?;
    let known = reader.get_transaction_count(account).pending().await.map_err(failed)?;
    match known.saturating_sub(mined) {
        0 => Ok(((), format!("no transaction waits, the next nonce is {mined}"))),
        1 if running => Ok(((), "one transaction waits, the agent's".to_owned())),
        waiting => Err(format!(
            "{waiting} transactions of {account} wait from nonce {mined} on: another program uses the key, or they pay too little; \
             the agent replaces the first with its own once it sends"
        )),
    }
}
