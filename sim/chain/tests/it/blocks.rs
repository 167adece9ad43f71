//! Blocks, re-orgs, snapshots, dumps.

use alloy::{
    consensus::proofs::calculate_transaction_root,
    network::TransactionBuilder,
    primitives::{B256, U256, address, bytes},
    providers::Provider,
    rpc::types::TransactionRequest,
};
use conun_chain::{ChainConfig, Clock, SharedChain};
use serde_json::json;

use crate::{STRANGER, chain, first, mined, raw, transfer};

#[tokio::test]
async fn headers_link_and_commit_to_what_the_blocks_hold() {
    let provider = chain().dev_provider();
    for wei in 1..5 {
        mined(&provider, transfer(wei)).await;
    }
    let mut parent = None;
    for number in 0..5u64 {
        let block = provider.get_block_by_number(number.into()).full().await.unwrap().unwrap();
        assert_eq!(block.header.inner.hash_slow(), block.header.hash);
        assert_eq!(block.header.number, number);
        assert_eq!(parent.unwrap_or_default(), block.header.parent_hash);
        let transactions: Vec<_> = block.transactions.txns().map(|tx| tx.inner.inner().clone()).collect();
        assert_eq!(transactions.len(), usize::from(number > 0));
        assert_eq!(calculate_transaction_root(&transactions), block.header.transactions_root);
        assert_eq!(provider.get_block_by_hash(block.header.hash).await.unwrap().unwrap().header, block.header);
        parent = Some(block.header.hash);
    }
    assert_eq!(provider.get_block_by_number(5.into()).await.unwrap(), None);
}

#[tokio::test]
async fn many_transactions_in_one_block_are_numbered_and_summed() {
    let provider = chain().dev_provider();
    raw(&provider, "evm_setAutomine", json!([false])).await;
    for wei in 1..=5 {
        let _ = provider.send_transaction(transfer(wei)).await.unwrap();
    }
    raw(&provider, "evm_mine", json!([])).await;
    let receipts = provider.get_block_receipts(1.into()).await.unwrap().unwrap();
    assert_eq!(receipts.len(), 5);
    for (index, receipt) in receipts.iter().enumerate() {
        assert_eq!(receipt.transaction_index, Some(index as u64));
        assert_eq!(receipt.inner.cumulative_gas_used(), 21_000 * (index as u64 + 1));
    }
    assert_eq!(provider.get_balance(STRANGER).await.unwrap(), U256::from(15));
}

#[tokio::test]
async fn a_reorg_drops_blocks_and_their_transactions() {
    let provider = chain().dev_provider();
    mined(&provider, transfer(1)).await;
    let lost = mined(&provider, transfer(2)).await;
    raw(&provider, "anvil_reorg", json!([1])).await;
    assert_eq!(provider.get_block_number().await.unwrap(), 2);
    assert_eq!(provider.get_transaction_receipt(lost.transaction_hash).await.unwrap(), None);
    assert_eq!(provider.get_balance(STRANGER).await.unwrap(), U256::from(1));
    let hash = provider.get_block_by_number(2.into()).await.unwrap().unwrap().header.hash;
    assert_ne!(Some(hash), lost.block_hash);
    assert_eq!(provider.get_block_by_hash(lost.block_hash.unwrap()).await.unwrap(), None);
}

#[tokio::test]
async fn a_reorg_can_mine_the_transactions_again() {
    let provider = chain().dev_provider();
    let first = mined(&provider, transfer(1)).await;
    let second = mined(&provider, transfer(2)).await;
    raw(&provider, "anvil_reorg", json!([2, true])).await;
    for old in [first, second] {
        let new = provider.get_transaction_receipt(old.transaction_hash).await.unwrap().unwrap();
        assert_ne!(new.block_hash, old.block_hash);
    }
    assert_eq!(provider.get_balance(STRANGER).await.unwrap(), U256::from(3));
    let too_deep = provider.raw_request::<_, serde_json::Value>("anvil_reorg".into(), json!([9])).await.unwrap_err();
    assert!(too_deep.to_string().contains("cannot drop 9 blocks"), "{too_deep}");
}

#[tokio::test]
async fn a_snapshot_brings_everything_back_once() {
    let provider = chain().dev_provider();
    mined(&provider, transfer(1)).await;
    let before = provider.get_block_by_number(1.into()).full().await.unwrap();
    let id = raw(&provider, "evm_snapshot", json!([])).await;
    mined(&provider, transfer(2)).await;
    raw(&provider, "evm_increaseTime", json!([500])).await;
    assert_eq!(raw(&provider, "evm_revert", json!([id])).await, json!(true));
    assert_eq!(provider.get_block_number().await.unwrap(), 1);
    assert_eq!(provider.get_block_by_number(1.into()).full().await.unwrap(), before);
    assert_eq!(provider.get_balance(STRANGER).await.unwrap(), U256::from(1));
    assert_eq!(raw(&provider, "evm_revert", json!([id])).await, json!(false), "a snapshot is used up");
}

