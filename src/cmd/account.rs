//! `conun account`: keys, balances, transfers.

use std::{path::PathBuf, process::ExitCode};

use alloy::{
    network::TransactionBuilder,
    primitives::{Address, U256},
    providers::Provider,
    rpc::types::TransactionRequest,
    signers::local::PrivateKeySigner,
};
use clap::{Args, Subcommand};
use conun_agent::account;
use conun_bindings::abi::{ConunToken, Escrow};
use eyre::{Context as _, bail, ensure};
use serde::Serialize;

use crate::{
    context::{Context, parse_address},
    exit::Ending,
    output::{self, Table, parse_tokens, tokens},
};

#[derive(Debug, Subcommand)]
pub(crate) enum AccountCommand {
    /// Make a new account.
    New {
        /// Name of the keystore file.
        name: String,
    },
    /// Import a private key; it is read from a terminal or standard input, never from the command line.
    Import {
        /// Name of the keystore file.
        name: String,
        /// Read the key (64 hexadecimal digits) from this file instead.
        #[arg(long, value_name = "FILE", conflicts_with = "devnet")]
        private_key_file: Option<PathBuf>,
        /// Import account N of the devnet, whose key the whole world knows: for `conun devnet` and anvil only.
        #[arg(long, value_name = "N")]
        devnet: Option<usize>,
    },
    /// List the accounts.
    #[command(visible_alias = "ls")]
    List,
    /// Show ether, tokens, and what the Escrow holds.
    Balance {
        /// Whose: an address or an account's name.  [default: --account]
        who: Option<String>,
    },
    /// Send tokens, or ether with --ether.
    Send(SendArgs),
}

#[derive(Debug, Args)]
pub(crate) struct SendArgs {
    /// Receiver.
    #[arg(value_parser = parse_address)]
    to: Address,
    /// Amount: `12.5`, or `12500wei`.
    #[arg(value_parser = parse_tokens)]
    amount: U256,
    /// Send ether, not tokens.
    #[arg(long)]
    ether: bool,
}

pub(crate) async fn run(context: &Context, command: AccountCommand) -> eyre::Result<ExitCode> {
    match command {
        AccountCommand::New { name } => {
            let dir = context.keystore_dir()?;
            account::ensure_free(&dir, &name)?;
            let signer = account::create(&dir, &name, &context.new_password()?)?;
            created(context, &name, &signer)
        }
        AccountCommand::Import { name, private_key_file, devnet } => {
            let dir = context.keystore_dir()?;
            account::ensure_free(&dir, &name)?;
            let signer = match devnet {
                Some(number) => devnet_account(number)?,
                None => read_key(private_key_file)?,
            };
            account::import(&dir, &name, &signer, &context.new_password()?)?;
            created(context, &name, &signer)
        }
        AccountCommand::List => list(context),
        AccountCommand::Balance { who } => balance(context, who).await,
        AccountCommand::Send(args) => send(context, args).await,
    }
}

fn devnet_account(number: usize) -> eyre::Result<PrivateKeySigner> {
    let mut accounts = conun_chain::dev_accounts();
    ensure!(number < accounts.len(), "the devnet has accounts 0 to {}", accounts.len() - 1);
    Ok(accounts.swap_remove(number))
}

fn read_key(file: Option<PathBuf>) -> eyre::Result<PrivateKeySigner> {
    use std::io::IsTerminal;
    let text = match file {
        Some(path) => std::fs::read_to_string(&path).wrap_err_with(|| format!("cannot read {}", path.display()))?,
        None if std::io::stdin().is_terminal() => rpassword::prompt_password("Private key (not shown): ")?,
        None => std::io::read_to_string(std::io::stdin())?,
    };
    // The parser's own error may quote the key: it is not passed on.
    let key =
        text.trim().parse().map_err(|_| eyre::eyre!("that is no private key: 64 hexadecimal digits are expected"))?;
    Ok(key)
}

#[derive(Serialize)]
struct Created<'a> {
    name: &'a str,
    address: Address,
}

fn created(context: &Context, name: &str, signer: &PrivateKeySigner) -> eyre::Result<ExitCode> {
    let record = Created { name, address: signer.address() };
    output::result(context.json(), &record, |record| format!("{}  {}", record.name, record.address))?;
    output::note(format_args!("use it with --account {name}"));
    Ok(ExitCode::SUCCESS)
}

