//! `conun replay`: an auditor executes the chain's blocks once more.

use std::{fs, path::Path};

use serde_json::{Value, json};

use crate::{
    support::{Devnet, Home},
    walk::{hello, provider},
};

/// A devnet on which a job was paid for, and the job's books.
fn market(home: &Home) -> (Devnet, Value) {
    let devnet = home.devnet(&[]);
    let _provider = provider(home, &devnet.url, "lender", "1");
    home.run(&["account", "import", "client", "--devnet", "2"]).succeeded();
    let submit = ["job", "submit", hello(), "--account", "client", "--rpc-url", &devnet.url, "--out", "greetings"];
    let ledger = home.json(&submit);
    (devnet, ledger)
}

fn edit(path: &Path, change: impl FnOnce(&mut Value)) {
    let mut recording: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    change(&mut recording);
    fs::write(path, recording.to_string()).unwrap();
}

/// The receipt of the first transaction of a recording that emitted something by a registry of jobs.
fn receipt(recording: &mut Value) -> &mut Value {
    let jobs = recording["contracts"]["jobs"].as_str().unwrap().to_lowercase();
    let receipts = recording["blocks"]
        .as_array_mut()
        .unwrap()
        .iter_mut()
        .flat_map(|block| block["receipts"].as_array_mut().unwrap());
    let to = |receipt: &Value| receipt["to"].as_str().map(str::to_lowercase);
    { receipts }.find(|receipt| to(receipt).as_ref() == Some(&jobs)).unwrap()
}

#[test]
fn a_paid_job_is_replayed_and_what_was_tampered_with_is_found() {
    let home = Home::new();
    let (devnet, ledger) = market(&home);
    let kept = home.path("kept.json");
    let replay = ["replay", "--rpc-url", &devnet.url, "--save", kept.to_str().unwrap(), "--report", "page.html"];
    let online = home.json(&replay);
    let report = &online["replay"];
    assert_eq!(report["differences"], json!([]));
    let number = |name: &str| report[name].as_u64().unwrap();
    assert!(number("transactions") >= 15 && number("logs") >= 20 && number("slots") >= 20, "{report}");
    assert_eq!(number("checked"), number("last") - number("first") + 1);
    let blocks = report["blocks"].as_array().unwrap();
    assert_eq!(blocks.len() as u64, number("checked"));
    let of_all = |name: &str| blocks.iter().map(|block| block[name].as_u64().unwrap()).sum::<u64>();
    assert_eq!((of_all("transactions"), of_all("differences")), (number("transactions"), 0));
    let flow = &report["ledger"]["flows"][0];
    assert_eq!((&flow["job"], &flow["paid"], &flow["tasks"]), (&ledger["job"], &ledger["spent"], &json!(12)));
    // What the post pulled, too.
    let deposited = report["ledger"]["deposited"].as_object().unwrap();
    let requester = ledger["requester"].as_str().unwrap();
    let by_requester = deposited.iter().find(|(account, _)| account.eq_ignore_ascii_case(requester));
    assert_eq!(by_requester.map(|(_, amount)| amount), Some(&ledger["deposit"]), "{report}");
    assert_eq!(deposited.len(), 2, "the provider's stake");
    assert_eq!((&report["ledger"]["jobs"], &report["ledger"]["ended"]), (&json!(1), &json!(1)));

    // The same as a page, which asks nobody for anything.
    let page = fs::read_to_string(home.path("page.html")).unwrap();
    let con = conun_agent::parse_tokens;
    for part in [
        "No difference",
        "JobRegistry.submit",
        "Who paid whom",
        "Block by block",
        ledger["providers"][0]["account"].as_str().unwrap(),
    ] {
        assert!(page.to_lowercase().contains(&part.to_lowercase()), "no `{part}` in {page}");
    }
    let paid = page.split("<td>").map(|cell| cell.split('<').next().unwrap());
    let spent: alloy::primitives::U256 = ledger["spent"].as_str().unwrap().parse().unwrap();
    assert!({ paid }.any(|cell| con(cell) == Some(spent)), "{page}");
    assert!(!page.contains("http") && !page.contains("<script") && !page.contains("@import"), "{page}");

    // What one of its transactions did, by names.
    let mut posted = Value::Null;
    edit(&kept, |recording| posted = receipt(recording).clone());
    let hash = posted["transactionHash"].as_str().unwrap();
    let trace = ["sim", "trace", hash, "--rpc-url", &devnet.url];
    let gas = u64::from_str_radix(posted["gasUsed"].as_str().unwrap().trim_start_matches("0x"), 16).unwrap();
    assert_eq!(home.json(&trace)["gas"], gas);
    let text = home.run(&trace).succeeded().stdout;
    let requester = ledger["requester"].as_str().unwrap();
    let job = ledger["job"].as_str().unwrap();
    for part in [
        "\nJobRegistry.postCall {".to_owned(),
        "\n  Escrow.lockCall {".to_owned(),
        format!("Escrow.balances[{}]: 0x", requester.parse::<alloy::primitives::Address>().unwrap()),
        format!("JobRegistry.slots[{job}][0]: 0x0 -> 0x"),
        "event JobRegistry.JobPosted {".to_owned(),
    ] {
        assert!(text.contains(&part), "no `{part}` in {text}");
    }
    home.run(&["sim", "trace", "0x00", "--rpc-url", &devnet.url]).refused(2, &["0x00"]);
    let unknown = format!("0x{}", "77".repeat(32));
    home.run(&["sim", "trace", &unknown, "--rpc-url", &devnet.url]).refused(1, &["has no block with transaction"]);

    // Without the chain, from the file.
    drop(devnet);
    let offline = |file: &Path| home.run(&["replay", "--json", "--recording", file.to_str().unwrap()]);
    let again: Value = serde_json::from_str(&offline(&kept).succeeded().stdout).unwrap();
    assert_eq!(again, online);

    // What a chain, or whoever passes it on, could lie about.
    type Lie = fn(&mut Value);
    let lies: [(&str, Lie); 4] = [
        ("status", |recording| receipt(recording)["status"] = json!("0x0")),
        ("gas", |recording| receipt(recording)["gasUsed"] = json!("0x5208")),
        ("logs", |recording| receipt(recording)["logs"][0]["data"] = json!("0x")),
        ("slot", |recording| {
            let blocks = recording["blocks"].as_array_mut().unwrap();
            let slots = blocks
                .iter_mut()
                .find_map(|block| block["slots"].as_object_mut().unwrap().values_mut().next())
                .unwrap();
            *slots.as_object_mut().unwrap().values_mut().next().unwrap() = json!("0x7");
        }),
    ];
    for (what, lie) in lies {
        let tampered = home.path(what);
        fs::copy(&kept, &tampered).unwrap();
        edit(&tampered, lie);
        let ran = offline(&tampered).refused(1, &["1 differences"]);
        let document: Value = serde_json::from_str(&ran.stdout).unwrap();
        let difference = &document["replay"]["differences"][0];
        assert_eq!(difference["what"], what, "{}", ran.stdout);
        // Its block says so, and no other.
        let blocks = document["replay"]["blocks"].as_array().unwrap();
        let differing: Vec<_> = blocks.iter().filter(|block| block["differences"] != 0).collect();
        assert_eq!(differing.iter().map(|block| &block["number"]).collect::<Vec<_>>(), [&difference["block"]]);
        let page = home.path("tampered.html");
        let args = ["replay", "--recording", tampered.to_str().unwrap(), "--report", page.to_str().unwrap()];
        home.run(&args).refused(1, &["1 differences"]);
        assert!(fs::read_to_string(page).unwrap().contains("1 differences: the chain is not"), "{what}");
    }
}

