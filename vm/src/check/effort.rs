//! What compiling a function takes beyond what its length says.
//!
//! A compiler keeps books of which values are *live*, will be used again, at each place where control parts or meets, and
//! of the values that meet there. A few kB of nested loops with many locals make these books endless. So they are
//! estimated here, from the locals that are live exactly: one figure for a function, and one bound for their sum.

use wasmparser::Operator;

use crate::prepare::Liveness;

/// Locals and blocks that preparation adds: fuel, depth, sums of floats live everywhere.
const ADDED: u64 = 4;

/// What counts in one operator, in the order of the code.
#[derive(Clone, Copy, Debug)]
enum Event {
    Get(u32),
    Set(u32),
    Block,
    Loop,
    If,
    Else,
    /// With the index of the event that opened it; the function's own has none.
    End(Option<usize>),
    Branch(u32),
    BranchIf(u32),
    /// Where its targets are in the list of all.
    Table(usize, usize),
    /// `return`, `unreachable`.
    Leave,
    /// Behind which preparation may look at the fuel.
    Call,
    /// Where preparation may have to look at a float.
    Float,
}

/// A set of locals.
#[derive(Clone, Debug, Default)]
struct Locals {
    words: Vec<u64>,
    len: u64,
}

impl Locals {
    fn none(of: u32) -> Self {
        Self { words: vec![0; of.div_ceil(64) as usize], len: 0 }
    }

    fn insert(&mut self, local: u32) {
        let (word, bit) = (&mut self.words[local as usize / 64], 1 << (local % 64));
        self.len += u64::from(*word & bit == 0);
        *word |= bit;
    }

    fn remove(&mut self, local: u32) {
        let (word, bit) = (&mut self.words[local as usize / 64], 1 << (local % 64));
        self.len -= u64::from(*word & bit != 0);
        *word &= !bit;
    }

    fn add(&mut self, other: &Self) {
        self.len = 0;
        for (word, other) in self.words.iter_mut().zip(&other.words) {
            *word |= other;
            self.len += u64::from(word.count_ones());
        }
    }

    fn common(&self, other: &Self) -> u64 {
        self.words.iter().zip(&other.words).map(|(word, other)| u64::from((word & other).count_ones())).sum()
    }

    fn clear(&mut self) {
        self.words.fill(0);
        self.len = 0;
    }
}

/// A construct, while its body is gone through from its end to its beginning.
#[derive(Debug)]
struct Frame {
    /// Live where its label is.
    label: Locals,
    /// Live behind it.
    after: Locals,
    /// Live at the beginning of its `else`.
    other: Option<Locals>,
    /// Written in it.
    written: Locals,
    /// Ways to the label.
    ways: u64,
}

/// The three sums that a compiler's work grows with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sums {
    /// Over all reads and writes of locals: locals live.
    uses: u64,
    /// Over all blocks, and ways between them: values live.
    blocks: u64,
    /// Over all ways to places where several meet: values that may be others on other ways.
    merges: u64,
}

impl Sums {
    /// In units of some 60 ns at most on the machine of BENCHMARKS.md. The product is the register allocator's, which may look
    /// through all merges for each value that is live in a block.
    fn effort(self) -> u64 {
        let product = self.blocks.saturating_mul(self.merges) / 64;
        (self.uses + 16 * self.blocks).saturating_add(product)
    }
}

/// Gathers what counts of one function.
#[derive(Debug, Default)]
pub(super) struct Effort {
    live: Liveness,
    events: Vec<Event>,
    targets: Vec<u32>,
    /// Of the constructs open: the event, if control got there.
    open: Vec<usize>,
    /// Operands on the stack, at each block.
    operands: u64,
}

impl Effort {
    /// Takes the next operator, and the height of the stack behind it.
    pub(super) fn next(&mut self, operator: &Operator<'_>, height: u32) -> Result<(), wasmparser::Error> {
        if !self.live.keep(operator) {
            return Ok(());
        }
        let event = match operator {
            Operator::LocalGet { local_index } => Event::Get(*local_index),
            Operator::LocalSet { local_index } | Operator::LocalTee { local_index } => Event::Set(*local_index),
            Operator::Block { .. } => Event::Block,
            Operator::Loop { .. } => Event::Loop,
            Operator::If { .. } => Event::If,
            Operator::Else => Event::Else,
            Operator::End => Event::End(self.open.pop()),
            Operator::Br { relative_depth } => Event::Branch(*relative_depth),
            Operator::BrIf { relative_depth } => Event::BranchIf(*relative_depth),
            Operator::BrTable { targets } => {
                let first = self.targets.len();
                for target in targets.targets() {
                    self.targets.push(target?);
                }
                self.targets.push(targets.default());
                Event::Table(first, self.targets.len())
            }
            Operator::Return | Operator::Unreachable => Event::Leave,
            Operator::Call { .. } | Operator::CallIndirect { .. } => Event::Call,
            Operator::F32Store { .. }
            | Operator::F64Store { .. }
            | Operator::I32ReinterpretF32
            | Operator::I64ReinterpretF64
            | Operator::F32Copysign
            | Operator::F64Copysign => Event::Float,
            _ => return Ok(()),
        };
        match event {
            Event::Get(_) | Event::Set(_) => {}
            Event::Table(first, end) => self.operands += u64::from(height) * (end - first) as u64,
            _ => self.operands += u64::from(height),
        }
        if matches!(event, Event::Block | Event::Loop | Event::If) {
            self.open.push(self.events.len());
        }
        self.events.push(event);
        Ok(())
    }

