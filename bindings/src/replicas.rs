//! The arithmetic of jobs whose batches several providers execute, as the contracts do it: ids, deposits, lots, draws, commitments
//! and votes.

use alloy::{
    primitives::{Address, B256, U256, keccak256},
    sol_types::SolValue,
};

use crate::{
    Rules,
    abi::{
        Disputes, JobRegistry,
        ReplicaRegistry::{self, Assurance, Opening, ReplicatedJob, Reveal},
    },
    commit::{BoundTree, ResultLeaf, ResultTree},
    job,
};

/// Odds of 1, in the fixed point of `Odds`.
const ONE: u128 = 1_000_000;

/// Where odds stop.
const MOST_ODDS: u128 = 1 << 120;

/// Checks beyond this many do not count.
const MOST_CHECKS: u64 = (1 << 20) - 1;

/// What a credibility of 1 is written as.
pub const CERTAIN: u32 = 1_000_000_000;

/// What 100 % is written as, of shares in 1/10,000.
const BPS: u64 = 10_000;

impl From<JobRegistry::Job> for ReplicaRegistry::Job {
    fn from(job: JobRegistry::Job) -> Self {
        Self {
            requester: job.requester,
            nonce: job.nonce,
            spec: job.spec,
            taskCount: job.taskCount,
            batchSize: job.batchSize,
            fuelLimit: job.fuelLimit,
            startPrice: job.startPrice,
            maxPrice: job.maxPrice,
            rampStart: job.rampStart,
            rampSeconds: job.rampSeconds,
            leaseSeconds: job.leaseSeconds,
            windowSeconds: job.windowSeconds,
        }
    }
}

impl From<ReplicaRegistry::Job> for JobRegistry::Job {
    fn from(job: ReplicaRegistry::Job) -> Self {
        Self {
            requester: job.requester,
            nonce: job.nonce,
            spec: job.spec,
            taskCount: job.taskCount,
            batchSize: job.batchSize,
            fuelLimit: job.fuelLimit,
            startPrice: job.startPrice,
            maxPrice: job.maxPrice,
            rampStart: job.rampStart,
            rampSeconds: job.rampSeconds,
            leaseSeconds: job.leaseSeconds,
            windowSeconds: job.windowSeconds,
        }
    }
}

impl From<JobRegistry::Spec> for ReplicaRegistry::Spec {
    fn from(spec: JobRegistry::Spec) -> Self {
        Self {
            program: spec.program,
            programRoot: spec.programRoot,
            inputs: spec.inputs,
            inputRoot: spec.inputRoot,
            memoryLimit: spec.memoryLimit,
            category: spec.category,
        }
    }
}

impl From<ReplicaRegistry::Spec> for JobRegistry::Spec {
    fn from(spec: ReplicaRegistry::Spec) -> Self {
        Self {
            program: spec.program,
            programRoot: spec.programRoot,
            inputs: spec.inputs,
            inputRoot: spec.inputRoot,
            memoryLimit: spec.memoryLimit,
            category: spec.category,
        }
    }
}

impl From<&ResultLeaf> for ReplicaRegistry::ResultLeaf {
    fn from(leaf: &ResultLeaf) -> Self {
        Self {
            index: leaf.index,
            ok: leaf.ok,
            exitCode: leaf.exit_code,
            outputRoot: leaf.output_root,
            outputLength: leaf.output_length,
            fuel: leaf.fuel,
        }
    }
}

impl From<&ResultLeaf> for Disputes::ResultLeaf {
    fn from(leaf: &ResultLeaf) -> Self {
        Self {
            index: leaf.index,
            ok: leaf.ok,
            exitCode: leaf.exit_code,
            outputRoot: leaf.output_root,
            outputLength: leaf.output_length,
            fuel: leaf.fuel,
        }
    }
}

/// keccak256(abi.encode(chainid, registry, keccak256(abi.encode(job)))), `ReplicaRegistry.jobIdOf`.
pub fn id(chain_id: u64, registry: Address, job: &ReplicatedJob) -> B256 {
    keccak256((U256::from(chain_id), registry, keccak256(job.abi_encode())).abi_encode())
}

