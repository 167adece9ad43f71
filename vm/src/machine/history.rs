//! A run with snapshots, so that any of its states can be had again without running from the beginning.

use std::sync::Arc;

use super::{
    commit::State,
    proof::StepProof,
    run::Machine,
    step::{End, Registers, STACK_SLOTS},
    store::{PAGE_SLOTS, UNHASHED, UNSAVED},
};
use crate::{
    Error,
    roots::{Hash, PAGE_BYTES},
};

/// Most snapshots that a [`History`] keeps: when there are more, every other one goes, and the distance doubles.
pub const MAX_SNAPSHOTS: usize = 64;

/// Steps between the first snapshots, some 10 ms.
const FIRST_DISTANCE: u64 = 1 << 22;

/// A page of bytes that several snapshots may share.
type Shared = Arc<[u8; PAGE_BYTES]>;

/// A machine at some step. Pages that did not change since the snapshot before are shared with it.
#[derive(Clone)]
pub(super) struct Snapshot {
    steps: u64,
    registers: Registers,
    end: Option<End>,
    stack: Vec<u64>,
    memories: [Vec<Shared>; 2],
    output: Vec<Shared>,
    output_leaf_bytes: usize,
}

impl Machine {
    /// Keeps the machine as it is now.
    pub(super) fn save(&mut self) -> Arc<Snapshot> {
        let base = self.base.take();
        let memories = [0, 1].map(|index| {
            let memory = &mut self.store.memories[index];
            let had = base.as_ref().map(|base| &base.memories[index][..]).unwrap_or_default();
            let (pages, []) = memory.bytes.as_chunks() else { unreachable!("a memory has whole pages") };
            let kept = pages.iter().enumerate().map(|(at, page)| match had.get(at) {
                Some(same) if memory.changed[at] & UNSAVED == 0 => Arc::clone(same),
                _ => Arc::new(*page),
            });
            let kept = kept.collect();
            memory.take_changed(UNSAVED, pages.len());
            kept
        });
        let had = base.as_ref().map_or(&[][..], |base| &base.output[..]);
        // Output is only appended: of the pages before, all but the last are whole.
        let whole = base.as_ref().map_or(0, |base| base.output_leaf_bytes / PAGE_BYTES);
        let output = self.store.output.chunks(PAGE_BYTES).enumerate().map(|(at, bytes)| match had.get(at) {
            Some(same) if at < whole => Arc::clone(same),
            _ => {
                let mut page = [0; PAGE_BYTES];
                page[..bytes.len()].copy_from_slice(bytes);
                Arc::new(page)
            }
        });
        let snapshot = Arc::new(Snapshot {
            steps: self.steps,
            registers: self.registers,
            end: self.end,
            stack: self.store.stack[..self.store.stack_end as usize].to_vec(),
            memories,
            output: output.collect(),
            output_leaf_bytes: self.store.output.len(),
        });
        self.base = Some(Arc::clone(&snapshot));
        snapshot
    }

    /// Goes back, or ahead, to a snapshot of the same task.
    pub(super) fn restore(&mut self, snapshot: &Arc<Snapshot>) -> Result<(), Error> {
        let base = self.base.take();
        (self.steps, self.registers, self.end) = (snapshot.steps, snapshot.registers, snapshot.end);
        let stack_end = (self.store.stack_end as usize).next_multiple_of(PAGE_SLOTS).min(STACK_SLOTS as usize);
        self.store.stack[..stack_end].fill(0);
        self.store.stack[..snapshot.stack.len()].copy_from_slice(&snapshot.stack);
        self.store.stack_end = snapshot.stack.len() as u32;
        for (index, pages) in snapshot.memories.iter().enumerate() {
            let had = base.as_ref().map(|base| &base.memories[index][..]).unwrap_or_default();
            let memory = &mut self.store.memories[index];
            let len = pages.len() * PAGE_BYTES;
            // What is cut off is zero for the trees.
            for at in pages.len()..memory.bytes.len() / PAGE_BYTES {
                memory.changed[at] = UNHASHED;
            }
            memory.bytes.truncate(len);
            memory.grow(snapshot.registers.pages[index])?;
            let (places, _) = memory.bytes.as_chunks_mut();
            for (at, (page, place)) in pages.iter().zip(places).enumerate() {
                let same = had.get(at).is_some_and(|had| Arc::ptr_eq(had, page));
                if !same || memory.changed[at] & UNSAVED != 0 {
                    *place = **page;
                    memory.changed[at] |= UNHASHED;
                }
                memory.changed[at] &= !UNSAVED;
            }
        }
        self.store.output.clear();
        for page in &snapshot.output {
            self.store.output.extend(page.iter());
        }
        self.store.output.truncate(snapshot.output_leaf_bytes);
        self.base = Some(Arc::clone(snapshot));
        Ok(())
    }
}

