//! ERC-20 transfers a second: `cargo bench -p conun-chain --bench transfers`.
//!
//! Directly, as a simulation sends them; through an alloy provider on the transport in the process, which fills in, signs, sends and waits
//! for each receipt; and the same through JSON-RPC on a real anvil, where there is one, in the same run, turn about. Prints a table of its own.

use std::{
    io::{BufRead, BufReader},
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use alloy::{
    consensus::TxEip1559,
    network::EthereumWallet,
    primitives::{Address, B256, U256, keccak256},
    providers::{DynProvider, Provider, ProviderBuilder},
    sol_types::SolCall,
};
use conun_bindings::{
    abi::ConunToken,
    deploy::{Plan, deploy, devnet_settings},
};
use conun_chain::{ChainConfig, Clock, SharedChain, dev_accounts};

/// Senders of the direct path.
const SENDERS: usize = 100;

/// Transfers of each sender between two blocks, and blocks.
const EACH: u64 = 10;
const BLOCKS: u64 = 100;

/// Transfers through a provider in a turn, and turns.
const SEQUENTIAL: u64 = 1_000;
const TURNS: usize = 3;

/// Ends with the bench.
struct Anvil(Child);

impl Drop for Anvil {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn anvil() -> Option<(Anvil, String)> {
    let modules = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../node_modules/@foundry-rs");
    let folders = std::fs::read_dir(modules).ok()?.filter_map(Result::ok).map(|entry| entry.path().join("bin/anvil"));
    let path = folders.into_iter().find(|path| path.exists())?;
    let mut child = Command::new(path).args(["--port", "0"]).stdout(Stdio::piped()).spawn().ok()?;
    let mut lines = BufReader::new(child.stdout.take()?).lines();
    let address = lines.find_map(|line| line.ok()?.strip_prefix("Listening on ").map(str::to_owned))?;
    // What it prints later must not fill the pipe.
    std::thread::spawn(move || lines.for_each(drop));
    Some((Anvil(child), format!("http://{address}")))
}

fn recipient(number: u64) -> Address {
    Address::from_word(keccak256(number.to_be_bytes()))
}

async fn token(provider: &DynProvider) -> Address {
    let first = dev_accounts()[0].address();
    let plan = Plan::new(devnet_settings(first), B256::ZERO);
    deploy(provider, first, &plan, None, |_| {}).await.expect("the contracts can be deployed").token
}

/// Transfers a second, each sent once the receipt of the one before is there.
async fn sequential(provider: &DynProvider, token: Address, first: u64) -> f64 {
    let token = ConunToken::new(token, provider);
    let start = Instant::now();
    for number in first..first + SEQUENTIAL {
        let sent = token.transfer(recipient(number), U256::ONE).send().await.expect("the holder has tokens");
        assert!(sent.get_receipt().await.expect("it is mined at once").status());
    }
    SEQUENTIAL as f64 / start.elapsed().as_secs_f64()
}

/// Transfers a second of many senders, to accounts that have none before or have some: queued, mined, receipts made.
fn direct(fresh: bool) -> f64 {
    let senders: Vec<_> = (0..SENDERS as u64).map(|number| recipient(u64::MAX - number)).collect();
    let mut config = ChainConfig { clock: Clock::Manual(1_000_000), kept_states: 8, ..ChainConfig::default() };
    config.balances.extend(senders.iter().map(|sender| (*sender, U256::from(10).pow(U256::from(21)))));
    let chain = SharedChain::new(config);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let (token, holder) = (runtime.block_on(token(&chain.dev_provider())), dev_accounts()[0].address());
    chain.by_hand();
    let transfer = |sender: Address, nonce: u64, to: Address, amount: u64| {
        let tx = TxEip1559 {
            chain_id: 31337,
            nonce,
            gas_limit: 60_000,
            max_fee_per_gas: 100_000_000_000,
            max_priority_fee_per_gas: 1_000_000_000,
            to: token.into(),
            input: ConunToken::transferCall { to, value: U256::from(amount) }.abi_encode().into(),
            ..TxEip1559::default()
        };
        chain.queue(sender, tx).expect("senders have ether");
    };
    let first = chain.nonce(holder);
    (first..).zip(&senders).for_each(|(nonce, sender)| transfer(holder, nonce, *sender, 1_000_000));
    let mut time = 1_000_000;
    let mut mine = || {
        time += 12;
        let mined = chain.mine_at(time, Some(1_000_000_000), |_, _| false);
        assert!(mined.receipts.iter().all(|receipt| receipt.status()));
        mined.receipts.len()
    };
    assert_eq!(mine(), SENDERS);
    let start = Instant::now();
    let (mut number, mut mined) = (0, 0);
    for block in 0..BLOCKS {
        for nonce in block * EACH..(block + 1) * EACH {
            for sender in &senders {
                number += 1;
                transfer(*sender, nonce, recipient(if fresh { number } else { number % 1_000 }), 1);
            }
        }
        mined += mine();
    }
    let took = start.elapsed().as_secs_f64();
    assert_eq!(mined as u64, number);
    mined as f64 / took
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    if !std::env::args().any(|arg| arg == "--bench") {
        return;
    }
    println!("| way | ERC-20 transfers a second, each turn |\n|---|---|");
    for (what, fresh) in [("to a thousand accounts again and again", false), ("each to another account", true)] {
        let turns = (0..TURNS).map(|_| std::thread::spawn(move || direct(fresh)).join().expect("no turn fails"));
        let turns: Vec<_> = turns.map(|rate| format!("{rate:.0}")).collect();
        println!("| direct, {what} | {} |", turns.join(", "));
    }
    let chain = SharedChain::new(ChainConfig { clock: Clock::Manual(1_000_000), ..ChainConfig::default() });
    let mut ways = vec![("alloy provider, in the process", chain.dev_provider())];
    let anvil = anvil();
    if let Some((_, url)) = &anvil {
        let wallet = EthereumWallet::from(dev_accounts().swap_remove(0));
        let provider = ProviderBuilder::new().wallet(wallet).connect(url).await.expect("anvil listens").erased();
        ways.push(("alloy provider, anvil by RPC", provider));
    }
    let mut rates = vec![Vec::new(); ways.len()];
    let mut tokens = Vec::new();
    for (_, provider) in &ways {
        provider.client().set_poll_interval(Duration::from_millis(1));
        tokens.push(token(provider).await);
    }
    for turn in 0..TURNS {
        for (at, (_, provider)) in ways.iter().enumerate() {
            rates[at].push(sequential(provider, tokens[at], turn as u64 * SEQUENTIAL).await);
        }
    }
    for ((what, _), rates) in ways.iter().zip(&rates) {
        let rates: Vec<_> = rates.iter().map(|rate| format!("{rate:.0}")).collect();
        println!("| {what} | {} |", rates.join(", "));
    }
    if let [ours, anvils] = &rates[..] {
        let ratios = ours.iter().zip(anvils).map(|(ours, anvils)| format!("{:.1}", ours / anvils));
        println!("| the first / the second | {} |", ratios.collect::<Vec<_>>().join(", "));
    }
}
