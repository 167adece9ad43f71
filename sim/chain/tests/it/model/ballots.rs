//! The reference of replicated jobs: what they are, and what their votes come to.

use std::collections::BTreeMap;

use alloy::primitives::U512;

use super::{
    calls::Work,
    jobs::{Fields, Ledger},
    reference::{AUDIT_FLOOR_BPS, BPS, FAULTY_BPS, FEE_BPS, MAX_COMMITMENT, MIN_STAKE, Wei, Who},
};

/// What a credibility of 1 is written as.
const CERTAIN: u64 = 1_000_000_000;
/// Seconds after the post within which a lot has to begin.
const LATEST_LOT: u64 = 600;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Assurance {
    pub(super) replicas: u8,
    pub(super) limit: u8,
    pub(super) target: u32,
    pub(super) audit_bps: u16,
    pub(super) min_checks: u32,
    pub(super) widen: u64,
    pub(super) reveal: u64,
}

impl Assurance {
    fn is_sorted(&self) -> bool {
        self.widen != 0
    }

    fn fits(&self, fields: &Fields, now: u64) -> bool {
        // Each may end with one commit more than the one before; an audit may find nobody.
        let rounds = u64::from(self.limit) + u64::from(self.audit_bps != 0);
        let lot = now + self.widen..=now + self.widen + LATEST_LOT;
        let newcomers = vec![0; self.limit.into()];
        let voted = self.target >= 500_000_000
            && is_believed(&[newcomers], 0, self.target)
            && (1..=fields.lease).contains(&self.widen)
            && lot.contains(&fields.ramp_start);
        let audits =
            if self.audit_bps == 0 { self.replicas > 1 || self.limit == 1 } else { self.limit > self.replicas };
        (1..=self.limit).contains(&self.replicas)
            && self.limit <= 15
            && Wei::from(self.audit_bps) <= BPS
            && audits
            && if self.limit > 1 { voted } else { self.target == 0 && self.widen == 0 }
            && self.min_checks < 1 << 20
            && self.reveal >= 60
            && rounds * (2 * fields.lease + self.reveal) + fields.window <= MAX_COMMITMENT
    }
}

/// Odds that a provider is right, times the assumed share of bad ones: (1 - f) / f, or s / f - 1 where that is more.
fn odds_times_f(checks: u64) -> u128 {
    (BPS - FAULTY_BPS).max((BPS * u128::from(checks)).saturating_sub(FAULTY_BPS))
}

/// Whether the group of that number is believed: its odds / (1 + the odds of all groups) exceed the target. Exactly: in whole numbers,
/// over the common denominator f^(number of votes). A group is given by the checks that each of its voters has passed.
fn is_believed(groups: &[Vec<u64>], group: usize, target: u32) -> bool {
    let votes: usize = groups.iter().map(Vec::len).sum();
    let power = |count: usize| U512::from(FAULTY_BPS).pow(U512::from(count));
    let odds = |voters: &Vec<u64>| {
        let product = voters.iter().map(|checks| U512::from(odds_times_f(*checks))).product::<U512>();
        product * power(votes - voters.len())
    };
    let all: U512 = groups.iter().map(odds).sum();
    odds(&groups[group]) * U512::from(CERTAIN) > U512::from(target) * (power(votes) + all)
}

/// What a provider committed to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Vote {
    pub(super) work: Work,
    /// With the tree that binds the leaves to their maker.
    pub(super) bound: bool,
}

/// What one provider does for a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Replica {
    /// Of the ramp, which fixes the price.
    pub(super) step: u64,
    /// Passed when it took the lease.
    pub(super) checks: u64,
    pub(super) at: Stage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    Leased {
        /// Block time; of a backup: the block from which it may commit.
        until: u64,
        backup: bool,
        /// The other of straggler and backup.
        rival: Option<Who>,
    },
    Committed {
        block: u64,
        /// Roots were public by then.
        late: bool,
        vote: Vote,
        /// Whether the hash of the next block says that the batch is audited, where it is asked.
        audited: bool,
    },
    Revealed {
        block: u64,
        late: bool,
        vote: Vote,
    },
    /// No second try.
    Done,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    Open,
    Committing,
    Drawing,
    Revealing,
    Frozen,
    Settled,
    Undecided,
    Overturned,
    /// Open when its job was cancelled, or not open when its job took the place of another.
    Cancelled,
    /// Open again after its job was cancelled.
    Refunded,
}

