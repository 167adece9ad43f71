//! What a task means, bit for bit: one program, one input, one result, on every machine.
//!
//! A *program* is an ordinary WASI preview1 command, as C, Zig or Rust tool chains emit it. A *task* is one execution of
//! it with arguments and standard input; its result is an [`Outcome`], the bytes it wrote to standard output, and the
//! fuel it burned. Two honest machines that execute the same task get the same three things, whatever their processor.
//!
//! # How that is held
//!
//! - [`check`] refuses everything whose meaning could differ between machines (threads, SIMD, other imports than WASI's)
//!   and everything that could not be priced. Each refusal says what to change.
//! - The meter (see [`fuel`]) counts operators in the program's own code, charges bulk operations and host calls by
//!   length, and counts call depth. Running out of either is an ordinary [`Outcome::Failed`].
//! - NaNs made by arithmetic are canonical. Memory stops growing at the job's cap, everywhere at the same page.
//! - The world outside is fixed: no files, no network, no environment, a clock that advances only when it is read,
//!   random bytes from a constant seed.
//! - What only *this* machine could not do (no memory left, native stack overflow) is an [`Error`], never an outcome:
//!   nobody is billed, slashed or paid for it. [`Error::is_refusal`] tells the two kinds of errors apart.
//!
//! # Not done here
//!
//! The crate executes in the calling thread and process. It is the agent that puts a hostile program into a process of
//! its own, with a wall clock and a memory limit: compiling a program is not metered. Linear memory is reserved as
//! 4 GiB of address space per running task, so that such a process must not have a small `RLIMIT_AS`.
//!
//! # Example: one program, two tasks
//!
//! ```
//! use conun_vm::{Limits, Outcome, Program, Task};
//!
//! let wasm = wasmer::wat2wasm(br#"
//!     (module (memory (export "memory") 1) (func (export "_start")))
//! "#)?;
//! let program = Program::compile(&wasm, Limits::default())?;
//! for input in ["first", "second"] {
//!     let done = program.execute(&Task { args: &[], stdin: input.as_bytes(), fuel_limit: 1_000 })?;
//!     assert_eq!(done.outcome, Outcome::Ok { exit_code: 0 });
//!     assert_eq!(done.fuel, 1); // the `end` of `_start`
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod check;
mod error;
pub mod fuel;
mod limits;
mod memory;
mod meter;
mod program;
mod task;
mod wasi;

pub use check::check;
pub use error::Error;
pub use limits::{
    Limits, MAX_ARGS_BYTES, MAX_FUEL, MAX_MEMORY_BYTES, MAX_OUTPUT_BYTES, MAX_PROGRAM_BYTES, MAX_STDERR_BYTES,
    MAX_TABLE_ELEMENTS,
};
pub use program::Program;
pub use task::{Execution, Outcome, PROGRAM_NAME, Task};

/// Names everything that decides a result besides program and input: engine, its options, the rules of fuel and of WASI.
///
/// Results may be compared only between executions under the same profile. Any change to this crate that can change an
/// outcome, an output or a fuel count changes this name.
pub const PROFILE: &str = "conun-1/wasmer-7.4.2/cranelift-speed/nan-canonical/fuel-1/depth-1/wasi-1";
