//! The step machine: a second engine for prepared modules, made so that one of its steps can be proved to a contract.
//!
//! A module is *flattened* ([`Code::flatten`]) into instructions of 16 bytes that work on the slots of a frame; no operand
//! stack is left. A [`Machine`] runs a task on it, to the end or to any step. Its state is a few registers and five regions
//! of bytes, each the raw 32-byte leaves of a keccak256 tree of fixed depth:
//!
//! | region | holds | depth |
//! |---|---|---|
//! | C | call table, code, data segments: see [`Unit`] | 24 |
//! | S | global slots, then frames; four slots of 64 bits to a leaf | 18 |
//! | M | the program's memory; from leaf 2^27 on the WASI layer's | 28 |
//! | I | the input | 27 |
//! | O | the output so far | 27 |
//!
//! Nothing ever writes to C and I. A state's hash is [`State::hash`], an end's [`Halt::hash`]; [`roots`](crate::roots) has
//! the preimages. The end's hash follows from outcome, output and fuel alone, so that the native engine gives it, too.
//!
//! # A step
//!
//! One place, `instructions.rs`, says what an instruction does. It is generic over a *bus*, its view of the regions: the loop
//! runs it on plain memory, [`Machine::prove_step`] on a bus that writes down each leaf it touches with its siblings, and
//! [`verify_step`] on a bus that has only these, and roots. What moves bytes by length moves those of one leaf a step.
//!
//! A program that does what it must not fails: a trap, an unknown instruction, a pc beyond the code. A machine at its end
//! stays there. Every end reads slot 0, where the fuel left is; less than zero there makes a failure of any end.
//!
//! # Where to find what
//!
//! - `flatten`: from a module to instructions; `op`: their format; `alu`: what they compute; `instructions`, `step`, `bulk`:
//!   what they do
//! - `store`: the regions in memory; `fast`, `run`: the loop
//! - `commit`, `proof`: states, ends, step proofs
//! - [`History`]: a run with snapshots, any of whose states can be had again
//!
//! # Example: run, then prove the last step
//!
//! ```
//! use std::sync::Arc;
//! use conun_vm::machine::{Code, History, Machine, verify_step};
//!
//! let prepared = wat::parse_bytes(br#"(module
//!     (global (export "fuel") (mut i64) (i64.const 0))
//!     (memory (export "memory") 1)
//!     (func (export "start") (i32.store (i32.const 8) (i32.const 7))))"#)?;
//! let code = Arc::new(Code::flatten(&prepared)?);
//! let mut history = History::new(Machine::new(code, Arc::from([]), 1_000, 0)?)?;
//! assert_eq!(history.end().exit_code, Some(0));
//!
//! let last = history.steps() - 1;
//! let proof = history.prove(last)?.expect("it is a step before the end");
//! let after = verify_step(&proof.state, &proof.accesses)?;
//! assert_eq!(after.hash(), history.state_hash(last + 1)?);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod alu;
mod bulk;
mod commit;
mod fast;
mod flatten;
mod history;
mod instructions;
mod op;
mod proof;
mod run;
mod step;
mod store;

pub use commit::{Halt, State};
pub use flatten::{CODE_DEPTH, Code, Export, Function, InitialMemory, MAX_FRAME_SLOTS, MAX_GLOBAL_SLOTS};
pub use history::{History, MAX_SNAPSHOTS};
pub use op::Unit;
pub use proof::{After, StepProof, verify_step};
pub use run::{Machine, Run, run};
pub use step::{End, Region, Registers, STACK_SLOTS, STEPS_MARGIN, TaskLimits, max_steps};
