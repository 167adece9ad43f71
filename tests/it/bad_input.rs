//! Bad input gets a sentence that says what to do, and nothing is lost.

use crate::{
    support::{Home, Server, anvil, cast, client},
    walk::{hello, provider},
};

#[test]
fn an_unreachable_endpoint() {
    let home = Home::new();
    home.run(&["job", "list", "--rpc-url", "http://127.0.0.1:1"])
        .refused(75, &["no Ethereum node answers", "conun devnet"]);
    home.run(&["doctor", "--rpc-url", "http://127.0.0.1:1"]).refused(1, &[]);
}

#[test]
fn a_computer_without_root_certificates() {
    let home = Home::new();
    let devnet = home.devnet(&[]);
    let list = |url: &str| {
        let mut command = home.conun(&["job", "list", "--rpc-url", url]);
        let output = command.env("SSL_CERT_FILE", "/dev/null").env("SSL_CERT_DIR", home.path("")).output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    assert_eq!(list(&devnet.url).0, Some(0));
    let (code, told) = list("https://127.0.0.1:1");
    assert!(code == Some(75) && told.contains("ca-certificates") && !told.contains("panicked"), "{told}");
}

#[test]
fn the_wrong_chain() {
    let home = Home::new();
    let devnet = home.devnet(&[]);
    home.run(&["job", "list", "--rpc-url", &devnet.url, "--chain", "1"])
        .refused(1, &["is chain 31337, not 1", "nothing was sent"]);
    let other = Home::new().devnet(&["--chain-id", "5"]);
    let record = home.path("deployments/31337.json");
    home.run(&["job", "list", "--rpc-url", &other.url, "--deployment", record.to_str().unwrap()])
        .refused(1, &["is a deployment on chain 31337", "is chain 5"]);
    // A provider keeps to the chain it was made for.
    let _running = provider(&home, &devnet.url, "lender", "1");
    let folder = home.path("lender");
    let config = std::fs::read_to_string(folder.join("provider.toml")).unwrap();
    let copy = home.path("copy");
    std::fs::create_dir(&copy).unwrap();
    std::fs::write(copy.join("provider.toml"), config).unwrap();
    home.run(&["provider", "run", "--rpc-url", &other.url, "--data-dir", copy.to_str().unwrap()])
        .refused(1, &["serves chain 5", "--rpc-url"]);
}

#[test]
fn no_contracts() {
    let home = Home::new();
    let (_anvil, url) = anvil(&[]);
    home.run(&["job", "list", "--rpc-url", &url]).refused(1, &["no deployment is recorded", "conun deploy"]);
    // A record of a chain that was reset.
    drop(home.devnet(&[]));
    home.run(&["job", "list", "--rpc-url", &url])
        .refused(1, &["there are no contracts at", "conun deploy --broadcast"]);
}

#[test]
fn accounts_and_passwords() {
    let home = Home::new();
    home.run(&["job", "cancel", "0x1"]).refused(2, &["no account given", "--account"]);
    home.run(&["job", "cancel", "0x1", "--account", "nobody"]).refused(1, &["no account nobody", "conun account new"]);
    home.run(&["account", "new", "alice"]).succeeded();
    home.run(&["account", "new", "alice"]).refused(1, &["nothing was overwritten"]);
    home.run(&["account", "new", "a/b"]).refused(1, &["cannot be an account's name"]);
    std::fs::write(home.path("wrong"), "wrong").unwrap();
    let wrong = home.path("wrong");
    home.run(&["job", "cancel", "0x1", "--account", "alice", "--password-file", wrong.to_str().unwrap()])
        .refused(1, &["wrong password"]);
    home.run(&["account", "import", "x", "--private-key-file", wrong.to_str().unwrap()])
        .refused(1, &["no private key"]);
    home.run(&["account", "import", "x", "--devnet", "10"]).refused(1, &["accounts 0 to 9"]);
    // One digit of an EIP-55 address mistyped.
    home.run(&["account", "balance", "0x70997970C51812dc3A010C7d01b50e0d17dc79c8"]).refused(2, &["checksum"]);
    let no_terminal =
        home.conun(&["job", "cancel", "0x1", "--account", "alice"]).env_remove("ETH_PASSWORD").output().unwrap();
    assert_eq!(no_terminal.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&no_terminal.stderr).contains("--password-file"));
}

#[test]
fn not_enough_tokens_or_ether() {
    let home = Home::new();
    let devnet = home.devnet(&[]);
    let url = &devnet.url;
    let poor = home.json(&["account", "new", "poor"])["address"].as_str().unwrap().to_owned();
    home.run(&["job", "submit", hello(), "--account", "poor", "--rpc-url", url])
        .refused(1, &["has no ether", "nothing was sent"]);
    home.run(&["provider", "init", "--account", "poor", "--rpc-url", url]).refused(1, &["has no ether"]);
    home.run(&["account", "import", "rich", "--devnet", "1"]).succeeded();
    home.run(&["account", "send", &poor, "0.1", "--ether", "--account", "rich", "--rpc-url", url]).succeeded();
    home.run(&["job", "submit", hello(), "--account", "poor", "--rpc-url", url])
        .refused(1, &["deposit", "nothing was sent"]);
    home.run(&["provider", "init", "--account", "poor", "--rpc-url", url]).refused(1, &["are needed"]);
    home.run(&["provider", "init", "--account", "rich", "--stake", "1", "--rpc-url", url]).refused(1, &["--stake"]);
    home.run(&["provider", "init", "--account", "rich", "--groups", &poor, "--rpc-url", url])
        .refused(1, &["does not say who its members are", "balanceOf", "nothing was sent"]);
    for (option, value) in
        [("--max-disk", "1000000001"), ("--max-memory", "4097"), ("--categories", "x"), ("--groups", "0x1")]
    {
        home.run(&["provider", "init", "--account", "rich", option, value, "--rpc-url", url])
            .refused(2, &[option, value]);
    }
    assert_eq!(cast(url, &["nonce", &poor]), "0");
    home.run(&["provider", "run", "--data-dir", "nowhere"]).refused(1, &["conun provider init"]);
}

