//! What tests of jobs with votes share: jobs, a provider whose moves the test makes, and the index held against the contract's storage.

use std::path::PathBuf;

use alloy::{
    network::Ethereum,
    primitives::{Address, B256, U256},
    providers::{DynProvider, PendingTransactionBuilder, Provider},
    signers::local::PrivateKeySigner,
};
use conun_agent::{
    chain::{Ballot, BallotStage, Follower, ReplicaStage},
    core::Policy,
    requester::{JobFile, Prepared, assemble},
};
use conun_bindings::{
    abi::ReplicaRegistry::{self, Commitment, Reveal},
    deploy::TOKEN,
    job, replicas,
};
use serde_json::json;

use crate::world::{HELLO, World};

/// Greetings of `tasks` people in batches of two, assured as `assurance` says. The lot is over four seconds after the post.
pub(crate) fn voted(tasks: usize, assurance: &str) -> Prepared {
    let text = format!(
        "program = 'hello.wasm'\nprice = '1'\nbatch-size = 2\nfuel-limit = 1000000\nlease-seconds = 60\nwindow-seconds = 120\n\
         [assurance]\nreveal-seconds = 60\npost-seconds = 2\n{assurance}"
    );
    let inputs = (0..tasks).map(|task| format!("Person {task}\n").into()).collect();
    assemble(&JobFile::parse(&text).unwrap(), HELLO.into(), inputs, Vec::new(), TOKEN).unwrap()
}

/// Bits `from` to `to` of a slot.
fn bits(slot: U256, from: usize, to: usize) -> u64 {
    ((slot >> from) & ((U256::ONE << (to - from)) - U256::ONE)).to()
}

async fn mined(sent: Result<PendingTransactionBuilder<Ethereum>, alloy::contract::Error>) {
    assert!(sent.unwrap().get_receipt().await.unwrap().status());
}

impl World {
    /// Lets that much block time pass at once.
    pub(crate) fn skip(&self, seconds: u64) {
        self.chain.handle("evm_increaseTime", json!([seconds])).unwrap();
        self.chain.mine();
    }

    pub(crate) fn registry(&self, signer: &PrivateKeySigner) -> ReplicaRegistry::ReplicaRegistryInstance<DynProvider> {
        ReplicaRegistry::new(self.contracts.replicas, self.chain.provider_for(signer.clone()))
    }

    /// Waits until a ballot shows something.
    pub(crate) async fn until_ballot(&self, job: B256, batch: u32, shows: impl Fn(&Ballot) -> bool) -> Follower {
        self.until(|follower| {
            follower
                .index()
                .jobs
                .get(&job)
                .and_then(|entry| entry.ballot(batch))
                .is_some_and(|(_, ballot)| shows(ballot))
        })
        .await
    }

    /// The index says of every ballot and every provider's part in it what the registry's storage says, and of every provider
    /// what the Escrow says.
    pub(crate) async fn assert_ballots_are_right(&self, job: B256) {
        let follower = self.follower().await;
        let index = follower.index();
        let registry = ReplicaRegistry::new(self.contracts.replicas, self.provider());
        let entry = &index.jobs[&job];
        for (number, ballot) in (0..).zip(entry.ballots()) {
            let stored = registry.ballotOf(job, number).call().await.unwrap();
            // What is cancelled is stored as open.
            let stage = if ballot.stage == BallotStage::Cancelled { 0 } else { ballot.stage as u64 };
            assert_eq!(bits(stored, 0, 4), stage, "{ballot:?}");
            let counts = [ballot.leased(), ballot.committed(), ballot.revealed(), ballot.expiries as usize];
            for (count, from) in counts.into_iter().zip([8, 12, 16, 20]) {
                assert_eq!(bits(stored, from, from + 4), count as u64, "from bit {from}: {ballot:?}");
            }
            assert_eq!(bits(stored, 4, 8), ballot.wanted as u64, "{ballot:?}");
            assert_eq!(bits(stored, 32, 64), ballot.time, "{ballot:?}");
            assert_eq!(bits(stored, 24, 25), u64::from(ballot.drawn), "{ballot:?}");
            // In a first round that may be audited: the block of the last commit, once all have.
            let opened =
                if ballot.stage == BallotStage::Drawing { ballot.last_commit().unwrap() } else { ballot.opened };
            let (assurance, _) = entry.ballot(number).unwrap();
            if opened != 0 || assurance.auditBps == 0 {
                assert_eq!(bits(stored, 64, 96), opened, "{ballot:?}");
            }
            for (provider, replica) in &ballot.replicas {
                let stored = registry.replicaOf(job, number, *provider).call().await.unwrap();
                let (state, block) = match replica.stage {
                    ReplicaStage::Leased { deadline, active_block, rival } => {
                        assert_eq!(bits(stored, 3, 4), u64::from(active_block.is_some()), "{ballot:?}");
                        let until = active_block.unwrap_or(deadline);
                        assert_eq!(bits(stored, 44, 76), until, "{ballot:?}");
                        let stored_rival: U256 = stored >> 76;
                        assert_eq!(
                            stored_rival,
                            U256::from_be_slice(rival.unwrap_or_default().as_slice()),
                            "{ballot:?}"
                        );
                        (1, None)
                    }
                    ReplicaStage::Committed { block, public } => {
                        assert_eq!(bits(stored, 4, 5), u64::from(public), "{ballot:?}");
                        (2, Some(block))
                    }
                    ReplicaStage::Revealed { .. } => (3, None),
                    ReplicaStage::Done => (4, None),
                };
                assert_eq!(bits(stored, 0, 3), state, "{ballot:?}");
                if let Some(block) = block {
                    assert_eq!(bits(stored, 44, 76), block, "{ballot:?}");
                }
                if replica.stage != ReplicaStage::Done {
                    assert_eq!(bits(stored, 24, 44), u64::from(replica.checks), "{ballot:?}");
                }
            }
        }
        let escrow = conun_bindings::abi::Escrow::new(self.contracts.escrow, self.provider());
        for (account, known) in &index.providers {
            let held = escrow.balanceOf(*account).call().await.unwrap();
            assert_eq!((held.checks, U256::from(held.stake)), (known.checks, known.stake), "{account}");
            assert_eq!(u64::from(held.stakedBlock), known.staked_block, "{account}");
            assert_eq!(U256::from(held.held), index.locked_stake(*account), "{account}");
        }
    }

