//! The chain through alloy, in process and over its server.

mod blocks;
mod contracts;
mod model;
mod server;
mod time;
mod transactions;

use alloy::{
    network::{EthereumWallet, NetworkTransactionBuilder, TransactionBuilder},
    primitives::{Address, U256, address},
    providers::{DynProvider, Provider},
    rpc::types::{TransactionReceipt, TransactionRequest},
};
use conun_chain::{ChainConfig, Clock, SharedChain, dev_accounts};
use serde_json::Value;

/// Somebody who has nothing.
const STRANGER: Address = address!("000000000000000000000000000000000000dEaD");

/// A chain whose clock stands at a round time.
fn chain() -> SharedChain {
    SharedChain::new(ChainConfig { clock: Clock::Manual(1_000_000), ..ChainConfig::default() })
}

fn first() -> Address {
    dev_accounts()[0].address()
}

fn transfer(wei: u64) -> TransactionRequest {
    TransactionRequest::default().with_from(first()).with_to(STRANGER).with_value(U256::from(wei))
}

async fn mined(provider: &DynProvider, request: TransactionRequest) -> TransactionReceipt {
    provider.send_transaction(request).await.unwrap().get_receipt().await.unwrap()
}

/// Signs without sending.
async fn signed(request: TransactionRequest) -> alloy::consensus::TxEnvelope {
    request.build(&EthereumWallet::from(dev_accounts().swap_remove(0))).await.unwrap()
}

/// A transfer with everything filled in.
fn filled(nonce: u64, wei: u64, fee_gwei: u128) -> TransactionRequest {
    let fee = fee_gwei * 1_000_000_000;
    let request = transfer(wei).with_nonce(nonce).with_gas_limit(21_000).with_chain_id(31337);
    request.with_max_fee_per_gas(fee).with_max_priority_fee_per_gas(fee)
}

async fn raw(provider: &DynProvider, method: &'static str, params: Value) -> Value {
    provider.raw_request(method.into(), params).await.unwrap()
}
