//! The demo's provider agents: processes of this same binary, made and run with the commands that any provider uses.

use std::{
    fs::File,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use alloy::{
    network::TransactionBuilder,
    primitives::{Address, U256},
    providers::Provider,
    rpc::types::TransactionRequest,
};
use conun_agent::account;
use conun_bindings::{abi::ConunToken, deploy::TOKEN};
use eyre::{Context as _, bail, ensure};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
};

use crate::cmd::devnet::Market;

/// Tokens that each agent stakes.
const STAKE: u128 = 5_000;

/// An agent has this long to be ready.
const READY_WITHIN: Duration = Duration::from_secs(60);

struct Agent {
    account: Address,
    process: Child,
}

/// Running agents. Dropping them kills them.
pub(super) struct Agents {
    agents: Vec<Agent>,
    record: PathBuf,
}

impl Agents {
    /// Makes `count` accounts, funds and registers them, and starts an agent for each.
    pub(super) async fn start(market: &Market, folder: &Path, record: &Path, count: u32) -> eyre::Result<Self> {
        let keystore = folder.join("keystore");
        let password = folder.join("password");
        std::fs::write(&password, "demo")?;
        let mut agents = Vec::new();
        for number in 1..=count {
            let name = format!("provider-{number}");
            let signer = account::create(&keystore, &name, "demo")?;
            fund(market, signer.address()).await?;
            let data = folder.join(&name);
            let log = File::create(folder.join(&name).with_extension("log"))?;
            let command = |verb: &str| -> eyre::Result<Command> {
                let mut command = Command::new(std::env::current_exe()?);
                command.args(["provider", verb, "--json", "--account", &name, "--rpc-url", &market.url]);
                command.arg("--data-dir").arg(&data).arg("--keystore-dir").arg(&keystore);
                command.arg("--password-file").arg(&password).arg("--deployment").arg(record);
                command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log.try_clone()?).kill_on_drop(true);
                Ok(command)
            };
            let stake = STAKE.to_string();
            let made =
                command("init")?.args(["--stake", &stake, "--poll-millis", "150", "--run-always"]).output().await?;
            ensure!(made.status.success(), "{name} could not be registered: {}", String::from_utf8_lossy(&made.stdout));
            let mut process = command("run")?.spawn().wrap_err("an agent cannot be started")?;
            let ready = tokio::time::timeout(READY_WITHIN, ready(&mut process)).await;
            ready.wrap_err_with(|| format!("{name} is not ready after {READY_WITHIN:?}"))?.wrap_err(name)?;
            agents.push(Agent { account: signer.address(), process });
        }
        Ok(Self { agents, record: record.to_owned() })
    }

    pub(super) fn accounts(&self) -> Vec<Address> {
        self.agents.iter().map(|agent| agent.account).collect()
    }

    pub(super) fn record(&self) -> &Path {
        &self.record
    }

    /// Sends a signal (`-STOP`, `-CONT`, `-KILL`) to the agent of an account; whether that worked.
    pub(super) fn signal(&self, account: Address, signal: &str) -> bool {
        let process = self.agents.iter().find(|agent| agent.account == account).and_then(|agent| agent.process.id());
        let Some(process) = process else { return false };
        let sent = std::process::Command::new("kill").args([signal, &process.to_string()]).status();
        sent.is_ok_and(|status| status.success())
    }

    /// Ends all agents and waits until they have.
    pub(super) async fn stop(mut self) {
        for agent in &mut self.agents {
            // The one that was killed is gone already.
            let _ = agent.process.kill().await;
        }
    }
}

/// Gives an account ether for gas and tokens to stake.
async fn fund(market: &Market, to: Address) -> eyre::Result<()> {
    let from = market.accounts[0].address();
    let ether = TransactionRequest::default().with_from(from).with_to(to).with_value(U256::from(TOKEN));
    let token = ConunToken::new(market.contracts.token, &market.provider);
    let tokens = token.transfer(to, U256::from(STAKE) * U256::from(TOKEN)).from(from).into_transaction_request();
    for request in [ether, tokens] {
        let receipt = market.provider.send_transaction(request).await?.get_receipt().await?;
        ensure!(receipt.status(), "could not fund {to}");
    }
    Ok(())
}

/// Waits until an agent says that it is ready. What it says later is read and dropped.
async fn ready(process: &mut Child) -> eyre::Result<()> {
    let Some(stdout) = process.stdout.take() else { bail!("it has no standard output") };
    let mut lines = BufReader::new(stdout).lines();
    while let Some(line) = lines.next_line().await? {
        let Ok(event) = serde_json::from_str::<serde_json::Value>(&line) else { continue };
        if event["event"] == "ready" {
            tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
            return Ok(());
        }
    }
    bail!("it ended before it was ready: {}", process.wait().await?)
}
