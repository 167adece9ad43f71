//! The loop: many steps at once, between two points where somebody looks.
//!
//! Code is *decoded* once: beside each unit lies the function that executes it and ends by calling that of the next. The
//! compiler makes a jump of this call; should one not, calls get no deeper than [`CHAIN`] steps, after which all return. What
//! an instruction does is not said here but in `instructions`.

use std::{cell::Cell, convert::Infallible};

use super::{
    instructions::{Flow, Instruction, On, Visitor, visit},
    op::Unit,
    step::{Bus, Region, Registers, STACK_SLOTS, TaskLimits},
    store::{Store, TRACKED_PAGES, UNHASHED, UNSAVED},
};
use crate::roots::{LEAF, PAGE_BYTES};

/// Steps from one return to the next.
const CHAIN: u64 = 256;

/// All slots that an instruction can name. A frame so near to the end of region S that it has fewer is left to
/// [`step`](super::step::step), and so is what lies beyond the code: no prepared program gets there.
type Frame = [Cell<u64>; 1 << 16];

/// Executes `this`, then what follows: `rest` is the code behind it.
type Handler = for<'c> fn(this: &'c Decoded, rest: &'c [Decoded], &'c Frame, left: u64, &mut Fast<'c>) -> Stop;

/// A unit that can be executed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Decoded {
    run: Handler,
    unit: Unit,
}

/// Decodes a module's code.
pub(super) fn decode(units: &[Unit]) -> Box<[Decoded]> {
    units.iter().map(|unit| Decoded { run: visit(unit.op, Find), unit: *unit }).collect()
}

/// Why a chain ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// All its steps are taken.
    Paused,
    /// The next step is one for [`step`](super::step::step).
    Deferred,
    /// The task has failed.
    Trap,
    /// The program has ended itself, with [`Fast::exit_code`].
    Exit,
}

/// The regions, borrowed for the loop.
pub(super) struct Fast<'c> {
    code: &'c [Decoded],
    limits: TaskLimits,
    stack: &'c [Cell<u64>; STACK_SLOTS as usize],
    stack_end: u32,
    bytes: [&'c mut [u8]; 2],
    changed: [&'c mut [u8; TRACKED_PAGES]; 2],
    registers: Registers,
    exit_code: u32,
    /// Steps of a chain that were not taken.
    left: u64,
}

impl Store {
    /// A view for the loop. It ends with [`Fast::end`].
    pub(super) fn fast<'c>(&'c mut self, code: &'c [Decoded], limits: TaskLimits, registers: Registers) -> Fast<'c> {
        let [first, second] = &mut self.memories;
        Fast {
            code,
            limits,
            stack: Cell::from_mut(&mut *self.stack).as_array_of_cells(),
            stack_end: self.stack_end,
            bytes: [&mut first.bytes, &mut second.bytes],
            changed: [&mut first.changed, &mut second.changed],
            registers,
            exit_code: 0,
            left: 0,
        }
    }
}

impl<'c> Fast<'c> {
    /// Takes at most `budget` steps; answers why it took no more, and how many it took. With `count`, `count(pc)` is
    /// called before each.
    pub(super) fn run(&mut self, budget: u64, mut count: Option<impl FnMut(u32)>) -> (Stop, u64) {
        let longest = if count.is_some() { 1 } else { CHAIN };
        let mut left = budget;
        while left > 0 {
            if let Some(count) = &mut count {
                count(self.registers.pc);
            }
            let steps = left.min(longest);
            let stop = self.chain(steps);
            left -= steps - self.left;
            if stop != Stop::Paused {
                return (stop, budget - left);
            }
        }
        (Stop::Paused, budget)
    }

    /// Registers, end of the slots that may be other than zero, and the exit code of [`Stop::Exit`].
    pub(super) fn end(self) -> (Registers, u32, u32) {
        (self.registers, self.stack_end, self.exit_code)
    }

    fn chain(&mut self, steps: u64) -> Stop {
        let at = self.code.get(self.registers.pc as usize..).and_then(<[_]>::split_first);
        match (at, self.frame(self.registers.fp)) {
            (Some((this, rest)), Some(frame)) => (this.run)(this, rest, frame, steps, self),
            _ => {
                self.left = steps;
                Stop::Deferred
            }
        }
    }

    #[inline(always)]
    fn frame(&self, fp: u32) -> Option<&'c Frame> {
        self.stack.get(fp as usize..).and_then(<[_]>::first_chunk)
    }

    /// Ends a chain before `at`.
    fn pause(&mut self, at: &[Decoded], left: u64) -> Stop {
        self.stop(Stop::Paused, at, left)
    }

    fn stop(&mut self, stop: Stop, at: &[Decoded], left: u64) -> Stop {
        self.registers.pc = (self.code.len() - at.len()) as u32;
        self.left = left;
        stop
    }

    /// Ends a chain at a place that only the start of the next one can judge.
    #[cold]
    fn stray(&mut self, pc: u32, left: u64) -> Stop {
        self.registers.pc = pc;
        self.left = left;
        Stop::Paused
    }

    #[inline(always)]
    fn execute<I: Instruction>(&mut self, unit: &'c Unit, rest: &[Decoded], frame: &'c Frame) -> Flow {
        let registers = Registers { pc: (self.code.len() - rest.len()) as u32, ..self.registers };
        let limits = self.limits;
        let mut bus = Local { frame, all: self };
        let Ok(flow) = I::execute(On { unit, registers: &registers, limits: &limits, bus: &mut bus });
        flow
    }
}

