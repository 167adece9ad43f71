//! Jobs of several executions a batch: what the logs of `ReplicaRegistry` tell.

use std::collections::BTreeMap;

use alloy::primitives::{Address, B256, U256};
use conun_bindings::{
    Rules,
    abi::{
        JobRegistry::Job,
        ReplicaRegistry::{self, Assurance, ReplicaRegistryEvents, ReplicatedJob, Vote},
    },
    job, replicas,
};

use super::{At, Index, JobEntry, LossReason, contact};

/// Where a batch of several executions stands, in the order of the contract's `BallotState`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub enum BallotStage {
    /// Nobody holds or has done any of it.
    Open,
    /// Slots are leased and results committed to.
    Committing,
    /// As many as were wanted have committed; the next block decides whether they are audited.
    Drawing,
    /// What was committed to is shown; then the window runs.
    Revealing,
    /// The result is disputed.
    Frozen,
    /// Paid; final.
    Settled,
    /// No result was believed; final.
    Undecided,
    /// A dispute was won; final.
    Overturned,
    /// Cancelled while open; final.
    Cancelled,
}

/// What one provider does for one batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplicaStage {
    /// It holds a slot, or a backup of one.
    Leased {
        /// Block time at which the lease runs out; of a backup the end of the round.
        deadline: u64,
        /// Of a backup: block from which it may commit.
        active_block: Option<u64>,
        /// The other of straggler and backup.
        rival: Option<Address>,
    },
    /// It has committed to a result.
    Committed {
        /// In this block.
        block: u64,
        /// Whether roots were public then.
        public: bool,
    },
    /// It has shown its result.
    Revealed {
        /// Root.
        root: B256,
        /// Fuel.
        fuel: u64,
        /// BLAKE3 hash of the result manifest.
        outputs: [u8; 32],
    },
    /// Nothing any more: no second try at this batch.
    Done,
}

/// One provider's work on one batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Replica {
    /// Where it stands.
    pub stage: ReplicaStage,
    /// Price, token wei for 10^9 fuel, from the lease.
    pub price: u128,
    /// Checks that its provider had passed at the lease.
    pub checks: u32,
}

/// A batch of several executions as the logs tell it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ballot {
    /// Where it stands.
    pub stage: BallotStage,
    /// Commits that end the round.
    pub wanted: usize,
    /// Block time: end of the round, then of the time to reveal, then of the window.
    pub time: u64,
    /// Block in which an audit or extra round opened; 0 for the first round.
    pub opened: u64,
    /// Whether it is audited.
    pub drawn: bool,
    /// Leases that ran out.
    pub expiries: u32,
    /// What each provider does for it.
    pub replicas: BTreeMap<Address, Replica>,
    /// Once final: root and fuel of the best group of equal results.
    pub best: (B256, u64),
}

impl Ballot {
    const NEW: Self = Self {
        stage: BallotStage::Open,
        wanted: 0,
        time: 0,
        opened: 0,
        drawn: false,
        expiries: 0,
        replicas: BTreeMap::new(),
        best: (B256::ZERO, 0),
    };

    /// Whether nothing more can happen to it.
    pub fn is_final(&self) -> bool {
        use BallotStage as S;
        matches!(self.stage, S::Settled | S::Undecided | S::Overturned | S::Cancelled)
    }

    /// Whether the other of straggler and backup has taken the slot of `provider`'s lease.
    pub fn is_beaten(&self, provider: Address) -> bool {
        let Some(ReplicaStage::Leased { rival: Some(rival), .. }) = self.stage_of(provider) else { return false };
        !matches!(self.stage_of(rival), Some(ReplicaStage::Leased { .. }))
    }

    /// What `provider` does for it.
    pub fn stage_of(&self, provider: Address) -> Option<ReplicaStage> {
        self.replicas.get(&provider).map(|replica| replica.stage)
    }

