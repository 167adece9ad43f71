//! Running: from the first step to the end, or to any step between.

use std::{collections::HashMap, ops::Range, sync::Arc};

use super::{
    commit::Trees,
    fast::Stop,
    flatten::{Code, Export},
    history::Snapshot,
    step::{End, Registers, TaskLimits, end, step},
    store::Store,
};
use crate::{Error, Outcome};

/// A task in the machine, at some step.
pub struct Machine {
    pub(super) code: Arc<Code>,
    pub(super) limits: TaskLimits,
    pub(super) registers: Registers,
    pub(super) store: Store,
    pub(super) steps: u64,
    pub(super) end: Option<End>,
    /// Made when a hash is asked for.
    pub(super) trees: Option<Box<Trees>>,
    /// The snapshot that pages without [`UNSAVED`](super::store::UNSAVED) are as in.
    pub(super) base: Option<Arc<Snapshot>>,
}

/// What a task came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// How it ended.
    pub outcome: Outcome,
    /// What it wrote; empty when it failed.
    pub output: Vec<u8>,
    /// Fuel billed.
    pub fuel: u64,
    /// What the WASI layer kept of standard error, at most [`MAX_STDERR_BYTES`](crate::MAX_STDERR_BYTES). No part of the
    /// result.
    pub log: Vec<u8>,
    /// Steps taken.
    pub steps: u64,
}

/// Executes a task on a prepared module.
///
/// # Errors
/// If the module cannot be flattened, see [`Code::flatten`], or exports no `start`; if this host has no memory left.
pub fn run(prepared: &[u8], input: &[u8], fuel_limit: u64, output_limit: u64) -> Result<Run, Error> {
    let mut machine = Machine::new(Arc::new(Code::flatten(prepared)?), input.into(), fuel_limit, output_limit)?;
    machine.run()?;
    Ok(machine.into_run().expect("a machine that has run is at its end"))
}

/// Nobody wants to know where each step is taken.
const UNCOUNTED: Option<fn(u32)> = None;

impl std::fmt::Debug for Machine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Machine")
            .field("limits", &self.limits)
            .field("registers", &self.registers)
            .field("steps", &self.steps)
            .field("end", &self.end)
            .finish_non_exhaustive()
    }
}

impl Machine {
    /// A task before its first step.
    ///
    /// # Errors
    /// [`Error::NoStart`] if the module exports no `start`; [`Error::HostMemory`].
    pub fn new(code: Arc<Code>, input: Arc<[u8]>, fuel_limit: u64, output_limit: u64) -> Result<Self, Error> {
        let pc = code.entry.ok_or(Error::NoStart)?;
        let mut machine = Self::unstarted(code, input, fuel_limit, output_limit)?;
        machine.registers.pc = pc;
        Ok(machine)
    }

    fn unstarted(code: Arc<Code>, input: Arc<[u8]>, fuel_limit: u64, output_limit: u64) -> Result<Self, Error> {
        let store = Store::new(&code, Arc::clone(&input))?;
        let pages = [code.memories[0].pages, code.memories[1].pages];
        Ok(Self {
            limits: TaskLimits { input_len: input.len() as u64, output_limit, fuel_limit },
            registers: Registers { fp: code.base, pages, ..Registers::default() },
            code,
            store,
            steps: 0,
            end: None,
            trees: None,
            base: None,
        })
    }

    /// The module that the machine runs.
    pub fn code(&self) -> &Arc<Code> {
        &self.code
    }

    /// Steps taken so far.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// The registers as they are now.
    pub fn registers(&self) -> Registers {
        self.registers
    }

    /// How the task ended, if it has.
    pub fn end(&self) -> Option<End> {
        self.end
    }

    /// Runs to the end. A program under preparation has one: fuel.
    ///
    /// # Errors
    /// [`Error::HostMemory`], and the machine is of no further use.
    pub fn run(&mut self) -> Result<End, Error> {
        loop {
            if let Some(end) = self.end {
                return Ok(end);
            }
            self.go(u64::MAX, UNCOUNTED)?;
        }
    }

    /// Runs until `steps` steps have been taken since the beginning, or to the end if that comes first: a machine at its
    /// end stays as it is.
    ///
    /// # Errors
    /// As [`Machine::run`].
    pub fn run_to(&mut self, steps: u64) -> Result<(), Error> {
        if self.end.is_none() && self.steps < steps {
            self.go(steps - self.steps, UNCOUNTED)?;
        }
        Ok(())
    }

