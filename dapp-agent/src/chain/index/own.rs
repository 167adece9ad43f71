//! The jobs that concern one account, kept: whoever goes through them need not go through the whole market.

use std::{collections::HashMap, sync::Arc};

use alloy::primitives::{Address, B256};

use super::{Index, JobEntry};

/// Jobs that an account has posted, has a part in or has had one, as an index tells.
#[derive(Clone, Debug)]
pub struct OwnJobs {
    account: Address,
    /// Changes of the index that are taken in; `None` before it was looked at.
    seen: Option<u64>,
    jobs: HashMap<B256, Arc<JobEntry>>,
}

impl OwnJobs {
    /// Those of `account`, of an index that is still to be looked at.
    pub fn new(account: Address) -> Self {
        Self { account, seen: None, jobs: HashMap::new() }
    }

    /// Brings them up to date. It costs what has changed since the last look; the first one, and the one after a re-org, goes through all jobs.
    pub fn look(&mut self, index: &Index) {
        let changed = self.seen.and_then(|seen| index.changed_since(seen)).map(Iterator::collect::<Vec<_>>);
        match changed {
            Some(changed) => changed.into_iter().for_each(|id| self.place(id, index.jobs.get(&id))),
            None => {
                self.jobs.clear();
                index.jobs.iter().for_each(|(id, entry)| self.place(*id, Some(entry)));
            }
        }
        self.seen = Some(index.revision());
    }

    fn place(&mut self, id: B256, entry: Option<&Arc<JobEntry>>) {
        let is_own = |entry: &&Arc<JobEntry>| {
            entry.job.requester == self.account || entry.accounts().any(|part| part == self.account)
        };
        match entry.filter(is_own) {
            Some(entry) => drop(self.jobs.insert(id, entry.clone())),
            None => drop(self.jobs.remove(&id)),
        }
    }

    /// As of the last look, by id.
    pub fn jobs(&self) -> &HashMap<B256, Arc<JobEntry>> {
        &self.jobs
    }
}