    /// Whether it may yet be audited, until it is revealed: it is in its first round, and the job has audits.
    pub fn awaits_draw(&self, assurance: &Assurance) -> bool {
        assurance.auditBps != 0 && !self.drawn && self.revealed() == 0
    }

    /// Block of the last commit.
    pub fn last_commit(&self) -> Option<u64> {
        let block = |replica: &Replica| match replica.stage {
            ReplicaStage::Committed { block, .. } => Some(block),
            _ => None,
        };
        self.replicas.values().filter_map(block).max()
    }

    /// Slots that leases hold; a straggler and its backup hold one together.
    pub fn leased(&self) -> usize {
        let holds_slot = |(provider, replica): &(&Address, &Replica)| match replica.stage {
            ReplicaStage::Leased { active_block: Some(_), rival: Some(_), .. } => false,
            ReplicaStage::Leased { .. } => !self.is_beaten(**provider),
            _ => false,
        };
        self.replicas.iter().filter(holds_slot).count()
    }

    /// Those that have committed, revealed or not.
    pub fn voters(&self) -> impl Iterator<Item = (Address, &Replica)> {
        let votes =
            |replica: &Replica| matches!(replica.stage, ReplicaStage::Committed { .. } | ReplicaStage::Revealed { .. });
        self.replicas.iter().filter(move |(_, replica)| votes(replica)).map(|(provider, replica)| (*provider, replica))
    }

    /// Commits.
    pub fn committed(&self) -> usize {
        self.voters().count()
    }

    /// Reveals.
    pub fn revealed(&self) -> usize {
        self.voters().filter(|(_, replica)| matches!(replica.stage, ReplicaStage::Revealed { .. })).count()
    }

    /// Whether `provider` has a part in it that is not over.
    pub fn has_part(&self, provider: Address) -> bool {
        self.replicas.get(&provider).is_some_and(|replica| replica.stage != ReplicaStage::Done)
    }

    /// What `accept` and `finalise` take for it, as batch `number` of its job.
    pub fn tally(&self, number: u32) -> ReplicaRegistry::Tally {
        let vote = |(provider, replica): (Address, &Replica)| match replica.stage {
            ReplicaStage::Revealed { root, fuel, .. } => Vote { provider, root, fuel },
            _ => Vote { provider, root: B256::ZERO, fuel: 0 },
        };
        ReplicaRegistry::Tally { batch: number, votes: self.voters().map(vote).collect() }
    }

    /// What its votes come to, if any was shown.
    pub fn count(&self, assurance: &Assurance, rules: &Rules) -> Option<replicas::Tally> {
        let vote = |(_, replica): (Address, &Replica)| {
            let result = match replica.stage {
                ReplicaStage::Revealed { root, fuel, .. } => Some((root, fuel)),
                _ => None,
            };
            replicas::Vote { result, checks: replica.checks }
        };
        replicas::tally(&self.voters().map(vote).collect::<Vec<_>>(), self.drawn, assurance, rules)
    }

    /// The result that is believed, if its votes are in at block time `now`.
    pub fn believed(&self, assurance: &Assurance, rules: &Rules, now: u64) -> Option<(B256, u64)> {
        let all = self.revealed() == self.committed();
        let is_in = match self.stage {
            BallotStage::Revealing => all || now > self.time,
            BallotStage::Frozen | BallotStage::Settled => true,
            _ => false,
        };
        self.count(assurance, rules).filter(|count| is_in && count.accepted).map(|count| count.best)
    }

    /// Block time from which anybody may bring it to its end, given that its result is believed, once its reveals are over.
    pub fn final_at(&self, job: &Job) -> u64 {
        let all = self.revealed() == self.committed() || self.stage == BallotStage::Frozen;
        if all { self.time } else { self.time + u64::from(job.windowSeconds) }
    }

