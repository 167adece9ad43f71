//! The price list: what each thing a program does costs in fuel, and how deep it may call.
//!
//! # Fuel
//!
//! | what | fuel |
//! |---|---|
//! | an instruction; of `block`, `loop`, `else`, `end`: nothing; `data.drop`: [`DATA_DROP`] | 1 |
//! | entering `_start`: an element of the table | [`TABLE_ELEMENT`] more |
//! | entering `_start`: [`DATA_BYTES_PER_FUEL`] bytes of active data segments, all together rounded down | 1 more |
//! | entering a function: each [`LOCALS_PER_FUEL`] declared locals begun | 1 more |
//! | entering a function whose frame is counted or whose fuel is checked | [`ACCOUNTED`] more |
//! | `memory.grow` | [`MEMORY_GROW`] more, and [`MEMORY_GROW_PAGE`] for each page if the limit allows them |
//! | `memory.fill`, `memory.copy`, `memory.init` of n bytes | [`BULK`] + n / [`BYTES_PER_FUEL`] more, rounded down |
//! | a host call | [`HOST_CALL`] more |
//! | `input_read` that gives n bytes | n / [`BYTES_PER_FUEL`] more, rounded down |
//! | `output_write` of n bytes | [`OUTPUT_BYTE`] × n more |
//!
//! Instructions are charged by *units*, which `prepare/units.rs` finds: when control enters a unit, all of it is
//! charged. A program that traps inside a unit has paid for the whole of it.
//!
//! # Depth
//!
//! A native stack ends somewhere else on every machine, so calls are counted instead. A function that may be
//! called again while it runs puts its frame on the account meanwhile: its parameters, its locals, the greatest height of its operand stack,
//! [`FRAME_SLOTS`], and one slot for each [`OPERATORS_PER_SLOT`] operators: a compiler that sees twice the same expression keeps its value,
//! so that a frame of the native stack may have more values than the function has locals and operands.
//! More than [`DEPTH_SLOTS`] on the account and the task fails. [`NATIVE_STACK_BYTES`] are kept for it; should they end first, it is an error of the host and no verdict.

use wasmparser::Operator;

/// Bytes of active data segments that one unit of fuel puts into a new instance's memory; `_start` pays.
pub const DATA_BYTES_PER_FUEL: u64 = 4;

/// Fuel of each element of the table of a new instance; `_start` pays.
pub const TABLE_ELEMENT: u64 = 64;

/// Fuel of `data.drop`.
pub const DATA_DROP: u64 = 32;

/// Fuel of `memory.grow` beyond the instruction's own 1, also of one that the limit does not allow.
pub const MEMORY_GROW: u64 = 1_000;

/// Fuel of each page of 64 KiB that `memory.grow` adds: the host clears it.
pub const MEMORY_GROW_PAGE: u64 = 16_384;

/// Fuel of `memory.fill`, `memory.copy` and `memory.init` of no bytes, beyond the instruction's own 1.
pub const BULK: u64 = 32;

/// Bytes that one unit of fuel moves in bulk.
pub const BYTES_PER_FUEL: u64 = 1 << BYTES_PER_FUEL_LOG2;

pub(crate) const BYTES_PER_FUEL_LOG2: u32 = 3;

/// Fuel of calling a host function beyond the call instruction's own 1.
pub const HOST_CALL: u64 = 200;

/// Fuel of each byte of output: it will be hashed, and carried over the network.
pub const OUTPUT_BYTE: u64 = 32;

/// Declared locals that one unit of fuel sets to zero when a function is entered.
pub const LOCALS_PER_FUEL: u32 = 4;

/// Fuel of entering a function that has its frame on the account or its fuel checked: what is done for that.
pub const ACCOUNTED: u64 = 3;

/// Units of at most this much fuel are paid with the unit before them, whether control gets to them or not.
pub const SMALL_UNIT: u64 = 12;

/// Most fuel of small units that one unit takes in.
pub const TAKEN_IN: u64 = 24;

/// Fuel of each buffer in a list of buffers given to a WASI function.
pub const BUFFER: u64 = 10;

/// Slots that a frame takes besides the function's own values: what preparation adds, and where to return to.
pub const FRAME_SLOTS: u32 = 12;

/// Slots that a frame takes besides if its function computes with floats.
pub const NAN_SLOTS: u32 = 20;

/// Operators of a function, those that control cannot get to aside, for which its frame takes one slot more. A value that a compiler keeps
/// for later takes some five of them, and a slot stands for 70 bytes of the native stack.
pub const OPERATORS_PER_SLOT: u32 = 32;

/// Most slots of counted frames; with the globals and [`UNCOUNTED_SLOTS`] they fit into 2^20.
pub const DEPTH_SLOTS: u32 = 7 << 17;

/// Most slots of frames that lie above one another and are not counted, since no cycle of calls leads through them.
pub const UNCOUNTED_SLOTS: u32 = 1 << 14;

/// Fuel that a function may burn without any check, its callees included; loops check by themselves.
pub const UNCHECKED: u64 = 1 << 10;

/// A function that may burn more than this without any check, its callees included, checks behind calls.
pub const LONG: u64 = 1 << 16;

/// More than the fuel of all that a program executes between two checks: an instruction has a byte at least, and
/// [`MAX_FUNCTION_BYTES`](crate::MAX_FUNCTION_BYTES) are 2^20. SPEC.md, section 5, has the proof.
pub const OVERRUN: u64 = (1 << 20) + (1 << 13);

/// Native stack that executions get, in bytes.
pub const NATIVE_STACK_BYTES: usize = 64 << 20;

/// Fuel of one instruction, as far as it does not depend on its operands.
pub(crate) fn of(operator: &Operator<'_>) -> u64 {
    match operator {
        Operator::Block { .. } | Operator::Loop { .. } | Operator::Else | Operator::End => 0,
        Operator::DataDrop { .. } => DATA_DROP,
        _ => 1,
    }
}