/// A task that has been run once, any of whose states can be asked for.
///
/// Snapshots share the pages that did not change between them: a task that writes all its memory over and over again
/// makes them up to [`MAX_SNAPSHOTS`] times as large as that.
///
/// # Example: the states that two parties compare
///
/// ```no_run
/// # use std::sync::Arc;
/// # use conun_vm::machine::{Code, History, Machine};
/// # fn example(prepared: &[u8], input: Arc<[u8]>) -> Result<(), conun_vm::Error> {
/// let code = Arc::new(Code::flatten(prepared)?);
/// let mut history = History::new(Machine::new(code, input, 1_000_000, 1_000)?)?;
/// let middle = history.state_hash(history.steps() / 2)?;
/// let proof = history.prove(history.steps() / 2)?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct History {
    machine: Machine,
    /// In ascending order of steps; the first is the beginning.
    snapshots: Vec<Arc<Snapshot>>,
    steps: u64,
    end: End,
}

impl std::fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Snapshot").field("steps", &self.steps).finish_non_exhaustive()
    }
}

impl History {
    /// Runs `machine` to its end.
    ///
    /// # Errors
    /// [`Error::HostMemory`].
    pub fn new(machine: Machine) -> Result<Self, Error> {
        Self::with_distance(machine, FIRST_DISTANCE)
    }

    /// The same, with snapshots from `distance` steps apart on.
    #[doc(hidden)]
    pub fn with_distance(mut machine: Machine, mut distance: u64) -> Result<Self, Error> {
        let mut snapshots = vec![machine.save()];
        let end = loop {
            machine.run_to(machine.steps().saturating_add(distance))?;
            if let Some(end) = machine.end() {
                break end;
            }
            snapshots.push(machine.save());
            if snapshots.len() > MAX_SNAPSHOTS {
                let mut keep = false;
                snapshots.retain(|_| {
                    keep = !keep;
                    keep
                });
                distance *= 2;
            }
        };
        Ok(Self { steps: machine.steps(), end, snapshots, machine })
    }

    /// Steps from the beginning to the end.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// How the task ended.
    pub fn end(&self) -> End {
        self.end
    }

    /// Steps at which there are snapshots.
    pub fn snapshots(&self) -> impl Iterator<Item = u64> {
        self.snapshots.iter().map(|snapshot| snapshot.steps)
    }

    /// The machine after `steps` steps, or at the end if that comes first. Runs on from where it is if that is nearer than
    /// the nearest snapshot.
    ///
    /// # Errors
    /// [`Error::HostMemory`].
    pub fn at(&mut self, steps: u64) -> Result<&mut Machine, Error> {
        let after = self.snapshots.partition_point(|snapshot| snapshot.steps <= steps);
        let snapshot = &self.snapshots[after.saturating_sub(1)];
        if self.machine.steps() > steps || self.machine.steps() < snapshot.steps {
            self.machine.restore(snapshot)?;
        }
        self.machine.run_to(steps)?;
        Ok(&mut self.machine)
    }

    /// Hash of the state after `steps` steps; of the end if there are not so many.
    ///
    /// # Errors
    /// [`Error::HostMemory`].
    pub fn state_hash(&mut self, steps: u64) -> Result<Hash, Error> {
        Ok(self.at(steps)?.state_hash())
    }

    /// The state after `steps` steps, `None` from the end on.
    ///
    /// # Errors
    /// [`Error::HostMemory`].
    pub fn state(&mut self, steps: u64) -> Result<Option<State>, Error> {
        Ok(self.at(steps)?.state())
    }

    /// Proof of the step from the state after `steps` steps, `None` from the end on.
    ///
    /// # Errors
    /// [`Error::HostMemory`].
    pub fn prove(&mut self, steps: u64) -> Result<Option<StepProof>, Error> {
        self.at(steps)?.prove_step()
    }
}