    /// Block time from which anybody may bring it to its end, or to another round, by `finalise`; none while something else is due first.
    pub fn ends_at(&self, assurance: &Assurance, rules: &Rules, job: &Job) -> Option<u64> {
        let all = self.revealed() == self.committed();
        match self.stage {
            BallotStage::Committing if self.leased() != 0 || self.awaits_draw(assurance) => None,
            // An extra round found nobody; or nobody has revealed, and nobody can any more.
            BallotStage::Committing if self.revealed() != 0 => Some(self.time + 1),
            BallotStage::Committing => Some(self.time + u64::from(assurance.revealSeconds) + 1),
            BallotStage::Revealing => {
                let believed = self.count(assurance, rules).is_some_and(|count| count.accepted);
                match (believed, all) {
                    (true, _) => Some(self.final_at(job).max(if all { 0 } else { self.time + 1 })),
                    (false, true) => Some(0),
                    (false, false) => Some(self.time + 1),
                }
            }
            _ => None,
        }
    }

    /// Token wei that a provider was paid for it.
    pub fn payment(&self, provider: Address) -> U256 {
        match (self.stage, self.replicas.get(&provider)) {
            (BallotStage::Settled, Some(Replica { stage: ReplicaStage::Revealed { root, fuel, .. }, price, .. }))
                if (*root, *fuel) == self.best =>
            {
                job::payment(*price, *fuel)
            }
            _ => U256::ZERO,
        }
    }

    /// Providers whose result is `result`, each with the hash of its manifest.
    pub fn makers(&self, result: (B256, u64)) -> impl Iterator<Item = (Address, [u8; 32])> {
        self.replicas.iter().filter_map(move |(provider, replica)| match replica.stage {
            ReplicaStage::Revealed { root, fuel, outputs } if (root, fuel) == result => Some((*provider, outputs)),
            _ => None,
        })
    }
}

/// What a job of several executions has instead of batches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assured {
    /// How its results are assured.
    pub assurance: Assurance,
    /// Its batches.
    pub ballots: Vec<Ballot>,
    /// Those that were open when it was cancelled: a job that amends it goes on with them.
    left_open: Vec<usize>,
}

impl Assured {
    pub(crate) fn new(assurance: Assurance, ballots: Vec<Ballot>) -> Self {
        Self { assurance, ballots, left_open: Vec::new() }
    }
}

