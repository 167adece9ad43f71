//! Positional parameters.

use alloy::{
    eips::{BlockId, BlockNumberOrTag},
    primitives::U256,
};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::{Error, RpcError, chain::Chain, error::unknown_hash};

pub(super) struct Params(Vec<Value>);

impl Params {
    pub(super) fn new(params: Value) -> Result<Self, RpcError> {
        match params {
            Value::Array(params) => Ok(Self(params)),
            Value::Null => Ok(Self(Vec::new())),
            _ => Err(RpcError::params("parameters are given as an array")),
        }
    }

    /// Parameter `index`, which is `what`.
    pub(super) fn get<T: DeserializeOwned>(&self, index: usize, what: &str) -> Result<T, RpcError> {
        let value = self.0.get(index).cloned().unwrap_or(Value::Null);
        serde_json::from_value(value)
            .map_err(|error| RpcError::params(format!("parameter {}: expected {what}: {error}", index + 1)))
    }

    /// Parameter `index` if it is there.
    pub(super) fn opt<T: DeserializeOwned>(&self, index: usize, what: &str) -> Result<Option<T>, RpcError> {
        match self.0.get(index) {
            None | Some(Value::Null) => Ok(None),
            Some(_) => self.get(index, what).map(Some),
        }
    }

    /// A number: hexadecimal text, decimal text or a JSON number.
    pub(super) fn number(&self, index: usize, what: &str) -> Result<u64, RpcError> {
        self.opt_number(index, what)?
            .ok_or_else(|| RpcError::params(format!("parameter {}: expected {what}", index + 1)))
    }

    pub(super) fn opt_number(&self, index: usize, what: &str) -> Result<Option<u64>, RpcError> {
        let Some(number) = self.opt::<U256>(index, what)? else { return Ok(None) };
        let number =
            number.try_into().map_err(|_| RpcError::params(format!("parameter {}: {what} is too large", index + 1)))?;
        Ok(Some(number))
    }

    /// The block that parameter `index` names: `None` for the pending one.
    pub(super) fn block(&self, index: usize, chain: &Chain) -> Result<Option<u64>, RpcError> {
        let id = self.opt::<BlockId>(index, "a block")?.unwrap_or_default();
        match id {
            BlockId::Number(tag) => number(tag, chain),
            BlockId::Hash(hash) => {
                let block = chain.block_by_hash(hash.block_hash).ok_or_else(|| unknown_hash(hash.block_hash))?;
                Ok(Some(block.number()))
            }
        }
    }
}

/// The number of the block that `tag` names, `None` for the pending one. Nothing is ever undone here but on demand, so that the
/// latest block is as safe and final as any.
pub(super) fn number(tag: BlockNumberOrTag, chain: &Chain) -> Result<Option<u64>, RpcError> {
    match tag {
        BlockNumberOrTag::Pending => Ok(None),
        BlockNumberOrTag::Earliest => Ok(Some(0)),
        BlockNumberOrTag::Number(number) if number > chain.height() => {
            Err(Error::UnknownBlock(number.to_string()).into())
        }
        BlockNumberOrTag::Number(number) => Ok(Some(number)),
        _ => Ok(Some(chain.height())),
    }
}
