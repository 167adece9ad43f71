//! Letting go of what nothing needs any more.

use std::{cell::Cell, time::Instant};

use alloy::primitives::B256;

use super::{
    super::{
        Running,
        clean::{self, CLEAN},
    },
    Agent, Report,
};
use crate::{core::Event, net::wire::MAX_HOLDS};

impl<T: FnMut(Running)> Agent<T> {
    /// Lets go of programs and workers of jobs that are over.
    pub(super) async fn tidy(&mut self) {
        self.clean();
        self.sweep().await;
        let index = self.follower.index();
        let over = |id: &B256| index.job(id).is_none_or(|entry| entry.is_over());
        let done: Vec<_> = self.prepared.keys().copied().filter(over).collect();
        for id in &done {
            self.prepared.remove(id);
            self.executor.workers.end(*id).await;
            self.discard(*id).await;
            self.step(Event::Over(*id));
        }
        if !done.is_empty() {
            self.offer();
        }
    }

    /// Gives others what jobs that are ready here are made of, and has them told of the latest.
    pub(super) fn offer(&self) {
        let index = self.follower.index();
        self.access.offer(self.prepared.iter().map(|(id, prepared)| (*id, prepared.public_files())).collect(), index);
        let mut jobs: Vec<_> = self.prepared.keys().filter_map(|id| index.job(id)).collect();
        // No job is later than its block.
        jobs.sort_by_key(|entry| std::cmp::Reverse(entry.block));
        let mut blobs = Vec::new();
        for blob in jobs.iter().flat_map(|entry| [entry.spec.inputs.0, entry.spec.program.0]).take(MAX_HOLDS) {
            if !blobs.contains(&blob) {
                blobs.push(blob);
            }
        }
        self.executor.node.tell_of(blobs);
    }

    /// Drops blobs of jobs that are over, if there are too many.
    fn clean(&mut self) {
        let Some(most) = self.most_blob_bytes else { return };
        if self.cleaned.is_some_and(|at| at.elapsed() < CLEAN) {
            return;
        }
        self.cleaned = Some(Instant::now());
        let unread = Cell::new(None);
        let result = |(job, batch)| {
            self.executor.journal.result(job, batch).unwrap_or_else(|error| {
                unread.set(Some(error));
                None
            })
        };
        let stakes = clean::stakes(&self.access.own_jobs(), self.me, result);
        if let Some(error) = unread.take() {
            // What is at stake is not known: nothing goes.
            return self.trouble(error.to_string());
        }
        let (node, reports) = (self.executor.node.clone(), self.reports.clone());
        self.tasks.spawn(async move {
            if let Err(error) = clean::clean(&node, stakes, most).await {
                // The loop ends before its tasks.
                let _ = reports.send(Report::Trouble(error.to_string()));
            }
        });
    }

    /// Deletes what is held back of jobs that are over and were not prepared since the start: a restart has forgotten them.
    async fn sweep(&mut self) {
        if self.swept.is_some_and(|at| at.elapsed() < CLEAN) {
            return;
        }
        self.swept = Some(Instant::now());
        let index = self.follower.index();
        let over = |id: &B256| !self.prepared.contains_key(id) && index.job(id).is_some_and(|entry| entry.is_over());
        for id in self.executor.held.jobs().await.into_iter().filter(over) {
            self.discard(id).await;
        }
    }

    /// Deletes outputs that will never be published: of a job that is over, those that nobody paid for.
    async fn discard(&self, id: B256) {
        let Some(entry) = self.follower.index().job(&id) else { return };
        for (number, ballot) in (0..).zip(entry.ballots()) {
            if ballot.payment(self.me).is_zero() {
                self.executor.held.discard((id, number)).await;
                self.executor.reporter.discard((id, number));
            }
        }
    }
}
