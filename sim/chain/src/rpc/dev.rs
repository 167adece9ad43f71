//! `evm_*` and `anvil_*`: time, mining, state and re-orgs at will.

use alloy::primitives::{Address, Bytes, U64, U256};
use serde_json::{Value, json};

use super::{answer, params::Params};
use crate::{Answer, RpcError, chain::hardfork, shared::Inner};

/// Most blocks mined by one call.
const MAX_MINED: u64 = 100_000;

pub(super) fn handle(inner: &mut Inner, method: &str, params: &Params) -> Answer {
    let chain = &mut inner.chain;
    match method {
        "evm_mine" => {
            let (time, blocks) = mine_options(params)?;
            if let Some(time) = time {
                chain.set_time(time)?;
            }
            (0..at_most(blocks)?).for_each(|_| drop(chain.mine()));
            answer(&"0x0")
        }
        "anvil_mine" | "hardhat_mine" => {
            let blocks = params.opt_number(0, "a number of blocks")?.unwrap_or(1);
            let interval = params.opt_number(1, "seconds between the blocks")?.unwrap_or(0);
            for block in 0..at_most(blocks)? {
                if block > 0 && interval > 0 {
                    chain.increase_time(i64::try_from(interval).unwrap_or(i64::MAX));
                }
                chain.mine();
            }
            answer(&())
        }
        "evm_increaseTime" => {
            let seconds = params.number(0, "seconds")?;
            let seconds = i64::try_from(seconds).map_err(|_| RpcError::params("parameter 1: too many seconds"))?;
            answer(&chain.increase_time(seconds))
        }
        "evm_setNextBlockTimestamp" | "anvil_setNextBlockTimestamp" => {
            chain.set_time(params.number(0, "a UNIX time in seconds")?)?;
            answer(&())
        }
        "evm_setAutomine" | "anvil_setAutoMine" => {
            chain.automine = params.get(0, "true or false")?;
            answer(&true)
        }
        "anvil_getAutomine" => answer(&chain.automine),
        "evm_snapshot" | "anvil_snapshot" => answer(&U64::from(chain.snapshot())),
        "evm_revert" | "anvil_revert" => answer(&chain.revert(params.number(0, "a snapshot's number")?)),
        "anvil_reorg" => {
            // The second parameter is anvil's list of transactions to put in; here: whether the dropped ones come back.
            let keep = match params.opt::<Value>(1, "whether dropped transactions are mined again")? {
                Some(Value::Bool(keep)) => keep,
                Some(Value::Array(transactions)) if !transactions.is_empty() => {
                    return Err(RpcError::params("parameter 2: transactions cannot be put into the new blocks here"));
                }
                _ => false,
            };
            chain.reorg(params.number(0, "a number of blocks")?, keep)?;
            answer(&())
        }
        "anvil_setBalance" | "hardhat_setBalance" => {
            let (address, balance) = (address(params)?, params.get::<U256>(1, "wei")?);
            chain.edit(|state| state.set_balance(address, balance));
            answer(&())
        }
        "anvil_setCode" | "hardhat_setCode" => {
            let (address, code) = (address(params)?, params.get::<Bytes>(1, "code")?);
            chain.edit(|state| state.set_code(address, code));
            answer(&())
        }
        "anvil_setNonce" | "hardhat_setNonce" => {
            let (address, nonce) = (address(params)?, params.number(1, "a nonce")?);
            chain.edit(|state| state.set_nonce(address, nonce));
            answer(&())
        }
        "anvil_setStorageAt" | "hardhat_setStorageAt" => {
            let (address, slot, value) =
                (address(params)?, params.get::<U256>(1, "a slot")?, params.get::<U256>(2, "a value")?);
            chain.edit(|state| state.set_slot(address, slot, value));
            answer(&true)
        }
        "anvil_impersonateAccount" | "hardhat_impersonateAccount" => {
            chain.impersonated.insert(address(params)?);
            answer(&())
        }
        "anvil_stopImpersonatingAccount" | "hardhat_stopImpersonatingAccount" => {
            chain.impersonated.remove(&address(params)?);
            answer(&())
        }
        "anvil_nodeInfo" => answer(&json!({
            "currentBlockNumber": U64::from(chain.height()),
            "currentBlockTimestamp": chain.latest().header.inner.timestamp,
            "currentBlockHash": chain.latest().header.hash,
            "hardFork": hardfork(),
            "transactionOrder": "fees",
            "environment": {
                "baseFee": U64::from(chain.next_base_fee()),
                "chainId": chain.chain_id,
                "gasLimit": U64::from(chain.gas_limit()),
                "gasPrice": U64::from(chain.next_base_fee()),
            },
            "forkConfig": {},
        })),
        "txpool_status" => answer(&json!({ "pending": U64::from(chain.pool.iter().count()), "queued": "0x0" })),
        _ => Err(RpcError::unknown_method(method)),
    }
}

fn address(params: &Params) -> Result<Address, RpcError> {
    params.get(0, "an address")
}

fn at_most(blocks: u64) -> Result<u64, RpcError> {
    if blocks > MAX_MINED {
        return Err(RpcError::params(format!("at most {MAX_MINED} blocks at once")));
    }
    Ok(blocks)
}

/// `evm_mine` takes a time, or an object with a time and a number of blocks.
fn mine_options(params: &Params) -> Result<(Option<u64>, u64), RpcError> {
    let Some(Value::Object(options)) = params.opt::<Value>(0, "a time")? else {
        return Ok((params.opt_number(0, "a UNIX time in seconds")?, 1));
    };
    let option = |name: &str| Params::new(Value::Array(options.get(name).cloned().into_iter().collect()));
    let time = option("timestamp")?.opt_number(0, "`timestamp`, a UNIX time in seconds")?;
    Ok((time, option("blocks")?.opt_number(0, "`blocks`, a number")?.unwrap_or(1)))
}
