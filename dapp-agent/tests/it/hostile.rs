//! Requesters that serve nothing, or something else than they promised; providers whose results cannot be had.

use std::time::Duration;

use alloy::primitives::{B256, U256};
use conun_agent::{
    chain::BatchStage,
    core::Policy,
    manifest::{InputManifest, TaskInput},
    net::Node,
    provider::{Running, read_status},
    requester::{self, Progress},
};
use conun_bindings::{
    abi::{
        ConunToken,
        JobRegistry::{self, Spec},
    },
    commit, job,
};
use conun_chain::dev_accounts;

use crate::{
    net::node,
    world::{HELLO, PATIENCE, REQUESTER, World, greetings},
};

/// A requester that does as it likes: its node, and the registry as it signs.
struct Rogue {
    node: Node,
    job: JobRegistry::Job,
    spec: Spec,
}

impl Rogue {
    /// Serves the program and `manifest`, but no input.
    async fn new(world: &World, manifest: InputManifest) -> Self {
        let node = node(&world.folder("rogue")).await;
        let prepared = greetings(manifest.tasks.len());
        let (mut job, mut spec) = (prepared.job, prepared.spec);
        job.requester = dev_accounts()[REQUESTER].address();
        spec.program = node.put(HELLO).await.unwrap().into();
        spec.inputs = node.put(manifest.encode()).await.unwrap().into();
        spec.inputRoot = manifest.root().unwrap();
        Self { node, job, spec }
    }

    async fn post(&self, world: &World) -> B256 {
        let job = JobRegistry::Job { spec: job::spec_hash(&self.spec), ..self.job.clone() };
        let provider = world.chain.provider_for(dev_accounts()[REQUESTER].clone());
        let token = ConunToken::new(world.contracts.token, &provider);
        token.approve(world.contracts.escrow, U256::MAX).send().await.unwrap().get_receipt().await.unwrap();
        let none = JobRegistry::Permit { value: U256::ZERO, deadline: U256::ZERO, v: 0, r: B256::ZERO, s: B256::ZERO };
        let registry = JobRegistry::new(world.contracts.jobs, &provider);
        let call =
            registry.post(job.clone(), self.spec.clone(), JobRegistry::Contact::from(&self.node.contact()), none);
        assert!(call.send().await.unwrap().get_receipt().await.unwrap().status());
        job::id(world.contracts.chain_id, world.contracts.jobs, &job)
    }
}

fn manifest(tasks: usize) -> InputManifest {
    let mut manifest = InputManifest::default();
    for task in 0..tasks {
        manifest.push(format!("Person {task}\n").as_bytes(), &[]).unwrap();
    }
    manifest
}

fn not_executed(event: &Running) -> Option<String> {
    match event {
        Running::NotExecuted(_, text) => Some(text.clone()),
        _ => None,
    }
}