/// Most that `batch` may cost with all its executions and the fee on top, token wei.
pub fn worst_case(job: &JobRegistry::Job, assurance: &Assurance, batch: u32, rules: &Rules) -> U256 {
    let worst = job::worst_case(job, batch) * U256::from(assurance.limit);
    worst + (worst * U256::from(rules.fee_bps)).div_ceil(U256::from(BPS))
}

/// The whole job's deposit, token wei: `JobRules.depositOfReplicated`.
pub fn deposit(job: &JobRegistry::Job, assurance: &Assurance, rules: &Rules) -> U256 {
    match job::batch_count(job) {
        0 => U256::ZERO,
        count => {
            worst_case(job, assurance, 0, rules) * U256::from(count - 1) + worst_case(job, assurance, count - 1, rules)
        }
    }
}

/// The audit share that a lease's stake assumes, in 1/10,000: the job's, within bounds, or the deployment's where it has none.
pub fn audit_bps(assurance: &Assurance, rules: &Rules) -> u16 {
    match assurance.auditBps {
        0 => rules.audit_floor_bps,
        share => share.clamp(500, 5_000),
    }
}

/// The seed of a lot, from the hash of the block after the one in which it opened.
pub fn seed(hash: B256) -> u64 {
    U256::from_be_bytes(hash.0).as_limbs()[0] | 1
}

/// Seconds after its begin that a lot of `widen` seconds lets a provider with `stake` token wei lease. `opened`: the block in which
/// the job was posted, or the extra round opened.
pub fn turn(
    seed: u64,
    (id, batch): (B256, u32),
    opened: u64,
    (provider, stake): (Address, U256),
    widen: u32,
    rules: &Rules,
) -> u64 {
    let drawn = keccak256((seed, id, batch, U256::from(opened), provider).abi_encode());
    let lot = U256::from(U256::from_be_bytes(drawn.0).as_limbs()[0]);
    let widen = U256::from(widen);
    let wait: U256 = widen * lot * rules.min_stake / (stake.max(U256::ONE) << 64);
    wait.min(widen).to()
}

/// Whether a batch whose first round is full is audited, by the hash of the block after the last commit.
pub fn is_audited(hash: B256, id: B256, batch: u32, assurance: &Assurance) -> bool {
    let drawn = U256::from_be_bytes(keccak256((hash, id, batch).abi_encode()).0);
    drawn % U256::from(BPS) < U256::from(assurance.auditBps)
}

/// Which of a batch's `tasks` tasks a late voter has to show, by the hash of the block after its commit.
pub fn drawn_task(hash: B256, id: B256, batch: u32, provider: Address, tasks: u32) -> u32 {
    let drawn = U256::from_be_bytes(keccak256((hash, id, batch, provider).abi_encode()).0);
    (drawn % U256::from(tasks.max(1))).to()
}

/// What a provider commits to: keccak256(abi.encode(jobId, batch, provider, root, fuel, outputs, bound, salt)).
pub fn commitment(id: B256, given: &Reveal) -> B256 {
    let Reveal { batch, provider, root, fuel, outputs, bound, salt } = *given;
    keccak256((id, batch, provider, root, fuel, outputs, bound, salt).abi_encode())
}

/// Leaf `position` of a result, in its tree and in the tree that binds it to `provider`.
pub fn opening(provider: Address, leaves: &[ResultLeaf], tree: &ResultTree, position: usize) -> Opening {
    let siblings = tree.proof(position);
    Opening {
        leaf: ReplicaRegistry::ResultLeaf::from(&leaves[position]),
        siblingHashes: siblings.iter().map(|node| node.hash).collect(),
        siblingFuels: siblings.iter().map(|node| node.fuel).collect(),
        boundSiblings: BoundTree::new(provider, leaves).proof(position),
    }
}

/// One vote: what was revealed, if anything, and the checks that its provider had passed when it took its lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vote {
    /// Root and fuel; `None` for a commit that was not revealed.
    pub result: Option<(B256, u64)>,
    /// Passed checks.
    pub checks: u32,
}

/// What the votes of a batch come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tally {
    /// The result with the best odds.
    pub best: (B256, u64),
    /// How many gave it.
    pub agreed: usize,
    /// Whether it is believed.
    pub accepted: bool,
}

