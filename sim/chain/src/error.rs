//! What can go wrong, in the words that other nodes use, since clients match on them.

use std::{io, path::PathBuf};

use alloy::primitives::{Address, B256, Bytes, U256};
use serde::Serialize;
use serde_json::value::RawValue;

/// A refused transaction, a failed call, an unusable file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The transaction's nonce is used up.
    #[error("nonce too low: address {address}, tx: {tx} state: {state}")]
    NonceTooLow {
        /// Sender.
        address: Address,
        /// Its nonce in the transaction.
        tx: u64,
        /// The next nonce.
        state: u64,
    },
    /// The sender cannot pay for gas and value.
    #[error("insufficient funds for gas * price + value: address {address} have {have} want {want}")]
    InsufficientFunds {
        /// Sender.
        address: Address,
        /// Its balance, wei.
        have: U256,
        /// What the transaction may cost, wei.
        want: U256,
    },
    /// The transaction's fee cap is below the block's base fee.
    #[error("max fee per gas less than block base fee: address {address}, maxFeePerGas: {cap}, baseFee: {base_fee}")]
    FeeTooLow {
        /// Sender.
        address: Address,
        /// The transaction's cap, wei per gas.
        cap: u128,
        /// The block's base fee, wei per gas.
        base_fee: u64,
    },
    /// A waiting transaction of the same nonce pays nearly as much.
    #[error("replacement transaction underpriced")]
    Underpriced,
    /// The very same transaction is waiting or mined.
    #[error("already known")]
    AlreadyKnown,
    /// The transaction is for another chain.
    #[error("invalid chain id for signer: have {have} want {want}")]
    WrongChain {
        /// The transaction's chain id.
        have: u64,
        /// This chain's.
        want: u64,
    },
    /// The transaction has no chain id (EIP-155), or is of a type that this chain does not take.
    #[error("transaction type not supported: {0}")]
    Unsupported(&'static str),
    /// The transaction's bytes or signature are malformed.
    #[error("invalid transaction: {0}")]
    Malformed(String),
    /// The EVM refused the transaction before it began.
    #[error("invalid transaction: {0}")]
    Invalid(String),
    /// The call reverted.
    #[error("execution reverted{}", .reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default())]
    Reverted {
        /// Revert data.
        data: Bytes,
        /// Its text, if it is a string or panic.
        reason: Option<String>,
    },
    /// The call stopped without a result.
    #[error("execution halted: {0}")]
    Halted(String),
    /// No such block.
    #[error("unknown block {0}")]
    UnknownBlock(String),
    /// The state of that block is no longer kept.
    #[error(
        "the state of block {block} is not kept, only that of the last {kept} blocks, and of none before a start from a file"
    )]
    Pruned {
        /// The block.
        block: u64,
        /// How many are kept.
        kept: u64,
    },
    /// More blocks were to be undone than there are.
    #[error("cannot drop {depth} blocks: the chain has {height}")]
    ReorgTooDeep {
        /// Blocks to drop.
        depth: u64,
        /// Height of the chain.
        height: u64,
    },
    /// A block's time cannot be before its parent's.
    #[error("timestamp {given} is before the latest block's {latest}")]
    TimeRunsBack {
        /// The time asked for, UNIX seconds.
        given: u64,
        /// The latest block's.
        latest: u64,
    },
    /// A range of logs is too large.
    #[error("query exceeds {0} results: narrow the block range or the filter")]
    TooManyLogs(usize),
    /// The file cannot be read or written.
    #[error("cannot access {path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is no dump of a chain.
    #[error("{path} is no dump of a chain: {source}")]
    NotADump {
        /// The file.
        path: PathBuf,
        /// Where it stopped being one.
        source: serde_json::Error,
    },
    /// The dump is of another chain.
    #[error("{path} holds chain {found}, not {expected}: give --chain-id {found} or another file")]
    OtherChain {
        /// The file.
        path: PathBuf,
        /// Its chain id.
        found: u64,
        /// The one asked for.
        expected: u64,
    },
    /// The server cannot listen there.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: std::net::SocketAddr,
        /// What the system said.
        source: io::Error,
    },
}

/// A JSON-RPC error object.
#[derive(Clone, Debug, Serialize)]
pub struct RpcError {
    /// -32700 to -32600 are JSON-RPC's own; 3 is a revert, -32000 any other refusal.
    pub code: i64,
    /// For people.
    pub message: String,
    /// Revert data as hexadecimal text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data: Option<Bytes>,
}

impl RpcError {
    pub(crate) fn params(message: impl Into<String>) -> Self {
        Self { code: -32602, message: message.into(), data: None }
    }

    pub(crate) fn unknown_method(method: &str) -> Self {
        Self { code: -32601, message: format!("the method {method} does not exist or is not available"), data: None }
    }

    pub(crate) fn request(message: impl Into<String>) -> Self {
        Self { code: -32600, message: message.into(), data: None }
    }
}

impl From<Error> for RpcError {
    fn from(error: Error) -> Self {
        let message = error.to_string();
        match error {
            Error::Reverted { data, .. } => Self { code: 3, message, data: Some(data) },
            Error::Malformed(_) => Self { code: -32602, message, data: None },
            _ => Self { code: -32000, message, data: None },
        }
    }
}

impl From<RpcError> for alloy::rpc::json_rpc::ErrorPayload {
    fn from(error: RpcError) -> Self {
        let data =
            error.data.map(|data| RawValue::from_string(format!("\"{data}\"")).expect("hexadecimal needs no escapes"));
        Self { code: error.code, message: error.message.into(), data }
    }
}

/// A transaction's hash in an error's place.
pub(crate) fn unknown_hash(hash: B256) -> Error {
    Error::UnknownBlock(hash.to_string())
}
