//! What happens next: events in the order of virtual time, those of one moment in the order in which they were planned.

use std::{cmp::Reverse, collections::BinaryHeap};

/// Planned events.
#[derive(Debug)]
pub(crate) struct Queue<T> {
    heap: BinaryHeap<Reverse<Planned<T>>>,
    planned: u64,
}

#[derive(Debug)]
struct Planned<T> {
    at: u64,
    number: u64,
    what: T,
}

impl<T> PartialEq for Planned<T> {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}

impl<T> Eq for Planned<T> {}

impl<T> PartialOrd for Planned<T> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for Planned<T> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

impl<T> Queue<T> {
    pub(crate) fn new() -> Self {
        Self { heap: BinaryHeap::new(), planned: 0 }
    }

    /// Plans `what` for the millisecond `at`.
    pub(crate) fn plan(&mut self, at: u64, what: T) {
        self.heap.push(Reverse(Planned { at, number: self.planned, what }));
        self.planned += 1;
    }

    /// The next event and its millisecond.
    pub(crate) fn next(&mut self) -> Option<(u64, T)> {
        self.heap.pop().map(|Reverse(planned)| (planned.at, planned.what))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_comes_first_then_the_order_of_planning() {
        let mut queue = Queue::new();
        for (at, what) in [(5, 'c'), (1, 'a'), (5, 'd'), (1, 'b')] {
            queue.plan(at, what);
        }
        let order: String = std::iter::from_fn(|| queue.next()).map(|(_, what)| what).collect();
        assert_eq!(order, "abcd");
    }
}
