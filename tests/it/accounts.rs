//! Keystores are foundry's: either tool opens the other's.

use std::process::Command;

use crate::support::{Home, cast, foundry};

#[test]
fn a_key_made_by_cast_works_unchanged_and_ours_opens_in_cast() {
    let home = Home::new();
    let key = "0x59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d"; // devnet's account 1
    let made = Command::new(foundry("cast"))
        .args(["wallet", "import", "fromcast", "--private-key", key, "--unsafe-password", "correct horse"])
        .env("HOME", home.path(""))
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
    let devnet = home.devnet(&[]);
    let sent = home.json(&[
        "account",
        "send",
        "0x000000000000000000000000000000000000dEaD",
        "1.5",
        "--ether",
        "--account",
        "fromcast",
        "--rpc-url",
        &devnet.url,
    ]);
    assert_eq!(sent["from"], "0x70997970c51812dc3a010c7d01b50e0d17dc79c8");
    assert_eq!(cast(&devnet.url, &["balance", "0x000000000000000000000000000000000000dEaD"]), "1500000000000000000");

    let ours = home.json(&["account", "new", "ours"]);
    let address = Command::new(foundry("cast"))
        .args(["wallet", "address", "--account", "ours", "--password-file"])
        .arg(home.path("password"))
        .env("HOME", home.path(""))
        .output()
        .unwrap();
    let address = String::from_utf8(address.stdout).unwrap().trim().to_lowercase();
    assert_eq!(address, ours["address"].as_str().unwrap());
}

#[test]
fn accounts_are_listed_and_tokens_move() {
    let home = Home::new();
    let devnet = home.devnet(&[]);
    home.run(&["account", "import", "a", "--devnet", "1"]).succeeded();
    let b = home.json(&["account", "new", "b"])["address"].as_str().unwrap().to_owned();
    let names = home.json(&["account", "list"]);
    assert_eq!(
        names.as_array().unwrap().iter().map(|entry| entry["name"].as_str().unwrap()).collect::<Vec<_>>(),
        ["a", "b"]
    );

    home.run(&["account", "send", &b, "12.5", "--account", "a", "--rpc-url", &devnet.url]).succeeded();
    let balance = home.json(&["account", "balance", &b, "--rpc-url", &devnet.url]);
    assert_eq!(balance["tokens"].as_str().unwrap(), format!("0x{:x}", 12_500_000_000_000_000_000u128));
    home.run(&["account", "send", &b, "999999999", "--account", "a", "--rpc-url", &devnet.url])
        .refused(1, &["are to be sent: nothing was sent"]);
}
