//! Providers that are stopped (`SIGSTOP`) or killed (`SIGKILL`) between commit and reveal, while block time passes.

use serde_json::Value;

use crate::{
    support::{Home, PATIENCE, Server, cast, client},
    votes::greetings,
    walk::{provider, run_provider},
};

/// Seconds to reveal.
const REVEAL: u64 = 1_500;

/// Writes a job of two greetings in a batch that two execute; one vote is believed.
fn job(home: &Home, nonce: usize) {
    let assurance = format!("reveal-seconds = {REVEAL}\nreplicas = 2\nlimit = 2\ntarget = 0.7");
    greetings(home, &format!("Ada {nonce}\nGrace\n"), &assurance);
}

/// Waits until a document says something; the document.
fn until(home: &Home, args: &[&str], says: impl Fn(&Value) -> bool) -> Value {
    let start = std::time::Instant::now();
    loop {
        let found = home.json(args);
        if says(&found) {
            return found;
        }
        assert!(start.elapsed() < PATIENCE, "{found}");
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
}

/// What each provider's vote about the newest job is.
fn votes(status: &Value) -> Vec<&str> {
    let batches = status["batches"].as_array().into_iter().flatten();
    batches
        .flat_map(|batch| batch["votes"].as_array().into_iter().flatten())
        .filter_map(|vote| vote["state"].as_str())
        .collect()
}

struct Voted {
    id: String,
    /// Follows the job.
    client: Server,
}

/// Has `lender` commit and stop there, by a signal; then `other` commits and reveals, and block time passes.
fn away(
    home: &Home,
    url: &str,
    nonce: usize,
    (lender, signal): (&Server, &str),
    other: &Server,
    seconds: u64,
) -> Voted {
    other.signal("-STOP");
    job(home, nonce);
    let out = format!("o{nonce}");
    let args = client(url, &["submit", "job.toml", "--out", &out, "--json"]);
    let client = Server::start(home.conun(&args));
    let jobs =
        until(home, &["job", "list", "--rpc-url", url], |jobs| jobs.as_array().is_some_and(|jobs| jobs.len() > nonce));
    let id = jobs.as_array().unwrap().last().unwrap()["job"].as_str().unwrap().to_owned();
    let status = ["job", "status", &id[..], "--rpc-url", url];
    until(home, &status, |status| votes(status) == ["committed"]);
    lender.signal(signal);
    other.signal("-CONT");
    until(home, &status, |status| votes(status).contains(&"revealed"));
    cast(url, &["rpc", "evm_increaseTime", &seconds.to_string()]);
    Voted { id, client }
}

#[test]
fn a_provider_stopped_or_killed_before_its_reveal_reveals_in_time_or_says_what_that_cost() {
    let home = Home::new();
    let devnet = home.devnet(&[]);
    let url = &devnet.url;
    let mut lender = provider(&home, url, "lender", "1");
    let other = provider(&home, url, "other", "3");
    home.run(&["account", "import", "client", "--devnet", "2"]).succeeded();
    let folder = home.path("lender");
    let folder = folder.to_str().unwrap();
    let status = ["provider", "status", "--data-dir", folder];

    for (nonce, signal) in ["-STOP", "-KILL"].into_iter().enumerate() {
        let mut voted = away(&home, url, nonce, (&lender, signal), &other, REVEAL - 100);
        if signal == "-STOP" {
            lender.signal("-CONT");
        } else {
            lender = run_provider(&home, "lender");
        }
        assert_eq!(voted.client.wait(), Some(0), "{signal}");
        let told = until(&home, &["job", "status", &voted.id, "--rpc-url", url], |told| votes(told).len() == 2);
        assert_eq!(votes(&told), ["revealed", "revealed"], "{signal}: {told}");
    }
    assert_eq!(home.json(&status)["last"]["losses"], Value::Array(Vec::new()));

    let voted = away(&home, url, 2, (&lender, "-STOP"), &other, REVEAL + 100);
    lender.signal("-CONT");
    let told = until(&home, &status, |status| status["last"]["losses"][0].is_object());
    assert_eq!(told["last"]["losses"][0]["reason"], "notRevealed", "{told}");
    let words = "the result that was committed to was not shown before the time for it was over";
    let text = home.run(&status).succeeded().stdout;
    assert!(text.contains(words) && text.contains("lost 0."), "{text}");
    until(&home, &["provider", "why", &voted.id, "--data-dir", folder], |why| why[&voted.id]["losses"][0].is_object());
    let text = home.run(&["provider", "why", &voted.id, "--data-dir", folder]).succeeded().stdout;
    assert!(text.contains(words), "{text}");
}
