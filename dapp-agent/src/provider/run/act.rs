//! What the core wants done, begun.

use alloy::primitives::B256;
use tokio::{sync::mpsc, task};

use super::{
    super::{
        Running,
        peers::holders,
        transactions::{Draft, Drafter, block_hash},
        work::Terms,
    },
    Agent, Report,
};
use crate::{core::Action, net::PeerContact};

/// Gas of one batch's life from the provider's side, with a margin: lease, result, or commit and reveal for all, finalise.
const LIFE_GAS: u64 = 500_000;

impl<T: FnMut(Running)> Agent<T> {
    /// Where a job's data may be had.
    pub(super) fn peers(&self, job: B256) -> Vec<PeerContact> {
        holders(self.follower.index(), job, self.me, &self.executor.node)
    }

    pub(super) fn act(&mut self, action: Action) {
        tracing::debug!(target: "conun::provider", ?action, "act");
        let reports = self.reports.clone();
        match action {
            Action::Prepare(id) => {
                let Some(terms) = self.follower.index().job(&id).map(Terms::from) else { return };
                let (executor, peers) = (self.executor.clone(), self.peers(id));
                self.tasks.spawn(async move {
                    let prepared = executor.prepare(id, terms, &peers).await;
                    // The loop ends before its tasks.
                    let _ = reports.send(Report::Prepared(id, prepared.map(Box::new)));
                });
            }
            Action::Execute(batch) => {
                let Some(prepared) = self.prepared.get(&batch.0).cloned() else { return };
                let (executor, peers) = (self.executor.clone(), self.peers(batch.0));
                let clearance = self.guest.clearance();
                let task = self.tasks.spawn(async move {
                    clearance.await;
                    let executed = executor.execute(batch, &prepared, &peers).await;
                    let _ = reports.send(Report::Executed(batch, task::id(), executed));
                });
                self.executing.insert(batch, task);
            }
            Action::Abandon(batch) => {
                if let Some(task) = self.executing.remove(&batch) {
                    task.abort();
                }
            }
            Action::BlockHash(number) => {
                let provider = self.sender.provider().clone();
                self.tasks.spawn(async move {
                    let hash = block_hash(&provider, number).await.unwrap_or_default();
                    let _ = reports.send(Report::BlockHash(number, hash));
                });
            }
            Action::Publish(batch) => {
                let (executor, has_room) = (self.executor.clone(), self.status.disk.is_none());
                self.tasks.spawn(async move {
                    executor.reporter.publish(batch).await;
                    let (held, node) = (&executor.held, &executor.node);
                    let published = match has_room {
                        true => held.publish(batch, node).await.map_err(|error| Some(error.to_string())),
                        // The store would close for good.
                        false => match held.lend(batch, node).await {
                            Ok(files) if files.is_empty() => Ok(()),
                            Ok(_) => Err(None),
                            Err(error) => Err(Some(error.to_string())),
                        },
                    };
                    if let Err(text) = published {
                        let _ = reports.send(Report::NotPublished(batch, text));
                    }
                });
            }
            transaction => self.send(transaction, reports),
        }
    }

    fn send(&mut self, transaction: Action, reports: mpsc::UnboundedSender<Report>) {
        let journal = &self.executor.journal;
        let intent = match &transaction {
            Action::Lease(job, batches) => journal.intend_lease(*job, batches, self.status.block),
            Action::BackUp((job, batch), _) => journal.intend_lease(*job, &[*batch], self.status.block),
            _ => Ok(()),
        };
        if let Err(error) = intent {
            // Nothing is sent whose intent is not on disk.
            let _ = reports.send(Report::NotSent(error.to_string()));
            return;
        }
        let Some(draft) = self.draft(&transaction) else {
            let _ = reports.send(Report::NotSent("a re-org has taken away what it was about".to_owned()));
            return;
        };
        let (sender, executor, contracts) = (self.sender.clone(), self.executor.clone(), *self.follower.contracts());
        self.tasks.spawn(async move {
            let report = match draft.complete(&contracts, &executor, sender.provider()).await {
                Ok((kind, request)) => {
                    // What is leased has to be paid for to its end.
                    let able = match &transaction {
                        Action::Lease(_, batches) => sender.require_ether(kind, LIFE_GAS * batches.len() as u64).await,
                        Action::BackUp(..) => sender.require_ether(kind, LIFE_GAS).await,
                        _ => Ok(()),
                    };
                    let sent = match able {
                        Ok(()) => sender.send(kind, request).await,
                        Err(error) => Err(error),
                    };
                    Report::Sent(transaction, sent.map(|receipt| (kind, receipt.block_number.unwrap_or_default())))
                }
                Err(text) => Report::NotSent(text),
            };
            let _ = reports.send(report);
        });
    }

    fn draft(&self, action: &Action) -> Option<Draft> {
        let (index, contracts) = (self.follower.index(), self.follower.contracts());
        let drafter = Drafter { index, contracts, me: self.me };
        drafter.draft(action, |(job, batch)| {
            self.executor.journal.result(job, batch).unwrap_or_else(|error| {
                tracing::error!(target: "conun::provider", %error, "nothing is sent");
                None
            })
        })
    }
}