#[derive(Clone, Debug)]
pub(super) struct Ballot {
    pub(super) phase: Phase,
    pub(super) wanted: usize,
    pub(super) expiries: u32,
    pub(super) audited: bool,
    pub(super) time: u64,
    /// Block in which an audit or an extra round opened; once all of a first round have committed that may be audited, of the last commit.
    pub(super) opened: u64,
    pub(super) replicas: BTreeMap<Who, Replica>,
}

impl Ballot {
    pub(super) fn new() -> Self {
        let (phase, replicas) = (Phase::Open, BTreeMap::new());
        Self { phase, wanted: 0, expiries: 0, audited: false, time: 0, opened: 0, replicas }
    }

    pub(super) fn is_leased(&self, who: Who) -> bool {
        self.replicas.get(&who).is_some_and(|replica| matches!(replica.at, Stage::Leased { .. }))
    }

    /// Whether the other of straggler and backup has taken the slot.
    pub(super) fn is_beaten(&self, who: Who) -> bool {
        match self.replicas.get(&who).map(|replica| replica.at) {
            Some(Stage::Leased { rival: Some(rival), .. }) => !self.is_leased(rival),
            _ => false,
        }
    }

    /// When half of the lease is over that `who` holds.
    pub(super) fn half(&self, who: Who, lease: u64) -> Option<u64> {
        match self.replicas.get(&who).map(|replica| replica.at) {
            Some(Stage::Leased { until, backup: false, .. }) => Some(until - lease / 2),
            _ => None,
        }
    }

    /// Slots that leases hold; a backup and its straggler hold one together.
    pub(super) fn leased(&self) -> usize {
        let halves = |(who, replica): (&Who, &Replica)| match replica.at {
            Stage::Leased { rival: None, .. } => 2,
            Stage::Leased { .. } if !self.is_beaten(*who) => 1,
            _ => 0,
        };
        self.replicas.iter().map(halves).sum::<usize>() / 2
    }

    pub(super) fn revealed(&self) -> usize {
        self.replicas.values().filter(|replica| matches!(replica.at, Stage::Revealed { .. })).count()
    }

    pub(super) fn committed(&self) -> usize {
        let silent = self.replicas.values().filter(|replica| matches!(replica.at, Stage::Committed { .. }));
        silent.count() + self.revealed()
    }

    /// In its first round, of a job with audits.
    pub(super) fn awaits_draw(&self, assurance: &Assurance) -> bool {
        assurance.audit_bps != 0 && !self.audited && self.revealed() == 0
    }

    /// What the block after the last commit says.
    pub(super) fn drawn(&self) -> bool {
        let draw = |replica: &Replica| match replica.at {
            Stage::Committed { block, audited, .. } => Some((block, audited)),
            _ => None,
        };
        self.replicas.values().filter_map(draw).max().is_some_and(|(_, audited)| audited)
    }

    pub(super) fn is_over(&self) -> bool {
        matches!(self.phase, Phase::Settled | Phase::Undecided | Phase::Overturned | Phase::Cancelled | Phase::Refunded)
    }

    /// All who committed, and what they revealed.
    pub(super) fn votes(&self) -> Vec<(Who, Replica, Option<Vote>)> {
        let vote = |(who, replica): (&Who, &Replica)| match replica.at {
            Stage::Revealed { vote, .. } => Some((*who, *replica, Some(vote))),
            Stage::Committed { .. } => Some((*who, *replica, None)),
            _ => None,
        };
        self.replicas.iter().filter_map(vote).collect()
    }
}

