//! The whole way against a real anvil: deployment, providers, a job, payment, through the commands alone.

use crate::support::{Home, anvil, cast};
use crate::walk::{hello, start_provider};

#[test]
fn the_same_job_runs_on_anvil() {
    let home = Home::new();
    // A block a second as on a chain, and one for each transaction.
    let (_anvil, url) = anvil(&["--block-time", "1", "--mixed-mining"]);
    for (name, number) in [("dev", "0"), ("lender", "1"), ("other", "3"), ("client", "2")] {
        home.run(&["account", "import", name, "--devnet", number]).succeeded();
    }
    let deploy = ["deploy", "--account", "dev", "--rpc-url", &url, "--devnet-settings"];
    let dry = home.json(&deploy);
    assert_eq!(dry["broadcast"], false);
    assert_eq!(cast(&url, &["nonce", "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266"]), "0", "a dry run sends nothing");
    assert!(!home.path("deployments/31337.json").exists());
    let done = home.json(&[&deploy[..], &["--broadcast"]].concat());
    assert!(done["contracts"].as_array().unwrap().iter().all(|contract| contract["state"] == "created"), "{done}");
    let again = home.json(&[&deploy[..], &["--broadcast"]].concat());
    assert!(again["contracts"].as_array().unwrap().iter().all(|contract| contract["state"] == "present"), "{again}");
    assert_eq!(cast(&url, &["nonce", "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266"]), "9", "nothing is deployed twice");

    for to in [
        "0x70997970C51812dc3A010C7d01b50e0d17dc79C8",
        "0x3C44CdDdB6a900fa2b585dd299e03d12FA4293BC",
        "0x90F79bf6EB2c4f870365E785982E1f101E93b906",
    ] {
        home.run(&["account", "send", to, "5000", "--account", "dev", "--rpc-url", &url]).succeeded();
    }
    let _first = start_provider(&home, &url, "lender", &["--poll-millis", "250"]);
    let _second = start_provider(&home, &url, "other", &["--poll-millis", "250"]);
    let ledger = home.json(&["job", "submit", hello(), "--account", "client", "--rpc-url", &url, "--out", "greetings"]);
    let tasks: u64 =
        ledger["providers"].as_array().unwrap().iter().map(|provider| provider["tasks"].as_u64().unwrap()).sum();
    assert_eq!(tasks, 12);
    assert!(std::fs::read_to_string(home.path("greetings/3")).unwrap().contains("Edsger"));

    // What the Escrow holds is what it owes: both stakes, the earnings, and the requester's refund.
    let record: serde_json::Value =
        serde_json::from_slice(&std::fs::read(home.path("deployments/31337.json")).unwrap()).unwrap();
    let address = |name: &str| record["contracts"][name]["address"].as_str().unwrap().to_owned();
    for name in [
        "Deployment",
        "ConunToken",
        "Escrow",
        "ProviderRegistry",
        "JobRegistry",
        "Reputation",
        "ReplicaRegistry",
        "Disputes",
        "JobRules",
    ] {
        assert!(
            record["contracts"][name]["transaction"].is_string() && record["contracts"][name]["block"].is_u64(),
            "{record}"
        );
    }
    let held = cast(&url, &["call", &address("ConunToken"), "balanceOf(address)(uint256)", &address("Escrow")]);
    let held: u128 = held.split(' ').next().unwrap().parse().unwrap();
    let wei =
        |value: &serde_json::Value| u128::from_str_radix(value.as_str().unwrap().trim_start_matches("0x"), 16).unwrap();
    let owed: u128 = ["lender", "other", "client"]
        .map(|name| {
            let balance = home.json(&["account", "balance", name, "--rpc-url", &url]);
            ["available", "locked", "stake", "earned"].iter().map(|part| wei(&balance[part])).sum::<u128>()
        })
        .iter()
        .sum();
    assert_eq!(held, owed);

    // An auditor finds every transaction as its receipt says, under the node's own rules.
    let report = home.json(&["replay", "--rpc-url", &url]);
    assert_eq!(report["replay"]["differences"], serde_json::json!([]), "{report}");
    assert!(report["replay"]["calls"]["JobRegistry.submit"]["transactions"].as_u64().unwrap() > 0, "{report}");
}
