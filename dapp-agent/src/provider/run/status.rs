//! What the agent writes down for its owner.

use std::time::{Duration, Instant};

use super::{
    super::{
        Error, LeaseStatus, Running,
        status::{MOST_LOSSES, write_verdicts},
    },
    Agent,
};

/// Time between writes of the status: a person does not look more often.
const STATUS: Duration = Duration::from_millis(250);

/// The same where there are more jobs than [`MANY_JOBS`], each with its verdict.
const STATUS_OF_MANY: Duration = Duration::from_secs(10);

const MANY_JOBS: usize = 2_000;

impl<T: FnMut(Running)> Agent<T> {
    /// Writes down what became of each job seen, where that has changed.
    fn write_verdicts(&mut self) {
        let index = self.follower.index();
        let verdicts = (self.core.verdicts(index), self.core.worths(index).into_iter().collect());
        if self.verdicts.as_ref() == Some(&verdicts) {
            return;
        }
        if let Err(error) = write_verdicts(&self.folder, &verdicts.0, &verdicts.1) {
            self.unwritten(&error);
        }
        self.verdicts = Some(verdicts);
    }

    /// Writes the status, not more often than anybody looks at it.
    pub(super) fn write_status(&mut self) {
        let many = self.follower.index().jobs.len() > MANY_JOBS;
        let pause = if many { STATUS_OF_MANY } else { STATUS };
        if self.written.is_some_and(|at| at.elapsed() < pause) {
            return;
        }
        self.write_verdicts();
        self.written = Some(Instant::now());
        let index = self.follower.index();
        let today = jiff::Zoned::now().date().to_string();
        self.status.earnings = self.books.earnings(&self.access.own_jobs(), self.me, &today);
        self.status.record = self.books.record();
        self.status.peers = self.executor.node.peers();
        self.status.heard = self.executor.node.heard();
        self.status.pending = self.sender.under_way();
        let held = self.core.leases(index).into_iter();
        let lease = |((job, batch), deadline, state)| LeaseStatus { job, batch, deadline, state };
        self.status.leases = held.map(lease).collect();
        self.status.disputes = self.core.disputes(index);
        let losses = index.providers.get(&self.me).map_or(&[][..], |me| &me.losses);
        self.status.losses = losses[losses.len().saturating_sub(MOST_LOSSES)..].to_vec();
        self.status.work = self.core.overview(index);
        self.status.gas = self.sender.gas();
        self.metrics.status(&self.status);
        if let Err(error) = self.status.write(&self.folder) {
            self.unwritten(&error);
        }
    }

    /// Tells it, unless it is known that nothing can be kept.
    fn unwritten(&mut self, error: &Error) {
        if self.status.disk.is_none() {
            self.trouble(error.to_string());
        }
    }
}