    /// At most `budget` steps: the loop takes them, but for those it defers. With `count`, `count(pc)` is called before each
    /// that it takes.
    fn go(&mut self, budget: u64, mut count: Option<impl FnMut(u32)>) -> Result<(), Error> {
        let code = Arc::clone(&self.code);
        let mut left = budget;
        while left > 0 && self.end.is_none() {
            let mut fast = self.store.fast(code.decoded(), self.limits, self.registers);
            let (stop, taken) = fast.run(left, count.as_mut());
            let exit_code;
            (self.registers, self.store.stack_end, exit_code) = fast.end();
            left -= taken;
            self.steps += taken;
            self.end = match stop {
                Stop::Paused => None,
                Stop::Trap => Some(end(None, &self.limits, &mut self.store)?),
                Stop::Exit => Some(end(Some(exit_code), &self.limits, &mut self.store)?),
                // Of an instruction that moves bytes by length: all its steps.
                Stop::Deferred => loop {
                    left -= 1;
                    self.steps += 1;
                    let end = step(&mut self.registers, &self.limits, &mut self.store)?;
                    if end.is_some() || left == 0 || self.registers.progress == 0 {
                        break end;
                    }
                },
            };
        }
        Ok(())
    }

    /// Runs to the end and counts, for each function of the module by its index, the steps spent in its own code.
    ///
    /// # Errors
    /// As [`Machine::run`].
    pub fn profile(&mut self) -> Result<Vec<u64>, Error> {
        let mut at = vec![0; self.code.units.len()];
        let mut count = |pc: u32| {
            if let Some(count) = at.get_mut(pc as usize) {
                *count += 1;
            }
        };
        while self.end.is_none() {
            self.go(u64::MAX, Some(&mut count))?;
        }
        let steps_in = |code: &Range<u32>| at[code.start as usize..code.end as usize].iter().sum();
        Ok(self.code.functions.iter().map(|function| steps_in(&function.code)).collect())
    }

    /// What the task came to, if it is at its end.
    pub fn into_run(self) -> Option<Run> {
        let end = self.end?;
        let log = self.log();
        let (outcome, output) = match end.exit_code {
            Some(exit_code) => {
                let mut output = self.store.output;
                output.truncate(self.registers.output_len as usize);
                (Outcome::Ok { exit_code }, output)
            }
            None => (Outcome::Failed, Vec::new()),
        };
        Some(Run { outcome, output, fuel: end.fuel, log, steps: self.steps })
    }

    /// The WASI layer's log: in its memory, where global `log` says, u32 bytes kept and the bytes.
    fn log(&self) -> Vec<u8> {
        let Some(Export::Global(slot)) = self.code.exports.get("log") else { return Vec::new() };
        let at = self.store.stack[*slot as usize] as u32 as usize;
        let memory = &self.store.memories[1].bytes;
        let kept = memory
            .get(at..at + 4)
            .map_or(0, |len| u32::from_le_bytes(len.try_into().expect("four bytes were taken")) as usize);
        memory.get(at + 4..at + 4 + kept.min(crate::MAX_STDERR_BYTES)).unwrap_or_default().to_vec()
    }
}

/// For tests of single functions, as the specification's suite has them; a task is [`Machine::new`].
#[doc(hidden)]
impl Machine {
    /// A machine whose functions are invoked one by one. Fuel is not counted unless the module does, without end.
    ///
    /// # Errors
    /// [`Error::HostMemory`].
    pub fn instance(code: Arc<Code>, input: Arc<[u8]>) -> Result<Self, Error> {
        let mut machine = Self::unstarted(code, input, i64::MAX.cast_unsigned(), u64::MAX)?;
        machine.store.stack[0] = i64::MAX.cast_unsigned();
        Ok(machine)
    }

    /// Invokes a function by its index; answers its result as a slot if it has one, `None` for a trap.
    ///
    /// # Errors
    /// [`Error::HostMemory`].
    pub fn invoke(&mut self, function: u32, arguments: &[u64]) -> Result<Option<Option<u64>>, Error> {
        let callee = self.code.functions[function as usize].clone();
        let base = self.code.base;
        self.store.stack[base as usize..][..arguments.len()].copy_from_slice(arguments);
        self.store.stack[base as usize + arguments.len()] = u64::from(self.code.halt) | u64::from(base) << 32;
        self.store.stack_end = self.store.stack_end.max(base + u32::from(callee.frame));
        self.registers = Registers { pc: callee.code.start, fp: base, progress: 0, ..self.registers };
        self.end = None;
        let end = self.run()?;
        let result = (callee.results == 1).then(|| self.store.stack[base as usize]);
        Ok(end.exit_code.map(|_| result))
    }

    /// The function of the start section.
    pub fn start(&self) -> Option<u32> {
        self.code.start
    }

    /// A global's slot.
    pub fn global(&self, slot: u32) -> u64 {
        self.store.stack[slot as usize]
    }

    /// Sets a global's slot.
    pub fn set_global(&mut self, slot: u32, value: u64) {
        self.store.stack[slot as usize] = value;
    }

    /// The bytes of a memory.
    pub fn memory(&self, index: usize) -> &[u8] {
        &self.store.memories[index].bytes
    }

    /// What is exported by name.
    pub fn exports(&self) -> &HashMap<String, Export> {
        &self.code.exports
    }

    /// Sets what `fuel` begins with when functions are invoked.
    pub fn set_fuel(&mut self, fuel: u64) {
        self.limits.fuel_limit = fuel;
        self.store.stack[0] = fuel;
    }
}
