//! The chain as the agent sees it: an index folded from logs, a follower that keeps it current, a sender of transactions.

pub mod endpoint;
mod follow;
mod index;
mod outbox;
mod send;

pub use follow::{Follower, Head};
pub use index::{
    Assured, Ballot, BallotStage, BatchEntry, BatchStage, Batches, CaseEntry, Claim, Index, JobEntry, Loss, LossReason,
    OwnJobs, ProviderEntry, Replica, ReplicaStage,
};
pub(crate) use outbox::Sent;
pub use send::{GasUse, SendError, Sender};

/// Why the chain cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The endpoint failed or does not answer.
    #[error("the RPC endpoint failed: {0}")]
    Rpc(#[from] alloy::transports::RpcError<alloy::transports::TransportErrorKind>),
    /// A view call failed.
    #[error("a contract could not be read: {0}")]
    Call(#[from] alloy::contract::Error),
    /// The endpoint serves another chain.
    #[error(
        "the RPC endpoint serves chain {found}, the contracts are on chain {expected}: give the right --rpc-url or --deployment"
    )]
    WrongChain {
        /// What it serves.
        found: u64,
        /// What was expected.
        expected: u64,
    },
    /// There is no code at the registry's address.
    #[error(
        "there are no contracts at {0}: was the chain reset? Deploy with `conun deploy --broadcast` or give the right --deployment"
    )]
    NoContracts(alloy::primitives::Address),
    /// The endpoint does not answer.
    #[error("the RPC endpoint did not answer within {0:?}: check --rpc-url and the network")]
    NoAnswer(std::time::Duration),
    /// The endpoint has no latest block.
    #[error("the RPC endpoint knows no latest block")]
    NoHead,
    /// Two endpoints tell different stories.
    #[error(
        "the RPC endpoints disagree about block {block} ({what}): one of them lies or is on a fork; nothing is done until they agree"
    )]
    Disagreement {
        /// Where.
        block: u64,
        /// About what.
        what: &'static str,
    },
    /// The second endpoint fails.
    #[error("second-rpc-url: {0}; nothing is done until both endpoints answer")]
    Second(#[source] Box<Error>),
    /// The endpoint's answers do not belong to one chain.
    #[error("the chain changed at every attempt to read it: the RPC endpoint's servers may disagree")]
    Unsteady,
}
