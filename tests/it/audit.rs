//! Results executed once more: honest ones, false ones, and those that cannot be judged; and what challenging a false one comes to.

use std::{path::Path, process::Command, sync::Arc};

use alloy::{
    network::TransactionBuilder,
    primitives::{Address, B256, Bytes, U256},
    providers::{DynProvider, Provider},
    rpc::types::TransactionRequest,
};
use conun_agent::{
    chain::{Follower, JobEntry, endpoint},
    manifest::{Content, InputManifest, ResultManifest, TaskResult},
    net::{
        Gate, NetworkSettings, Node, NodeConfig, Rights,
        wire::{Refusal, Report},
    },
    requester::{JobFile, prepare},
};
use conun_bindings::{
    Contracts,
    abi::{JobRegistry, ProviderRegistry},
};
use conun_chain::dev_accounts;
use conun_vm::{Limits, Program, Task};
use serde_json::Value;
use tokio::sync::watch;

use crate::{
    support::{Devnet, Home, Server, cast, client, foundry, root},
    walk::{hello, provider},
};

/// Runs `conun audit` with `--json`; the document of one that ends with `code`.
pub(super) fn audit(home: &Home, url: &str, args: &[&str], code: i32) -> Value {
    let ran = home.run(&[&["audit", "--rpc-url", url, "--json"], args].concat());
    assert_eq!(ran.code, Some(code), "{ran:#?}");
    serde_json::from_str(&ran.stdout).unwrap()
}

/// The verdicts of all tasks.
pub(super) fn verdicts(report: &Value) -> Vec<&str> {
    let batches = report["batches"].as_array().unwrap().iter();
    let tasks = batches.flat_map(|batch| batch["tasks"].as_array().unwrap());
    tasks.map(|task| task["verdict"].as_str().unwrap()).collect()
}

fn numbers(report: &Value) -> Vec<u64> {
    report["batches"].as_array().unwrap().iter().map(|batch| batch["batch"].as_u64().unwrap()).collect()
}

#[test]
fn an_honest_job_agrees_with_every_engine_and_from_whatever_it_is_audited() {
    let home = Home::new();
    let devnet = home.devnet(&[]);
    let url = &devnet.url;
    let lender = provider(&home, url, "lender", "1");
    home.run(&["account", "import", "client", "--devnet", "2"]).succeeded();
    let submit = client(url, &["submit", hello(), "--out", "o"]);
    let ledger = home.json(&submit);
    let job = &ledger["job"].as_str().unwrap()[..12];

    // Its requester: all of it is in its folder.
    let report = audit(&home, url, &[job, "--save", "bundle"], 0);
    assert_eq!(verdicts(&report), ["agrees"; 12], "{report}");
    let batch = &report["batches"][0];
    assert_eq!(
        (&batch["root"], &batch["fuel"], &batch["leavesUnknown"]),
        (&batch["rootHere"], &batch["fuelHere"], &Value::Null)
    );
    assert_eq!(batch["tasks"][0]["here"], batch["tasks"][0]["there"]);
    assert_eq!(report["summary"]["agree"], 12);
    let text = home.run(&["audit", job, "--rpc-url", url]).succeeded().stdout;
    assert!(text.contains("tasks 0 to 2 agree") && text.contains("12 agree, 0 differ"), "{text}");

    // Drawn by lot, by provider; with the step machine.
    let lot = ["--share", "50%", "--seed", "7", "--engine", "step"];
    let drawn = audit(&home, url, &lot, 0);
    assert_eq!((drawn["summary"]["agree"].as_u64(), drawn["seed"].as_u64()), (Some(6), Some(7)), "{drawn}");
    assert_eq!(numbers(&drawn), numbers(&audit(&home, url, &lot, 0)));
    let account = ledger["providers"][0]["account"].as_str().unwrap();
    assert_eq!(audit(&home, url, &["--provider", account], 0)["summary"]["agree"], 12);
    let nobody = "0x000000000000000000000000000000000000dEaD";
    home.run(&["audit", "--provider", nobody, "--rpc-url", url]).refused(1, &["no such result", "conun job status"]);
    home.run(&["audit", "--rpc-url", url]).refused(2, &["--provider", "--share"]);
    home.run(&["audit", job, "--seed", "7", "--rpc-url", url]).refused(2, &["--share"]);

    // Somebody who has nothing but what the requester has saved; one byte of it is wrong.
    drop(lender);
    let record = home.path("deployments/31337.json");
    let other = Home::new();
    let about = [job, "--deployment", record.to_str().unwrap()];
    let reasons = |report: &Value| report["batches"][0]["tasks"][0]["reason"].as_str().unwrap().to_owned();
    let report = audit(&other, url, &about, 75);
    assert!(reasons(&report).contains("--data-dir"), "{report}");
    let bundle = home.path("bundle");
    let with_files = [&about[..], &["--folder", bundle.to_str().unwrap()]].concat();
    assert_eq!(verdicts(&audit(&other, url, &with_files, 0)), ["agrees"; 12]);
    let input = std::fs::read_dir(&bundle).unwrap().map(|file| file.unwrap().path());
    let input = input.into_iter().find(|path| std::fs::read(path).unwrap() == b"Ada Lovelace\n").unwrap();
    std::fs::write(&input, "Ada Lovelacf\n").unwrap();
    let report = audit(&other, url, &with_files, 75);
    // Its leaf is known, but not what it comes from.
    assert_eq!(verdicts(&report), [&["cannotTell"][..], &["agrees"; 11]].concat(), "{report}");
    assert!(reasons(&report).contains("its input is missing"), "{report}");

    // A provider that has had no part in it gets nothing of a job that is over, and is told why.
    drop(provider(&home, url, "stranger", "5"));
    let folder = home.path("stranger");
    let report = audit(&home, url, &[job, "--data-dir", folder.to_str().unwrap()], 75);
    let reason = reasons(&report);
    assert!(reason.contains("no peer gives it to this endpoint") && reason.contains("--folder"), "{reason}");
    home.run(&["audit", job, "--challenge", "--rpc-url", url, "--account", "client"]).refused(1, &["no arbiter"]);
}

