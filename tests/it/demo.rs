//! The demo, as a newcomer runs it: one command, nothing set up.

use serde_json::Value;

use crate::support::{Home, Ran};

fn demo(home: &Home, args: &[&str]) -> Value {
    let args = [&["demo", "--json"], args].concat();
    let ran: Ran = home.run(&args).succeeded();
    let report: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(report["picture"]["correct"], true);
    assert_eq!(report["books"]["addUp"], true);
    let wei = |value: &Value| u128::from_str_radix(value.as_str().unwrap().trim_start_matches("0x"), 16).unwrap();
    let ledger = &report["ledger"];
    assert_eq!(wei(&ledger["spent"]) + wei(&ledger["refunded"]), wei(&ledger["deposit"]));
    let earned: u128 = ledger["providers"].as_array().unwrap().iter().map(|provider| wei(&provider["earned"])).sum();
    assert_eq!(earned, wei(&ledger["spent"]));
    let png = std::fs::read(home.path("demo-out/scene.png")).unwrap();
    assert!(png.starts_with(b"\x89PNG") && png.len() > 100_000);
    report
}

#[test]
fn a_killed_provider_does_not_stop_the_job_and_the_books_show_it() {
    let report = demo(&Home::new(), &[]);
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
fn the_picture_is_the_same_however_it_is_cut() {
    let report = demo(&Home::new(), &["--tasks", "21", "--providers", "2", "--no-fault"]);
    assert_eq!(report["ledger"]["tasks"], 21);
    assert_eq!(report["killed"], Value::Null);
    assert_eq!(report["books"]["burned"], "0x0");
}

#[test]
fn numbers_out_of_range_are_refused() {
    let home = Home::new();
    home.run(&["demo", "--tasks", "0"]).refused(2, &["--tasks"]);
    home.run(&["demo", "--providers", "0"]).refused(2, &["--providers"]);
}
