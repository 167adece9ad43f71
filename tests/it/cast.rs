//! Foundry's `cast` as a client of the devnet.

use crate::support::{Home, cast};

const FIRST: &str = "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266";
const FIRST_KEY: &str = "0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80";
const SECOND: &str = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8";

#[test]
fn cast_reads_calls_sends_and_finds_logs_and_receipts() {
    let home = Home::new();
    let devnet = home.devnet(&[]);
    let url = &devnet.url;
    let token = devnet.report["contracts"]["token"].as_str().unwrap();

    assert_eq!(cast(url, &["chain-id"]), "31337");
    assert!(cast(url, &["client"]).starts_with("conun"), "{}", cast(url, &["client"]));
    assert!(cast(url, &["block-number"]).parse::<u64>().unwrap() >= 6, "the deployment is on the chain");
    assert_eq!(cast(url, &["balance", "--ether", SECOND]), "10000.000000000000000000");
    assert_eq!(cast(url, &["call", token, "symbol()(string)"]), "\"CON\"");
    assert_eq!(cast(url, &["call", token, "balanceOf(address)(uint256)", SECOND]), "1000000000000000000000000 [1e24]");

    let sent =
        cast(url, &["send", token, "transfer(address,uint256)", SECOND, "7", "--private-key", FIRST_KEY, "--json"]);
    let sent: serde_json::Value = serde_json::from_str(&sent).unwrap();
    assert_eq!(sent["status"], "0x1");
    let hash = sent["transactionHash"].as_str().unwrap();
    assert_eq!(
        cast(url, &["receipt", hash, "gasUsed"]),
        u64::from_str_radix(&sent["gasUsed"].as_str().unwrap()[2..], 16).unwrap().to_string()
    );
    assert_eq!(cast(url, &["tx", hash, "from"]), FIRST);

    let logs = cast(
        url,
        &[
            "logs",
            "--address",
            token,
            "--from-block",
            "0",
            "Transfer(address indexed,address indexed,uint256)",
            "--json",
        ],
    );
    let logs: serde_json::Value = serde_json::from_str(&logs).unwrap();
    assert!(logs.as_array().unwrap().iter().any(|log| log["transactionHash"] == hash), "{logs}");
    assert_eq!(cast(url, &["call", token, "balanceOf(address)(uint256)", SECOND]), "1000000000000000000000007 [1e24]");
}

#[test]
fn the_devnets_state_survives_a_restart() {
    let home = Home::new();
    let state = home.path("chain.json");
    let args = ["--state", state.to_str().unwrap()];
    let mut devnet = home.devnet(&args);
    cast(&devnet.url, &["send", SECOND, "--value", "3", "--private-key", FIRST_KEY]);
    let token = devnet.report["contracts"]["token"].as_str().unwrap().to_owned();
    let block: u64 = cast(&devnet.url, &["block-number"]).parse().unwrap();
    devnet.server.signal("-INT");
    assert_eq!(devnet.server.wait(), Some(0));

    let devnet = home.devnet(&args);
    assert_eq!(cast(&devnet.url, &["balance", SECOND]), "10000000000000000000003");
    assert_eq!(devnet.report["contracts"]["token"], token.as_str());
    assert!(cast(&devnet.url, &["block-number"]).parse::<u64>().unwrap() >= block);
}
