//! Runs of float stores that are looked at together.
//!
//! Making each value canonical before it is stored costs a comparison and a branch for each. Stores that follow one
//! another without a branch, a call, or an access to integers in memory between them are instead done as they are; behind
//! the last one their sum tells whether any was a NaN (or two infinities: then it is looked at for nothing), and only
//! then all of them are done again, in order, with canonical values.
//!
//! Between a store and the end of its run, memory may hold bits that the engine chose. Nothing sees them: integer loads end
//! a run, and a float that was loaded meanwhile may only go into arithmetic or a comparison. If it is put elsewhere, the
//! runs that it may have read from are made to end before the load.

use wasmparser::MemArg;

use super::nan::Float;

/// Most stores of a run: each takes two locals, which `NAN_SLOTS` counts.
const MOST: usize = 6;

/// A store of a value that may be a fresh NaN.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Store {
    /// Index of the operator.
    pub(crate) at: u32,
    /// Index of the operator that gave the value.
    pub(crate) made: u32,
    /// Whether making that canonical takes a local.
    pub(crate) scratch: bool,
    pub(crate) float: Float,
    pub(crate) place: MemArg,
}

/// Stores that are looked at together, before the operator `end`.
#[derive(Clone, Debug)]
pub(crate) struct Run {
    pub(crate) stores: Vec<Store>,
    pub(crate) end: u32,
}

/// The runs of a function.
#[derive(Debug, Default)]
pub(crate) struct Runs {
    /// Ended, in the order of their ends.
    ended: Vec<Run>,
    open: Vec<Store>,
}

impl Runs {
    pub(crate) fn clear(&mut self) {
        self.ended.clear();
        self.open.clear();
    }

    /// Whether memory may hold bits that the engine chose.
    pub(crate) fn is_open(&self) -> bool {
        !self.open.is_empty()
    }

    /// Adds a store, to the open run if that is possible.
    pub(crate) fn store(&mut self, store: Store) {
        if self.open.len() == MOST || self.open.first().is_some_and(|first| first.float != store.float) {
            self.end(store.at);
        }
        self.open.push(store);
    }

    /// Ends the open run before an operator.
    pub(crate) fn end(&mut self, before: u32) {
        if self.is_open() {
            self.ended.push(Run { stores: std::mem::take(&mut self.open), end: before });
        }
    }

    /// Makes all runs end before a load that lies in them, since what it read is put where its bits count.
    pub(crate) fn end_at_load(&mut self, load: u32) {
        let first = self.ended.partition_point(|run| run.end <= load);
        let later = self.ended.split_off(first);
        for Run { mut stores, end } in later {
            let rest = stores.split_off(stores.partition_point(|store| store.at < load));
            self.ended.extend(
                [Run { stores, end: load }, Run { stores: rest, end }].into_iter().filter(|run| !run.stores.is_empty()),
            );
        }
        let rest = self.open.split_off(self.open.partition_point(|store| store.at < load));
        self.end(load);
        self.open = rest;
    }

    /// All runs of more than one store, and the stores that are alone.
    pub(crate) fn finish(self) -> (Vec<Run>, Vec<Store>) {
        debug_assert!(self.open.is_empty(), "a function's end ends every run");
        let (runs, alone): (Vec<_>, Vec<_>) = self.ended.into_iter().partition(|run| run.stores.len() > 1);
        (runs, alone.into_iter().flat_map(|run| run.stores).collect())
    }
}
