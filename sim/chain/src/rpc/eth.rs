//! `eth_*`.

use alloy::{
    consensus::{BlockHeader as _, Transaction as _},
    eips::BlockNumberOrTag,
    network::{Ethereum, EthereumWallet, NetworkWallet},
    primitives::{Address, B256, Bytes, U64, U256},
    rpc::types::{FeeHistory, Filter, Transaction, TransactionRequest, state::StateOverride},
    signers::local::PrivateKeySigner,
};
use futures_util::FutureExt;
use serde_json::Value;

use super::{
    answer, filters,
    params::{Params, number},
};
use crate::{
    Answer, Error, RpcError, chain::Chain, config::dev_accounts, execute::TX_GAS_CAP, shared::Inner, state::State,
};

/// Priority fee that the chain suggests, wei per gas.
const SUGGESTED_TIP: u64 = 1_000_000_000;

/// Most blocks of a fee history.
const MAX_FEE_HISTORY: u64 = 1024;

pub(super) fn handle(inner: &mut Inner, method: &str, params: &Params) -> Answer {
    let chain = &inner.chain;
    match method {
        "eth_chainId" => answer(&U64::from(chain.chain_id)),
        "eth_blockNumber" => answer(&U64::from(chain.height())),
        "eth_syncing" | "eth_mining" => answer(&false),
        "eth_accounts" => answer(&dev_accounts().iter().map(PrivateKeySigner::address).collect::<Vec<_>>()),
        "eth_getBalance" => answer(&state(chain, params, 1)?.balance(address(params)?)),
        "eth_getCode" => answer(&state(chain, params, 1)?.code(address(params)?)),
        "eth_getStorageAt" => {
            let value = state(chain, params, 2)?.slot(address(params)?, params.get(1, "a storage slot")?);
            answer(&B256::from(value))
        }
        "eth_getTransactionCount" => {
            let sender = address(params)?;
            let nonce = match params.block(1, chain)? {
                None => chain.pool.next_nonce(sender, chain.state()),
                Some(number) => chain.state_at(number)?.nonce(sender),
            };
            answer(&U64::from(nonce))
        }
        "eth_call" => {
            let (call, block, overrides) = call(chain, params)?;
            answer(&chain.call(call, block, |state| state.apply(overrides))?)
        }
        "eth_estimateGas" => {
            let (call, block, overrides) = call(chain, params)?;
            answer(&U64::from(chain.estimate(call, block, |state| state.apply(overrides))?))
        }
        "eth_gasPrice" => answer(&U64::from(chain.next_base_fee() + SUGGESTED_TIP)),
        "eth_maxPriorityFeePerGas" => answer(&U64::from(SUGGESTED_TIP)),
        "eth_blobBaseFee" => answer(&"0x1"),
        "eth_feeHistory" => fee_history(chain, params),
        "eth_sendRawTransaction" => {
            let raw: Bytes = params.get(0, "a signed transaction")?;
            sent(inner, |chain| chain.send_raw(&raw))
        }
        "eth_sendTransaction" => send_unsigned(inner, params.get(0, "a transaction")?),
        "eth_getTransactionByHash" => answer(&transaction(chain, params.get(0, "a transaction's hash")?)),
        "eth_getTransactionReceipt" => {
            let found = chain.transaction(params.get(0, "a transaction's hash")?);
            answer(&found.map(|(block, index)| &block.receipts[index]))
        }
        "eth_getTransactionByBlockNumberAndIndex" | "eth_getTransactionByBlockHashAndIndex" => {
            let index = params.number(1, "an index")? as usize;
            answer(&found_block(chain, method, params)?.and_then(|block| block.transactions.get(index)))
        }
        "eth_getBlockByNumber" | "eth_getBlockByHash" => {
            let full = params.opt(1, "whether transactions are wanted whole")?.unwrap_or(false);
            answer(&found_block(chain, method, params)?.map(|block| block.to_rpc(full)))
        }
        "eth_getBlockTransactionCountByNumber" | "eth_getBlockTransactionCountByHash" => {
            answer(&found_block(chain, method, params)?.map(|block| U64::from(block.transactions.len())))
        }
        "eth_getBlockReceipts" => {
            let block = params.block(0, chain).ok().and_then(|block| chain.block(block.unwrap_or(chain.height())));
            answer(&block.map(|block| &*block.receipts))
        }
        "eth_getUncleCountByBlockNumber" | "eth_getUncleCountByBlockHash" => answer(&"0x0"),
        "eth_getLogs" => answer(&filters::logs(chain, &params.get::<Filter>(0, "a log filter")?)?),
        "eth_newFilter" => answer(&inner.filters.add_logs(params.get(0, "a log filter")?, inner.chain.height())),
        "eth_newBlockFilter" => answer(&inner.filters.add_blocks(inner.chain.height())),
        "eth_newPendingTransactionFilter" => answer(&inner.filters.add_pending(inner.chain.height())),
        "eth_getFilterChanges" => inner.filters.changes(params.get(0, "a filter's id")?, &inner.chain),
        "eth_getFilterLogs" => answer(&inner.filters.all_logs(params.get(0, "a filter's id")?, &inner.chain)?),
        "eth_uninstallFilter" => answer(&inner.filters.remove(params.get(0, "a filter's id")?)),
        "eth_subscribe" | "eth_unsubscribe" => Err(RpcError {
            code: -32601,
            message: "subscriptions need a WebSocket: use ws:// instead of http://".to_owned(),
            data: None,
        }),
        _ => Err(RpcError::unknown_method(method)),
    }
}

