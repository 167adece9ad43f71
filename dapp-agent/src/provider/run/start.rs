//! What comes before the loop: the agent says where it is, and takes up what it had before a restart.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
    time::Instant,
};

use alloy::primitives::B256;
use conun_bindings::abi::ProviderRegistry;

use super::{
    super::{
        Error, Running,
        work::{Terms, Unprepared},
    },
    Agent, Report,
};
use crate::{
    chain::{BatchStage, JobEntry},
    core::{Action, BatchId, Event},
};

/// Whether a job of several executions may have been decided without its requester, which has yet to come for the outputs: for as long after
/// its windows as these took.
fn is_recent(entry: &JobEntry, now: u64) -> bool {
    let latest = entry.ballots().filter(|ballot| ballot.is_final()).map(|ballot| ballot.time).max();
    latest.is_some_and(|end| now <= end + u64::from(entry.job.windowSeconds))
}

/// Those whose time has come.
fn due(batches: &mut BTreeMap<BatchId, Instant>) -> Vec<BatchId> {
    let now = Instant::now();
    batches.extract_if(.., |_, at| *at <= now).map(|(batch, _)| batch).collect()
}

impl<T: FnMut(Running)> Agent<T> {
    /// Publishes where this node is reached now, if that is not what the chain says.
    pub(super) async fn announce(&mut self) -> Result<(), Error> {
        let contact = self.executor.node.contact();
        if self.follower.index().providers.get(&self.me).is_none_or(|entry| entry.contact != contact) {
            let registry = ProviderRegistry::new(self.follower.contracts().providers, self.sender.provider());
            let told = ProviderRegistry::Contact { endpoint: contact.endpoint.into(), hint: contact.hint_text() };
            let call = registry.setContact(told).into_transaction_request();
            self.sender.send("contact", call).await?;
        }
        (self.tell)(Running::Ready { provider: self.me, contact });
        Ok(())
    }

    /// Tells the core of results from before a restart. Those that are on the chain although a crash has lost their bytes are
    /// executed once more, so that the requester gets what it pays for. `now` is block time.
    pub(super) async fn remember(&mut self, now: u64) -> Result<(), Error> {
        let index = self.follower.index();
        let mut lost = BTreeMap::new();
        let held: HashSet<_> = self.executor.held.jobs().await.into_iter().collect();
        for (id, entry) in self.access.own_jobs() {
            // What several providers executed may still wait to be published once the job is over.
            if entry.is_over() && !held.contains(&id) && !is_recent(&entry, now) {
                continue;
            }
            for number in 0..entry.batch_count() as u32 {
                let Some(record) = self.executor.journal.result(id, number)? else { continue };
                let is_here = self.executor.has_outputs((id, number), &record).await.unwrap_or(false);
                let is_given = match entry.ballot(number) {
                    // What others were believed about is nobody's any more.
                    Some((_, ballot)) if ballot.is_final() => !ballot.payment(self.me).is_zero(),
                    Some((_, ballot)) => ballot.voters().any(|(provider, _)| provider == self.me),
                    None => {
                        let batch = &entry.batches[number as usize];
                        batch.provider == self.me && batch.stage != BatchStage::Leased
                    }
                };
                // What was committed to can be shown without its bytes.
                if is_here || is_given && entry.assured.is_some() {
                    // It does nothing before its first look at the chain.
                    let _ = self.core.step(index, Event::Remembered((id, number), record));
                }
                if !is_here && is_given {
                    lost.insert((id, number), Instant::now());
                }
            }
        }
        self.lost = lost;
        self.restore();
        Ok(())
    }

    /// Has lost outputs made anew whose time has come.
    pub(super) fn restore(&mut self) {
        let due = due(&mut self.lost);
        for jobs in due.chunk_by(|one, other| one.0 == other.0) {
            self.restore_of(jobs[0].0, jobs.iter().map(|(_, number)| *number).collect());
        }
    }

    /// Publishes what could not be published before.
    pub(super) fn publish_again(&mut self) {
        due(&mut self.unpublished).into_iter().for_each(|batch| self.act(Action::Publish(batch)));
    }

    fn restore_of(&mut self, id: B256, batches: Vec<u32>) {
        let Some(terms) = self.follower.index().job(&id).map(Terms::from) else { return };
        let (executor, peers, reports) = (self.executor.clone(), self.peers(id), self.reports.clone());
        self.tasks.spawn(async move {
            let prepared = match executor.prepare(id, terms, &peers).await {
                Ok(prepared) => Ok(Arc::new(prepared)),
                Err(Unprepared::Refused(text) | Unprepared::Unavailable(text)) => Err(text),
            };
            for batch in batches {
                tracing::warn!(target: "conun::provider", job = %id, batch, "its outputs were lost: executed once more");
                let made = match &prepared {
                    Ok(prepared) => executor.execute((id, batch), prepared, &peers).await,
                    Err(text) => Err(text.clone()),
                };
                // The loop ends before its tasks.
                let _ = reports.send(match made {
                    Ok((record, _)) => Report::Restored((id, batch), record),
                    Err(text) => Report::NotRestored((id, batch), text),
                });
            }
        });
    }
}