fn list(context: &Context) -> eyre::Result<ExitCode> {
    let dir = context.keystore_dir()?;
    let accounts = account::list(&dir)?;
    output::result(context.json(), &accounts, |accounts| {
        let mut table = Table::new(["account", "address"]);
        for entry in accounts {
            let address =
                entry.address.map_or_else(|| "(in the encrypted file)".to_owned(), |address| address.to_string());
            table.row([entry.name.clone(), address]);
        }
        if table.is_empty() {
            return format!("no accounts in {}: make one with `conun account new NAME`", dir.display());
        }
        table.to_string()
    })?;
    Ok(ExitCode::SUCCESS)
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Balance {
    address: Address,
    /// Wei.
    ether: U256,
    /// Token wei in the account itself.
    tokens: U256,
    /// Token wei in the Escrow, free.
    available: U256,
    /// Token wei in the Escrow, held by jobs.
    locked: U256,
    /// Token wei in the Escrow, staked as a provider.
    stake: U256,
    /// Token wei in the Escrow, earned as a provider: `conun provider withdraw` sends it to the payout address.
    earned: U256,
}

async fn balance(context: &Context, who: Option<String>) -> eyre::Result<ExitCode> {
    let address = match who {
        Some(who) => match parse_address(&who) {
            Ok(address) => address,
            Err(why) if who.starts_with("0x") => bail!(Ending::Usage(format!("{who}: {why}"))),
            Err(_) => account_address(context, &who)?,
        },
        None => account_address(context, context.account()?)?,
    };
    let (provider, chain_id) = context.reader().await?;
    let contracts = context.contracts(&provider, chain_id).await?;
    let held = Escrow::new(contracts.escrow, &provider).balanceOf(address).call().await?;
    let balance = Balance {
        address,
        ether: provider.get_balance(address).await?,
        tokens: ConunToken::new(contracts.token, &provider).balanceOf(address).call().await?,
        available: U256::from(held.available),
        locked: U256::from(held.locked),
        stake: U256::from(held.stake),
        earned: U256::from(held.earned),
    };
    output::result(context.json(), &balance, |balance| {
        let mut table = Table::new([&balance.address.to_string(), "amount"]);
        table.row(["ether".into(), tokens(balance.ether)]);
        table.row(["CON, in the account".into(), tokens(balance.tokens)]);
        table.row(["CON, in the Escrow, free".into(), tokens(balance.available)]);
        table.row(["CON, in the Escrow, held by jobs".into(), tokens(balance.locked)]);
        table.row(["CON, in the Escrow, at stake".into(), tokens(balance.stake)]);
        table.row(["CON, in the Escrow, earned".into(), tokens(balance.earned)]);
        table.to_string()
    })?;
    Ok(ExitCode::SUCCESS)
}

/// The address of a keystore account: from the file where it says so, else by opening it.
fn account_address(context: &Context, name: &str) -> eyre::Result<Address> {
    let dir = context.keystore_dir()?;
    account::require(&dir, name)?;
    let known = account::list(&dir)?.into_iter().find(|entry| entry.name == name).and_then(|entry| entry.address);
    match known {
        Some(address) => Ok(address),
        None => {
            let password = context.password(&format!("Password of account {name}: "))?;
            Ok(account::open(&dir, name, &password)?.address())
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Sent {
    from: Address,
    to: Address,
    /// Wei of ether or of tokens.
    amount: U256,
    transaction: alloy::primitives::TxHash,
    gas: u64,
}

async fn send(context: &Context, SendArgs { to, amount, ether }: SendArgs) -> eyre::Result<ExitCode> {
    let signer = context.signer()?;
    let from = signer.address();
    let (provider, chain_id) = context.writer(signer).await?;
    let balance;
    let request = if ether {
        balance = provider.get_balance(from).await?;
        TransactionRequest::default().with_to(to).with_value(amount)
    } else {
        let token = ConunToken::new(context.contracts(&provider, chain_id).await?.token, &provider);
        balance = token.balanceOf(from).call().await?;
        token.transfer(to, amount).into_transaction_request()
    };
    let unit = if ether { "ether" } else { "CON" };
    ensure!(
        balance >= amount,
        "{from} has {} {unit}, {} are to be sent: nothing was sent",
        tokens(balance),
        tokens(amount)
    );
    let receipt = provider.send_transaction(request.with_from(from)).await?.get_receipt().await?;
    ensure!(receipt.status(), "the transfer failed in transaction {}", receipt.transaction_hash);
    let sent = Sent { from, to, amount, transaction: receipt.transaction_hash, gas: receipt.gas_used };
    output::result(context.json(), &sent, |sent| {
        format!("sent {} {unit} to {} in {}", tokens(sent.amount), sent.to, sent.transaction)
    })?;
    Ok(ExitCode::SUCCESS)
}
