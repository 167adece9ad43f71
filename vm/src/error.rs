//! Why a program is refused, or why this machine could not execute it.

use std::path::PathBuf;

use crate::{
    input::MAX_INPUT_BYTES,
    limits::{
        MAX_ARGS_BYTES, MAX_EFFORT, MAX_EFFORT_TOGETHER, MAX_FUEL, MAX_MEMORY_BYTES, MAX_OUTPUT_BYTES,
        MAX_PROGRAM_BYTES, MAX_TABLE_ELEMENTS,
    },
};

/// Why a program or task is refused, or the host could not run it.
///
/// None of these is a task's result: a program that traps is [`Outcome::Failed`](crate::Outcome::Failed).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file is larger than [`MAX_PROGRAM_BYTES`].
    #[error(
        "the program has {len} bytes, at most {MAX_PROGRAM_BYTES} are accepted; strip it (`-s`, `wasm-strip`) or move its data into the input"
    )]
    TooBig {
        /// Length of the file, in bytes.
        len: usize,
    },

    /// The file holds WebAssembly's text format.
    #[error("the program is WebAssembly text; assemble it first (`wat2wasm program.wat`)")]
    Text,

    /// The file is a component, not a core module.
    #[error(
        "the program is a WebAssembly component; build a core module for WASI preview1 instead (target `wasm32-wasi`, for Rust `wasm32-wasip1`)"
    )]
    Component,

    /// The file is no WebAssembly at all.
    #[error(
        "the program is not WebAssembly: it does not begin with \"\\0asm\" and version 1; build it for the target `wasm32-wasi`"
    )]
    NotWasm,

    /// The file begins as a module, but is cut short, corrupt or not valid.
    #[error("the program is not valid WebAssembly at byte {offset}: {reason}; build or fetch it again")]
    Invalid {
        /// Where in the file, in bytes from its beginning.
        offset: u64,
        /// What the validator found.
        reason: String,
    },

    /// The program uses a part of WebAssembly outside the profile.
    #[error("the program uses what is not accepted, at byte {offset}: {reason}; {advice}")]
    Unsupported {
        /// Where in the file, in bytes from its beginning.
        offset: u64,
        /// What the validator found.
        reason: String,
        /// The compiler flag or other change that avoids it.
        advice: &'static str,
    },

    /// The program has more of something than can be compiled in bounded time and memory.
    #[error(
        "the program has {found} {what}, at most {most} are accepted; split what is so large, or optimise for size (`-Os`)"
    )]
    TooMany {
        /// What there is too much of.
        what: &'static str,
        /// How many or how much there is.
        found: u64,
        /// How many or how much is accepted.
        most: u64,
    },

    /// Compiling the program would take too much time and memory, though it is not long.
    #[error(
        "the function whose body is at byte {offset} is too hard to compile: effort {effort}, at most {MAX_EFFORT} is accepted ({together} with \
         the functions that it is counted with, at most {MAX_EFFORT_TOGETHER}); split it, or keep fewer local variables in use across its loops \
         and branches: compile with `-O1` or `-Os`, with less inlining"
    )]
    TooHard {
        /// Where the body is in the file, in bytes from its beginning.
        offset: u64,
        /// What compiling it takes; SPEC.md, section 1, says in what. Of a program that is too hard as a whole, the hardest function's.
        effort: u64,
        /// The same, of all functions of a program that is too hard as a whole.
        together: u64,
    },

    /// A segment would be copied to where the program has no room when it begins.
    #[error(
        "the program's {what} segment, at byte {offset}, ends at {end} where the program begins with {have}; link it again"
    )]
    SegmentOutside {
        /// `data` or `element`.
        what: &'static str,
        /// Where in the file, in bytes from its beginning.
        offset: u64,
        /// Where the segment ends, in bytes of memory or elements of the table.
        end: u64,
        /// What the program begins with, in bytes of memory or elements of the table.
        have: u64,
    },

    /// There is no exported function `_start` without parameters and results.
    #[error(
        "the program does not export a function `_start` without parameters and results; build a command with a `main`, not a library (reactor)"
    )]
    NoStart,

    /// There is no exported memory with the name `memory`.
    #[error(
        "the program does not export its memory as `memory`; link without `--import-memory` and `--no-export-memory`"
    )]
    NoMemory,

    /// The module has a start section, whose code would run outside a task's fuel.
    #[error(
        "the program has a start section (at byte {offset}); export `_start` instead, and link without shared memory"
    )]
    StartSection {
        /// Where in the file, in bytes from its beginning.
        offset: u64,
    },

    /// The program imports something that no task has.
    #[error(
        "the program imports `{module}.{name}`, which no task has: only functions of `wasi_snapshot_preview1` and the four of `conun` are given; remove what uses it or link an own definition"
    )]
    ForbiddenImport {
        /// The import's module name, escaped and shortened.
        module: String,
        /// The import's field name, escaped and shortened.
        name: String,
    },

    /// The program imports a function that there is, but with another signature.
    #[error(
        "the program imports `{module}.{name}` as {found}, but it is {expected}; rebuild with a tool chain for WASI preview1"
    )]
    ImportType {
        /// The import's module.
        module: &'static str,
        /// The function's name.
        name: &'static str,
        /// The signature that the program declares.
        found: String,
        /// The signature that the function has.
        expected: String,
    },

    /// The function table is larger than [`MAX_TABLE_ELEMENTS`].
    #[error(
        "the program's table has {elements} elements, at most {MAX_TABLE_ELEMENTS} are accepted; take the address of fewer functions"
    )]
    TableTooLarge {
        /// Elements that the table begins with.
        elements: u64,
    },

    /// The program begins with more memory than the job allows.
    #[error(
        "the program begins with {needs} bytes of memory, the job allows {limit}; raise the job's memory limit or build with less static data or stack (`-Wl,-z,stack-size=1048576`)"
    )]
    MemoryTooSmall {
        /// Bytes that the program's memory begins with.
        needs: u64,
        /// Bytes that the job allows.
        limit: u64,
    },

    /// The job's memory limit is beyond [`MAX_MEMORY_BYTES`].
    #[error("the memory limit of {asked} bytes is above the highest possible, {MAX_MEMORY_BYTES}; lower it")]
    MemoryLimit {
        /// Bytes asked for.
        asked: u64,
    },

    /// The output limit is beyond [`MAX_OUTPUT_BYTES`].
    #[error("the output limit of {asked} bytes is above the highest possible, {MAX_OUTPUT_BYTES}; lower it")]
    OutputLimit {
        /// Bytes asked for.
        asked: u64,
    },

    /// The task's fuel limit is beyond [`MAX_FUEL`].
    #[error("the fuel limit of {asked} is above the highest possible, {MAX_FUEL}; lower it")]
    FuelLimit {
        /// Fuel asked for.
        asked: u64,
    },

    /// The task's arguments are longer than [`MAX_ARGS_BYTES`].
    #[error(
        "the task's arguments have {len} bytes, at most {MAX_ARGS_BYTES} are accepted; pass the data on standard input"
    )]
    ArgsTooLong {
        /// Length of all arguments with their terminators, in bytes.
        len: usize,
    },

    /// An argument holds a NUL byte, which C's strings cannot.
    #[error("argument {index} of the task holds a NUL byte; remove it, or pass the data on standard input")]
    ArgWithNul {
        /// Which argument, counted from 0.
        index: usize,
    },

    /// The folder of compiled programs cannot be used.
    #[error("the cache of compiled programs {} cannot be used: {reason}; free some space, or name a folder that is yours", path.display())]
    Cache {
        /// The folder or file.
        path: PathBuf,
        /// What the system said.
        reason: String,
    },

    /// An environment variable that no program can get: its name is empty or holds `=`, or there is a NUL byte.
    #[error(
        "the environment variable `{name}` is not possible: its name is empty or holds `=`, or name or value hold a NUL byte; rename it, or pass the data on standard input"
    )]
    EnvVariable {
        /// The variable's name, escaped and shortened.
        name: String,
    },

    /// The task's environment is longer than [`MAX_ARGS_BYTES`].
    #[error(
        "the task's environment has {len} bytes, at most {MAX_ARGS_BYTES} are accepted; pass the data on standard input"
    )]
    EnvTooLong {
        /// Length of all variables with their terminators, in bytes.
        len: usize,
    },

    /// A path that no input file can have.
    #[error("the input file `{path}` is not possible: {reason}; rename it")]
    InputPath {
        /// The path, escaped and shortened.
        path: String,
        /// What is wrong with it.
        reason: &'static str,
    },

    /// The input is longer than [`MAX_INPUT_BYTES`].
    #[error("the input has {len} bytes or more, at most {MAX_INPUT_BYTES} are accepted; split it into more tasks")]
    InputTooLong {
        /// Length as far as it was counted, in bytes.
        len: u64,
    },

    /// Bytes that are given as a task's input are none.
    #[error("these bytes are no task's input: {reason}; fetch or encode it again")]
    InputMalformed {
        /// What is wrong with them.
        reason: &'static str,
    },

    /// Bytes that are given as a WASI program's output are none.
    #[error(
        "these bytes are no WASI program's output: {reason}; fetch them again, or read them as they are if the program imports `conun` alone"
    )]
    OutputMalformed {
        /// What is wrong with them.
        reason: &'static str,
    },

    /// A step proof ends before the step does.
    #[error("the step proof ends too early: the next leaf needs {needs} bytes, {left} are left; record the step again")]
    ProofTooShort {
        /// Bytes of the next leaf and its siblings.
        needs: usize,
        /// Bytes left.
        left: usize,
    },

    /// A step proof goes on after the step.
    #[error("the step proof has {left} bytes that the step does not use; record the step again")]
    ProofTooLong {
        /// Bytes left.
        left: usize,
    },

    /// A leaf of a step proof is not what the state's root commits to.
    #[error(
        "the step proof's leaf {index} of region {region:?} does not lead to the state's root; record the step again"
    )]
    ProofLeaf {
        /// The region.
        region: crate::machine::Region,
        /// The leaf's number in it.
        index: u64,
    },

    /// The engine could not turn the accepted program into native code.
    #[error(
        "the engine could not compile the program: {0}; give the machine more memory, or make the program's largest functions smaller"
    )]
    Compile(String),

    /// The host's stack ended before the program's depth limit.
    #[error(
        "this machine's stack ended before the program's depth limit was reached; no verdict, let another provider execute the task"
    )]
    NativeStack,

    /// The host had no memory that the task was allowed to take.
    #[error(
        "this machine had no memory left that the task was allowed to use ({0}); no verdict, free some memory or execute fewer tasks at a time"
    )]
    HostMemory(String),

    /// Something else went wrong in the engine.
    #[error("the engine gave up: {0}; no verdict, try again and report this if it stays")]
    Host(String),
}

impl From<wasmparser::Error> for Error {
    fn from(error: wasmparser::Error) -> Self {
        Self::Invalid { offset: error.offset(), reason: error.message().to_owned() }
    }
}

impl From<wasm_encoder::reencode::Error> for Error {
    fn from(error: wasm_encoder::reencode::Error) -> Self {
        match error {
            wasm_encoder::reencode::Error::ParseError(error) => error.into(),
            other => Self::Invalid { offset: 0, reason: other.to_string() },
        }
    }
}

impl Error {
    /// The byte of the program's file that is to blame, if there is one.
    pub fn offset(&self) -> Option<u64> {
        match self {
            Self::Invalid { offset, .. }
            | Self::Unsupported { offset, .. }
            | Self::StartSection { offset }
            | Self::SegmentOutside { offset, .. } => Some(*offset),
            _ => None,
        }
    }

    /// Whether what was given, a program, a task or a proof, is itself at fault, so that every machine refuses it alike.
    /// Otherwise this machine could not execute it, and another may.
    pub fn is_refusal(&self) -> bool {
        !matches!(self, Self::Cache { .. } | Self::Compile(_) | Self::NativeStack | Self::HostMemory(_) | Self::Host(_))
    }
}