/// Whoever asks gets everything.
#[derive(Debug)]
struct Everybody;

impl Gate for Everybody {
    fn rights(&self, _: &[u8; 32]) -> Option<Arc<Rights>> {
        Some(Arc::new(Rights::All))
    }

    fn news(&self) -> watch::Receiver<()> {
        watch::Sender::default().subscribe()
    }

    fn take(&self, _: &[u8; 32], _: Report) -> Result<(), Refusal> {
        Err(Refusal::NotYours)
    }
}

/// Puts the test's arbiter on a chain, compiled from its source.
async fn deploy_arbiter(home: &Home, url: &str) -> String {
    let (out, cache) = (home.path("out"), home.path("cache"));
    let mut forge = Command::new(foundry("forge"));
    forge.args(["build", "contracts/test/mocks/TestArbiter.sol", "--out"]).arg(&out).arg("--cache-path").arg(cache);
    let built = forge.current_dir(root()).output().unwrap();
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    let artifact = std::fs::read(out.join("TestArbiter.sol/TestArbiter.json")).unwrap();
    let artifact: Value = serde_json::from_slice(&artifact).unwrap();
    let code: Bytes = artifact["bytecode"]["object"].as_str().unwrap().parse().unwrap();
    let chain = endpoint::writer(url, dev_accounts()[0].clone()).await.unwrap();
    let creation = TransactionRequest::default().with_deploy_code(code);
    let receipt = chain.send_transaction(creation).await.unwrap().get_receipt().await.unwrap();
    receipt.contract_address.unwrap().to_string()
}

pub(super) fn key(number: usize) -> String {
    dev_accounts()[number].to_bytes().to_string()
}

/// A devnet on which the test's arbiter decides challenges, and its address.
pub(super) async fn court(home: &Home) -> (Devnet, String) {
    let state = home.path("chain.json");
    let state = state.to_str().unwrap();
    let mut before = home.devnet(&["--state", state]);
    let arbiter = deploy_arbiter(home, &before.url).await;
    before.server.signal("-INT");
    assert_eq!(before.server.wait(), Some(0));
    std::fs::remove_file(home.path("deployments/31337.json")).unwrap();
    let account = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8";
    let devnet = ["devnet", "--listen", "127.0.0.1:0", "--state", state, "--arbiter"];
    home.run(&[&devnet[..], &[account]].concat()).refused(1, &["the arbiter", "has no code on chain 31337"]);
    (home.devnet(&["--state", state, "--arbiter", &arbiter]), arbiter)
}

