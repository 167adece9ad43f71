//! Tells requesters how their tasks are doing, and what their programs wrote to standard error.
//!
//! Nobody is paid for it, and nothing waits for it: what cannot be told within a few attempts is not told. Of batches that are voted about
//! nothing is told that would spare somebody the work, until their result is believed.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use conun_vm::{Execution, Outcome};
use tokio::sync::{Semaphore, mpsc};

use crate::{
    access::Access,
    core::BatchId,
    net::{
        Node,
        wire::{MAX_REQUEST, Report, TaskReport, TaskState},
    },
};

/// Reports that wait; more are dropped.
const QUEUE: usize = 256;

/// Most bytes of standard error in one message, so that it stays below the protocol's limit with all else.
const AT_ONCE: usize = MAX_REQUEST / 2;

/// Most bytes that are held back until results are believed; beyond that, logs are not kept.
const MAX_HELD: usize = 16 << 20;

/// Messages under way at once.
const UNDER_WAY: usize = 8;

/// Attempts at a message, and the time between them: the requester may not have seen the lease yet.
const ATTEMPTS: u32 = 5;
const PAUSE: Duration = Duration::from_secs(2);

/// What has to be told. Clones tell together.
#[derive(Clone, Debug)]
pub(super) struct Reporter {
    queue: mpsc::Sender<(BatchId, TaskReport)>,
    held: Arc<Mutex<Held>>,
}

/// Reports of batches that are voted about.
#[derive(Debug, Default)]
struct Held {
    bytes: usize,
    batches: HashMap<BatchId, Vec<TaskReport>>,
}

fn length(report: &TaskReport) -> usize {
    match &report.state {
        TaskState::Done { stderr, .. } => stderr.len(),
        TaskState::Started | TaskState::Ended => 0,
    }
}

impl Held {
    fn put(&mut self, id: BatchId, report: TaskReport) {
        if self.bytes + length(&report) <= MAX_HELD {
            self.bytes += length(&report);
            self.batches.entry(id).or_default().push(report);
        }
    }

    fn take(&mut self, id: BatchId) -> Vec<TaskReport> {
        let reports = self.batches.remove(&id).unwrap_or_default();
        self.bytes -= reports.iter().map(length).sum::<usize>();
        reports
    }
}

impl Reporter {
    /// One that tells nobody anything until the future is polled, which never ends.
    pub(super) fn new(node: Node, access: Access) -> (Self, impl Future<Output = ()> + Send) {
        let (queue, waiting) = mpsc::channel(QUEUE);
        (Self { queue, held: Arc::default() }, tell(node, access, waiting))
    }

    fn held(&self) -> std::sync::MutexGuard<'_, Held> {
        // Nothing here can fail half-way.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, id: BatchId, task: u32, state: TaskState) {
        // One that nobody has the time to tell is not told.
        let _ = self.queue.try_send((id, TaskReport { task, state }));
    }

    /// A task has begun.
    pub(super) fn started(&self, id: BatchId, task: u32) {
        self.put(id, task, TaskState::Started);
    }

    /// A task has ended; `secret` if others are to vote about it.
    pub(super) fn ended(&self, id: BatchId, task: u32, done: &Execution, secret: bool) {
        let exit_code = match done.outcome {
            Outcome::Ok { exit_code } => Some(exit_code),
            Outcome::Failed => None,
        };
        let state = TaskState::Done { exit_code, fuel: done.fuel, stderr: done.stderr.clone() };
        if secret {
            self.held().put(id, TaskReport { task, state });
            self.put(id, task, TaskState::Ended);
        } else {
            self.put(id, task, state);
        }
    }

    /// The batch's result is believed: the rest may be told.
    pub(super) async fn publish(&self, id: BatchId) {
        let reports = self.held().take(id);
        for report in reports {
            // At the end of the agent nobody hears it.
            let _ = self.queue.send((id, report)).await;
        }
    }

    /// Nobody will pay for the batch: what is held back of it stays so.
    pub(super) fn discard(&self, id: BatchId) {
        self.held().take(id);
    }
}