/// Odds that a provider which passed `checks` checks is right.
fn odds(checks: u32, faulty_bps: u16) -> u128 {
    let faulty = u128::from(faulty_bps.max(1));
    let fresh = ONE * (u128::from(BPS) - faulty) / faulty;
    let earned = ONE * u128::from(BPS) * u128::from(u64::from(checks).min(MOST_CHECKS)) / faulty;
    if earned > fresh + ONE { earned - ONE } else { fresh }
}

/// Odds of a group with one more vote.
fn times(group: u128, vote: u128) -> u128 {
    let product = U256::from(group) * U256::from(vote) / U256::from(ONE);
    product.min(U256::from(MOST_ODDS)).to()
}

/// Whether a group's credibility exceeds `target`, in 1/10^9; `sum` is the odds of all groups.
fn exceeds(group: u128, sum: U256, target: u32) -> bool {
    U256::from(group) * U256::from(CERTAIN) > U256::from(target) * (U256::from(ONE) + sum)
}

/// Odds of that many newcomers that agree.
fn newcomers(count: u8, faulty_bps: u16) -> u128 {
    (0..count).fold(ONE, |group, _| times(group, odds(0, faulty_bps)))
}

/// Whether `limit` newcomers that agree would be believed: else a job cannot be posted.
pub fn can_be_believed(assurance: &Assurance, rules: &Rules) -> bool {
    let group = newcomers(assurance.limit, rules.faulty_bps);
    exceeds(group, U256::from(group), assurance.target)
}

/// Least limit, at most 15, with which those who are right outvote `replicas` that agree on a lie, in an audit.
pub fn limit_of_audits(replicas: u8, target: u32, faulty_bps: u16) -> u8 {
    let wins = |limit: &u8| {
        let (right, lie) = (newcomers(limit - replicas, faulty_bps), newcomers(replicas, faulty_bps));
        exceeds(right, U256::from(right) + U256::from(lie), target)
    };
    (replicas + 1..15).find(wins).unwrap_or(15)
}

