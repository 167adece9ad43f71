//! What the global options come to: a signer, a provider, the contracts. The one place that knows environment and folders.

use std::{io::IsTerminal, path::PathBuf, time::Duration};

use alloy::{
    network::EthereumWallet,
    primitives::Address,
    providers::{DynProvider, Provider},
    signers::local::PrivateKeySigner,
};
use conun_agent::{account, chain::endpoint};
use conun_bindings::Contracts;
use eyre::{Context as _, bail};
use zeroize::Zeroizing;

use crate::{cli::Global, exit::Ending};

/// Where nodes for development listen.
const DEFAULT_RPC_URL: &str = "http://127.0.0.1:8545";

/// Name of the systemd credential that holds the account's password.
pub(crate) const PASSWORD_CREDENTIAL: &str = "password";

/// The global options, and what follows from them.
pub(crate) struct Context {
    pub(crate) global: Global,
}

impl Context {
    pub(crate) fn new(global: Global) -> Self {
        Self { global }
    }

    /// Whether the result is one JSON document.
    pub(crate) fn json(&self) -> bool {
        self.global.json
    }

    /// Folder of the keystore accounts.
    pub(crate) fn keystore_dir(&self) -> eyre::Result<PathBuf> {
        match &self.global.keystore_dir {
            Some(dir) => Ok(dir.clone()),
            None => Ok(home()?.join(".foundry/keystores")),
        }
    }

    /// Folder of CONUN's own data: `$CONUN_HOME`, else `~/.conun`.
    pub(crate) fn data_home(&self) -> eyre::Result<PathBuf> {
        match std::env::var_os("CONUN_HOME") {
            Some(dir) => Ok(dir.into()),
            None => Ok(home()?.join(".conun")),
        }
    }

    /// Folder of this user's settings: `$XDG_CONFIG_HOME`, else `~/.config`.
    pub(crate) fn config_home(&self) -> eyre::Result<PathBuf> {
        match std::env::var_os("XDG_CONFIG_HOME") {
            Some(dir) => Ok(dir.into()),
            None => Ok(home()?.join(".config")),
        }
    }

    /// The endpoint that flag or environment name, or the default.
    pub(crate) fn rpc_url(&self) -> &str {
        self.global.rpc_url.as_deref().unwrap_or(DEFAULT_RPC_URL)
    }

    /// Fails unless a node of the chain that --chain demands, if any, answers at `url`.
    pub(crate) async fn require_node(&self, url: &str) -> eyre::Result<()> {
        self.check(url, endpoint::reader(url).await).await.map(drop)
    }

    /// Name of the account that signs.
    pub(crate) fn account(&self) -> eyre::Result<&str> {
        self.global.account.as_deref().ok_or_else(|| {
            Ending::Usage(
                "no account given: name one with --account NAME (`conun account list` shows them, `conun account new NAME` makes one)"
                    .to_owned(),
            )
            .into()
        })
    }

    /// Opens the account that signs.
    pub(crate) fn signer(&self) -> eyre::Result<PrivateKeySigner> {
        self.signer_named(self.account()?)
    }

    /// Opens a certain account.
    pub(crate) fn signer_named(&self, name: &str) -> eyre::Result<PrivateKeySigner> {
        let dir = self.keystore_dir()?;
        account::require(&dir, name)?;
        let password = self.password(&format!("Password of account {name}: "))?;
        Ok(account::open(&dir, name, &password)?)
    }

    /// The password from --password-file, a systemd credential, or the terminal; wiped from memory when it is dropped.
    pub(crate) fn password(&self, prompt: &str) -> eyre::Result<Zeroizing<String>> {
        let credential =
            std::env::var_os("CREDENTIALS_DIRECTORY").map(|dir| PathBuf::from(dir).join(PASSWORD_CREDENTIAL));
        let file = self.global.password_file.clone().or(credential.filter(|path| path.exists()));
        if let Some(path) = file {
            let text = std::fs::read_to_string(&path).map(Zeroizing::new);
            let text = text.wrap_err_with(|| format!("cannot read the password file {}", path.display()))?;
            return Ok(Zeroizing::new(text.trim_end_matches(['\r', '\n']).to_owned()));
        }
        if !std::io::stdin().is_terminal() {
            bail!(Ending::Usage(
                "no password: give --password-file FILE (or ETH_PASSWORD=FILE) where there is no terminal".into()
            ));
        }
        Ok(Zeroizing::new(rpassword::prompt_password(prompt)?))
    }

