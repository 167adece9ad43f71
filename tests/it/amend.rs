//! Other terms for a job that nobody takes: through the commands alone.

use alloy::primitives::U256;
use serde_json::Value;

use crate::{
    support::{Home, Server, client, root},
    walk::start_provider,
};

fn amount(value: &Value) -> U256 {
    value.as_str().unwrap().parse().unwrap()
}

/// Providers that work for one token a gigafuel.
fn providers(home: &Home, url: &str, names: &[(&str, &str)]) -> Vec<Server> {
    let start = |(name, number): &(&str, &str)| {
        home.run(&["account", "import", name, "--devnet", number]).succeeded();
        start_provider(home, url, name, &["--poll-millis", "150", "--min-price", "1"])
    };
    names.iter().map(start).collect()
}

/// Posts a job of four greetings for a tenth of that, and leaves it alone.
fn posted(home: &Home, url: &str, more: &str) -> String {
    let program = root().join("examples/hello/hello.wasm");
    std::fs::write(home.path("names"), "Ada\nGrace\nEdsger\nBarbara\n").unwrap();
    let text = format!(
        "program = {program:?}\ninput-lines = 'names'\nprice = '0.1'\nbatch-size = 2\nfuel-limit = 1000000\nlease-seconds = 60\n\
         window-seconds = 120\n{more}"
    );
    std::fs::write(home.path("job.toml"), text).unwrap();
    home.run(&["account", "import", "client", "--devnet", "2"]).succeeded();
    let submit = client(url, &["submit", "job.toml"]);
    let mut submit = Server::hear(home.conun(&submit));
    submit.wait_for("it is served from here");
    let list = || home.json(&["job", "list", "--rpc-url", url]);
    submit.signal("-INT");
    assert_eq!(submit.wait(), Some(130));
    list()[0]["job"].as_str().unwrap().to_owned()
}

fn assert_greeted(home: &Home) {
    for (task, name) in ["Ada", "Grace", "Edsger", "Barbara"].iter().enumerate() {
        let text = std::fs::read_to_string(home.path(&format!("o/{task}"))).unwrap();
        assert_eq!(text, format!("Hello, {name}! (1 word)\n"));
    }
}

#[test]
fn a_job_that_is_too_cheap_gets_a_price_for_which_it_is_done() {
    let home = Home::new();
    let devnet = home.devnet(&[]);
    let url = &devnet.url;
    let _providers = providers(&home, url, &[("lender", "1")]);
    let job = posted(&home, url, "");
    let about = ["--account", "client", "--rpc-url", url];
    let amend = |args: &[&str]| home.run(&[&["job", "amend", &job][..], args, &about].concat());
    amend(&[]).refused(1, &["has these terms already"]);
    amend(&["--price", "0.1"]).refused(1, &["has these terms already"]);
    amend(&["--price", "0"]).refused(1, &["above 0", "nothing was sent"]);
    amend(&["--window-seconds", "7200"]).refused(1, &["at most 3600 on this deployment"]);
    amend(&["--replicas", "2"]).refused(1, &["executed once", "nothing was sent"]);
    amend(&["--price", "1000000000"]).refused(1, &["get it more tokens", "nothing was sent"]);
    home.run(&["job", "amend", &job, "--price", "1", "--account", "lender", "--rpc-url", url])
        .refused(1, &["was posted by"]);

    let wanted = ["--price", "1", "--lease-seconds", "90"];
    let dry = home.json(&[&["job", "amend", &job, "--dry-run"][..], &wanted, &about].concat());
    let before = home.json(&["account", "balance", "client", "--rpc-url", url]);
    assert_eq!((&dry["job"], &dry["batches"], &dry["refunded"]), (&Value::Null, &2.into(), &before["locked"]), "{dry}");
    let amended = home.json(&[&["job", "amend", &job][..], &wanted, &about].concat());
    let after = home.json(&["account", "balance", "client", "--rpc-url", url]);
    assert_eq!(
        (&amended["deposit"], &after["locked"], &after["available"]),
        (&dry["deposit"], &dry["deposit"], &"0x0".into())
    );
    assert_eq!(amount(&amended["deposit"]), amount(&before["locked"]) * U256::from(10));
    amend(&["--price", "2"]).refused(1, &["amended already"]);

    let goes_on = amended["job"].as_str().unwrap();
    let ledger = home.json(&[&["job", "result", goes_on, "--out", "o", "--poll-millis", "100"][..], &about].concat());
    assert_eq!((&ledger["doneTasks"], &ledger["deposit"]), (&4.into(), &amended["deposit"]), "{ledger}");
    assert_greeted(&home);
    // A token for each gigafuel.
    assert_eq!(amount(&ledger["spent"]), U256::from(ledger["fuel"].as_u64().unwrap()) * U256::from(10u64.pow(9)));
    let states: Vec<_> = home
        .json(&["job", "list", "--rpc-url", url])
        .as_array()
        .unwrap()
        .iter()
        .map(|job| job["state"].clone())
        .collect();
    assert_eq!(states, ["cancelled", "done"]);
}

#[test]
fn a_job_that_is_voted_about_gets_another_price_and_another_vote() {
    let home = Home::new();
    let devnet = home.devnet(&[]);
    let url = &devnet.url;
    let _providers = providers(&home, url, &[("lender", "1"), ("other", "3"), ("third", "4")]);
    let assurance = "[assurance]\nreplicas = 2\nlimit = 2\npost-seconds = 2\nwiden-seconds = 2\nreveal-seconds = 60";
    let job = posted(&home, url, assurance);
    let about = ["--account", "client", "--rpc-url", url];
    let amend = |args: &[&str]| home.run(&[&["job", "amend", &job][..], args, &about].concat());
    amend(&["--target", "0.99"]).refused(1, &["would not reach target 0.99", "nothing was sent"]);
    amend(&["--limit", "1"]).refused(1, &["replicas 2 must be from 1 to limit 1"]);
    amend(&["--limit", "15", "--lease-seconds", "600"]).refused(1, &["at most 3600 is allowed"]);

    let before = home.json(&["account", "balance", "client", "--rpc-url", url]);
    let wanted = ["--price", "1", "--replicas", "3", "--limit", "4", "--post-seconds", "2"];
    let amended = home.json(&[&["job", "amend", &job][..], &wanted, &about].concat());
    // A new lot costs a hundredth of what was locked.
    assert_eq!(amount(&amended["burned"]), amount(&before["locked"]) / U256::from(100), "{amended}");
    assert_eq!(amount(&amended["burned"]) + amount(&amended["refunded"]), amount(&before["locked"]));
    let after = home.json(&["account", "balance", "client", "--rpc-url", url]);
    assert_eq!((&after["locked"], &after["available"]), (&amended["deposit"], &"0x0".into()), "{amended}");

    let goes_on = amended["job"].as_str().unwrap();
    let ledger = home.json(&[&["job", "result", goes_on, "--out", "o", "--poll-millis", "100"][..], &about].concat());
    assert_eq!((&ledger["doneTasks"], &ledger["deposit"]), (&4.into(), &amended["deposit"]), "{ledger}");
    assert_eq!(ledger["providers"].as_array().unwrap().len(), 3, "{ledger}");
    assert_greeted(&home);
}
