//! The provider: lends this computer.
//!
//! [`register`] puts it on the chain, [`run`] works until it is told to stop, [`status`] says how it is doing. A data folder holds
//! everything: `provider.toml`, the journal, the endpoint's key, blobs, `status.json`, `why.json`, `events.jsonl`, and `paused` or `draining`
//! while it is.

mod books;
mod clean;
mod config;
mod events;
mod groups;
mod guest;
mod held;
mod metrics;
mod peers;
mod registration;
mod report;
mod run;
mod status;
pub mod transactions;
mod work;

pub use books::{Earnings, LeaseStatus, Record};
pub use config::ProviderConfig;
pub use events::{Look, Running};
pub use groups::is_member;
pub use guest::GuestStatus;
pub use registration::{
    Leaving, Registration, Withdrawal, cancel_exit, is_registered, register, request_exit, withdraw,
};
pub(crate) use registration::{connect, now};
pub use run::{disk_trouble, run, run_on};
pub use status::{Status, is_draining, is_paused, read_status, read_verdicts, set_draining, set_paused};

pub(crate) use work::{
    BYTES_AT_ONCE, COMPILE_DEADLINE, Checked, OUTPUT_BYTES, TASKS_AT_ONCE, Workers, check, content_of,
};

use std::path::PathBuf;

use crate::{
    chain,
    files::{FileError, io_error},
    net, store,
};

/// Why a provider cannot go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The chain cannot be read.
    #[error(transparent)]
    Chain(#[from] chain::Error),
    /// A transaction came to nothing.
    #[error(transparent)]
    Send(#[from] chain::SendError),
    /// The endpoint cannot start.
    #[error(transparent)]
    Net(#[from] net::Error),
    /// The journal cannot be used.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// The account is not registered.
    #[error("{0} is not a registered provider: register it with `conun provider init`")]
    NotRegistered(alloy::primitives::Address),
    /// The account is registered already.
    #[error("{0} is registered already: start it with `conun provider run`")]
    AlreadyRegistered(alloy::primitives::Address),
    /// The data folder is another provider's.
    #[error("{0} is a provider's folder already: give another with --data-dir; nothing was sent")]
    FolderTaken(PathBuf),
    /// The stake is below the deployment's minimum.
    #[error("the stake is {given} token wei, the least is {least}: give more with --stake")]
    StakeTooSmall {
        /// What was given.
        given: alloy::primitives::U256,
        /// What is needed.
        least: alloy::primitives::U256,
    },
    /// The account has too few tokens.
    #[error(
        "{account} has {have} token wei, {need} are needed: get it some (`conun account send {account} AMOUNT` from an account that has)"
    )]
    TooFewTokens {
        /// The account.
        account: alloy::primitives::Address,
        /// What it has, in the Escrow and outside.
        have: alloy::primitives::U256,
        /// What it needs.
        need: alloy::primitives::U256,
    },
    /// The account has no ether.
    #[error("{0} has no ether to pay for gas: send it some with `conun account send {0} 0.1 --ether`")]
    NoEther(alloy::primitives::Address),
    /// The folder was never initialised.
    #[error("{0} is no provider's folder: make one with `conun provider init`")]
    NoFolder(PathBuf),
    /// The configuration is malformed.
    #[error("{path}: {reason}")]
    Config {
        /// The file.
        path: PathBuf,
        /// What is wrong, and where.
        reason: String,
    },
    /// Metrics cannot be served.
    #[error("cannot serve metrics at {address}: {source}; give another address as `metrics` in provider.toml, or none")]
    Metrics {
        /// Where.
        address: std::net::SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// The blob store has failed, and can be opened anew.
    #[error("the blob store in {path} has failed: it is opened anew")]
    StoreLost {
        /// Its folder.
        path: PathBuf,
        /// Whether the disk was seen to fail before.
        disk_failed: bool,
    },
    /// A file or folder cannot be used.
    #[error(transparent)]
    File(#[from] FileError),
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::net::{NetworkSettings, Node, NodeConfig};

    /// A node on loopback.
    pub(super) async fn node(folder: &Path) -> Node {
        let (data_dir, bind) = (folder.to_owned(), ([127, 0, 0, 1], 0).into());
        Node::start(NodeConfig { data_dir, bind, network: NetworkSettings::default() }).await.unwrap()
    }
}
