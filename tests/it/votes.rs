//! Jobs whose batches several providers execute, and how providers leave: through the commands alone.

use serde_json::Value;

use crate::{
    support::{Home, Server, anvil, cast, client, root},
    walk::{provider, start_provider},
};

/// Writes a job of greetings in batches of two; the lot is over four seconds after the post.
pub(crate) fn greetings(home: &Home, names: &str, assurance: &str) {
    let program = root().join("examples/hello/hello.wasm");
    std::fs::write(home.path("names"), names).unwrap();
    let text = format!(
        "program = {program:?}\ninput-lines = 'names'\nprice = '1'\nbatch-size = 2\nfuel-limit = 1000000\nlease-seconds = 60\n\
         window-seconds = 120\n[assurance]\npost-seconds = 2\nwiden-seconds = 2\n{assurance}"
    );
    std::fs::write(home.path("job.toml"), text).unwrap();
}

/// Four of them in two batches.
fn job(home: &Home, assurance: &str) {
    greetings(home, "Ada\nGrace\nEdsger\nBarbara\n", &format!("reveal-seconds = 60\n{assurance}"));
}

/// Submits it and follows it to its end.
fn submit(home: &Home, url: &str) -> Value {
    home.json(&client(url, &["submit", "job.toml", "--out", "o"]))
}

fn assert_greeted(home: &Home) {
    for (task, name) in ["Ada", "Grace", "Edsger", "Barbara"].iter().enumerate() {
        let text = std::fs::read_to_string(home.path(&format!("o/{task}"))).unwrap();
        assert_eq!(text, format!("Hello, {name}! (1 word)\n"));
    }
}

fn assert_voted(home: &Home, url: &str, ledger: &Value) {
    let providers = ledger["providers"].as_array().unwrap();
    assert_eq!(providers.len(), 3, "{ledger}");
    assert!(providers.iter().all(|provider| provider["tasks"] == 4), "{ledger}");
    assert_eq!((&ledger["doneTasks"], &ledger["failedTasks"]), (&4.into(), &serde_json::json!([])), "{ledger}");
    assert_greeted(home);
    let job = ledger["job"].as_str().unwrap();
    let status = home.json(&["job", "status", &job[..10], "--rpc-url", url]);
    for batch in status["batches"].as_array().unwrap() {
        assert_eq!((&batch["stage"], &batch["agreed"]), (&"settled".into(), &3.into()), "{status}");
        let votes = batch["votes"].as_array().unwrap();
        assert!(votes.iter().all(|vote| vote["state"] == "revealed" && vote["root"] == votes[0]["root"]), "{status}");
    }
    let text = home.run(&["job", "status", &job[..10], "--rpc-url", url]).succeeded().stdout;
    assert!(text.contains("settled") && text.contains("revealed"), "{text}");
}

#[test]
fn three_providers_vote_about_a_job_and_say_why_they_took_it_or_not() {
    let home = Home::new();
    let devnet = home.devnet(&[]);
    let url = &devnet.url;
    let names = [("lender", "1"), ("other", "3"), ("third", "4")];
    let _servers: Vec<Server> = names.iter().map(|(name, number)| provider(&home, url, name, number)).collect();
    home.run(&["account", "import", "client", "--devnet", "2"]).succeeded();
    job(&home, "replicas = 3\nlimit = 4");
    let dry = home.json(&["job", "submit", "job.toml", "--dry-run", "--account", "client", "--rpc-url", url]);
    let ledger = submit(&home, url);
    assert_eq!(ledger["deposit"], dry["deposit"]);
    assert_voted(&home, url, &ledger);

    // What cannot be believed, disputed or decided is said.
    job(&home, "replicas = 2\nlimit = 2\ntarget = 0.99");
    let args = ["job", "submit", "job.toml", "--account", "client", "--rpc-url", url];
    home.run(&args).refused(1, &["2 newcomers that agree would not reach target 0.99", "nothing was sent"]);
    job(&home, "replicas = 3\nlimit = 15");
    let long =
        std::fs::read_to_string(home.path("job.toml")).unwrap().replace("lease-seconds = 60", "lease-seconds = 600");
    std::fs::write(home.path("job.toml"), long).unwrap();
    home.run(&args).refused(1, &["at most 3600 is allowed on this deployment"]);
    let id = ledger["job"].as_str().unwrap();
    let about = ["--account", "client", "--rpc-url", url];
    home.run(&[&["job", "challenge", id, "0", "0"][..], &about].concat()).refused(1, &["no arbiter"]);
    home.run(&[&["job", "demand", id, "0", "0", "0"][..], &about].concat()).refused(1, &["no result in its window"]);
    home.run(&[&["job", "demand", id, "0", "3", "0"][..], &about].concat()).refused(1, &["tasks 0 to 1, none 3"]);
    home.run(&[&["job", "accept", id][..], &about].concat()).refused(1, &["all votes agree"]);

    let folder = home.path("lender");
    let folder = folder.to_str().unwrap();
    // It hears of its payment with its next look at the chain.
    let why = loop {
        let why = home.json(&["provider", "why", "--data-dir", folder]);
        if why[id]["paid"] == 2 {
            break why;
        }
    };
    assert_eq!(why[id]["verdict"], "taken", "{why}");
    let text = home.run(&["provider", "why", &id[..8], "--data-dir", folder]).succeeded().stdout;
    assert!(text.contains("taken") && text.contains(&id[..10]), "{text}");
    home.run(&["provider", "why", "ffffffffffff", "--data-dir", folder])
        .refused(1, &["no job that this provider has seen"]);
}

