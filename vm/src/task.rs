//! What goes into an execution and what comes out.

use std::io;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// What every program finds in `argv[0]`.
pub const PROGRAM_NAME: &str = "program";

/// One execution to do.
#[derive(Clone, Debug)]
pub struct Task {
    /// The encoded input, see [`Input`](crate::Input). No engine looks into it: a blob that is none is the program's matter.
    pub input: Bytes,
    /// Most fuel the execution may burn, at most [`MAX_FUEL`](crate::MAX_FUEL).
    pub fuel_limit: u64,
}

/// Where a task's encoded input is read from: in memory, or, if it is long, wherever the caller has it. Its bytes must not change
/// while the task runs.
pub trait Source: Send + 'static {
    /// Length of the input, bytes.
    fn length(&self) -> u64;

    /// Fills `into` with the bytes from `offset` on. All of them lie within the length.
    ///
    /// # Errors
    /// If this machine cannot read them. The task then has no outcome.
    fn read_at(&mut self, offset: u64, into: &mut [u8]) -> io::Result<()>;
}

impl Source for Bytes {
    fn length(&self) -> u64 {
        self.len() as u64
    }

    fn read_at(&mut self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        let rest = usize::try_from(offset).ok().and_then(|offset| self.get(offset..));
        let bytes = rest.and_then(|rest| rest.get(..into.len())).ok_or(io::ErrorKind::UnexpectedEof)?;
        into.copy_from_slice(bytes);
        Ok(())
    }
}

/// How a task ended. Both are results that providers are paid for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Outcome {
    /// The program ended by itself: it returned from `_start` (code 0) or called `exit`.
    Ok {
        /// The program's exit code.
        exit_code: u32,
    },
    /// The program trapped, burned all its fuel, called too deep or wrote too much. Which of them is no part of the
    /// result.
    Failed,
}

/// The result of an execution, and its log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Execution<O = Vec<u8>> {
    /// How the task ended.
    pub outcome: Outcome,
    /// What the program wrote, see [`Output`](crate::Output) for what a WASI program does; empty when the task failed. After
    /// [`Program::execute_into`](crate::Program::execute_into): what it was written to.
    pub output: O,
    /// Fuel burned; the whole limit when that is why the task failed.
    pub fuel: u64,
    /// The first [`MAX_STDERR_BYTES`](crate::MAX_STDERR_BYTES) of standard error, kept also when the task failed. Not
    /// part of the result.
    pub stderr: Vec<u8>,
}
