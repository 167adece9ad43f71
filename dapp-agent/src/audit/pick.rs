//! Which results are audited.

use alloy::primitives::{Address, B256, keccak256};
use conun_bindings::{Rules, job};
use serde::Serialize;

use crate::chain::{BallotStage, BatchStage, Index, JobEntry, ReplicaStage};

/// All shares together.
pub const WHOLE: u32 = 1_000_000;

/// Results to which all of it applies.
#[derive(Clone, Copy, Debug)]
pub struct Pick {
    /// Of this job.
    pub job: Option<B256>,
    /// That this account has given, also where others outvoted it.
    pub provider: Option<Address>,
    /// So many of [`WHOLE`] of the batches, at least one: those that come first by the hash of seed, job and batch.
    pub share: u32,
    /// What decides which.
    pub seed: u64,
}

/// Where a result stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Stage {
    /// It waits for the end of its window.
    Submitted,
    /// It is disputed.
    Frozen,
    /// It is paid.
    Settled,
    /// It was shown, and is not believed.
    NotBelieved,
}

/// A result on the chain.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Target {
    /// The job.
    pub job: B256,
    /// The batch's number.
    pub batch: u32,
    /// Where the result stands.
    pub stage: Stage,
    /// Result root.
    pub root: B256,
    /// Fuel of all its tasks.
    pub fuel: u64,
    /// Who says so.
    pub providers: Vec<Address>,
    /// Hash of the result manifest of each of them.
    #[serde(skip)]
    pub outputs: Vec<[u8; 32]>,
    /// Block time until which it can be challenged; none if it cannot.
    pub open_until: Option<u64>,
}

impl Target {
    fn of_batch(id: B256, entry: &JobEntry, batch: u32, now: u64) -> Option<Self> {
        let found = entry.batches.get(batch as usize)?;
        let stage = match found.stage {
            BatchStage::Submitted => Stage::Submitted,
            BatchStage::Frozen => Stage::Frozen,
            BatchStage::Settled => Stage::Settled,
            BatchStage::Open | BatchStage::Leased | BatchStage::Cancelled => return None,
        };
        let is_open = stage != Stage::Settled && now < found.deadline;
        Some(Self {
            job: id,
            batch,
            stage,
            root: found.root,
            fuel: found.fuel,
            providers: vec![found.provider],
            outputs: vec![found.outputs],
            open_until: is_open.then_some(found.deadline),
        })
    }

    /// `of`: what this provider has shown, instead of what is believed.
    fn of_ballot(
        id: B256,
        entry: &JobEntry,
        batch: u32,
        (rules, now): (&Rules, u64),
        of: Option<Address>,
    ) -> Option<Self> {
        let (assurance, ballot) = entry.ballot(batch)?;
        let believed = ballot.believed(assurance, rules, now);
        let (root, fuel) = match of {
            None => believed?,
            Some(provider) => match ballot.stage_of(provider)? {
                ReplicaStage::Revealed { root, fuel, .. } => (root, fuel),
                _ => return None,
            },
        };
        let stage = match ballot.stage {
            _ if believed != Some((root, fuel)) => Stage::NotBelieved,
            BallotStage::Frozen => Stage::Frozen,
            BallotStage::Settled => Stage::Settled,
            _ => Stage::Submitted,
        };
        let final_at = ballot.final_at(&entry.job);
        let is_open = matches!(stage, Stage::Submitted | Stage::Frozen) && now < final_at;
        let (providers, outputs) = ballot.makers((root, fuel)).unzip();
        Some(Self { job: id, batch, stage, root, fuel, providers, outputs, open_until: is_open.then_some(final_at) })
    }
}