impl Index {
    pub(super) fn apply_replicas(&mut self, event: ReplicaRegistryEvents, at: At) {
        use ReplicaRegistryEvents as E;
        match event {
            E::ReplicatedJobPosted(event) => {
                let job: Job = event.job.job.into();
                let ballots = vec![Ballot::NEW; job::batch_count(&job) as usize];
                let contact = contact(event.contact.endpoint, &event.contact.hint);
                let assured = Some(Box::new(Assured::new(event.job.assurance, ballots)));
                let posted = JobEntry::posted(job, event.spec.into(), contact, event.deposit, at);
                self.insert(event.jobId, JobEntry { assured, ..posted });
            }
            E::JobContactChanged(event) => {
                if let Some(entry) = self.touch(event.jobId, at, "contact") {
                    entry.contact = contact(event.contact.endpoint, &event.contact.hint);
                }
            }
            E::JobCancelled(event) => {
                let Some(entry) = self.touch(event.jobId, at, "cancel") else { return };
                entry.cancelled = true;
                (entry.refunded, entry.burned) = (entry.refunded + event.refund, entry.burned + event.burned);
                let Some(assured) = &mut entry.assured else { return };
                let open =
                    assured.ballots.iter_mut().enumerate().filter(|(_, ballot)| ballot.stage == BallotStage::Open);
                let end = |(number, ballot): (usize, &mut Ballot)| {
                    ballot.stage = BallotStage::Cancelled;
                    number
                };
                assured.left_open = open.map(end).collect();
            }
            E::ReplicatedJobAmended(event) => self.continued(event, at),
            E::BatchCancelled(event) => {
                let Some(entry) = self.touch(event.jobId, at, "cancel") else { return };
                (entry.refunded, entry.burned) = (entry.refunded + event.refund, entry.burned + event.burned);
            }
            E::ReplicasLeased(event) => self.leased(event, at),
            E::BackupLeased(event) => self.backed_up(event, at),
            E::LeaseReleased(event) => self.leave(event.jobId, event.batch, event.provider, (at, "release")),
            E::LeaseExpired(event) => {
                self.slash(event.provider, (event.jobId, event.batch), event.bond, LossReason::Expired);
                if let Some(ballot) = self.ballot(event.jobId, event.batch, at, "expire") {
                    ballot.expiries += 1;
                }
                self.leave(event.jobId, event.batch, event.provider, (at, "expire"));
            }
            E::Committed(event) => self.committed(event, at),
            E::Drawn(event) => {
                let Some(ballot) = self.ballot(event.jobId, event.batch, at, "draw") else { return };
                ballot.drawn = event.audited;
                if !event.audited {
                    ballot.stage = BallotStage::Revealing;
                }
            }
            E::RoundOpened(event) => {
                let Some(ballot) = self.ballot(event.jobId, event.batch, at, "finalise") else { return };
                (ballot.stage, ballot.wanted) = (BallotStage::Committing, event.wanted.to());
                (ballot.time, ballot.opened) = (event.end.into(), at.block);
            }
            E::Revealed(event) => {
                let Some(entry) = self.touch(event.jobId, at, "reveal") else { return };
                let Some(assured) = &mut entry.assured else { return };
                let seconds = assured.assurance.revealSeconds;
                let Some(ballot) = assured.ballots.get_mut(event.batch as usize) else { return };
                if ballot.stage == BallotStage::Committing {
                    ballot.time += u64::from(seconds);
                }
                ballot.stage = BallotStage::Revealing;
                if let Some(replica) = ballot.replicas.get_mut(&event.provider) {
                    let (root, fuel, outputs) = (event.root, event.fuel, event.outputs.0);
                    replica.stage = ReplicaStage::Revealed { root, fuel, outputs };
                }
            }
            E::AllRevealed(event) => {
                if let Some(ballot) = self.ballot(event.jobId, event.batch, at, "reveal") {
                    ballot.time = event.finalAt.into();
                }
            }
            E::ReplicaSlashed(event) => {
                let ballot = self.job(&event.jobId).and_then(|entry| entry.ballot(event.batch));
                let reason = match ballot.and_then(|(_, ballot)| ballot.stage_of(event.provider)) {
                    Some(ReplicaStage::Revealed { .. }) => LossReason::Wrong,
                    _ => LossReason::NotRevealed,
                };
                self.slash(event.provider, (event.jobId, event.batch), event.stake, reason);
                if let Some(entry) = self.providers.get_mut(&event.provider) {
                    entry.checks = 0;
                }
            }
            E::BatchEnded(event) => self.ended(event, at),
            E::BatchFrozen(event) => {
                let Some(entry) = self.touch(event.jobId, at, "dispute") else { return };
                let (window, Some(assured)) = (entry.job.windowSeconds, &mut entry.assured) else { return };
                let Some(ballot) = assured.ballots.get_mut(event.batch as usize) else { return };
                if ballot.revealed() != ballot.committed() {
                    ballot.time += u64::from(window);
                }
                ballot.stage = BallotStage::Frozen;
            }
            E::BatchResolved(event) => {
                self.conclude(event.jobId, event.batch);
                let Some(entry) = self.touch(event.jobId, at, "resolve") else { return };
                let (window, Some(assured)) = (entry.job.windowSeconds, &mut entry.assured) else { return };
                let Some(ballot) = assured.ballots.get_mut(event.batch as usize) else { return };
                // The result stands, with its window over; else `BatchEnded` follows.
                if event.verdict == 0 {
                    ballot.stage = BallotStage::Revealing;
                    if ballot.revealed() != ballot.committed() {
                        ballot.time -= u64::from(window);
                    }
                }
            }
        }
    }