/// Puts reports together as far as they come faster than they can be told.
async fn tell(node: Node, access: Access, mut waiting: mpsc::Receiver<(BatchId, TaskReport)>) {
    let under_way = Arc::new(Semaphore::new(UNDER_WAY));
    let mut sending = tokio::task::JoinSet::new();
    let mut reports = Vec::new();
    while waiting.recv_many(&mut reports, QUEUE).await > 0 {
        let mut batches: BTreeMap<BatchId, Vec<TaskReport>> = BTreeMap::new();
        for (id, report) in reports.drain(..) {
            batches.entry(id).or_default().push(report);
        }
        for (id, tasks) in batches {
            for tasks in messages(tasks) {
                // It is never closed.
                let Ok(permit) = under_way.clone().acquire_owned().await else { return };
                let (node, access) = (node.clone(), access.clone());
                let report = Report { job: id.0.0, batch: id.1, tasks };
                sending.spawn(async move {
                    send(&node, &access, id, report).await;
                    drop(permit);
                });
            }
        }
        while sending.try_join_next().is_some() {}
    }
}

/// Reports in lists that fit into a message each.
fn messages(reports: Vec<TaskReport>) -> Vec<Vec<TaskReport>> {
    let mut lists: Vec<Vec<TaskReport>> = Vec::new();
    let mut bytes = 0;
    for report in reports {
        match lists.last_mut().filter(|_| bytes + length(&report) <= AT_ONCE) {
            Some(list) => {
                bytes += length(&report);
                list.push(report);
            }
            None => {
                bytes = length(&report);
                lists.push(vec![report]);
            }
        }
    }
    lists
}

async fn send(node: &Node, access: &Access, (job, batch): BatchId, report: Report) {
    let mut known = None;
    for _ in 0..ATTEMPTS {
        // It may have moved meanwhile; once the job is over, it is where it was.
        known = access.requester(&job).or(known);
        let Some(requester) = known.clone() else { return };
        match node.report(&requester, report.clone()).await {
            Ok(()) => return,
            Err(error) => tracing::debug!(target: "conun::net", %job, batch, %error, "a report is not taken"),
        }
        tokio::time::sleep(PAUSE).await;
    }
}

#[cfg(test)]
mod tests {
    use alloy::primitives::B256;

    use super::*;
    use crate::net::wire::{Request, encode};

    fn done(task: u32, bytes: usize) -> TaskReport {
        TaskReport {
            task,
            state: TaskState::Done { exit_code: Some(u32::MAX), fuel: u64::MAX, stderr: vec![255; bytes] },
        }
    }

    #[test]
    fn the_longest_logs_fit_into_messages_and_none_is_lost() {
        let mut reports: Vec<_> = (0..5).map(|task| done(task, conun_vm::MAX_STDERR_BYTES)).collect();
        reports.extend((5..5 + QUEUE as u32).map(|task| done(task, 1)));
        let lists = messages(reports);
        assert_eq!(lists.iter().flatten().map(|report| report.task).collect::<Vec<_>>(), (0..261).collect::<Vec<_>>());
        for tasks in lists {
            let report = Report { job: [255; 32], batch: u32::MAX, tasks };
            assert!(encode(&Request::Report(report)).len() <= MAX_REQUEST);
        }
    }

    #[test]
    fn what_is_held_back_has_a_limit_and_is_given_once() {
        let (mut held, id) = (Held::default(), (B256::ZERO, 0));
        for task in 0..1_000 {
            held.put(id, done(task, 64 << 10));
        }
        assert_eq!(held.take(id).len(), MAX_HELD / (64 << 10));
        assert_eq!((held.bytes, held.take(id).len()), (0, 0));
    }
}