/// A provider that leases a job and says of it what it likes.
pub(super) struct Liar {
    pub(super) account: Address,
    pub(super) chain: DynProvider,
    contracts: Contracts,
    pub(super) node: Node,
    pub(super) entry: JobEntry,
    pub(super) job: B256,
}

impl Liar {
    /// Registers the devnet's account of that number, on the only job there is.
    pub(super) async fn new(home: &Home, url: &str, contracts: Contracts, number: usize) -> Self {
        let (name, number_text) = (format!("liar{number}"), number.to_string());
        home.run(&["account", "import", &name, "--devnet", &number_text]).succeeded();
        let folder = home.path(&name);
        let init = ["provider", "init", "--run-always", "--account", &name, "--rpc-url", url, "--data-dir"];
        home.run(&[&init[..], &[folder.to_str().unwrap()]].concat()).succeeded();
        let chain = endpoint::writer(url, dev_accounts()[number].clone()).await.unwrap();
        let bind = ([127, 0, 0, 1], 0).into();
        let node = NodeConfig { data_dir: folder, bind, network: NetworkSettings::default() };
        let node = Node::start(node).await.unwrap();
        node.open_to(Arc::new(Everybody));
        let contact = node.contact();
        let contact = ProviderRegistry::Contact { endpoint: contact.endpoint.into(), hint: contact.hint_text() };
        let providers = ProviderRegistry::new(contracts.providers, &chain);
        providers.setContact(contact).send().await.unwrap().get_receipt().await.unwrap();
        let mut follower = Follower::new(chain.clone(), contracts, 0).await.unwrap();
        follower.poll().await.unwrap();
        let job = follower.index().order[0];
        let entry = follower.index().job(&job).unwrap().clone();
        Self { account: dev_accounts()[number].address(), chain, contracts, node, entry, job }
    }

    async fn lease(&self, batches: Vec<u32>) {
        let registry = JobRegistry::new(self.contracts.jobs, &self.chain);
        let call = registry.lease(self.entry.job.clone(), batches);
        assert!(call.send().await.unwrap().get_receipt().await.unwrap().status());
    }

    /// Submits results, and serves their manifest.
    async fn submit(&self, batch: u32, first: u32, results: Vec<TaskResult>) {
        let manifest = ResultManifest { job: self.job, batch, results };
        let tree = manifest.tree(first).unwrap();
        let outputs = self.node.put(manifest.encode()).await.unwrap().into();
        let result = JobRegistry::Result { batch, root: tree.root(), fuel: tree.fuel(), outputs };
        let registry = JobRegistry::new(self.contracts.jobs, &self.chain);
        let call = registry.submit(self.entry.job.clone(), vec![result]);
        assert!(call.send().await.unwrap().get_receipt().await.unwrap().status());
    }
}

