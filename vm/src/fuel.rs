//! The price list: what each thing a program does costs in fuel, and how deep it may call.
//!
//! # Fuel
//!
//! | what | fuel |
//! |---|---|
//! | each WebAssembly operator, `end`, `else` and `block` included | 1 |
//! | `memory.grow` | [`MEMORY_GROW`] more |
//! | `memory.fill`, `memory.copy`, `memory.init` of n bytes | n / [`BYTES_PER_FUEL`] more, rounded down |
//! | a call of a WASI function | [`HOST_CALL`] more |
//! | n bytes that a WASI function moves in or out of the program's memory | n / [`BYTES_PER_FUEL`] more, rounded down |
//! | each buffer of a `fd_read` or `fd_write` | [`BUFFER`] more |
//!
//! Operators are charged by straight runs: when control enters a run (a stretch of code without a branch, call or label
//! inside), all its operators are charged at once. A program that traps inside a run has paid for the whole run. When
//! what is left does not cover a charge, the task fails and all of its limit is billed.
//!
//! # Depth
//!
//! A native stack ends somewhere else on every machine, so calls are counted instead. A call puts the *caller's* frame on
//! the account: its parameters, its locals, the greatest height of its operand stack, and [`FRAME_SLOTS`]. More than
//! [`DEPTH_SLOTS`] on the account and the task fails. [`NATIVE_STACK_BYTES`] are kept for it, some seven times what the
//! engine's frames were seen to take; should they end first, it is an error of the host and no verdict.

/// Fuel of `memory.grow` beyond the operator's own 1.
pub const MEMORY_GROW: u64 = 10_000;

/// Bytes that one unit of fuel moves in bulk.
pub const BYTES_PER_FUEL: u64 = 1 << BYTES_PER_FUEL_LOG2;

pub(crate) const BYTES_PER_FUEL_LOG2: u32 = 3;

/// Fuel of calling a WASI function beyond the call operator's own 1.
pub const HOST_CALL: u64 = 200;

/// Fuel of each buffer in a list of buffers given to a WASI function.
pub const BUFFER: u64 = 10;

/// Slots that a call costs besides the caller's own values.
pub const FRAME_SLOTS: u32 = 8;

/// Most slots of all callers together.
pub const DEPTH_SLOTS: u32 = 1 << 20;

/// Native stack that executions get, in bytes.
pub const NATIVE_STACK_BYTES: usize = 64 << 20;