/// The results that there are at block time `now`, in the order of jobs and batches.
pub fn pick(index: &Index, now: u64, pick: &Pick) -> Vec<Target> {
    let mut found = Vec::new();
    for id in index.order.iter().filter(|id| pick.job.is_none_or(|job| job == **id)) {
        let Some(entry) = index.job(id) else { continue };
        for batch in 0..job::batch_count(&entry.job) {
            let target = match entry.assured {
                Some(_) => Target::of_ballot(*id, entry, batch, (&index.rules, now), pick.provider),
                None => Target::of_batch(*id, entry, batch, now),
            };
            found.extend(target.filter(|target| pick.provider.is_none_or(|who| target.providers.contains(&who))));
        }
    }
    let wanted = (found.len() as u64 * u64::from(pick.share.min(WHOLE))).div_ceil(u64::from(WHOLE)) as usize;
    let lot = |target: &Target| {
        keccak256([&pick.seed.to_be_bytes()[..], &target.job[..], &target.batch.to_be_bytes()].concat())
    };
    let mut drawn: Vec<_> =
        found.into_iter().enumerate().map(|(place, target)| (lot(&target), place, target)).collect();
    drawn.sort_unstable_by_key(|(lot, place, _)| (*lot, *place));
    drawn.truncate(wanted);
    drawn.sort_unstable_by_key(|(_, place, _)| *place);
    drawn.into_iter().map(|(.., target)| target).collect()
}

#[cfg(test)]
mod tests {
    use alloy::primitives::U256;
    use conun_bindings::{
        abi::JobRegistry::{Job, Spec},
        deploy::devnet_settings,
    };

    use super::*;
    use crate::{
        chain::{BatchEntry, Batches},
        net::PeerContact,
    };

    /// One job; batch `n` is of provider `n % 2`, every third has no result.
    fn index(batches: u32) -> Index {
        let mut index = Index::new(Rules::from(&devnet_settings(Address::ZERO)));
        let batch = |number: u32| BatchEntry {
            stage: if number.is_multiple_of(3) { BatchStage::Leased } else { BatchStage::Submitted },
            provider: Address::repeat_byte((number % 2) as u8 + 1),
            deadline: 100,
            ..BatchEntry::NEW
        };
        let entry = JobEntry {
            job: Job { taskCount: batches, batchSize: 1, ..Job::default() },
            spec: Spec::default(),
            contact: PeerContact { endpoint: [0; 32], hints: Vec::new() },
            deposit: U256::ZERO,
            block: 1,
            changed: 1,
            batches: (0..batches).map(batch).collect::<Batches>(),
            assured: None,
            cancelled: false,
            refunded: U256::ZERO,
            burned: U256::ZERO,
            transactions: Vec::new(),
        };
        index.insert(B256::repeat_byte(9), entry);
        index
    }

    const ALL: Pick = Pick { job: None, provider: None, share: WHOLE, seed: 0 };

    fn batches(index: &Index, which: &Pick) -> Vec<u32> {
        pick(index, 50, which).iter().map(|target| target.batch).collect()
    }

    #[test]
    fn what_has_a_result_is_picked_by_job_and_provider() {
        let index = index(6);
        assert_eq!(batches(&index, &ALL), [1, 2, 4, 5]);
        assert_eq!(batches(&index, &Pick { provider: Some(Address::repeat_byte(2)), ..ALL }), [1, 5]);
        assert!(batches(&index, &Pick { job: Some(B256::ZERO), ..ALL }).is_empty());
        let open = |now| pick(&index, now, &ALL)[0].open_until;
        assert_eq!((open(99), open(100)), (Some(100), None));
    }

    #[test]
    fn a_share_is_drawn_by_the_seed_and_is_never_nothing() {
        let index = index(300);
        let draw = |share, seed| batches(&index, &Pick { share, seed, ..ALL });
        let (one, other) = (draw(WHOLE / 20, 1), draw(WHOLE / 20, 2));
        assert_eq!((one.len(), other.len()), (10, 10));
        assert!(one != other && one.is_sorted() && one == draw(WHOLE / 20, 1));
        assert_eq!(draw(1, 1).len(), 1);
        // Who is drawn for less is drawn for more.
        assert!(one.iter().all(|batch| draw(WHOLE / 10, 1).contains(batch)));
    }
}
