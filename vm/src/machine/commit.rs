//! What stands for a machine at a step: a hash of its registers and of the roots of its regions.

use std::sync::Arc;

use super::{
    flatten::Code,
    run::Machine,
    step::{End, Region, Registers, TaskLimits},
    store::{PAGE_SLOTS, Slots, Store, UNHASHED, Units},
};
use crate::{
    Error,
    roots::{
        BLOB_DEPTH, Hash, PAGE_BYTES, PAGE_HEIGHT, Pages, Tree, halted_hash_of_root, keccak_words, node, tag, word,
        zeros,
    },
};

/// A state from which a step can be taken: all that the stepper needs, but for the leaves it touches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct State {
    /// Registers.
    pub registers: Registers,
    /// What the task fixes.
    pub limits: TaskLimits,
    /// Roots of the regions C, S, M, I, O.
    pub roots: [Hash; 5],
}

impl State {
    /// Bytes of an encoded state.
    pub const BYTES: usize = 7 * 32;

    /// The state before the first step of a task.
    ///
    /// # Errors
    /// [`Error::NoStart`] if the module exports no `start`.
    pub fn start(code: &Code, input_root: Hash, limits: TaskLimits) -> Result<Self, Error> {
        let pc = code.entry.ok_or(Error::NoStart)?;
        let [code_root, stack, memory] = *code.roots();
        let pages = [code.memories[0].pages, code.memories[1].pages];
        Ok(Self {
            registers: Registers { pc, fp: code.base, pages, ..Registers::default() },
            limits,
            roots: [code_root, stack, memory, input_root, *zeros(BLOB_DEPTH)],
        })
    }

    /// Root of a region.
    pub fn root(&self, region: Region) -> &Hash {
        &self.roots[region as usize]
    }

    /// The words that are hashed: registers, limits, roots.
    pub fn words(&self) -> [Hash; 7] {
        let mut registers = [0; 32];
        let r = &self.registers;
        for (at, field) in [r.pc, r.fp, r.pages[0], r.pages[1]].into_iter().enumerate() {
            registers[4 * at..4 * at + 4].copy_from_slice(&field.to_be_bytes());
        }
        registers[16..24].copy_from_slice(&r.progress.to_be_bytes());
        registers[24..].copy_from_slice(&r.output_len.to_be_bytes());
        let mut limits = [0; 32];
        let l = &self.limits;
        for (at, field) in [l.input_len, l.output_limit, l.fuel_limit].into_iter().enumerate() {
            limits[8 * at..8 * at + 8].copy_from_slice(&field.to_be_bytes());
        }
        let [code, stack, memory, input, output] = self.roots;
        [registers, limits, code, stack, memory, input, output]
    }

    /// The state that [`State::words`] are of, or `None` if the limits' last eight bytes are not zero.
    pub fn from_words(words: &[Hash; 7]) -> Option<Self> {
        let [registers, limits, code, stack, memory, input, output] = *words;
        let half = |at: usize| u32::from_be_bytes([0, 1, 2, 3].map(|byte| registers[at + byte]));
        let number = |word: &Hash, at: usize| u64::from_be_bytes([0, 1, 2, 3, 4, 5, 6, 7].map(|byte| word[at + byte]));
        if number(&limits, 24) != 0 {
            return None;
        }
        Some(Self {
            registers: Registers {
                pc: half(0),
                fp: half(4),
                pages: [half(8), half(12)],
                progress: number(&registers, 16),
                output_len: number(&registers, 24),
            },
            limits: TaskLimits {
                input_len: number(&limits, 0),
                output_limit: number(&limits, 8),
                fuel_limit: number(&limits, 16),
            },
            roots: [code, stack, memory, input, output],
        })
    }

    /// The state's hash.
    pub fn hash(&self) -> Hash {
        let mut words = vec![tag("CONUN step state v1")];
        words.extend(self.words());
        keccak_words(&words)
    }
}

/// The end of a task, as it is committed to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Halt {
    /// How it ended, and the bill.
    pub end: End,
    /// Bytes of output; of a failed task 0.
    pub output_len: u64,
    /// Root of the output; of a failed task that of nothing.
    pub output_root: Hash,
}

