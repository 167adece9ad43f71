//! What is taken in, what is refused, and in which words.

use alloy::{eips::Encodable2718, primitives::U256, providers::Provider};
use serde_json::json;

use crate::{STRANGER, chain, filled, first, mined, raw, signed, transfer};

#[tokio::test]
async fn a_transfer_moves_wei_and_pays_for_gas() {
    let provider = chain().dev_provider();
    let before = provider.get_balance(first()).await.unwrap();
    let receipt = mined(&provider, transfer(7)).await;
    assert!(receipt.status());
    assert_eq!((receipt.gas_used, receipt.block_number), (21_000, Some(1)));
    assert_eq!(provider.get_balance(STRANGER).await.unwrap(), U256::from(7));
    let paid = U256::from(receipt.gas_used) * U256::from(receipt.effective_gas_price) + U256::from(7);
    assert_eq!(provider.get_balance(first()).await.unwrap(), before - paid);
    assert_eq!(provider.get_transaction_count(first()).await.unwrap(), 1);
}

async fn refusal(request: alloy::rpc::types::TransactionRequest) -> String {
    let provider = chain().dev_provider();
    mined(&provider, filled(0, 1, 10)).await;
    let raw = signed(request).await.encoded_2718();
    provider.send_raw_transaction(&raw).await.unwrap_err().to_string()
}

#[tokio::test]
async fn refusals_are_worded_as_other_nodes_word_them() {
    for (request, words) in [
        (filled(0, 2, 10), "nonce too low"),
        (filled(1, u64::MAX, 10).value(U256::MAX / U256::from(2)), "insufficient funds for gas * price + value"),
        (filled(1, 2, 0), "max fee per gas less than block base fee"),
        (filled(0, 1, 10), "already known"),
        (
            alloy::network::TransactionBuilder::with_chain_id(filled(1, 2, 10), 5),
            "invalid chain id for signer: have 5 want 31337",
        ),
        (alloy::network::TransactionBuilder::with_gas_limit(filled(1, 2, 10), 20_999), "invalid transaction"),
    ] {
        let error = refusal(request).await;
        assert!(error.contains(words), "{error}");
    }
}

#[tokio::test]
async fn a_gap_in_the_nonces_waits_until_it_is_filled() {
    let provider = chain().dev_provider();
    let later = signed(filled(1, 2, 10)).await;
    let pending = provider.send_raw_transaction(&later.encoded_2718()).await.unwrap();
    assert_eq!(provider.get_transaction_receipt(*pending.tx_hash()).await.unwrap(), None);
    assert!(provider.get_transaction_by_hash(*pending.tx_hash()).await.unwrap().is_some());
    mined(&provider, filled(0, 1, 10)).await;
    assert!(provider.get_transaction_receipt(*later.tx_hash()).await.unwrap().unwrap().status());
    assert_eq!(provider.get_balance(STRANGER).await.unwrap(), U256::from(3));
}

#[tokio::test]
async fn a_waiting_transaction_is_replaced_by_one_that_pays_a_tenth_more() {
    let provider = chain().dev_provider();
    raw(&provider, "evm_setAutomine", json!([false])).await;
    let send = |request| {
        let provider = provider.clone();
        async move {
            provider.send_raw_transaction(&signed(request).await.encoded_2718()).await.map(|pending| *pending.tx_hash())
        }
    };
    let old = send(filled(0, 1, 10)).await.unwrap();
    assert_eq!(provider.get_transaction_count(first()).pending().await.unwrap(), 1);
    assert!(send(filled(0, 2, 10)).await.unwrap_err().to_string().contains("replacement transaction underpriced"));
    let new = send(filled(0, 3, 11)).await.unwrap();
    raw(&provider, "evm_mine", json!([])).await;
    assert_eq!(provider.get_transaction_receipt(old).await.unwrap(), None);
    assert!(provider.get_transaction_receipt(new).await.unwrap().unwrap().status());
    assert_eq!(provider.get_balance(STRANGER).await.unwrap(), U256::from(3));
}

#[tokio::test]
async fn unlocked_and_impersonated_senders_need_no_signature() {
    let provider = chain().provider();
    let hash = raw(
        &provider,
        "eth_sendTransaction",
        json!([{ "from": first(), "to": STRANGER, "value": "0xde0b6b3a7640000" }]),
    )
    .await;
    assert!(hash.is_string());
    let call = json!([{ "from": STRANGER, "to": first(), "value": "0x1" }]);
    let refused =
        provider.raw_request::<_, serde_json::Value>("eth_sendTransaction".into(), call.clone()).await.unwrap_err();
    assert!(refused.to_string().contains("no key for"), "{refused}");
    raw(&provider, "anvil_impersonateAccount", json!([STRANGER])).await;
    let hash = serde_json::from_value(raw(&provider, "eth_sendTransaction", call).await).unwrap();
    let receipt = provider.get_transaction_receipt(hash).await.unwrap().unwrap();
    assert_eq!((receipt.from, receipt.status()), (STRANGER, true));
}

#[tokio::test]
async fn fees_follow_eip_1559_and_their_history_is_told() {
    let provider = chain().dev_provider();
    mined(&provider, transfer(1)).await;
    mined(&provider, transfer(1)).await;
    let history =
        provider.get_fee_history(3, alloy::eips::BlockNumberOrTag::Latest, &[0.0, 50.0, 100.0]).await.unwrap();
    assert_eq!(history.oldest_block, 0);
    assert_eq!(history.base_fee_per_gas.len(), 4);
    assert!(history.base_fee_per_gas.windows(2).all(|two| two[1] < two[0]), "nearly empty blocks make gas cheaper");
    assert_eq!(history.reward.unwrap()[2].len(), 3);
    let block = provider.get_block_by_number(2.into()).await.unwrap().unwrap();
    assert_eq!(Some(history.base_fee_per_gas[2]), block.header.base_fee_per_gas.map(u128::from));
}
