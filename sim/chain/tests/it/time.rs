//! Block time.

use alloy::providers::Provider;
use serde_json::json;

use crate::{chain, mined, raw, transfer};

async fn latest_time(provider: &alloy::providers::DynProvider) -> u64 {
    provider.get_block(alloy::eips::BlockId::latest()).await.unwrap().unwrap().header.timestamp
}

#[tokio::test]
async fn time_stands_still_until_it_is_moved() {
    let provider = chain().dev_provider();
    mined(&provider, transfer(1)).await;
    assert_eq!(latest_time(&provider).await, 1_000_000);
    raw(&provider, "evm_increaseTime", json!([60])).await;
    mined(&provider, transfer(1)).await;
    assert_eq!(latest_time(&provider).await, 1_000_060);
    raw(&provider, "evm_setNextBlockTimestamp", json!([1_000_100])).await;
    mined(&provider, transfer(1)).await;
    mined(&provider, transfer(1)).await;
    assert_eq!(latest_time(&provider).await, 1_000_100);
    raw(&provider, "anvil_mine", json!(["0x3", "0xa"])).await;
    assert_eq!(latest_time(&provider).await, 1_000_120);
}

#[tokio::test]
async fn time_does_not_run_back() {
    let provider = chain().dev_provider();
    let error =
        provider.raw_request::<_, serde_json::Value>("evm_setNextBlockTimestamp".into(), json!([5])).await.unwrap_err();
    assert!(error.to_string().contains("is before the latest block's"), "{error}");
}