#[test]
fn job_files() {
    let home = Home::new();
    let devnet = home.devnet(&[]);
    home.run(&["account", "import", "a", "--devnet", "1"]).succeeded();
    std::fs::write(home.path("x.wasm"), "no wasm").unwrap();
    for (text, words) in [
        ("program = 'missing.wasm'\nprice = '1'\ninput-lines = 'x.wasm'", "missing.wasm"),
        ("program = 'x.wasm'\nprice = '1'\ninput-lines = 'x.wasm'", "cannot be executed"),
        ("nonsense", "job.toml"),
    ] {
        std::fs::write(home.path("job.toml"), text).unwrap();
        home.run(&["job", "submit", "job.toml", "--account", "a", "--rpc-url", &devnet.url]).refused(1, &[words]);
    }
    home.run(&["job", "submit", "none.toml", "--account", "a", "--rpc-url", &devnet.url]).refused(1, &["none.toml"]);
    let dry = home.json(&["job", "submit", hello(), "--dry-run"]);
    assert_eq!((&dry["tasks"], &dry["batches"]), (&12.into(), &4.into()));
    home.run(&["job", "status", "0xabc", "--rpc-url", &devnet.url]).refused(1, &["no job's id starts with abc"]);
    assert_eq!(cast(&devnet.url, &["nonce", "0x70997970C51812dc3A010C7d01b50e0d17dc79C8"]), "0", "nothing was sent");
}

#[test]
fn a_data_folder_in_use_by_another_agent() {
    let home = Home::new();
    let devnet = home.devnet(&[]);
    let _running = provider(&home, &devnet.url, "lender", "1");
    let folder = home.path("lender");
    home.run(&["provider", "run", "--data-dir", folder.to_str().unwrap()])
        .refused(1, &["in use by another agent", "--data-dir"]);
    home.run(&[
        "provider",
        "init",
        "--account",
        "lender",
        "--rpc-url",
        &devnet.url,
        "--data-dir",
        folder.to_str().unwrap(),
    ])
    .refused(1, &["registered already"]);
}

#[test]
fn an_occupied_port_and_a_public_address() {
    let home = Home::new();
    let devnet = home.devnet(&[]);
    let address = devnet.url.trim_start_matches("http://");
    home.run(&["devnet", "--listen", address]).refused(1, &["--listen"]);
    home.run(&["devnet", "--listen", "0.0.0.0:0"]).refused(1, &["loopback"]);
}

/// A requester that lies about its program is found out before any stake is at risk, and a peer's corrupt blob is not used.
#[test]
fn a_corrupt_blob_of_a_peer_costs_the_provider_nothing() {
    let home = Home::new();
    let devnet = home.devnet(&[]);
    let url = &devnet.url;
    home.run(&["account", "import", "client", "--devnet", "2"]).succeeded();
    let mut submit = Server::start(home.conun(&client(url, &["submit", hello()])));
    while home.json(&["job", "list", "--rpc-url", url]).as_array().unwrap().is_empty() && submit.is_running() {}
    submit.signal("-INT");
    submit.wait();
    // One byte of the program is flipped in what the requester serves.
    let blobs = home.path(".conun/requester/blobs/data");
    let program = std::fs::read(crate::support::root().join("examples/hello/hello.wasm")).unwrap();
    let mut flipped = 0;
    for entry in std::fs::read_dir(&blobs).unwrap() {
        let path = entry.unwrap().path();
        let mut bytes = std::fs::read(&path).unwrap();
        if bytes == program {
            bytes[5_000] ^= 1;
            std::fs::write(&path, bytes).unwrap();
            flipped += 1;
        }
    }
    assert_eq!(flipped, 1, "the store keeps blobs as files");
    let job = home.json(&["job", "list", "--rpc-url", url])[0]["job"].as_str().unwrap().to_owned();
    let _serving = Server::start(home.conun(&client(url, &["result", &job])));
    let mut running = provider(&home, url, "lender", "1");
    let trouble = running.wait_for("\"trouble\"");
    assert!(trouble.contains("cannot be had"), "{trouble}");
    let status = home.json(&["job", "status", &job, "--rpc-url", url]);
    assert!(status["batches"].as_array().unwrap().iter().all(|batch| batch["stage"] == "open"), "{status}");
    let held = home.json(&["account", "balance", "lender", "--rpc-url", url]);
    assert_eq!(held["stake"], format!("0x{:x}", 1_000u128 * 10u128.pow(18)), "its stake is whole");
}