/// What honest providers make of a job file.
pub(super) fn honest(file: &Path) -> Vec<(TaskResult, Vec<u8>)> {
    let job = prepare(&JobFile::read(file).unwrap()).unwrap();
    let manifest = InputManifest::decode(&job.manifest).unwrap();
    let limits = Limits { memory_bytes: job.spec.memoryLimit, ..Limits::default() };
    let program = Program::compile(&job.wasm, limits).unwrap();
    let execute = |(index, stdin): (u32, &bytes::Bytes)| {
        let input = manifest.input(index, stdin, &job.files).unwrap().into();
        let done = program.execute(&Task { input, fuel_limit: job.job.fuelLimit }).unwrap();
        (TaskResult { outcome: done.outcome, fuel: done.fuel, output: Content::of(&done.output) }, done.output)
    };
    (0..).zip(&job.inputs).map(execute).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_liar_is_found_challenged_and_loses() {
    let home = Home::new();
    let (devnet, arbiter) = court(&home).await;
    let url = &devnet.url;
    let contracts: Contracts = Contracts::read(&home.path("deployments/31337.json")).unwrap();
    home.run(&["account", "import", "client", "--devnet", "2"]).succeeded();
    let program = root().join("examples/hello/hello.wasm");
    std::fs::write(home.path("names"), "Ada\nGrace\nEdsger\nBarbara\nTony\n").unwrap();
    let file = format!(
        "program = {program:?}\ninput-lines = 'names'\nprice = '1'\nbatch-size = 2\nfuel-limit = 1000000\nlease-seconds = 600\nwindow-seconds = 600"
    );
    std::fs::write(home.path("job.toml"), file).unwrap();
    // Its requester is away before there are results: it would accept what is what its provider committed to.
    let submit = client(url, &["submit", "job.toml"]);
    let mut submit = Server::hear(home.conun(&submit));
    submit.wait_for("it is served from here");
    submit.signal("-INT");
    assert_eq!(submit.wait(), Some(130));

    let liar = Liar::new(&home, url, contracts, 1).await;
    let job = liar.job.to_string();
    home.run(&["audit", &job, "--rpc-url", url]).refused(1, &["no such result"]);
    liar.lease(vec![0, 1, 2]).await;
    let honest = honest(&home.path("job.toml"));
    for (_, output) in &honest {
        liar.node.put(output.clone()).await.unwrap();
    }
    let mut results: Vec<_> = honest.iter().map(|(result, _)| *result).collect();
    // Task 1's result is right, what is served as its output is not.
    results[1].output.hash = liar.node.put("Hello, Mallory!\n").await.unwrap();
    // Task 3's is another: its last byte.
    let mut output = honest[3].1.clone();
    *output.last_mut().unwrap() ^= 1;
    results[3].output = Content::of(&output);
    liar.node.put(output.clone()).await.unwrap();
    // Of task 4 the fuel is.
    results[4].fuel += 1;
    liar.submit(0, 0, results[..2].to_vec()).await;
    liar.submit(1, 2, results[2..4].to_vec()).await;
    liar.submit(2, 4, results[4..].to_vec()).await;

    let report = audit(&home, url, &[&job], 1);
    assert_eq!(verdicts(&report), ["agrees", "differs", "agrees", "differs", "differs"], "{report}");
    let tasks: Vec<_> = (0..3).flat_map(|batch| report["batches"][batch]["tasks"].as_array().unwrap()).collect();
    let reason = |task: usize| tasks[task]["reason"].as_str().unwrap();
    assert!(reason(1).contains("its result is right") && reason(1).contains("conun job demand"), "{}", reason(1));
    assert_eq!(tasks[1]["here"], tasks[1]["there"]);
    let (there, here) = (results[3].output.root, honest[3].0.output.root);
    assert!(reason(3).contains(&format!("root is {there} there")) && reason(3).contains(&format!("{here} here")));
    assert!(reason(3).contains(&format!("first byte that differs is {}", output.len() - 1)), "{}", reason(3));
    assert!(reason(4).contains("fuel there") && !reason(4).contains("output"), "{}", reason(4));
    let text = home.run(&["audit", &job, "--rpc-url", url]);
    assert!(text.code == Some(1) && text.stdout.contains("DIFFERS"), "{text:?}");

    // Who gets neither program nor inputs cannot tell: their requester is away, and nobody else has them.
    let third = home.path("third");
    home.run(&["account", "import", "third", "--devnet", "4"]).succeeded();
    home.run(&[
        "provider",
        "init",
        "--account",
        "third",
        "--rpc-url",
        url,
        "--data-dir",
        third.to_str().unwrap(),
        "--run-always",
    ])
    .succeeded();
    let blind = audit(&home, url, &[&job, "--data-dir", third.to_str().unwrap()], 75);
    assert_eq!(verdicts(&blind), ["cannotTell"; 5], "{blind}");
    let why = blind["batches"][0]["tasks"][0]["reason"].as_str().unwrap();
    assert!(why.contains("the program is missing") && why.contains("could not be fetched"), "{why}");

    // Without the manifests it is known that batch 1 differs, and not which task.
    let bundle = home.path("bundle");
    std::fs::create_dir(&bundle).unwrap();
    let prepared = prepare(&JobFile::read(&home.path("job.toml")).unwrap()).unwrap();
    for (name, blob) in [("w", &prepared.wasm), ("m", &prepared.manifest)] {
        std::fs::write(bundle.join(name), blob).unwrap();
    }
    for (number, input) in prepared.inputs.iter().enumerate() {
        std::fs::write(bundle.join(number.to_string()), input).unwrap();
    }
    let alone = audit(&home, url, &[&job, "--folder", bundle.to_str().unwrap()], 1);
    assert_eq!(verdicts(&alone), ["agrees", "agrees", "cannotTell", "cannotTell", "differs"], "{alone}");
    assert_eq!(alone["batches"][1]["verdict"], "differs");

    // The challenge: asked for, opened with the right task, upheld.
    let challenge = ["audit", &job, "--challenge", "--account", "client", "--rpc-url", url];
    home.run(&challenge).refused(2, &["--yes", "nothing was sent"]);
    let before = home.json(&["account", "balance", "liar1", "--rpc-url", url])["stake"].clone();
    let challenged = audit(&home, url, &[&job, "--challenge", "--yes", "--account", "client"], 1);
    let cases = challenged["challenges"].as_array().unwrap();
    let told: Vec<_> = cases.iter().map(|case| (case["batch"].as_u64(), case["task"].as_u64())).collect();
    assert_eq!(told, [(Some(0), None), (Some(1), Some(3)), (Some(2), Some(4))], "{challenged}");
    assert!(cases[0]["reason"].as_str().unwrap().contains("no task is known"), "{challenged}");
    let case = cases[2]["case"].as_str().unwrap();
    assert_eq!(cast(url, &["call", &arbiter, "caseId()(bytes32)"]), case);
    assert_eq!(cast(url, &["call", &arbiter, "task()(uint32)"]), "4");
    let client: Address = cast(url, &["call", &arbiter, "challenger()(address)"]).parse().unwrap();
    assert_eq!(client, dev_accounts()[2].address());
    let leaf = &tasks[4]["leaf"];
    assert_eq!(cast(url, &["call", &arbiter, "commitment()(bytes32)"]), leaf.as_str().unwrap());
    // The same once more is refused, and said.
    let again = audit(&home, url, &[&job, "--challenge", "--yes", "--account", "client"], 1);
    assert!(again["challenges"][1]["reason"].as_str().unwrap().contains("CaseExists"), "{again}");
    for case in &cases[1..] {
        let rule = "rule(address,bytes32,bool,address)";
        let (disputes, case) = (contracts.disputes.to_string(), case["case"].as_str().unwrap());
        let none = Address::ZERO.to_string();
        cast(url, &["send", "--private-key", &key(5), &arbiter, rule, &disputes, case, "true", &none]);
    }
    cast(url, &["rpc", "evm_increaseTime", "601"]);
    cast(url, &["rpc", "evm_mine"]);
    let claimed = home.json(&["job", "claim", &job, "--account", "client", "--rpc-url", url]);
    let amount = |value: &Value| value.as_str().unwrap().parse::<U256>().unwrap();
    // Two bonds of 50 tokens, and the liar's stake.
    assert!(amount(&claimed["amount"]) > U256::from(100 * 10u128.pow(18)), "{claimed}");
    let after = home.json(&["account", "balance", "liar1", "--rpc-url", url])["stake"].clone();
    assert!(amount(&after) < amount(&before), "{before} {after}");
    // Only the batch that nobody challenged has a result still, and that one's window is over.
    let rest = audit(&home, url, &[&job], 1);
    assert_eq!((numbers(&rest), &rest["batches"][0]["openUntil"]), (vec![0], &Value::Null), "{rest}");
    liar.node.shutdown().await;
}

#[test]
fn an_arbiter_without_code_is_refused_before_anything_is_sent() {
    let home = Home::new();
    let devnet = home.devnet(&[]);
    home.run(&["account", "import", "dev", "--devnet", "9"]).succeeded();
    let address = dev_accounts()[9].address().to_string();
    let nonce = cast(&devnet.url, &["nonce", &address]);
    let arbiter = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8";
    let deploy = ["deploy", "--account", "dev", "--rpc-url", &devnet.url, "--deployment", "court.json", "--arbiter"];
    for more in [&[arbiter][..], &[arbiter, "--broadcast"]] {
        home.run(&[&deploy[..], more].concat())
            .refused(1, &["the arbiter", arbiter, "has no code on chain 31337", "nothing was sent"]);
    }
    assert!(!home.path("court.json").exists());
    assert_eq!(cast(&devnet.url, &["nonce", &address]), nonce);
    // Some contract is let in: whether it is an arbiter only a challenge can tell.
    let contract = devnet.report["contracts"]["token"].as_str().unwrap().to_owned();
    home.run(&[&deploy[..], &[&contract]].concat()).succeeded();
}
