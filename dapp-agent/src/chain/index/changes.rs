//! Which jobs changed lately, so that whoever follows an index need not go through all of it.

use std::{collections::VecDeque, fmt};

use alloy::primitives::B256;

/// Changes that are remembered. Who has missed more looks at everything.
const KEPT: usize = 4_096;

/// The latest changes, numbered.
#[derive(Clone, Default)]
pub(super) struct Changes {
    /// Number of the first one that is kept.
    first: u64,
    jobs: VecDeque<B256>,
}

/// How an index came about is no part of what it says.
impl fmt::Debug for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Changes")
    }
}

impl Changes {
    /// Those of another history than `other`'s: no number of that one is known here.
    pub(super) fn after(other: &Self) -> Self {
        Self { first: other.count() + 1, jobs: VecDeque::new() }
    }

    pub(super) fn note(&mut self, job: B256) {
        self.jobs.push_back(job);
        if self.jobs.len() > KEPT {
            self.jobs.pop_front();
            self.first += 1;
        }
    }

    /// How many there have been.
    pub(super) fn count(&self) -> u64 {
        self.first + self.jobs.len() as u64
    }

    /// Those after the first `count`; `None` if they are not known any more, or never were.
    pub(super) fn since(&self, count: u64) -> Option<impl Iterator<Item = B256>> {
        let known = (self.first..=self.count()).contains(&count);
        known.then(|| self.jobs.range((count - self.first) as usize..).copied())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_missed_is_told_or_said_to_be_unknown() {
        let job = |number: u64| B256::from(alloy::primitives::U256::from(number));
        let mut changes = Changes::default();
        let since = |changes: &Changes, count| changes.since(count).map(Iterator::collect::<Vec<_>>);
        assert_eq!(since(&changes, 0), Some(vec![]));
        (0..3).for_each(|number| changes.note(job(number)));
        assert_eq!(since(&changes, 1), Some(vec![job(1), job(2)]));
        assert_eq!((since(&changes, 3), since(&changes, 4)), (Some(vec![]), None));
        let other = Changes::after(&changes);
        assert_eq!((since(&other, 3), since(&other, 4)), (None, Some(vec![])));
        (3..KEPT as u64 + 5).for_each(|number| changes.note(job(number)));
        assert_eq!(since(&changes, 4), None, "forgotten");
        assert_eq!(since(&changes, 5).unwrap().len(), KEPT);
        assert_eq!(changes.count(), KEPT as u64 + 5);
    }
}