    /// The lot as it is worked out here is the contract's, for all registered providers and batches of a job that nobody has leased.
    pub(crate) async fn assert_lots_are_right(&self, job: B256) {
        let follower = self.follower().await;
        let index = follower.index();
        let entry = &index.jobs[&job];
        let (assurance, _) = entry.ballot(0).unwrap();
        let registry = ReplicaRegistry::new(self.contracts.replicas, self.provider());
        let block = self.provider().get_block_by_number((entry.block + 1).into()).await.unwrap().unwrap();
        let seed = replicas::seed(block.header.hash);
        let from = u64::from(entry.job.rampStart - assurance.widenSeconds);
        for number in 0..job::batch_count(&entry.job) {
            for (account, known) in &index.providers {
                let who = (*account, known.stake);
                let turn = replicas::turn(seed, (job, number), entry.block, who, assurance.widenSeconds, &index.rules);
                let at = registry.opensAt(entry.replicated().unwrap(), number, *account).call().await.unwrap();
                assert_eq!(at, U256::from(from + turn), "batch {number}, {account}");
            }
        }
    }
}

/// A registered provider without an agent: the test acts for it.
pub(crate) struct Puppet {
    pub(crate) signer: PrivateKeySigner,
    /// Has the key of its endpoint.
    pub(crate) folder: PathBuf,
    salt: B256,
}

impl Puppet {
    pub(crate) async fn new(world: &World, account: usize) -> Self {
        let seat = world.register(account, Policy::default()).await;
        Self { signer: seat.signer, folder: seat.folder, salt: B256::repeat_byte(account as u8) }
    }

    pub(crate) fn account(&self) -> Address {
        self.signer.address()
    }

    fn job(&self, world: &Follower, id: B256) -> ReplicaRegistry::ReplicatedJob {
        world.index().jobs[&id].replicated().unwrap()
    }

    /// Leases a slot once its turn has come.
    pub(crate) async fn lease(&self, world: &World, id: B256, batch: u32) {
        let follower = world.until(|follower| follower.index().jobs.contains_key(&id)).await;
        let posted = follower.index().jobs[&id].block;
        world.until(|follower| follower.head().is_some_and(|head| head.number > posted + 2)).await;
        let (registry, job) = (world.registry(&self.signer), self.job(&follower, id));
        let at: u64 = registry.opensAt(job.clone(), batch, self.account()).call().await.unwrap().to();
        world.until(|follower| follower.head().is_some_and(|head| head.timestamp >= at)).await;
        mined(registry.lease(job, vec![batch]).send().await).await;
    }

    /// What it claims of a batch.
    pub(crate) fn reveal(&self, batch: u32, root: B256, fuel: u64) -> Reveal {
        let (outputs, bound) = (B256::repeat_byte(0xee), B256::ZERO);
        Reveal { batch, provider: self.account(), root, fuel, outputs, bound, salt: self.salt }
    }

    pub(crate) async fn commit(&self, world: &World, id: B256, given: &Reveal) {
        let (registry, job) = (world.registry(&self.signer), self.job(&world.follower().await, id));
        let commitment = Commitment { batch: given.batch, hash: replicas::commitment(id, given) };
        mined(registry.commit(job, vec![commitment]).send().await).await;
    }

    pub(crate) async fn show(&self, world: &World, id: B256, given: Reveal) {
        let (registry, job) = (world.registry(&self.signer), self.job(&world.follower().await, id));
        mined(registry.reveal(job, vec![given]).send().await).await;
    }
}

/// Time for an event that must not come: some blocks.
pub(crate) async fn blocks(world: &World, count: u64) {
    let height = world.height().await;
    world.until(|follower| follower.head().is_some_and(|head| head.number >= height + count)).await;
}