    /// The batches that were open go on in another job, with a lot of its own; the old one's cancellation was the log before.
    fn continued(&mut self, event: ReplicaRegistry::ReplicatedJobAmended, at: At) {
        let Some(old) = self.touch(event.from, at, "amend") else { return };
        let Some(before) = &old.assured else { return };
        let mut ballots = vec![Ballot { stage: BallotStage::Cancelled, ..Ballot::NEW }; before.ballots.len()];
        before.left_open.iter().for_each(|number| ballots[*number] = Ballot::NEW);
        let entry = JobEntry {
            job: event.terms.job.into(),
            deposit: event.deposit,
            block: at.block,
            changed: at.block,
            assured: Some(Box::new(Assured::new(event.terms.assurance, ballots))),
            cancelled: false,
            refunded: U256::ZERO,
            burned: U256::ZERO,
            transactions: vec![(at.hash, "amend")],
            ..old.clone()
        };
        self.insert(event.jobId, entry);
    }

    fn ballot(&mut self, id: B256, number: u32, at: At, kind: &'static str) -> Option<&mut Ballot> {
        self.touch(id, at, kind)?.assured.as_mut()?.ballots.get_mut(number as usize)
    }

    fn checks(&self, provider: Address) -> u32 {
        self.providers.get(&provider).map_or(0, |entry| entry.checks)
    }

    fn leased(&mut self, event: ReplicaRegistry::ReplicasLeased, at: At) {
        let checks = self.checks(event.provider);
        let Some(entry) = self.touch(event.jobId, at, "lease") else { return };
        let (lease, Some(assured)) = (u64::from(entry.job.leaseSeconds), &mut entry.assured) else { return };
        let deadline = u64::from(event.deadline);
        for number in &event.batches {
            let Some(ballot) = assured.ballots.get_mut(*number as usize) else { continue };
            if ballot.stage == BallotStage::Open {
                (ballot.stage, ballot.wanted) = (BallotStage::Committing, assured.assurance.replicas.into());
                (ballot.time, ballot.opened) = (deadline + lease, 0);
            }
            let stage = ReplicaStage::Leased { deadline, active_block: None, rival: None };
            ballot.replicas.insert(event.provider, Replica { stage, price: event.price, checks });
        }
    }

    fn backed_up(&mut self, event: ReplicaRegistry::BackupLeased, at: At) {
        let checks = self.checks(event.provider);
        let Some(ballot) = self.ballot(event.jobId, event.batch, at, "lease") else { return };
        if let Some(ReplicaStage::Leased { rival, .. }) =
            ballot.replicas.get_mut(&event.straggler).map(|replica| &mut replica.stage)
        {
            *rival = Some(event.provider);
        }
        let active_block = Some(event.activeBlock.saturating_to());
        let stage = ReplicaStage::Leased { deadline: ballot.time, active_block, rival: Some(event.straggler) };
        ballot.replicas.insert(event.provider, Replica { stage, price: event.price, checks });
    }

