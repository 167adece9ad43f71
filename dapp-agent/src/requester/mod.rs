//! The requester: has work done and pays for it.
//!
//! [`JobFile`] says what; [`prepare`] checks everything that can be checked without spending; [`Requester::post`] puts it on the chain;
//! [`Requester::follow`] serves program and inputs, fetches results, checks each byte against what the chain says, and accepts.
//! [`Requester::amend`] gives what nobody holds other terms.
//! [`Requester::settle`] ends what nobody else brings to its end.
//! [`Requester::demand`] and [`Requester::challenge`] are what it can do about a result that is withheld, or wrong.

mod amend;
mod assurance;
mod collect;
mod disputes;
mod follow;
mod ledger;
mod logs;
mod outputs;
mod prepare;
pub mod promise;
mod session;
mod settle;
mod view;

pub use amend::{Amended, Amendment};
pub use assurance::AssuranceFile;
pub(crate) use collect::proved_manifest;
pub use ledger::{Ledger, ProviderLedger};
pub use logs::{LogReader, LogRecord, LogState, find_log};
pub use prepare::{JobFile, Prepared, assemble, prepare};
pub use session::{Posted, Progress, Requester};
pub use settle::Settled;

use std::path::PathBuf;

use alloy::primitives::{Address, B256, U256};

use crate::{
    chain,
    files::{FileError, io_error},
    net,
};

/// Why a job cannot be posted or followed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file or folder cannot be used.
    #[error(transparent)]
    File(#[from] FileError),
    /// The job file is malformed.
    #[error("{path}: {reason}")]
    JobFile {
        /// The file.
        path: PathBuf,
        /// What is wrong, and where.
        reason: String,
    },
    /// A term of the job makes no sense.
    #[error("{0}; nothing was sent")]
    Term(String),
    /// The program cannot be executed by anybody.
    #[error("{path} cannot be executed: {reason}")]
    Program {
        /// The file.
        path: PathBuf,
        /// What to change.
        reason: String,
    },
    /// The account cannot pay the deposit.
    #[error(
        "the job's deposit is {need} token wei, {account} has {have}: get it more tokens, or lower price, fuel-limit or the number of tasks; \
         nothing was sent"
    )]
    TooFewTokens {
        /// The account.
        account: Address,
        /// What it has, in the Escrow and outside.
        have: U256,
        /// The deposit.
        need: U256,
    },
    /// The account has no ether.
    #[error(
        "{0} has no ether to pay for gas: send it some with `conun account send {0} 0.1 --ether`; nothing was sent"
    )]
    NoEther(Address),
    /// There is no such job.
    #[error("there is no job {0} on this chain: `conun job list` shows them")]
    NoSuchJob(B256),
    /// The job is somebody else's.
    #[error("job {job} was posted by {owner}, not by {account}")]
    NotYours {
        /// The job.
        job: B256,
        /// Who posted it.
        owner: Address,
        /// The account that asked.
        account: Address,
    },
    /// Results that are paid for, or soon will be, cannot be had or are wrong.
    #[error(
        "the outputs of batches {batches:?} of job {job} cannot be had from their providers, or are wrong; all others are \
         complete. Try again later with `conun job result {job}`"
    )]
    OutputsMissing {
        /// The job.
        job: B256,
        /// The batches.
        batches: Vec<u32>,
    },
    /// Nobody decides challenges here.
    #[error(
        "this deployment has no arbiter: nothing can be challenged. Its requester can demand outputs, and accept or not"
    )]
    NoArbiter,
    /// The account cannot pay a bond.
    #[error("the bond is {need} token wei, {account} has {have}: get it more tokens; nothing was sent")]
    BondMissing {
        /// The account.
        account: Address,
        /// What it has, in the Escrow and outside.
        have: U256,
        /// The bond.
        need: U256,
    },
    /// There is nothing to do.
    #[error("{0}")]
    Nothing(String),
    /// The chain cannot be read.
    #[error(transparent)]
    Chain(#[from] chain::Error),
    /// A transaction came to nothing.
    #[error(transparent)]
    Send(#[from] chain::SendError),
    /// The endpoint cannot start.
    #[error(transparent)]
    Net(#[from] net::Error),
}

impl From<alloy::contract::Error> for Error {
    fn from(error: alloy::contract::Error) -> Self {
        Self::Chain(error.into())
    }
}

impl From<crate::provider::Error> for Error {
    fn from(error: crate::provider::Error) -> Self {
        match error {
            crate::provider::Error::Chain(error) => Self::Chain(error),
            other => Self::Term(other.to_string()),
        }
    }
}