/// What votes come to, in ascending order of provider; `None` if nothing was revealed. `Votes.tally`, and its exceptions for what nobody
/// was asked to vote about, and for votes that were `drawn` for an audit and differ: records do not count there.
pub fn tally(votes: &[Vote], drawn: bool, assurance: &Assurance, rules: &Rules) -> Option<Tally> {
    let mut groups: Vec<((B256, u64), u128, usize)> = Vec::new();
    let results = || votes.iter().filter_map(|vote| vote.result);
    let differ = results().any(|result| Some(result) != results().next());
    for vote in votes {
        let Some(result) = vote.result else { continue };
        let weight = odds(if drawn && differ { 0 } else { vote.checks }, rules.faulty_bps);
        match groups.iter_mut().find(|(other, ..)| *other == result) {
            Some((_, group, agreed)) => (*group, *agreed) = (times(*group, weight), *agreed + 1),
            None => groups.push((result, times(ONE, weight), 1)),
        }
    }
    let sum = groups.iter().map(|(_, group, _)| U256::from(*group)).sum();
    // The first of equals.
    let (best, group, agreed) = groups.iter().copied().reduce(|a, b| if b.1 > a.1 { b } else { a })?;
    let alone = votes.len() == 1 && assurance.replicas == 1;
    Some(Tally { best, agreed, accepted: alone || exceeds(group, sum, assurance.target) })
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: Rules = Rules {
        min_stake: U256::from_limbs([100, 0, 0, 0]),
        audit_floor_bps: 5_000,
        faulty_bps: 2_000,
        fee_bps: 100,
        check_fee: U256::ONE,
        arbiter: Address::ZERO,
    };

    fn assurance(replicas: u8, limit: u8, target: u32) -> Assurance {
        Assurance { replicas, limit, target, auditBps: 0, minChecks: 0, widenSeconds: 60, revealSeconds: 60 }
    }

    fn votes(given: &[(u8, u32)]) -> Vec<Vote> {
        let vote = |(root, checks): &(u8, u32)| Vote {
            result: (*root != 0).then(|| (B256::repeat_byte(*root), 1)),
            checks: *checks,
        };
        given.iter().map(vote).collect()
    }

    /// The figures of contracts/THREATS.md: two newcomers 16/17, three 64/65, one with ten checks 49/50.
    #[test]
    fn credibility_is_what_the_threat_model_says() {
        for (given, below, above) in [
            (&[(1, 0), (1, 0)][..], 941_176_470, 941_176_471),
            (&[(1, 0), (1, 0), (1, 0)], 984_615_384, 984_615_385),
            (&[(1, 10)], 980_000_000 - 1, 980_000_000),
            // A liar against two: 16 / (1 + 16 + 4). One that was never shown counts for nothing.
            (&[(1, 0), (2, 0), (1, 0)], 761_904_761, 761_904_762),
            (&[(1, 0), (0, 0), (1, 0)], 941_176_470, 941_176_471),
        ] {
            for (target, accepted) in [(below, true), (above, false)] {
                let found = tally(&votes(given), false, &assurance(2, 5, target), &RULES).unwrap();
                assert_eq!((found.best.0, found.accepted), (B256::repeat_byte(1), accepted), "{given:?} at {target}");
            }
        }
        assert_eq!(tally(&votes(&[(0, 5), (0, 5)]), false, &assurance(2, 5, 1), &RULES), None);
        let tie = tally(&votes(&[(2, 0), (1, 0)]), false, &assurance(2, 5, 500_000_000), &RULES).unwrap();
        assert_eq!((tie.best.0, tie.accepted), (B256::repeat_byte(2), false), "the first of equals, and not believed");
        let alone = tally(&votes(&[(1, 0)]), false, &assurance(1, 2, 999_999_999), &RULES).unwrap();
        assert!(alone.accepted, "nobody was asked to vote about it");
    }

    #[test]
    fn records_count_in_an_audit_unless_its_votes_differ() {
        let accepted = |given: &[(u8, u32)], drawn| {
            tally(&votes(given), drawn, &assurance(1, 5, 940_000_000), &RULES).unwrap().accepted
        };
        for (given, plain, drawn) in [
            (&[(1, 200), (2, 0)][..], true, false),
            (&[(1, 20), (0, 0)], true, true),
            (&[(1, 1), (1, 20)], true, true),
            (&[(1, 0), (2, 0), (2, 0), (2, 0), (2, 0)], true, true),
        ] {
            assert_eq!((accepted(given, false), accepted(given, true)), (plain, drawn), "{given:?}");
        }
    }

    /// With one execution less the lie stays undecided.
    #[test]
    fn the_limit_of_audits_lets_the_right_ones_outvote_a_lie() {
        for (replicas, target) in [(1, 0.94), (2, 0.94), (3, 0.94), (2, 0.999), (3, 0.9999)] {
            let target = (target * f64::from(CERTAIN)) as u32;
            let most = limit_of_audits(replicas, target, RULES.faulty_bps);
            for (limit, wins) in [(most, true), (most - 1, false)] {
                let given: Vec<_> = (0..limit).map(|vote| (if vote < replicas { 1 } else { 2 }, 500)).collect();
                let count = tally(&votes(&given), true, &assurance(replicas, most, target), &RULES).unwrap();
                assert_eq!(
                    count.accepted && count.best.0 == B256::repeat_byte(2),
                    wins,
                    "{replicas} {target}: {limit}"
                );
            }
        }
        assert_eq!(limit_of_audits(5, CERTAIN - 1, RULES.faulty_bps), 15, "no more than there can be");
    }

    #[test]
    fn as_many_newcomers_as_the_limit_must_be_believed() {
        for (limit, target, believed) in [(2, 940_000_000, true), (2, 950_000_000, false), (3, 980_000_000, true)] {
            assert_eq!(can_be_believed(&assurance(2, limit, target), &RULES), believed);
        }
    }

    #[test]
    fn more_stake_comes_earlier_and_nobody_later_than_the_end_of_the_lot() {
        let at = |stake: u64| turn(7, (B256::ZERO, 0), 9, (Address::ZERO, U256::from(stake)), 1_000, &RULES);
        let turns = [0, 1, 100, 200, 10_000].map(at);
        assert!(turns.is_sorted_by(|a, b| a >= b) && turns[0] == 1_000 && turns[4] < 11, "{turns:?}");
        assert_eq!(turns[2] / 2, turns[3]);
    }
}