    /// A lease ends without a commit. Its slot is free, unless the other of straggler and backup has it.
    fn leave(&mut self, id: B256, number: u32, provider: Address, (at, kind): (At, &'static str)) {
        let Some(entry) = self.touch(id, at, kind) else { return };
        let (cancelled, Some(assured)) = (entry.cancelled, &mut entry.assured) else { return };
        let Some(ballot) = assured.ballots.get_mut(number as usize) else { return };
        let beaten = ballot.is_beaten(provider);
        let Some(replica) = ballot.replicas.get_mut(&provider) else { return };
        let before = std::mem::replace(&mut replica.stage, ReplicaStage::Done);
        if beaten {
            return;
        }
        if let ReplicaStage::Leased { rival: Some(rival), .. } = before
            && let Some(ReplicaStage::Leased { rival, .. }) =
                ballot.replicas.get_mut(&rival).map(|replica| &mut replica.stage)
        {
            *rival = None;
        }
        if ballot.leased() == 0 && ballot.committed() == 0 {
            ballot.stage = if cancelled { BallotStage::Cancelled } else { BallotStage::Open };
            (ballot.wanted, ballot.time, ballot.opened, ballot.drawn) = (0, 0, 0, false);
        }
    }

    fn committed(&mut self, event: ReplicaRegistry::Committed, at: At) {
        let Some(entry) = self.touch(event.jobId, at, "commit") else { return };
        let Some(Assured { assurance, ballots, .. }) = entry.assured.as_deref_mut() else { return };
        let Some(ballot) = ballots.get_mut(event.batch as usize) else { return };
        let public = ballot.revealed() != 0;
        if let Some(replica) = ballot.replicas.get_mut(&event.provider) {
            replica.stage = ReplicaStage::Committed { block: at.block, public };
        }
        let committed = ballot.committed();
        if committed == ballot.wanted {
            ballot.stage = if ballot.awaits_draw(assurance) { BallotStage::Drawing } else { BallotStage::Revealing };
            ballot.time = at.now + u64::from(assurance.revealSeconds);
        }
    }

    fn ended(&mut self, event: ReplicaRegistry::BatchEnded, at: At) {
        let rules = self.rules;
        let Some(entry) = self.touch(event.jobId, at, "finalise") else { return };
        (entry.refunded, entry.burned) = (entry.refunded + event.refund, entry.burned + event.burned);
        let (cancelled, Some(assured)) = (entry.cancelled, &mut entry.assured) else { return };
        let Some(ballot) = assured.ballots.get_mut(event.batch as usize) else { return };
        ballot.best = (event.root, event.fuel);
        let ends = [BallotStage::Settled, BallotStage::Undecided, BallotStage::Overturned];
        ballot.stage = match ends.into_iter().find(|end| *end as u8 == event.state) {
            Some(end) => end,
            // Nobody has revealed: it is done anew, by others.
            None => {
                for replica in ballot.replicas.values_mut() {
                    if !matches!(replica.stage, ReplicaStage::Leased { .. }) {
                        replica.stage = ReplicaStage::Done;
                    }
                }
                (ballot.wanted, ballot.time, ballot.opened, ballot.drawn) = (0, 0, 0, false);
                ballot.best = Ballot::NEW.best;
                if cancelled { BallotStage::Cancelled } else { BallotStage::Open }
            }
        };
        // Where others agreed, for a fee that matters, the record grows.
        let winners: Vec<_> = ballot.makers(ballot.best).map(|(provider, _)| provider).collect();
        if ballot.stage == BallotStage::Settled && winners.len() > 1 {
            let fee = |paid: U256| paid * U256::from(rules.fee_bps) / U256::from(10_000);
            let checked: Vec<_> =
                winners.into_iter().filter(|winner| fee(ballot.payment(*winner)) >= rules.check_fee).collect();
            for winner in checked {
                if let Some(entry) = self.providers.get_mut(&winner) {
                    entry.checks = entry.checks.saturating_add(1);
                }
            }
        }
    }
}

impl JobEntry {
    /// Its fields as `ReplicaRegistry` takes them, if it is one of that registry's.
    pub fn replicated(&self) -> Option<ReplicatedJob> {
        let assured = self.assured.as_ref()?;
        Some(ReplicatedJob { job: self.job.clone().into(), assurance: assured.assurance.clone() })
    }

    /// Its ballot of that number.
    pub fn ballot(&self, number: u32) -> Option<(&Assurance, &Ballot)> {
        let assured = self.assured.as_ref()?;
        Some((&assured.assurance, assured.ballots.get(number as usize)?))
    }
}