/// Leases, fails, gives back; loses neither bond nor gas without end.
async fn given_back(world: &World, rogue: &Rogue) -> String {
    let seat = world.register(1, Policy::default()).await;
    let stake = world.stake(1).await;
    let mut agent = seat.start();
    agent.ready().await;
    let id = rogue.post(world).await;
    let reason = agent.until(not_executed).await;
    let released = |batch: &conun_agent::chain::BatchEntry| batch.stage == BatchStage::Open && batch.expiries == 0;
    let follower = world
        .until(|follower| {
            let entry = &follower.index().jobs[&id];
            entry.transactions.iter().any(|(_, kind)| *kind == "release") && entry.batches.iter().all(released)
        })
        .await;
    let transactions = follower.index().jobs[&id].transactions.len();
    // It leaves the job alone now.
    let height = world.height().await;
    let later = world.until(|follower| follower.head().is_some_and(|head| head.number >= height + 10)).await;
    assert_eq!(later.index().jobs[&id].transactions.len(), transactions);
    assert_eq!(world.stake(1).await, stake, "no bond is lost");
    agent.stop().await.unwrap();
    let status = read_status(&seat.folder).unwrap().unwrap();
    assert_eq!(status["work"]["skipped"][0][1]["reason"], "setAside", "{status}");
    reason
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_whose_inputs_are_withheld_is_given_back_without_a_loss() {
    let world = World::new().await;
    let rogue = Rogue::new(&world, manifest(2)).await;
    let reason = given_back(&world, &rogue).await;
    assert!(reason.contains("could not be fetched"), "{reason}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_whose_inputs_are_not_those_committed_to_is_given_back_without_a_loss() {
    let world = World::new().await;
    let mut manifest = manifest(2);
    // The content hash is right, the keccak root is that of something else.
    manifest.tasks[0].root = commit::region_root(b"Person 9\n");
    let rogue = Rogue::new(&world, manifest).await;
    for task in 0..2 {
        rogue.node.put(format!("Person {task}\n")).await.unwrap();
    }
    let reason = given_back(&world, &rogue).await;
    assert!(reason.contains("not the one that the job commits to"), "{reason}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_whose_program_or_inputs_are_not_what_it_says_is_never_leased() {
    let world = World::new().await;
    let seat = world.register(1, Policy::default()).await;
    let mut agent = seat.start();
    agent.ready().await;
    let mut rogue = Rogue::new(&world, manifest(2)).await;
    let (honest_job, honest) = (rogue.job.clone(), rogue.spec.clone());
    let same = honest_job.clone();
    let text = rogue.node.put(&b"no WebAssembly at all"[..]).await.unwrap().into();
    let mut huge = manifest(2);
    huge.tasks = vec![TaskInput { length: 1 << 40, ..huge.tasks[0] }; 2];
    let huge_hash = rogue.node.put(huge.encode()).await.unwrap().into();
    let garbage = rogue.node.put(&b"garbage"[..]).await.unwrap().into();
    for (job, spec, words) in [
        (same.clone(), Spec { programRoot: B256::repeat_byte(1), ..honest.clone() }, "the program is not the one"),
        (same.clone(), Spec { program: text, ..honest.clone() }, "not WebAssembly"),
        (same.clone(), Spec { inputRoot: B256::repeat_byte(1), ..honest.clone() }, "the inputs are not those"),
        (same.clone(), Spec { inputs: garbage, ..honest.clone() }, "no input manifest"),
        (JobRegistry::Job { taskCount: 3, ..honest_job }, honest.clone(), "inputs for 2 tasks instead of 3"),
        (same.clone(), Spec { inputs: huge_hash, inputRoot: huge.root().unwrap(), ..honest.clone() }, "at most"),
        (same.clone(), Spec { memoryLimit: 65_536, ..honest.clone() }, "begins with"),
    ] {
        (rogue.job, rogue.spec) = (job, spec);
        let id = rogue.post(&world).await;
        let refused = |event: &Running| match event {
            Running::Trouble(text) if text.contains("is refused") => Some(text.clone()),
            Running::Leased(..) => panic!("leased: {words}"),
            _ => None,
        };
        let reason = agent.until(refused).await;
        assert!(reason.contains(words), "{words}: {reason}");
        assert!(world.follower().await.index().jobs[&id].batches.iter().all(|batch| batch.stage == BatchStage::Open));
    }
    agent.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_result_that_cannot_be_had_is_not_accepted_and_the_end_says_so() {
    let world = World::new().await;
    let seat = world.register(1, Policy::default()).await;
    let mut job = greetings(2);
    job.job.windowSeconds = 3;
    let mut requester = world.requester().await;
    let posted = requester.post(&job).await.unwrap();
    let mut agent = seat.start();
    agent.until(|event| matches!(event, Running::Submitted(..)).then_some(())).await;
    agent.kill().await;
    let mut told = Vec::new();
    let out = world.folder("out");
    let following = requester.follow(posted.job, &out, Duration::from_millis(50), |progress, _| told.push(progress));
    let error = tokio::time::timeout(PATIENCE, following).await.unwrap().unwrap_err();
    assert!(matches!(&error, requester::Error::OutputsMissing { batches, .. } if batches[..] == [0]), "{error}");
    let not_taken = told.iter().filter(|progress| matches!(progress, Progress::NotTaken { batch: 0, .. })).count();
    assert!(not_taken >= 1, "{told:?}");
    assert_eq!(requester.follower().index().jobs[&posted.job].batches[0].stage, BatchStage::Submitted);

    // The provider comes back: its result is served, and it is paid although the requester does nothing.
    let mut agent = seat.start();
    agent.ready().await;
    world.until(|follower| follower.index().jobs[&posted.job].is_over()).await;
    crate::world::follow(&mut requester, posted.job, &out).await;
    crate::world::assert_greeted(&out, 2);
    assert!(!requester.follower().index().jobs[&posted.job].batches[0].accepted);
    agent.stop().await.unwrap();
}