    /// The effort of the whole function.
    pub(super) fn of(&self, locals: u32) -> u64 {
        // What is live at the head of a loop is known when the loop has been gone through, where no way back has to be
        // looked at: whatever it leads to, the way that came to the loop first led to as well.
        let mut heads = vec![None; self.events.len()];
        self.backward(locals, &mut heads);
        let mut sums = self.backward(locals, &mut heads);
        sums.blocks += self.operands;
        sums.effort()
    }

    fn backward(&self, locals: u32, heads: &mut [Option<Locals>]) -> Sums {
        let mut sums = Sums::default();
        let mut live = Locals::none(locals);
        let mut frames: Vec<Frame> = Vec::new();
        for (at, event) in self.events.iter().enumerate().rev() {
            match *event {
                Event::Get(local) => {
                    live.insert(local);
                    sums.uses += live.len;
                }
                Event::Set(local) => {
                    sums.uses += live.len;
                    live.remove(local);
                    frames.last_mut().expect("all is in the function").written.insert(local);
                }
                Event::End(opened) => {
                    let head = opened.filter(|opened| matches!(self.events[*opened], Event::Loop));
                    let label = match head {
                        Some(opened) => heads[opened].clone().unwrap_or_else(|| Locals::none(locals)),
                        None => live.clone(),
                    };
                    sums.blocks += live.len + ADDED;
                    let written = Locals::none(locals);
                    frames.push(Frame { label, after: live.clone(), other: None, written, ways: 1 });
                }
                Event::Else => {
                    let frame = frames.last_mut().expect("an `else` is in an `if`");
                    sums.blocks += live.len + ADDED;
                    frame.ways += 1;
                    frame.other = Some(std::mem::replace(&mut live, frame.after.clone()));
                }
                Event::Block | Event::Loop | Event::If => {
                    let mut frame = frames.pop().expect("what was opened is closed");
                    match event {
                        Event::If => {
                            sums.blocks += live.len + ADDED;
                            frame.ways += 1;
                            live.add(frame.other.as_ref().unwrap_or(&frame.after));
                        }
                        Event::Loop => {
                            // Its head, and the two where fuel is looked at.
                            sums.blocks += 3 * (live.len + ADDED);
                            frame.label = live.clone();
                            heads[at] = Some(live.clone());
                        }
                        _ => {}
                    }
                    // One more: the fuel, or the construct's result.
                    if frame.ways > 1 {
                        sums.merges += frame.ways * (frame.label.common(&frame.written) + 1);
                    }
                    frames.last_mut().expect("all is in the function").written.add(&frame.written);
                }
                Event::Branch(depth) => {
                    live.clear();
                    Self::way(&mut frames, depth, &mut live, &mut sums);
                }
                Event::BranchIf(depth) => {
                    sums.blocks += live.len + ADDED;
                    Self::way(&mut frames, depth, &mut live, &mut sums);
                }
                Event::Table(first, end) => {
                    live.clear();
                    for &depth in &self.targets[first..end] {
                        Self::way(&mut frames, depth, &mut live, &mut sums);
                    }
                }
                Event::Leave => live.clear(),
                Event::Call => sums.blocks += live.len + ADDED,
                Event::Float => {
                    sums.blocks += 2 * (live.len + ADDED);
                    sums.merges += 2;
                }
            }
        }
        sums
    }

    /// A branch: a block of its own, and one more way to a label.
    fn way(frames: &mut [Frame], depth: u32, live: &mut Locals, sums: &mut Sums) {
        let at = frames.len() - 1 - depth as usize;
        let frame = &mut frames[at];
        frame.ways += 1;
        sums.blocks += frame.label.len + ADDED;
        live.add(&frame.label);
    }
}
