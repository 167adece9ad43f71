//! The JSON-RPC methods: one table, one file for each name space.

mod dev;
mod eth;
mod filters;
mod params;

pub(crate) use eth::transaction;
pub(crate) use filters::Filters;

use serde_json::{Value, json};

use crate::{RpcError, shared::Inner};
use params::Params;

/// What a method answers.
type Answer = Result<Value, RpcError>;

/// Answers `method`.
pub(crate) fn handle(inner: &mut Inner, method: &str, params: Value) -> Answer {
    let params = Params::new(params)?;
    match method {
        "web3_clientVersion" => Ok(json!(concat!("conun-chain/v", env!("CARGO_PKG_VERSION")))),
        "web3_sha3" => Ok(json!(alloy::primitives::keccak256(params.get::<alloy::primitives::Bytes>(0, "data")?))),
        "net_version" => Ok(json!(inner.chain.chain_id.to_string())),
        "net_listening" => Ok(json!(true)),
        "net_peerCount" => Ok(json!("0x0")),
        _ if method.starts_with("eth_") => eth::handle(inner, method, &params),
        _ => dev::handle(inner, method, &params),
    }
}