/// A job whose batches are executed several times.
#[derive(Clone, Debug)]
pub(super) struct Poll {
    pub(super) fields: Fields,
    pub(super) assurance: Assurance,
    pub(super) cancelled: bool,
    /// It took the place of another.
    pub(super) continued: bool,
    pub(super) posted: u64,
    /// The hash that decides the first lot is stored.
    pub(super) seeded: bool,
    pub(super) ballots: Vec<Ballot>,
    pub(super) ledger: Ledger,
}

/// When a lot lets somebody lease, as far as that is known without the lot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// Not sorted.
    Always,
    From(u64),
    /// Somewhere in between.
    Between(u64, u64),
}

impl Poll {
    /// Before it is posted.
    pub(super) fn new(fields: &Fields, assurance: Assurance) -> Self {
        let (fields, ballots, ledger) = (fields.clone(), Vec::new(), Ledger::default());
        Self { fields, assurance, cancelled: false, continued: false, posted: 0, seeded: false, ballots, ledger }
    }

    pub(super) fn fits(&self, now: u64) -> bool {
        self.fields.fit() && self.assurance.fits(&self.fields, now)
    }

    /// Most that a batch may cost: all its executions, and the fee on top.
    pub(super) fn cost(&self, batch: u32) -> Wei {
        let worst = self.fields.worst(batch) * Wei::from(self.assurance.limit);
        worst + (worst * FEE_BPS).div_ceil(BPS)
    }

    pub(super) fn stake(&self, batch: u32) -> Wei {
        let share = match Wei::from(self.assurance.audit_bps) {
            0 => AUDIT_FLOOR_BPS,
            share => share.clamp(500, 5_000),
        };
        (self.fields.worst(batch) * (BPS - share)).div_ceil(share)
    }

    pub(super) fn open(&self) -> usize {
        self.ballots.iter().filter(|ballot| ballot.phase == Phase::Open).count()
    }

    pub(super) fn is_sorted(&self) -> bool {
        self.assurance.is_sorted()
    }

    /// When that stake's owner may lease a slot of the batch's round: those whose stake was there before the lot, in its order. Backups
    /// have a lot that begins at `half`, when half of the straggler's lease is over.
    pub(super) fn turn(&self, batch: u32, stake: Wei, staked: u64, half: Option<u64>) -> Turn {
        let (ballot, widen) = (&self.ballots[batch as usize], self.assurance.widen);
        if !self.is_sorted() {
            return Turn::Always;
        }
        let (opened, from) = match ballot.opened {
            0 => (self.posted, self.fields.ramp_start - widen),
            opened => (opened, ballot.time.saturating_sub(2 * self.fields.lease)),
        };
        let from = half.unwrap_or(from);
        if staked >= opened {
            return Turn::From(from + widen);
        }
        // At the latest lot.
        match (Wei::from(widen) * MIN_STAKE - 1) / stake.max(1) {
            0 => Turn::From(from),
            latest => Turn::Between(from, from + widen.min(latest as u64)),
        }
    }

    /// The votes of a batch: a vote of the best group, how many are in it, and whether it is believed.
    pub(super) fn tally(&self, batch: u32) -> (Option<Vote>, usize, bool) {
        let votes = self.ballots[batch as usize].votes();
        let result = |vote: &Vote| (vote.work.flavour, vote.work.fuel(&self.fields, batch));
        let mut groups: Vec<(Vote, Vec<u64>)> = Vec::new();
        for (_, replica, vote) in &votes {
            let Some(vote) = vote else { continue };
            match groups.iter_mut().find(|(other, _)| result(other) == result(vote)) {
                Some((_, checks)) => checks.push(replica.checks),
                None => groups.push((*vote, vec![replica.checks])),
            }
        }
        if self.ballots[batch as usize].audited && groups.len() > 1 {
            groups.iter_mut().for_each(|(_, checks)| checks.fill(0));
        }
        // One replica that nobody audits: no vote was asked for.
        let alone = votes.len() == 1 && self.assurance.replicas == 1;
        let voters: Vec<_> = groups.iter().map(|(_, checks)| checks.clone()).collect();
        let best = (0..groups.len()).find(|group| alone || is_believed(&voters, *group, self.assurance.target));
        best.map_or((None, 0, false), |best| (Some(groups[best].0), voters[best].len(), true))
    }
}
