//! The README's five minutes: a provider in one terminal, a requester in another, against the devnet.

use std::sync::LazyLock;

use crate::support::{Home, Server, client, root};

/// Registers account `name` (the devnet's `number`) as a provider in a folder of its own.
pub(crate) fn provider(home: &Home, url: &str, name: &str, number: &str) -> Server {
    home.run(&["account", "import", name, "--devnet", number]).succeeded();
    start_provider(home, url, name, &["--poll-millis", "150"])
}

/// Registers an account that is there, and runs it.
pub(crate) fn start_provider(home: &Home, url: &str, name: &str, init: &[&str]) -> Server {
    let folder = home.path(name);
    let folder = folder.to_str().unwrap();
    // Whatever else this machine does.
    let args = ["provider", "init", "--run-always", "--account", name, "--rpc-url", url, "--data-dir", folder];
    home.run(&[&args[..], init].concat()).succeeded();
    run_provider(home, name)
}

/// Runs a registered provider and waits until it is ready.
pub(crate) fn run_provider(home: &Home, name: &str) -> Server {
    let folder = home.path(name);
    let mut server = Server::start(home.conun(&["provider", "run", "--json", "--data-dir", folder.to_str().unwrap()]));
    server.wait_for("\"ready\"");
    server
}

pub(crate) fn hello() -> &'static str {
    static FILE: LazyLock<String> =
        LazyLock::new(|| root().join("examples/hello/job.toml").to_str().unwrap().to_owned());
    &FILE
}

#[test]
fn a_first_paid_job() {
    let home = Home::new();
    let devnet = home.devnet(&[]);
    let url = &devnet.url;
    let _provider = provider(&home, url, "lender", "1");
    home.run(&["account", "import", "client", "--devnet", "2"]).succeeded();

    let ledger = home.json(&client(url, &["submit", hello(), "--out", "greetings"]));
    assert_eq!(ledger["tasks"], 12);
    assert_eq!(ledger["providers"][0]["tasks"], 12);
    assert_eq!(std::fs::read_to_string(home.path("greetings/0")).unwrap(), "Hello, Ada Lovelace! (2 words)\n");
    assert_eq!(std::fs::read_dir(home.path("greetings")).unwrap().count(), 12);

    let job = ledger["job"].as_str().unwrap();
    assert_eq!(home.json(&["job", "list", "--rpc-url", url])[0]["state"], "done");
    let status = home.json(&["job", "status", &job[..10], "--rpc-url", url]);
    assert!(status["batches"].as_array().unwrap().iter().all(|batch| batch["stage"] == "settled"));

    let folder = home.path("lender");
    let folder = folder.to_str().unwrap();
    let withdrawn = home.json(&["provider", "withdraw", "--data-dir", folder]);
    assert_eq!(withdrawn["amount"], ledger["spent"]);
    assert_eq!(home.json(&["provider", "withdraw", "--data-dir", folder])["amount"], "0x0");
    home.run(&["job", "cancel", &job[..10], "--account", "lender", "--rpc-url", url]).refused(1, &["was posted by"]);
    let checks = home.json(&["doctor", "--rpc-url", url]);
    assert!(checks.as_array().unwrap().iter().all(|check| check["ok"] == true), "{checks}");
}

#[test]
fn a_paused_provider_takes_nothing_until_it_is_resumed_and_a_restart_does_not_forget() {
    let home = Home::new();
    let devnet = home.devnet(&[]);
    let mut running = provider(&home, &devnet.url, "lender", "1");
    let folder = home.path("lender");
    let folder = folder.to_str().unwrap();
    home.run(&["provider", "pause", "--data-dir", folder]).succeeded();
    running.signal("-TERM");
    assert_eq!(running.wait(), Some(0), "it stops cleanly");
    assert_eq!(home.json(&["provider", "status", "--data-dir", folder])["running"], false);
    let mut running = run_provider(&home, "lender");
    assert_eq!(home.json(&["provider", "status", "--data-dir", folder])["paused"], true);

    home.run(&["account", "import", "client", "--devnet", "2"]).succeeded();
    let args = client(&devnet.url, &["submit", hello(), "--out", "o", "--json"]);
    let mut submit = Server::start(home.conun(&args));
    // The job is on the chain, and ten blocks pass in which a provider that is not paused would long have taken it.
    let block = || home.json(&["provider", "status", "--data-dir", folder])["last"]["block"].as_u64().unwrap();
    while home.json(&["job", "list", "--rpc-url", &devnet.url]).as_array().unwrap().is_empty() {}
    let start = block();
    while block() < start + 10 {}
    let status = home.json(&["provider", "status", "--data-dir", folder]);
    assert_eq!((&status["running"], &status["last"]["work"]["held"]), (&true.into(), &0.into()), "{status}");

    home.run(&["provider", "resume", "--data-dir", folder]).succeeded();
    running.wait_for("\"submitted\"");
    assert_eq!(submit.wait(), Some(0));
}

