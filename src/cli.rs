//! The command line: nouns, verbs, options.

use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;

use crate::{cmd, output::LogFormat};

/// An open market for idle computing on Ethereum.
///
/// Flags win over environment variables, those over configuration files.
#[derive(Debug, Parser)]
#[command(name = "conun", version, propagate_version = true, max_term_width = 110)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Options that every command takes.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Global {
    /// Print one JSON document on standard output instead of text.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Ethereum JSON-RPC endpoint.  [default: http://127.0.0.1:8545]
    #[arg(long, global = true, env = "ETH_RPC_URL", value_name = "URL")]
    pub(crate) rpc_url: Option<String>,
    /// Name (or path) of the keystore account that signs.
    #[arg(long, global = true, env = "ETH_KEYSTORE_ACCOUNT", value_name = "NAME")]
    pub(crate) account: Option<String>,
    /// Folder of the keystore accounts.  [default: ~/.foundry/keystores]
    #[arg(long, global = true, env = "ETH_KEYSTORE", value_name = "DIR", hide_env = false)]
    pub(crate) keystore_dir: Option<PathBuf>,
    /// File that holds the account's password; asked for on a terminal otherwise.
    #[arg(long, global = true, env = "ETH_PASSWORD", value_name = "FILE")]
    pub(crate) password_file: Option<PathBuf>,
    /// Refuse to work on another chain than this.
    #[arg(long, global = true, env = "CHAIN", value_name = "CHAIN_ID")]
    pub(crate) chain: Option<u64>,
    /// Record of the contracts' addresses.  [default: deployments/<chain id>.json]
    #[arg(long, global = true, env = "CONUN_DEPLOYMENT", value_name = "FILE")]
    pub(crate) deployment: Option<PathBuf>,
    /// How logs are written to standard error.
    #[arg(long, global = true, env = "CONUN_LOG_FORMAT", value_name = "FORMAT", value_enum, default_value_t = LogFormat::Text)]
    pub(crate) log_format: LogFormat,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Render an image on three provider processes, pay them, and show the books. Needs nothing set up.
    Demo(cmd::demo::DemoArgs),
    /// Run a local chain with the contracts deployed and ten funded accounts.
    Devnet(cmd::devnet::DevnetArgs),
    /// Deploy the contracts. A dry run unless --broadcast is given.
    Deploy(cmd::deploy::DeployArgs),
    /// Lend this computer's idle time.
    #[command(subcommand, visible_alias = "p")]
    Provider(cmd::provider::ProviderCommand),
    /// Have work done.
    #[command(subcommand, visible_alias = "j")]
    Job(cmd::job::JobCommand),
    /// Keys, balances, transfers.
    #[command(subcommand, visible_alias = "a")]
    Account(cmd::account::AccountCommand),
    /// Check, prepare and run a program here, without a chain.
    #[command(subcommand, visible_alias = "w")]
    Wasm(cmd::wasm::WasmCommand),
    /// Play a whole market in this process: attacks, faults, and what comes of them.
    #[command(subcommand)]
    Sim(cmd::sim::SimCommand),
    /// Execute a chain's blocks once more here, compare what comes out with what the chain says, and write the books.
    Replay(cmd::replay::ReplayArgs),
    /// Execute results that are on the chain once more here, and compare.
    Audit(cmd::audit::AuditArgs),
    /// Carry packets between peers that cannot dial each other.
    Relay(cmd::relay::RelayArgs),
    /// Measure how much fuel this computer burns in a second; takes about 10 seconds.
    Bench(cmd::bench::BenchArgs),
    /// Check endpoint, contracts, account and data folders; say what to type where something is wrong.
    Doctor,
    /// Print a completion script for a shell.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Write manual pages, one for each command.
    Man {
        /// Folder to write them to.
        #[arg(value_name = "DIR")]
        dir: PathBuf,
    },
    /// Execute tasks read from standard input (started by a provider's agent).
    #[command(hide = true)]
    Worker,
}

pub(crate) fn parse() -> Cli {
    Cli::parse()
}