impl Halt {
    /// What is left of a state at its end.
    pub(super) fn new(end: End, output_len: u64, output_root: Hash) -> Self {
        match end.exit_code {
            Some(_) => Self { end, output_len, output_root },
            None => Self { end, output_len: 0, output_root: *zeros(BLOB_DEPTH) },
        }
    }

    /// The halted state's hash.
    pub fn hash(&self) -> Hash {
        halted_hash_of_root(self.end.exit_code, self.end.fuel, self.output_len, self.output_root)
    }
}

impl Code {
    /// Root of the program: what a job names, so that everybody who flattens the same module starts from the same state.
    /// Hashes region C and the initial memory on first use.
    ///
    /// # Errors
    /// [`Error::NoStart`] if the module exports no `start`.
    pub fn program_root(&self) -> Result<Hash, Error> {
        let entry = self.entry.ok_or(Error::NoStart)?;
        let [code, stack, memory] = *self.roots();
        let [first, second] = &self.memories;
        let numbers = [first.pages, second.pages, entry, self.base].map(|number| word(u64::from(number)));
        let mut words = vec![tag("CONUN step program v1"), code, stack, memory];
        words.extend(numbers);
        Ok(keccak_words(&words))
    }

    /// The tree over region C.
    pub(super) fn tree(&self) -> &Arc<Tree> {
        self.tree.get_or_init(|| Arc::new(Tree::of(Region::Code.depth(), &Units(&self.units))))
    }

    /// Roots of C, S and M before the first step.
    fn roots(&self) -> &[Hash; 3] {
        self.roots.get_or_init(|| {
            let stack = Tree::of(Region::Stack.depth(), &Slots(&self.globals)).root();
            let memories =
                self.memories.each_ref().map(|memory| Tree::of(Region::Memory.depth() - 1, &memory.bytes[..]).root());
            [self.tree().root(), stack, node(&memories[0], &memories[1])]
        })
    }
}

/// The trees of a machine's regions, as of the last [`Trees::refresh`].
pub(super) struct Trees {
    code: Arc<Tree>,
    stack: Tree,
    /// The slots that the tree of S is of. Comparing is cheaper than noting every write: almost every step is one.
    seen: Vec<u64>,
    memories: [Tree; 2],
    input: Tree,
    output: Tree,
    /// Bytes of output that the tree is of.
    output_len: u64,
}

impl Trees {
    pub(super) fn new(code: &Code, store: &mut Store) -> Self {
        let memories = store.memories.each_mut().map(|memory| {
            memory.take_changed(UNHASHED, usize::MAX);
            Tree::of(Region::Memory.depth() - 1, &memory.bytes[..])
        });
        let mut trees = Self {
            code: Arc::clone(code.tree()),
            stack: Tree::empty(Region::Stack.depth()),
            seen: Vec::new(),
            memories,
            input: Tree::of(Region::Input.depth(), &store.input[..]),
            output: Tree::of(Region::Output.depth(), &store.output[..]),
            output_len: 0,
        };
        trees.refresh(store);
        trees
    }

    /// Hashes what has changed. A region that has shrunk, because the machine went back, is zero where it was.
    pub(super) fn refresh(&mut self, store: &mut Store) {
        let pages = (store.stack_end as usize).max(self.seen.len()).div_ceil(PAGE_SLOTS);
        self.seen.resize(pages * PAGE_SLOTS, 0);
        let slots = &store.stack[..pages * PAGE_SLOTS];
        let mut changed = Vec::new();
        for (index, (is, was)) in slots.chunks(PAGE_SLOTS).zip(self.seen.chunks_mut(PAGE_SLOTS)).enumerate() {
            if is != was {
                was.copy_from_slice(is);
                changed.push(index);
            }
        }
        self.stack.update(&Slots(slots), changed);

        for (memory, tree) in store.memories.iter_mut().zip(&mut self.memories) {
            let changed = memory.take_changed(UNHASHED, tree.pages().max(memory.bytes[..].count()));
            tree.update(&memory.bytes[..], changed);
        }
        let len = store.output.len() as u64;
        let first = len.min(self.output_len) as usize / PAGE_BYTES;
        let last = (len.max(self.output_len) as usize).div_ceil(PAGE_BYTES);
        self.output.update(&store.output[..], (first..last).collect());
        self.output_len = len;
    }

