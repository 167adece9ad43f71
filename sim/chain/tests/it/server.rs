//! HTTP and WebSocket.

use std::time::Duration;

use alloy::{
    primitives::U256,
    providers::{Provider, ProviderBuilder},
    rpc::types::Filter,
};
use conun_chain::{ChainConfig, ServerHandle, SharedChain};
use futures_util::StreamExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::{STRANGER, chain, mined, transfer};

async fn served(chain: &SharedChain) -> ServerHandle {
    chain.serve("127.0.0.1:0".parse().unwrap()).await.unwrap()
}

#[tokio::test]
async fn http_answers_as_the_process_does() {
    let chain = chain();
    mined(&chain.dev_provider(), transfer(3)).await;
    let server = served(&chain).await;
    let remote = ProviderBuilder::new().connect(&server.url()).await.unwrap();
    assert_eq!(remote.get_balance(STRANGER).await.unwrap(), U256::from(3));
    let local = chain.provider().get_block_by_number(1.into()).full().await.unwrap();
    assert_eq!(remote.get_block_by_number(1.into()).full().await.unwrap(), local);
    assert_eq!(remote.get_client_version().await.unwrap(), concat!("conun-chain/v", env!("CARGO_PKG_VERSION")));
    server.stop().await;
}

#[tokio::test]
async fn websocket_subscribers_hear_of_heads_and_logs() {
    let chain = chain();
    let server = served(&chain).await;
    let remote = ProviderBuilder::new().connect(&server.ws_url()).await.unwrap();
    let mut heads = remote.subscribe_blocks().await.unwrap().into_stream();
    let mut logs = remote.subscribe_logs(&Filter::new()).await.unwrap().into_stream();
    chain.mine();
    assert_eq!(heads.next().await.unwrap().number, 1);
    let provider = chain.dev_provider();
    let plan =
        conun_bindings::deploy::Plan::new(conun_bindings::deploy::devnet_settings(crate::first()), Default::default());
    conun_bindings::deploy::deploy(&provider, crate::first(), &plan, None, |_| {}).await.unwrap();
    assert!(logs.next().await.unwrap().block_number > Some(1));
    assert_eq!(heads.next().await.unwrap().number, 2);
}

#[tokio::test]
async fn empty_blocks_come_at_their_time() {
    let chain = SharedChain::new(ChainConfig { block_time: Some(Duration::from_millis(20)), ..ChainConfig::default() });
    let server = served(&chain).await;
    let remote = ProviderBuilder::new().connect(&server.ws_url()).await.unwrap();
    let mut heads = remote.subscribe_blocks().await.unwrap().into_stream();
    let first = heads.next().await.unwrap().number;
    assert_eq!(heads.next().await.unwrap().number, first + 1);
}

/// Sends `request` as it is and returns the whole response.
async fn http(server: &ServerHandle, request: &str) -> String {
    let mut stream = tokio::net::TcpStream::connect(server.address()).await.unwrap();
    stream.write_all(request.replace('\n', "\r\n").as_bytes()).await.unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).await.unwrap();
    response
}

async fn post(server: &ServerHandle, host: &str, body: &str) -> String {
    let length = body.len();
    http(server, &format!("POST / HTTP/1.1\nHost: {host}\nContent-Type: application/json\nContent-Length: {length}\nConnection: close\n\n{body}")).await
}

#[tokio::test]
async fn malformed_requests_are_told_what_is_wrong() {
    let server = served(&chain()).await;
    for (body, words) in [
        ("{", "parse error"),
        ("[]", "a batch holds"),
        ("{\"id\":1}", "not a JSON-RPC request"),
        (r#"{"jsonrpc":"1.0","id":1,"method":"eth_chainId"}"#, "must be"),
        (r#"{"jsonrpc":"2.0","id":1,"method":"eth_nonsense"}"#, "-32601"),
        (r#"{"jsonrpc":"2.0","id":1,"method":"eth_getBalance","params":["0x12"]}"#, "expected an address"),
        (r#"{"jsonrpc":"2.0","id":1,"method":"eth_subscribe","params":["newHeads"]}"#, "WebSocket"),
        (
            r#"[{"jsonrpc":"2.0","id":1,"method":"eth_chainId"},{"jsonrpc":"2.0","id":2,"method":"net_version"}]"#,
            "31337",
        ),
    ] {
        let response = post(&server, "127.0.0.1", body).await;
        assert!(response.contains(words), "{body}: {response}");
    }
    assert!(
        post(&server, "127.0.0.1", r#"{"jsonrpc":"2.0","method":"eth_chainId"}"#).await.contains("204 No Content"),
        "a notification"
    );
    assert!(http(&server, "GET / HTTP/1.1\nHost: localhost\nConnection: close\n\n").await.contains("405"));
}

#[tokio::test]
async fn a_foreign_host_name_is_refused() {
    let server = served(&chain()).await;
    let body = r#"{"jsonrpc":"2.0","id":1,"method":"eth_chainId"}"#;
    for host in ["localhost:8545", "127.0.0.1", "[::1]:8545"] {
        assert!(post(&server, host, body).await.contains("0x7a69"), "{host}");
    }
    for host in ["evil.example", "evil.example:8545", "localhost.evil.example"] {
        assert!(post(&server, host, body).await.contains("403"), "{host}");
    }
}

#[tokio::test]
async fn an_occupied_port_is_named() {
    let chain = chain();
    let server = served(&chain).await;
    let error = chain.serve(server.address()).await.unwrap_err();
    assert!(error.to_string().contains("cannot listen on 127.0.0.1"), "{error}");
}

#[tokio::test]
async fn no_block_comes_by_itself_while_they_are_mined_by_hand_or_the_next_has_a_time_of_its_own() {
    let chain = SharedChain::new(ChainConfig { block_time: Some(Duration::from_millis(10)), ..ChainConfig::default() });
    let _server = served(&chain).await;
    let ask = |method: &str, params: serde_json::Value| chain.handle(method, params).unwrap();
    ask("evm_setAutomine", serde_json::json!([false]));
    let height = chain.height();
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(chain.height(), height);
    ask("evm_setAutomine", serde_json::json!([true]));
    let time = chain.provider().get_block_by_number(height.into()).await.unwrap().unwrap().header.timestamp + 1000;
    ask("evm_setNextBlockTimestamp", serde_json::json!([time]));
    let height = chain.height();
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(chain.height(), height);
    ask("evm_mine", serde_json::json!([]));
    let mined = chain.provider().get_block_by_number((height + 1).into()).await.unwrap().unwrap();
    assert_eq!(mined.header.timestamp, time);
}

/// The end is not held up by a client that never finishes what it asks.
#[tokio::test]
async fn a_client_with_half_a_request_does_not_hold_up_the_end() {
    let server = served(&chain()).await;
    let mut half = tokio::net::TcpStream::connect(server.address()).await.unwrap();
    half.write_all(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{").await.unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    tokio::time::timeout(Duration::from_secs(20), server.stop()).await.unwrap();
}

#[tokio::test]
async fn an_id_of_null_is_answered() {
    let server = served(&chain()).await;
    let answer = post(&server, "localhost", r#"{"jsonrpc":"2.0","id":null,"method":"eth_chainId"}"#).await;
    assert!(answer.contains("0x7a69"), "{answer}");
}
