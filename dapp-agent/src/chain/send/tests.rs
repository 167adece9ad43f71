//! One account, one nonce, one transaction: through restarts, re-orgs, strangers and fees. Money is what tells transactions apart.

use std::{
    path::Path,
    sync::{Arc, atomic::Ordering},
};

use alloy::{
    consensus::Transaction as _, eips::BlockNumberOrTag, providers::Provider, signers::local::PrivateKeySigner,
};
use conun_chain::{ChainConfig, Clock, SharedChain, dev_accounts};
use serde_json::json;
use tempfile::TempDir;

use super::*;

struct Bench {
    chain: SharedChain,
    folder: TempDir,
    signer: PrivateKeySigner,
}

/// Whom a payment of `n` goes to.
fn payee(n: u8) -> Address {
    Address::repeat_byte(n)
}

fn payment(n: u8) -> TransactionRequest {
    TransactionRequest::default().with_to(payee(n)).with_value(U256::from(n))
}

impl Bench {
    fn new() -> Self {
        let chain = SharedChain::new(ChainConfig { clock: Clock::Manual(1_000_000), ..ChainConfig::default() });
        Self { chain, folder: tempfile::tempdir().unwrap(), signer: dev_accounts()[1].clone() }
    }

    fn provider(&self) -> DynProvider {
        self.chain.provider_for(self.signer.clone())
    }

    /// As after a start of the process.
    fn sender(&self) -> Sender {
        let journal = Arc::new(Journal::open(self.folder.path()).unwrap());
        let sender = Sender::new(self.provider(), self.signer.address()).with_journal(journal).unwrap();
        Sender { stall: Duration::from_millis(40), receipt_lag: Duration::from_millis(10), ..sender }
    }

    fn automine(&self, on: bool) {
        self.chain.handle("evm_setAutomine", json!([on])).unwrap();
    }

    async fn waiting(&self) -> usize {
        let known = self.provider().get_transaction_count(self.signer.address()).pending().await.unwrap();
        (known - self.provider().get_transaction_count(self.signer.address()).await.unwrap()) as usize
    }

    /// Lets `send` go on until `count` transactions wait, then kills it with its sender.
    async fn kill_once_waiting(&self, sender: Sender, n: u8, count: usize) {
        let sending = sender.send("pay", payment(n));
        tokio::select! {
            result = sending => panic!("{result:?}"),
            () = async { while self.waiting().await < count { tokio::time::sleep(Duration::from_millis(5)).await } } => {}
        }
    }

    /// Payees of the account's transactions by nonce, of all blocks.
    async fn paid(&self) -> Vec<Address> {
        let mut paid = Vec::new();
        for number in 0..=self.chain.height() {
            let block = self.provider().get_block_by_number(number.into()).full().await.unwrap().unwrap();
            let own = block.transactions.txns().filter(|tx| tx.inner.signer() == self.signer.address());
            paid.extend(own.map(|tx| (tx.nonce(), tx.to().unwrap())));
        }
        paid.sort_unstable();
        assert!((0..).zip(&paid).all(|(nonce, (found, _))| nonce == *found), "{paid:?}");
        paid.into_iter().map(|(_, payee)| payee).collect()
    }
}

#[tokio::test]
async fn what_waited_before_a_restart_is_carried_on_and_nothing_else_goes_out_under_its_nonce() {
    let bench = Bench::new();
    bench.automine(false);
    bench.kill_once_waiting(bench.sender(), 1, 1).await;
    let sender = bench.sender();
    // Raised a few times meanwhile: the same payment all the same.
    let sending = sender.send("pay", payment(2));
    let mining = async {
        tokio::time::sleep(Duration::from_millis(150)).await;
        assert_eq!(bench.waiting().await, 1);
        bench.automine(true);
        bench.chain.mine();
    };
    let (sent, ()) = tokio::join!(sending, mining);
    assert!(sent.unwrap().status());
    assert_eq!(bench.paid().await, [payee(1), payee(2)]);
}

