//! The functions that preparation adds: host calls and whatever takes as long as a number says go through them, so that
//! it is charged before it is done.

use std::collections::HashMap;

use wasm_encoder::{BlockType, Function, InstructionSink, ValType};

use super::source::count;
use crate::fuel;

/// Globals that preparation adds, behind the module's own.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Globals {
    /// Mutable i64: fuel left; below zero once it did not suffice.
    pub(crate) fuel: u32,
    /// Mutable i64: slots of frames left.
    pub(crate) depth: u32,
    /// Mutable i32: pages that memories may still grow by, both together.
    pub(crate) pages: u32,
}

/// The four functions of the module `conun`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum HostCall {
    InputLen,
    InputRead,
    OutputWrite,
    Exit,
}

/// A function that preparation adds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Helper {
    /// Calls an import, whose index it knows.
    Host {
        call: HostCall,
        import: u32,
    },
    /// `memory.grow` within the limit.
    Grow {
        memory: u32,
        max_pages: u32,
    },
    Fill {
        memory: u32,
    },
    Copy {
        to: u32,
        from: u32,
    },
    Init {
        memory: u32,
        segment: u32,
    },
}

/// All helpers of one module, in the order in which they were first asked for.
#[derive(Debug)]
pub(crate) struct Helpers {
    first: u32,
    all: Vec<Helper>,
    known: HashMap<Helper, u32>,
}

impl Helpers {
    /// `first` is the index of the first function that is added.
    pub(crate) fn new(first: u32) -> Self {
        Self { first, all: Vec::new(), known: HashMap::new() }
    }

    /// The index of a helper, which is added if it is new.
    pub(crate) fn index(&mut self, helper: Helper) -> u32 {
        let next = self.first + count(self.all.len());
        *self.known.entry(helper).or_insert_with(|| {
            self.all.push(helper);
            next
        })
    }

    pub(crate) fn all(&self) -> &[Helper] {
        &self.all
    }
}

impl Helper {
    pub(crate) fn signature(self) -> (&'static [ValType], &'static [ValType]) {
        use ValType::{I32, I64};
        match self {
            Self::Host { call: HostCall::InputLen, .. } => (&[], &[I64]),
            Self::Host { call: HostCall::InputRead, .. } => (&[I64, I64, I32], &[I32]),
            Self::Host { call: HostCall::OutputWrite, .. } => (&[I64, I32], &[]),
            Self::Host { call: HostCall::Exit, .. } => (&[I32], &[]),
            Self::Grow { .. } => (&[I32], &[I32]),
            Self::Fill { .. } | Self::Copy { .. } | Self::Init { .. } => (&[I32, I32, I32], &[]),
        }
    }

    pub(crate) fn body(self, globals: Globals) -> Function {
        let mut function = Function::new([]);
        let mut code = function.instructions();
        match self {
            Self::Host { call, import } => host(&mut code, globals, call, import),
            Self::Grow { memory, max_pages } => grow(&mut code, globals, memory, max_pages),
            Self::Fill { memory } => {
                bulk(&mut code, globals);
                code.local_get(0).local_get(1).local_get(2).memory_fill(memory);
            }
            Self::Copy { to, from } => {
                bulk(&mut code, globals);
                code.local_get(0).local_get(1).local_get(2).memory_copy(to, from);
            }
            Self::Init { memory, segment } => {
                bulk(&mut code, globals);
                code.local_get(0).local_get(1).local_get(2).memory_init(memory, segment);
            }
        }
        code.end();
        function
    }
}

/// Takes the i64 that `amount` leaves on the stack, and a fixed part, off the fuel; fails the task if it does not suffice.
fn charge(code: &mut InstructionSink<'_>, globals: Globals, fixed: u64, amount: impl FnOnce(&mut InstructionSink<'_>)) {
    code.global_get(globals.fuel).i64_const(fixed.cast_signed()).i64_sub();
    amount(code);
    code.global_set(globals.fuel).global_get(globals.fuel).i64_const(0).i64_lt_s();
    code.if_(BlockType::Empty).unreachable().end();
}

fn per_byte_moved(code: &mut InstructionSink<'_>, length: u32) {
    code.local_get(length).i64_extend_i32_u().i64_const(i64::from(fuel::BYTES_PER_FUEL_LOG2)).i64_shr_u().i64_sub();
}

fn bulk(code: &mut InstructionSink<'_>, globals: Globals) {
    charge(code, globals, fuel::BULK, |code| per_byte_moved(code, 2));
}

fn host(code: &mut InstructionSink<'_>, globals: Globals, call: HostCall, import: u32) {
    match call {
        HostCall::InputLen => {
            charge(code, globals, fuel::HOST_CALL, |_| {});
            code.call(import);
        }
        HostCall::Exit => {
            charge(code, globals, fuel::HOST_CALL, |_| {});
            code.local_get(0).call(import);
        }
        HostCall::OutputWrite => {
            charge(code, globals, fuel::HOST_CALL, |code| {
                code.local_get(1).i64_extend_i32_u().i64_const(fuel::OUTPUT_BYTE.cast_signed()).i64_mul().i64_sub();
            });
            code.local_get(0).local_get(1).call(import);
        }
        HostCall::InputRead => {
            // How much it gives is known only afterwards. It is not asked for more than the first bytes that the fuel left
            // does not pay for: whether there are more makes no difference.
            charge(code, globals, fuel::HOST_CALL, |_| {});
            code.local_get(0).local_get(1);
            code.global_get(globals.fuel)
                .i64_const(1)
                .i64_add()
                .i64_const(i64::from(fuel::BYTES_PER_FUEL_LOG2))
                .i64_shl();
            code.i32_wrap_i64().local_get(2);
            code.local_get(2).i64_extend_i32_u().i64_const(i64::from(fuel::BYTES_PER_FUEL_LOG2)).i64_shr_u();
            code.global_get(globals.fuel).i64_gt_s().select();
            code.call(import).local_set(2);
            charge(code, globals, 0, |code| per_byte_moved(code, 2));
            code.local_get(2);
        }
    }
}

/// Answers -1 by itself where a limit forbids to grow. Where it does not, the engine's own -1 means that the host has no
/// memory left, which no program must see.
fn grow(code: &mut InstructionSink<'_>, globals: Globals, memory: u32, max_pages: u32) {
    // More pages than both memories together may still take, or than this one may have.
    code.local_get(0).global_get(globals.pages).i32_gt_u();
    code.local_get(0).i32_const(max_pages.cast_signed()).memory_size(memory).i32_sub().i32_gt_u();
    code.i32_or().if_(BlockType::Result(ValType::I32));
    charge(code, globals, fuel::MEMORY_GROW, |_| {});
    code.i32_const(-1).else_();
    charge(code, globals, fuel::MEMORY_GROW, |code| {
        code.local_get(0).i64_extend_i32_u().i64_const(fuel::MEMORY_GROW_PAGE.cast_signed()).i64_mul().i64_sub();
    });
    code.global_get(globals.pages).local_get(0).i32_sub().global_set(globals.pages);
    code.local_get(0).memory_grow(memory).end();
}
