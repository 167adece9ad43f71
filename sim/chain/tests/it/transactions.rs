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
        // The very same once more, mined already.
        (filled(0, 1, 10), "nonce too low"),
        (
            alloy::network::TransactionBuilder::with_chain_id(filled(1, 2, 10), 5),
            "invalid chain id for signer: have 5 want 31337",
        ),
        (alloy::network::TransactionBuilder::with_gas_limit(filled(1, 2, 10), 20_999), "intrinsic gas too low"),
        (alloy::network::TransactionBuilder::with_gas_limit(filled(1, 2, 10), 17_000_000), "intrinsic gas too high"),
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

#[tokio::test]
async fn what_no_block_can_take_is_refused_even_when_none_is_mined_now() {
    let chain = chain();
    let provider = chain.dev_provider();
    chain.handle("evm_setAutomine", json!([false])).unwrap();
    for gas in [20_999, 17_000_000] {
        let request = alloy::network::TransactionBuilder::with_gas_limit(filled(0, 1, 10), gas);
        let raw = signed(request).await.encoded_2718();
        let error = provider.send_raw_transaction(&raw).await.unwrap_err().to_string();
        assert!(error.contains("intrinsic gas too"), "{error}");
    }
}

#[tokio::test]
async fn calls_are_refused_what_their_sender_cannot_pay() {
    let chain = chain();
    let words = |method: &str, call: serde_json::Value| chain.handle(method, json!([call])).unwrap_err().message;
    for method in ["eth_call", "eth_estimateGas"] {
        let poor = words(method, json!({ "from": STRANGER, "to": first(), "value": "0x1" }));
        assert!(poor.contains("insufficient funds for gas * price + value"), "{poor}");
        let priced = words(method, json!({ "from": STRANGER, "to": first(), "maxFeePerGas": "0x3b9aca00" }));
        assert!(priced.contains("insufficient funds for gas * price + value"), "{priced}");
        let both = words(method, json!({ "from": first(), "gasPrice": "0x1", "maxFeePerGas": "0x1" }));
        assert!(both.contains("both gasPrice and maxFeePerGas"), "{both}");
    }
    let overridden = chain.handle("eth_call", json!([{}, "latest", {}, { "number": "0x1" }])).unwrap_err().message;
    assert!(overridden.contains("block overrides"), "{overridden}");
}

#[tokio::test]
async fn a_contract_can_be_impersonated_and_any_code_be_set() {
    let chain = chain();
    // Returns the gas price of its call.
    chain.handle("anvil_setCode", json!([STRANGER, "0x3a60005260206000f3"])).unwrap();
    let call = json!({ "from": first(), "to": STRANGER, "gasPrice": "0x2540be400" });
    assert_eq!(chain.handle("eth_call", json!([call])).unwrap(), json!(format!("0x{:064x}", 10_000_000_000u64)));
    chain.handle("anvil_setBalance", json!([STRANGER, "0xde0b6b3a7640000"])).unwrap();
    chain.handle("anvil_impersonateAccount", json!([STRANGER])).unwrap();
    let sent =
        chain.handle("eth_sendTransaction", json!([{ "from": STRANGER, "to": first(), "value": "0x1" }])).unwrap();
    let receipt = chain.handle("eth_getTransactionReceipt", json!([sent])).unwrap();
    assert_eq!(receipt["status"], "0x1");
    // It begins like an EIP-7702 delegation, and is none.
    chain.handle("anvil_setCode", json!([STRANGER, "0xef0100"])).unwrap();
    assert_eq!(chain.handle("eth_getCode", json!([STRANGER])).unwrap(), json!("0xef0100"));
    let halted = chain.handle("eth_call", json!([{ "to": STRANGER }])).unwrap_err().message;
    assert!(halted.contains("halted"), "{halted}");
}

#[tokio::test]
async fn a_revert_is_worded_as_other_nodes_word_it() {
    let chain = chain();
    let says = |code: &str| {
        chain.handle("anvil_setCode", json!([STRANGER, code])).unwrap();
        chain.handle("eth_call", json!([{ "to": STRANGER }])).unwrap_err().message
    };
    // revert(0, 0); and Error("nope").
    assert_eq!(says("0x60006000fd"), "execution reverted");
    let error = "08c379a0\
                 0000000000000000000000000000000000000000000000000000000000000020\
                 0000000000000000000000000000000000000000000000000000000000000004\
                 6e6f706500000000000000000000000000000000000000000000000000000000";
    // Copies what follows the ten bytes of code, 100 bytes, and reverts with it.
    assert_eq!(says(&format!("0x6064600c60003960646000fd{error}")), "execution reverted: nope");
}