/// Goes on with `at`, `left` steps before the chain ends.
#[inline(always)]
fn go<'c>(at: &'c [Decoded], frame: &'c Frame, left: u64, all: &mut Fast<'c>) -> Stop {
    match at.split_first() {
        Some((this, rest)) if left > 0 => (this.run)(this, rest, frame, left, all),
        _ => all.pause(at, left),
    }
}

/// Executes an instruction, and what follows.
fn run<'c, I: Instruction>(
    this: &'c Decoded,
    rest: &'c [Decoded],
    frame: &'c Frame,
    left: u64,
    all: &mut Fast<'c>,
) -> Stop {
    let flow = all.execute::<I>(&this.unit, rest, frame);
    let left = left - 1;
    match flow {
        Flow::Next => go(rest, frame, left, all),
        Flow::Jump(pc) => match all.code.get(pc as usize..) {
            Some(at) => go(at, frame, left, all),
            None => all.stray(pc, left),
        },
        Flow::Frame { pc, fp } => {
            all.registers.fp = fp;
            match (all.code.get(pc as usize..), all.frame(fp)) {
                (Some(at), Some(frame)) => go(at, frame, left, all),
                _ => all.stray(pc, left),
            }
        }
        Flow::Trap => all.stop(Stop::Trap, rest, left),
        Flow::Exit(code) => {
            all.exit_code = code;
            all.stop(Stop::Exit, rest, left)
        }
        // The step is not taken.
        Flow::Bulk => {
            all.stop(Stop::Deferred, rest, left + 1);
            all.registers.pc -= 1;
            Stop::Deferred
        }
    }
}

/// Asks for the function of an instruction.
struct Find;

impl Visitor for Find {
    type Out = Handler;

    fn visit<I: Instruction>(self) -> Handler {
        run::<I>
    }
}

/// The bus of the loop: a frame, and all regions. It has nothing for what works on whole leaves or grows memories.
struct Local<'l, 'c> {
    frame: &'c Frame,
    all: &'l mut Fast<'c>,
}

impl Bus for Local<'_, '_> {
    type Error = Infallible;

    fn leaf(&mut self, _: Region, _: u64) -> Result<[u8; LEAF], Infallible> {
        unreachable!("instructions on leaves are deferred")
    }

    fn update(&mut self, _: Region, _: u64, _: impl FnOnce(&mut [u8; LEAF])) -> Result<(), Infallible> {
        unreachable!("instructions on leaves are deferred")
    }

    fn grow(&mut self, _: usize, _: u32) -> Result<(), Infallible> {
        unreachable!("growing is deferred")
    }

    #[inline(always)]
    fn frame(&mut self, end: u32) {
        self.all.stack_end = self.all.stack_end.max(end);
    }

    #[inline(always)]
    fn unit(&mut self, index: u32) -> Result<Unit, Infallible> {
        Ok(self.all.code.get(index as usize).map_or_else(Unit::default, |decoded| decoded.unit))
    }

    #[inline(always)]
    fn slot(&mut self, index: u32) -> Result<u64, Infallible> {
        Ok(self.all.stack[(index % STACK_SLOTS) as usize].get())
    }

    #[inline(always)]
    fn set_slot(&mut self, index: u32, value: u64) -> Result<(), Infallible> {
        self.all.stack[(index % STACK_SLOTS) as usize].set(value);
        Ok(())
    }

    #[inline(always)]
    fn local(&mut self, _: u32, index: u16) -> Result<u64, Infallible> {
        Ok(self.frame[usize::from(index)].get())
    }

    #[inline(always)]
    fn set_local(&mut self, _: u32, index: u16, value: u64) -> Result<(), Infallible> {
        self.frame[usize::from(index)].set(value);
        Ok(())
    }

    #[inline(always)]
    fn load<const N: usize>(&mut self, memory: usize, _: u32, address: u64) -> Result<Option<[u8; N]>, Infallible> {
        Ok(self.all.bytes[memory].get(address as usize..).and_then(<[_]>::first_chunk).copied())
    }

    #[inline(always)]
    fn store<const N: usize>(
        &mut self,
        memory: usize,
        _: u32,
        address: u64,
        bytes: [u8; N],
    ) -> Result<bool, Infallible> {
        let at = address as usize;
        let Some(room) = self.all.bytes[memory].get_mut(at..).and_then(<[_]>::first_chunk_mut) else {
            return Ok(false);
        };
        *room = bytes;
        for at in [at, at + N - 1] {
            self.all.changed[memory][at / PAGE_BYTES % TRACKED_PAGES] = UNHASHED | UNSAVED;
        }
        Ok(true)
    }
}
