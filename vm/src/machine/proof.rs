//! The proof of a single step, and its verification from the proof alone.
//!
//! A proof is the list of leaves that the step reads and replaces, in its order, each with its siblings: 32 bytes of leaf,
//! then 32 bytes for each level of the region's tree, the leaf's own sibling first. Which region and which leaf is never in
//! the proof: the stepper computes it. A replaced leaf is there as it was; its new value is computed, and the root from it.

use super::{
    commit::{Halt, State, Trees},
    op::Unit,
    run::Machine,
    step::{Bus, Region, step, unit_of},
    store::Store,
};
use crate::{
    Error,
    roots::{Hash, LEAF, climb},
};

/// What convinces a verifier who knows only the state's hash of the state after one more step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepProof {
    /// The state before the step.
    pub state: State,
    /// Leaves and siblings.
    pub accesses: Vec<u8>,
}

/// Where a step leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum After {
    /// To another state.
    Running(State),
    /// To the end.
    Halted(Halt),
}

impl After {
    /// The hash that the step leads to.
    pub fn hash(&self) -> Hash {
        match self {
            Self::Running(state) => state.hash(),
            Self::Halted(halt) => halt.hash(),
        }
    }
}

/// Executes one step from its proof. Whether `state` is the one in question is for the caller to compare, by its hash.
///
/// # Errors
/// [`Error::ProofTooShort`], [`Error::ProofTooLong`], [`Error::ProofLeaf`]: the proof is malformed, which says nothing about
/// the step. A bad program is no error: its step leads to a failed end.
pub fn verify_step(state: &State, accesses: &[u8]) -> Result<After, Error> {
    let mut registers = state.registers;
    let mut verifier = Verifier { roots: state.roots, rest: accesses };
    let end = step(&mut registers, &state.limits, &mut verifier)?;
    if !verifier.rest.is_empty() {
        return Err(Error::ProofTooLong { left: verifier.rest.len() });
    }
    let after = State { registers, roots: verifier.roots, ..*state };
    Ok(match end {
        None => After::Running(after),
        Some(end) => After::Halted(Halt::new(end, registers.output_len, *after.root(Region::Output))),
    })
}

impl Machine {
    /// Takes one step and proves it; `None` at the end, where there is nothing to prove.
    ///
    /// # Errors
    /// [`Error::HostMemory`], and the machine is of no further use.
    pub fn prove_step(&mut self) -> Result<Option<StepProof>, Error> {
        let Some(state) = self.state() else { return Ok(None) };
        let trees = self.trees.as_mut().expect("the state's roots came from them");
        let mut recorder = Recorder { store: &mut self.store, trees, accesses: Vec::new() };
        self.end = step(&mut self.registers, &self.limits, &mut recorder)?;
        self.steps += 1;
        Ok(Some(StepProof { state, accesses: recorder.accesses }))
    }
}

/// The bus that executes and writes down what it saw.
struct Recorder<'m> {
    store: &'m mut Store,
    trees: &'m mut Trees,
    accesses: Vec<u8>,
}

impl Bus for Recorder<'_> {
    type Error = Error;

    fn leaf(&mut self, region: Region, index: u64) -> Result<[u8; LEAF], Error> {
        let index = region.wrap(index);
        let leaf = self.store.leaf(region, index)?;
        self.accesses.extend(leaf);
        self.accesses.extend(self.trees.siblings(self.store, region, index).as_flattened());
        Ok(leaf)
    }

    fn update(&mut self, region: Region, index: u64, change: impl FnOnce(&mut [u8; LEAF])) -> Result<(), Error> {
        let index = region.wrap(index);
        self.leaf(region, index)?;
        self.store.update(region, index, change)?;
        self.trees.refresh_leaf(self.store, region, index);
        Ok(())
    }

    fn grow(&mut self, memory: usize, pages: u32) -> Result<(), Error> {
        self.store.grow(memory, pages)
    }

    fn frame(&mut self, end: u32) {
        self.store.frame(end);
    }

    fn unit(&mut self, index: u32) -> Result<Unit, Error> {
        proved_unit(self, index)
    }
}

/// The bus that believes nothing but roots.
struct Verifier<'p> {
    roots: [Hash; 5],
    rest: &'p [u8],
}

impl<'p> Verifier<'p> {
    /// The next leaf and its siblings, if they lead to the region's root.
    fn next(&mut self, region: Region, index: u64) -> Result<(&'p [u8; LEAF], &'p [Hash]), Error> {
        let (words, depth) = (self.rest.as_chunks().0, region.depth() as usize);
        let Some(([leaf], siblings)) = words.get(..depth + 1).map(|words| words.split_at(1)) else {
            return Err(Error::ProofTooShort { needs: (depth + 1) * LEAF, left: self.rest.len() });
        };
        self.rest = &self.rest[(depth + 1) * LEAF..];
        if climb(leaf, index, siblings) != self.roots[region as usize] {
            return Err(Error::ProofLeaf { region, index });
        }
        Ok((leaf, siblings))
    }
}

impl Bus for Verifier<'_> {
    type Error = Error;

    fn leaf(&mut self, region: Region, index: u64) -> Result<[u8; LEAF], Error> {
        self.next(region, region.wrap(index)).map(|(leaf, _)| *leaf)
    }

    fn update(&mut self, region: Region, index: u64, change: impl FnOnce(&mut [u8; LEAF])) -> Result<(), Error> {
        let index = region.wrap(index);
        let (leaf, siblings) = self.next(region, index)?;
        let mut leaf = *leaf;
        change(&mut leaf);
        self.roots[region as usize] = climb(&leaf, index, siblings);
        Ok(())
    }

    fn grow(&mut self, _: usize, _: u32) -> Result<(), Error> {
        Ok(())
    }

    fn frame(&mut self, _: u32) {}

    fn unit(&mut self, index: u32) -> Result<Unit, Error> {
        proved_unit(self, index)
    }
}

/// A unit from its leaf. Beyond the region there is nothing to prove: it fails the task.
fn proved_unit<B: Bus>(bus: &mut B, index: u32) -> Result<Unit, B::Error> {
    let leaf = u64::from(index / 2);
    if leaf >> Region::Code.depth() != 0 {
        return Ok(Unit::default());
    }
    Ok(unit_of(&bus.leaf(Region::Code, leaf)?, index))
}