fn address(params: &Params) -> Result<Address, RpcError> {
    params.get(0, "an address")
}

fn state<'a>(chain: &'a Chain, params: &Params, block: usize) -> Result<&'a State, RpcError> {
    match params.block(block, chain)? {
        None => Ok(chain.state()),
        Some(number) => Ok(chain.state_at(number)?),
    }
}

type CallParams = (TransactionRequest, Option<u64>, StateOverride);

fn call(chain: &Chain, params: &Params) -> Result<CallParams, RpcError> {
    let call: TransactionRequest = params.get(0, "a call")?;
    if call.gas_price.is_some() && (call.max_fee_per_gas.is_some() || call.max_priority_fee_per_gas.is_some()) {
        return Err(RpcError::params("parameter 1: both gasPrice and maxFeePerGas or maxPriorityFeePerGas are given"));
    }
    if params.opt::<serde_json::Map<String, Value>>(3, "block overrides")?.is_some_and(|given| !given.is_empty()) {
        return Err(RpcError::params("parameter 4: block overrides are not supported here"));
    }
    Ok((call, params.block(1, chain)?, params.opt(2, "state overrides")?.unwrap_or_default()))
}

fn found_block<'a>(
    chain: &'a Chain,
    method: &str,
    params: &Params,
) -> Result<Option<&'a std::sync::Arc<crate::chain::Block>>, RpcError> {
    if method.contains("Hash") {
        return Ok(chain.block_by_hash(params.get(0, "a block's hash")?));
    }
    let tag: BlockNumberOrTag = params.get(0, "a block's number or tag")?;
    // A block still to come is not there; nodes answer null. The pending block is shown as the latest.
    Ok(number(tag, chain).ok().and_then(|number| chain.block(number.unwrap_or(chain.height()))))
}

/// A mined or waiting transaction.
pub(crate) fn transaction(chain: &Chain, hash: B256) -> Option<Transaction> {
    let mined = chain.transaction(hash).map(|(block, index)| block.transactions[index].clone());
    mined.or_else(|| chain.pool.find(hash).map(pending))
}

/// A waiting transaction as JSON-RPC shows it.
fn pending(tx: &alloy::consensus::transaction::Recovered<alloy::consensus::TxEnvelope>) -> Transaction {
    Transaction {
        inner: tx.clone(),
        block_hash: None,
        block_number: None,
        transaction_index: None,
        effective_gas_price: None,
        block_timestamp: None,
    }
}

fn sent(inner: &mut Inner, send: impl FnOnce(&mut Chain) -> Result<B256, Error>) -> Answer {
    let hash = send(&mut inner.chain)?;
    inner.filters.note_pending(hash);
    answer(&hash)
}

