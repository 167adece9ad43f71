//! Decisions about jobs whose batches several providers execute: whose turn it is, commits and reveals, rounds and their ends; and
//! about disputes, of both kinds of jobs.
//!
//! Turns and draws are worked out here, from the hash of one block a round, rather than asked of the contract batch by batch.

use std::collections::{BTreeMap, BTreeSet};

use alloy::primitives::{Address, B256, U256};
use conun_bindings::replicas;

use super::{
    Action, BatchId, Core, SkipReason,
    decide::{MAX_PER_TRANSACTION, SUBMIT_DELAY},
};
use crate::{
    chain::{Ballot, BallotStage, BatchStage, Claim, Index, JobEntry, ReplicaStage},
    store::ResultRecord,
};

/// Seconds of block time between one voter and the next to do what each of them could: most often the first has done it.
pub(super) const STAGGER: u64 = 5;

/// Results to send, by job.
type Results = BTreeMap<B256, Vec<(u32, ResultRecord)>>;

/// What a lot gave this account, and what that was worked out from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Turn {
    /// Hash of the block that decides.
    hash: B256,
    stake: U256,
    /// Seconds after the lot was opened.
    wait: u64,
}

/// Every ballot of `jobs`.
fn ballots<'a>(
    jobs: impl Iterator<Item = (B256, &'a JobEntry)>,
) -> impl Iterator<Item = (BatchId, &'a JobEntry, &'a Ballot)> {
    jobs.flat_map(|(id, entry)| (0..).zip(entry.ballots()).map(move |(number, ballot)| ((id, number), entry, ballot)))
}

