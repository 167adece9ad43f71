//! The demo, as a newcomer runs it: one command, nothing set up.

use serde_json::Value;

use crate::support::{Home, Ran, anvil, cast};

fn wei(value: &Value) -> u128 {
    u128::from_str_radix(value.as_str().unwrap().trim_start_matches("0x").trim_start_matches('0'), 16).unwrap_or(0)
}

fn demo(home: &Home, args: &[&str]) -> Value {
    let args = [&["demo", "--json"], args].concat();
    let ran: Ran = home.run(&args).succeeded();
    let report: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(report["picture"]["correct"], true);
    assert_eq!(report["books"]["addUp"], true);
    let ledger = &report["ledger"];
    assert_eq!(wei(&ledger["spent"]) + wei(&ledger["refunded"]), wei(&ledger["deposit"]));
    let earned: u128 = ledger["providers"].as_array().unwrap().iter().map(|provider| wei(&provider["earned"])).sum();
    assert_eq!(earned, wei(&ledger["spent"]));
    let png = std::fs::read(home.path("demo-out/scene.png")).unwrap();
    assert!(png.starts_with(b"\x89PNG") && png.len() > 100_000);
    report
}

fn assert_survived_a_kill(report: &Value) {
    assert_eq!(report["ledger"]["tasks"], 64);
    let held = report["killed"]["held"].as_array().unwrap();
    assert!(!held.is_empty(), "it was killed while it held something");
    assert!(report["ledger"]["expiredLeases"].as_u64().unwrap() >= 1);
    assert_ne!(report["books"]["burned"], "0x0");
    let tasks: u64 = report["ledger"]["providers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|provider| provider["tasks"].as_u64().unwrap())
        .sum();
    assert_eq!(tasks, 64);
    for kind in ["post", "lease", "submit", "accept"] {
        assert!(report["ledger"]["gas"][kind]["gas"].as_u64().unwrap() > 21_000, "{kind}");
    }
}

#[test]
fn a_killed_provider_does_not_stop_the_job_and_the_books_show_it() {
    let report = demo(&Home::new(), &[]);
    assert_survived_a_kill(&report);
    assert_eq!(report["books"]["escrowHolds"], report["books"]["escrowOwes"]);
}

#[test]
fn the_whole_demo_runs_on_anvil() {
    let (_anvil, url) = anvil(&["--block-time", "1", "--mixed-mining"]);
    let report = demo(&Home::new(), &["--external-chain", "--rpc-url", &url]);
    assert_survived_a_kill(&report);
    assert_eq!(report["books"]["escrowHolds"], report["books"]["escrowOwes"]);
    let [token, escrow] = ["token", "escrow"].map(|name| report["contracts"][name].as_str().unwrap());
    let held = cast(&url, &["call", token, "balanceOf(address)", escrow]);
    assert_eq!(wei(&held.into()), wei(&report["books"]["escrowHolds"]));
}

/// Twice: the second finds the contracts, and what the Escrow owes to the first one's providers.
#[test]
fn the_whole_demo_runs_on_a_devnet_again_and_again() {
    let home = Home::new();
    let devnet = home.devnet(&[]);
    let args = ["--external-chain", "--rpc-url", &devnet.url];
    let report = demo(&home, &args);
    assert_survived_a_kill(&report);
    assert_eq!(
        report["contracts"]["deployment"], devnet.report["contracts"]["deployment"],
        "nothing was deployed twice"
    );
    let jobs = report["contracts"]["jobs"].as_str().unwrap();
    let settled = "BatchSettled(bytes32 indexed,address indexed,uint32,uint256,uint256,bool)";
    let logs = cast(&devnet.url, &["logs", "--address", jobs, "--from-block", "0", settled, "--json"]);
    let logs: Value = serde_json::from_str(&logs).unwrap();
    assert_eq!(logs.as_array().unwrap().len(), 16, "one for each batch");
    let again = demo(&home, &[&args[..], &["--no-fault", "--tasks", "8"]].concat());
    assert_eq!(again["contracts"], report["contracts"]);
    assert_ne!(again["books"]["escrowHolds"], again["books"]["escrowOwes"]);
}

#[test]
fn a_chain_without_the_devnets_accounts_is_refused() {
    let home = Home::new();
    let (_anvil, url) =
        anvil(&["--mnemonic", "legal winner thank year wave sausage worth useful legal winner thank yellow"]);
    home.run(&["demo", "--external-chain", "--rpc-url", &url]).refused(1, &["has no ether", "nothing was sent"]);
    home.run(&["demo", "--external-chain", "--rpc-url", "http://127.0.0.1:1"])
        .refused(75, &["no Ethereum node answers"]);
}

#[test]
fn the_picture_is_the_same_however_it_is_cut() {
    let report = demo(&Home::new(), &["--tasks", "21", "--providers", "2", "--no-fault"]);
    assert_eq!(report["ledger"]["tasks"], 21);
    assert_eq!(report["killed"], Value::Null);
    // On a busy machine a lease may run out.
    assert_eq!(report["books"]["burned"] == "0x0", report["ledger"]["expiredLeases"] == 0);
}

#[test]
fn numbers_out_of_range_are_refused() {
    let home = Home::new();
    home.run(&["demo", "--tasks", "0"]).refused(2, &["--tasks"]);
    home.run(&["demo", "--providers", "0"]).refused(2, &["--providers"]);
}