#[tokio::test]
async fn what_was_noted_but_never_sent_is_sent_first() {
    let bench = Bench::new();
    let journal = Journal::open(bench.folder.path()).unwrap();
    let request = payment(1).with_from(bench.signer.address()).with_nonce(0).with_gas_limit(30_000);
    let fee = bench.provider().get_gas_price().await.unwrap() * 2;
    journal.keep_sent(&[Sent { kind: "pay".to_owned(), nonce: 0, request, fee, tip: 1 }]).unwrap();
    drop(journal);
    bench.sender().send("pay", payment(2)).await.unwrap();
    assert_eq!(bench.paid().await, [payee(1), payee(2)]);
}

#[tokio::test]
async fn one_that_the_contract_would_refuse_by_now_and_no_node_has_is_let_go() {
    let bench = Bench::new();
    let journal = Journal::open(bench.folder.path()).unwrap();
    // Code that reverts, whoever calls it.
    let reverts = payee(9);
    bench.chain.handle("anvil_setCode", json!([reverts, "0x60006000fd"])).unwrap();
    let request = payment(9).with_from(bench.signer.address()).with_nonce(0).with_gas_limit(30_000);
    journal.keep_sent(&[Sent { kind: "pay".to_owned(), nonce: 0, request, fee: 1, tip: 1 }]).unwrap();
    drop(journal);
    bench.sender().send("pay", payment(2)).await.unwrap();
    assert_eq!(bench.paid().await, [payee(2)]);
}

#[tokio::test]
async fn after_a_reorg_the_same_transaction_takes_its_nonce_again() {
    let bench = Bench::new();
    let sender = bench.sender();
    sender.send("pay", payment(1)).await.unwrap();
    sender.send("pay", payment(2)).await.unwrap();
    sender.send("pay", payment(3)).await.unwrap();
    // Two blocks are gone with their transactions, which no node remembers.
    bench.chain.handle("anvil_reorg", json!([2])).unwrap();
    sender.send("pay", payment(4)).await.unwrap();
    assert_eq!(bench.paid().await, [payee(1), payee(2), payee(3), payee(4)]);
}

#[tokio::test]
async fn a_reorg_below_a_waiting_transaction_leaves_no_gap_before_it() {
    let bench = Bench::new();
    let sender = Sender { stall: Duration::from_secs(3_600), ..bench.sender() };
    sender.send("pay", payment(1)).await.unwrap();
    sender.send("pay", payment(2)).await.unwrap();
    bench.automine(false);
    let sending = sender.send("pay", payment(3));
    let undoing = async {
        while bench.waiting().await < 1 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        // The blocks of the first two are gone, and no node remembers those.
        bench.chain.handle("anvil_reorg", json!([2])).unwrap();
        bench.automine(true);
    };
    let (sent, ()) = tokio::join!(sending, undoing);
    assert!(sent.unwrap().status());
    assert_eq!(bench.paid().await, [payee(1), payee(2), payee(3)]);
}

#[tokio::test]
async fn transactions_of_another_program_are_waited_for_and_told_when_they_take_a_nonce() {
    let bench = Bench::new();
    bench.automine(false);
    let other = bench.provider();
    let _pending = other.send_transaction(payment(7).with_nonce(0)).await.unwrap();
    let sender = bench.sender();
    {
        let sending = sender.send("pay", payment(1));
        let mining = async {
            while bench.waiting().await < 2 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            bench.automine(true);
            bench.chain.mine();
        };
        let (sent, ()) = tokio::join!(sending, mining);
        sent.unwrap();
    }
    assert_eq!(bench.paid().await, [payee(7), payee(1)]);

    bench.automine(false);
    let sending = sender.send("pay", payment(2));
    let stealing = async {
        while bench.waiting().await < 1 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let rich = 10u128.pow(14);
        let steal = payment(8).with_nonce(2).with_max_fee_per_gas(rich).with_max_priority_fee_per_gas(rich);
        let _pending = other.send_transaction(steal).await.unwrap();
        bench.automine(true);
        bench.chain.mine();
    };
    let (sent, ()) = tokio::join!(sending, stealing);
    assert!(matches!(sent, Err(SendError::Overtaken { nonce: 2, .. })), "{sent:?}");
    assert_eq!(bench.paid().await, [payee(7), payee(1), payee(8)]);
}