    /// A new password, asked for twice on a terminal.
    pub(crate) fn new_password(&self) -> eyre::Result<Zeroizing<String>> {
        let password = self.password("New password: ")?;
        if self.global.password_file.is_none() && rpassword::prompt_password("Once more: ")? != *password {
            bail!("the passwords differ; nothing was written");
        }
        Ok(password)
    }

    /// A provider that can only read.
    pub(crate) async fn reader(&self) -> eyre::Result<(DynProvider, u64)> {
        self.check(self.rpc_url(), endpoint::reader(self.rpc_url()).await).await
    }

    /// A provider that signs with `wallet`, or with a single signer.
    pub(crate) async fn writer(&self, wallet: impl Into<EthereumWallet>) -> eyre::Result<(DynProvider, u64)> {
        self.check(self.rpc_url(), endpoint::writer(self.rpc_url(), wallet).await).await
    }

    async fn check<E: std::fmt::Display>(
        &self,
        url: &str,
        provider: Result<DynProvider, E>,
    ) -> eyre::Result<(DynProvider, u64)> {
        let unreachable = |error: String| {
            Ending::Temporary(format!(
                "no Ethereum node answers at {url} ({error}): start one (`conun devnet`), or give another with --rpc-url URL"
            ))
        };
        let provider = provider.map_err(|error| unreachable(error.to_string()))?;
        let chain_id = tokio::time::timeout(Duration::from_secs(20), provider.get_chain_id())
            .await
            .map_err(|_| unreachable("no answer within 20 s".to_owned()))?
            .map_err(|error| unreachable(error.to_string()))?;
        if let Some(wanted) = self.global.chain
            && wanted != chain_id
        {
            bail!("{url} is chain {chain_id}, not {wanted} as --chain demands: nothing was sent");
        }
        Ok((provider, chain_id))
    }

    /// Where the record of this chain's deployment is.
    pub(crate) fn deployment_path(&self, chain_id: u64) -> PathBuf {
        self.global.deployment.clone().unwrap_or_else(|| PathBuf::from(format!("deployments/{chain_id}.json")))
    }

    /// The contracts on the chain of `provider`: recorded, on this chain, and really there.
    pub(crate) async fn contracts(&self, provider: &DynProvider, chain_id: u64) -> eyre::Result<Contracts> {
        let path = self.deployment_path(chain_id);
        let contracts = Contracts::read(&path)?;
        if contracts.chain_id != chain_id {
            bail!(
                "{} is a deployment on chain {}, but {} is chain {chain_id}: give the right --deployment or --rpc-url",
                path.display(),
                contracts.chain_id,
                self.rpc_url()
            );
        }
        if provider.get_code_at(contracts.jobs).await?.is_empty() {
            bail!(
                "there are no contracts at {} on chain {chain_id}, although {} says so: was the chain reset? Deploy again with `conun deploy --broadcast`",
                contracts.jobs,
                path.display()
            );
        }
        Ok(contracts)
    }
}

fn home() -> eyre::Result<PathBuf> {
    std::env::home_dir()
        .ok_or_else(|| eyre::eyre!("this user has no home folder: give --keystore-dir and set CONUN_HOME"))
}

/// An EIP-55 address from the command line; a mixed-case one with a wrong checksum is refused.
pub(crate) fn parse_address(text: &str) -> Result<Address, String> {
    let hex = text.strip_prefix("0x").unwrap_or(text);
    let mixed = hex.bytes().any(|byte| byte.is_ascii_lowercase()) && hex.bytes().any(|byte| byte.is_ascii_uppercase());
    if mixed {
        Address::parse_checksummed(text, None).map_err(|_| "wrong EIP-55 checksum: a character was mistyped".to_owned())
    } else {
        text.parse().map_err(|_| "not an address: 0x and 40 hexadecimal digits".to_owned())
    }
}
