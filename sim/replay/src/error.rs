//! What can go wrong before there is anything to report.

use alloy::{
    primitives::{Address, B256},
    transports::TransportError,
};

/// Why a range cannot be replayed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The endpoint failed.
    #[error("the RPC endpoint failed: {0}")]
    Rpc(#[from] TransportError),
    /// Reading logs failed.
    #[error(transparent)]
    Chain(#[from] conun_agent::chain::Error),
    /// The range is empty or begins before there is a state.
    #[error(
        "blocks {first} to {last} are no range: --from-block must be 1 or later and not after --to-block or the latest block"
    )]
    Range {
        /// First block.
        first: u64,
        /// Last block.
        last: u64,
    },
    /// The endpoint has no such block.
    #[error("the RPC endpoint has no block {0}, or has it without transactions: give one that keeps old blocks")]
    NoBlock(u64),
    /// The endpoint has no such transaction in a block.
    #[error("the RPC endpoint has no block with transaction {0}")]
    NoTransaction(B256),
    /// A transaction or its receipt is missing.
    #[error(
        "block {0} has another number of receipts than of transactions: the RPC endpoint's servers may disagree; try again"
    )]
    Receipts(u64),
    /// A transaction of a kind that Ethereum does not have.
    #[error(
        "block {block} has a transaction of type {kind}, which is none of Ethereum's: this chain cannot be replayed"
    )]
    Kind {
        /// Where.
        block: u64,
        /// EIP-2718 type.
        kind: u8,
    },
    /// The recording lacks something that the replay looks at.
    #[error(
        "the recording does not have {what} of {address}: it was saved by a run that never looked at it; record it again with --rpc-url"
    )]
    NotRecorded {
        /// What is missing.
        what: String,
        /// Of which account.
        address: Address,
    },
    /// The state could not be read.
    #[error(
        "the state before block {block} cannot be read ({reason}): an RPC endpoint that keeps old states (an archive) is needed"
    )]
    State {
        /// The first block.
        block: u64,
        /// What the endpoint said.
        reason: String,
    },
    /// A file cannot be read or written.
    #[error("{path}: {reason}")]
    File {
        /// Which.
        path: std::path::PathBuf,
        /// Why.
        reason: String,
    },
    /// The EVM refuses to start on a transaction.
    #[error("{0}")]
    Evm(String),
}

impl revm::context_interface::DBErrorMarker for Error {}