#[test]
fn what_if_nobody_had_submitted_or_somebody_else_had_called() {
    let home = Home::new();
    let (devnet, ledger) = market(&home);
    let changes = home.path("changes.toml");
    let run = |text: &str| {
        fs::write(&changes, text).unwrap();
        home.json(&["replay", "--rpc-url", &devnet.url, "--what-if", changes.to_str().unwrap()])
    };
    let without = run("[[skip]]\nfunction = 'JobRegistry.submit'");
    assert_eq!(without["replay"]["differences"], json!([]), "the chain itself is as it was");
    assert_eq!(without["whatIf"]["ledger"]["flows"], json!([]), "{without}");
    let outcomes: Vec<_> =
        without["whatIf"]["changed"].as_array().unwrap().iter().map(|tx| (&tx["function"], &tx["outcome"])).collect();
    assert!(outcomes.contains(&(&json!("JobRegistry.submit"), &json!("left out"))), "{outcomes:?}");
    assert!(outcomes.iter().any(|(_, outcome)| outcome.as_str().unwrap().starts_with("fails")), "{outcomes:?}");
    assert_eq!(without["whatIf"]["broken"], json!([]));

    // Somebody who burns what may be burned, in the last block.
    let record: Value = serde_json::from_slice(&fs::read(home.path("deployments/31337.json")).unwrap()).unwrap();
    let escrow = record["contracts"]["Escrow"]["address"].as_str().unwrap();
    let block = without["replay"]["last"].as_u64().unwrap();
    let who = ledger["requester"].as_str().unwrap();
    let with = run(&format!("[[send]]\nblock = {block}\nfrom = '{who}'\nto = '{escrow}'\ndata = '0x44df8e70'"));
    assert_eq!(with["whatIf"]["changed"][0]["outcome"], "succeeds", "{with}");
    assert_eq!(with["whatIf"]["ledger"]["flows"], with["replay"]["ledger"]["flows"]);
}

#[test]
fn a_range_or_a_file_that_cannot_be_replayed() {
    let home = Home::new();
    let devnet = home.devnet(&[]);
    let replay = |args: &[&str]| home.run(&[&["replay", "--rpc-url", &devnet.url], args].concat());
    replay(&["--from-block", "0"]).refused(1, &["blocks 0 to", "--from-block must be 1 or later"]);
    replay(&["--to-block", "100000"]).refused(1, &["are no range"]);
    let file = home.path("file");
    fs::write(&file, "what = 1").unwrap();
    replay(&["--recording", file.to_str().unwrap()]).refused(1, &["no recording of `conun replay --save`"]);
    replay(&["--what-if", file.to_str().unwrap()]).refused(1, &["unknown field `what`", "skip"]);
    replay(&["--recording", home.path("none").to_str().unwrap()]).refused(1, &["none"]);
    // One that lacks what the replay looks at.
    let kept = home.path("kept.json");
    replay(&["--save", kept.to_str().unwrap()]).succeeded();
    edit(&kept, |recording| recording["before"]["accounts"] = json!({}));
    home.run(&["replay", "--recording", kept.to_str().unwrap()])
        .refused(1, &["does not have the account of", "--rpc-url"]);
}