/// Signs with a devnet key, or takes an impersonated sender's word for it.
fn send_unsigned(inner: &mut Inner, mut request: TransactionRequest) -> Answer {
    let chain = &inner.chain;
    let sender = request.from.ok_or_else(|| RpcError::params("parameter 1: `from` is missing"))?;
    let signer = dev_accounts().into_iter().find(|signer| signer.address() == sender);
    let impersonated = chain.impersonated.contains(&sender);
    if signer.is_none() && !impersonated {
        return Err(RpcError {
            code: -32000,
            message: format!("no key for {sender} here: sign it yourself and use eth_sendRawTransaction"),
            data: None,
        });
    }
    request.chain_id = Some(chain.chain_id);
    request.nonce.get_or_insert(chain.pool.next_nonce(sender, chain.state()));
    if request.gas_price.is_none() {
        let tip = *request.max_priority_fee_per_gas.get_or_insert(SUGGESTED_TIP.into());
        request.max_fee_per_gas.get_or_insert(2 * u128::from(chain.next_base_fee()) + tip);
    }
    if request.gas.is_none() {
        request.gas =
            Some(chain.estimate(request.clone(), None, |_| {})?.saturating_mul(12).saturating_div(10).min(TX_GAS_CAP));
    }
    if request.to.is_none() {
        request.to = Some(alloy::primitives::TxKind::Create);
    }
    let malformed = |error: String| RpcError::params(format!("parameter 1: {error}"));
    let tx = match signer {
        Some(signer) => {
            let unsigned = request.build_typed_tx().map_err(|_| malformed("a field is missing".to_owned()))?;
            let wallet = EthereumWallet::from(signer);
            // Signing with a key in memory is over at the first poll.
            let signed = NetworkWallet::<Ethereum>::sign_transaction(&wallet, unsigned).now_or_never();
            signed
                .transpose()
                .map_err(|error| malformed(error.to_string()))?
                .ok_or_else(|| malformed("it could not be signed".to_owned()))?
        }
        None => {
            use alloy::consensus::SignableTransaction as _;
            let typed = request.build_typed_tx().map_err(|_| malformed("a field is missing".to_owned()))?;
            // The signature says who impersonates whom; nobody recovers a sender from it.
            let signature = alloy::primitives::Signature::new(U256::from_be_slice(sender.as_slice()), U256::ONE, false);
            typed.into_signed(signature).into()
        }
    };
    let tx = alloy::consensus::transaction::Recovered::new_unchecked(tx, sender);
    sent(inner, |chain| chain.send(tx))
}

fn fee_history(chain: &Chain, params: &Params) -> Answer {
    let count = params.number(0, "a number of blocks")?.min(MAX_FEE_HISTORY);
    let newest = number(params.get(1, "the newest block")?, chain)?.unwrap_or(chain.height());
    let percentiles: Vec<f64> = params.opt(2, "percentiles")?.unwrap_or_default();
    if percentiles.iter().any(|percentile| !(0.0..=100.0).contains(percentile)) || !percentiles.is_sorted() {
        return Err(RpcError::params("parameter 3: percentiles rise from 0 to 100"));
    }
    let oldest = (newest + 1).saturating_sub(count);
    let mut history = FeeHistory { oldest_block: oldest, ..FeeHistory::default() };
    let mut rewards = Vec::new();
    for block in (oldest..=newest).filter_map(|number| chain.block(number)) {
        let base_fee = block.header.base_fee_per_gas().unwrap_or(0);
        history.base_fee_per_gas.push(base_fee.into());
        history.gas_used_ratio.push(block.header.gas_used() as f64 / block.header.gas_limit() as f64);
        history.base_fee_per_blob_gas.push(1);
        history.blob_gas_used_ratio.push(0.0);
        rewards.push(block_rewards(block, base_fee, &percentiles));
    }
    let next = match chain.block(newest + 1) {
        Some(block) => block.header.base_fee_per_gas().unwrap_or(0),
        None => chain.next_base_fee(),
    };
    history.base_fee_per_gas.push(next.into());
    history.base_fee_per_blob_gas.push(1);
    history.reward = (!percentiles.is_empty()).then_some(rewards);
    answer(&history)
}

/// Tips of a block at percentiles of its gas.
fn block_rewards(block: &crate::chain::Block, base_fee: u64, percentiles: &[f64]) -> Vec<u128> {
    let tip = |tx: &Transaction| tx.inner.effective_tip_per_gas(base_fee).unwrap_or(0);
    let mut tips: Vec<_> =
        block.transactions.iter().zip(&*block.receipts).map(|(tx, receipt)| (tip(tx), receipt.gas_used)).collect();
    tips.sort_unstable();
    let at = |percentile: &f64| {
        let wanted = block.header.gas_used() as f64 * percentile / 100.0;
        let mut gas = 0;
        let found = tips.iter().find(|(_, used)| {
            gas += used;
            gas as f64 >= wanted
        });
        found.map_or(0, |(tip, _)| *tip)
    };
    percentiles.iter().map(at).collect()
}