impl Core {
    /// Ballots of the jobs in which this account has a part.
    fn own_ballots<'a>(&'a self, index: &'a Index) -> impl Iterator<Item = (BatchId, &'a JobEntry, &'a Ballot)> {
        ballots(self.view.mine(index))
    }

    /// Whether a result for the batch could be committed to, now or once a backup is active.
    pub(super) fn may_commit(&self, ballot: &Ballot) -> bool {
        self.replica_deadline(ballot).is_some()
    }

    /// When the lease runs out by which this account is to commit, if there is one.
    pub(super) fn replica_deadline(&self, ballot: &Ballot) -> Option<u64> {
        let runs = ballot.stage == BallotStage::Committing && self.now <= ballot.time;
        match ballot.stage_of(self.me)? {
            ReplicaStage::Leased { deadline, .. } if runs && !ballot.is_beaten(self.me) => Some(deadline),
            _ => None,
        }
    }

    /// Whether a held slot or backup can still be given back without a mark.
    pub(super) fn may_release_replica(&self, entry: &JobEntry, ballot: &Ballot) -> bool {
        let lease = u64::from(entry.job.leaseSeconds);
        match ballot.stage_of(self.me) {
            Some(ReplicaStage::Leased { active_block: Some(active), .. }) => self.number < active,
            Some(ReplicaStage::Leased { deadline, .. }) => self.now <= deadline.saturating_sub(lease * 3 / 4),
            _ => false,
        }
    }

    /// Leases whose slot the other of straggler and backup has taken.
    pub(super) fn beaten(&self, index: &Index) -> Vec<BatchId> {
        self.own_ballots(index).filter(|(_, _, ballot)| ballot.is_beaten(self.me)).map(|(id, ..)| id).collect()
    }

    /// What speaks against a job that asks for a record.
    pub(super) fn record_too_small(&self, index: &Index, entry: &JobEntry) -> Option<SkipReason> {
        let need = entry.assured.as_ref()?.assurance.minChecks;
        let have = index.providers.get(&self.me).map_or(0, |me| me.checks);
        (have < need).then_some(SkipReason::Record { have, need })
    }

    /// Whether a batch has a slot for this account, whenever its turn comes, and time enough to use it.
    pub(super) fn has_slot(&self, id: B256, entry: &JobEntry, ballot: &Ballot) -> bool {
        let free = match ballot.stage {
            BallotStage::Open => !entry.cancelled,
            BallotStage::Committing => {
                ballot.leased() + ballot.committed() < ballot.wanted && self.now + self.needed(id, entry) <= ballot.time
            }
            _ => false,
        };
        free && !ballot.replicas.contains_key(&self.me)
    }

    /// Seconds that a batch may take here: as its job's have, or half a lease.
    pub(super) fn needed(&self, id: B256, entry: &JobEntry) -> u64 {
        let pace = self.pace.get(&id).map(|millis| millis.div_ceil(1_000));
        pace.unwrap_or(u64::from(entry.job.leaseSeconds / 2)).max(1)
    }

    /// Block time from which the lot lets this account lease the batch; `None` while the block that decides is to come, or unread.
    pub(super) fn opens_at(&self, index: &Index, id: B256, entry: &JobEntry, number: u32) -> Option<u64> {
        self.turns(index, id, entry)(number)
    }

    /// The same for any batch of a job.
    pub(super) fn turns<'a>(
        &'a self,
        index: &'a Index,
        id: B256,
        entry: &'a JobEntry,
    ) -> impl Fn(u32) -> Option<u64> + use<'a> {
        let known = self.turns.get(&id);
        let me = index.providers.get(&self.me);
        // Most often one block decides about all of them.
        let first = self.hash_after(entry.block);
        move |number| {
            let (assurance, ballot) = entry.ballot(number)?;
            let widen = u64::from(assurance.widenSeconds);
            if widen == 0 {
                return Some(0);
            }
            let (opened, from) = self.lot(entry, ballot, widen);
            let hash = if opened == entry.block { first } else { self.hash_after(opened) }?;
            let me = me?;
            if me.staked_block >= opened {
                return Some(from + widen);
            }
            let known = known.and_then(|turns| turns.get(number as usize));
            let known = known.filter(|turn| (turn.hash, turn.stake) == (hash, me.stake));
            let wait = known.map(|turn| turn.wait).unwrap_or_else(|| {
                let (seed, who) = (replicas::seed(hash), (self.me, me.stake));
                replicas::turn(seed, (id, number), opened, who, assurance.widenSeconds, &index.rules)
            });
            Some(from + wait)
        }
    }

    /// Works out this account's turns in the lots of a job, which are asked for again and again.
    pub(super) fn learn_turns(&mut self, index: &Index, id: B256) {
        let Some((entry, me)) = index.job(&id).zip(index.providers.get(&self.me)) else { return };
        let widen = entry.assured.as_ref().map_or(0, |assured| u64::from(assured.assurance.widenSeconds));
        if widen == 0 {
            return;
        }
        let drawn = |ballot: &Ballot| {
            let (opened, _) = self.lot(entry, ballot, widen);
            let hash = self.hash_after(opened).filter(|_| me.staked_block < opened && self.has_slot(id, entry, ballot));
            hash.map(|hash| (hash, opened))
        };
        let known = self.turns.get(&id);
        let is_known = |number: usize, hash: B256| {
            let known = known.and_then(|turns| turns.get(number));
            known.is_some_and(|turn| (turn.hash, turn.stake) == (hash, me.stake))
        };
        let lacks = |(number, ballot): (usize, &Ballot)| drawn(ballot).is_some_and(|(hash, _)| !is_known(number, hash));
        if !entry.ballots().enumerate().any(lacks) {
            return;
        }
        let turn = |(number, ballot): (u32, &Ballot)| {
            let Some((hash, opened)) = drawn(ballot) else { return Turn::default() };
            let (seed, who) = (replicas::seed(hash), (self.me, me.stake));
            let wait = replicas::turn(seed, (id, number), opened, who, widen as u32, &index.rules);
            Turn { hash, stake: me.stake, wait }
        };
        let turns = (0..).zip(entry.ballots()).map(turn).collect();
        self.turns.insert(id, turns);
    }

    /// Block in which the lot of the batch's round was opened, and block time at which its turns begin.
    fn lot(&self, entry: &JobEntry, ballot: &Ballot, widen: u64) -> (u64, u64) {
        match ballot.opened {
            0 => (entry.block, u64::from(entry.job.rampStart).saturating_sub(widen)),
            opened => (opened, ballot.time.saturating_sub(2 * u64::from(entry.job.leaseSeconds))),
        }
    }

    /// Hash of the block after `number`, once it is read and the next one may use it.
    fn hash_after(&self, number: u64) -> Option<B256> {
        self.hashes.get(&(number + 1)).copied().flatten().filter(|_| self.number > number + 1)
    }

    /// Whether a lot says when this account may have a part in the batch.
    pub(super) fn has_lot(&self, entry: &JobEntry, ballot: &Ballot) -> bool {
        let drawn = entry.assured.as_ref().is_some_and(|assured| assured.assurance.widenSeconds != 0);
        let undecided = matches!(ballot.stage, BallotStage::Open | BallotStage::Committing);
        drawn && undecided && !ballot.replicas.contains_key(&self.me)
    }

    /// Asks for the hashes of blocks that decide lots and draws in which this account has a part.
    pub(super) fn ask_hashes(&mut self, index: &Index, actions: &mut Vec<Action>) {
        let mut wanted = BTreeSet::new();
        for (_, _, ballot) in self.own_ballots(index) {
            let mine = matches!(ballot.stage_of(self.me), Some(ReplicaStage::Committed { .. }));
            if let (BallotStage::Drawing, true, Some(block)) = (ballot.stage, mine, ballot.last_commit()) {
                wanted.insert(block + 1);
            }
        }
        let welcome: Vec<_> = match self.view.is_small() {
            true => self.view.lots(index).filter(|(_, entry)| self.terms(index, entry).is_none()).collect(),
            false => self.best(index).collect(),
        };
        for (_, entry, ballot) in ballots(welcome.into_iter()).filter(|(_, entry, ballot)| self.has_lot(entry, ballot))
        {
            let (opened, _) = self.lot(entry, ballot, 0);
            wanted.insert(opened + 1);
        }
        self.hashes.retain(|block, _| wanted.contains(block));
        for block in wanted.into_iter().filter(|block| *block < self.number) {
            self.hashes.entry(block).or_insert_with(|| {
                actions.push(Action::BlockHash(block));
                None
            });
        }
    }

    /// Leases of a job of which a backup may be taken: batch, holder, and block time at which half of it is over.
    pub(super) fn stragglers(&self, entry: &JobEntry) -> Vec<(u32, Address, u64)> {
        if entry.ballots().any(|ballot| ballot.stage == BallotStage::Open) {
            return Vec::new();
        }
        let half = u64::from(entry.job.leaseSeconds / 2);
        let late = |ballot: &Ballot| {
            let full = ballot.leased() + ballot.committed() >= ballot.wanted;
            let runs = ballot.stage == BallotStage::Committing && self.now < ballot.time;
            if !full || !runs || ballot.replicas.contains_key(&self.me) {
                return None;
            }
            ballot.replicas.iter().find_map(|(provider, replica)| match replica.stage {
                ReplicaStage::Leased { deadline, active_block: None, rival: None } if self.now + half >= deadline => {
                    Some((*provider, deadline.saturating_sub(half)))
                }
                _ => None,
            })
        };
        let numbered = (0..).zip(entry.ballots());
        numbered.filter_map(|(number, ballot)| late(ballot).map(|(who, half)| (number, who, half))).collect()
    }

    /// A backup of a lease that is half over, for an idle worker, where there is nothing else to lease.
    pub(super) fn back_up(&self, index: &Index) -> Option<Action> {
        if self.queue(index) >= self.policy.workers as usize {
            return None;
        }
        self.best(index).filter(|(id, _)| self.is_ready(id)).find_map(|(id, entry)| {
            let assurance = &entry.assured.as_ref()?.assurance;
            let good = |(number, straggler, half): (u32, Address, u64)| {
                let (_, ballot) = entry.ballot(number)?;
                let at = self.opens_at(index, id, entry, number)?;
                // Its lot begins when half of the lease is over.
                let (_, from) = self.lot(entry, ballot, assurance.widenSeconds.into());
                let in_turn = self.now >= at.saturating_sub(from) + half;
                let in_time = self.now + self.needed(id, entry) <= ballot.time;
                let affordable = entry.lease_lock(number, &index.rules) <= self.free_stake;
                (in_turn && in_time && affordable).then_some(Action::BackUp((id, number), straggler))
            };
            self.stragglers(entry).into_iter().find_map(good)
        })
    }

    /// Results to commit to, once a transaction is full, one has waited long enough, or no other will come soon.
    pub(super) fn commit(&self, index: &Index) -> Option<Action> {
        let mut found = Results::new();
        let mut due = self.executing.is_empty() && self.queue(index) == 0;
        for (id, done) in &self.executed {
            let Some(entry) = index.job(&id.0) else { continue };
            let Some((_, ballot)) = entry.ballot(id.1) else { continue };
            let Some(deadline) = self.replica_deadline(ballot) else { continue };
            let has_rival = match ballot.stage_of(self.me) {
                Some(ReplicaStage::Leased { active_block: Some(active), .. }) if self.number + 1 < active => continue,
                Some(ReplicaStage::Leased { rival, .. }) => rival.is_some(),
                _ => false,
            };
            let last_quarter = self.now + u64::from(entry.job.leaseSeconds / 4) >= deadline;
            due |= has_rival || last_quarter || self.now >= done.since + SUBMIT_DELAY;
            found.entry(id.0).or_default().push((id.1, done.record));
        }
        due |= found.values().any(|results| results.len() >= MAX_PER_TRANSACTION);
        if !due {
            return None;
        }
        self.turn(found).map(|(job, results)| Action::Commit(job, results))
    }

    /// Whether a batch that is to be drawn is audited; `None` if the block that decides is to come, or unread.
    fn is_audited(&self, id: BatchId, entry: &JobEntry, ballot: &Ballot) -> Option<bool> {
        let (assurance, _) = entry.ballot(id.1)?;
        Some(replicas::is_audited(self.hash_after(ballot.last_commit()?)?, id.0, id.1, assurance))
    }

    /// The draw, where it says that there is an audit; where not, the reveal draws on its way.
    pub(super) fn draw(&self, index: &Index) -> Option<Action> {
        let due = |(id, entry, ballot): &(BatchId, &JobEntry, &Ballot)| {
            let Some((assurance, _)) = entry.ballot(id.1) else { return false };
            let since = match ballot.stage {
                BallotStage::Drawing if self.is_audited(*id, entry, ballot) == Some(true) => {
                    ballot.time.saturating_sub(assurance.revealSeconds.into())
                }
                // It lacks commits, and is audited for that.
                BallotStage::Committing if ballot.awaits_draw(assurance) && ballot.leased() == 0 => ballot.time + 1,
                _ => return false,
            };
            let mine = matches!(ballot.stage_of(self.me), Some(ReplicaStage::Committed { .. }));
            mine && self.now >= since + self.stagger(ballot)
        };
        self.own_ballots(index).find(due).map(|(id, ..)| Action::Draw(id))
    }

    /// This account's commits that can be shown now; `public`: those made when roots were public, or the others.
    fn to_reveal(&self, index: &Index, public: bool) -> Results {
        let mut found = Results::new();
        for (id, done) in &self.executed {
            let Some(entry) = index.job(&id.0) else { continue };
            let Some((assurance, ballot)) = entry.ballot(id.1) else { continue };
            let block = match ballot.stage_of(self.me) {
                Some(ReplicaStage::Committed { public: at, block }) if at == public => block,
                _ => continue,
            };
            let due = match ballot.stage {
                BallotStage::Revealing => self.now <= ballot.time,
                BallotStage::Drawing => self.is_audited(*id, entry, ballot) == Some(false),
                BallotStage::Committing => {
                    let end = ballot.time + u64::from(assurance.revealSeconds);
                    let told = ballot.revealed() != 0 || ballot.awaits_draw(assurance);
                    !told && ballot.leased() == 0 && (ballot.time + 1..=end).contains(&self.now)
                }
                _ => false,
            };
            if due && (!public || self.number > block + 1) {
                found.entry(id.0).or_default().push((id.1, done.record));
            }
        }
        found
    }

    pub(super) fn reveal(&self, index: &Index) -> Option<Action> {
        self.turn(self.to_reveal(index, false)).map(|(job, results)| Action::Reveal(job, results))
    }

    pub(super) fn reveal_opened(&self, index: &Index) -> Option<Action> {
        let (job, results) = self.turn(self.to_reveal(index, true))?;
        results.first().map(|(number, record)| Action::RevealOpened((job, *number), *record))
    }

    /// How long this account leaves to other voters what each of them could do.
    fn stagger(&self, ballot: &Ballot) -> u64 {
        ballot.voters().take_while(|(provider, _)| *provider != self.me).count() as u64 * STAGGER
    }

    /// Batches that can be brought to their end, or to another round, in which this account has stake.
    pub(super) fn finalise_ballots(&self, index: &Index) -> Option<Action> {
        let mut found: BTreeMap<B256, Vec<u32>> = BTreeMap::new();
        for (id, entry, ballot) in self.own_ballots(index) {
            let mine = ballot.voters().any(|(provider, _)| provider == self.me);
            let due = |at: u64| self.now >= at + self.stagger(ballot);
            let ends_at = entry.ballot(id.1).and_then(|(terms, _)| ballot.ends_at(terms, &index.rules, &entry.job));
            if mine && ends_at.is_some_and(due) {
                found.entry(id.0).or_default().push(id.1);
            }
        }
        self.turn(found).map(|(job, batches)| Action::Finalise(job, batches))
    }

    /// Leases that ran out and keep a round from its end in which this account has stake, its own included.
    pub(super) fn expire(&self, index: &Index) -> Option<Action> {
        self.own_ballots(index).find_map(|(id, _, ballot)| {
            let over = ballot.stage == BallotStage::Committing && self.now > ballot.time;
            if !over || !ballot.has_part(self.me) || self.now < ballot.time + self.stagger(ballot) {
                return None;
            }
            let is_leased =
                |provider: &&Address| matches!(ballot.stage_of(**provider), Some(ReplicaStage::Leased { .. }));
            let mut leases = ballot.replicas.keys().filter(is_leased);
            leases.find(|provider| !ballot.is_beaten(**provider)).map(|provider| Action::Expire(id, *provider))
        })
    }

    /// A frozen batch whose disputes are over, and on which this account's payment hangs.
    pub(super) fn resolve(&self, index: &Index) -> Option<Action> {
        let over = |id: BatchId, final_at: u64| self.now >= index.resolvable_at(id.0, id.1, final_at);
        let frozen = self.own_ballots(index).find(|(id, _, ballot)| {
            let mine = ballot.voters().any(|(provider, _)| provider == self.me);
            let at = ballot.time + self.stagger(ballot);
            ballot.stage == BallotStage::Frozen && mine && self.now >= at && over(*id, ballot.time)
        });
        if let Some((id, ..)) = frozen {
            return Some(Action::Resolve(id));
        }
        self.view.mine(index).find_map(|(job, entry)| {
            let mut batches = (0..).zip(&entry.batches);
            let frozen = batches.find(|(number, batch)| {
                batch.stage == BatchStage::Frozen && batch.provider == self.me && over((job, *number), batch.deadline)
            });
            frozen.map(|(number, _)| Action::Resolve((job, number)))
        })
    }

    /// A demand that what is here answers.
    pub(super) fn answer(&self, index: &Index) -> Option<Action> {
        let mut demands = index
            .pending_cases()
            .filter(|(_, case)| case.open && matches!(case.claim, Claim::Withheld(_)) && self.now <= case.deadline);
        let answerable = demands.find(|(_, case)| {
            let Some(done) = self.executed.get(&(case.job, case.batch)) else { return false };
            let Some(entry) = index.job(&case.job) else { return false };
            let disputed = match entry.ballot(case.batch) {
                Some((assurance, ballot)) => ballot.believed(assurance, &index.rules, self.now),
                None => entry.batches.get(case.batch as usize).map(|batch| (batch.root, batch.fuel)),
            };
            disputed == Some((done.record.root, done.record.fuel))
        });
        answerable.map(|(case, _)| Action::Answer(case))
    }

    /// Outputs that others may have from now on: of results that are believed. Before that a requester could have its work for nothing.
    pub(super) fn publish(&mut self, index: &Index) -> Vec<Action> {
        let believed = |(id, record): (&BatchId, ResultRecord)| {
            let entry = index.job(&id.0)?;
            let (assurance, ballot) = entry.ballot(id.1)?;
            let mine = matches!(ballot.stage_of(self.me), Some(ReplicaStage::Revealed { .. }));
            let best = ballot.believed(assurance, &index.rules, self.now)?;
            (mine && best == (record.root, record.fuel)).then_some(*id)
        };
        let results = self.executed.iter().map(|(id, done)| (id, done.record));
        let found: Vec<_> = results.filter_map(believed).filter(|id| !self.published.contains(id)).collect();
        self.published.extend(&found);
        found.into_iter().map(Action::Publish).collect()
    }
}
