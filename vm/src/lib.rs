//! What a task means, bit for bit: one program, one input, one result, on every machine.
//!
//! A *program* is an ordinary WASI preview1 command, as C, Zig or Rust tool chains emit it. A *task* is one execution of
//! it with an [`Input`]: arguments, environment, standard input, files. Its result is an [`Outcome`], an [`Output`], and the
//! fuel it burned. Two honest machines that execute the same task get the same three things, whatever their processor.
//! The rules are in `SPEC.md`.
//!
//! # How that is held
//!
//! - [`check()`] refuses everything whose meaning could differ between machines (threads, SIMD, other imports than WASI's)
//!   and everything that could not be priced. Each refusal says what to change.
//! - [`prepare()`] makes the program count its own fuel and depth (see [`fuel`]), keep its memory below the job's cap, and make
//!   canonical the NaNs whose bits can be seen. WASI is merged into it, so that all it needs of an engine are four imports.
//! - The world outside is fixed: files, environment, clock and random numbers are the input's; there is no network.
//! - Engines run the prepared module: [`native`] as machine code, [`machine`] step by step, with a hash of each state.
//! - What only *this* machine could not do (no memory left, native stack overflow) is an [`Error`], never an outcome:
//!   nobody is billed, slashed or paid for it. [`Error::is_refusal`] tells the two kinds of errors apart.
//!
//! # Not done here
//!
//! The crate executes in the calling thread and process. It is the agent that puts a hostile program into a process of
//! its own, with a wall clock and a memory limit: compiling a program is not metered. Each linear memory of a task is 4 GiB of
//! reserved address space, so that such a process must not have a small `RLIMIT_AS`.
//!
//! # Example: one program, two tasks
//!
//! ```
//! use conun_vm::{Input, Limits, Outcome, Program, Task};
//!
//! let wasm = wat::parse_bytes(br#"
//!     (module (memory (export "memory") 1) (func (export "_start") nop))
//! "#)?;
//! let program = Program::compile(&wasm, Limits::default())?;
//! for stdin in ["first", "second"] {
//!     let input = Input { stdin: stdin.as_bytes(), ..Input::default() }.encode()?;
//!     let done = program.execute(&Task { input: input.into(), fuel_limit: 1_000 })?;
//!     assert_eq!(done.outcome, Outcome::Ok { exit_code: 0 });
//!     assert_eq!(done.fuel, 1); // the `nop`
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod check;
mod error;
pub mod fuel;
mod input;
mod limits;
pub mod machine;
pub mod native;
mod output;
mod path;
mod prepare;
pub mod roots;
mod task;
mod wasi;

pub use check::{Function, MOST_REFUSALS, Refusal, check, function_names, refusals};
pub use error::Error;
pub use input::{Input, MAX_INPUT_BYTES};
pub use limits::{
    Limits, MAX_ARGS_BYTES, MAX_BR_TABLE, MAX_CODE_BYTES, MAX_EFFORT, MAX_EFFORT_TOGETHER, MAX_FUEL,
    MAX_FUNCTION_BYTES, MAX_FUNCTIONS, MAX_GLOBALS, MAX_LOCALS, MAX_LOCALS_TOGETHER, MAX_MEMORY_BYTES, MAX_NESTING,
    MAX_OPERANDS, MAX_OUTPUT_BYTES, MAX_PARAMETERS, MAX_PREPARED_FUNCTION_BYTES, MAX_PROGRAM_BYTES, MAX_SEGMENTS,
    MAX_STDERR_BYTES, MAX_TABLE_ELEMENTS, MAX_TYPES,
};
pub use native::Program;
pub use output::{OUTPUT_ENTRY_BYTES, OUTPUT_FOOTER_BYTES, Output};
pub use prepare::{FUEL, LOG, MEMORY, Prepared, START, SYSTEM, prepare, prepare_library};
pub use task::{Execution, Outcome, PROGRAM_NAME, Source, Task};
pub use wasi::{merge, uses_wasi};

/// Names everything that decides a result besides program and input: engine, its options, the rules of fuel and of WASI.
///
/// Results may be compared only between executions under the same profile. Any change to this crate that can change an
/// outcome, an output or a fuel count changes this name.
pub const PROFILE: &str = "conun-2/wasmer-7.4.2/cranelift-speed/nan-2/fuel-3/depth-3/wasi-2";
