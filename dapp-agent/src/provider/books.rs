//! The provider's books: what was earned, today and at all, what is owed, how fast it works.

use std::{
    collections::VecDeque,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use alloy::{
    primitives::{Address, B256, U256},
    providers::DynProvider,
};
use conun_bindings::{Contracts, abi::Escrow, job};
use serde::{Deserialize, Serialize};

use crate::chain::{BatchStage, JobEntry, ReplicaStage};

/// Time over which speed is a mean.
const RECENT: Duration = Duration::from_secs(600);

/// Time between looks at the account in the Escrow.
const LOOK: Duration = Duration::from_secs(10);

/// What a provider has made so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Earnings {
    /// Paid so far, token wei.
    pub earned: U256,
    /// Of it on this local day, token wei.
    pub earned_today: U256,
    /// In the Escrow, to be withdrawn, token wei.
    pub claimable: U256,
    /// For results whose window is open, token wei, if they stand.
    pub owed: U256,
    /// Tasks paid so far.
    pub tasks: u64,
    /// Fuel paid so far.
    pub fuel: u64,
    /// Fuel a second of all workers together, mean of the last ten minutes, waiting included.
    pub fuel_per_second: u64,
}

/// A provider's record as the Escrow keeps it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// Checks passed since the last wrong result.
    pub checks: u32,
    /// Leases that ran out.
    pub expired: u32,
    /// Results that were wrong, or never shown.
    pub failed: u32,
    /// Outputs that were withheld.
    pub withheld: u32,
}

/// What had been earned when a local day began, as `earnings.json` has it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Day {
    date: String,
    before: U256,
}

#[derive(Debug)]
pub(super) struct Books {
    file: PathBuf,
    day: Day,
    started: Instant,
    /// Fuel of what was executed lately.
    recent: VecDeque<(Instant, u64)>,
    claimable: U256,
    record: Record,
    looked: Option<Instant>,
}

impl Books {
    pub(super) fn open(folder: &Path) -> Self {
        let file = folder.join("earnings.json");
        let text = std::fs::read(&file).unwrap_or_default();
        Self {
            file,
            // One that was torn begins its day anew.
            day: serde_json::from_slice(&text).unwrap_or_default(),
            started: Instant::now(),
            recent: VecDeque::new(),
            claimable: U256::ZERO,
            record: Record::default(),
            looked: None,
        }
    }

    /// A batch was executed.
    pub(super) fn executed(&mut self, fuel: u64) {
        self.recent.push_back((Instant::now(), fuel));
    }

    /// Asks the Escrow from time to time; what it said last stands if it cannot be asked.
    pub(super) async fn look(&mut self, provider: &DynProvider, contracts: &Contracts, me: Address) {
        if self.looked.is_some_and(|at| at.elapsed() < LOOK) {
            return;
        }
        self.looked = Some(Instant::now());
        if let Ok(Ok(found)) =
            tokio::time::timeout(LOOK, async { Escrow::new(contracts.escrow, provider).balanceOf(me).call().await })
                .await
        {
            self.claimable = U256::from(found.earned);
            let (checks, expired, failed, withheld) = (found.checks, found.expired, found.failed, found.withheld);
            self.record = Record { checks, expired, failed, withheld };
        }
    }

    pub(super) fn record(&self) -> Record {
        self.record
    }

    /// What `jobs` say of `me`, on the local day `date`.
    pub(super) fn earnings(&mut self, jobs: &[(B256, Arc<JobEntry>)], me: Address, date: &str) -> Earnings {
        let mut sum = Earnings { claimable: self.claimable, ..Earnings::default() };
        for (_, entry) in jobs {
            for (number, batch) in (0..).zip(&entry.batches).filter(|(_, batch)| batch.provider == me) {
                match batch.stage {
                    BatchStage::Settled => {
                        sum.earned += batch.payment;
                        sum.tasks += job::tasks_in(&entry.job, number).len() as u64;
                        sum.fuel += batch.fuel;
                    }
                    BatchStage::Submitted | BatchStage::Frozen => sum.owed += job::payment(batch.price, batch.fuel),
                    BatchStage::Open | BatchStage::Leased | BatchStage::Cancelled => {}
                }
            }
            for (number, ballot) in (0..).zip(entry.ballots()) {
                let Some(replica) = ballot.replicas.get(&me) else { continue };
                let paid = ballot.payment(me);
                if !paid.is_zero() {
                    sum.earned += paid;
                    sum.tasks += job::tasks_in(&entry.job, number).len() as u64;
                    sum.fuel += ballot.best.1;
                } else if let ReplicaStage::Revealed { fuel, .. } = replica.stage
                    && !ballot.is_final()
                {
                    sum.owed += job::payment(replica.price, fuel);
                }
            }
        }
        if self.day.date != date {
            self.day = Day { date: date.to_owned(), before: sum.earned };
            let text = serde_json::to_vec(&self.day).expect("a day has string keys only");
            if let Err(error) = std::fs::write(&self.file, text) {
                tracing::debug!(target: "conun::provider", %error, "earnings.json cannot be written");
            }
        }
        // A re-org may have taken back what was earned before.
        sum.earned_today = sum.earned.saturating_sub(self.day.before);
        sum.fuel_per_second = self.speed();
        sum
    }

    fn speed(&mut self) -> u64 {
        while self.recent.front().is_some_and(|(at, _)| at.elapsed() > RECENT) {
            self.recent.pop_front();
        }
        let time = self.started.elapsed().min(RECENT).as_secs().max(1);
        self.recent.iter().map(|(_, fuel)| fuel).sum::<u64>() / time
    }
}

/// A batch that is held, as `status.json` has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LeaseStatus {
    /// Its job.
    pub job: B256,
    /// Its number.
    pub batch: u32,
    /// Block time at which the lease runs out.
    pub deadline: u64,
    /// `waiting`, `executing`, or `executed`.
    pub state: &'static str,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_begins_with_what_was_earned_before_and_a_restart_does_not_forget() {
        let folder = tempfile::tempdir().unwrap();
        let mut books = Books::open(folder.path());
        assert_eq!(books.earnings(&[], Address::ZERO, "2026-03-01"), Earnings::default());
        books.day.before = U256::from(7);
        std::fs::write(&books.file, serde_json::to_vec(&books.day).unwrap()).unwrap();
        let mut again = Books::open(folder.path());
        assert_eq!(again.day.before, U256::from(7));
        assert_eq!(again.earnings(&[], Address::ZERO, "2026-03-01").earned_today, U256::ZERO, "less than before");
        again.earnings(&[], Address::ZERO, "2026-03-02");
        assert_eq!(Books::open(folder.path()).day, Day { date: "2026-03-02".to_owned(), before: U256::ZERO });
    }

    #[test]
    fn speed_is_of_what_was_executed_lately() {
        let folder = tempfile::tempdir().unwrap();
        let mut books = Books::open(folder.path());
        books.executed(900);
        books.executed(100);
        assert_eq!(books.speed(), 1_000);
        books.recent.iter_mut().for_each(|(at, _)| *at -= RECENT * 2);
        assert_eq!(books.speed(), 0);
    }
}