#[test]
fn an_interrupted_requester_goes_on_and_a_cancelled_job_is_refunded() {
    let home = Home::new();
    let devnet = home.devnet(&[]);
    let url = &devnet.url;
    home.run(&["account", "import", "client", "--devnet", "2"]).succeeded();
    let before = home.json(&["account", "balance", "client", "--rpc-url", url, "--account", "client"]);
    let submit = || {
        let mut submit = Server::hear(home.conun(&client(url, &["submit", hello()])));
        submit.wait_for("it is served from here");
        submit.signal("-INT");
        assert_eq!(submit.wait(), Some(130));
        home.json(&["job", "list", "--rpc-url", url]).as_array().unwrap().last().unwrap()["job"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    let cancelled = submit();
    let refund = home.json(&["job", "cancel", &cancelled, "--account", "client", "--rpc-url", url]);
    let after = home.json(&["account", "balance", "client", "--rpc-url", url, "--account", "client"]);
    assert_eq!(after["locked"], "0x0");
    assert_eq!(after["available"], refund["refund"]);
    assert_ne!(after["available"], before["available"]);
    home.run(&["job", "cancel", &cancelled, "--account", "client", "--rpc-url", url])
        .refused(1, &["cancelled already"]);

    let resumed = submit();
    let _provider = provider(&home, url, "lender", "1");
    let ledger = home.json(&client(url, &["result", &resumed, "--out", "o"]));
    assert_eq!(ledger["providers"][0]["tasks"], 12);
    assert!(std::fs::read_to_string(home.path("o/11")).unwrap().contains("Satoshi"));
    home.run(&["job", "accept", &resumed, "--account", "client", "--rpc-url", url]).refused(1, &["no such batch"]);
}

#[test]
fn a_provider_killed_in_the_middle_of_its_work_resumes_it() {
    let home = Home::new();
    let devnet = home.devnet(&[]);
    let url = &devnet.url;
    let mut running = provider(&home, url, "lender", "1");
    home.run(&["account", "import", "client", "--devnet", "2"]).succeeded();
    let args = client(url, &["submit", hello(), "--out", "o", "--json"]);
    let mut submit = Server::start(home.conun(&args));
    running.wait_for("\"leased\"");
    running.signal("-KILL");
    running.wait();
    let _running = run_provider(&home, "lender");
    assert_eq!(submit.wait(), Some(0));
    let list = home.json(&["job", "list", "--rpc-url", url]);
    assert_eq!(list[0]["state"], "done");
    let status = home.json(&["job", "status", list[0]["job"].as_str().unwrap(), "--rpc-url", url]);
    assert_eq!(status["ledger"]["expiredLeases"], 0, "no lease was lost");
}

/// A folder that is lost is made anew, one that is there is not overwritten.
#[test]
fn a_providers_folder_is_neither_overwritten_nor_lost_for_good() {
    let home = Home::new();
    let devnet = home.devnet(&[]);
    let folder = home.path("lender");
    drop(provider(&home, &devnet.url, "lender", "1"));
    home.run(&["account", "import", "other", "--devnet", "3"]).succeeded();
    let folder_text = folder.to_str().unwrap();
    home.run(&["provider", "init", "--account", "other", "--rpc-url", &devnet.url, "--data-dir", folder_text])
        .refused(1, &["a provider's folder already", "--data-dir", "nothing was sent"]);
    std::fs::remove_dir_all(&folder).unwrap();
    let _running = start_provider(&home, &devnet.url, "lender", &[]);
}

#[test]
fn tasks_that_fail_are_paid_and_named() {
    let home = Home::new();
    let devnet = home.devnet(&[]);
    let _provider = provider(&home, &devnet.url, "lender", "1");
    home.run(&["account", "import", "client", "--devnet", "2"]).succeeded();
    let program = root().join("examples/hello/hello.wasm");
    // Far too little fuel for anything.
    let job = format!("program = {program:?}\ninput-lines = 'names'\nprice = '1'\nfuel-limit = 10");
    std::fs::write(home.path("names"), "Ada\nGrace\n").unwrap();
    std::fs::write(home.path("job.toml"), job).unwrap();
    let done =
        home.json(&["job", "submit", "job.toml", "--account", "client", "--rpc-url", &devnet.url, "--out", "out"]);
    assert_eq!(done["failedTasks"], serde_json::json!([0, 1]), "{done}");
    assert_eq!(done["fuel"], 20);
    assert_eq!(std::fs::read(home.path("out/1")).unwrap(), b"");
}
