//! Results of votes executed once more: two that agree on a lie are found by whoever looks, and lose to a challenge.

use alloy::primitives::{B256, U256};
use conun_agent::manifest::{Content, ResultManifest, TaskResult};
use conun_bindings::{
    Contracts,
    abi::ReplicaRegistry::{self, Commitment, ReplicatedJob, Reveal},
    replicas,
};
use serde_json::Value;

use crate::{
    audit::{Liar, audit, court, honest, key, verdicts},
    support::{Home, Server, cast, root},
};

const SALT: B256 = B256::repeat_byte(7);

fn job_of(liar: &Liar) -> ReplicatedJob {
    liar.entry.replicated().unwrap()
}

/// Takes a slot of batch 0, and commits to the results, which it serves.
async fn vote(liar: &Liar, contracts: &Contracts, results: &[TaskResult]) -> Reveal {
    let manifest = ResultManifest { job: liar.job, batch: 0, results: results.to_vec() };
    let tree = manifest.tree(0).unwrap();
    let given = Reveal {
        batch: 0,
        provider: liar.account,
        root: tree.root(),
        fuel: tree.fuel(),
        outputs: liar.node.put(manifest.encode()).await.unwrap().into(),
        bound: B256::ZERO,
        salt: SALT,
    };
    let registry = ReplicaRegistry::new(contracts.replicas, &liar.chain);
    assert!(registry.lease(job_of(liar), vec![0]).send().await.unwrap().get_receipt().await.unwrap().status());
    let commitments = vec![Commitment { batch: 0, hash: replicas::commitment(liar.job, &given) }];
    assert!(registry.commit(job_of(liar), commitments).send().await.unwrap().get_receipt().await.unwrap().status());
    given
}

#[tokio::test(flavor = "multi_thread")]
async fn two_that_agree_on_a_lie_are_found_challenged_and_both_lose() {
    let home = Home::new();
    let (devnet, arbiter) = court(&home).await;
    let url = &devnet.url;
    let contracts = Contracts::read(&home.path("deployments/31337.json")).unwrap();
    home.run(&["account", "import", "client", "--devnet", "2"]).succeeded();
    std::fs::write(home.path("names"), "Ada\nGrace\nEdsger\n").unwrap();
    let program = root().join("examples/hello/hello.wasm");
    let file = format!(
        "program = {program:?}\ninput-lines = 'names'\nprice = '1'\nbatch-size = 3\nfuel-limit = 1000000\nlease-seconds = 600\n\
         window-seconds = 600\n[assurance]\nreplicas = 2\nlimit = 2\nwiden-seconds = 2\npost-seconds = 2"
    );
    std::fs::write(home.path("job.toml"), file).unwrap();
    let submit = ["job", "submit", "job.toml", "--account", "client", "--rpc-url", url, "--poll-millis", "100"];
    let mut submit = Server::hear(home.conun(&submit));
    submit.wait_for("it is served from here");
    submit.signal("-INT");
    assert_eq!(submit.wait(), Some(130));
    cast(url, &["rpc", "evm_increaseTime", "60"]);
    cast(url, &["rpc", "evm_mine"]);
    cast(url, &["rpc", "evm_mine"]);

    // Both hold the batch, and say the same of task 1.
    let mut results: Vec<_> = honest(&home.path("job.toml")).into_iter().map(|(result, _)| result).collect();
    results[1].output = Content::of(b"Hello, Mallory!\n");
    let liars = [Liar::new(&home, url, contracts, 1).await, Liar::new(&home, url, contracts, 3).await];
    let mut reveals = Vec::new();
    for liar in &liars {
        liar.node.put("Hello, Mallory!\n").await.unwrap();
        reveals.push(vote(liar, &contracts, &results).await);
    }
    let registry = ReplicaRegistry::new(contracts.replicas, &liars[0].chain);
    assert!(registry.reveal(job_of(&liars[0]), reveals).send().await.unwrap().get_receipt().await.unwrap().status());

    let job = liars[0].job.to_string();
    let report = audit(&home, url, &[&job], 1);
    assert_eq!(verdicts(&report), ["agrees", "differs", "agrees"], "{report}");
    let stakes = || {
        [1, 3].map(|number| {
            home.json(&["account", "balance", &format!("liar{number}"), "--rpc-url", url])["stake"].clone()
        })
    };
    let before = stakes();
    let challenged = audit(&home, url, &[&job, "--challenge", "--yes", "--account", "client"], 1);
    let case = &challenged["challenges"][0];
    assert_eq!((case["batch"].as_u64(), case["task"].as_u64()), (Some(0), Some(1)), "{challenged}");
    let case = case["case"].as_str().unwrap();
    assert_eq!(cast(url, &["call", &arbiter, "caseId()(bytes32)"]), case);
    let (rule, disputes) = ("rule(address,bytes32,bool,address)", contracts.disputes.to_string());
    let none = alloy::primitives::Address::ZERO.to_string();
    cast(url, &["send", "--private-key", &key(5), &arbiter, rule, &disputes, case, "true", &none]);
    cast(url, &["rpc", "evm_increaseTime", "601"]);
    cast(url, &["rpc", "evm_mine"]);
    let claimed = home.json(&["job", "claim", &job, "--account", "client", "--rpc-url", url]);
    let amount = |value: &Value| value.as_str().unwrap().parse::<U256>().unwrap();
    for (before, after) in before.iter().zip(&stakes()) {
        assert!(amount(after) < amount(before), "{before} {after}");
    }
    // The bond, and half of what both lost.
    assert!(amount(&claimed["amount"]) > U256::from(50 * 10u128.pow(18)), "{claimed}");
    // A result that fell is none.
    home.run(&["audit", &job, "--rpc-url", url]).refused(1, &["no such result"]);
    for liar in liars {
        liar.node.shutdown().await;
    }
}