    /// Takes up that one leaf has changed.
    pub(super) fn refresh_leaf(&mut self, store: &mut Store, region: Region, index: u64) {
        match region {
            Region::Memory => {
                let memory = (index >> 27) as usize & 1;
                let page = (index & 0x7ff_ffff) >> PAGE_HEIGHT;
                store.memories[memory].changed[page as usize] &= !UNHASHED;
                self.memories[memory].update(&store.memories[memory].bytes[..], vec![page as usize]);
            }
            Region::Stack => {
                let page = index as usize >> PAGE_HEIGHT;
                let slots = page * PAGE_SLOTS..(page + 1) * PAGE_SLOTS;
                self.seen.resize(self.seen.len().max(slots.end), 0);
                self.seen[slots.clone()].copy_from_slice(&store.stack[slots]);
                self.stack.update(&Slots(&self.seen), vec![page]);
            }
            Region::Output => self.refresh(store),
            Region::Code | Region::Input => unreachable!("no instruction writes to code or input"),
        }
    }

    /// Siblings of a leaf, as far as its region's root.
    pub(super) fn siblings(&self, store: &Store, region: Region, index: u64) -> Vec<Hash> {
        let page = (index >> PAGE_HEIGHT) as usize;
        match region {
            Region::Code => siblings(&self.code, &Units(&store.units), index, page),
            Region::Stack => siblings(&self.stack, &Slots(&store.stack[..]), index, page),
            Region::Input => siblings(&self.input, &store.input[..], index, page),
            Region::Output => siblings(&self.output, &store.output[..], index, page),
            Region::Memory => {
                let memory = (index >> 27) as usize & 1;
                let bytes = &store.memories[memory].bytes[..];
                let index = index & 0x7ff_ffff;
                let mut all = siblings(&self.memories[memory], bytes, index, (index >> PAGE_HEIGHT) as usize);
                all.push(self.memories[1 - memory].root());
                all
            }
        }
    }

    pub(super) fn roots(&self) -> [Hash; 5] {
        let memory = node(&self.memories[0].root(), &self.memories[1].root());
        [self.code.root(), self.stack.root(), memory, self.input.root(), self.output.root()]
    }
}

fn siblings(tree: &Tree, pages: &(impl Pages + ?Sized), index: u64, page: usize) -> Vec<Hash> {
    let mut bytes = [0; PAGE_BYTES];
    pages.copy(page, &mut bytes);
    tree.siblings(index, &bytes)
}

impl Machine {
    /// The trees, up to date. The first time all memory is hashed, then what has changed.
    pub(super) fn trees(&mut self) -> &mut Trees {
        match &mut self.trees {
            Some(trees) => trees.refresh(&mut self.store),
            none => *none = Some(Box::new(Trees::new(&self.code, &mut self.store))),
        }
        self.trees.as_mut().expect("made in the line above")
    }

    /// The state as it is committed to, or `None` at the end: then there is [`Machine::halt`].
    pub fn state(&mut self) -> Option<State> {
        if self.end.is_some() {
            return None;
        }
        let roots = self.trees().roots();
        Some(State { registers: self.registers, limits: self.limits, roots })
    }

    /// The end as it is committed to, or `None` before it.
    pub fn halt(&mut self) -> Option<Halt> {
        let end = self.end?;
        let output_root = Tree::of(Region::Output.depth(), &self.store.output[..]).root();
        Some(Halt::new(end, self.registers.output_len, output_root))
    }

    /// Hash of the state or of the end, whichever there is: of the machine after [`Machine::steps`] steps, and, at its end,
    /// after any more.
    pub fn state_hash(&mut self) -> Hash {
        match self.halt() {
            Some(halt) => halt.hash(),
            None => self.state().expect("a machine that is not at its end has a state").hash(),
        }
    }
}
