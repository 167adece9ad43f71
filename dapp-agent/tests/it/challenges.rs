//! Results that are challenged before an arbiter: what the provider shows, tells, keeps and loses.

use alloy::{
    primitives::{Address, B256, U256, address},
    providers::Provider,
    rpc::types::TransactionRequest,
};
use conun_agent::{
    chain::BatchStage,
    core::Policy,
    manifest::{MAX_RESULT_MANIFEST, ResultManifest},
    net::{NetworkSettings, Node},
    provider::{read_status, read_verdicts},
    requester::Requester,
};
use conun_bindings::abi::{Deployment::Settings, Disputes};
use serde_json::{Value, json};

use crate::{
    demands::did,
    net::config,
    world::{Agent, PATIENCE, Seat, World, greetings, loopback},
};

/// A contract that takes every call: it hears of each challenge. What it rules is sent in its name.
const ARBITER: Address = address!("00000000000000000000000000000000a4b17e40");

/// `STOP`.
const CODE: &str = "0x00";

/// A provider whose batches stand, one of which is challenged by another provider.
struct Challenged {
    world: World,
    seat: Seat,
    agent: Agent,
    challenger: Seat,
    job: B256,
    case: B256,
    deadline: u64,
}

impl Challenged {
    async fn new() -> Self {
        let chain = World::chain();
        chain.handle("anvil_setCode", json!([ARBITER, CODE])).unwrap();
        let world = World::on(chain, |settings| Settings { arbiter: ARBITER, ..settings }).await;
        let seat = world.register(1, Policy::default()).await;
        let challenger = world.register(2, Policy::default()).await;
        let mut agent = seat.start();
        agent.ready().await;
        let mut requester = world.requester().await;
        let job = requester.post(&greetings(3)).await.unwrap().job;
        let stands = |batch: &conun_agent::chain::BatchEntry| batch.stage == BatchStage::Submitted;
        let follower = world.until(|follower| follower.index().jobs[&job].batches.iter().all(stands)).await;
        requester.shutdown().await;

        let url = world.server.url();
        let (outputs, contact) = {
            let index = follower.index();
            (index.jobs[&job].batches[0].outputs, index.providers[&seat.signer.address()].contact.clone())
        };
        let get = async || {
            let asker = Node::start(config(&challenger.folder)).await.unwrap();
            let got = asker.fetch(&outputs, std::slice::from_ref(&contact), MAX_RESULT_MANIFEST).await;
            let manifest = got.map(|bytes| ResultManifest::decode(&bytes).unwrap());
            let output = match &manifest {
                Ok(manifest) => {
                    let content = &manifest.results[1].output;
                    asker.fetch(&content.hash, std::slice::from_ref(&contact), content.length).await.ok()
                }
                Err(_) => None,
            };
            asker.shutdown().await;
            (manifest, output)
        };
        let (refused, _) = get().await;
        assert!(
            refused.unwrap_err().to_string().contains("sees nothing on the chain"),
            "it has nothing to do with it yet"
        );
        let mut accuser = Requester::start(
            &challenger.folder,
            &url,
            world.contracts,
            challenger.signer.clone(),
            loopback(),
            NetworkSettings::default(),
        )
        .await
        .unwrap();
        let (case, deadline) = accuser.challenge(job, 0, 1, B256::repeat_byte(7)).await.unwrap();
        accuser.shutdown().await;
        // The evidence: leaves, and the output that is said to be wrong.
        let (manifest, output) = get().await;
        assert_eq!((manifest.unwrap().job, output.is_some()), (job, true));
        Self { world, seat, agent, challenger, job, case, deadline }
    }

    async fn rule(&self, upheld: bool) {
        let chain = &self.world.chain;
        chain.handle("anvil_setBalance", json!([ARBITER, U256::from(10u128.pow(18))])).unwrap();
        chain.handle("anvil_impersonateAccount", json!([ARBITER])).unwrap();
        let provider = self.world.provider();
        let disputes = Disputes::new(self.world.contracts.disputes, &provider);
        let rule = disputes.rule(self.case, upheld, Address::ZERO);
        let request: TransactionRequest = rule.into_transaction_request().from(ARBITER);
        assert!(provider.send_transaction(request).await.unwrap().get_receipt().await.unwrap().status());
    }

    /// Waits until both of what the agent writes down say so: its status, and what it says of the job.
    async fn told(&self, says: impl Fn(&Value, &Value) -> bool) -> (Value, Value) {
        let job = self.job.to_string();
        let waiting = async {
            loop {
                let status = read_status(&self.seat.folder).unwrap().unwrap_or_default();
                let why = read_verdicts(&self.seat.folder).unwrap().unwrap_or_default()[&job].clone();
                if says(&status, &why) {
                    return (status, why);
                }
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(PATIENCE, waiting).await.expect("it says so")
    }
}

fn wei(value: &Value) -> U256 {
    serde_json::from_value(value.clone()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_challenged_batch_is_shown_to_its_challenger_told_with_its_dates_and_paid_when_the_arbiter_dismisses_it() {
    let mut one = Challenged::new().await;
    let stake = one.world.stake(1).await;
    let (status, why) =
        one.told(|status, why| status["disputes"][0].is_object() && why["disputes"][0].is_object()).await;
    let told = &status["disputes"][0];
    assert_eq!(*told, why["disputes"][0]);
    assert_eq!(
        wei(&told["atRisk"]),
        one.world.follower().await.index().jobs[&one.job].lease_lock(0, &one.world.follower().await.index().rules)
    );
    assert!(told["goesOnAt"].as_u64().unwrap() > one.deadline);
    let expected = json!({
        "case": one.case, "job": one.job, "batch": 0, "task": 1, "claim": "wrong", "by": one.challenger.signer.address(),
        "state": "open", "deadline": one.deadline, "goesOnAt": told["goesOnAt"], "atRisk": told["atRisk"],
    });
    assert_eq!(*told, expected);

    one.rule(false).await;
    one.told(|status, _| status["disputes"][0]["state"] == "dismissed").await;
    one.world.skip(125);
    one.agent.until(did("resolve")).await;
    let job = one.job;
    let over = one.world.until(|follower| follower.index().jobs[&job].is_over()).await;
    assert!(
        over.index().jobs[&job]
            .batches
            .iter()
            .all(|batch| batch.stage == BatchStage::Settled && !batch.payment.is_zero())
    );
    let (status, _) = one.told(|status, why| status["disputes"] == json!([]) && why["paid"] == 2).await;
    assert_eq!((one.world.stake(1).await, &status["losses"]), (stake, &json!([])));
    one.agent.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_whose_challenge_is_upheld_costs_the_stake_of_its_lease_and_that_is_told() {
    let mut one = Challenged::new().await;
    let stake = one.world.stake(1).await;
    one.rule(true).await;
    one.told(|status, _| status["disputes"][0]["state"] == "upheld").await;
    one.world.skip(125);
    one.agent.until(did("resolve")).await;
    let (status, why) = one.told(|status, why| status["losses"][0].is_object() && why["losses"][0].is_object()).await;
    let lost = stake - one.world.stake(1).await;
    let expected = json!({ "job": one.job, "batch": 0, "amount": lost, "reason": "wrong" });
    assert_eq!((&status["losses"][0], &why["losses"][0]), (&expected, &expected));
    assert!(!lost.is_zero());
    one.agent.stop().await.unwrap();
}