#[tokio::test]
async fn fees_rise_up_to_the_cap_and_no_further() {
    let bench = Bench::new();
    let price = bench.provider().get_gas_price().await.unwrap();
    let sender = bench.sender().with_max_fee(Some(price / 2));
    let error = sender.send("pay", payment(1)).await.unwrap_err();
    assert!(matches!(error, SendError::FeeTooHigh { .. }) && error.to_string().contains("max-fee-gwei"), "{error}");
    assert_eq!(bench.waiting().await, 0);

    bench.automine(false);
    let most = price * 3;
    let sender = sender.with_max_fee(Some(most));
    let error = sender.send("pay", payment(1)).await.unwrap_err();
    assert!(matches!(error, SendError::Stuck { .. }), "{error}");
    bench.automine(true);
    bench.chain.mine();
    let block = bench.provider().get_block_by_number(BlockNumberOrTag::Latest).full().await.unwrap().unwrap();
    let fees: Vec<_> = block.transactions.txns().map(|tx| tx.max_fee_per_gas()).collect();
    assert!(fees.len() == 1 && fees[0] <= most, "{fees:?} of {most}");
    sender.send("pay", payment(2)).await.unwrap();
    assert_eq!(bench.paid().await, [payee(1), payee(2)]);
}

#[tokio::test]
async fn whoever_cannot_pay_for_what_follows_does_not_begin() {
    let bench = Bench::new();
    let sender = bench.sender();
    sender.require_ether("lease", 300_000).await.unwrap();
    let address = bench.signer.address();
    bench.chain.handle("anvil_setBalance", json!([address, "0x1"])).unwrap();
    let error = sender.require_ether("lease", 300_000).await.unwrap_err();
    assert!(error.to_string().contains("conun account send"), "{error}");
}

#[test]
fn a_journal_keeps_the_latest_transactions() {
    fn outbox(folder: &Path) -> Outbox {
        Outbox::open(Arc::new(Journal::open(folder).unwrap())).unwrap()
    }
    let folder = tempfile::tempdir().unwrap();
    let sent = |nonce| Sent { kind: "pay".to_owned(), nonce, request: payment(1), fee: 5, tip: 1 };
    let mut first = outbox(folder.path());
    (0..100).rev().for_each(|nonce| first.keep(sent(nonce)).unwrap());
    drop(first);
    let mut again = outbox(folder.path());
    assert_eq!(again.first_from(0).unwrap().nonce, 36, "the oldest of 64");
    again.keep(Sent { fee: 9, ..sent(50) }).unwrap();
    again.forget(51).unwrap();
    assert_eq!(again.first_from(50).unwrap().fee, 9);
    assert_eq!(again.first_from(51).unwrap().nonce, 52);
    assert!(again.first_from(100).is_none());
}

#[test]
fn while_the_journal_fails_only_what_is_due_goes_out() {
    let folder = tempfile::tempdir().unwrap();
    let (journal, fails) = store::tests::failing(folder.path());
    let mut outbox = Outbox::open(Arc::new(journal)).unwrap();
    let sent = |kind: &str, nonce| Sent { kind: kind.to_owned(), nonce, request: payment(1), fee: 5, tip: 1 };
    fails.store(true, Ordering::Relaxed);
    outbox.keep(sent("reveal", 7)).unwrap();
    assert_eq!(outbox.first_from(0).unwrap().kind, "reveal", "noted in memory");
    // The journal may have this one, and would send it after a crash: nothing else may go out under a nonce.
    assert!(outbox.keep(sent("lease", 8)).is_err());
    assert!(outbox.keep(sent("reveal", 8)).is_err());
    fails.store(false, Ordering::Relaxed);
    outbox.keep(sent("reveal", 8)).unwrap();
    fails.store(true, Ordering::Relaxed);
    outbox.keep(sent("submit", 9)).unwrap();
    fails.store(false, Ordering::Relaxed);
    outbox.keep(sent("lease", 10)).unwrap();
    drop(outbox);
    let outbox = Outbox::open(Arc::new(Journal::open(folder.path()).unwrap())).unwrap();
    let kinds = [7, 8, 9, 10].map(|nonce| outbox.first_from(nonce).unwrap().kind);
    assert_eq!(kinds, ["reveal", "reveal", "submit", "lease"], "all is noted once it can be");
}