#[test]
fn a_provider_drains_leaves_and_takes_its_stake() {
    let home = Home::new();
    let devnet = home.devnet(&[]);
    let url = &devnet.url;
    let mut running = provider(&home, url, "lender", "1");
    home.run(&["account", "import", "client", "--devnet", "2"]).succeeded();
    let folder = home.path("lender");
    let folder = folder.to_str().unwrap();
    let at = ["--data-dir", folder];
    home.run(&["provider", "why", "--data-dir", home.path("nowhere").to_str().unwrap()]).refused(1, &["provider init"]);
    home.run(&[&["provider", "drain"][..], &at].concat()).succeeded();
    assert_eq!(running.wait(), Some(0), "nothing is locked: it stops by itself");
    home.json(&[&["provider", "drain", "--off"][..], &at].concat());

    let leaving = home.json(&[&["provider", "exit"][..], &at].concat());
    let exit_at = leaving["exitAt"].as_u64().unwrap();
    assert!(exit_at > 0 && leaving["transaction"].is_string(), "{leaving}");
    let again = home.run(&[&["provider", "exit"][..], &at].concat()).succeeded().stdout;
    assert!(again.contains("no new leases") && again.contains(" UTC on"), "{again}");
    let early = home.json(&[&["provider", "withdraw"][..], &at].concat());
    assert_eq!(early["transaction"], Value::Null, "{early}");
    home.run(&[&["provider", "exit", "--cancel"][..], &at].concat()).succeeded();
    assert_eq!(home.json(&[&["provider", "exit", "--cancel"][..], &at].concat())["exitAt"], 0);

    home.json(&[&["provider", "exit"][..], &at].concat());
    cast(url, &["rpc", "evm_increaseTime", "7300"]);
    // The next block has that time.
    let withdrawn = loop {
        let withdrawn = home.json(&[&["provider", "withdraw"][..], &at].concat());
        if withdrawn["transaction"].is_string() {
            break withdrawn;
        }
    };
    assert_ne!(withdrawn["stake"], "0x0");
    home.run(&[&["provider", "withdraw"][..], &at].concat()).refused(1, &["not a registered provider"]);
}

#[test]
fn three_providers_vote_on_anvil() {
    let home = Home::new();
    let (_anvil, url) = anvil(&["--block-time", "1", "--mixed-mining"]);
    for (name, number) in [("dev", "0"), ("lender", "1"), ("client", "2"), ("other", "3"), ("third", "4")] {
        home.run(&["account", "import", name, "--devnet", number]).succeeded();
    }
    home.run(&["deploy", "--account", "dev", "--rpc-url", &url, "--devnet-settings", "--broadcast"]).succeeded();
    for to in [
        "0x70997970C51812dc3A010C7d01b50e0d17dc79C8",
        "0x3C44CdDdB6a900fa2b585dd299e03d12FA4293BC",
        "0x90F79bf6EB2c4f870365E785982E1f101E93b906",
        "0x15d34AAf54267DB7D7c367839AAf71A00a2C6A65",
    ] {
        home.run(&["account", "send", to, "5000", "--account", "dev", "--rpc-url", &url]).succeeded();
    }
    let start = |name: &&str| start_provider(&home, &url, name, &["--poll-millis", "250"]);
    let _servers: Vec<Server> = ["lender", "other", "third"].iter().map(start).collect();
    job(&home, "replicas = 3\nlimit = 4");
    let ledger = submit(&home, &url);
    assert_voted(&home, &url, &ledger);
}
