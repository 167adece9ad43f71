use alloy::{
    primitives::{Address, B256, U256},
    providers::Provider,
};
use conun_bindings::{
    abi::{ConunToken, ProviderRegistry},
    deploy::{Plan, TOKEN, deploy, devnet_settings},
};
use conun_chain::{ChainConfig, Clock, SharedChain, dev_accounts};
use serde_json::{Value, json};

use super::*;

pub(super) struct Net {
    pub(super) chain: SharedChain,
    pub(super) contracts: Contracts,
}

fn address(account: usize) -> Address {
    dev_accounts()[account].address()
}

impl Net {
    pub(super) async fn new() -> Self {
        let chain = SharedChain::new(ChainConfig { clock: Clock::Manual(1_000_000), ..ChainConfig::default() });
        let plan = Plan::new(devnet_settings(address(0)), B256::ZERO);
        let contracts = deploy(&chain.dev_provider(), address(0), &plan, None, |_| {}).await.unwrap();
        Self { chain, contracts }
    }

    pub(super) fn rpc(&self, method: &str, params: Value) {
        self.chain.handle(method, params).unwrap();
    }

    pub(super) async fn follower(&self) -> Follower {
        Follower::new(self.chain.provider(), self.contracts, 0).await.unwrap()
    }

    /// Registers an account as a provider that listens on `port`.
    pub(super) async fn register(&self, account: usize, port: u16) {
        // A fresh one: it remembers no nonces of blocks that are gone.
        let provider = self.chain.dev_provider();
        let stake = U256::from(100 * TOKEN);
        let token = ConunToken::new(self.contracts.token, &provider);
        token.transfer(address(account), stake).send().await.unwrap().get_receipt().await.unwrap();
        token
            .approve(self.contracts.escrow, stake)
            .from(address(account))
            .send()
            .await
            .unwrap()
            .get_receipt()
            .await
            .unwrap();
        let none =
            ProviderRegistry::Permit { value: U256::ZERO, deadline: U256::ZERO, v: 0, r: B256::ZERO, s: B256::ZERO };
        let contact = ProviderRegistry::Contact { endpoint: B256::repeat_byte(1), hint: format!("127.0.0.1:{port}") };
        let registry = ProviderRegistry::new(self.contracts.providers, &provider);
        let call = registry.register(address(account), contact, stake, none).from(address(account));
        assert!(call.send().await.unwrap().get_receipt().await.unwrap().status());
    }

    /// What a follower that starts now reads.
    async fn fresh(&self) -> String {
        let mut follower = self.follower().await;
        follower.poll().await.unwrap();
        format!("{:?}", follower.index())
    }
}

pub(super) fn ports(follower: &Follower) -> Vec<u16> {
    let mut ports: Vec<_> = follower.index().providers.values().map(|entry| entry.contact.hints[0].port()).collect();
    ports.sort_unstable();
    ports
}

#[tokio::test]
async fn a_reorg_is_taken_back_and_what_replaces_it_is_read() {
    let net = Net::new().await;
    let mut follower = net.follower().await;
    net.register(1, 1).await;
    follower.poll().await.unwrap();
    net.rpc("anvil_mine", json!([5]));
    follower.poll().await.unwrap();
    net.register(2, 2).await;
    let head = follower.poll().await.unwrap();
    assert_eq!((ports(&follower), follower.reorgs()), (vec![1, 2], 0));

    // Three transactions, three blocks: all of the second registration.
    net.rpc("anvil_reorg", json!([3]));
    let replaced = follower.poll().await.unwrap();
    assert_eq!((replaced.number, ports(&follower), follower.reorgs()), (head.number, vec![1], 1));
    assert_ne!(replaced.hash, head.hash);

    net.register(3, 3).await;
    follower.poll().await.unwrap();
    assert_eq!(ports(&follower), [1, 3]);
    assert_eq!(format!("{:?}", follower.index()), net.fresh().await);
}

#[tokio::test]
async fn a_chain_that_becomes_shorter_is_followed_back() {
    let net = Net::new().await;
    net.register(1, 1).await;
    let snapshot = net.chain.handle("evm_snapshot", json!([])).unwrap();
    net.register(2, 2).await;
    let mut follower = net.follower().await;
    let head = follower.poll().await.unwrap();
    net.rpc("evm_revert", json!([snapshot]));
    let shorter = follower.poll().await.unwrap();
    assert!(shorter.number < head.number);
    assert_eq!(ports(&follower), [1]);
}

#[tokio::test]
async fn a_long_chain_is_read_the_same_from_any_depth_of_reorg() {
    let net = Net::new().await;
    let mut follower = net.follower().await;
    for (port, blocks) in [(1, 200), (2, 200), (3, 10), (4, 10)] {
        net.register(usize::from(port), port).await;
        for _ in 0..blocks / 10 {
            net.rpc("anvil_mine", json!([10]));
            follower.poll().await.unwrap();
        }
    }
    assert_eq!(follower.base.providers.len(), 1, "what lies deep has moved to the lagging index");
    assert!(follower.tail.iter().all(|log| log.block_number > Some(follower.seen[0].number)));
    // Shallow, to the middle of what is kept, and deeper than anything kept.
    for (depth, left) in [(12, vec![1, 2, 3]), (30, vec![1, 2]), (400, vec![1])] {
        net.rpc("anvil_reorg", json!([depth]));
        follower.poll().await.unwrap();
        assert_eq!(ports(&follower), left, "{depth}");
        assert_eq!(format!("{:?}", follower.index()), net.fresh().await, "{depth}");
    }
    assert_eq!(follower.reorgs(), 3);
}

#[tokio::test]
async fn another_chain_and_missing_contracts_are_refused() {
    let net = Net::new().await;
    let elsewhere = Contracts { chain_id: 1, ..net.contracts };
    let error = Follower::new(net.chain.provider(), elsewhere, 0).await.unwrap_err();
    assert!(matches!(error, Error::WrongChain { found: 31337, expected: 1 }), "{error}");
    let nowhere = Contracts { providers: Address::repeat_byte(9), ..net.contracts };
    let error = Follower::new(net.chain.provider(), nowhere, 0).await.unwrap_err();
    assert!(matches!(error, Error::NoContracts(at) if at == Address::repeat_byte(9)), "{error}");
}

#[tokio::test]
async fn confirmations_hold_the_index_back() {
    let net = Net::new().await;
    net.register(1, 1).await;
    let mut follower = Follower::new(net.chain.provider(), net.contracts, 2).await.unwrap();
    let head = follower.poll().await.unwrap();
    assert_eq!(head.number + 2, net.chain.provider().get_block_number().await.unwrap());
    assert!(follower.index().providers.is_empty());
    net.rpc("anvil_mine", json!([2]));
    follower.poll().await.unwrap();
    assert_eq!(ports(&follower), [1]);
}