#[tokio::test]
async fn states_of_earlier_blocks_can_be_asked_for() {
    let provider = chain().dev_provider();
    for wei in 1..=3 {
        mined(&provider, transfer(wei)).await;
    }
    for (number, balance) in [(0u64, 0), (1, 1), (2, 3), (3, 6)] {
        assert_eq!(provider.get_balance(STRANGER).number(number).await.unwrap(), U256::from(balance));
        assert_eq!(provider.get_transaction_count(first()).number(number).await.unwrap(), number);
    }
    raw(&provider, "anvil_mine", json!([2000])).await;
    let error = provider.get_balance(STRANGER).number(1).await.unwrap_err();
    assert!(error.to_string().contains("is not kept"), "{error}");
}

#[tokio::test]
async fn a_dump_holds_the_whole_chain() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("chain.json");
    let old = chain();
    let receipt = mined(&old.dev_provider(), transfer(9)).await;
    old.dump(&file).unwrap();

    let config = || ChainConfig { clock: Clock::Manual(1_000_000), ..ChainConfig::default() };
    let new = SharedChain::new(config().load(&file).unwrap());
    assert_eq!(new.provider().get_transaction_receipt(receipt.transaction_hash).await.unwrap().unwrap(), receipt);
    assert_eq!(new.provider().get_balance(STRANGER).await.unwrap(), U256::from(9));
    let again = folder.path().join("again.json");
    new.dump(&again).unwrap();
    assert_eq!(std::fs::read(&file).unwrap(), std::fs::read(&again).unwrap());
    mined(&new.dev_provider(), transfer(1)).await;

    let other = ChainConfig { chain_id: 5, ..config() }.load(&file).unwrap_err();
    assert!(other.to_string().contains("holds chain 31337, not 5"), "{other}");
    std::fs::write(&file, "{}").unwrap();
    assert!(config().load(&file).unwrap_err().to_string().contains("no dump of a chain"));
    assert!(config().load(&folder.path().join("none")).is_err());
}

/// A filter hears of what is there now, however often the chain went back in between; a re-org is news at the same height, too.
#[tokio::test]
async fn filters_and_subscribers_hear_of_blocks_that_replace_others() {
    let chain = chain();
    let ask = |method: &str, params: serde_json::Value| chain.handle(method, params).unwrap();
    let blocks = ask("eth_newBlockFilter", json!([]));
    let changes = || ask("eth_getFilterChanges", json!([blocks])).as_array().unwrap().len();
    let snapshot = ask("evm_snapshot", json!([]));
    ask("anvil_mine", json!([5]));
    assert_eq!(changes(), 5);
    ask("evm_revert", json!([snapshot]));
    ask("anvil_mine", json!([3]));
    assert_eq!((changes(), changes()), (3, 0));
    ask("anvil_reorg", json!([2]));
    assert_eq!(changes(), 2);

    let server = chain.serve("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let remote = alloy::providers::ProviderBuilder::new().connect(&server.ws_url()).await.unwrap();
    let mut heads = remote.subscribe_blocks().await.unwrap();
    ask("anvil_reorg", json!([2]));
    for number in [2, 3] {
        assert_eq!(heads.recv().await.unwrap().number, number);
    }
}

#[tokio::test]
async fn evm_mine_takes_a_time_and_a_number_of_blocks() {
    let chain = chain();
    chain.handle("evm_mine", json!([{ "timestamp": "0xf4250", "blocks": 3 }])).unwrap();
    assert_eq!(chain.height(), 3);
    let block = chain.provider().get_block_by_number(1.into()).await.unwrap().unwrap();
    assert_eq!(block.header.timestamp, 0xf4250);
    assert!(chain.handle("evm_mine", json!([{ "blocks": 1_000_000 }])).is_err());
}

/// A contract that destroys itself as it is created, and is created once more later in its block, as EIP-6780 has it; what a block's
/// transactions leave in between is that block's own.
#[tokio::test]
async fn what_is_destroyed_and_created_again_in_one_block_is_there() {
    let provider = chain().dev_provider();
    let factory = address!("00000000000000000000000000000000000fac70");
    // CREATE2 of what it is given, with salt 0.
    raw(&provider, "anvil_setCode", json!([factory, "0x365f5f375f365f5ff500"])).await;
    // SELFDESTRUCT as long as the stranger has nothing; then a value in slot 0, and a byte of code.
    let init = bytes!("61dead316009575fff5b60015f5560015ff3");
    let made = factory.create2_from_code(B256::ZERO, &init);
    let create = || {
        TransactionRequest::default()
            .with_from(first())
            .with_to(factory)
            .with_input(init.clone())
            .with_gas_limit(200_000)
    };
    raw(&provider, "evm_setAutomine", json!([false])).await;
    let after = |block: u64| {
        let provider = provider.clone();
        async move {
            raw(&provider, "evm_mine", json!([])).await;
            let receipts = provider.get_block_receipts(block.into()).await.unwrap().unwrap();
            assert!(receipts.iter().all(|receipt| receipt.status()));
            let code = provider.get_code_at(made).await.unwrap();
            (receipts.len(), code.len(), provider.get_storage_at(made, U256::ZERO).await.unwrap())
        }
    };
    let _ = provider.send_transaction(create()).await.unwrap();
    assert_eq!(after(1).await, (1, 0, U256::ZERO));
    let _ = provider.send_transaction(create()).await.unwrap();
    let _ = provider.send_transaction(transfer(1).with_gas_limit(21_000)).await.unwrap();
    let _ = provider.send_transaction(create()).await.unwrap();
    assert_eq!(after(2).await, (3, 1, U256::from(1)));
}
