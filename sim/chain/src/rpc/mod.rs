//! The JSON-RPC methods: one table, one file for each name space.

mod dev;
mod eth;
mod filters;
mod params;

pub(crate) use eth::transaction;
pub(crate) use filters::Filters;

use serde::Serialize;
use serde_json::{Value, value::to_raw_value};

use crate::{Answer, shared::Inner};
use params::Params;

/// Written once: blocks and logs may be large.
pub(crate) fn answer(value: &(impl Serialize + ?Sized)) -> Answer {
    Ok(to_raw_value(value).expect("what is answered has no maps with other keys than text"))
}

/// Answers `method`.
pub(crate) fn handle(inner: &mut Inner, method: &str, params: Value) -> Answer {
    let params = Params::new(params)?;
    match method {
        "web3_clientVersion" => answer(&concat!("conun-chain/v", env!("CARGO_PKG_VERSION"))),
        "web3_sha3" => answer(&alloy::primitives::keccak256(params.get::<alloy::primitives::Bytes>(0, "data")?)),
        "net_version" => answer(&inner.chain.chain_id.to_string()),
        "net_listening" => answer(&true),
        "net_peerCount" => answer(&"0x0"),
        _ if method.starts_with("eth_") => eth::handle(inner, method, &params),
        _ => dev::handle(inner, method, &params),
    }
}
