//! Transactions replayed a second from a local node, receipts compared: `cargo bench -p conun-replay --bench replay`.
//!
//! 10,000 transactions of ten accounts on a chain that is served on loopback: transfers, and deposits into the Escrow and out of it again.
//! Fetching, executing, comparing with receipts and with `eth_getStorageAt`, and checking the invariants are measured together. Prints a table
//! of its own.

use std::time::Instant;

use alloy::{
    network::EthereumWallet,
    primitives::{Address, B256, U256},
    providers::{Provider, ProviderBuilder},
    sol_types::SolCall,
};
use conun_bindings::{
    abi::{ConunToken, Escrow},
    deploy::{Plan, TOKEN, deploy, devnet_settings},
};
use conun_chain::{ChainConfig, Clock, SharedChain, dev_accounts};
use conun_replay::{Recording, SpecId, replay};

const TRANSACTIONS: u64 = 10_000;

#[tokio::main]
async fn main() {
    if !std::env::args().any(|arg| arg == "--bench") {
        return;
    }
    println!(
        "| transactions a block | blocks | seconds: fetched, replayed | transactions a second |\n|---|---|---|---|"
    );
    for in_block in [1, 100] {
        let chain = SharedChain::new(ChainConfig {
            clock: Clock::Manual(1_000_000),
            kept_states: 2 * TRANSACTIONS,
            ..ChainConfig::default()
        });
        let accounts: Vec<_> = dev_accounts().iter().map(|account| account.address()).collect();
        let plan = Plan::new(devnet_settings(accounts[0]), B256::ZERO);
        let contracts = deploy(&chain.dev_provider(), accounts[0], &plan, None, |_| {}).await.expect("it is deployed");
        let blocks = history(&chain, &accounts, contracts.token, contracts.escrow, in_block);
        let server = chain.serve("127.0.0.1:0".parse().expect("an address")).await.expect("a port is free");
        let wallet = EthereumWallet::from(dev_accounts().swap_remove(0));
        let provider = ProviderBuilder::new().wallet(wallet).connect(&server.url()).await.expect("it listens").erased();
        let start = Instant::now();
        let mut recording = Recording::take(&provider, contracts, contracts.block, None).await.expect("it is there");
        let fetched = start.elapsed().as_secs_f64();
        let report = replay(&mut recording, Some(provider), SpecId::OSAKA).await.expect("it is Ethereum's");
        let took = start.elapsed().as_secs_f64();
        assert!(report.differences.is_empty(), "{:?}", report.differences);
        assert!(report.transactions >= TRANSACTIONS && report.slots > TRANSACTIONS / in_block);
        let rate = report.transactions as f64 / took;
        println!("| {in_block} | {blocks} | {fetched:.2}, {:.2} | {rate:.0} |", took - fetched);
        server.stop().await;
    }
}

/// Makes the transactions. Returns the number of their blocks.
fn history(chain: &SharedChain, accounts: &[Address], token: Address, escrow: Address, in_block: u64) -> u64 {
    chain.by_hand();
    let before = chain.height();
    let mut nonces: Vec<_> = accounts.iter().map(|account| chain.nonce(*account)).collect();
    let mut time = 1_000_000;
    for number in 0..TRANSACTIONS {
        let at = (number % accounts.len() as u64) as usize;
        let round = number / accounts.len() as u64;
        let (to, input) = match round {
            0 => (token, ConunToken::approveCall { spender: escrow, value: U256::MAX }.abi_encode()),
            // The first has all tokens.
            round if at == 0 => {
                let to = accounts[(round % (accounts.len() as u64 - 1)) as usize + 1];
                (token, ConunToken::transferCall { to, value: U256::from(TOKEN) }.abi_encode())
            }
            round if round < 20 => {
                (token, ConunToken::transferCall { to: accounts[0], value: U256::ZERO }.abi_encode())
            }
            round if round % 2 == 0 => {
                (escrow, Escrow::depositCall { account: accounts[at], amount: U256::from(10) }.abi_encode())
            }
            _ => (escrow, Escrow::withdrawCall { amount: U256::from(10) }.abi_encode()),
        };
        let tx = alloy::consensus::TxEip1559 {
            chain_id: 31337,
            nonce: nonces[at],
            gas_limit: 200_000,
            max_fee_per_gas: 100_000_000_000,
            max_priority_fee_per_gas: 1_000_000_000,
            to: to.into(),
            input: input.into(),
            ..Default::default()
        };
        nonces[at] += 1;
        chain.queue(accounts[at], tx).expect("they have ether");
        if (number + 1) % in_block == 0 {
            time += 12;
            let mined = chain.mine_at(time, Some(1_000_000_000), |_, _| false);
            assert!(mined.receipts.iter().all(|receipt| receipt.status()), "{:?}", mined.receipts);
        }
    }
    chain.height() - before
}
